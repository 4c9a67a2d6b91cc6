"""Serving a scene from a thread of the test, and speaking the wire by hand."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from drivers.clock import RealClock
from drivers.emulator.faults import Faults
from drivers.emulator.room import Room
from drivers.gateway import DRIVER
from drivers.protocols import Emergency, Session
from drivers.serve.server import InstrumentServer
from tests.conformance.scenes import SceneDriver, instrument


class Served:
    """A server in a thread, and the ways to reach it."""

    def __init__(self, room: Room, server: InstrumentServer) -> None:
        self.room = room
        self.endpoint = server.endpoint
        self.server = server
        self._config = instrument().served_by_gateway(server.endpoint)

    def open(self) -> Session:
        return DRIVER.open(self._config, RealClock())

    def emergency(self) -> Emergency:
        return DRIVER.emergency(self._config)


@contextlib.contextmanager
def serving(
    faults: Faults | None = None,
    *,
    exposure_log: Path | None = None,
    heartbeat_timeout_s: float | None = None,
    linger_s: float = 60.0,
) -> Iterator[Served]:
    """Serve a room over `MarkedScene` until the end of the block."""
    room = SceneDriver(faults).room(instrument(), RealClock(), exposure_log)
    if heartbeat_timeout_s is not None:
        room.watch_holder(heartbeat_timeout_s)
    server = InstrumentServer(room, "tcp://127.0.0.1:0", linger_s)
    thread = threading.Thread(target=server.run, name="served-for-a-test")
    thread.start()
    try:
        yield Served(room, server)
    finally:
        server.stop()
        thread.join()
        server.close()
        room.close()


class RawClient:
    """A client that sends whatever bytes it is given."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvtimeo = 5000
        self._socket.connect(endpoint)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *details: object) -> None:
        self._socket.close()
        self._context.term()

    def send(self, *parts: bytes) -> None:
        self._socket.send_multipart(parts)

    def receive(self) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(self._socket.recv())
        return reply

    def ask(self, cmd: str, identity: str = "c-1", **more: Any) -> dict[str, Any]:
        message = {"id": identity, "cmd": cmd, "deadline_s": 5.0, "sent_unix_s": time.time()}
        self.send(json.dumps(message | more).encode())
        return self.receive()
