"""What a describer is: it turns the frames of a sub-scan into vectors a planner can steer by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from drivers.vocabulary import AnyArray, FloatArray, SubScanData


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a description can be trusted, and why not if it can't.

    ``score`` grows with the distance from what the model knows; 1 is the threshold.
    """

    ok: bool
    score: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """What a describer says of one sub-scan.

    Attributes
    ----------
    sub_scan_id : str
    z : (n, d) array
        Latent vector of each described position.
    positions_nm : (n, 2) array
        Where those are, (y, x) in specimen nm.
    summary : (m,) array
        The numbers a planner sees, named by ``names``.
    names : tuple of str
        One name per entry of ``summary``, e.g. "mean_1", "variance_1".
    health : Health
    version : int
        Version of the encoder that made it.
    maps : mapping of str to (y, x) array
        Pictures for the window and the report.
    """

    sub_scan_id: str
    z: FloatArray
    positions_nm: FloatArray
    summary: FloatArray
    names: tuple[str, ...]
    health: Health
    version: int
    maps: Mapping[str, FloatArray] = field(default_factory=dict)


@runtime_checkable
class Describer(Protocol):
    """Turns sub-scans into descriptions."""

    name: str
    version: int
    """Version of the encoder in use; 0 before it is ready."""

    def prepare(self, survey: SubScanData | None, window_nm: tuple[float, float]) -> None:
        """Get ready from the survey, cut in windows of the size of a sub-scan; makes version 1.

        Raises
        ------
        ValueError
            If the describer needs a survey and there is none, or it is too small.
        """

    def describe(self, data: SubScanData) -> Description:
        """Describe one sub-scan with the present encoder."""


@runtime_checkable
class Refittable(Protocol):
    """A describer that can make a new encoder version from what was measured."""

    def refit(self, outcomes: Sequence[SubScanData]) -> None:
        """Fit anew; bumps the version. The caller describes all earlier outcomes again."""


@runtime_checkable
class Checkpointable(Protocol):
    """Something whose state can be saved as plain arrays."""

    def checkpoint(self) -> dict[str, AnyArray]:
        """Return the whole state as named arrays."""

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned."""
