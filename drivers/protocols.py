"""What a driver must supply: scan control, detectors, beam, column, and a way to park.

Every awaitable takes ``deadline_s`` and raises `DriverTimeout`, `DriverDisconnected` or
`DriverRefused`; none retries. Parts that one machine serves over one connection share a `Session`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from drivers.instrument import InstrumentConfig
from drivers.vocabulary import (
    BeamCurrent,
    Clock,
    ColumnState,
    DetectorInfo,
    FrameBlock,
    Receipt,
    ScanCapabilities,
    ScanState,
    SubScan,
    Truth,
)


@runtime_checkable
class ScanControl(Protocol):
    """Moves the probe. Never blanks or unblanks."""

    @property
    def capabilities(self) -> ScanCapabilities:
        """What this scan control can do; valid once the session is connected."""

    async def scan(self, sub_scan: SubScan, *, deadline_s: float) -> Receipt:
        """Scan once and say what was executed; returns early, not completed, after `cancel`."""

    async def cancel(self, *, deadline_s: float) -> None:
        """Stop the scan in progress, if any."""

    async def park_probe(self, *, deadline_s: float) -> None:
        """Move the probe to its park position."""

    async def read_back(self, *, deadline_s: float) -> ScanState:
        """Say how the scan generator is set."""


@runtime_checkable
class Detector(Protocol):
    """Delivers frames. Armed before the scan starts, disarmed after."""

    @property
    def info(self) -> DetectorInfo:
        """What this detector delivers; valid once the session is connected."""

    async def arm(self, sub_scan: SubScan, *, deadline_s: float) -> None:
        """Get ready for the frames of this sub-scan."""

    def blocks(self, *, deadline_s: float) -> AsyncIterator[FrameBlock]:
        """Yield blocks of the armed sub-scan.

        Ends when all frames have come or the scan was cancelled. ``deadline_s`` bounds the
        wait for each block; a peer that closes raises `DriverDisconnected`.
        """

    async def disarm(self, *, deadline_s: float) -> None:
        """Stop expecting frames; harmless when not armed."""


@runtime_checkable
class Beam(Protocol):
    """The beam and its blanker."""

    async def blank(self, *, deadline_s: float) -> None:
        """Take the beam off the specimen."""

    async def unblank(self, *, deadline_s: float) -> None:
        """Let the beam onto the specimen."""

    async def is_blanked(self, *, deadline_s: float) -> bool:
        """Read the blanker's state back from the instrument."""

    async def current(self, *, deadline_s: float) -> BeamCurrent:
        """Return the beam current with its source and age."""


@runtime_checkable
class Column(Protocol):
    """Defocus and stage, read only."""

    async def read_back(self, *, deadline_s: float) -> ColumnState:
        """Say how the column is set."""


@runtime_checkable
class Session(Protocol):
    """One connection to one machine, and the parts it serves.

    A part that the machine does not serve is None (or missing from ``detectors``).
    """

    scan: ScanControl | None
    beam: Beam | None
    column: Column | None
    detectors: Mapping[str, Detector]

    async def connect(self, holder: str, *, deadline_s: float) -> None:
        """Connect and take the machine's lease for ``holder``; refused names who has it."""

    async def heartbeat(self) -> None:
        """Tell the machine that its controller is alive; machines without a watchdog ignore it."""

    async def close(self) -> None:
        """Give the lease back and close; harmless when closed already."""


@runtime_checkable
class Emergency(Protocol):
    """A small synchronous way to a safe state, on a connection of its own.

    Each call either does what it says within ``timeout_s`` or raises `DriverError`. ``stop``
    also fences: it takes the lease from whoever holds it, where the machine has one.
    """

    def stop(self, timeout_s: float) -> None:
        """Stop any scan."""

    def blank(self, timeout_s: float) -> None:
        """Blank the beam."""

    def park_probe(self, timeout_s: float) -> None:
        """Move the probe to its park position."""

    def is_blanked(self, timeout_s: float) -> bool:
        """Read the blanker's state back."""

    def close(self) -> None:
        """Close the connection."""


@runtime_checkable
class Driver(Protocol):
    """What the entry point of a driver names (group ``probewise.drivers``)."""

    name: str
    summary: str
    emulated: bool
    """Whether there is no real beam behind it."""
    settings: type[BaseModel]
    """The model of its ``[drivers.<name>]`` table in an instrument file."""

    def open(self, instrument: InstrumentConfig, clock: Clock) -> Session:
        """Return a session, not yet connected, for the parts that name this driver."""

    def emergency(self, instrument: InstrumentConfig) -> Emergency:
        """Return the way to park this driver's parts; connects on first use."""


@runtime_checkable
class KnowsTruth(Protocol):
    """A driver that knows what is really there, because it made or recorded it."""

    def truth(self, instrument: InstrumentConfig) -> Truth | None:
        """Return the targets of the instrument's specimen, if any are known."""
