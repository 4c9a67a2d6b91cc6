"""The dose ledger: how many electrons each place of the specimen has seen, in e/Å².

The map lives in specimen nm on square cells of ``cell_nm``; a cell holds its mean dose. A scanned
rectangle shares its electrons over the cells it covers by the covered area, so that the sum of
dose times cell area is the number of electrons charged. The map grows when drift or an operator
leads outside the field.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from drivers.vocabulary import FloatArray, NmPair, SubScan

A2_PER_NM2 = 100.0
Bounds = tuple[int, int, int, int]
"""First and one-past-last row, first and one-past-last column."""


def executed_part(sub_scan: SubScan, positions: int) -> SubScan:
    """Return the rectangle of the rows that were begun when a scan stopped early.

    Without any position the first row counts: the beam settled there.
    """
    ny, nx = sub_scan.shape
    rows = min(ny, max(1, math.ceil(positions / nx)))
    if rows == ny:
        return sub_scan
    return _block(sub_scan, 0, rows, nx)


def executed_shares(sub_scan: SubScan, positions: int) -> tuple[tuple[SubScan, float], ...]:
    """Return the rectangles in which a scan's electrons fell, each with its share of them.

    The rows that were finished, and the begun part of the row in which it stopped.
    """
    nx = sub_scan.shape[1]
    rows, rest = divmod(positions, nx)
    if positions <= 0 or rest == 0 or rows >= sub_scan.shape[0]:
        return ((executed_part(sub_scan, positions), 1.0),)
    last = (_block(sub_scan, rows, 1, rest), rest / positions)
    if rows == 0:
        return (last,)
    return (_block(sub_scan, 0, rows, nx), rows * nx / positions), last


def _block(sub_scan: SubScan, first_row: int, rows: int, columns: int) -> SubScan:
    """Return the rectangle of some rows of a sub-scan, from their first column on."""
    dy, dx = sub_scan.pixel_nm
    middle = np.array([(first_row + rows / 2) * dy, columns / 2 * dx])
    y, x = sub_scan.to_plane(middle - np.asarray(sub_scan.fov_nm) / 2)
    return replace(
        sub_scan,
        center_nm=(float(y), float(x)),
        fov_nm=(rows * dy, columns * dx),
        shape=(rows, columns),
    )


def mean_dose_e_per_A2(sub_scan: SubScan, electrons: float) -> float:
    """Return electrons over the scanned area in e/Å²."""
    return electrons / (sub_scan.area_nm2 * A2_PER_NM2)


def probe_dose_e_per_A2(sub_scan: SubScan, electrons: float, probe_nm: float) -> float:
    """Return the dose under the probe at one position, in e/Å².

    Electrons per position over the disk of the probe's full width at half maximum: what a
    sparse 4D scan concentrates where positions are further apart than the probe is wide.
    """
    area_A2 = math.pi / 4 * probe_nm**2 * A2_PER_NM2
    return electrons / sub_scan.n_positions / area_A2


class DoseLedger:
    """Dose map and totals of a run.

    Parameters
    ----------
    field_nm : (y, x)
        Size of the field, centred on (0, 0), in nm.
    cell_nm : float
        Edge of a cell in nm: the resolution at which local dose is known.
    """

    def __init__(self, field_nm: NmPair, cell_nm: float) -> None:
        if not cell_nm > 0:
            raise ValueError(f"dose_cell_nm must be positive (got {cell_nm})")
        self.field_nm = field_nm
        self.cell_nm = cell_nm
        self.electrons = 0.0
        half = [math.ceil(size / 2 / cell_nm) for size in field_nm]
        self._origin = (-half[0], -half[1])
        self._map: FloatArray = np.zeros((2 * half[0], 2 * half[1]))
        self._spots: dict[tuple[int, int], float] = {}

    @property
    def map_e_per_A2(self) -> FloatArray:
        """The map: rows are y, columns x; a read-only view."""
        view = self._map.view()
        view.flags.writeable = False
        return view

    @property
    def extent_nm(self) -> tuple[float, float, float, float]:
        """Edges of the map: (y first, y last, x first, x last) in nm."""
        (y, x), (ny, nx) = self._origin, self._map.shape
        c = self.cell_nm
        return y * c, (y + ny) * c, x * c, (x + nx) * c

    @property
    def total_e_per_A2(self) -> float:
        """All electrons charged, over the area of the field."""
        return self.electrons / (self.field_nm[0] * self.field_nm[1] * A2_PER_NM2)

    @property
    def peak_e_per_A2(self) -> float:
        """Highest dose of any cell by scanning; what a parked probe left is in `spots`."""
        scanned = self._map.copy()
        for (row, column), dose in self._spots.items():
            scanned[row - self._origin[0], column - self._origin[1]] -= dose
        return float(scanned.max(initial=0.0))

    @property
    def spots_e_per_A2(self) -> dict[NmPair, float]:
        """Dose that a standing probe left, by the centre of the cell, (y, x) in nm."""
        c = self.cell_nm
        return {((y + 0.5) * c, (x + 0.5) * c): dose for (y, x), dose in self._spots.items()}

    def charge(self, sub_scan: SubScan, electrons: float) -> None:
        """Charge electrons spread evenly over the scanned rectangle."""
        bounds, share = self._shares(sub_scan)
        self._include(bounds)
        self._window(bounds)[...] += share * (electrons / self._cell_area_A2)
        self.electrons += electrons

    def charge_point(self, at_nm: NmPair, electrons: float) -> None:
        """Charge electrons that fell on one spot, e.g. a parked, unblanked probe."""
        row, column = (math.floor(value / self.cell_nm) for value in at_nm)
        bounds = (row, row + 1, column, column + 1)
        self._include(bounds)
        dose = electrons / self._cell_area_A2
        self._window(bounds)[...] += dose
        self._spots[row, column] = self._spots.get((row, column), 0.0) + dose
        self.electrons += electrons

    def peak_with(self, sub_scan: SubScan, electrons: float) -> float:
        """Return the highest dose in e/Å² the sub-scan's cells would have after it."""
        bounds, share = self._shares(sub_scan)
        before = self._read(bounds)
        after = before + share * (electrons / self._cell_area_A2)
        return float(after[share > 0].max(initial=0.0))

    def footprint(self, sub_scan: SubScan) -> tuple[Bounds, FloatArray]:
        """Return the cells a sub-scan touches and the share of its electrons in each.

        Cells are counted from the one whose top left corner is (0, 0) nm.
        """
        return self._shares(sub_scan)

    @property
    def _cell_area_A2(self) -> float:
        return self.cell_nm**2 * A2_PER_NM2

    def _window(self, bounds: Bounds) -> FloatArray:
        (y, x), (top, bottom, left, right) = self._origin, bounds
        return self._map[top - y : bottom - y, left - x : right - x]

    def _read(self, bounds: Bounds) -> FloatArray:
        """Return the dose in these cells, 0 where the map does not reach."""
        top, bottom, left, right = bounds
        (y, x), (ny, nx) = self._origin, self._map.shape
        out = np.zeros((bottom - top, right - left))
        t, b = max(top, y), min(bottom, y + ny)
        le, r = max(left, x), min(right, x + nx)
        if t < b and le < r:
            out[t - top : b - top, le - left : r - left] = self._window((t, b, le, r))
        return out

    def _include(self, bounds: Bounds) -> None:
        """Grow the map until it holds these cells."""
        top, bottom, left, right = bounds
        (y, x), (ny, nx) = self._origin, self._map.shape
        before = (max(0, y - top), max(0, x - left))
        after = (max(0, bottom - y - ny), max(0, right - x - nx))
        if any((*before, *after)):
            self._map = np.pad(self._map, ((before[0], after[0]), (before[1], after[1])))
            self._origin = (y - before[0], x - before[1])

    def _shares(self, sub_scan: SubScan) -> tuple[Bounds, FloatArray]:
        """Return the cells a rectangle touches and the share of its electrons in each."""
        corners = sub_scan.corners_nm() / self.cell_nm
        low, high = corners.min(axis=0), corners.max(axis=0)
        tiny = 1e-9
        top, left = (math.floor(value + tiny) for value in low)
        bottom = max(top + 1, math.ceil(high[0] - tiny))
        right = max(left + 1, math.ceil(high[1] - tiny))
        bounds = (top, bottom, left, right)
        if sub_scan.rotation_deg % 90 == 0:
            share = np.outer(
                _overlaps(top, bottom, float(low[0]), float(high[0])),
                _overlaps(left, right, float(low[1]), float(high[1])),
            )
        else:
            share = _covered(bounds, corners)
        total = share.sum()
        if total <= 0:  # too small for the numbers: in the cell of its centre
            share = np.zeros_like(share)
            row = math.floor(sub_scan.center_nm[0] / self.cell_nm) - top
            column = math.floor(sub_scan.center_nm[1] / self.cell_nm) - left
            share[min(max(row, 0), share.shape[0] - 1), min(max(column, 0), share.shape[1] - 1)] = 1
            return bounds, share
        return bounds, share / total


def _covered(bounds: Bounds, corners: FloatArray) -> FloatArray:
    """Return the fraction of each cell that a polygon covers; ``corners`` in cells, in order.

    Exact: each edge, cut at the borders of the cells, adds the signed area to its right.
    """
    top, bottom, left, right = bounds
    area = np.zeros((bottom - top, right - left + 1))
    local = corners - (top, left)
    for start, end in zip(local, np.roll(local, -1, axis=0), strict=True):
        points = _cut(start, end)
        y, x = (points[1:] + points[:-1]).T / 2
        row = np.floor(y).astype(np.intp).clip(0, area.shape[0] - 1)
        column = np.floor(x).astype(np.intp).clip(0, area.shape[1] - 2)
        height = np.diff(points[:, 0])
        np.add.at(area, (row, column), height * (1 - (x - column)))
        np.add.at(area, (row, column + 1), height * (x - column))
    return np.asarray(np.abs(area.cumsum(axis=1)[:, :-1]), dtype=np.float64)


def _cut(start: FloatArray, end: FloatArray) -> FloatArray:
    """Return the points of a line, (n, 2), from start to end and wherever it enters a new cell."""
    fractions = [np.array([0.0, 1.0])]
    for from_, to in zip(start, end, strict=True):
        borders = np.arange(math.ceil(min(from_, to)), math.floor(max(from_, to)) + 1)
        if from_ != to:
            fractions.append(((borders - from_) / (to - from_)).clip(0.0, 1.0))
    at = np.sort(np.concatenate(fractions))[:, None]
    return np.asarray(start + at * (end - start), dtype=np.float64)


def _overlaps(first: int, last: int, low: float, high: float) -> FloatArray:
    """Return how much of [low, high] lies in each unit cell from ``first`` to ``last``."""
    edges = np.arange(first, last + 1, dtype=np.float64)
    covered = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.asarray(covered.clip(min=0.0), dtype=np.float64)
