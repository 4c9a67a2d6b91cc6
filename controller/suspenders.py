"""Suspenders: signals that hold the run, blanked, and let it go on when they recover.

Each looks at one thing and says what is wrong with it, or None. They are looked at twice a
second and after each sub-scan; tripping and clearing are journalled. None acts after a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.limits import Verdict
from drivers.instrument import LimitsPart
from drivers.vocabulary import SubScanData


@dataclass(frozen=True, slots=True)
class Suspender:
    """A named signal; ``look`` returns a verdict while it is bad."""

    name: str
    look: Callable[[], Verdict | None]


def low_disk(free_bytes: Callable[[], float], limits: LimitsPart) -> Suspender:
    """Hold while the disk is nearly full."""

    def look() -> Verdict | None:
        free_gb = free_bytes() / 1e9
        if free_gb >= limits.min_free_disk_gb:
            return None
        return Verdict("free disk", free_gb, limits.min_free_disk_gb, "GB", "hold")

    return Suspender("free disk", look)


def fast_drift(rate_nm_per_min: Callable[[], float], limits: LimitsPart) -> Suspender:
    """Hold while the specimen drifts too fast."""

    def look() -> Verdict | None:
        ceiling = limits.max_drift_nm_per_min
        if ceiling is None or rate_nm_per_min() <= ceiling:
            return None
        return Verdict("drift rate", rate_nm_per_min(), ceiling, "nm/min", "hold")

    return Suspender("drift rate", look)


def silent_operator(silence_s: Callable[[], float | None], limits: LimitsPart) -> Suspender:
    """Hold while nobody is at the controls that ADVISE and MANUAL need.

    ``silence_s`` returns None when the autonomy is AUTO.
    """

    def look() -> Verdict | None:
        silence = silence_s()
        if silence is None or silence <= limits.operator_heartbeat_s:
            return None
        return Verdict("operator silent", silence, limits.operator_heartbeat_s, "s", "hold")

    return Suspender("operator heartbeat", look)


def saturated_fraction(data: SubScanData) -> float:
    """Return the largest fraction of saturated values of any detector."""
    worst = 0.0
    for name, frames in data.frames.items():
        ceiling = data.detectors[name].saturation
        if ceiling is not None:
            worst = max(worst, float(np.mean(np.asarray(frames, np.float64) >= ceiling)))
    return worst


def check_saturation(data: SubScanData, limits: LimitsPart) -> Verdict | None:
    """Return a verdict when too much of a sub-scan is saturated; only an operator clears that."""
    fraction = saturated_fraction(data)
    if fraction <= limits.max_saturated_fraction:
        return None
    return Verdict("saturated fraction", fraction, limits.max_saturated_fraction, "", "hold")


def changes(
    suspenders: Sequence[Suspender], tripped: frozenset[str]
) -> tuple[list[tuple[Suspender, Verdict]], list[str]]:
    """Look at all of them; return those newly bad, and the names of those recovered."""
    bad: list[tuple[Suspender, Verdict]] = []
    recovered: list[str] = []
    for suspender in suspenders:
        verdict = suspender.look()
        if verdict is not None and suspender.name not in tripped:
            bad.append((suspender, verdict))
        elif verdict is None and suspender.name in tripped:
            recovered.append(suspender.name)
    return bad, recovered
