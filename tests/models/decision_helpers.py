"""Small worlds for planners: grids, fields and a loop that measures what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from drivers.vocabulary import SubScan
from models.decision.protocols import CandidateGrid, Outcome, Planner, Suggestion

NAMES = ("value",)
VALUE = ("component", {"name": "value"})
UCB = ("ucb", {})


def make_grid(rows: int = 12, columns: int = 12, step: float = 4.0, window: float = 4.0):
    """A grid away from the origin, so that a mix-up of nm and unit cube shows."""
    y = 100.0 + step * np.arange(rows)
    x = -40.0 + step * np.arange(columns)
    return CandidateGrid(y, x, (window, window))


def template(grid: CandidateGrid, rotation_deg: float = 0.0) -> SubScan:
    return SubScan("template", (0.0, 0.0), grid.window_nm, (16, 16), 5.0, rotation_deg)


def ids(prefix: str = "s") -> Callable[[], str]:
    counter: Iterator[int] = iter(range(10**6))
    return lambda: f"{prefix}{next(counter):04d}"


def outcome(suggestion: Suggestion | SubScan, value: float, version: int = 1, source="planner"):
    scan = suggestion.sub_scan if isinstance(suggestion, Suggestion) else suggestion
    return Outcome(scan.id, scan, np.array([value]), NAMES, version, source)


def at(grid: CandidateGrid, name: str, center_nm: tuple[float, float]) -> SubScan:
    return replace(template(grid), id=name, center_nm=center_nm)


def bump(grid: CandidateGrid, peak: tuple[float, float], width: float = 0.12):
    """A smooth bump in the unit square: a function of places in nm."""
    start = np.array([grid.y_nm[0], grid.x_nm[0]])
    size = np.array([np.ptp(grid.y_nm), np.ptp(grid.x_nm)])

    def value(center_nm) -> float:
        u = (np.asarray(center_nm) - start) / size
        return float(np.exp(-0.5 * np.square((u - peak) / width).sum()))

    return value


def drive(planner: Planner, field: Callable, n: int, q: int = 1) -> list[Suggestion]:
    """Ask and measure until ``n`` sub-scans are done or none is left."""
    done: list[Suggestion] = []
    while len(done) < n:
        asked = planner.suggest(q, 10.0)
        if not asked:
            break
        for suggestion in asked:
            planner.ingest(outcome(suggestion, field(suggestion.sub_scan.center_nm)))
        done += asked
    return done


def centers(suggestions: list[Suggestion]) -> list[tuple[float, float]]:
    return [s.sub_scan.center_nm for s in suggestions]
