"""How sub-scans and surveys are cut in the patches whose spectra are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivers.vocabulary import FloatArray, NmPair, SubScan

MIN_SUB_SCAN_PX = 8
"""Fewest pixels of a sub-scan's patch along an axis."""
MIN_SURVEY_PX = 4
"""Fewest pixels of a survey's patch along an axis."""
MAX_SURVEY_PATCHES = 1600
"""Most patches a survey is cut in: bounds the time of the fit."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """Square-ish patches of a sub-scan: ``per_axis`` along each axis, evenly spread.

    Attributes
    ----------
    window_nm : (y, x)
        Field of view of a sub-scan.
    per_axis : int
        Patches along each axis.
    divisor : int
        A patch is this fraction of the window: 1 the whole, 2 half of it along each axis.
    """

    window_nm: NmPair
    per_axis: int
    divisor: int

    @property
    def patch_nm(self) -> NmPair:
        """Size of a patch, (y, x) in nm."""
        return self.window_nm[0] / self.divisor, self.window_nm[1] / self.divisor

    def centers_nm(self) -> FloatArray:
        """Return the patches' centres against that of the sub-scan: (n, 2), (y, x) in nm."""
        axes = []
        for window, patch in zip(self.window_nm, self.patch_nm, strict=True):
            room = window - patch
            axes.append(np.linspace(-room / 2, room / 2, self.per_axis) if room else np.zeros(1))
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)

    @classmethod
    def choose(
        cls, window_nm: NmPair, sub_scan_shape: tuple[int, int] | None, survey: SubScan
    ) -> Tiling:
        """Choose the finest of 3 x 3 half windows (overlapping), 2 x 2, and the whole window.

        Parameters
        ----------
        window_nm : (y, x)
        sub_scan_shape : (ny, nx) or None
            Unknown counts as large enough.
        survey : SubScan
            What the components are fitted on.

        Raises
        ------
        ValueError
            If even the whole window has too few pixels, or the survey is smaller than it.
        """
        fewest = min(sub_scan_shape) if sub_scan_shape is not None else 4 * MIN_SUB_SCAN_PX
        if fewest < MIN_SUB_SCAN_PX:
            ny, nx = sub_scan_shape or (0, 0)
            raise ValueError(_too_small(ny, nx))
        across = [w / p for w, p in zip(window_nm, survey.pixel_nm, strict=True)]
        if min(across) < MIN_SURVEY_PX:
            raise ValueError(
                f"descriptor linear: a sub-scan's window covers only {min(across):.1f} pixels of "
                f"the survey, {MIN_SURVEY_PX} are needed; take a finer survey or larger "
                "sub-scans, or use descriptor kind 'channel'"
            )
        if survey.fov_nm[0] < window_nm[0] or survey.fov_nm[1] < window_nm[1]:
            raise ValueError(
                f"descriptor linear: the survey ({survey.fov_nm} nm) is smaller than a sub-scan "
                f"({window_nm} nm)"
            )
        if fewest < 2 * MIN_SUB_SCAN_PX or min(across) < 2 * MIN_SURVEY_PX:
            return cls(window_nm, 1, 1)
        return cls(window_nm, 3 if fewest >= 4 * MIN_SUB_SCAN_PX else 2, 2)


def _too_small(ny: int, nx: int) -> str:
    """Say that a sub-scan has too few pixels."""
    return (
        f"a {ny}x{nx} sub-scan is too small for a windowed FFT "
        f"(at least {MIN_SUB_SCAN_PX} positions along each axis); use descriptor kind 'channel'"
    )


def cut_sub_scan(image: FloatArray, scan: SubScan, tiling: Tiling) -> FloatArray:
    """Cut the image of a sub-scan in its patches: (n, py, px), row by row.

    Raises
    ------
    ValueError
        If a patch would have too few pixels.
    """
    size = [round(n / tiling.divisor) for n in scan.shape]
    if min(size) < MIN_SUB_SCAN_PX:
        raise ValueError(f"sub-scan {scan.id}: {_too_small(*scan.shape)}")
    starts = [
        np.linspace(0, n - s, tiling.per_axis).round().astype(np.intp)
        for n, s in zip(scan.shape, size, strict=True)
    ]
    return np.stack([image[y : y + size[0], x : x + size[1]] for y in starts[0] for x in starts[1]])


def cut_survey(image: FloatArray, scan: SubScan, tiling: Tiling) -> FloatArray:
    """Cut a survey's image in patches of the same size in nm, half overlapping: (n, py, px).

    The step is widened where there would be more than `MAX_SURVEY_PATCHES`.
    """
    pitch = scan.pixel_nm
    size = [
        min(max(round(p / d), MIN_SURVEY_PX), n)
        for p, d, n in zip(tiling.patch_nm, pitch, scan.shape, strict=True)
    ]
    most = int(np.sqrt(MAX_SURVEY_PATCHES))
    starts = [
        np.unique(np.linspace(0, n - s, min(max(2 * n // s - 1, 1), most)).round().astype(np.intp))
        for n, s in zip(scan.shape, size, strict=True)
    ]
    return np.stack([image[y : y + size[0], x : x + size[1]] for y in starts[0] for x in starts[1]])
