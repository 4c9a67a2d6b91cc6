"""Planners by name. Only the one that learns loads PyTorch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from drivers.vocabulary import SubScan
from models.decision.base import NamedParams
from models.decision.protocols import CandidateGrid, Planner
from models.decision.scripted import RandomPlanner, ScriptedPlanner

PLANNERS: dict[str, tuple[str, ...]] = {
    "botorch": ("n_initial", "refit_every", "max_overlap"),
    "raster": ("max_overlap",),
    "random": ("max_overlap",),
}
"""Known planners and the options each takes."""


def make_planner(
    kind: str,
    grid: CandidateGrid,
    template: SubScan,
    new_id: Callable[[], str],
    seed: int,
    objective: NamedParams,
    acquisition: tuple[str, Mapping[str, float]] = ("ucb", {}),
    options: Mapping[str, object] | None = None,
) -> Planner:
    """Make a planner.

    Parameters
    ----------
    kind : {"botorch", "raster", "random"}
    grid : CandidateGrid
    template : SubScan
        Every suggestion is this sub-scan with another id and centre.
    new_id : callable
        Returns the id of the next sub-scan.
    seed : int
    objective, acquisition : (name, params)
        ``acquisition`` is of no concern to raster and random.
    options : mapping, optional
        ``max_overlap`` for all, ``n_initial`` and ``refit_every`` for botorch.

    Raises
    ------
    ValueError
        If a name or option is unknown or out of range.
    """
    options = dict(options or {})
    if kind not in PLANNERS:
        close = difflib.get_close_matches(kind, PLANNERS, 1, 0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown planner {kind!r}: known are {', '.join(PLANNERS)}{hint}")
    unknown = sorted(set(options) - set(PLANNERS[kind]))
    if unknown:
        raise ValueError(
            f"planner {kind}: unknown option {', '.join(unknown)}; "
            f"it takes {', '.join(PLANNERS[kind])}"
        )
    overlap = _number(options, "max_overlap", 0.0)
    if kind == "raster":
        return ScriptedPlanner(grid, template, new_id, seed, objective, overlap)
    if kind == "random":
        return RandomPlanner(grid, template, new_id, seed, objective, overlap)
    from models.decision.botorch_planner import BotorchPlanner

    counts = {key: _whole(options, key) for key in ("n_initial", "refit_every") if key in options}
    return BotorchPlanner(
        grid, template, objective, acquisition, new_id, seed, max_overlap=overlap, **counts
    )


def _number(options: Mapping[str, object], key: str, default: float) -> float:
    """Return a number from the options, or raise ValueError."""
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"planner: {key} is {value!r}; it must be a number")
    return float(value)


def _whole(options: Mapping[str, object], key: str) -> int:
    """Return a whole number from the options, or raise ValueError."""
    value = _number(options, key, 0.0)
    if not value.is_integer():
        raise ValueError(f"planner: {key} is {value}; it must be a whole number")
    return int(value)
