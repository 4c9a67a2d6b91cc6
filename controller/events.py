"""Every fact of a run, as frozen data: the vocabulary of the journal.

The state of a run is the fold of these and nothing else. Sub-scans are in specimen nm.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from controller.commands import AnyCommand
from controller.phases import FinishReason, Phase
from drivers.vocabulary import BeamCurrent, NmPair, SubScan

Purpose = Literal["survey", "anchor", "measure", "forced"]
Electrons = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""What the ledger can add up: a number, and none that takes dose away."""


class Event(BaseModel):
    """Base of all events. Values that are not finite keep their meaning in the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class RunOpened(Event):
    """A run begins; its configuration is in manifest.json, whose digest this is."""

    kind: Literal["run_opened"] = "run_opened"
    run_id: str
    manifest_sha256: str
    field_nm: NmPair
    dose_cell_nm: float


class RunResumed(Event):
    """A controller took the run up again."""

    kind: Literal["run_resumed"] = "run_resumed"
    by: str
    reason: str = ""


class PhaseChanged(Event):
    """The controller went from one phase to another."""

    kind: Literal["phase_changed"] = "phase_changed"
    old: Phase
    new: Phase
    reason: str = ""


class CommandAccepted(Event):
    """An operator's command was taken."""

    kind: Literal["command_accepted"] = "command_accepted"
    command: AnyCommand


class CommandRefused(Event):
    """An operator's command was not taken, and why."""

    kind: Literal["command_refused"] = "command_refused"
    command: AnyCommand
    why: str


class CurrentRead(Event):
    """The beam current, with its source and age, and the bound that dose is reckoned with."""

    kind: Literal["current_read"] = "current_read"
    current: BeamCurrent
    upper_pA: float


class Suggested(Event):
    """The planner asks for a sub-scan; the decision card."""

    kind: Literal["suggested"] = "suggested"
    id: str
    sub_scan: SubScan
    acquisition: float
    mean: float
    sd: float
    reasons: dict[str, str] = Field(default_factory=dict)
    n_observed: int
    encoder_version: int
    epoch: int
    pending: tuple[str, ...] = ()
    """Ids that were being acquired while this was decided."""


class SuggestionDropped(Event):
    """A suggestion was not executed, and why."""

    kind: Literal["suggestion_dropped"] = "suggestion_dropped"
    id: str
    why: str


class Intent(Event):
    """What is about to be exposed; on disk before the beam is unblanked."""

    kind: Literal["intent"] = "intent"
    id: str
    purpose: Purpose
    author: str
    sub_scan: SubScan
    offset_nm: NmPair
    """Specimen to scan: what the governor adds to the centre."""
    planned_electrons: Electrons
    planned_dose_e_per_A2: float
    detectors: tuple[str, ...]


class IntentWithdrawn(Event):
    """An intent that was certainly not exposed."""

    kind: Literal["intent_withdrawn"] = "intent_withdrawn"
    id: str
    why: str


class Executed(Event):
    """What was exposed, charged to the dose ledger.

    ``outcome`` is "unknown" when the controller died before it knew: then the whole planned
    dose is charged.
    """

    kind: Literal["executed"] = "executed"
    id: str
    outcome: Literal["complete", "partial", "unknown"]
    sub_scan: SubScan
    positions_executed: int
    electrons: Electrons
    beam_on_s: float
    started_at_s: float | None = None
    ended_at_s: float | None = None


class DoseCharged(Event):
    """Electrons that reached the specimen outside a sub-scan, e.g. a parked, unblanked probe."""

    kind: Literal["dose_charged"] = "dose_charged"
    electrons: Electrons
    at_nm: NmPair
    why: str


class Stored(Event):
    """The frames of a sub-scan are in run.nxs and flushed: the sub-scan is closed."""

    kind: Literal["stored"] = "stored"
    id: str
    datasets: dict[str, str]
    """Dataset path by detector name."""
    indices: dict[str, int]
    """Position along that dataset's step axis, by detector name."""
    nbytes: int


class EncoderPublished(Event):
    """A version of the encoder came into use; its checkpoint is a file of plain arrays."""

    kind: Literal["encoder_published"] = "encoder_published"
    describer: str
    version: int
    checkpoint: str
    sha256: str


class Described(Event):
    """What the describer says of a sub-scan, and its objective at that time."""

    kind: Literal["described"] = "described"
    id: str
    encoder_version: int
    names: tuple[str, ...]
    summary: tuple[float, ...]
    objective: float | None
    health_ok: bool
    health_score: float
    health_why: str = ""


class Relabelled(Event):
    """All earlier outcomes were described again by a new encoder version."""

    kind: Literal["relabelled"] = "relabelled"
    version: int
    names: tuple[str, ...]
    summaries: dict[str, tuple[float, ...]]
    objectives: dict[str, float | None]


class StepTimed(Event):
    """How long each stage of a sub-scan took, in ms; duty cycle is None under a virtual clock."""

    kind: Literal["step_timed"] = "step_timed"
    id: str
    stages_ms: dict[str, float]
    duty_cycle: float | None


class DriftMeasured(Event):
    """The specimen has moved: the only event that changes the specimen-to-scan transform."""

    kind: Literal["drift_measured"] = "drift_measured"
    offset_nm: NmPair
    rate_nm_per_min: float
    confidence: float


class LimitTripped(Event):
    """A limit was met, and what was done."""

    kind: Literal["limit_tripped"] = "limit_tripped"
    rule: str
    value: float
    limit: float
    unit: str
    action: Literal["refused", "hold", "finish", "park"]
    sub_scan_id: str | None = None


class SuspenderTripped(Event):
    """A signal went bad; the run holds until it recovers."""

    kind: Literal["suspender_tripped"] = "suspender_tripped"
    name: str
    why: str


class SuspenderCleared(Event):
    """A signal recovered."""

    kind: Literal["suspender_cleared"] = "suspender_cleared"
    name: str


class Overrun(Event):
    """A detector delivered faster than frames could be taken; the scan was stopped."""

    kind: Literal["overrun"] = "overrun"
    detector: str
    sub_scan_id: str
    waiting_bytes: int
    capacity_bytes: int


class FrameRejected(Event):
    """A sub-scan's frames could not be used; nothing is shown again in its place."""

    kind: Literal["frame_rejected"] = "frame_rejected"
    sub_scan_id: str
    detector: str
    why: str


class ReadBackMismatch(Event):
    """The instrument says other than what was commanded."""

    kind: Literal["read_back_mismatch"] = "read_back_mismatch"
    what: str
    expected: str
    got: str


class ParkStep(BaseModel):
    """One step of parking."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    ok: bool
    took_s: float
    error: str = ""


class Parked(Event):
    """The instrument was parked, by whom, and whether the blanker was read back as closed."""

    kind: Literal["parked"] = "parked"
    by: str
    why: str
    verified_blanked: bool
    beam_stays_on: bool = False
    """There is no blanker, which was consented to: the probe is at its park position."""
    steps: tuple[ParkStep, ...]

    @property
    def at_rest(self) -> bool:
        """Whether the instrument is as safe as it can be."""
        return self.verified_blanked or self.beam_stays_on


class Warned(Event):
    """Something a person should know that did not stop the run."""

    kind: Literal["warned"] = "warned"
    what: str


class Finished(Event):
    """The run ended, and why."""

    kind: Literal["finished"] = "finished"
    reason: FinishReason
    message: str


AnyEvent = Annotated[
    RunOpened
    | RunResumed
    | PhaseChanged
    | CommandAccepted
    | CommandRefused
    | CurrentRead
    | Suggested
    | SuggestionDropped
    | Intent
    | IntentWithdrawn
    | Executed
    | DoseCharged
    | Stored
    | EncoderPublished
    | Described
    | Relabelled
    | StepTimed
    | DriftMeasured
    | LimitTripped
    | SuspenderTripped
    | SuspenderCleared
    | Overrun
    | FrameRejected
    | ReadBackMismatch
    | Parked
    | Warned
    | Finished,
    Field(discriminator="kind"),
]


class Entry(BaseModel):
    """One line of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    seq: int
    utc: str
    t_s: float
    """The controller's monotonic clock."""
    event: AnyEvent


ENTRIES: TypeAdapter[Entry] = TypeAdapter(Entry)
DURABLE = frozenset(
    {
        "run_opened",
        "run_resumed",
        "phase_changed",
        "intent",
        "executed",
        "dose_charged",
        "parked",
        "finished",
        "command_accepted",
        "drift_measured",
        "suggested",
    }
)
"""Kinds that are fsynced: decisions, dose and phase changes."""
