"""Linear incoherent image formation: the probe's intensity convolved with point scatterers.

I(r) = Σ_j σ_j P(r - r_j) (Pennycook & Jesson, Ultramicroscopy 37, 14 (1991)). P holds no spatial
frequency past 2α/λ, so the image of a whole specimen is computed once on a grid that resolves
those, and read off anywhere by a quintic spline.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.interpolate import BSpline

from sim.probe import Probe

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
_SPREAD = 6
"""Order of the B-spline that spreads each atom over the grid: 6 pixels in y and in x."""
_READ = 6
"""Order of the (quintic) B-spline that reads the image off the grid."""
_GUARD_NM = 1.0
"""Empty rim in which the tails of the probe fade."""
MAX_GRID_PX = 8192


def grid_shape(size_nm: tuple[float, float], probe: Probe) -> tuple[int, int]:
    """Return the (y, x) shape of the grid that an image of this size is computed on.

    Raises
    ------
    ValueError
        If the grid would have more than `MAX_GRID_PX` pixels in y or x.
    """
    pitch_nm = _pitch_nm(probe)
    least = [math.ceil((side + 2 * _GUARD_NM) / pitch_nm) for side in size_nm]
    if max(least) > MAX_GRID_PX:
        limit_nm = MAX_GRID_PX * pitch_nm - 2 * _GUARD_NM
        raise ValueError(
            f"a specimen of {size_nm[0]:g} x {size_nm[1]:g} nm is too large for this probe: "
            f"at most {limit_nm:.0f} nm a side; make the field or its margin smaller"
        )
    return fft.next_fast_len(least[0], real=False), fft.next_fast_len(least[1], real=True)


def _pitch_nm(probe: Probe) -> float:
    """Return the grid's pitch: its Nyquist frequency is 1.5 times the probe's cutoff."""
    return 1 / (3 * probe.cutoff_per_nm)


class IncoherentImage:
    """The image of a set of atoms under one probe.

    Atoms sit at their exact positions: they are spread over the grid with a B-spline whose
    own blur is divided out, as is that of the spline which reads the image off (smooth particle
    mesh, Essmann et al., J. Chem. Phys. 103, 8577 (1995)). `sample` differs from direct
    summation by less than 1e-3 of the image's maximum.

    Parameters
    ----------
    positions_nm : (n, 2) array
        Atoms, (y, x) in nm; the middle of the specimen is (0, 0).
    cross_sections_nm2 : (n,) array
        Scattering strength of each, in nm².
    size_nm : (y, x)
        Extent that can be sampled, centred on (0, 0). Outside of it is vacuum.
    probe : Probe
        The probe.

    Raises
    ------
    ValueError
        If the extent is too large, see `grid_shape`.
    """

    def __init__(
        self,
        positions_nm: FloatArray,
        cross_sections_nm2: FloatArray,
        size_nm: tuple[float, float],
        probe: Probe,
    ) -> None:
        shape = grid_shape(size_nm, probe)
        self.pitch_nm = _pitch_nm(probe)
        self.size_nm = size_nm
        self._middle_px = shape[0] // 2, shape[1] // 2
        grid = self._spread(positions_nm, cross_sections_nm2, shape)
        spectrum = fft.rfft2(grid)
        spectrum *= _transfer_on_grid(probe, shape, self.pitch_nm)
        self._coefficients: Float32Array = fft.irfft2(spectrum, s=shape)

    def sample(self, points_nm: FloatArray) -> FloatArray:
        """Return Σ_j σ_j P(r - r_j) at points (..., 2), (y, x) in nm: shape (...), never negative.

        Points outside the specimen's extent give 0.
        """
        points = np.asarray(points_nm, dtype=np.float64)
        pixel = [points[..., i] / self.pitch_nm + self._middle_px[i] for i in (0, 1)]
        depth = ndimage.map_coordinates(
            self._coefficients, pixel, order=5, mode="grid-wrap", prefilter=False, output=np.float64
        )
        inside = np.abs(points) <= np.asarray(self.size_nm) / 2
        return np.asarray(np.where(inside.all(axis=-1), np.maximum(depth, 0.0), 0.0))

    def _spread(
        self, positions_nm: FloatArray, strengths: FloatArray, shape: tuple[int, int]
    ) -> Float32Array:
        """Return each atom's strength per pixel area, spread with the B-spline: ``shape``."""
        inside = (np.abs(positions_nm) <= np.asarray(self.size_nm) / 2).all(axis=1)
        place = positions_nm[inside] / self.pitch_nm + np.asarray(self._middle_px)
        first = np.floor(place - _SPREAD / 2).astype(np.int64) + 1
        basis = BSpline.basis_element(np.arange(_SPREAD + 1), extrapolate=False)
        steps = np.arange(_SPREAD)
        # (n, _SPREAD, 2): pixels that an atom touches, and the weight of each along y and x
        pixels = first[:, None, :] + steps[None, :, None]
        weights = np.nan_to_num(basis(pixels - place[:, None, :] + _SPREAD / 2))
        scaled = strengths[inside] / self.pitch_nm**2
        grid = np.zeros(shape[0] * shape[1])
        for row in range(_SPREAD):
            along_x = (scaled * weights[:, row, 0])[:, None] * weights[:, :, 1]
            flat = (pixels[:, row, 0, None] % shape[0]) * shape[1] + pixels[:, :, 1] % shape[1]
            grid += np.bincount(flat.ravel(), weights=along_x.ravel(), minlength=grid.size)
        return grid.reshape(shape).astype(np.float32)


def _transfer_on_grid(probe: Probe, shape: tuple[int, int], pitch_nm: float) -> Float32Array:
    """Return the probe's transfer at the frequencies of `rfft2`, over those of both B-splines.

    One spreads the atoms over the grid, the other reads the image off it.
    """
    ky = fft.fftfreq(shape[0], pitch_nm).astype(np.float32)
    kx = fft.rfftfreq(shape[1], pitch_nm).astype(np.float32)
    frequency, transfer = probe.transfer()
    radius = np.hypot(ky[:, None], kx[None, :])
    on_grid = np.interp(radius, frequency, transfer, right=0.0).astype(np.float32)
    on_grid /= np.sinc(ky * np.float32(pitch_nm))[:, None] ** (_SPREAD + _READ)
    on_grid /= np.sinc(kx * np.float32(pitch_nm))[None, :] ** (_SPREAD + _READ)
    return on_grid
