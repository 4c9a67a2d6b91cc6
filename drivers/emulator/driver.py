"""What a driver adds to be emulated: it can build the room its sessions work in."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from drivers.emulator.room import Room
from drivers.instrument import InstrumentConfig
from drivers.protocols import Driver
from drivers.vocabulary import Clock


@runtime_checkable
class EmulatedDriver(Driver, Protocol):
    """A driver with no real beam behind it; `drivers.serve` can run it as a process of its own."""

    def room(
        self, instrument: InstrumentConfig, clock: Clock, exposure_log: Path | None = None
    ) -> Room:
        """Build the instrument: blanked, parked, leased to nobody.

        Raises
        ------
        DriverError
            If the specimen or the recording can't be made or read.
        """
