"""The synchronous way to a safe state over the wire: its own context, its own connection."""

from __future__ import annotations

import math
import threading
import time
import uuid

import zmq
from pydantic import JsonValue, ValidationError

from drivers.errors import DriverDisconnected, DriverError, DriverTimeout
from drivers.gateway.link import LOST_EVENTS, new_socket
from drivers.gateway.wire import Command, Reply, revived


class _Line:
    """One connection; thrown away when it breaks."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = new_socket(self.context, zmq.DEALER)
        self.monitor = self.socket.get_monitor_socket(LOST_EVENTS)
        self.monitor.linger = 0
        self.socket.connect(endpoint)

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)
        self.context.term()


class GatewayEmergency:
    """Implements `drivers.protocols.Emergency`; connects on first use, needs no lease.

    Calls may come from any thread, one at a time.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._line: _Line | None = None
        self._lock = threading.Lock()

    def stop(self, timeout_s: float) -> None:
        """Stop any scan, and take the lease from whoever holds it."""
        self._call("emergency.stop", timeout_s)

    def blank(self, timeout_s: float) -> None:
        """Blank the beam."""
        self._call("emergency.blank", timeout_s)

    def park_probe(self, timeout_s: float) -> None:
        """Move the probe to its park position."""
        self._call("emergency.park_probe", timeout_s)

    def is_blanked(self, timeout_s: float) -> bool:
        """Read the blanker's state back."""
        return self._call("emergency.is_blanked", timeout_s) is True

    def close(self) -> None:
        """Close the connection; harmless when closed already."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _call(self, cmd: str, timeout_s: float) -> JsonValue:
        command = Command(id=uuid.uuid4().hex, cmd=cmd, deadline_s=timeout_s)
        give_up_s = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            raise DriverTimeout(f"{cmd}: another call", timeout_s)
        try:
            if self._line is None:
                self._line = _Line(self._endpoint)
            reply = self._ask(self._line, command, give_up_s, timeout_s)
        except DriverError:
            self._drop()  # a late answer must not be taken for the next call's
            raise
        finally:
            self._lock.release()
        if not reply.ok:
            raise revived(reply.error)
        return reply.result

    def _ask(self, line: _Line, command: Command, give_up_s: float, timeout_s: float) -> Reply:
        try:
            line.socket.send(command.model_dump_json().encode(), zmq.NOBLOCK)
        except zmq.Again as error:
            raise DriverDisconnected(f"{self._endpoint} takes no commands") from error
        poller = zmq.Poller()
        poller.register(line.socket, zmq.POLLIN)
        poller.register(line.monitor, zmq.POLLIN)
        while (left_s := give_up_s - time.monotonic()) > 0:
            ready = dict(poller.poll(math.ceil(left_s * 1000)))
            if line.socket in ready:
                reply = self._parsed(line.socket.recv())
                if reply.id == command.id:
                    return reply
            elif line.monitor in ready:
                raise DriverDisconnected(
                    f"{self._endpoint}: the instrument is gone or was never there"
                )
        raise DriverTimeout(command.cmd, timeout_s)

    def _parsed(self, data: bytes) -> Reply:
        try:
            return Reply.model_validate_json(data)
        except ValidationError as error:
            why = f"{self._endpoint} does not speak the gateway wire: {error}"
            raise DriverDisconnected(why) from error
