"""Before a run: time, dose, disk, number of decisions, and limits that would trip.

Nothing here touches an instrument.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from controller.config import RunConfig
from controller.dose import DoseLedger
from controller.limits import check_geometry
from controller.planned import (
    Exposure,
    Plan,
    allowed_candidates,
    covered_fraction,
    dose_before,
    make_plan,
    most_disjoint,
)
from controller.preflight_result import PER_A2, Check, Preflight, Trip, render
from drivers.errors import DriverUnavailable
from drivers.registry import load as load_driver

__all__ = ["Preflight", "preflight", "render"]

_SLACK = 1 + 1e-9


def preflight(config: RunConfig) -> Preflight:
    """Reckon a run beforehand.

    Raises
    ------
    ValueError
        If no candidate fits in the field.
    """
    plan = make_plan(config)
    ledger = dose_before(plan, config)
    allowed = allowed_candidates(plan, config, ledger)
    overlap = config.experiment.planner.options.get("max_overlap", 0.0)
    room = most_disjoint(plan, allowed, float(overlap))
    decisions = _decisions(plan, config, room)
    limited_by = min(decisions, key=lambda name: decisions[name])
    n = decisions[limited_by]
    free = _free_bytes(Path(config.experiment.output.folder))
    nbytes = int(plan.total(lambda e: e.nbytes, n))
    peak = _peak(plan, ledger, n)
    emulated, warnings = _drivers(config)
    checks = tuple(_checks(plan, config, n, peak))
    return Preflight(
        name=config.experiment.experiment.name,
        instrument=config.instrument.instrument.name,
        virtual=config.instrument.instrument.virtual,
        emulated=emulated,
        exposures=_exposures(plan, n),
        n_sub_scans=n,
        n_candidates=int(allowed.sum()),
        decisions=decisions,
        limited_by=limited_by,
        seconds=plan.total(lambda e: e.seconds, n),
        electrons=plan.total(lambda e: e.electrons, n),
        total_dose_e_per_A2=_over_field(plan, config, n),
        peak_local_dose_e_per_A2=peak,
        nbytes=nbytes,
        free_bytes=free,
        coverage=covered_fraction(plan, n, config.instrument.scan.field_nm),
        dose_cell_nm=config.experiment.dose_cell_nm,
        upper_pA=config.instrument.beam.upper_pA,
        checks=checks,
        trips=tuple(_trips(plan, config, decisions, free - nbytes)),
        missing=tuple(_missing(config)),
        warnings=warnings,
        refusals=tuple(_refusals(plan, config, ledger, int(allowed.sum()))),
    )


def _field_A2(config: RunConfig) -> float:
    height_nm, width_nm = config.instrument.scan.field_nm
    return height_nm * width_nm * 100.0


def _over_field(plan: Plan, config: RunConfig, n: int) -> float:
    """Return all electrons of a run over the area of the field, in e/Å²."""
    return plan.total(lambda e: e.electrons, n) / _field_A2(config)


def _max_duration_s(config: RunConfig) -> float:
    return config.experiment.budget.max_duration_s or config.instrument.limits.max_duration_s


def _decisions(plan: Plan, config: RunConfig, room: int) -> dict[str, int]:
    """Return the most sub-scans each limit allows by itself."""
    budget = config.experiment.budget
    total = budget.max_total_dose_e_per_A2 * _field_A2(config)
    n = budget.n_sub_scans
    return {
        "n_sub_scans": n,
        "total dose": plan.most(lambda e: e.electrons, total, n),
        "candidates": min(room, n),
        "duration": plan.most(lambda e: e.seconds, _max_duration_s(config), n),
    }


def _exposures(plan: Plan, n: int) -> tuple[tuple[Exposure, int], ...]:
    """Return every kind of exposure and how often it is made."""
    survey = [(plan.survey, 1)] if plan.survey else []
    anchors = [(anchor.exposure, anchor.scans(n)) for anchor in plan.anchors]
    return (*survey, *anchors, (plan.sub_scan, n))


def _peak(plan: Plan, before: DoseLedger, n: int) -> float:
    """Return the highest local dose: survey with a sub-scan, or with all scans of an anchor."""
    survey = plan.survey.dose_e_per_A2 if plan.survey else 0.0
    anchors = [survey + a.scans(n) * a.exposure.dose_e_per_A2 for a in plan.anchors]
    one_sub_scan = survey + (plan.sub_scan.dose_e_per_A2 if n else 0.0)
    return max(before.peak_e_per_A2, one_sub_scan, *anchors)


def _checks(plan: Plan, config: RunConfig, n: int, peak: float) -> Iterator[Check]:
    budget, limits = config.experiment.budget, config.instrument.limits
    local, total = limits.max_local_dose_e_per_A2, limits.max_total_dose_e_per_A2
    if plan.survey:
        own = config.experiment.survey.max_dose_e_per_A2
        yield Check("survey dose", plan.survey.dose_e_per_A2, own, local, PER_A2)
    for anchor in plan.anchors:
        dose = anchor.scans(n) * anchor.exposure.dose_e_per_A2
        own = anchor.part.max_dose_e_per_A2
        yield Check(f"{anchor.exposure.name} dose", dose, own, local, PER_A2)
    yield Check("highest local dose", peak, budget.max_local_dose_e_per_A2, local, PER_A2)
    over_field = _over_field(plan, config, n)
    yield Check("dose over field", over_field, budget.max_total_dose_e_per_A2, total, PER_A2)
    seconds = plan.total(lambda e: e.seconds, n)
    yield Check("beam-on time", seconds, budget.max_duration_s, limits.max_duration_s, "s")


def _trips(plan: Plan, config: RunConfig, decisions: dict[str, int], left: int) -> Iterator[Trip]:
    """Yield the limits that executing the whole plan would meet."""
    budget, limits = config.experiment.budget, config.instrument.limits
    n = budget.n_sub_scans
    if decisions["total dose"] < n:
        planned, limit = _over_field(plan, config, n), budget.max_total_dose_e_per_A2
        then = f"the run ends after {decisions['total dose']} of {n} sub-scans"
        yield Trip("max_total_dose_e_per_A2", planned, limit, PER_A2, then)
    if decisions["duration"] < n:
        seconds = plan.total(lambda e: e.seconds, n)
        then = f"the run ends after {decisions['duration']} of {n} sub-scans"
        yield Trip("max_duration_s", seconds, _max_duration_s(config), "s", then)
    if decisions["candidates"] < n:
        then = "the run ends when no candidate is left"
        yield Trip("candidates", n, decisions["candidates"], "sub-scans", then)
    if plan.survey and plan.survey.dose_e_per_A2 > _SLACK * (
        own := config.experiment.survey.max_dose_e_per_A2
    ):
        dose = plan.survey.dose_e_per_A2
        yield Trip("survey.max_dose_e_per_A2", dose, own, PER_A2, "the survey is refused")
    for anchor in plan.anchors:
        if anchor.scans(0) == 0:
            dose, own = anchor.exposure.dose_e_per_A2, anchor.part.max_dose_e_per_A2
            rule = f"{anchor.exposure.name}: max_dose_e_per_A2"
            yield Trip(rule, dose, own, PER_A2, "the anchor is never scanned")
    for each, _ in _exposures(plan, n):
        for verdict in check_geometry(each.sub_scan, config.instrument, 2**62):
            rule = f"{each.name}: {verdict.rule}"
            yield Trip(rule, verdict.value, verdict.limit, verdict.unit, "refused")
    if left < limits.min_free_disk_gb * 1e9:
        then = "the run holds until there is room"
        yield Trip("min_free_disk_gb", left / 1e9, limits.min_free_disk_gb, "GB", then)


def _missing(config: RunConfig) -> Iterator[str]:
    """Yield what the run's files will lack."""
    part = config.experiment.experiment
    for name in ("operator", "sample", "proposal"):
        if not getattr(part, name):
            yield f"experiment.{name}"
    if config.instrument.calibration.source in ("", "nominal"):
        yield "calibration.source (instrument file)"
    if config.instrument.beam.current_pA is None:
        yield "beam.current_pA (instrument file)"


def _refusals(plan: Plan, config: RunConfig, ledger: DoseLedger, allowed: int) -> Iterator[str]:
    beam = config.instrument.beam
    configured = beam.current_source == "configured"
    if beam.upper_pA <= 0 or (configured and beam.current_pA is None):
        yield (
            "the beam current is unknown, so dose could not be counted: give beam.current_pA "
            "in the instrument file (or, where it is measured, beam.current_upper_pA)"
        )
    elif not allowed:
        local = config.experiment.budget.max_local_dose_e_per_A2
        yield (
            f"no candidate is allowed: {ledger.peak_e_per_A2:.4g} {PER_A2} before the first "
            f"sub-scan and {plan.sub_scan.dose_e_per_A2:.4g} {PER_A2} for one are above "
            f"budget.max_local_dose_e_per_A2 = {local:.4g}"
        )


def _drivers(config: RunConfig) -> tuple[bool, tuple[str, ...]]:
    """Return whether all drivers are emulated, and warnings about them."""
    warnings, real = [], []
    for name in config.instrument.driver_names():
        try:
            if not load_driver(name).emulated:
                real.append(name)
        except DriverUnavailable as error:
            real.append(name)
            warnings.append(str(error))
    if real and config.instrument.instrument.virtual:
        names = ", ".join(real)
        warnings.append(f"the instrument is marked virtual, but may drive a real beam ({names})")
    return not real, tuple(warnings)


def _free_bytes(folder: Path) -> int:
    """Return the free space where a folder is or would be made."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
