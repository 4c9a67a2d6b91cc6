"""The phases of a run, which follows which, and which command is allowed in each.

```
IDLE → CONNECTING → READY → SURVEYING → RUNNING ⇄ HOLDING / PAUSED → FINISHING → PARKING → SAFE
```

PARKING can be reached from everywhere; ABORTING and FAULT lead only there. SAFE goes back to
READY by an operator's `acknowledge` alone. *Why* a run ended is a separate enum.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """What the controller is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    """Connected, blanked, parked."""
    SURVEYING = "surveying"
    RUNNING = "running"
    HOLDING = "holding"
    """Blanked and waiting for something to recover, or for an operator's answer."""
    PAUSED = "paused"
    """Blanked and waiting for an operator's `resume` or `step`."""
    FINISHING = "finishing"
    """Blanked; writing what is left."""
    ABORTING = "aborting"
    FAULT = "fault"
    PARKING = "parking"
    SAFE = "safe"


class Autonomy(StrEnum):
    """Who decides what is exposed next."""

    AUTO = "auto"
    ADVISE = "advise"
    """Each suggestion waits for `accept` or `veto`; no answer means it is not executed."""
    MANUAL = "manual"
    """Only sub-scans an operator forces are executed."""


class FinishReason(StrEnum):
    """Why a run ended."""

    COMPLETED = "completed"
    """The plan was done, or nothing allowed was left to do."""
    BUDGET = "budget"
    LIMIT = "limit"
    ABORTED = "aborted"
    FAULT = "fault"


P = Phase
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    P.IDLE: frozenset({P.CONNECTING, P.PARKING}),
    P.CONNECTING: frozenset({P.READY, P.FAULT, P.ABORTING, P.PARKING}),
    P.READY: frozenset(
        {P.SURVEYING, P.RUNNING, P.FINISHING, P.PAUSED, P.HOLDING, P.FAULT, P.ABORTING, P.PARKING}
    ),
    P.SURVEYING: frozenset(
        {P.RUNNING, P.HOLDING, P.PAUSED, P.FINISHING, P.FAULT, P.ABORTING, P.PARKING}
    ),
    P.RUNNING: frozenset({P.HOLDING, P.PAUSED, P.FINISHING, P.FAULT, P.ABORTING, P.PARKING}),
    P.HOLDING: frozenset(
        {P.SURVEYING, P.RUNNING, P.PAUSED, P.FINISHING, P.FAULT, P.ABORTING, P.PARKING}
    ),
    P.PAUSED: frozenset(
        {P.SURVEYING, P.RUNNING, P.HOLDING, P.FINISHING, P.FAULT, P.ABORTING, P.PARKING}
    ),
    P.FINISHING: frozenset({P.FAULT, P.ABORTING, P.PARKING}),
    P.ABORTING: frozenset({P.PARKING}),
    P.FAULT: frozenset({P.PARKING}),
    P.PARKING: frozenset({P.SAFE, P.FAULT}),
    P.SAFE: frozenset({P.READY, P.CONNECTING, P.PARKING}),
}

EXPOSING: frozenset[Phase] = frozenset({P.SURVEYING, P.RUNNING})
"""The only phases in which the governor unblanks."""


class IllegalTransition(Exception):
    """A phase change the table does not know."""

    def __init__(self, old: Phase, new: Phase) -> None:
        super().__init__(f"{old.value} can't become {new.value}")


def check_transition(old: Phase, new: Phase) -> None:
    """Raise `IllegalTransition` unless ``new`` may follow ``old``."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(old, new)


_ACTIVE = frozenset({P.READY, P.SURVEYING, P.RUNNING, P.HOLDING, P.PAUSED})
_STEERABLE = frozenset({P.READY, P.SURVEYING, P.RUNNING, P.HOLDING, P.PAUSED})
_STOPPABLE = _ACTIVE | {P.CONNECTING, P.FINISHING}
_EVERYWHERE = frozenset(Phase)

ALLOWED: dict[str, frozenset[Phase]] = {
    "pause": frozenset({P.SURVEYING, P.RUNNING, P.HOLDING}),
    "resume": frozenset({P.PAUSED, P.HOLDING}),
    "step": frozenset({P.PAUSED}),
    "abort": _STOPPABLE,
    "park": _EVERYWHERE - {P.PARKING, P.SAFE},
    "autonomy": _STEERABLE,
    "accept": frozenset({P.RUNNING, P.HOLDING}),
    "veto": frozenset({P.RUNNING, P.HOLDING, P.PAUSED}),
    "force": _STEERABLE,
    "exclude": _STEERABLE,
    "prioritise": _STEERABLE,
    "retarget": _STEERABLE,
    "set_objective": _STEERABLE,
    "set_acquisition": _STEERABLE,
    "set_budget": _STEERABLE,
    "annotate": _EVERYWHERE,
    "retrain": _STEERABLE,
    "freeze": _STEERABLE,
    "undo": _STEERABLE,
    "acknowledge": frozenset({P.SAFE}),
}
"""In which phases each operator command is taken; elsewhere it is refused with a reason."""


def refusal(command: str, phase: Phase) -> str | None:
    """Return why ``command`` can't be taken in ``phase``, None when it can."""
    allowed = ALLOWED[command]
    if phase in allowed:
        return None
    names = ", ".join(sorted(each.value for each in allowed))
    return f"'{command}' can't be done while {phase.value}; it can while {names}"
