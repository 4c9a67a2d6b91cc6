"""What a planner is: it is told outcomes and asked for the next sub-scans.

Candidates lie on a fixed grid of window centres in specimen nm; the controller owns which of
them are allowed (dose, exclusions) and passes that in with `Planner.constrain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from drivers.vocabulary import AnyArray, FloatArray, NmPair, SubScan

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CandidateGrid:
    """The places a sub-scan may be centred on.

    Attributes
    ----------
    y_nm, x_nm : 1-D arrays
        Rows and columns of the grid, ascending, in specimen nm.
    window_nm : (y, x)
        Field of view of a sub-scan.
    """

    y_nm: FloatArray
    x_nm: FloatArray
    window_nm: NmPair

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.y_nm), len(self.x_nm)

    @property
    def n(self) -> int:
        """Number of candidates."""
        return len(self.y_nm) * len(self.x_nm)

    def centers_nm(self) -> FloatArray:
        """All centres, row by row: (n, 2), (y, x) in nm."""
        mesh = np.meshgrid(self.y_nm, self.x_nm, indexing="ij")
        return np.stack(mesh, axis=-1).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one sub-scan, as a planner sees it.

    ``summary`` and ``names`` are those of its description; ``source`` says who asked for it.
    """

    id: str
    sub_scan: SubScan
    summary: FloatArray
    names: tuple[str, ...]
    encoder_version: int
    source: Literal["planner", "operator", "calibration"] = "planner"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A sub-scan a planner asks for, and why.

    Attributes
    ----------
    id : str
        The sub-scan's id, from the ``new_id`` the planner was built with.
    acquisition, mean, sd : float
        Value of the acquisition function, and posterior of the objective, at its centre.
    reasons : mapping of str to str
        The decision card: acquisition name, runner-ups, nearest neighbours, model age, ...
    n_observed : int
        How many outcomes it was made from.
    """

    id: str
    sub_scan: SubScan
    acquisition: float
    mean: float
    sd: float
    reasons: Mapping[str, str] = field(default_factory=dict)
    n_observed: int = 0
    encoder_version: int = 0


@dataclass(frozen=True, slots=True)
class Maps:
    """The surrogate over the candidate grid: (rows, columns) arrays in the objective's unit."""

    y_nm: FloatArray
    x_nm: FloatArray
    mean: FloatArray
    sd: FloatArray
    acquisition: FloatArray
    objective: str


@runtime_checkable
class Planner(Protocol):
    """Suggests sub-scans and learns from their outcomes. Called from one thread at a time."""

    def suggest(self, q: int, deadline_s: float) -> list[Suggestion]:
        """Suggest up to ``q`` sub-scans; each stays pending until `ingest` or `cancel`.

        Returns an empty list when no allowed candidate is left.
        """

    def ingest(self, outcome: Outcome) -> None:
        """Learn an outcome; unknown ids (an operator's sub-scan) are ordinary measurements.

        An outcome whose objective is not finite is not learnt from, but its place counts as
        visited.
        """

    def cancel(self, suggestion_id: str) -> None:
        """Forget a pending suggestion; unknown ids are ignored."""

    def constrain(self, allowed: BoolArray, log_weight: FloatArray) -> None:
        """Say which candidates may be suggested, and how much each is to be preferred.

        Both are (n,) over the grid. Weights multiply a positive acquisition value.
        """

    def set_objective(self, name: str, params: Mapping[str, float | str]) -> None:
        """Steer by another objective; earlier outcomes are scored again."""

    def set_acquisition(self, name: str, params: Mapping[str, float]) -> None:
        """Choose by another acquisition function."""

    def relabel(self, version: int, summaries: Mapping[str, FloatArray]) -> None:
        """Replace the summaries of all outcomes, atomically, by those of a new encoder version.

        Raises
        ------
        ValueError
            If an outcome has no new summary: both sets of ids are in the message.
        """

    def rescore(self, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
        """Return pending suggestions with acquisition, mean and sd as of now."""

    def score(self, outcome_id: str) -> float | None:
        """Return the objective of an outcome under the present objective, None if unknown."""

    def maps(self) -> Maps | None:
        """Return the surrogate over the grid, None before there is one."""

    def checkpoint(self) -> dict[str, AnyArray]:
        """Return the whole state as named arrays."""

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned."""
