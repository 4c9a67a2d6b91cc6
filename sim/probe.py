"""The electron probe: wavelength, and how much of each spatial frequency the probe passes.

The probe is round, so that everything about it is a function of one radius.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import constants
from scipy.special import j0

FloatArray = npt.NDArray[np.float64]
REST_ENERGY_KV = constants.electron_mass * constants.speed_of_light**2 / constants.e / 1e3
"""Rest energy of the electron in keV (CODATA)."""
_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian in units of its standard deviation."""
_RADIUS_PX = 96
"""Radius of the aperture on the grid the probe is computed on."""
_GRID_PX = 512


def wavelength_nm(energy_kV: float) -> float:
    """Return the relativistic de Broglie wavelength in nm.

    λ = hc / √(E (E + 2 m₀c²)), Reimer & Kohl, *Transmission Electron Microscopy* (2008), eq. 2.14.

    Raises
    ------
    ValueError
        If the energy is not positive.
    """
    if not energy_kV > 0:
        raise ValueError(f"energy_kV = {energy_kV}: must be positive")
    hc_kV_nm = constants.h * constants.speed_of_light / constants.e / 1e3 * 1e9
    return float(hc_kV_nm / math.sqrt(energy_kV * (energy_kV + 2 * REST_ENERGY_KV)))


@dataclass(frozen=True)
class Probe:
    """A round convergent probe.

    Attributes
    ----------
    energy_kV, semiangle_mrad : float
        Beam energy and convergence semi-angle.
    source_fwhm_nm : float
        Full width at half maximum of the (Gaussian) source's image on the specimen.
    defocus_nm, cs_um : float
        Underfocus (positive) and third-order spherical aberration; phase
        χ = πλk²(Csλ²k²/2 - Δf), Kirkland (2010) eq. 2.10.
    """

    energy_kV: float
    semiangle_mrad: float
    source_fwhm_nm: float = 0.0
    defocus_nm: float = 0.0
    cs_um: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.semiangle_mrad < 500:
            raise ValueError(f"semiangle_mrad = {self.semiangle_mrad}: must be between 0 and 500")
        if not self.source_fwhm_nm >= 0:
            raise ValueError(f"source_fwhm_nm = {self.source_fwhm_nm}: must not be negative")
        wavelength_nm(self.energy_kV)

    @property
    def wavelength_nm(self) -> float:
        """Electron wavelength in nm."""
        return wavelength_nm(self.energy_kV)

    @property
    def aperture_per_nm(self) -> float:
        """Radius of the aperture as a spatial frequency, α/λ in 1/nm."""
        return self.semiangle_mrad * 1e-3 / self.wavelength_nm

    @property
    def cutoff_per_nm(self) -> float:
        """Spatial frequency past which the probe's intensity holds nothing, 2α/λ in 1/nm."""
        return 2 * self.aperture_per_nm

    def transfer(self) -> tuple[FloatArray, FloatArray]:
        """Return spatial frequencies in 1/nm and the transfer at each (both (n,); 1 at 0).

        The transfer function of incoherent imaging is the Fourier transform of the probe's
        intensity |ψ|², that is the autocorrelation of the aperture (Kirkland, *Advanced
        Computing in Electron Microscopy* (2010), sec. 3.5), times the source's Gaussian.
        Accurate to about 7e-4 of full contrast.
        """
        intensity, pitch_per_nm, area = self._diffraction_limited()
        overlap = np.fft.fft2(intensity)[0, : _GRID_PX // 2].real / area
        overlap[0] = 1.0
        frequency = np.arange(overlap.size) * pitch_per_nm
        keep = frequency < self.cutoff_per_nm * (1 - 1e-9)
        frequency = frequency[keep]
        sigma_nm = self.source_fwhm_nm / _PER_SIGMA
        source = np.exp(-2 * (math.pi * sigma_nm * frequency) ** 2)
        transfer = overlap[keep] * source
        return np.append(frequency, self.cutoff_per_nm), np.append(transfer, 0.0)

    def profile(self, radius_nm: FloatArray) -> FloatArray:
        """Return the probe's intensity at the given distances from its centre, in 1/nm².

        The intensity integrates to 1 over the plane. It is the Hankel transform of `transfer`.
        """
        frequency, transfer = self.transfer()
        fine = np.linspace(0, self.cutoff_per_nm, 2001)
        weights = np.interp(fine, frequency, transfer) * fine * 2 * math.pi
        bessel = j0(2 * math.pi * np.multiply.outer(np.asarray(radius_nm), fine))
        return np.asarray(np.trapezoid(bessel * weights, fine, axis=-1), dtype=np.float64)

    def fwhm_nm(self) -> float:
        """Return the full width at half maximum of the probe, source included, in nm."""
        radius = np.linspace(0, 2 / self.aperture_per_nm + 2 * self.source_fwhm_nm, 801)
        intensity = self.profile(radius)
        below = int(np.argmax(intensity < intensity[0] / 2))
        pair = slice(below, below - 2 if below > 1 else None, -1)
        return float(2 * np.interp(intensity[0] / 2, intensity[pair], radius[pair]))

    def _diffraction_limited(self) -> tuple[FloatArray, float, float]:
        """Return |ψ|² on a square grid, the pitch of its frequencies in 1/nm, and its norm.

        The norm is the aperture's area, in the units of the Fourier transform of |ψ|²: the
        autocorrelation of the smoothed edge is right everywhere but at no shift at all.
        """
        pitch_per_nm = self.aperture_per_nm / _RADIUS_PX
        axis = np.fft.fftfreq(_GRID_PX, 1 / _GRID_PX)
        radius_px = np.hypot(axis[:, None], axis[None, :])
        aperture = np.clip(_RADIUS_PX + 0.5 - radius_px, 0.0, 1.0)
        k2 = (radius_px * pitch_per_nm) ** 2
        lam = self.wavelength_nm
        phase = math.pi * lam * k2 * (0.5 * self.cs_um * 1e3 * lam**2 * k2 - self.defocus_nm)
        wave = np.fft.ifft2(aperture * np.exp(-1j * phase))
        return np.abs(wave) ** 2, pitch_per_nm, float(aperture.sum()) / _GRID_PX**2
