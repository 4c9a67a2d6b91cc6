"""Where the frames of one lease's holder go out."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import zmq

from drivers.errors import BadFrame
from drivers.gateway.wire import (
    HEARTBEAT_IVL_MS,
    HEARTBEAT_TIMEOUT_MS,
    FrameHeader,
    block_parts,
)
from drivers.vocabulary import FrameBlock

PATIENCE_MS = 2000
"""How long a holder may take no frames before its scan fails."""


class DataLink:
    """A PUSH socket of its own for each holder, so that no frame goes to a former one.

    Used from the threads of scans, one at a time.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.linger = 0
        self._socket.sndtimeo = PATIENCE_MS
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._seq = 0
        self._lock = threading.Lock()

    def send_block(self, block: FrameBlock) -> None:
        """Send frames.

        Raises
        ------
        BadFrame
            If the holder takes none for 2 s, or the lease has ended.
        """
        with self._lock:
            header, data = block_parts(block, self._seq)
            self._send([header, data], block.detector, block.sub_scan_id)

    def send_end(self, detector: str, sub_scan_id: str, *, completed: bool) -> None:
        """Say that a detector's frames are over; harmless when the lease has ended.

        Of a cancelled scan it is said without waiting: the scan's receipt tells it too.

        Raises
        ------
        BadFrame
            If the scan was completed and the holder takes nothing for 2 s.
        """
        with self._lock:
            if self._socket.closed:
                return
            header = FrameHeader(
                seq=self._seq,
                detector=detector,
                sub_scan_id=sub_scan_id,
                end="completed" if completed else "cancelled",
            )
            parts = [header.model_dump_json().encode()]
            if completed or self._socket.poll(0, zmq.POLLOUT):
                self._send(parts, detector, sub_scan_id)

    def _send(self, parts: Sequence[bytes | memoryview], detector: str, sub_scan_id: str) -> None:
        if self._socket.closed:
            raise BadFrame(detector, sub_scan_id, "the lease these frames belong to has ended")
        try:
            self._socket.send_multipart(parts, copy=False)
        except zmq.Again as error:
            why = f"overrun: the holder of the lease took no frames for {PATIENCE_MS / 1000:g} s"
            raise BadFrame(detector, sub_scan_id, why) from error
        self._seq += 1

    def close(self) -> None:
        """Close; frames not yet taken are dropped."""
        with self._lock:
            self._socket.close(linger=0)
