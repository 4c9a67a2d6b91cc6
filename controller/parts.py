"""What a controller is put together from, and what its tasks tell each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from controller import events as e
from controller.arbiter import Arbiter
from controller.config import RunConfig
from controller.deciding import Decider
from controller.digest import Digest
from controller.governor import Governor
from controller.guardian import Guardian
from controller.journal import Journal
from controller.lane import Lane
from controller.phases import FinishReason, Phase, check_transition
from controller.state import RunState
from controller.suspenders import Suspender
from drivers.vocabulary import Clock, SubScanData


@dataclass(frozen=True, slots=True)
class End:
    """Why the run ends."""

    reason: FinishReason
    message: str


@dataclass(slots=True)
class Wishes:
    """What operators and signals want of the acquisition; it looks at these between sub-scans."""

    pause: bool = False
    steps: int | None = None
    """Sub-scans to execute before pausing again; None when not stepping."""
    end: End | None = None
    parked: bool = False
    """Whether the operator has parked the instrument; it then refuses the controller."""
    operator_spoke_at_s: float = field(default_factory=time.monotonic)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Parts:
    """The pieces of one controller."""

    config: RunConfig
    journal: Journal
    governor: Governor
    digest: Digest
    decider: Decider
    arbiter: Arbiter
    lane: Lane
    clock: Clock
    suspenders: list[Suspender]
    new_id: Callable[[], str]
    """Returns an id that no sub-scan of this run has had; callable from any thread."""
    park: Callable[[str], e.Parked]
    """Parks by the emergency way; blocking, bounded in time, callable from any thread."""
    guardian: Guardian | None = None
    survey: SubScanData | None = None
    """The survey of an earlier controller of this run."""
    wishes: Wishes = field(default_factory=Wishes)

    @property
    def state(self) -> RunState:
        """The state of the run."""
        return self.journal.state

    def go(self, phase: Phase, reason: str = "") -> None:
        """Change the phase, journalled; nothing happens when it is the phase already."""
        old = self.state.phase
        if old is phase:
            return
        check_transition(old, phase)
        self.journal.append(e.PhaseChanged(old=old, new=phase, reason=reason))
        self.lane.epoch = self.state.epoch
