"""The arbiter: says of each operator command whether it is taken, and keeps what is next.

Pure but for its queue. An answer is remembered by the command's id: the same command sent twice
has one effect and one answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from controller import commands as c
from controller.channels import ChannelFull, CommandQueue
from controller.limits import over_ceiling
from controller.phases import Autonomy, refusal
from controller.state import RunState
from drivers.instrument import LimitsPart

CAPACITY = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command."""

    id: str
    ok: bool
    why: str
    revision: int


class Arbiter:
    """Judges commands against the state of the run.

    Parameters
    ----------
    limits : LimitsPart
        The instrument's ceilings.
    abilities : frozenset of str
        Commands the planner and describer of this run can carry out.
    """

    def __init__(self, limits: LimitsPart, abilities: frozenset[str]) -> None:
        self.queue: CommandQueue[c.AnyCommand] = CommandQueue(
            CAPACITY, lambda command: command.cmd in c.OVERTAKING
        )
        self.forced: deque[c.Force] = deque()
        """Sub-scans an operator asked for, not begun yet; they go before suggestions."""
        self.accepted: set[str] = set()
        """Suggestions an operator has accepted (ADVISE)."""
        self._limits = limits
        self._abilities = abilities

    def offer(self, command: c.AnyCommand) -> str | None:
        """Queue a command; return why it is not taken, None when it is queued."""
        try:
            self.queue.put(command)
        except ChannelFull as full:
            return f"too many commands wait ({full.capacity}); send it again, with a new id"
        return None

    def judge(self, command: c.AnyCommand, state: RunState) -> str | None:
        """Return why a command can't be taken now, None when it can."""
        stale = command.if_revision is not None and command.if_revision != state.revision
        if stale and command.cmd not in ("abort", "park"):
            return f"the run has moved on: revision {state.revision}, not {command.if_revision}"
        why = refusal(command.cmd, state.phase)
        if why is not None:
            return why
        if command.cmd in ("retarget", "retrain") and command.cmd not in self._abilities:
            part = "planner" if command.cmd == "retarget" else "describer"
            return f"this run's {part} can't {command.cmd}"
        if isinstance(command, c.Retrain) and state.encoder_frozen:
            return "the encoder is frozen; unfreeze it first"
        if isinstance(command, (c.Accept, c.Veto)) and command.suggestion_id not in state.pending:
            waiting = ", ".join(state.pending) or "none"
            return f"no suggestion {command.suggestion_id} waits (waiting: {waiting})"
        if isinstance(command, c.Accept) and state.autonomy is not Autonomy.ADVISE:
            return f"nothing needs accepting while autonomy is {state.autonomy.value}"
        if isinstance(command, c.SetBudget):
            return over_ceiling(command, self._limits)
        if isinstance(command, c.Undo) and not state.overrides:
            return "there is no override to undo"
        return None

    def answered(self, command: c.AnyCommand, state: RunState) -> Answer | None:
        """Return the answer a command of this id was given before, None if it is new."""
        if command.id not in state.commands_seen:
            return None
        why = state.commands_seen[command.id]
        return Answer(command.id, not why, why, state.revision)
