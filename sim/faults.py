"""Faults on purpose: which call goes wrong, and how. Pure decisions; others act on them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sim.counts import rng_for

FaultKind = Literal[
    "hang",
    "raise",
    "disconnect",
    "dropped_frame",
    "duplicate_frame",
    "late_frame",
    "nan_frame",
    "wrong_shape",
    "stuck_blanker",
    "blank_readback_lies",
    "ignore_cancel",
]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    kind : str
        What happens.
    where : str
        The call that it happens to, e.g. ``"scan"``.
    nth : int, optional
        Happens at that call (the first is 1) and goes on for ``count`` calls in all.
    probability : float
        Without ``nth``: chance at each call, until it has happened ``count`` times.
    count : int
        How many times.
    seconds : float
        How long, for kinds that take time (a hang, a late frame).

    Raises
    ------
    ValueError
        For an unknown kind, a number out of range, or neither (or both) of ``nth`` and
        ``probability``.
    """

    kind: FaultKind
    where: str
    nth: int | None = None
    probability: float = 0.0
    count: int = 1
    seconds: float = 1.0

    def __post_init__(self) -> None:
        name = f"fault '{self.kind}' at '{self.where}'"
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"{name}: unknown kind; known are {', '.join(get_args(FaultKind))}")
        if (self.nth is None) == (self.probability == 0):
            raise ValueError(f"{name}: give either nth or a probability above 0")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"{name}: probability = {self.probability} is not between 0 and 1")
        if self.count < 1 or (self.nth is not None and self.nth < 1) or self.seconds < 0:
            raise ValueError(f"{name}: nth and count start at 1, seconds at 0")


class FaultPlan:
    """Says at each call whether it is to fail; the same plan and calls give the same answers.

    Each place counts its own calls, so that the order in which different places are called
    changes nothing. Safe to ask from several threads.

    Parameters
    ----------
    faults : sequence of Fault
        What goes wrong; where two are due at once, the earlier one in the sequence happens.
    seed : int
        Seed of the chances.
    """

    def __init__(self, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self.faults = tuple(faults)
        self._seed = seed
        self._calls: Counter[str] = Counter()
        self._happened: Counter[int] = Counter()
        self._lock = threading.Lock()

    def due(self, where: str) -> Fault | None:
        """Count a call at ``where`` and return the fault that happens to it, if any."""
        with self._lock:
            self._calls[where] += 1
            call = self._calls[where]
            for index, fault in enumerate(self.faults):
                if fault.where == where and self._is_due(index, fault, call):
                    self._happened[index] += 1
                    return fault
            return None

    def _is_due(self, index: int, fault: Fault, call: int) -> bool:
        if fault.nth is not None:
            return fault.nth <= call < fault.nth + fault.count
        if self._happened[index] >= fault.count:
            return False
        draw = rng_for(self._seed, f"{index}/{fault.where}", call, stream="faults").random()
        return bool(draw < fault.probability)
