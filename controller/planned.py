"""What a plan would expose: survey, anchors and sub-scans with their time, dose and bytes.

Everything is reckoned with the upper bound of the beam current, as the governor does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from controller.candidates import CandidateMask, make_grid
from controller.config import AnchorPart, RunConfig
from controller.dose import DoseLedger, mean_dose_e_per_A2, probe_dose_e_per_A2
from controller.limits import beam_on_s, planned_electrons
from drivers.instrument import InstrumentConfig
from drivers.vocabulary import DetectorInfo, SubScan
from models.decision.protocols import BoolArray, CandidateGrid
from models.decision.windows import WindowGeometry

ASSUMED_DTYPE = "float32"
"""Counted for detectors whose dtype the instrument file leaves to the driver."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One scan of the plan; all numbers are for doing it once.

    Attributes
    ----------
    seconds : float
        Beam-on time with settling, flyback and blanking.
    dose_e_per_A2 : float
        Electrons over the scanned area.
    probe_dose_e_per_A2 : float
        Electrons per position over the probe's own area.
    sparse : bool
        Whether positions are further apart than the probe is wide.
    nbytes : int
        Uncompressed frames of all its detectors.
    """

    name: str
    sub_scan: SubScan
    seconds: float
    electrons: float
    dose_e_per_A2: float
    probe_dose_e_per_A2: float
    sparse: bool
    nbytes: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """An anchor's scan and how often it may be repeated."""

    part: AnchorPart
    exposure: Exposure

    def scans(self, n_sub_scans: int) -> int:
        """Return how often it is scanned in a run of so many sub-scans."""
        wanted = 1 + n_sub_scans // self.part.every_n
        dose = self.exposure.dose_e_per_A2
        if dose <= 0:
            return wanted
        return min(wanted, math.floor(self.part.max_dose_e_per_A2 / dose * (1 + 1e-9)))


@dataclass(frozen=True, slots=True)
class Plan:
    """All exposures of a run, and where its sub-scans may be."""

    survey: Exposure | None
    anchors: tuple[Anchor, ...]
    sub_scan: Exposure
    grid: CandidateGrid

    def total(self, of: Callable[[Exposure], float], n_sub_scans: int) -> float:
        """Return the sum of a quantity over a run of so many sub-scans."""
        anchors = sum(anchor.scans(n_sub_scans) * of(anchor.exposure) for anchor in self.anchors)
        survey = of(self.survey) if self.survey else 0.0
        return survey + anchors + n_sub_scans * of(self.sub_scan)

    def most(self, of: Callable[[Exposure], float], limit: float, up_to: int) -> int:
        """Return the largest number of sub-scans, at most ``up_to``, that keeps within a limit."""
        low, high = -1, up_to
        while low < high:
            middle = (low + high + 1) // 2
            if self.total(of, middle) <= limit * (1 + 1e-9):
                low = middle
            else:
                high = middle - 1
        return max(low, 0)


def make_plan(config: RunConfig) -> Plan:
    """Return what a configuration would expose.

    Raises
    ------
    ValueError
        If no candidate fits in the field.
    """
    part, survey = config.experiment.sub_scan, config.experiment.survey
    template = SubScan(
        "sub-scan", (0.0, 0.0), part.fov_nm, part.shape, part.dwell_us, part.rotation_deg
    )
    names = config.sub_scan_detectors()
    overview = None
    if survey.enabled:
        scan = SubScan("survey", (0.0, 0.0), config.survey_fov_nm(), survey.shape, survey.dwell_us)
        overview = exposure(scan, config.instrument, config.survey_detectors())
    anchors = tuple(
        Anchor(each, exposure(_anchor_scan(each), config.instrument, names))
        for each in config.experiment.anchor
    )
    sub_scan = exposure(template, config.instrument, names)
    return Plan(overview, anchors, sub_scan, make_grid(config))


def _anchor_scan(part: AnchorPart) -> SubScan:
    return SubScan(f"anchor {part.name}", part.center_nm, part.fov_nm, part.shape, part.dwell_us)


def exposure(scan: SubScan, instrument: InstrumentConfig, detectors: tuple[str, ...]) -> Exposure:
    """Return time, dose and bytes of one scan."""
    electrons = planned_electrons(scan, instrument)
    probe_nm = instrument.beam.probe_size_nm
    return Exposure(
        name=scan.id,
        sub_scan=scan,
        seconds=beam_on_s(scan, instrument.scan) + 2 * instrument.beam.blank_latency_us * 1e-6,
        electrons=electrons,
        dose_e_per_A2=mean_dose_e_per_A2(scan, electrons),
        probe_dose_e_per_A2=probe_dose_e_per_A2(scan, electrons, probe_nm),
        sparse=max(scan.pixel_nm) > probe_nm,
        nbytes=_nbytes(scan, instrument, detectors),
    )


def _nbytes(scan: SubScan, instrument: InstrumentConfig, detectors: tuple[str, ...]) -> int:
    infos = [
        DetectorInfo(part.name, part.kind, part.dtype or ASSUMED_DTYPE, part.frame_shape)
        for part in instrument.detector
        if part.name in detectors
    ]
    return sum(info.expected_nbytes(scan) for info in infos)


def dose_before(plan: Plan, config: RunConfig) -> DoseLedger:
    """Return the dose map as it is when the first sub-scan is decided: survey and anchors once."""
    ledger = DoseLedger(config.instrument.scan.field_nm, config.experiment.dose_cell_nm)
    if plan.survey:
        ledger.charge(plan.survey.sub_scan, plan.survey.electrons)
    for anchor in plan.anchors:
        if anchor.scans(0):
            ledger.charge(anchor.exposure.sub_scan, anchor.exposure.electrons)
    return ledger


def allowed_candidates(plan: Plan, config: RunConfig, ledger: DoseLedger) -> BoolArray:
    """Return which candidates the local budget allows at that dose: (n,)."""
    template, electrons = plan.sub_scan.sub_scan, plan.sub_scan.electrons
    limit = config.experiment.budget.max_local_dose_e_per_A2
    mask = CandidateMask(plan.grid, template, electrons, limit)
    mask.update(ledger)
    return mask.allowed


def most_disjoint(plan: Plan, allowed: BoolArray, max_overlap: float) -> int:
    """Return how many allowed windows fit beside each other when taken row by row."""
    geometry = WindowGeometry(plan.grid, plan.sub_scan.sub_scan.rotation_deg)
    centers, free = plan.grid.centers_nm(), allowed.copy()
    count = 0
    for index in range(plan.grid.n):
        if free[index]:
            y, x = centers[index]
            window = replace(plan.sub_scan.sub_scan, center_nm=(float(y), float(x)))
            free &= ~geometry.overlapping(window, max_overlap)
            free[index] = False
            count += 1
    return count


def covered_fraction(plan: Plan, n_sub_scans: int, field_nm: tuple[float, float]) -> float:
    """Return the share of the field that so many sub-scans cover when none overlap, at most 1."""
    area = n_sub_scans * plan.sub_scan.sub_scan.area_nm2
    return float(np.minimum(area / (field_nm[0] * field_nm[1]), 1.0))
