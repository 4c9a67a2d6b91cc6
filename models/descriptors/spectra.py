"""Windowed Fourier magnitudes of image patches, on a grid of physical spatial frequencies.

A survey and a sub-scan have different pixel pitches. Their spectra are therefore evaluated at the
same frequencies in 1/nm, multiples of one over the patch's size, by a discrete Fourier transform
written as two matrix products. Where patch and pixel grid agree it equals the FFT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivers.vocabulary import FloatArray, NmPair

FLAT = 1e-9
"""Contrast below which a patch counts as flat: what is left there is rounding."""


@dataclass(frozen=True, slots=True)
class FrequencyGrid:
    """Spatial frequencies (k_y / size_y, k_x / size_x), half plane, without the origin.

    Attributes
    ----------
    patch_nm : (y, x)
        Size of a patch: the frequencies are multiples of one over it.
    orders : (y, x)
        Highest multiple along each axis, at least 1.
    """

    patch_nm: NmPair
    orders: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Frequencies along y (0 and up) and along x (both signs)."""
        return self.orders[0] + 1, 2 * self.orders[1] + 1

    def kept(self) -> npt.NDArray[np.bool_]:
        """Say which of `shape` are features: not the origin, and none twice (real images)."""
        keep = np.ones(self.shape, dtype=np.bool_)
        keep[0, : self.orders[1] + 1] = False
        return keep

    @property
    def n_features(self) -> int:
        """Number of features of a patch."""
        return int(self.kept().sum())


def hann(n: int) -> FloatArray:
    """Return the periodic-sample Hann window at n pixel centres: sin²(π (j + ½) / n)."""
    return np.asarray(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2, dtype=np.float64)


def amplitudes(patches: FloatArray, pixel_nm: NmPair, grid: FrequencyGrid) -> FloatArray:
    """Return the Fourier magnitudes of Hann-windowed patches, mean removed.

    Parameters
    ----------
    patches : (n, ny, nx) array
    pixel_nm : (y, x)
        Pitch of their pixels in nm.
    grid : FrequencyGrid

    Returns
    -------
    (n, grid.shape) array
        |Σ w (I - <I>) exp(-2πi f·r)| / Σ w, in the unit of the image; a shift of the content
        within the patch changes only what the window cuts off.
    """
    ny, nx = patches.shape[1:]
    w_y, w_x = hann(ny), hann(nx)
    weight = np.outer(w_y, w_x) / (w_y.sum() * w_x.sum())
    mean = (patches * weight).sum(axis=(1, 2), keepdims=True)
    windowed = (patches - mean) * weight
    k_y = np.arange(grid.orders[0] + 1) / grid.patch_nm[0]
    k_x = np.arange(-grid.orders[1], grid.orders[1] + 1) / grid.patch_nm[1]
    wave_y = np.exp(-2j * np.pi * np.outer(k_y, np.arange(ny) * pixel_nm[0]))
    wave_x = np.exp(-2j * np.pi * np.outer(np.arange(nx) * pixel_nm[1], k_x))
    return np.asarray(np.abs(wave_y @ windowed @ wave_x), dtype=np.float64)


def log_spectra(patches: FloatArray, pixel_nm: NmPair, grid: FrequencyGrid) -> FloatArray:
    """Return log(1 + a / median a) of each patch at the features of a grid: (n, n_features).

    The median over a patch's own frequencies is its noise and leakage floor, so that neither
    brightness, offset, gain nor dwell time move the result. A flat patch gives zeros.
    """
    spectrum = amplitudes(patches, pixel_nm, grid)[:, grid.kept()]
    floor = np.median(spectrum, axis=1, keepdims=True)
    size = np.abs(patches).max(axis=(1, 2))[:, None]
    flat = spectrum.max(axis=1, keepdims=True) <= FLAT * size
    floor = np.where(flat | (floor == 0), 1.0, floor)
    return np.asarray(np.where(flat, 0.0, np.log1p(spectrum / floor)), dtype=np.float64)


def fitting_orders(
    patch_nm: NmPair, coarsest_nm: NmPair, band: float, most: int
) -> tuple[int, int]:
    """Return the highest frequency multiples that a pixel pitch supports.

    Parameters
    ----------
    patch_nm, coarsest_nm : (y, x)
        Size of a patch, and the coarsest pixel pitch to be compared.
    band : float
        Fraction of the Nyquist frequency that is used.
    most : int
        Upper limit, whatever the pitch.
    """
    y, x = (
        max(1, min(most, int(band * size / (2 * pitch) + 1e-9)))
        for size, pitch in zip(patch_nm, coarsest_nm, strict=True)
    )
    return y, x
