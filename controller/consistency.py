"""What a valid experiment and a valid instrument file may still get wrong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from controller.candidates import make_grid_for, rotated_size_nm
from controller.config import DescriptorPart, ExperimentConfig, ObjectivePart, PlannerPart
from controller.problems import Fault, did_you_mean, got
from controller.toml_lines import KeyPath
from drivers.instrument import InstrumentConfig, LimitsPart
from drivers.vocabulary import NmPair, SubScan
from models.decision.factory import PLANNERS
from models.decision.objectives import make_objective
from models.descriptors.factory import DESCRIBERS

OBJECTIVES = ("component", "channel", "variance", "novelty")
ACQUISITIONS: dict[str, tuple[str, ...]] = {
    "ucb": ("beta",),
    "log_ei": (),
    "q_log_ei": ("samples",),
    "sd": (),
}
"""Acquisition functions and their parameters; named here since naming must not load PyTorch."""
DESCRIBED_BY = {"channel": "channel", "variance": "linear", "novelty": "linear"}
"""Which describer's numbers an objective needs; other objectives take any."""
_ROUNDING = 1 + 1e-6


def contradictions(experiment: ExperimentConfig, instrument: InstrumentConfig) -> list[Fault]:
    """Return what is wrong with an experiment on an instrument; paths are in its own file."""
    return [
        *_names(experiment, instrument),
        *_budgets(experiment, instrument),
        *_geometry(experiment, instrument),
        *_description(
            experiment, _surveyed(experiment, instrument), _first(experiment, instrument)
        ),
    ]


def _surveyed(experiment: ExperimentConfig, instrument: InstrumentConfig) -> tuple[str, ...]:
    """Return the detectors that record the survey; none without one."""
    if not experiment.survey.enabled:
        return ()
    imaging = tuple(part.name for part in instrument.detector if part.kind == "image")
    chosen = experiment.survey.detectors
    return imaging if chosen is None else chosen


def _first(experiment: ExperimentConfig, instrument: InstrumentConfig) -> str:
    """Return the detector that is described when the experiment names none."""
    return (experiment.sub_scan.detectors or (instrument.detector[0].name,))[0]


def instrument_contradictions(instrument: InstrumentConfig) -> list[Fault]:
    """Return what an instrument file gets wrong in itself; paths are in the instrument file."""
    return [*_generator(instrument), *_beam_and_detectors(instrument)]


def _generator(instrument: InstrumentConfig) -> Iterator[Fault]:
    """Yield what the scan generator's own numbers contradict."""
    scan, limits = instrument.scan, instrument.limits
    if scan.min_dwell_us > scan.max_dwell_us:
        message = f"{scan.min_dwell_us:g} is above scan.max_dwell_us = {scan.max_dwell_us:g}"
        yield Fault(("scan", "min_dwell_us"), message)
    for name in ("settle_us", "flyback_us"):
        value = getattr(scan, name)
        if value * 1e-3 > limits.max_stationary_probe_ms:
            yield Fault(("scan", name), _over_stationary(value, limits))
    at_nm, field_nm = scan.park_position_nm, scan.field_nm
    if at_nm is not None and any(
        abs(p) > f / 2 * _ROUNDING for p, f in zip(at_nm, field_nm, strict=True)
    ):
        message = f"{at_nm[0]:g}, {at_nm[1]:g} nm lies outside the field of {_size(field_nm)} nm"
        yield Fault(("scan", "park_position_nm"), message)


def _beam_and_detectors(instrument: InstrumentConfig) -> Iterator[Fault]:
    """Yield bounds that are the wrong way round."""
    current, upper = instrument.beam.current_pA, instrument.beam.current_upper_pA
    if current is not None and upper is not None and upper < current:
        message = f"{upper:g} is below beam.current_pA = {current:g}"
        yield Fault(("beam", "current_upper_pA"), message)
    for index, part in enumerate(instrument.detector):
        inner, outer = part.inner_mrad, part.outer_mrad
        if inner is not None and outer is not None and inner >= outer:
            message = f"{inner:g} is not below outer_mrad = {outer:g}"
            yield Fault(("detector", index, "inner_mrad"), message)


def _names(experiment: ExperimentConfig, instrument: InstrumentConfig) -> Iterator[Fault]:
    """Yield detectors that are named but not there, and anchors named twice."""
    known = tuple(part.name for part in instrument.detector)
    survey, sub_scan = experiment.survey, experiment.sub_scan
    yield from _detectors(("survey", "detectors"), survey.detectors, known)
    yield from _detectors(("sub_scan", "detectors"), sub_scan.detectors, known)
    imaging = [part.name for part in instrument.detector if part.kind == "image"]
    if survey.enabled and survey.detectors is None and not imaging:
        yield Fault(("survey",), "the instrument has no imaging detector to record a survey with")
    described = experiment.descriptor.detector
    recording = sub_scan.detectors if sub_scan.detectors is not None else known
    if described is not None and described not in recording:
        message = f"'{described}' does not record sub-scans{did_you_mean(described, recording)}"
        yield Fault(("descriptor", "detector"), message)
    names = [anchor.name for anchor in experiment.anchor]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Fault(("anchor", index, "name"), f"two anchors are called '{name}'")


def _detectors(path: KeyPath, named: Sequence[str] | None, known: Sequence[str]) -> Iterator[Fault]:
    if named is None:
        return
    if not named:
        yield Fault(path, f"names no detector; known: {', '.join(known)}")
    for index, name in enumerate(named):
        if name not in known:
            hint = did_you_mean(name, known)
            yield Fault((*path, index), f"the instrument has no detector '{name}'{hint}")
        elif name in named[:index]:
            yield Fault((*path, index), f"detector '{name}' is named twice")


def _budgets(experiment: ExperimentConfig, instrument: InstrumentConfig) -> Iterator[Fault]:
    """Yield budgets above the instrument's ceilings, and a dose map too coarse to guard them."""
    limits = instrument.limits
    part = experiment.budget
    pairs: list[tuple[KeyPath, str, float | None, str]] = [
        (("budget", name), name, getattr(part, name), unit)
        for name, unit in (
            ("max_local_dose_e_per_A2", "e/Å²"),
            ("max_total_dose_e_per_A2", "e/Å²"),
            ("max_duration_s", "s"),
        )
    ]
    local = "max_local_dose_e_per_A2"
    pairs.append((("survey", "max_dose_e_per_A2"), local, _survey_dose(experiment), "e/Å²"))
    for index, anchor in enumerate(experiment.anchor):
        place: KeyPath = ("anchor", index, "max_dose_e_per_A2")
        pairs.append((place, local, anchor.max_dose_e_per_A2, "e/Å²"))
    for path, name, value, unit in pairs:
        ceiling = getattr(limits, name)
        if value is not None and value > ceiling:
            message = f"{value:g} {unit} is above the instrument's ceiling limits.{name} = "
            yield Fault(path, f"{message}{ceiling:g} {unit}")
    smaller = min(experiment.sub_scan.fov_nm)
    if part.dose_cell_nm is not None and part.dose_cell_nm > smaller:
        message = f"{part.dose_cell_nm:g} nm is wider than a sub-scan ({smaller:g} nm): "
        yield Fault(("budget", "dose_cell_nm"), message + "local dose would be understated")


def _survey_dose(experiment: ExperimentConfig) -> float | None:
    return experiment.survey.max_dose_e_per_A2 if experiment.survey.enabled else None


def _geometry(experiment: ExperimentConfig, instrument: InstrumentConfig) -> Iterator[Fault]:
    """Yield scans that do not fit the field, the scan generator or the limits."""
    survey, part, field_nm = experiment.survey, experiment.sub_scan, instrument.scan.field_nm
    if survey.enabled:
        fov_nm = survey.fov_nm or field_nm
        scan = SubScan("survey", (0.0, 0.0), fov_nm, survey.shape, survey.dwell_us)
        yield from _one_scan(("survey",), scan, instrument)
    for index, anchor in enumerate(experiment.anchor):
        scan = SubScan("anchor", anchor.center_nm, anchor.fov_nm, anchor.shape, anchor.dwell_us)
        yield from _one_scan(("anchor", index), scan, instrument)
    scan = SubScan("id", (0.0, 0.0), part.fov_nm, part.shape, part.dwell_us, part.rotation_deg)
    misfits = list(_one_scan(("sub_scan",), scan, instrument))
    yield from misfits
    try:
        make_grid_for(experiment, field_nm)
    except ValueError as error:
        if not any(fault.path[-1] == "fov_nm" for fault in misfits):
            yield Fault(("candidates",), str(error))


def _one_scan(path: KeyPath, scan: SubScan, instrument: InstrumentConfig) -> Iterator[Fault]:
    generator, limits = instrument.scan, instrument.limits
    size, field_nm = rotated_size_nm(scan.fov_nm, scan.rotation_deg), generator.field_nm
    reach = [abs(c) + s / 2 for c, s in zip(scan.center_nm, size, strict=True)]
    if any(r > f / 2 * _ROUNDING for r, f in zip(reach, field_nm, strict=True)):
        turned = f" turned by {scan.rotation_deg:g}°" if scan.rotation_deg else ""
        where = f" at {_size(scan.center_nm)} nm" if any(scan.center_nm) else ""
        message = f"{_size(scan.fov_nm)} nm{turned}{where} does not fit in the field of "
        yield Fault((*path, "fov_nm"), f"{message}{_size(field_nm)} nm")
    largest = limits.max_fov_nm or scan.fov_nm
    if any(s > m * _ROUNDING for s, m in zip(scan.fov_nm, largest, strict=True)):
        message = f"{_size(scan.fov_nm)} nm is above the instrument's ceiling limits.max_fov_nm"
        yield Fault((*path, "fov_nm"), f"{message} = {_size(largest)} nm")
    if not generator.min_dwell_us <= scan.dwell_us <= generator.max_dwell_us:
        message = f"{scan.dwell_us:g} µs is outside what the scan generator can do, "
        span = f"{generator.min_dwell_us:g} to {generator.max_dwell_us:g} µs"
        yield Fault((*path, "dwell_us"), message + span)
    elif scan.dwell_us * 1e-3 > limits.max_stationary_probe_ms:
        yield Fault((*path, "dwell_us"), _over_stationary(scan.dwell_us, limits))
    if scan.n_positions > generator.max_positions:
        message = f"{scan.n_positions} positions are more than scan.max_positions = "
        yield Fault((*path, "shape"), f"{message}{generator.max_positions}")


def wrong_choices(
    descriptor: DescriptorPart, objective: ObjectivePart, planner: PlannerPart
) -> Iterator[Fault]:
    """Yield describers, planners, objectives, acquisitions and options that do not exist."""
    chosen: tuple[tuple[KeyPath, str, tuple[str, ...]], ...] = (
        (("descriptor", "kind"), descriptor.kind, tuple(DESCRIBERS)),
        (("planner", "kind"), planner.kind, tuple(PLANNERS)),
        (("planner", "acquisition"), planner.acquisition, tuple(ACQUISITIONS)),
        (("objective", "name"), objective.name, OBJECTIVES),
    )
    for path, name, known in chosen:
        if name not in known:
            what = "acquisition" if path[-1] == "acquisition" else path[0]
            yield Fault(path, f"there is no {what} '{name}'{did_you_mean(name, known)}")
    yield from _options("descriptor", descriptor.kind, descriptor.options, DESCRIBERS)
    yield from _options("planner", planner.kind, planner.options, PLANNERS)
    for name, value in planner.options.items():
        if isinstance(value, (str, bool)):
            yield Fault(("planner", "options", name), f"must be a number{got(value)}")
    takes = ACQUISITIONS.get(planner.acquisition, tuple(planner.params))
    for name in planner.params:
        if name not in takes:
            what = f"acquisition '{planner.acquisition}' takes no such parameter"
            yield Fault(("planner", "params", name), what + did_you_mean(name, takes))
    if objective.name in OBJECTIVES:
        try:
            make_objective(objective.name, objective.params)
        except ValueError as error:
            yield Fault(("objective", "params"), str(error))


def _options(
    table: str, kind: str, options: Iterable[str], known: Mapping[str, Sequence[str]]
) -> Iterator[Fault]:
    """Yield options that a describer or planner of this kind does not take."""
    for name in options:
        if kind in known and name not in known[kind]:
            message = f"{table} '{kind}' takes no such option{did_you_mean(name, known[kind])}"
            yield Fault((table, "options", name), message)


def _description(
    experiment: ExperimentConfig, surveyed: Sequence[str], first: str
) -> Iterator[Fault]:
    """Yield what the describer or the objective would not get from the rest."""
    descriptor, objective = experiment.descriptor, experiment.objective
    detector = descriptor.detector or first
    if descriptor.kind == "linear" and detector not in surveyed:
        message = (
            f"'linear' is fitted on the survey of detector '{detector}', which is not recorded"
        )
        yield Fault(("descriptor", "kind"), f"{message}: survey with it, or use 'channel'")
    needs = DESCRIBED_BY.get(objective.name, descriptor.kind)
    if descriptor.kind in DESCRIBERS and needs != descriptor.kind:
        message = f"'{objective.name}' needs numbers of the descriptor '{needs}', "
        yield Fault(("objective", "name"), f"{message}but descriptor.kind is '{descriptor.kind}'")


def _over_stationary(us: float, limits: LimitsPart) -> str:
    ceiling = limits.max_stationary_probe_ms
    message = f"{us:g} µs leaves the probe in one place longer than the instrument's ceiling "
    return f"{message}limits.max_stationary_probe_ms = {ceiling:g} ms"


def _size(pair: NmPair) -> str:
    return f"{pair[0]:g} x {pair[1]:g}"
