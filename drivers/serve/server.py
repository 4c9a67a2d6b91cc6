"""The command loop of a served instrument.

One thread reads commands and carries the quick ones out itself. What takes time (a scan) or may
be made to hang (any command, when faults are injected) goes to other threads, so that an
emergency command is always answered.
"""

from __future__ import annotations

import json
import logging
import queue
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import zmq
from pydantic import JsonValue, ValidationError

from drivers.emulator.room import Room
from drivers.errors import DriverError, DriverRefused
from drivers.gateway.wire import (
    HEARTBEAT_IVL_MS,
    HEARTBEAT_TIMEOUT_MS,
    MAX_COMMAND_BYTES,
    Command,
    Reply,
    require_loopback,
    wire_error,
)
from drivers.serve.desk import Desk

log = logging.getLogger(__name__)

REMEMBERED = 512
"""How many answers are kept for commands that come again."""
MAX_WAITING = 24
"""How many commands may be in progress; one more is refused."""


class InstrumentServer:
    """Serves one room.

    Parameters
    ----------
    room : Room
        The instrument; closed by whoever made it.
    endpoint : str
        Where to listen, ``tcp://127.0.0.1:PORT``; port 0 picks a free one.
    linger_s : float
        Ends by itself after this long without a holder and without any command.

    Raises
    ------
    ValueError
        If the endpoint can be reached from other machines.
    """

    def __init__(self, room: Room, endpoint: str, linger_s: float) -> None:
        endpoint = require_loopback(endpoint)
        self._room = room
        self._linger_s = linger_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._bind(endpoint)
        self.endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._desk = Desk(room, self._context)
        self._answers: queue.SimpleQueue[tuple[bytes, Reply]] = queue.SimpleQueue()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._workers = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="probewise-command")
        self._rescuers = ThreadPoolExecutor(4, thread_name_prefix="probewise-emergency")
        self._known: OrderedDict[str, bytes | None] = OrderedDict()
        self._askers: dict[str, list[bytes]] = {}
        self._stopping = False

    def _bind(self, endpoint: str) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.linger = 0
        router.setsockopt(zmq.MAXMSGSIZE, 16 * MAX_COMMAND_BYTES)
        router.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        router.bind(endpoint)
        return router

    @property
    def wake_fd(self) -> int:
        """For `signal.set_wakeup_fd`: a signal between two polls must not wait for the second."""
        return self._waker.fileno()

    def stop(self) -> None:
        """Make `run` return; may be called from any thread and from a signal handler."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._waker.send(b"!")
        except (BlockingIOError, OSError):
            return  # a wake-up is pending already, or the server is closed

    def run(self) -> None:
        """Serve until stopped, or until nobody has been there for the linger time."""
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._woken.fileno(), zmq.POLLIN)
        heard_s = time.monotonic()
        look_ms = round(1000 * min(1.0, self._linger_s))
        while not self._stopping:
            ready = dict(poller.poll(look_ms))
            if self._woken.fileno() in ready:
                self._send_answers()
            if self._router in ready:
                heard_s = time.monotonic()
                self._receive()
            if self._room.holder is not None:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > self._linger_s:
                log.info("nobody was here for %g s", self._linger_s)
                return

    def close(self) -> None:
        """Cancel what is in progress and close the sockets."""
        self._room.fence("the instrument is shutting down")
        self._desk.close()
        self._workers.shutdown(cancel_futures=True)
        self._rescuers.shutdown(cancel_futures=True)
        self._send_answers()
        self._router.close(linger=200)
        self._woken.close()
        self._waker.close()
        self._context.term()

    def _send_answers(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass  # drained
        while True:
            try:
                _, reply = self._answers.get_nowait()
            except queue.Empty:
                return
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        data = reply.model_dump_json().encode()
        self._known[reply.id] = data
        for asker in self._askers.pop(reply.id, []):
            self._router.send_multipart([asker, data], zmq.NOBLOCK)
        while len(self._known) > REMEMBERED:
            oldest, answer = self._known.popitem(last=False)
            if answer is None:
                self._known[oldest] = None  # still in progress: not to be begun again

    def _receive(self) -> None:
        for _ in range(64):
            try:
                asker, *parts = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                command = parse(parts)
            except DriverRefused as error:
                log.warning("refused: %s", error)
                reply = Reply(id=_id_of(parts), ok=False, error=wire_error(error))
                self._router.send_multipart([asker, reply.model_dump_json().encode()], zmq.NOBLOCK)
                continue
            self._take(asker, command)

    def _take(self, asker: bytes, command: Command) -> None:
        if command.id in self._known:
            answer = self._known[command.id]
            if answer is None:
                self._askers.setdefault(command.id, []).append(asker)
            else:
                self._router.send_multipart([asker, answer], zmq.NOBLOCK)
            return
        self._known[command.id] = None
        self._askers[command.id] = [asker]
        if self._room.faults is None:
            self._begin(command)
            return
        pool = self._rescuers if command.cmd.startswith("emergency.") else self._workers
        self._put_off(command, pool, lambda: self._desk.handle(command))

    def _begin(self, command: Command) -> None:
        try:
            result = self._desk.handle(command)
        except Exception as error:  # noqa: BLE001  # goes to the client, whatever it is
            self._answer(_failed(command, error))
            return
        if callable(result):
            self._put_off(command, self._workers, result)
        else:
            self._answer(Reply(id=command.id, ok=True, result=result))

    def _put_off(
        self,
        command: Command,
        pool: ThreadPoolExecutor,
        work: Callable[[], JsonValue | Callable[[], JsonValue]],
    ) -> None:
        if len(self._askers) > MAX_WAITING and pool is self._workers:
            refusal = DriverRefused(f"{len(self._askers) - 1} commands are in progress already")
            self._answer(_failed(command, refusal))
            return

        def run() -> None:
            try:
                result = work()
                if callable(result):
                    result = result()
                reply = Reply(id=command.id, ok=True, result=result)
            except Exception as error:  # noqa: BLE001  # goes to the client, whatever it is
                reply = _failed(command, error)
            self._answers.put((b"", reply))
            self._wake()

        pool.submit(run)


def parse(parts: list[bytes]) -> Command:
    """Return the command in a message.

    Raises
    ------
    DriverRefused
        If it is not one, is too long, or has expired; says why.
    """
    size = sum(len(part) for part in parts)
    if len(parts) != 1 or size > MAX_COMMAND_BYTES:
        raise DriverRefused(
            f"a command is one part of at most {MAX_COMMAND_BYTES} bytes, "
            f"this has {len(parts)} parts and {size} bytes"
        )
    try:
        command = Command.model_validate_json(parts[0])
    except ValidationError as error:
        raise DriverRefused(f"not a command: {_told(error)}") from error
    late_s = time.time() - command.sent_unix_s - command.deadline_s
    if late_s > 0:
        raise DriverRefused(f"{command.cmd} expired {late_s:.3g} s ago and was not carried out")
    return command


def _told(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())


def _failed(command: Command, error: Exception) -> Reply:
    if isinstance(error, ValidationError):
        error = DriverRefused(f"{command.cmd}: {_told(error)}")
    elif not isinstance(error, DriverError):
        log.error("%s failed", command.cmd, exc_info=error)
    return Reply(id=command.id, ok=False, error=wire_error(error))


def _id_of(parts: list[bytes]) -> str:
    """Return the id of a message that was refused, if one can be made out."""
    if len(parts) != 1 or len(parts[0]) > MAX_COMMAND_BYTES:
        return ""
    try:
        message = json.loads(parts[0])
    except (ValueError, RecursionError):
        return ""
    identity = message.get("id") if isinstance(message, dict) else None
    return identity if isinstance(identity, str) else ""
