"""The parts of a session over the wire: scan control, detectors, beam, column."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from drivers.emulator.inbox import Inbox
from drivers.errors import DriverError, DriverRefused, DriverTimeout
from drivers.gateway.wire import (
    BEAM_CURRENT,
    COLUMN_STATE,
    RECEIPT,
    SCAN_STATE,
    dump,
)
from drivers.vocabulary import (
    BeamCurrent,
    ColumnState,
    DetectorInfo,
    FrameBlock,
    Receipt,
    ScanCapabilities,
    ScanState,
    SubScan,
)

if TYPE_CHECKING:
    from drivers.gateway.session import GatewaySession


class GatewayScan:
    """Scan control over the wire."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    @property
    def capabilities(self) -> ScanCapabilities:
        """What this scan control can do."""
        return self._session.welcome.capabilities

    async def scan(self, sub_scan: SubScan, *, deadline_s: float) -> Receipt:
        """Scan once; left early, the machine is told to cancel.

        Raises
        ------
        DriverRefused
            If the machine can't or may not do it; nothing is exposed then.
        DriverTimeout, DriverDisconnected
            If it is not over after ``deadline_s``, or the machine is gone.
        """
        try:
            result = await self._session.call("scan", deadline_s, sub_scan=dump(sub_scan))
        except asyncio.CancelledError:
            self._session.tell_cancel()
            raise
        except DriverError as error:
            if isinstance(error, DriverTimeout):
                self._session.tell_cancel()
            self._session.fail_inboxes(error, sub_scan.id)
            raise
        receipt = RECEIPT.validate_python(result)
        if not receipt.completed:
            self._session.end_inboxes(sub_scan.id)
        return receipt

    async def cancel(self, *, deadline_s: float) -> None:
        """Stop the scan in progress, if any."""
        await self._session.call("cancel", deadline_s)

    async def park_probe(self, *, deadline_s: float) -> None:
        """Move the probe to its park position."""
        await self._session.call("park_probe", deadline_s)

    async def read_back(self, *, deadline_s: float) -> ScanState:
        """Say how the scan generator is set."""
        return SCAN_STATE.validate_python(await self._session.call("read_back", deadline_s))


class GatewayDetector:
    """One detector over the wire."""

    def __init__(self, session: GatewaySession, name: str) -> None:
        self._session = session
        self._name = name

    @property
    def info(self) -> DetectorInfo:
        """What this detector delivers."""
        return self._session.welcome.detectors[self._name]

    async def arm(self, sub_scan: SubScan, *, deadline_s: float) -> None:
        """Get ready for the frames of this sub-scan."""
        await self._session.call("arm", deadline_s, detector=self._name, sub_scan=dump(sub_scan))
        self._session.inboxes[self._name] = Inbox(self.info, sub_scan)

    async def blocks(self, *, deadline_s: float) -> AsyncIterator[FrameBlock]:
        """Yield the blocks of the armed sub-scan until it has ended.

        Raises
        ------
        DriverRefused
            If the detector is not armed.
        BadFrame, DriverTimeout, DriverDisconnected
            When frames are wrong or missing, late, or the machine is gone.
        """
        inbox = self._session.inboxes.get(self._name)
        if inbox is None:
            raise DriverRefused(f"detector '{self._name}' is not armed")
        async for block in inbox.blocks(deadline_s):
            yield block

    async def disarm(self, *, deadline_s: float) -> None:
        """Stop expecting frames; harmless when not armed."""
        inbox = self._session.inboxes.pop(self._name, None)
        if inbox is not None:
            inbox.end(completed=False)
        await self._session.call("disarm", deadline_s, detector=self._name)


class GatewayBeam:
    """Beam and blanker over the wire."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    async def blank(self, *, deadline_s: float) -> None:
        """Take the beam off the specimen."""
        await self._session.call("blank", deadline_s)

    async def unblank(self, *, deadline_s: float) -> None:
        """Let the beam onto the specimen."""
        await self._session.call("unblank", deadline_s)

    async def is_blanked(self, *, deadline_s: float) -> bool:
        """Read the blanker's state back."""
        return await self._session.call("is_blanked", deadline_s) is True

    async def current(self, *, deadline_s: float) -> BeamCurrent:
        """Return the beam current with its source and age."""
        return BEAM_CURRENT.validate_python(await self._session.call("current", deadline_s))


class GatewayColumn:
    """Defocus and stage over the wire, read only."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    async def read_back(self, *, deadline_s: float) -> ColumnState:
        """Say how the column is set."""
        return COLUMN_STATE.validate_python(await self._session.call("column", deadline_s))
