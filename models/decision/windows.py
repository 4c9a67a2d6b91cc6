"""Which candidate windows share area with windows that were scanned or are about to be.

Plain geometry in nanometres; all candidates have the size and rotation of one template.
"""

from __future__ import annotations

import math

import numpy as np

from drivers.vocabulary import FloatArray, SubScan
from models.decision.protocols import BoolArray, CandidateGrid

TOUCHING = 1e-6
"""Shared fraction of a window below which two windows only touch (rounding of positions)."""


class WindowGeometry:
    """The candidate windows of a grid, for questions of overlap.

    Parameters
    ----------
    grid : CandidateGrid
    rotation_deg : float
        Rotation of every candidate window.
    """

    def __init__(self, grid: CandidateGrid, rotation_deg: float) -> None:
        angle = math.radians(rotation_deg)
        # rows of this matrix turn a specimen (y, x) into the axes of a candidate window
        self._turn = np.array(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
        self._centers = grid.centers_nm() @ self._turn.T
        self._size = np.asarray(grid.window_nm, dtype=np.float64)

    def shared_fraction(self, other: SubScan) -> FloatArray:
        """Return how much of each candidate window a sub-scan covers, (n,) from 0 to 1.

        A sub-scan that is rotated against the candidates counts as its bounding box in their
        axes: never too little.
        """
        corners = other.corners_nm() @ self._turn.T
        low, high = corners.min(axis=0), corners.max(axis=0)
        start = np.maximum(self._centers - self._size / 2, low)
        stop = np.minimum(self._centers + self._size / 2, high)
        shared = np.clip(stop - start, 0.0, None).prod(axis=1)
        return np.asarray(shared / self._size.prod(), dtype=np.float64)

    def overlapping(self, other: SubScan, max_overlap: float = 0.0) -> BoolArray:
        """Say for each candidate, (n,), whether a sub-scan covers more than that fraction of it."""
        return np.asarray(self.shared_fraction(other) > max_overlap + TOUCHING, dtype=np.bool_)
