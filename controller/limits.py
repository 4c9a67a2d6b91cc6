"""Limit checks: pure functions from a wish and the state of things to verdicts.

Two tiers: the instrument's ceilings, which nothing moves during a run, and the experiment's
budgets, which an operator may move up to the ceilings. Every exposure, whoever asked for it,
passes `check_exposure`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from controller.commands import SetBudget
from controller.config import BudgetPart
from controller.dose import A2_PER_NM2, DoseLedger
from controller.state import RunState
from drivers.instrument import InstrumentConfig, LimitsPart, ScanPart
from drivers.vocabulary import E_PER_S_PER_PA, BeamCurrent, SubScan

Action = Literal["refused", "hold", "finish", "park"]
_SLACK = 1 + 1e-9
"""Relative slack for rounding in sums of doses."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limit that an exposure would break."""

    rule: str
    value: float
    limit: float
    unit: str
    action: Action

    def __str__(self) -> str:
        return f"{self.rule}: {self.value:.4g} {self.unit} over the limit of {self.limit:.4g}"


@dataclass(frozen=True, slots=True)
class Budget:
    """The experiment's budgets in force, never above the instrument's ceilings."""

    n_sub_scans: int
    max_local_dose_e_per_A2: float
    max_total_dose_e_per_A2: float
    max_duration_s: float


def budget_in_force(part: BudgetPart, limits: LimitsPart, state: RunState) -> Budget:
    """Return the configured budgets with the operator's changes, capped by the ceilings."""
    n, local = part.n_sub_scans, part.max_local_dose_e_per_A2
    total, duration = part.max_total_dose_e_per_A2, part.max_duration_s or limits.max_duration_s
    for command in state.override("set_budget"):
        assert isinstance(command, SetBudget)
        n = command.n_sub_scans or n
        local = command.max_local_dose_e_per_A2 or local
        total = command.max_total_dose_e_per_A2 or total
        duration = command.max_duration_s or duration
    return Budget(
        n_sub_scans=n,
        max_local_dose_e_per_A2=min(local, limits.max_local_dose_e_per_A2),
        max_total_dose_e_per_A2=min(total, limits.max_total_dose_e_per_A2),
        max_duration_s=min(duration, limits.max_duration_s),
    )


def over_ceiling(command: SetBudget, limits: LimitsPart) -> str | None:
    """Return why a change of budget can't be taken, None when it can."""
    pairs = (
        ("max_local_dose_e_per_A2", "e/Å²"),
        ("max_total_dose_e_per_A2", "e/Å²"),
        ("max_duration_s", "s"),
    )
    for name, unit in pairs:
        wished, ceiling = getattr(command, name), getattr(limits, name)
        if wished is not None and wished > ceiling:
            return f"{name} = {wished:g} {unit} is above the instrument's ceiling of {ceiling:g}"
    return None


def beam_on_s(sub_scan: SubScan, scan: ScanPart) -> float:
    """Return how long the beam is on the specimen during a sub-scan, in s.

    Dwell of all positions, settling before the first, flyback between lines.
    """
    extra_us = scan.settle_us + (sub_scan.shape[0] - 1) * scan.flyback_us
    return sub_scan.scan_time_s + extra_us * 1e-6


def planned_electrons(sub_scan: SubScan, instrument: InstrumentConfig) -> float:
    """Return the electrons of a sub-scan, reckoned with the upper bound of the current."""
    blanking_s = 2 * instrument.beam.blank_latency_us * 1e-6
    seconds = beam_on_s(sub_scan, instrument.scan) + blanking_s
    return instrument.beam.upper_pA * E_PER_S_PER_PA * seconds


def check_geometry(
    scan_coords: SubScan, instrument: InstrumentConfig, max_positions: int
) -> Iterator[Verdict]:
    """Yield what is wrong with where and how a sub-scan (in scan coordinates) would go."""
    scan, limits = instrument.scan, instrument.limits
    reach = np.abs(scan_coords.corners_nm()).max(axis=0)
    for axis, name in ((0, "y"), (1, "x")):
        half = scan.field_nm[axis] / 2
        if reach[axis] > half * (1 + 1e-6):
            yield Verdict(f"field, {name} from its centre", reach[axis], half, "nm", "refused")
        if limits.max_fov_nm and scan_coords.fov_nm[axis] > limits.max_fov_nm[axis] * _SLACK:
            yield Verdict(
                f"field of view, {name}",
                scan_coords.fov_nm[axis],
                limits.max_fov_nm[axis],
                "nm",
                "refused",
            )
    dwell_us = scan_coords.dwell_us
    if dwell_us > scan.max_dwell_us:
        yield Verdict("dwell time", dwell_us, scan.max_dwell_us, "µs", "refused")
    if dwell_us < scan.min_dwell_us:
        yield Verdict("shortest dwell time", dwell_us, scan.min_dwell_us, "µs", "refused")
    if scan_coords.n_positions > max_positions:
        yield Verdict("positions", scan_coords.n_positions, max_positions, "", "refused")
    longest_ms = max(dwell_us, scan.settle_us, scan.flyback_us) * 1e-3
    if longest_ms > limits.max_stationary_probe_ms:
        yield Verdict(
            "stationary probe", longest_ms, limits.max_stationary_probe_ms, "ms", "refused"
        )


def check_dose(
    sub_scan: SubScan,
    electrons: float,
    ledger: DoseLedger,
    budget: Budget,
    dose_in_flight: float = 0.0,
    electrons_in_flight: float = 0.0,
) -> Iterator[Verdict]:
    """Yield the dose limits that a sub-scan (in specimen nm) would break.

    ``dose_in_flight`` in e/Å² is on its way to places the sub-scan may share;
    ``electrons_in_flight`` are all that are on their way: they count in the total.
    """
    peak = ledger.peak_with(sub_scan, electrons) + dose_in_flight
    if not peak <= budget.max_local_dose_e_per_A2 * _SLACK:
        yield Verdict("local dose", peak, budget.max_local_dose_e_per_A2, "e/Å²", "refused")
    field_A2 = ledger.field_nm[0] * ledger.field_nm[1] * A2_PER_NM2
    total = ledger.total_e_per_A2 + (electrons + electrons_in_flight) / field_A2
    if not total <= budget.max_total_dose_e_per_A2 * _SLACK:
        yield Verdict("total dose", total, budget.max_total_dose_e_per_A2, "e/Å²", "finish")


def check_current(current: BeamCurrent | None, instrument: InstrumentConfig) -> Iterator[Verdict]:
    """Yield what is wrong with the beam current: unknown, above its bound, or too old."""
    beam = instrument.beam
    if current is None or not current.value_pA > 0:
        yield Verdict("beam current unknown", 0.0, 0.0, "pA", "refused")
        return
    if not current.value_pA <= beam.upper_pA * _SLACK:
        yield Verdict("beam current", current.value_pA, beam.upper_pA, "pA", "hold")
    if beam.current_max_age_s is not None and not current.age_s <= beam.current_max_age_s:
        yield Verdict("age of beam current", current.age_s, beam.current_max_age_s, "s", "hold")


def check_resources(
    *,
    elapsed_s: float,
    scan_s: float,
    free_bytes: float,
    need_bytes: float,
    budget: Budget,
    limits: LimitsPart,
) -> Iterator[Verdict]:
    """Yield limits of time and disk that a sub-scan would break."""
    if elapsed_s + scan_s > budget.max_duration_s:
        yield Verdict("duration", elapsed_s + scan_s, budget.max_duration_s, "s", "finish")
    keep = limits.min_free_disk_gb
    left = (free_bytes - need_bytes) / 1e9
    if left < keep:
        yield Verdict("free disk", left, keep, "GB", "hold")
