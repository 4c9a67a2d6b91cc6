"""Put a controller together, for a new run or to go on with one, and take it apart again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from controller import events as e
from controller.arbiter import Arbiter
from controller.candidates import CandidateMask, make_grid
from controller.commands import SetAutonomy
from controller.config import RunConfig
from controller.deciding import Decider
from controller.digest import Digest
from controller.errors import CannotResume
from controller.governor import Governor
from controller.guardian import Guardian
from controller.journal import Journal
from controller.lane import Lane
from controller.lease import Latch, Lease
from controller.limits import budget_in_force, planned_electrons
from controller.loop import Controller
from controller.opening import emergency_for, open_instrument, reach
from controller.park import park_instrument
from controller.parts import Parts
from controller.phases import Autonomy, Phase
from controller.recovery import recover
from controller.rundir import RunFolder, manifest_sha256
from controller.state import RunState
from controller.store import RunStore
from controller.suspenders import Suspender, fast_drift, low_disk, silent_operator
from drivers.clock import RealClock
from drivers.errors import DriverError
from drivers.instrument import InstrumentConfig
from drivers.vocabulary import Calibration, Clock, DetectorInfo, FloatArray, SubScan
from models.decision.factory import make_planner
from models.decision.protocols import Outcome, Planner
from models.descriptors.factory import make_describer
from models.descriptors.protocols import Checkpointable, Describer, Refittable


@dataclass(slots=True)
class Session:
    """A controller ready to run, and what the caller may want to look at."""

    controller: Controller
    journal: Journal
    folder: RunFolder
    store: RunStore
    parts: Parts


@contextmanager
def new_session(
    folder: RunFolder,
    config: RunConfig,
    *,
    clock: Clock | None = None,
    guarded: bool = True,
    adapt: Callable[[InstrumentConfig], InstrumentConfig] = reach,
) -> Iterator[Session]:
    """Put together the controller of a new run.

    Parameters
    ----------
    folder : RunFolder
        New, with its manifest.
    config : RunConfig
    clock : Clock, optional
        The wall clock when not given.
    guarded : bool
        Start a guardian; not possible for an instrument that lives in this process.
    adapt : callable
        Says how the instrument is reached; starts its process where it has one.
    """
    clock = clock or RealClock()
    with _held(config, folder) as latch:
        latch.check()
        with _journal(folder, clock) as journal:
            journal.append(
                e.RunOpened(
                    run_id=folder.path.name,
                    manifest_sha256=manifest_sha256(folder),
                    field_nm=config.instrument.scan.field_nm,
                    dose_cell_nm=config.experiment.dose_cell_nm,
                )
            )
            mode = config.experiment.autonomy.mode
            if mode is not journal.state.autonomy:
                chosen = SetAutonomy(mode=mode, by="experiment file")
                journal.append(e.CommandAccepted(command=chosen))
            with _session(folder, config, journal, clock, guarded, adapt) as session:
                yield session


@contextmanager
def resumed_session(
    folder: RunFolder,
    *,
    by: str = "operator",
    clock: Clock | None = None,
    guarded: bool = True,
    adapt: Callable[[InstrumentConfig], InstrumentConfig] = reach,
) -> Iterator[Session]:
    """Put together a controller that goes on with a run, from its next sub-scan.

    Raises
    ------
    CannotResume
        If the run was completed, or something must be acknowledged first.
    """
    clock = clock or RealClock()
    config = folder.config()
    with _held(config, folder) as latch:
        latch.check()
        with _journal(folder, clock) as journal:
            recover(folder, journal)
            if journal.state.needs_acknowledge:
                raise CannotResume(
                    "the run ended in a fault or was parked from outside: look at the instrument, "
                    f"then run 'probewise acknowledge {folder.path}'"
                )
            journal.append(e.RunResumed(by=by))
            with _session(folder, config, journal, clock, guarded, adapt) as session:
                _take_up(session, config)
                yield session


@contextmanager
def _held(config: RunConfig, folder: RunFolder) -> Iterator[Latch]:
    """Hold the instrument's lease."""
    name = config.instrument.instrument.name
    lease = Lease(name, folder.path.name)
    lease.take()
    try:
        yield Latch(name)
    finally:
        lease.release()


@contextmanager
def _journal(folder: RunFolder, clock: Clock) -> Iterator[Journal]:
    journal = Journal(folder.journal, clock)
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def _session(
    folder: RunFolder,
    config: RunConfig,
    journal: Journal,
    clock: Clock,
    guarded: bool,
    adapt: Callable[[InstrumentConfig], InstrumentConfig],
) -> Iterator[Session]:
    """Put the pieces together round a journal."""
    reached = adapt(config.instrument)
    with ExitStack() as stack:
        guardian: Guardian | None = None
        if guarded and reached.instrument.serve == "process":
            guardian = Guardian(reached, folder.guardian, folder.path.name)
            guardian.start()
            stack.callback(_let_go, guardian, journal.state)
        store = RunStore(folder, config, _nominal_infos(config))
        stack.callback(_close_store, store, journal.state)
        lane = Lane()
        stack.callback(lane.close)
        parts = _parts(folder, config, journal, clock, reached, store, lane)
        stack.callback(parts.digest.close)
        parts.guardian = guardian
        controller = Controller(parts, holder=folder.path.name)
        parts.governor.when_beam_too_long(_beam_too_long(parts, controller))
        stack.callback(parts.governor.stop_timer)
        journal.when_failing(controller.fail)
        yield Session(controller, journal, folder, store, parts)


def _let_go(guardian: Guardian, state: RunState) -> None:
    """Dismiss the guardian if the instrument is parked or was never used; else let it park."""
    if state.phase in (Phase.IDLE, Phase.SAFE):
        guardian.dismiss()
    else:
        guardian.abandon()


def _close_store(store: RunStore, state: RunState) -> None:
    store.close(finished=state.finish_reason is not None)


def _parts(
    folder: RunFolder,
    config: RunConfig,
    journal: Journal,
    clock: Clock,
    reached: InstrumentConfig,
    store: RunStore,
    lane: Lane,
) -> Parts:
    counter = itertools.count(journal.state.n_ids + 1)

    def new_id() -> str:
        return f"s{next(counter):06d}"

    governor = Governor(config, open_instrument(reached, clock), journal, clock, disk=folder.path)
    describer = _describer(config)
    planner, mask = _planner(config, journal, new_id)
    part = config.experiment
    decider = Decider(
        planner,
        mask,
        lane,
        journal,
        objective=(part.objective.name, dict(part.objective.params)),
        acquisition=(part.planner.acquisition, dict(part.planner.params)),
    )
    abilities = frozenset({"retrain"} if isinstance(describer, Refittable) else ())
    parts = Parts(
        config=config,
        journal=journal,
        governor=governor,
        digest=Digest(folder, store, describer, decider, lane, journal),
        decider=decider,
        arbiter=Arbiter(config.instrument.limits, abilities),
        lane=lane,
        clock=clock,
        suspenders=[],
        new_id=new_id,
        park=_parker(reached),
    )
    parts.suspenders.extend(_suspenders(parts))
    decider.charged(None)
    return parts


def _parker(reached: InstrumentConfig) -> Callable[[str], e.Parked]:
    def park_now(why: str) -> e.Parked:
        try:
            emergency = emergency_for(reached)
        except DriverError as error:
            step = e.ParkStep(name="reach the instrument", ok=False, took_s=0.0, error=str(error))
            return e.Parked(by="controller", why=why, verified_blanked=False, steps=(step,))
        try:
            return park_instrument(reached, emergency, by="controller", why=why)
        finally:
            emergency.close()

    return park_now


def _beam_too_long(parts: Parts, controller: Controller) -> Callable[[float], None]:
    def fire(allowed_s: float) -> None:
        why = f"the beam was on for more than {allowed_s:.3g} s in one exposure"
        cause = DriverError(why)
        controller.blame(cause)
        parts.journal.append(parts.park(why))
        controller.fail(cause)

    return fire


def _suspenders(parts: Parts) -> list[Suspender]:
    limits, state, wishes = parts.config.instrument.limits, parts.state, parts.wishes

    def silence_s() -> float | None:
        if state.autonomy is Autonomy.AUTO:
            return None
        return time.monotonic() - wishes.operator_spoke_at_s

    return [
        low_disk(parts.governor.checks.free_disk_bytes, limits),
        fast_drift(lambda: state.drift_nm_per_min, limits),
        silent_operator(silence_s, limits),
        *parts.governor.suspenders(),
    ]


def _describer(config: RunConfig) -> Describer:
    part = config.experiment.descriptor
    options = dict(config.describer_options()) if part.kind != "null" else {}
    if part.kind == "linear":
        options.setdefault("sub_scan_shape", config.experiment.sub_scan.shape)
    return make_describer(part.kind, options)


def _planner(
    config: RunConfig, journal: Journal, new_id: Callable[[], str]
) -> tuple[Planner, CandidateMask]:
    experiment = config.experiment
    part = experiment.sub_scan
    template = SubScan(
        "template", (0.0, 0.0), part.fov_nm, part.shape, part.dwell_us, part.rotation_deg
    )
    grid = make_grid(config)
    planner = make_planner(
        experiment.planner.kind,
        grid,
        template,
        new_id,
        experiment.experiment.seed,
        (experiment.objective.name, dict(experiment.objective.params)),
        (experiment.planner.acquisition, dict(experiment.planner.params)),
        {key: float(value) for key, value in experiment.planner.options.items()},
    )
    budget = budget_in_force(experiment.budget, config.instrument.limits, journal.state)
    electrons = planned_electrons(template, config.instrument)
    mask = CandidateMask(grid, template, electrons, budget.max_local_dose_e_per_A2)
    return planner, mask


def _nominal_infos(config: RunConfig) -> dict[str, DetectorInfo]:
    """Return what the instrument file says of each detector, before it is connected."""
    return {
        part.name: DetectorInfo(
            name=part.name,
            kind=part.kind,
            dtype=part.dtype or "float32",
            frame_shape=part.frame_shape,
            saturation=part.saturation,
            calibration=Calibration(
                mrad_per_px=part.mrad_per_px, rotation_deg=part.rotation_deg, flip=part.flip
            ),
        )
        for part in config.instrument.detector
    }


def _take_up(session: Session, config: RunConfig) -> None:
    """Bring describer and planner to where the journal says they were."""
    state, parts = session.journal.state, session.parts
    survey = [o.id for o in state.outcomes.values() if o.purpose == "survey" and o.stored]
    if survey:
        parts.survey = session.store.read(survey[-1])
    describer = parts.digest.describer
    if state.encoder_version and isinstance(describer, Checkpointable):
        describer.restore(session.folder.load_arrays(state.encoder_checkpoint))
    measured = [o for o in state.outcomes.values() if o.purpose in ("measure", "forced")]
    for outcome in measured:
        if outcome.stored and not outcome.summary and state.encoder_version:
            parts.digest.describe_late(outcome.id)
    names = next((o.names for o in measured if o.names), ())
    for outcome in measured:
        summary: FloatArray = np.asarray(outcome.summary, dtype=np.float64)
        if not outcome.summary:
            summary = np.full(len(names), np.nan)
        if not names:
            parts.decider.spent(outcome.sub_scan)
        else:
            parts.decider.planner.ingest(
                Outcome(
                    id=outcome.id,
                    sub_scan=outcome.sub_scan,
                    summary=summary,
                    names=names,
                    encoder_version=outcome.encoder_version,
                    source="operator" if outcome.purpose == "forced" else "planner",
                )
            )
    parts.decider.regions_changed()
    parts.decider.charged(None)
    parts.decider.steer_now()
