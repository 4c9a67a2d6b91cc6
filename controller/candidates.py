"""Where sub-scans may be: the grid of candidates, and which of them are still allowed.

A candidate is allowed while a sub-scan there would keep every cell of the dose map within the
local budget, and while its window touches no excluded region. All in specimen nm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from controller.config import ExperimentConfig, RunConfig
from controller.dose import A2_PER_NM2, DoseLedger
from drivers.vocabulary import FloatArray, NmPair, Region, SubScan
from models.decision.protocols import BoolArray, CandidateGrid

IntArray = npt.NDArray[np.int64]
_ROUNDING = 1e-9
_SLACK = 1 + 1e-9
"""Relative slack for rounding in sums of doses, the same as that of the limit checks."""
_TOUCHING = 1e-6
"""Share of a window's side that it is shrunk by, so that a common border is not a touch."""
_PARALLEL_NM = 1e-9
"""A segment that spans less along an axis counts as parallel to the other."""


def rotated_size_nm(fov_nm: NmPair, rotation_deg: float) -> NmPair:
    """Return the (y, x) extent in nm of the box round a rotated window."""
    angle = math.radians(rotation_deg)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    return fov_nm[0] * cos + fov_nm[1] * sin, fov_nm[0] * sin + fov_nm[1] * cos


def make_grid(config: RunConfig) -> CandidateGrid:
    """Return the candidate centres of a run: a centred grid whose windows stay in the field.

    Raises
    ------
    ValueError
        If not a single window fits.
    """
    return make_grid_for(config.experiment, config.instrument.scan.field_nm)


def make_grid_for(experiment: ExperimentConfig, field_nm: NmPair) -> CandidateGrid:
    """Return the candidate centres of an experiment in a field of the given (y, x) size in nm.

    Raises
    ------
    ValueError
        If not a single window fits.
    """
    part, sub_scan = experiment.candidates, experiment.sub_scan
    stride_nm = part.stride_nm or sub_scan.fov_nm
    window_nm = rotated_size_nm(sub_scan.fov_nm, sub_scan.rotation_deg)
    axes: list[FloatArray] = []
    for field, window, stride in zip(field_nm, window_nm, stride_nm, strict=True):
        span = field - 2 * part.margin_nm - window
        if span < -_ROUNDING * field:
            raise ValueError(
                f"no sub-scan fits: its window of {window_nm[0]:g} x {window_nm[1]:g} nm and a "
                f"margin of {part.margin_nm:g} nm on each side need more than the field of "
                f"{field_nm[0]:g} x {field_nm[1]:g} nm"
            )
        count = math.floor(max(span, 0.0) / stride + 1e-6) + 1
        axes.append(np.asarray(np.arange(count) - (count - 1) / 2, dtype=np.float64) * stride)
    return CandidateGrid(axes[0], axes[1], sub_scan.fov_nm)


class CandidateMask:
    """Which candidates may be suggested, and how much each is preferred.

    Nothing is allowed before the first `update`.

    Parameters
    ----------
    grid : CandidateGrid
    template : SubScan
        A sub-scan as it would be at any candidate; only its centre is replaced.
    planned_electrons : float
        Electrons of one such sub-scan.
    max_local_dose : float
        Local budget in e/Å².
    """

    def __init__(
        self,
        grid: CandidateGrid,
        template: SubScan,
        planned_electrons: float,
        max_local_dose: float,
    ) -> None:
        self._grid = grid
        self._template = template
        self._electrons = planned_electrons
        self._max_local = max_local_dose
        self._centers = grid.centers_nm()
        self._peak: FloatArray = np.full(grid.n, np.inf)
        self._excluded: BoolArray = np.zeros(grid.n, dtype=np.bool_)
        self._log_weight: FloatArray = np.zeros(grid.n)
        self._footprints: _Footprints | None = None

    @property
    def allowed(self) -> BoolArray:
        """Which candidates may be suggested: (n,)."""
        return np.asarray((self._peak <= self._max_local * _SLACK) & ~self._excluded)

    @property
    def log_weight(self) -> FloatArray:
        """Natural logarithm of the operator's preference for each candidate: (n,)."""
        return self._log_weight.copy()

    @property
    def peak_e_per_A2(self) -> FloatArray:
        """Highest local dose a sub-scan at each candidate would lead to: (n,), in e/Å²."""
        return self._peak.copy()

    def update(self, ledger: DoseLedger, charged: SubScan | None = None) -> None:
        """Take up the doses of the ledger.

        Parameters
        ----------
        ledger : DoseLedger
            Always the same one, or one with the same cells.
        charged : SubScan, optional
            What alone was charged since the last update: only candidates near it are looked at
            again. All of them when not given, and at the first update.
        """
        if self._footprints is None or self._footprints.cell_nm != ledger.cell_nm:
            self._footprints = _Footprints(self._grid, self._template, ledger)
            charged = None
        which = self._footprints.all if charged is None else self._footprints.near(ledger, charged)
        self._peak[which] = self._footprints.peaks(ledger, which, self._electrons)

    def set_budget(self, max_local_dose: float) -> None:
        """Set another local budget, in e/Å²."""
        self._max_local = max_local_dose

    def set_regions(
        self, excluded: Sequence[Region], prioritised: Sequence[tuple[Region, float]]
    ) -> None:
        """Set the regions an operator painted; replaces all earlier ones.

        Parameters
        ----------
        excluded
            No candidate whose window touches one of these is allowed.
        prioritised
            Regions with factors: above 1 where windows that touch them are preferred, below 1
            where they are avoided. Factors of overlapping regions multiply.
        """
        self._excluded = np.zeros(self._grid.n, dtype=np.bool_)
        for region in excluded:
            self._excluded |= self.touches(region)
        self._log_weight = np.zeros(self._grid.n)
        for region, weight in prioritised:
            if not weight > 0:
                raise ValueError(f"the weight of a region must be positive (got {weight})")
            self._log_weight[self.touches(region)] += math.log(weight)

    def touches(self, region: Region) -> BoolArray:
        """Say for each candidate, (n,), whether its window and a region share a point.

        They do when an edge of the region meets the window, or the window lies inside the region
        altogether. Windows that only share a border with the region do not touch it.
        """
        angle = math.radians(self._template.rotation_deg)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        centers = self._centers @ turn.T
        corners = np.asarray(region.corners_nm, dtype=np.float64) @ turn.T
        half = np.asarray(self._template.fov_nm) / 2 * (1 - _TOUCHING)
        touched: BoolArray = region.contains(self._centers)
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            touched |= _segment_meets_boxes(start - centers, end - start, half)
        return touched


def _segment_meets_boxes(start: FloatArray, along: FloatArray, half: FloatArray) -> BoolArray:
    """Say whether segments from (n, 2) ``start`` along (2,) meet the box of ± ``half``.

    Clips the segment's parameter to the slab of each axis (Liang and Barsky, ACM Trans. Graph. 3,
    1 (1984)).
    """
    first, last = np.zeros(len(start)), np.ones(len(start))
    inside = np.ones(len(start), dtype=np.bool_)
    for axis in (0, 1):
        if abs(along[axis]) < _PARALLEL_NM:
            inside &= np.abs(start[:, axis]) <= half[axis]
            continue
        one = (-half[axis] - start[:, axis]) / along[axis]
        other = (half[axis] - start[:, axis]) / along[axis]
        first = np.maximum(first, np.minimum(one, other))
        last = np.minimum(last, np.maximum(one, other))
    return np.asarray(inside & (first <= last), dtype=np.bool_)


class _Footprints:
    """Cells of the dose map that each candidate covers, and the share of its electrons in each.

    ``top_left`` is (n, 2) in cells; ``shares`` is (n, rows, columns), 0 outside the window.
    """

    def __init__(self, grid: CandidateGrid, template: SubScan, ledger: DoseLedger) -> None:
        self.cell_nm = ledger.cell_nm
        self.all: IntArray = np.arange(grid.n)
        if template.rotation_deg % 180 == 0:
            self.top_left, self.shares = _separable(grid, template, ledger)
        else:
            self.top_left, self.shares = _one_by_one(grid, template, ledger)
        self.bottom_right = self.top_left + np.array(self.shares.shape[1:])

    def near(self, ledger: DoseLedger, charged: SubScan) -> IntArray:
        """Return the candidates whose cells include some that ``charged`` covers."""
        (top, bottom, left, right), _ = ledger.footprint(charged)
        hit = (self.top_left < (bottom, right)) & (self.bottom_right > (top, left))
        return np.flatnonzero(hit.all(axis=1))

    def peaks(self, ledger: DoseLedger, which: IntArray, electrons: float) -> FloatArray:
        """Return the highest dose of these candidates' cells after a sub-scan there, in e/Å²."""
        shares, (rows, columns) = self.shares[which], self.shares.shape[1:]
        at = self.top_left[which]
        y = at[:, 0, None] + np.arange(rows)
        x = at[:, 1, None] + np.arange(columns)
        before = _doses(ledger, y, x)
        after = before + shares * (electrons / (self.cell_nm**2 * A2_PER_NM2))
        return np.asarray(np.where(shares > 0, after, 0.0).max(axis=(1, 2)), dtype=np.float64)


def _doses(ledger: DoseLedger, y: IntArray, x: IntArray) -> FloatArray:
    """Return the dose of cells (n, rows) x (n, columns): (n, rows, columns), 0 beyond the map."""
    dose = ledger.map_e_per_A2
    first_y, _, first_x, _ = (round(edge / ledger.cell_nm) for edge in ledger.extent_nm)
    y, x = y - first_y, x - first_x
    known = ((y >= 0) & (y < dose.shape[0]))[:, :, None] & ((x >= 0) & (x < dose.shape[1]))[:, None]
    y, x = y.clip(0, dose.shape[0] - 1), x.clip(0, dose.shape[1] - 1)
    return np.where(known, dose[y[:, :, None], x[:, None, :]], 0.0)


def _separable(
    grid: CandidateGrid, template: SubScan, ledger: DoseLedger
) -> tuple[IntArray, FloatArray]:
    """Return top left and shares of unrotated windows: products of one share per axis."""
    rows = [ledger.footprint(replace(template, center_nm=(float(y), 0.0))) for y in grid.y_nm]
    columns = [ledger.footprint(replace(template, center_nm=(0.0, float(x)))) for x in grid.x_nm]
    tops = [bounds[0] for bounds, _ in rows]
    lefts = [bounds[2] for bounds, _ in columns]
    of_rows = _padded([share.sum(axis=1) for _, share in rows])
    of_columns = _padded([share.sum(axis=0) for _, share in columns])
    top_left = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    shares = of_rows[:, None, :, None] * of_columns[None, :, None, :]
    return top_left, shares.reshape(grid.n, of_rows.shape[1], of_columns.shape[1])


def _padded(profiles: Sequence[FloatArray]) -> FloatArray:
    out = np.zeros((len(profiles), max(len(profile) for profile in profiles)))
    for row, profile in zip(out, profiles, strict=True):
        row[: len(profile)] = profile
    return out


def _one_by_one(
    grid: CandidateGrid, template: SubScan, ledger: DoseLedger
) -> tuple[IntArray, FloatArray]:
    """Return top left and shares of rotated windows.

    Windows whose centres lie alike within a cell have the same shares, which are reckoned once.
    """
    centers = grid.centers_nm() / ledger.cell_nm
    cells = np.floor(centers + _ROUNDING).astype(np.int64)
    known: dict[tuple[float, float], tuple[int, int, FloatArray]] = {}
    top_left = np.empty((grid.n, 2), dtype=np.int64)
    found: list[FloatArray] = []
    for index, (cell, within) in enumerate(zip(cells, centers - cells, strict=True)):
        key = (round(float(within[0]), 9), round(float(within[1]), 9))
        if key not in known:
            y, x = grid.centers_nm()[index]
            window = replace(template, center_nm=(float(y), float(x)))
            (top, _, left, _), share = ledger.footprint(window)
            known[key] = (top - int(cell[0]), left - int(cell[1]), share)
        down, across, share = known[key]
        top_left[index] = cell[0] + down, cell[1] + across
        found.append(share)
    shape = tuple(max(share.shape[axis] for share in found) for axis in (0, 1))
    shares = np.zeros((grid.n, *shape))
    for row, share in zip(shares, found, strict=True):
        row[: share.shape[0], : share.shape[1]] = share
    return top_left, shares
