"""A session with an emulated instrument in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from drivers.emulator import rooms
from drivers.emulator.faults import Fault
from drivers.emulator.inbox import Inbox
from drivers.emulator.parts import EmulatedBeam, EmulatedColumn, EmulatedDetector, EmulatedScan
from drivers.emulator.room import Room
from drivers.errors import DriverDisconnected, DriverRefused, DriverTimeout
from drivers.instrument import InstrumentConfig
from drivers.protocols import Beam, Column, Detector, ScanControl


class EmulatedSession:
    """Implements `drivers.protocols.Session` over a room in this process.

    Sessions of the same instrument share one room, found by the instrument's name; the last one
    to close shuts it down.

    Parameters
    ----------
    instrument : InstrumentConfig
        How the instrument is set up.
    make : Callable
        Builds the room; called in a thread on connecting when the instrument is not alive yet.
    driver : str or None
        Serve only the parts that name this driver; all parts when None.
    """

    scan: ScanControl | None
    beam: Beam | None
    column: Column | None
    detectors: Mapping[str, Detector]

    def __init__(
        self, instrument: InstrumentConfig, make: Callable[[], Room], *, driver: str | None = None
    ) -> None:
        def mine(name: str) -> bool:
            return driver is None or name == driver

        self._instrument = instrument
        self._make = make
        self._room: Room | None = None
        self._lost: DriverDisconnected | None = None
        self.token: str | None = None
        self.inboxes: dict[str, Inbox] = {}
        self.scan = EmulatedScan(self) if mine(instrument.scan.driver) else None
        self.beam = EmulatedBeam(self) if mine(instrument.beam.driver) else None
        has_column = instrument.column is not None and mine(instrument.column.driver)
        self.column = EmulatedColumn(self) if has_column else None
        self.detectors = {
            part.name: EmulatedDetector(self, part.name)
            for part in instrument.detector
            if mine(part.driver)
        }

    @property
    def room(self) -> Room:
        """The instrument itself.

        Raises
        ------
        DriverDisconnected
            If the session is not connected.
        """
        if self._lost is not None:
            raise self._lost
        if self._room is None:
            raise DriverDisconnected(f"not connected to '{self._instrument.instrument.name}'")
        return self._room

    async def connect(self, holder: str, *, deadline_s: float) -> None:
        """Build the instrument if need be, and take its lease; harmless when connected already.

        Raises
        ------
        DriverRefused
            If somebody else has the lease; the message names the holder.
        DriverTimeout
            If the instrument is not built within ``deadline_s``.
        """
        if self._room is not None:
            return
        self._lost = None
        self._room = room = await self._enter(deadline_s)
        try:
            await self.pass_fault("connect", deadline_s)
            self.token = room.claim(holder)
        except BaseException:
            self._room = None
            rooms.leave(room)
            raise

    async def _enter(self, deadline_s: float) -> Room:
        building = asyncio.ensure_future(
            asyncio.to_thread(rooms.enter, self._instrument, self._make)
        )
        done, _ = await asyncio.wait({building}, timeout=deadline_s)
        if not done:
            building.add_done_callback(_leave_late)
            raise DriverTimeout(f"building '{self._instrument.instrument.name}'", deadline_s)
        return building.result()

    async def heartbeat(self) -> None:
        """Tell the instrument that its controller is alive.

        Raises
        ------
        DriverRefused
            If the lease has been taken away.
        """
        self.room.heartbeat(self.token)

    async def close(self) -> None:
        """Give the lease back (cancels, blanks, parks); harmless when closed already."""
        room, self._room = self._room, None
        self.drop_inboxes(DriverDisconnected("the session was closed"))
        if room is not None:
            room.release(self.token)
            await asyncio.to_thread(rooms.leave, room)

    def drop_inboxes(self, why: DriverDisconnected) -> None:
        """Make everybody who waits for frames raise."""
        for inbox in self.inboxes.values():
            inbox.fail(why)
        self.inboxes.clear()

    async def pass_fault(self, where: str, deadline_s: float) -> Fault | None:
        """Suffer the fault due at a command, and return it if the command has to heed it.

        Raises
        ------
        DriverTimeout, DriverRefused, DriverDisconnected
            As the fault has it.
        """
        fault = self.room.fault(where)
        if fault is None:
            return None
        if fault.kind == "hang":
            forever = fault.seconds <= 0 or fault.seconds >= deadline_s
            await self.room.clock.sleep(deadline_s if forever else fault.seconds)
            if forever:
                raise DriverTimeout(where, deadline_s)
        elif fault.kind == "raise":
            raise DriverRefused(f"{where}: the instrument reports an error (injected)")
        elif fault.kind == "disconnect":
            self._lost = DriverDisconnected(f"{where}: the instrument closed the connection")
            self.drop_inboxes(self._lost)
            raise self._lost
        return fault


def _leave_late(building: asyncio.Future[Room]) -> None:
    """Let go of a room that was built too late for whoever waited."""
    if not building.cancelled() and building.exception() is None:
        rooms.leave(building.result())
