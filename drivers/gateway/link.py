"""The client's two sockets in an event loop: commands with replies, and frames.

The sockets are watched by the loop itself: no tasks of their own, nothing to leak. libzmq
heartbeats notice a peer that is frozen or gone; from then on every call raises.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Mapping

import zmq
from pydantic import JsonValue, ValidationError

from drivers.errors import DriverDisconnected, DriverTimeout
from drivers.gateway.wire import (
    HEARTBEAT_IVL_MS,
    HEARTBEAT_TIMEOUT_MS,
    Command,
    Reply,
    revived,
)

LOST_EVENTS = (
    zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)  # fmt: skip
DRAIN_AT_ONCE = 32
"""How many messages are taken before the loop gets its turn."""


def new_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """Return a client socket that neither lingers nor reconnects, with heartbeats."""
    socket = context.socket(kind)
    socket.linger = 0
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    return socket


class Watched:
    """A socket whose messages go to a function of the loop."""

    def __init__(
        self, socket: zmq.Socket[bytes], on_message: Callable[[list[zmq.Frame]], None]
    ) -> None:
        self.socket = socket
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(socket.FD, self.drain)

    def drain(self) -> None:
        """Take what has come; the descriptor only tells of changes, so until nothing is left."""
        for _ in range(DRAIN_AT_ONCE):
            if self.socket.closed or not self.socket.poll(0, zmq.POLLIN):
                return
            self._on_message(self.socket.recv_multipart(zmq.NOBLOCK, copy=False))
        self._loop.call_soon(self.drain)

    def close(self) -> None:
        """Stop watching and close."""
        if not self.socket.closed:
            self._loop.remove_reader(self.socket.FD)
            self.socket.close(linger=0)


class CommandLink:
    """Sends commands and awaits their replies, any number at a time.

    Parameters
    ----------
    context : zmq.Context
        The session's.
    endpoint : str
        Where the machine listens.
    on_lost : Callable
        Called once when the machine is gone.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        on_lost: Callable[[DriverDisconnected], None],
    ) -> None:
        self._endpoint = endpoint
        self._on_lost = on_lost
        self._waiting: dict[str, asyncio.Future[JsonValue]] = {}
        self._lost: DriverDisconnected | None = None
        self._prefix = uuid.uuid4().hex
        self._numbers = itertools.count()
        socket = new_socket(context, zmq.DEALER)
        monitor = socket.get_monitor_socket(LOST_EVENTS)
        monitor.linger = 0
        self._replies = Watched(socket, self._on_reply)
        self._monitor = Watched(monitor, self._on_event)
        socket.connect(endpoint)
        self._monitor.drain()

    async def call(
        self, cmd: str, args: Mapping[str, JsonValue], token: str | None, deadline_s: float
    ) -> JsonValue:
        """Send a command and return its result.

        Raises
        ------
        DriverTimeout
            If no answer comes within ``deadline_s``; names the command and its sub-scan.
        DriverError
            As the machine has it.
        """
        if self._lost is not None:
            raise self._lost
        future: asyncio.Future[JsonValue] = asyncio.get_running_loop().create_future()
        identity = f"{self._prefix}-{next(self._numbers)}"
        self._waiting[identity] = future  # before sending: the answer may be there right after
        try:
            self._send(identity, cmd, args, token, deadline_s)
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError as error:
            raise DriverTimeout(_named(cmd, args), deadline_s) from error
        finally:
            self._waiting.pop(identity, None)

    def tell(self, cmd: str, token: str | None, deadline_s: float) -> None:
        """Send a command and wait for nothing: for leaving, when nobody is there to wait."""
        if self._lost is not None:
            return
        try:
            identity = f"{self._prefix}-{next(self._numbers)}"
            self._send(identity, cmd, {}, token, deadline_s)
        except DriverDisconnected as error:
            self.lose(str(error))

    def _send(
        self,
        identity: str,
        cmd: str,
        args: Mapping[str, JsonValue],
        token: str | None,
        deadline_s: float,
    ) -> None:
        command = Command(id=identity, cmd=cmd, args=dict(args), token=token, deadline_s=deadline_s)
        try:
            self._replies.socket.send(command.model_dump_json().encode(), zmq.NOBLOCK)
        except zmq.Again as error:
            raise DriverDisconnected(f"{self._endpoint} takes no commands") from error
        self._replies.drain()  # sending may have used up the wake-up of a reply that has come

    def _on_reply(self, parts: list[zmq.Frame]) -> None:
        try:
            reply = Reply.model_validate_json(parts[-1].bytes)
        except ValidationError as error:
            self.lose(f"{self._endpoint} does not speak the gateway wire: {error}")
            return
        future = self._waiting.get(reply.id)
        if future is None or future.done():
            return  # the answer to a call that has timed out
        if reply.ok:
            future.set_result(reply.result)
            return
        refusal = revived(reply.error)
        if isinstance(refusal, DriverDisconnected):
            self.lose(str(refusal))
        else:
            future.set_exception(refusal)

    def _on_event(self, parts: list[zmq.Frame]) -> None:
        del parts
        self.lose(f"{self._endpoint}: the instrument is gone or was never there")

    def lose(self, why: str) -> None:
        """Make every call raise, now and from now on."""
        if self._lost is not None:
            return
        self._lost = DriverDisconnected(why)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._lost)
        self._on_lost(self._lost)

    def close(self) -> None:
        """Close the sockets; calls in progress raise."""
        self._on_lost = _ignore
        self.lose("the session was closed")
        self._replies.socket.disable_monitor()
        self._monitor.close()
        self._replies.close()


def _ignore(lost: DriverDisconnected) -> None:
    """Tell nobody: the session itself is closing."""


def _named(cmd: str, args: Mapping[str, JsonValue]) -> str:
    sub_scan = args.get("sub_scan")
    return f"{cmd} {sub_scan['id']}" if isinstance(sub_scan, dict) else cmd
