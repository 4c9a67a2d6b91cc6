"""The experiment file: what to look for, how, with how much dose; frozen and checked.

An experiment names an instrument file. Reading files and explaining what is wrong with them is
in `controller.loading`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from controller.phases import Autonomy
from drivers.instrument import InstrumentConfig, Name, Part, PositivePair

Shape = tuple[PositiveInt, PositiveInt]


class ExperimentPart(Part):
    """``[experiment]``: what it is called, on which instrument, whose it is."""

    name: Name
    instrument: str
    """Path of the instrument file, relative to this one."""
    seed: int = 0
    operator: str = ""
    sample: str = ""
    proposal: str = ""
    note: str = ""


class SurveyPart(Part):
    """``[survey]``: one overview image before anything is decided."""

    enabled: bool = True
    fov_nm: PositivePair | None = None
    """Size; the whole field when not given."""
    shape: Shape = (256, 256)
    dwell_us: PositiveFloat = 2.0
    max_dose_e_per_A2: PositiveFloat
    """Budget of the survey itself; charged to the total as well."""
    detectors: tuple[str, ...] | None = None
    """Detectors that record it; all imaging detectors when not given."""


class AnchorPart(Part):
    """``[[anchor]]``: a place that is scanned again and again to see drift and damage."""

    name: Name
    center_nm: tuple[float, float]
    fov_nm: PositivePair
    shape: Shape = (64, 64)
    dwell_us: PositiveFloat = 2.0
    every_n: PositiveInt = 20
    """Scanned before the first and after every so many sub-scans."""
    max_dose_e_per_A2: PositiveFloat
    """Budget of this anchor; it is no longer scanned when that is spent."""


class SubScanPart(Part):
    """``[sub_scan]``: what one measurement looks like."""

    fov_nm: PositivePair
    shape: Shape
    dwell_us: PositiveFloat
    rotation_deg: float = 0.0
    detectors: tuple[str, ...] | None = None
    """Detectors that record it; all of them when not given."""


class CandidatesPart(Part):
    """``[candidates]``: where sub-scans may be."""

    stride_nm: PositivePair | None = None
    """Distance between candidate centres; the size of a sub-scan when not given."""
    margin_nm: NonNegativeFloat = 0.0
    """Kept free along the edges of the field, for drift."""


class DescriptorPart(Part):
    """``[descriptor]``: how frames become numbers."""

    kind: str = "linear"
    detector: str | None = None
    """Which detector is described; the first when not given."""
    options: dict[str, float | int | str | bool] = Field(default_factory=dict)


class ObjectivePart(Part):
    """``[objective]``: which of those numbers is sought."""

    name: str = "component"
    params: dict[str, float | str] = Field(default_factory=dict)


class PlannerPart(Part):
    """``[planner]``: how the next sub-scan is chosen."""

    kind: str = "botorch"
    acquisition: str = "ucb"
    params: dict[str, float] = Field(default_factory=dict)
    options: dict[str, float | int | str | bool] = Field(default_factory=dict)


class BudgetPart(Part):
    """``[budget]``: when enough is enough. An operator may move these up to the ceilings."""

    n_sub_scans: PositiveInt
    max_local_dose_e_per_A2: PositiveFloat
    max_total_dose_e_per_A2: PositiveFloat
    max_duration_s: PositiveFloat | None = None
    dose_cell_nm: PositiveFloat | None = None
    """Edge of a cell of the dose map; a quarter of the smaller side of a sub-scan by default."""
    budget_is_the_end: bool = True
    """Whether using up a budget is a normal end (exit 0) or cuts a longer plan short (exit 6)."""


class AutonomyPart(Part):
    """``[autonomy]``: who decides at the start."""

    mode: Autonomy = Autonomy.AUTO
    countdown_s: PositiveFloat = 30.0
    """ADVISE: how long a suggestion waits for an answer before it is not executed."""


class OutputPart(Part):
    """``[output]``: where runs go."""

    folder: str = "runs"
    """Relative to the current directory."""


class ExperimentConfig(Part):
    """An experiment file, whole."""

    experiment: ExperimentPart
    survey: SurveyPart
    anchor: tuple[AnchorPart, ...] = ()
    sub_scan: SubScanPart
    candidates: CandidatesPart = CandidatesPart()
    descriptor: DescriptorPart = DescriptorPart()
    objective: ObjectivePart = ObjectivePart()
    planner: PlannerPart = PlannerPart()
    budget: BudgetPart
    autonomy: AutonomyPart = AutonomyPart()
    output: OutputPart = OutputPart()

    @property
    def dose_cell_nm(self) -> float:
        """Edge of a cell of the dose map in nm."""
        return self.budget.dose_cell_nm or min(self.sub_scan.fov_nm) / 4


class RunConfig(Part):
    """Everything a run needs: the experiment and its instrument, resolved."""

    schema_version: Literal[1] = 1
    experiment: ExperimentConfig
    instrument: InstrumentConfig
    sources: dict[str, str] = Field(default_factory=dict)
    """Files and ``--set`` assignments it came from."""

    def survey_detectors(self) -> tuple[str, ...]:
        """Return the detectors that record the survey."""
        chosen = self.experiment.survey.detectors
        imaging = tuple(d.name for d in self.instrument.detector if d.kind == "image")
        return chosen if chosen is not None else imaging

    def sub_scan_detectors(self) -> tuple[str, ...]:
        """Return the detectors that record sub-scans."""
        chosen = self.experiment.sub_scan.detectors
        return chosen if chosen is not None else tuple(d.name for d in self.instrument.detector)

    def survey_fov_nm(self) -> tuple[float, float]:
        """Return the size of the survey, (y, x) in nm."""
        return self.experiment.survey.fov_nm or self.instrument.scan.field_nm

    def describer_options(self) -> dict[str, Any]:
        """Return what the describer is built with; the detector is always named."""
        part = self.experiment.descriptor
        return {**part.options, "detector": part.detector or self.sub_scan_detectors()[0]}
