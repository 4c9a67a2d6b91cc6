"""The governor: the only object that commands the instrument.

Nothing is exposed before its limits were checked, against the ledger, the budgets and what is in
flight, and its intent is on disk; everything exposed is charged by what the instrument says it
executed, or in full when that is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from controller import events as e
from controller.beamtimer import BeamTimer
from controller.checking import Checks
from controller.config import RunConfig
from controller.dose import mean_dose_e_per_A2
from controller.exposure import BlankerLied, Exposer, ExposureRecord
from controller.journal import Journal
from controller.lease import Latch
from controller.limits import (
    Budget,
    Verdict,
    check_current,
    planned_electrons,
)
from controller.opening import OpenInstrument
from controller.phases import EXPOSING
from controller.readback import ReadBack
from controller.state import RunState
from controller.suspenders import Suspender
from controller.transform import SpecimenToScan
from drivers.vocabulary import (
    E_PER_S_PER_PA,
    Clock,
    DetectorInfo,
    NmPair,
    SubScan,
    SubScanData,
)


class Refused(Exception):
    """Limits forbid an exposure; nothing was exposed."""

    def __init__(self, sub_scan_id: str, verdicts: list[Verdict]) -> None:
        super().__init__(f"{sub_scan_id} refused: " + "; ".join(map(str, verdicts)))
        self.sub_scan_id = sub_scan_id
        self.verdicts = verdicts


@dataclass(frozen=True, slots=True)
class Exposed:
    """What came of an exposure: its intent, how it went, and its frames if they can be used."""

    intent: e.Intent
    outcome: str
    data: SubScanData | None
    record: ExposureRecord
    changed: str | None = None
    """What was changed at the vendor's console meanwhile."""


class Governor:
    """Checks, journals and executes exposures on one open instrument.

    Parameters
    ----------
    config : RunConfig
    instrument : OpenInstrument
        Not yet connected.
    journal : Journal
    clock : Clock
        The run's clock.
    disk : Path
        A path on the disk that the run is written to.
    """

    def __init__(
        self,
        config: RunConfig,
        instrument: OpenInstrument,
        journal: Journal,
        clock: Clock,
        *,
        disk: Path,
    ) -> None:
        self._config = config
        self._instrument = instrument
        self._journal = journal
        self._clock = clock
        self._limits = instrument.config.limits
        self.latch = Latch(instrument.config.instrument.name)
        self._timer = BeamTimer()
        self._read_back = ReadBack(instrument)
        self._exposer = Exposer(instrument, self.latch, self._timer, self._read_back)
        self.checks = Checks(config.experiment, instrument.config, journal, disk)
        self._started_at_s = clock.now()
        self._closed = False
        self.infos: dict[str, DetectorInfo] = {}
        self.still_ms = 0.0
        """How long the unblanked probe last stood still."""

    @property
    def _state(self) -> RunState:
        return self._journal.state

    async def connect(self, holder: str) -> None:
        """Connect, blank, park the probe, and remember how the instrument is set.

        Raises
        ------
        DriverError
            If a part can't be reached or the blanker can't be verified.
        """
        await self._instrument.connect(holder)
        if self._config.instrument.beam.blanker != "none":
            await self._exposer.blank()
        else:
            self._exposer.beam_is_on()
        await self._instrument.scan.park_probe(deadline_s=self._limits.call_deadline_s)
        self.infos = {name: d.info for name, d in self._instrument.detectors.items()}
        self.checks.infos = self.infos
        self.checks.max_positions = self._instrument.scan.capabilities.max_positions
        await self._read_back.remember()
        self._started_at_s = self._clock.now() - self._state.t_s
        await self.read_current()

    def when_beam_too_long(self, act: Callable[[float], None]) -> None:
        """Call ``act`` from the safety timer's thread when an exposure does not end in time."""
        self._timer.on_expiry = act

    def suspenders(self) -> list[Suspender]:
        """Return the signals that concern the beam current."""

        def look(rule: str) -> Verdict | None:
            found = check_current(self._state.current, self._instrument.config)
            return next((verdict for verdict in found if verdict.rule == rule), None)

        rules = ("beam current unknown", "beam current", "age of beam current")
        return [Suspender(rule, partial(look, rule)) for rule in rules]

    async def heartbeat(self) -> None:
        """Tell the instrument that its controller is alive."""
        await self._instrument.heartbeat()

    async def read_current(self) -> None:
        """Read the beam current and journal it with the bound that dose is reckoned with."""
        current = await self._instrument.beam.current(deadline_s=self._limits.call_deadline_s)
        upper_pA = max(self._config.instrument.beam.upper_pA, current.value_pA)
        self._journal.append(e.CurrentRead(current=current, upper_pA=upper_pA))

    async def close(self) -> None:
        """Stop the timer and close the connection; harmless when closed already."""
        if not self._closed:
            self._closed = True
            self._timer.close()
            await self._instrument.close()

    def stop_timer(self) -> None:
        """End the safety timer of a governor that never connected; harmless after `close`."""
        self._timer.close()

    # --- checking ---

    def budget(self) -> Budget:
        """Return the budgets in force."""
        return self.checks.budget()

    def elapsed_s(self) -> float:
        """Return how long the run has lasted, earlier controllers of it included."""
        return self._clock.now() - self._started_at_s

    def verdicts(self, sub_scan: SubScan, purpose: e.Purpose, author: str = "") -> list[Verdict]:
        """Return every limit that exposing this sub-scan (specimen nm) now would break."""
        return self.checks.verdicts(sub_scan, purpose, author, self.elapsed_s())

    # --- exposing ---

    async def prepare(
        self, sub_scan: SubScan, purpose: e.Purpose, author: str, detectors: tuple[str, ...]
    ) -> e.Intent:
        """Check an exposure and get its intent to disk.

        Raises
        ------
        Refused
            If a limit forbids it; journalled.
        ValueError
            If the id was used before.
        OSError
            If the journal can't be written.
        """
        state = self._state
        if sub_scan.id in state.outcomes or sub_scan.id in state.intents:
            raise ValueError(f"sub-scan id {sub_scan.id} was used before")
        found = self.verdicts(sub_scan, purpose, author)
        for verdict in found:
            self._journal.append(tripped(verdict, sub_scan.id))
        if found:
            raise Refused(sub_scan.id, found)
        electrons = planned_electrons(sub_scan, self._instrument.config)
        intent = e.Intent(
            id=sub_scan.id,
            purpose=purpose,
            author=author,
            sub_scan=sub_scan,
            offset_nm=state.offset_nm,
            planned_electrons=electrons,
            planned_dose_e_per_A2=mean_dose_e_per_A2(sub_scan, electrons),
            detectors=detectors,
        )
        try:
            await asyncio.wrap_future(self._journal.durable(intent))
        except BaseException:
            self.withdraw(intent, "its preparation was cut short")
            raise
        return intent

    def withdraw(self, intent: e.Intent, why: str) -> None:
        """Take back an intent that was not exposed."""
        self._journal.append(e.IntentWithdrawn(id=intent.id, why=why))

    async def expose(
        self, intent: e.Intent, on_scanning: Callable[[], None] | None = None
    ) -> Exposed:
        """Execute a prepared exposure and charge what was executed.

        ``on_scanning`` is called once the scan has been commanded.

        Frames that can't be used do not raise: ``data`` is then None, and it is journalled why.

        Raises
        ------
        DriverError, Latched
            If the instrument failed; the beam was blanked as well as could be, and the dose is
            charged in full unless the beam was certainly never on.
        """
        if intent.id not in self._state.intents:
            raise ValueError(f"sub-scan {intent.id} has no intent")
        if self._state.phase not in EXPOSING:
            raise ValueError(f"nothing is exposed while {self._state.phase.value}")
        scan_coords = SpecimenToScan(intent.offset_nm).to_scan(intent.sub_scan)
        record = ExposureRecord(scan_coords, intent.detectors)
        try:
            await self._exposer.expose(record, on_scanning)
        except BaseException as error:
            if isinstance(error, BlankerLied):
                self._journal.append(
                    e.ReadBackMismatch(what="blanker", expected="as commanded", got=str(error))
                )
            if record.receipt is None:
                self._close_unknown(intent, record, str(error) or type(error).__name__)
            else:
                self._charge(intent, record)
            raise
        try:
            outcome = self._charge(intent, record)
        finally:
            with record.timed("read back"):
                changed = await self._exposer.close(record)
        return Exposed(intent, outcome, self._usable(intent, record), record, changed)

    async def cancel(self) -> None:
        """Stop the scan in progress, if any; its exposure then ends as partial."""
        await self._exposer.cancel()

    def _close_unknown(self, intent: e.Intent, record: ExposureRecord, why: str) -> None:
        if not record.begun:
            self.withdraw(intent, f"not begun: {why}")
            return
        self._journal.append(unknown(intent))

    def _charge(self, intent: e.Intent, record: ExposureRecord) -> str:
        """Journal what was executed, and the time the beam stood still before and after."""
        receipt = record.receipt
        assert receipt is not None
        back = SpecimenToScan(intent.offset_nm)
        outcome = "complete" if receipt.completed else "partial"
        per_s = self._config.instrument.beam.upper_pA * E_PER_S_PER_PA
        blanking_s = 2 * self._config.instrument.beam.blank_latency_us * 1e-6
        self._journal.append(
            e.Executed(
                id=intent.id,
                outcome="complete" if receipt.completed else "partial",
                sub_scan=back.to_specimen(receipt.sub_scan),
                positions_executed=receipt.positions_executed,
                electrons=per_s * (receipt.beam_on_s + blanking_s),
                beam_on_s=receipt.beam_on_s,
                started_at_s=receipt.started_at_s,
                ended_at_s=receipt.ended_at_s,
            )
        )
        self._charge_parked(record.unblanked_s - receipt.beam_on_s, f"round {intent.id}")
        return outcome

    def _charge_parked(self, seconds: float, when: str) -> None:
        """Charge the time an unblanked probe stood at its park position."""
        self.still_ms = max(0.0, seconds * 1e3)
        if seconds <= 0 or self._clock.is_virtual:
            return
        electrons = self._config.instrument.beam.upper_pA * E_PER_S_PER_PA * seconds
        why = f"unblanked probe at its park position, {when}"
        self._journal.append(
            e.DoseCharged(electrons=electrons, at_nm=self._park_position_nm(), why=why)
        )

    async def rest(self) -> None:
        """Blank a probe that is parked unblanked between sub-scans, and charge its dose."""
        self._charge_parked(await self._exposer.rest(), "between sub-scans")

    def _park_position_nm(self) -> NmPair:
        scan = self._config.instrument.scan
        corner = (-scan.field_nm[0] / 2, -scan.field_nm[1] / 2)
        return scan.park_position_nm or corner

    def _usable(self, intent: e.Intent, record: ExposureRecord) -> SubScanData | None:
        """Return the frames, or journal why they can't be used."""
        if record.overrun is not None:
            self._journal.append(
                e.Overrun(
                    detector=", ".join(intent.detectors),
                    sub_scan_id=intent.id,
                    waiting_bytes=record.overrun.waiting,
                    capacity_bytes=record.overrun.capacity,
                )
            )
        if record.rejected is not None:
            rejected = record.rejected
            self._journal.append(
                e.FrameRejected(sub_scan_id=intent.id, detector=rejected.detector, why=rejected.why)
            )
            return None
        if not record.frames:
            return None
        used = {name: self.infos[name] for name in record.frames}
        return SubScanData(intent.sub_scan, record.frames, used)

    async def changed_at_console(self) -> str | None:
        """Return what was changed at the vendor's console since connecting, None if nothing."""
        return await self._read_back.changed()


def tripped(verdict: Verdict, sub_scan_id: str | None) -> e.LimitTripped:
    """Return the journal's record of a verdict."""
    return e.LimitTripped(
        rule=verdict.rule,
        value=float(verdict.value),
        limit=float(verdict.limit),
        unit=verdict.unit,
        action=verdict.action,
        sub_scan_id=sub_scan_id,
    )


def unknown(intent: e.Intent) -> e.Executed:
    """Return the record of an exposure nobody saw end: the whole planned dose is charged."""
    return e.Executed(
        id=intent.id,
        outcome="unknown",
        sub_scan=intent.sub_scan,
        positions_executed=intent.sub_scan.n_positions,
        electrons=intent.planned_electrons,
        beam_on_s=0.0,
    )
