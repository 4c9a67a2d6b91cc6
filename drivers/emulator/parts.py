"""The parts of an in-process session: scan control, detectors, beam, column."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from drivers.emulator.drive import drive
from drivers.emulator.inbox import Inbox
from drivers.errors import DriverError, DriverRefused
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
    from drivers.emulator.session import EmulatedSession


class EmulatedScan:
    """Scan control of an emulated instrument."""

    def __init__(self, session: EmulatedSession) -> None:
        self._session = session

    @property
    def capabilities(self) -> ScanCapabilities:
        """What this scan control can do."""
        return self._session.room.capabilities

    async def scan(self, sub_scan: SubScan, *, deadline_s: float) -> Receipt:
        """Scan once, on the instrument's clock; left early, it is cancelled.

        Raises
        ------
        DriverRefused
            If the instrument can't or may not do it; nothing is exposed then.
        DriverTimeout
            If it is not over after ``deadline_s``.
        """
        room = self._session.room
        await self._session.pass_fault("scan", deadline_s)
        run = room.begin_scan(self._session.token, sub_scan)
        inboxes = {name: self._session.inboxes[name] for name in run.armed}
        try:
            return await drive(
                room, run, lambda block: inboxes[block.detector].put(block), deadline_s=deadline_s
            )
        except DriverError as error:
            for inbox in inboxes.values():
                inbox.fail(error)
            raise
        finally:
            room.finish(run)
            for inbox in inboxes.values():
                inbox.end(completed=not run.cancelled)

    async def cancel(self, *, deadline_s: float) -> None:
        """Stop the scan in progress, if any."""
        fault = await self._session.pass_fault("cancel", deadline_s)
        if fault is None or fault.kind != "ignore_cancel":
            self._session.room.cancel(self._session.token)

    async def park_probe(self, *, deadline_s: float) -> None:
        """Move the probe to its park position."""
        await self._session.pass_fault("park_probe", deadline_s)
        self._session.room.park_probe(self._session.token)

    async def read_back(self, *, deadline_s: float) -> ScanState:
        """Say how the scan generator is set."""
        await self._session.pass_fault("read_back", deadline_s)
        return self._session.room.scan_state()


class EmulatedDetector:
    """One detector of an emulated instrument."""

    def __init__(self, session: EmulatedSession, name: str) -> None:
        self._session = session
        self._name = name

    @property
    def info(self) -> DetectorInfo:
        """What this detector delivers."""
        return self._session.room.scene.detectors[self._name]

    async def arm(self, sub_scan: SubScan, *, deadline_s: float) -> None:
        """Get ready for the frames of this sub-scan."""
        await self._session.pass_fault("arm", deadline_s)
        self._session.room.arm(self._session.token, self._name, sub_scan)
        self._session.inboxes[self._name] = Inbox(self.info, sub_scan)

    async def blocks(self, *, deadline_s: float) -> AsyncIterator[FrameBlock]:
        """Yield the blocks of the armed sub-scan until it has ended.

        Raises
        ------
        DriverRefused
            If the detector is not armed.
        BadFrame, DriverTimeout, DriverDisconnected
            When frames are wrong or missing, late, or the session is closed.
        """
        inbox = self._session.inboxes.get(self._name)
        if inbox is None:
            raise DriverRefused(f"detector '{self._name}' is not armed")
        async for block in inbox.blocks(deadline_s):
            yield block

    async def disarm(self, *, deadline_s: float) -> None:
        """Stop expecting frames; harmless when not armed."""
        await self._session.pass_fault("disarm", deadline_s)
        self._session.room.disarm(self._session.token, self._name)
        inbox = self._session.inboxes.pop(self._name, None)
        if inbox is not None:
            inbox.end(completed=False)


class EmulatedBeam:
    """Beam and blanker of an emulated instrument."""

    def __init__(self, session: EmulatedSession) -> None:
        self._session = session

    async def blank(self, *, deadline_s: float) -> None:
        """Take the beam off the specimen."""
        await self._session.pass_fault("blank", deadline_s)
        self._session.room.blank()

    async def unblank(self, *, deadline_s: float) -> None:
        """Let the beam onto the specimen."""
        await self._session.pass_fault("unblank", deadline_s)
        self._session.room.unblank(self._session.token)

    async def is_blanked(self, *, deadline_s: float) -> bool:
        """Read the blanker's state back."""
        fault = await self._session.pass_fault("is_blanked", deadline_s)
        if fault is not None and fault.kind == "blank_readback_lies":
            return True
        return self._session.room.is_blanked()

    async def current(self, *, deadline_s: float) -> BeamCurrent:
        """Return the beam current with its source and age."""
        await self._session.pass_fault("current", deadline_s)
        return self._session.room.beam_current()


class EmulatedColumn:
    """Defocus and stage of an emulated instrument, read only."""

    def __init__(self, session: EmulatedSession) -> None:
        self._session = session

    async def read_back(self, *, deadline_s: float) -> ColumnState:
        """Say how the column is set."""
        await self._session.pass_fault("column", deadline_s)
        return self._session.room.column_state()
