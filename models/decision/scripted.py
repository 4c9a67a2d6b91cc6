"""Planners that do not learn: raster and random order, the baselines of every comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from drivers.vocabulary import AnyArray, SubScan
from models.decision.base import BasePlanner, NamedParams
from models.decision.protocols import CandidateGrid, Maps, Suggestion


class OrderedPlanner(BasePlanner):
    """Visits the free candidates in an order fixed beforehand.

    Acquisition, mean and standard deviation of its suggestions are 0: nothing is predicted.
    Outcomes are scored, so that a run can be judged by the same objective as one that learns.
    """

    kind = "ordered"

    def __init__(
        self,
        grid: CandidateGrid,
        template: SubScan,
        new_id: Callable[[], str],
        seed: int,
        objective: NamedParams,
        max_overlap: float = 0.0,
    ) -> None:
        super().__init__(grid, template, new_id, seed, objective, max_overlap)
        self._order = self._make_order()

    def _make_order(self) -> npt.NDArray[np.intp]:
        """Return all candidates in the order of visiting: (n,) indices."""
        return np.arange(self._grid.n)

    def suggest(self, q: int, deadline_s: float) -> list[Suggestion]:
        """Return the next ``q`` free candidates in order; fewer when no more are free."""
        del deadline_s
        suggestions: list[Suggestion] = []
        for _ in range(q):
            free = self._order[self._book.free()[self._order]]
            if not len(free):
                break
            reasons = {"acquisition": f"none: {self.kind} order", "left": f"{len(free)} candidates"}
            sub_scan = self._register(int(free[0]))
            counts = len(self._book.outcomes), self._book.version
            suggestions.append(Suggestion(sub_scan.id, sub_scan, 0.0, 0.0, 0.0, reasons, *counts))
        return suggestions

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned, its seed and so its order included."""
        super().restore(arrays)
        self._order = self._make_order()

    def set_acquisition(self, name: str, params: Mapping[str, float]) -> None:
        """Accept and ignore: an order fixed beforehand has no acquisition function."""
        del name, params

    def rescore(self, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
        """Return the suggestions as they are."""
        return list(suggestions)

    def maps(self) -> Maps | None:
        """Return None: there is no surrogate."""
        return None


class ScriptedPlanner(OrderedPlanner):
    """Row by row from the top left, every second row backwards (serpentine).

    Row steps follow the windows: rows overlapping an earlier one are passed over.
    """

    kind = "raster"

    def _make_order(self) -> npt.NDArray[np.intp]:
        """Return the serpentine over the grid, running back on every second visited row."""
        indices = np.arange(self._grid.n).reshape(self._grid.shape)
        step_nm = self._grid.window_nm[0] * (1 - self._book.max_overlap - 1e-6)
        order: list[npt.NDArray[np.intp]] = []
        row_y_nm, backwards = float(self._grid.y_nm[0]), False
        for y_nm, row in zip(self._grid.y_nm.tolist(), indices, strict=True):
            if y_nm - row_y_nm >= step_nm:
                row_y_nm, backwards = y_nm, not backwards
            order.append(row[::-1] if backwards else row)
        return np.concatenate(order)


class RandomPlanner(OrderedPlanner):
    """A random order drawn from the seed."""

    kind = "random"

    def _make_order(self) -> npt.NDArray[np.intp]:
        """Return a random permutation."""
        return np.random.default_rng(self._seed).permutation(self._grid.n)
