"""A session with a machine behind the gateway wire."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import zmq
from pydantic import JsonValue, ValidationError

from drivers.emulator.inbox import Inbox
from drivers.errors import BadFrame, DriverDisconnected, DriverError
from drivers.gateway.link import CommandLink, Watched, new_socket
from drivers.gateway.parts import GatewayBeam, GatewayColumn, GatewayDetector, GatewayScan
from drivers.gateway.wire import FrameHeader, Granted, Welcome, block_of, require_loopback
from drivers.instrument import InstrumentConfig
from drivers.protocols import Beam, Column, Detector, ScanControl
from drivers.vocabulary import Clock

log = logging.getLogger(__name__)

HEARTBEAT_DEADLINE_S = 1.0
RELEASE_DEADLINE_S = 2.0
CANCEL_DEADLINE_S = 5.0


class GatewaySession:
    """Implements `drivers.protocols.Session` over the wire.

    Attributes
    ----------
    stale_blocks : int
        Blocks of a sub-scan nobody waits for any more; they are dropped, counted and logged.
    """

    scan: ScanControl | None
    beam: Beam | None
    column: Column | None
    detectors: Mapping[str, Detector]

    def __init__(self, instrument: InstrumentConfig, clock: Clock, endpoint: str) -> None:
        def mine(name: str) -> bool:
            return name == "gateway"

        self.stale_blocks = 0
        self.token: str | None = None
        self.inboxes: dict[str, Inbox] = {}
        self._endpoint = endpoint
        self._clock = clock
        self._welcome: Welcome | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._link: CommandLink | None = None
        self._data: Watched | None = None
        self._next_seq = 0
        self.scan = GatewayScan(self) if mine(instrument.scan.driver) else None
        self.beam = GatewayBeam(self) if mine(instrument.beam.driver) else None
        has_column = instrument.column is not None and mine(instrument.column.driver)
        self.column = GatewayColumn(self) if has_column else None
        self.detectors = {
            part.name: GatewayDetector(self, part.name)
            for part in instrument.detector
            if mine(part.driver)
        }

    @property
    def welcome(self) -> Welcome:
        """What the machine said of itself.

        Raises
        ------
        DriverDisconnected
            Before connecting.
        """
        if self._welcome is None:
            raise DriverDisconnected(f"not connected to {self._endpoint}")
        return self._welcome

    @property
    def link(self) -> CommandLink:
        """The commands' connection.

        Raises
        ------
        DriverDisconnected
            If there is none.
        """
        if self._link is None:
            raise DriverDisconnected(f"not connected to {self._endpoint}")
        return self._link

    async def connect(self, holder: str, *, deadline_s: float) -> None:
        """Connect and take the machine's lease for ``holder``; harmless when connected already.

        Raises
        ------
        DriverRefused
            If somebody else has the lease; the message names the holder.
        DriverDisconnected, DriverTimeout
            If nobody answers.
        """
        if self._link is not None:
            return
        self._context = zmq.Context()
        self._link = CommandLink(self._context, self._endpoint, self.fail_inboxes)
        try:
            data_endpoint = await self._claim(self._link, holder, deadline_s)
        except ValueError as error:
            self._shut()
            raise DriverError(f"{self._endpoint} does not speak this wire: {error}") from error
        except BaseException:
            self._shut()
            raise
        self._next_seq = 0
        socket = new_socket(self._context, zmq.PULL)
        socket.connect(data_endpoint)
        self._data = Watched(socket, self._on_data)

    async def _claim(self, link: CommandLink, holder: str, deadline_s: float) -> str:
        """Take the lease; return where its frames come from."""
        welcome = Welcome.model_validate(await link.call("hello", {}, None, deadline_s))
        self._check_detectors(welcome)
        self._welcome = welcome
        answer = await link.call("claim", {"holder": holder}, None, deadline_s)
        granted = Granted.model_validate(answer)
        self.token = granted.token
        return require_loopback(granted.data)

    def _check_detectors(self, welcome: Welcome) -> None:
        missing = sorted(set(self.detectors) - set(welcome.detectors))
        if missing:
            there = ", ".join(welcome.detectors) or "none"
            raise DriverError(f"{self._endpoint} has no detector {missing[0]} (it has: {there})")

    async def call(self, cmd: str, deadline_s: float, **args: JsonValue) -> JsonValue:
        """Send a command under this session's lease and return its result."""
        return await self.link.call(cmd, args, self.token, deadline_s)

    def tell_cancel(self) -> None:
        """Tell the machine to cancel and wait for nothing; nobody listening is no error."""
        if self._link is not None:
            self._link.tell("cancel", self.token, CANCEL_DEADLINE_S)

    async def heartbeat(self) -> None:
        """Tell the machine that its controller is alive.

        Raises
        ------
        DriverTimeout, DriverDisconnected
            If it does not answer within 1 s, or is gone.
        DriverRefused
            If the lease has been taken away.
        """
        await self.call("heartbeat", HEARTBEAT_DEADLINE_S)

    async def close(self) -> None:
        """Give the lease back (the machine blanks and parks); harmless when closed already."""
        try:
            if self._link is not None and self.token is not None:
                await self.call("release", RELEASE_DEADLINE_S)
        except DriverError as error:
            log.warning("the lease could not be given back: %s", error)
        finally:
            self._shut()

    def _shut(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._data is not None:
            self._data.close()
            self._data = None
        self.token = None
        self.fail_inboxes(DriverDisconnected("the session was closed"))
        if self._context is not None:
            self._context.term()
            self._context = None

    def fail_inboxes(self, error: DriverError, sub_scan_id: str | None = None) -> None:
        """Make everybody who waits for frames (of one sub-scan) raise."""
        for inbox in self.inboxes.values():
            if sub_scan_id in {None, inbox.sub_scan.id}:
                inbox.fail(error)

    def end_inboxes(self, sub_scan_id: str) -> None:
        """Let nobody wait for more frames of a sub-scan that was cancelled."""
        for inbox in self.inboxes.values():
            if inbox.sub_scan.id == sub_scan_id:
                inbox.end(completed=False)

    def _on_data(self, parts: list[zmq.Frame]) -> None:
        try:
            header = FrameHeader.model_validate_json(parts[0].bytes)
        except ValidationError as error:
            self._lose_data(f"a block's header can't be read: {error}")
            return
        if header.seq != self._next_seq:
            self._lose_data(f"blocks {self._next_seq} to {header.seq - 1} were lost on the way")
        self._next_seq = header.seq + 1
        inbox = self.inboxes.get(header.detector)
        if inbox is None or inbox.sub_scan.id != header.sub_scan_id:
            if not header.end:
                self.stale_blocks += 1
                log.warning("dropped a stale block: %s of %s", header.detector, header.sub_scan_id)
        elif header.end:
            inbox.end(completed=header.end == "completed")
        else:
            self._put(inbox, header, parts[1:])

    def _put(self, inbox: Inbox, header: FrameHeader, parts: list[zmq.Frame]) -> None:
        try:
            data = parts[0].buffer if parts else memoryview(b"")
            inbox.put(block_of(header, data, self._clock.now()))
        except BadFrame as error:
            inbox.fail(error)

    def _lose_data(self, why: str) -> None:
        for name, inbox in self.inboxes.items():
            inbox.fail(BadFrame(name, inbox.sub_scan.id, why))
