"""Open an instrument: start the emulated ones as processes, connect each driver's parts.

The governor, parking, the guardian and `probewise doctor` hold instruments; nobody else does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from controller.lease import state_folder
from drivers import registry
from drivers.errors import DriverError, DriverUnavailable
from drivers.instrument import InstrumentConfig
from drivers.protocols import Beam, Column, Detector, Emergency, KnowsTruth, ScanControl, Session
from drivers.vocabulary import Clock, Truth


@dataclass(slots=True)
class OpenInstrument:
    """The parts of a connected instrument, whichever drivers they come from."""

    config: InstrumentConfig
    sessions: list[Session]
    _scan: ScanControl | None = field(default=None, init=False)
    _beam: Beam | None = field(default=None, init=False)
    column: Column | None = field(default=None, init=False)
    detectors: dict[str, Detector] = field(default_factory=dict, init=False)

    @property
    def scan(self) -> ScanControl:
        """The scan control; there once connected."""
        assert self._scan is not None, "the instrument is not connected"
        return self._scan

    @property
    def beam(self) -> Beam:
        """The beam; there once connected."""
        assert self._beam is not None, "the instrument is not connected"
        return self._beam

    async def connect(self, holder: str) -> None:
        """Connect every session and find the parts the instrument file names.

        Raises
        ------
        DriverError
            If a session can't connect, or a driver does not serve a part that names it.
        """
        deadline_s = self.config.limits.call_deadline_s
        for session in self.sessions:
            await session.connect(holder, deadline_s=deadline_s)
        by_driver = dict(zip(self.config.driver_names(), self.sessions, strict=True))
        self._scan = by_driver[self.config.scan.driver].scan
        self._beam = by_driver[self.config.beam.driver].beam
        if self.config.column is not None:
            self.column = by_driver[self.config.column.driver].column
        for part in self.config.detector:
            detector = by_driver[part.driver].detectors.get(part.name)
            if detector is None:
                raise DriverUnavailable(
                    f"driver '{part.driver}' does not serve detector '{part.name}'"
                )
            self.detectors[part.name] = detector
        for what, found in (("scan control", self._scan), ("beam", self._beam)):
            if found is None:
                raise DriverUnavailable(f"the driver named for it serves no {what}")

    async def heartbeat(self) -> None:
        """Tell every machine that its controller is alive."""
        for session in self.sessions:
            await session.heartbeat()

    async def close(self) -> None:
        """Close every session, the later ones too when an earlier one fails."""
        results = await asyncio.gather(
            *(session.close() for session in self.sessions), return_exceptions=True
        )
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, DriverError):
                raise result


def is_emulated(instrument: InstrumentConfig) -> bool:
    """Say whether no part has a real beam behind it."""
    return all(registry.load(name).emulated for name in instrument.driver_names())


def runs_as_process(instrument: InstrumentConfig) -> bool:
    """Say whether this instrument is emulated in a process of its own."""
    return instrument.instrument.serve == "process" and is_emulated(instrument)


def exposure_log(instrument: InstrumentConfig) -> Path:
    """Return where an emulated instrument keeps its own exposure log."""
    return state_folder(instrument.instrument.name) / "exposures.jsonl"


def reach(instrument: InstrumentConfig, *, linger_s: float = 60.0) -> InstrumentConfig:
    """Return the instrument as it is reached: through a gateway when emulated as a process.

    Starts that process, or finds the one that is alive.
    """
    if "gateway" in instrument.driver_names() or not runs_as_process(instrument):
        return instrument
    from drivers.serve.spawn import attach_or_spawn

    served = attach_or_spawn(
        instrument,
        state_dir=state_folder(instrument.instrument.name),
        exposure_log=exposure_log(instrument),
        linger_s=linger_s,
    )
    return instrument.served_by_gateway(served.endpoint)


def reach_running(instrument: InstrumentConfig) -> InstrumentConfig | None:
    """Return the instrument as it is reached if it is running, None when its process is not."""
    if "gateway" in instrument.driver_names() or not runs_as_process(instrument):
        return instrument
    from drivers.serve.spawn import find

    served = find(instrument, state_folder(instrument.instrument.name))
    return instrument.served_by_gateway(served.endpoint) if served else None


def open_instrument(instrument: InstrumentConfig, clock: Clock) -> OpenInstrument:
    """Return the instrument's parts, not yet connected."""
    sessions = [registry.load(name).open(instrument, clock) for name in instrument.driver_names()]
    return OpenInstrument(instrument, sessions)


class _Everywhere:
    """Emergency calls sent to several drivers; each is tried, then the first failure is raised."""

    def __init__(self, parts: list[Emergency]) -> None:
        self._parts = parts

    def stop(self, timeout_s: float) -> None:
        self._each("stop", timeout_s)

    def blank(self, timeout_s: float) -> None:
        self._each("blank", timeout_s)

    def park_probe(self, timeout_s: float) -> None:
        self._each("park_probe", timeout_s)

    def is_blanked(self, timeout_s: float) -> bool:
        return all(part.is_blanked(timeout_s) for part in self._parts)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def _each(self, name: str, timeout_s: float) -> None:
        first: DriverError | None = None
        for part in self._parts:
            try:
                getattr(part, name)(timeout_s)
            except DriverError as error:
                first = first or error
        if first is not None:
            raise first


def emergency_for(instrument: InstrumentConfig) -> Emergency:
    """Return the way to park an instrument: the scan's and the beam's drivers, each once."""
    names = dict.fromkeys((instrument.scan.driver, instrument.beam.driver))
    parts = [registry.load(name).emergency(instrument) for name in names]
    return parts[0] if len(parts) == 1 else _Everywhere(parts)


def truth_of(instrument: InstrumentConfig) -> Truth | None:
    """Return what is really there, if the scan's driver knows."""
    driver = registry.load(instrument.scan.driver)
    return driver.truth(instrument) if isinstance(driver, KnowsTruth) else None
