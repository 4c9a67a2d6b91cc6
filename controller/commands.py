"""Every operator command, as frozen data: who asks for what, and why.

The id makes a command idempotent; ``if_revision`` refuses it when the run has moved on since
the operator looked.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter

from controller.phases import Autonomy
from drivers.vocabulary import NmPair, Region


class Command(BaseModel):
    """What all commands have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str = Field(default_factory=lambda: uuid4().hex, min_length=1, max_length=64)
    by: str = "operator"
    reason: str = ""
    if_revision: int | None = None
    """Sequence number of the newest journal entry the operator had seen."""


class Pause(Command):
    """Pause after this sub-scan, or now: then it is cancelled and its dose charged."""

    cmd: Literal["pause"] = "pause"
    now: bool = False


class Resume(Command):
    """Go on with the next sub-scan; nothing is exposed again."""

    cmd: Literal["resume"] = "resume"


class Step(Command):
    """Execute one sub-scan, then pause again."""

    cmd: Literal["step"] = "step"


class Abort(Command):
    """Cancel, blank, park and end the run."""

    cmd: Literal["abort"] = "abort"


class Park(Command):
    """Stop, blank and park at once; the run ends."""

    cmd: Literal["park"] = "park"


class SetAutonomy(Command):
    """Change who decides."""

    cmd: Literal["autonomy"] = "autonomy"
    mode: Autonomy


class Accept(Command):
    """Let the suggestion that is waiting be executed (ADVISE)."""

    cmd: Literal["accept"] = "accept"
    suggestion_id: str


class Veto(Command):
    """Drop a suggestion that is waiting or next."""

    cmd: Literal["veto"] = "veto"
    suggestion_id: str


class Force(Command):
    """Scan here next. The same limits apply as to any sub-scan."""

    cmd: Literal["force"] = "force"
    center_nm: NmPair
    fov_nm: tuple[PositiveFloat, PositiveFloat] | None = None
    shape: tuple[PositiveInt, PositiveInt] | None = None
    dwell_us: PositiveFloat | None = None


class Exclude(Command):
    """Never suggest a sub-scan that touches this region."""

    cmd: Literal["exclude"] = "exclude"
    region: Region


class Prioritise(Command):
    """Prefer (weight > 1) or avoid (weight < 1) this region."""

    cmd: Literal["prioritise"] = "prioritise"
    region: Region
    weight: PositiveFloat = 3.0


class TargetLatent(BaseModel):
    """A point in latent space to look for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: Literal["latent"] = "latent"
    z: tuple[float, ...] = Field(min_length=1)


class TargetBox(BaseModel):
    """Look for more of what is inside this region."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["box"] = "box"
    region: Region


class Retarget(Command):
    """Look for what resembles a latent or a region."""

    cmd: Literal["retarget"] = "retarget"
    target: Annotated[TargetLatent | TargetBox, Field(discriminator="kind")]


class SetObjective(Command):
    """Steer by another objective; earlier outcomes are scored again."""

    cmd: Literal["set_objective"] = "set_objective"
    name: str
    params: dict[str, float | str] = Field(default_factory=dict)


class SetAcquisition(Command):
    """Choose the next sub-scan by another acquisition function, or explore more or less."""

    cmd: Literal["set_acquisition"] = "set_acquisition"
    name: str
    params: dict[str, float] = Field(default_factory=dict)


class SetBudget(Command):
    """Move the experiment's budgets, up to the instrument's ceilings."""

    cmd: Literal["set_budget"] = "set_budget"
    n_sub_scans: PositiveInt | None = None
    max_total_dose_e_per_A2: PositiveFloat | None = None
    max_local_dose_e_per_A2: PositiveFloat | None = None
    max_duration_s: PositiveFloat | None = None


class Annotate(Command):
    """Write a remark into the journal."""

    cmd: Literal["annotate"] = "annotate"
    text: str = Field(min_length=1)


class Retrain(Command):
    """Make a new encoder version from what was measured, and describe everything again."""

    cmd: Literal["retrain"] = "retrain"


class Freeze(Command):
    """Keep (or stop keeping) the present encoder version."""

    cmd: Literal["freeze"] = "freeze"
    frozen: bool = True


class Undo(Command):
    """Take back the last override (a region, an objective, an acquisition, a budget)."""

    cmd: Literal["undo"] = "undo"


class Acknowledge(Command):
    """Confirm, after a fault or an outside park, that the instrument may be used again."""

    cmd: Literal["acknowledge"] = "acknowledge"


AnyCommand = Annotated[
    Pause
    | Resume
    | Step
    | Abort
    | Park
    | SetAutonomy
    | Accept
    | Veto
    | Force
    | Exclude
    | Prioritise
    | Retarget
    | SetObjective
    | SetAcquisition
    | SetBudget
    | Annotate
    | Retrain
    | Freeze
    | Undo
    | Acknowledge,
    Field(discriminator="cmd"),
]
COMMANDS: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)
OVERTAKING = frozenset({"abort", "park", "pause"})
"""Commands that go ahead of all others in the queue."""
UNDOABLE = frozenset({"exclude", "prioritise", "set_objective", "set_acquisition", "set_budget"})
"""Overrides that `undo` takes back; a measurement never can be."""
