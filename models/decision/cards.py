"""The decision card: why a planner asks for this place, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drivers.vocabulary import FloatArray
from models.decision.protocols import BoolArray, Outcome

N_RUNNERS_UP = 3
N_NEIGHBOURS = 3


def place(center_nm: FloatArray) -> str:
    """Return a place as text, (y, x) in nm."""
    return f"({center_nm[0]:.4g}, {center_nm[1]:.4g}) nm"


def runners_up(
    values: FloatArray, centers_nm: FloatArray, elsewhere: BoolArray, n: int = N_RUNNERS_UP
) -> str:
    """Return the best candidates that share no area with the chosen one.

    Parameters
    ----------
    values : (n,) array
        Ranking of all candidates.
    centers_nm : (n, 2) array
    elsewhere : (n,) bool array
        Which candidates may be named.
    """
    ranked = np.where(elsewhere, values, -np.inf)
    order = np.argsort(-ranked, kind="stable")[:n]
    named = [
        f"{place(centers_nm[i])}: {values[i]:.4g}" for i in order.tolist() if np.isfinite(ranked[i])
    ]
    return "; ".join(named) or "none: no other place is free"


def neighbours(
    center_nm: FloatArray,
    outcomes: Mapping[str, Outcome],
    scores: Mapping[str, float],
    n: int = N_NEIGHBOURS,
) -> str:
    """Return the nearest outcomes with their objective and distance."""
    found = [
        (float(np.hypot(*(np.asarray(o.sub_scan.center_nm) - center_nm))), key)
        for key, o in outcomes.items()
    ]
    texts = [
        f"{key}: {scores[key]:.4g} at {distance:.4g} nm" for distance, key in sorted(found)[:n]
    ]
    return "; ".join(texts) or "none"


@dataclass(frozen=True, slots=True)
class FitState:
    """How the hyper-parameters in use came about.

    Attributes
    ----------
    n_fitted : int
        Observations they were fitted on; 0 for the defaults.
    n_tried : int
        Observations at the latest fit, failed or not.
    failure : str
        Why the latest fit failed; empty if it did not.
    """

    n_fitted: int = 0
    n_tried: int = 0
    failure: str = ""

    def text(self, n_observed: int) -> str:
        """Return the state as text, given the observations there are now."""
        if self.n_fitted:
            since = n_observed - self.n_fitted
            text = f"fitted on {self.n_fitted} observations, {since} since"
        else:
            text = "defaults, never fitted"
        return (
            f"{text}; latest fit failed and was not used: {self.failure}" if self.failure else text
        )


def left_out(n_not_finite: int, n_stale: int, n_outside: int) -> str:
    """Return how many outcomes the model does not use, and why."""
    parts = [
        f"{count} {why}"
        for count, why in (
            (n_not_finite, "without a finite objective"),
            (n_stale, "of another encoder version"),
            (n_outside, "outside the field"),
        )
        if count
    ]
    return ", ".join(parts) or "none"
