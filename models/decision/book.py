"""What a planner remembers: outcomes, pending suggestions, and where it may still go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from drivers.vocabulary import AnyArray, FloatArray, SubScan
from models.decision.protocols import BoolArray, CandidateGrid, Outcome
from models.decision.windows import WindowGeometry

SOURCES: tuple[Literal["planner", "operator", "calibration"], ...] = (
    "planner",
    "operator",
    "calibration",
)
"""Who may have asked for an outcome."""


class Book:
    """Outcomes and pending suggestions of one run, and the candidates they leave free.

    Parameters
    ----------
    grid : CandidateGrid
    template : SubScan
        Size, shape, dwell time and rotation of every suggestion.
    max_overlap : float
        Fraction of its area, 0 to 0.5, that a suggestion may share with an executed window.
        With a pending one it never shares any.

    Raises
    ------
    ValueError
        If ``max_overlap`` is out of range, or the template is not of the grid's window size.
    """

    def __init__(self, grid: CandidateGrid, template: SubScan, max_overlap: float = 0.0) -> None:
        if not 0.0 <= max_overlap <= 0.5:
            raise ValueError(
                f"max_overlap is {max_overlap}; it must lie between 0 and 0.5: "
                "more would measure the same place twice"
            )
        if not np.allclose(template.fov_nm, grid.window_nm):
            raise ValueError(
                f"the sub-scan template is {template.fov_nm} nm, "
                f"the grid's window {grid.window_nm} nm; they must be equal"
            )
        self.grid = grid
        self.template = template
        self.max_overlap = max_overlap
        self.outcomes: dict[str, Outcome] = {}
        self.pending: dict[str, SubScan] = {}
        self.version = 0
        self.allowed: BoolArray = np.ones(grid.n, dtype=np.bool_)
        self.log_weight: FloatArray = np.zeros(grid.n)
        self._geometry = WindowGeometry(grid, template.rotation_deg)
        self._visited: BoolArray = np.zeros(grid.n, dtype=np.bool_)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the summary's entries; none before the first outcome."""
        return next((outcome.names for outcome in self.outcomes.values()), ())

    def check(self, outcome: Outcome) -> None:
        """Refuse an outcome that does not go with the earlier ones.

        Raises
        ------
        ValueError
            If its summary has other entries than those of earlier outcomes.
        """
        if np.shape(outcome.summary) != (len(outcome.names),):
            raise ValueError(
                f"outcome {outcome.id}: summary of shape {np.shape(outcome.summary)} but "
                f"{len(outcome.names)} names"
            )
        others = [o for o in self.outcomes.values() if o.id != outcome.id]
        if others and others[0].names != outcome.names:
            raise ValueError(
                f"outcome {outcome.id} has entries {', '.join(outcome.names)}; earlier ones "
                f"have {', '.join(others[0].names)}: describe all sub-scans the same way"
            )

    def add(self, outcome: Outcome) -> None:
        """Record a checked outcome; one with a known id takes the old one's place."""
        self.pending.pop(outcome.id, None)
        self.outcomes[outcome.id] = outcome
        self.version = max(self.version, outcome.encoder_version)
        self._visited |= self._geometry.overlapping(outcome.sub_scan, self.max_overlap)

    def constrain(self, allowed: BoolArray, log_weight: FloatArray) -> None:
        """Take over which candidates are allowed, and their preference.

        Raises
        ------
        ValueError
            If a shape is wrong, or a weight is NaN or +inf (-inf forbids a candidate).
        """
        weight = np.asarray(log_weight, dtype=np.float64)
        mask = np.asarray(allowed, dtype=np.bool_)
        if mask.shape != (self.grid.n,) or weight.shape != (self.grid.n,):
            raise ValueError(
                f"constrain: allowed is {mask.shape} and log_weight {weight.shape}; "
                f"both must be ({self.grid.n},), one entry per candidate"
            )
        if np.isnan(weight).any() or np.isposinf(weight).any():
            raise ValueError("constrain: log_weight holds NaN or +inf; use numbers or -inf")
        self.allowed = mask & ~np.isneginf(weight)
        self.log_weight = weight.copy()

    def relabel(self, version: int, summaries: Mapping[str, FloatArray]) -> None:
        """Replace all summaries by those of another encoder version, or change nothing.

        Raises
        ------
        ValueError
            If an outcome has no new summary, one has the wrong length, or the version goes back.
        """
        missing = sorted(set(self.outcomes) - set(summaries))
        if missing:
            raise ValueError(
                f"relabel to encoder version {version}: no summary for {', '.join(missing)}; "
                f"given were {', '.join(sorted(summaries)) or 'none'}"
            )
        if version < self.version:
            raise ValueError(f"relabel to encoder version {version}, but {self.version} is in use")
        fresh = {key: np.asarray(summaries[key], dtype=np.float64) for key in self.outcomes}
        for key, summary in fresh.items():
            if summary.shape != (len(self.names),):
                raise ValueError(
                    f"relabel: summary of {key} has shape {summary.shape}, "
                    f"expected ({len(self.names)},)"
                )
        for key, outcome in self.outcomes.items():
            self.outcomes[key] = replace(outcome, summary=fresh[key], encoder_version=version)
        self.version = version

    def free(self) -> BoolArray:
        """Say for each candidate, (n,), whether it may be suggested now."""
        free = self.allowed & ~self._visited
        for sub_scan in self.pending.values():
            free &= ~self._geometry.overlapping(sub_scan)
        return np.asarray(free, dtype=np.bool_)

    def apart_from(self, sub_scan: SubScan) -> BoolArray:
        """Say for each candidate, (n,), whether it shares no area with a sub-scan."""
        return ~self._geometry.overlapping(sub_scan)

    def table(self) -> FloatArray:
        """Return the summaries of all outcomes, (n, m), in the order of ``outcomes``."""
        rows = [np.asarray(o.summary, dtype=np.float64) for o in self.outcomes.values()]
        return np.stack(rows) if rows else np.zeros((0, 0))

    def pack(self) -> dict[str, AnyArray]:
        """Return everything as named arrays."""
        outcomes = list(self.outcomes.values())
        return {
            "book.version": np.array(self.version),
            "book.allowed": self.allowed.copy(),
            "book.log_weight": self.log_weight.copy(),
            "book.names": _text(self.names),
            "book.summaries": self.table(),
            "book.versions": np.array([o.encoder_version for o in outcomes], dtype=np.int64),
            "book.sources": _text(o.source for o in outcomes),
            "book.outcome_ids": _text(o.id for o in outcomes),
            **_pack_scans("book.outcomes", [o.sub_scan for o in outcomes]),
            "book.pending_ids": _text(self.pending),
            **_pack_scans("book.pending", list(self.pending.values())),
        }

    def unpack(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take over what `pack` returned; the grid and the template stay as they are.

        Raises
        ------
        ValueError
            If the state belongs to a grid of another size.
        """
        names = tuple(str(name) for name in arrays["book.names"])
        columns = zip(
            (str(key) for key in arrays["book.outcome_ids"]),
            _unpack_scans("book.outcomes", arrays),
            np.asarray(arrays["book.summaries"], dtype=np.float64),
            np.asarray(arrays["book.versions"], dtype=np.int64),
            (_source(str(source)) for source in arrays["book.sources"]),
            strict=True,
        )
        outcomes = [
            Outcome(key, scan, summary.copy(), names, int(version), source)
            for key, scan, summary, version, source in columns
        ]
        weight = np.asarray(arrays["book.log_weight"], dtype=np.float64)
        self.constrain(np.asarray(arrays["book.allowed"], dtype=np.bool_), weight)
        self.outcomes, self.pending = {}, {}
        self._visited = np.zeros(self.grid.n, dtype=np.bool_)
        for outcome in outcomes:
            self.add(outcome)
        ids = (str(key) for key in arrays["book.pending_ids"])
        self.pending = dict(zip(ids, _unpack_scans("book.pending", arrays), strict=True))
        self.version = int(arrays["book.version"])


def _source(text: str) -> Literal["planner", "operator", "calibration"]:
    """Check who asked for an outcome."""
    for known in SOURCES:
        if text == known:
            return known
    raise ValueError(f"checkpoint: unknown source {text!r} of an outcome")


def _text(items: Iterable[str]) -> AnyArray:
    """Return texts as an array of fixed-width unicode."""
    return np.array(list(items), dtype=np.str_)


def _pack_scans(prefix: str, scans: list[SubScan]) -> dict[str, AnyArray]:
    """Return sub-scans as three arrays."""
    numbers = [(*s.center_nm, *s.fov_nm, s.dwell_us, s.rotation_deg) for s in scans]
    return {
        f"{prefix}.scan_ids": _text(s.id for s in scans),
        f"{prefix}.numbers": np.array(numbers, dtype=np.float64).reshape(len(scans), 6),
        f"{prefix}.shapes": np.array([s.shape for s in scans], dtype=np.int64).reshape(-1, 2),
    }


def _unpack_scans(prefix: str, arrays: Mapping[str, AnyArray]) -> list[SubScan]:
    """Return the sub-scans of `_pack_scans`."""
    ids = [str(key) for key in arrays[f"{prefix}.scan_ids"]]
    numbers = np.asarray(arrays[f"{prefix}.numbers"], dtype=np.float64).tolist()
    shapes = np.asarray(arrays[f"{prefix}.shapes"], dtype=np.int64).tolist()
    return [
        SubScan(key, (cy, cx), (fy, fx), (ny, nx), dwell_us, rotation_deg)
        for key, (cy, cx, fy, fx, dwell_us, rotation_deg), (ny, nx) in zip(
            ids, numbers, shapes, strict=True
        )
    ]
