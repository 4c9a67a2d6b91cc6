"""The one place where nanometres become coordinates of the unit cube.

A Gaussian process with standard priors is silently useless on raw coordinates, so the surrogate
never sees any.
"""

from __future__ import annotations

import numpy as np

from drivers.vocabulary import FloatArray
from models.decision.protocols import BoolArray, CandidateGrid


class UnitCube:
    """Scales the field of a grid, from edge to edge of its outermost windows, to 0 ... 1.

    Attributes
    ----------
    length_floor : (y, x)
        Smallest meaningful length-scale in the unit cube: half a window.
    """

    def __init__(self, grid: CandidateGrid) -> None:
        half = np.asarray(grid.window_nm, dtype=np.float64) / 2
        self._start = np.array([grid.y_nm.min(), grid.x_nm.min()]) - half
        stop = np.array([grid.y_nm.max(), grid.x_nm.max()]) + half
        self._size = stop - self._start
        floor_y, floor_x = (half / self._size).tolist()
        self.length_floor: tuple[float, float] = (floor_y, floor_x)

    def scale(self, points_nm: FloatArray) -> FloatArray:
        """Return (n, 2) places in the unit cube, from (y, x) in nm."""
        return np.asarray((points_nm - self._start) / self._size, dtype=np.float64)

    def inside(self, points_nm: FloatArray) -> BoolArray:
        """Say for each of (n, 2) places in nm whether it lies in the field."""
        unit = self.scale(points_nm)
        return np.asarray(((unit >= 0) & (unit <= 1)).all(axis=1), dtype=np.bool_)

    def lengths_nm(self, lengths: tuple[float, float]) -> tuple[float, float]:
        """Return lengths of the unit cube, (y, x), in nm."""
        return lengths[0] * float(self._size[0]), lengths[1] * float(self._size[1])
