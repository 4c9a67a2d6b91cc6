"""One emulated instrument: its blanker, probe, scan generator, lease and latch.

A room holds the truth about the instrument and enforces its rules. It never waits: whoever drives
a scan (an async session, or a thread of the served process) lets the time pass. All methods may
be called from any thread.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

from drivers.emulator.blanker import Blanker
from drivers.emulator.console import Console
from drivers.emulator.exposure_log import EventName
from drivers.emulator.faults import Fault, Faults
from drivers.emulator.lease import Lease
from drivers.emulator.limits import capabilities, check_sub_scan
from drivers.emulator.record import Record
from drivers.emulator.renderer import Job, Renderer
from drivers.emulator.scan_run import Outcome, ScanRun
from drivers.emulator.scene import Scene
from drivers.emulator.timeline import Timeline
from drivers.emulator.watchdog import Watchdog
from drivers.errors import DriverRefused
from drivers.instrument import InstrumentConfig
from drivers.vocabulary import (
    BeamCurrent,
    Clock,
    ColumnState,
    NmPair,
    ScanCapabilities,
    ScanState,
    SubScan,
)

Probe = Literal["parked", "positioned", "scanning"]


class Room:
    """A thread-safe model of one instrument, blanked and parked at the start.

    Parameters
    ----------
    instrument : InstrumentConfig
        How it is set up.
    scene : Scene
        What the beam meets.
    clock : Clock
        The instrument's clock.
    exposure_log : Path or None
        Where the instrument keeps its own record; nowhere when None.
    faults : Faults or None
        What goes wrong, and when.
    prerender : bool
        Render images when a detector is armed, not while the scan runs; for measurements of
        what the controller adds.

    Raises
    ------
    OSError
        If the exposure log can't be written.
    """

    def __init__(
        self,
        instrument: InstrumentConfig,
        scene: Scene,
        clock: Clock,
        *,
        exposure_log: Path | None = None,
        faults: Faults | None = None,
        prerender: bool = False,
    ) -> None:
        self.instrument = instrument
        self.scene = scene
        self.clock = clock
        self.faults = faults
        self.closed = False
        self.renderer = Renderer(scene, inline=clock.is_virtual)
        self._lock = threading.RLock()
        self._lease = Lease()
        self._blanker = Blanker(instrument.beam, clock.now())
        self._record = Record(exposure_log, instrument.beam, self._blanker)
        self._probe: Probe = "parked"
        self._armed: dict[str, SubScan] = {}
        self._run: ScanRun | None = None
        self._opened_at_s = clock.now()
        self.prerender = prerender
        self._console = Console(field_nm=self.capabilities.field_nm)
        self._watchdog = Watchdog(self._silent)
        self._note("start")

    # --- lease ---

    @property
    def holder(self) -> str | None:
        """Who has the lease."""
        return self._lease.holder

    def claim(self, holder: str) -> str:
        """Take the lease and return its token; clears the latch a fence has left.

        Raises
        ------
        DriverRefused
            If somebody else has it; the message names the holder.
        """
        with self._lock:
            token = self._lease.claim(holder)
            self._watchdog.watch(token, holder)
            self._note("claim", holder)
            return token

    def release(self, token: str | None) -> None:
        """Give the lease back: cancels, blanks, parks. Harmless with a token that is not valid."""
        with self._lock:
            if self._lease.is_held_by(token):
                self._let_go("release", f"{self._lease.holder} gave the lease back")

    def heartbeat(self, token: str | None) -> None:
        """Take note that the holder is alive.

        Raises
        ------
        DriverRefused
            If the token is not valid any more.
        """
        with self._lock:
            self._require(token, "heartbeat")

    def fence(self, reason: str) -> None:
        """Take the lease from its holder, cancel, blank and park.

        From now on the old token moves and unblanks nothing, until somebody claims the lease.
        """
        with self._lock:
            self._let_go("fence", reason)

    def watch_holder(self, timeout_s: float) -> None:
        """From now on, fence when the lease's holder is silent for so many real seconds.

        For rooms in a process of their own: in its controller's process a room dies with it.
        """
        self._watchdog.start(timeout_s)

    def _silent(self, token: str, reason: str) -> None:
        with self._lock:
            if self._lease.is_held_by(token):
                self.fence(reason)

    def _let_go(self, event: EventName, reason: str) -> None:
        self._lease.revoke(reason)
        self._watchdog.rest()
        self._armed.clear()
        self.stop()
        if self._blanker.present:
            self.blank()
        self.park_probe_now()
        self._note(event, reason)

    def _require(self, token: str | None, what: str) -> None:
        try:
            self._lease.require(token, what)
        except DriverRefused as refusal:
            self._note("refused", str(refusal))
            raise
        self._watchdog.feed()

    # --- beam ---

    def blank(self) -> None:
        """Take the beam off the specimen; refused to nobody.

        Raises
        ------
        DriverRefused
            If the instrument has no blanker.
        """
        with self._lock:
            now = self._catch_up()
            off_s = self._blanker.blank(now)
            if off_s is None:
                if not self._blanker.blanked:
                    self._note("refused", "blank: the blanker is stuck")
                return
            self._record.blanked(off_s)

    def unblank(self, token: str | None) -> None:
        """Let the beam onto the specimen.

        Raises
        ------
        DriverRefused
            If the token is not valid, e.g. after a fence.
        """
        with self._lock:
            self._require(token, "unblank")
            now = self._catch_up()
            if self._blanker.unblank(now):
                self._record.note("unblank", now)

    def jam_blanker(self, seconds: float) -> None:
        """Make the blanker stick for so many seconds of the instrument's clock; for ever when 0."""
        with self._lock:
            self._blanker.jam(self.clock.now(), seconds)

    def is_blanked(self) -> bool:
        """Read the blanker's true state."""
        with self._lock:
            return self._blanker.blanked

    def beam_current(self) -> BeamCurrent:
        """Return the beam current with its source and age.

        Raises
        ------
        DriverRefused
            If the instrument file gives none.
        """
        beam = self.instrument.beam
        if beam.current_pA is None:
            raise DriverRefused("the beam current is not known: set current_pA in [beam]")
        measured = beam.current_source == "measured"
        age_s = self.clock.now() - self._opened_at_s if measured else 0.0
        return BeamCurrent(beam.current_pA, beam.current_source, age_s)

    # --- scan ---

    @property
    def capabilities(self) -> ScanCapabilities:
        """What the scan generator can do over this scene."""
        return capabilities(self.instrument.scan, self.scene)

    def arm(self, token: str | None, detector: str, sub_scan: SubScan) -> None:
        """Get a detector ready for a sub-scan.

        Raises
        ------
        DriverRefused
            If the token is not valid, or there is no such detector, or the sub-scan can't be done.
        """
        with self._lock:
            self._require(token, f"arming {detector}")
            if detector not in self.scene.detectors:
                known = ", ".join(self.scene.detectors)
                raise DriverRefused(f"there is no detector '{detector}' (there are: {known})")
            check_sub_scan(sub_scan, self.capabilities)
            self._armed[detector] = sub_scan
            current_pA, now = self.instrument.beam.current_pA or 0.0, self.clock.now()
        if self.prerender and self.scene.detectors[detector].kind == "image":
            self.renderer.prepare(Job(sub_scan, detector, 0, 1, current_pA, now))

    def disarm(self, token: str | None, detector: str) -> None:
        """Stop expecting frames; harmless when not armed, or with a token that is not valid."""
        with self._lock:
            if self._lease.is_held_by(token):
                self._armed.pop(detector, None)

    def begin_scan(self, token: str | None, sub_scan: SubScan) -> ScanRun:
        """Start a scan with the detectors armed for it.

        Raises
        ------
        DriverRefused
            If the token is not valid, a scan is running, no detector is armed for this sub-scan,
            or it lies outside what the scan generator can do.
        """
        with self._lock:
            self._require(token, f"scan {sub_scan.id}")
            now = self._catch_up()
            if self._run is not None:
                raise DriverRefused(f"scan {sub_scan.id}: {self._run.sub_scan.id} is still running")
            check_sub_scan(sub_scan, self.capabilities)
            armed = {n: self.scene.detectors[n] for n, s in self._armed.items() if s == sub_scan}
            if not armed and self.scene.detectors:
                waiting = ", ".join(f"{n} for {s.id}" for n, s in self._armed.items()) or "none"
                raise DriverRefused(f"scan {sub_scan.id}: arm a detector first (armed: {waiting})")
            current_pA = 0.0 if self._blanker.blanked else self.instrument.beam.current_pA or 0.0
            timeline = Timeline.of(sub_scan, self.instrument.scan)
            run = ScanRun(sub_scan, timeline, armed, now, current_pA)
            self._run, self._probe = run, "scanning"
            self._record.scan_started(sub_scan, now)
            return run

    def finish(self, run: ScanRun) -> None:
        """End a scan: complete when its time is over, else cancelled; harmless when ended."""
        with self._lock:
            if run is self._run:
                self._end_run(run, min(self.clock.now(), run.planned_end_s))

    def cancel(self, token: str | None) -> None:
        """Stop the scan in progress, if any.

        Raises
        ------
        DriverRefused
            If somebody else holds the lease: it is their scan.
        """
        with self._lock:
            if self._lease.holder is not None:
                self._require(token, "cancel")
            self.stop()

    def stop(self) -> None:
        """Stop any scan, whoever's it is."""
        with self._lock:
            now = self._catch_up()
            if self._run is not None:
                self._end_run(self._run, now)

    def park_probe(self, token: str | None) -> None:
        """Move the probe to its park position.

        Raises
        ------
        DriverRefused
            If the token is not valid, or a scan is running.
        """
        with self._lock:
            self._require(token, "parking the probe")
            self.park_probe_now()

    def park_probe_now(self) -> None:
        """Move the probe to its park position, whoever has the lease; refused during a scan."""
        with self._lock:
            self._catch_up()
            if self._run is not None:
                raise DriverRefused(f"{self._run.sub_scan.id} is running: cancel it before parking")
            if self._probe != "parked":
                self._probe = "parked"
                self._note("park")

    # --- read back ---

    def scan_state(self) -> ScanState:
        """Read the scan generator's settings back."""
        with self._lock:
            self._catch_up()
            return ScanState(self._console.field_nm, self._console.rotation_deg, self._probe)

    def column_state(self) -> ColumnState:
        """Read defocus and stage back."""
        with self._lock:
            return ColumnState(self._console.defocus_nm, self._console.stage_nm)

    def console(
        self,
        *,
        field_nm: NmPair | None = None,
        rotation_deg: float | None = None,
        defocus_nm: float | None = None,
        stage_nm: tuple[float, float, float] | None = None,
    ) -> None:
        """Change settings as an operator at the vendor's console would."""
        with self._lock:
            self._console = self._console.changed(field_nm, rotation_deg, defocus_nm, stage_nm)

    def fault(self, where: str) -> Fault | None:
        """Return what goes wrong at this place now, if anything; a stuck blanker sticks at once."""
        fault = self.faults.due(where) if self.faults is not None else None
        if fault is not None and fault.kind == "stuck_blanker":
            self.jam_blanker(fault.seconds)
        return fault

    def close(self) -> None:
        """Shut down: cancels, blanks, parks, ends the threads. Harmless when closed already."""
        self._watchdog.close()
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._let_go("release", "the instrument was shut down")
        self.renderer.close()
        self._record.close()

    # --- inside the lock ---

    def _catch_up(self) -> float:
        """End a scan whose time is over; return the present time."""
        now = self.clock.now()
        if self._run is not None and now >= self._run.planned_end_s:
            self._end_run(self._run, self._run.planned_end_s)
        return now

    def _end_run(self, run: ScanRun, at_s: float) -> None:
        executed = run.timeline.executed(at_s - run.started_at_s)
        completed = at_s >= run.planned_end_s
        executed = run.sub_scan.n_positions if completed else executed
        self._run, self._probe = None, "positioned"
        spent_s = self._record.scan_ended(run.sub_scan, executed, at_s)
        run.stopped.set_result(Outcome(at_s, executed, completed, spent_s))

    def _note(self, event: EventName, note: str = "") -> None:
        self._record.note(event, self.clock.now(), note)
