"""What all planners share: memory of outcomes, the objective, and saving both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from drivers.vocabulary import AnyArray, FloatArray, NmPair, SubScan
from models.decision.book import Book
from models.decision.objectives import Objective, make_objective
from models.decision.protocols import BoolArray, CandidateGrid, Outcome

NamedParams = tuple[str, Mapping[str, float | str]]
"""A name and its parameters."""


class BasePlanner:
    """Memory and objective of a planner; a subclass adds how the next place is chosen.

    Parameters
    ----------
    grid : CandidateGrid
    template : SubScan
        Every suggestion is this sub-scan with another id and centre.
    new_id : callable
        Returns the id of the next sub-scan.
    seed : int
    objective : (name, params)
        See `models.decision.objectives.make_objective`.
    max_overlap : float
        See `models.decision.book.Book`.
    """

    def __init__(
        self,
        grid: CandidateGrid,
        template: SubScan,
        new_id: Callable[[], str],
        seed: int,
        objective: NamedParams,
        max_overlap: float = 0.0,
    ) -> None:
        self._book = Book(grid, template, max_overlap)
        self._grid = grid
        self._centers_nm = grid.centers_nm()
        self._new_id = new_id
        self._seed = int(seed)
        self._objective_name = (objective[0], dict(objective[1]))
        self._objective: Objective = make_objective(*objective)
        self._scores: dict[str, float] | None = None

    @property
    def n_pending(self) -> int:
        """How many suggestions are neither measured nor cancelled."""
        return len(self._book.pending)

    def ingest(self, outcome: Outcome) -> None:
        """Learn an outcome; one with a known id replaces the earlier.

        Raises
        ------
        ValueError
            If its entries differ from those of earlier outcomes, or the objective's are missing.
        """
        self._book.check(outcome)
        self._objective.score(np.asarray(outcome.summary, dtype=float)[None], outcome.names)
        self._book.add(outcome)
        self._changed()

    def cancel(self, suggestion_id: str) -> None:
        """Forget a pending suggestion; unknown ids are ignored."""
        self._book.pending.pop(suggestion_id, None)

    def constrain(self, allowed: BoolArray, log_weight: FloatArray) -> None:
        """Say which candidates may be suggested, and how much each is preferred: (n,) each.

        Raises
        ------
        ValueError
            If a shape is wrong or a weight is NaN or +inf. A weight of -inf forbids.
        """
        self._book.constrain(allowed, log_weight)

    def set_objective(self, name: str, params: Mapping[str, float | str]) -> None:
        """Steer by another objective; the old one stays if the new one can't be had.

        Raises
        ------
        ValueError
            If it is unknown, or needs an entry that the outcomes do not have.
        """
        objective = make_objective(name, params)
        if self._book.outcomes:
            objective.score(self._book.table(), self._book.names)
        self._objective, self._objective_name = objective, (name, dict(params))
        self._changed()

    def relabel(self, version: int, summaries: Mapping[str, FloatArray]) -> None:
        """Replace the summaries of all outcomes, atomically, by those of a new encoder version.

        Raises
        ------
        ValueError
            If an outcome has no new summary (both sets of ids are in the message), or a
            summary has the wrong length.
        """
        self._book.relabel(version, summaries)
        self._changed()

    def score(self, outcome_id: str) -> float | None:
        """Return the objective of an outcome; None if it is unknown or has no finite value."""
        value = self._all_scores().get(outcome_id)
        return value if value is not None and np.isfinite(value) else None

    def checkpoint(self) -> dict[str, AnyArray]:
        """Return the whole state as named arrays."""
        name, params = self._objective_name
        return {
            **self._book.pack(),
            "objective": np.array(json.dumps([name, params])),
            "seed": np.array(self._seed),
        }

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned.

        Raises
        ------
        ValueError
            If it was made with a grid of another size.
        """
        self._book.unpack(arrays)
        name, params = json.loads(str(arrays["objective"]))
        self._objective, self._objective_name = make_objective(name, params), (name, params)
        self._seed = int(arrays["seed"])
        self._changed()

    def _all_scores(self) -> dict[str, float]:
        """Return the objective of each outcome, NaN for those of another encoder version."""
        if self._scores is None:
            outcomes = self._book.outcomes
            current = [o.encoder_version == self._book.version for o in outcomes.values()]
            values = np.full(len(outcomes), np.nan)
            if outcomes:
                table = self._book.table()[current]
                values[current] = self._objective.score(table, self._book.names)
            self._scores = dict(zip(outcomes, values.tolist(), strict=True))
        return self._scores

    def _changed(self) -> None:
        """Note that outcomes or the objective changed."""
        self._scores = None

    def _register(self, index: int) -> SubScan:
        """Make the sub-scan at a candidate and note it as pending."""
        y, x = self._centers_nm[index].tolist()
        center: NmPair = (y, x)
        sub_scan = replace(self._book.template, id=self._new_id(), center_nm=center)
        if sub_scan.id in self._book.pending or sub_scan.id in self._book.outcomes:
            raise ValueError(f"new_id returned {sub_scan.id!r} twice; ids of sub-scans are unique")
        self._book.pending[sub_scan.id] = sub_scan
        return sub_scan
