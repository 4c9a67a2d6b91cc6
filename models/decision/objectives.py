"""Objectives: from the descriptions of all outcomes to the one number a planner maximises.

An objective sees the summaries of all outcomes at once, since some (novelty) compare outcomes
with each other. Larger is better. A number that can't be had is NaN and is not learnt from.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from drivers.vocabulary import FloatArray

Params = Mapping[str, float | str]


class Objective(Protocol):
    """Scores outcomes by their summaries."""

    label: str
    """What is maximised, in words for a plot's axis."""

    def score(self, summaries: FloatArray, names: Sequence[str]) -> FloatArray:
        """Return the score of each outcome.

        Parameters
        ----------
        summaries : (n, m) array
        names : m names of the columns

        Returns
        -------
        (n,) array

        Raises
        ------
        ValueError
            If a name the objective needs is not among ``names``.
        """


def _column(names: Sequence[str], wanted: str) -> int:
    """Return where a name stands; raise ValueError listing the names there are."""
    if wanted in names:
        return list(names).index(wanted)
    close = difflib.get_close_matches(wanted, names, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"objective: no summary entry {wanted!r}; there are {', '.join(names) or 'none'}{hint}"
    )


class Entry:
    """One named entry of the summary, as large or as small as possible.

    Use it when a number of the description is itself what is looked for: the mean of an element's
    map, or a latent known to mean "domain wall". It does not pay when the entry is a latent whose
    meaning nobody has looked at: its sign and size then say nothing about what is interesting.
    """

    def __init__(self, name: str, sign: str = "max") -> None:
        if sign not in ("max", "min"):
            raise ValueError(f"objective {name}: sign is {sign!r}; it must be 'max' or 'min'")
        self.name, self.sign = name, sign
        self.label = name if sign == "max" else f"-{name}"

    def score(self, summaries: FloatArray, names: Sequence[str]) -> FloatArray:
        """Return the entry, negated for sign "min": (n,)."""
        values = summaries[:, _column(names, self.name)].astype(np.float64)
        return np.asarray(values if self.sign == "max" else -values)


class Variance(Entry):
    """Variance of one latent component between the positions within a sub-scan.

    Use it to find boundaries: a window that holds two structures has a large variance of the
    component that tells them apart (Creange et al., Mach. Learn.: Sci. Technol. 2022). It does not
    pay where the interesting thing fills the window evenly, with a single position per
    sub-scan (the variance is then zero), or where noise alone moves the component.
    """

    def __init__(self, component: int = 1, sign: str = "max") -> None:
        if component < 1:
            raise ValueError(f"objective variance: component is {component}; they count from 1")
        super().__init__(f"variance_{component}", sign)


class Novelty:
    """Mean distance to the k nearest other outcomes, in the space of the mean latents.

    Use it to see as many different structures as possible when no target is known; a region is
    left alone once its like has been seen k times. It does not pay for finding more of one known
    thing, nor where outliers are artefacts (contamination, a vacuum edge): those are novel too.
    Scores of earlier outcomes fall as others come close. The distance is that of BEACON's
    novelty (Tang et al., arXiv:2406.03616).
    """

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"objective novelty: k is {k}; it must be at least 1")
        self.k = k
        self.label = f"novelty (k = {k})"

    def score(self, summaries: FloatArray, names: Sequence[str]) -> FloatArray:
        """Return the novelty, (n,); NaN where there is no other outcome to compare with."""
        columns = [i for i, name in enumerate(names) if name.startswith("mean_")]
        if not columns:
            _column(names, "mean_1")
        latents = summaries[:, columns].astype(np.float64)
        scores = np.full(len(latents), np.nan)
        finite = np.flatnonzero(np.isfinite(latents).all(axis=1))
        if len(finite) < 2:
            return scores
        points = latents[finite]
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
        np.fill_diagonal(distances, np.inf)
        k = min(self.k, len(finite) - 1)
        scores[finite] = np.partition(distances, k - 1, axis=1)[:, :k].mean(axis=1)
        return scores


def _whole(params: Params, key: str, default: int) -> int:
    """Return a whole number from the parameters."""
    value = params.get(key, default)
    if isinstance(value, str) or value != int(value):
        raise ValueError(f"objective: {key} is {value!r}; it must be a whole number")
    return int(value)


def _entry(params: Params, key: str) -> Entry:
    """Make an objective of one entry, named by the parameter ``key``."""
    if not isinstance(params.get(key), str):
        raise ValueError(f"objective: {key!r} must name an entry of the summary, as text")
    return Entry(str(params[key]), str(params.get("sign", "max")))


_KNOWN: dict[str, tuple[str, ...]] = {
    "component": ("name", "sign"),
    "channel": ("statistic", "sign"),
    "variance": ("component", "sign"),
    "novelty": ("k",),
}


def make_objective(name: str, params: Params) -> Objective:
    """Make an objective by name.

    Parameters
    ----------
    name : {"component", "channel", "variance", "novelty"}
    params : mapping
        component: ``name`` (summary entry), ``sign``; channel: ``statistic`` ("mean", "std" or
        "max", default "mean"), ``sign``; variance: ``component``, ``sign``; novelty: ``k``.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown or out of range.
    """
    if name not in _KNOWN:
        close = difflib.get_close_matches(name, _KNOWN, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown objective {name!r}: known are {', '.join(_KNOWN)}{hint}")
    unknown = sorted(set(params) - set(_KNOWN[name]))
    if unknown:
        raise ValueError(
            f"objective {name}: unknown parameter {', '.join(unknown)}; "
            f"it takes {', '.join(_KNOWN[name])}"
        )
    if name == "component":
        return _entry(params, "name")
    if name == "channel":
        return _entry({"statistic": "mean", **params}, "statistic")
    if name == "variance":
        return Variance(_whole(params, "component", 1), str(params.get("sign", "max")))
    return Novelty(_whole(params, "k", 5))
