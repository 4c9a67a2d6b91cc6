"""The probe against textbook numbers: wavelengths, the Airy disc, the ideal transfer function."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j1

from sim.probe import Probe, wavelength_nm


@pytest.mark.parametrize(
    ("energy_kV", "wavelength_pm"),
    [(60, 4.866), (80, 4.176), (100, 3.701), (200, 2.508), (300, 1.969)],
)
def test_wavelength_is_the_tabulated_one(energy_kV: float, wavelength_pm: float) -> None:
    assert wavelength_nm(energy_kV) * 1e3 == pytest.approx(wavelength_pm, abs=6e-4)


@settings(deadline=None)
@given(st.floats(1e-6, 1e-3))
def test_slow_electrons_are_classical(energy_kV: float) -> None:
    assert wavelength_nm(energy_kV) == pytest.approx(1.22643 / math.sqrt(energy_kV * 1e3), rel=1e-5)


@pytest.mark.parametrize(("energy_kV", "semiangle_mrad"), [(60, 31), (200, 22), (300, 10)])
def test_ideal_probe_has_the_width_of_an_airy_disc(energy_kV: float, semiangle_mrad: float) -> None:
    probe = Probe(energy_kV, semiangle_mrad)
    expected = 0.5145 * wavelength_nm(energy_kV) / (semiangle_mrad * 1e-3)
    assert probe.fwhm_nm() == pytest.approx(expected, rel=0.01)


def test_ideal_probe_is_an_airy_pattern() -> None:
    probe = Probe(60, 31)
    radius = np.linspace(1e-4, 0.3, 60)
    v = 2 * math.pi * probe.aperture_per_nm * radius
    airy = math.pi * probe.aperture_per_nm**2 * (2 * j1(v) / v) ** 2
    assert np.abs(probe.profile(radius) - airy).max() < 0.005 * airy.max()


def test_ideal_transfer_is_the_overlap_of_two_discs() -> None:
    frequency, transfer = Probe(80, 25).transfer()
    u = frequency / frequency[-1]
    expected = 2 / math.pi * (np.arccos(u) - u * np.sqrt(1 - u**2))
    assert np.abs(transfer - expected).max() < 8e-4


def test_wide_source_makes_the_probe_its_own_size() -> None:
    assert Probe(200, 30, source_fwhm_nm=0.5).fwhm_nm() == pytest.approx(0.5, rel=0.03)


@settings(max_examples=15, deadline=None)
@given(
    energy_kV=st.floats(30, 300),
    semiangle_mrad=st.floats(5, 40),
    source_fwhm_nm=st.floats(0, 0.3),
    defocus_nm=st.floats(-8, 8),
)
def test_transfer_starts_at_one_ends_at_zero_and_never_amplifies(
    energy_kV: float, semiangle_mrad: float, source_fwhm_nm: float, defocus_nm: float
) -> None:
    probe = Probe(energy_kV, semiangle_mrad, source_fwhm_nm, defocus_nm)
    frequency, transfer = probe.transfer()
    assert transfer[0] == pytest.approx(1)
    assert transfer[-1] == 0
    assert np.abs(transfer).max() <= 1 + 1e-9
    assert np.all(np.diff(frequency) > 0)
    assert frequency[-1] == pytest.approx(2 * semiangle_mrad * 1e-3 / wavelength_nm(energy_kV))


def test_defocus_and_its_sign_matter_as_they_should() -> None:
    sharp = Probe(60, 31).fwhm_nm()
    assert Probe(60, 31, defocus_nm=8).fwhm_nm() > 1.05 * sharp
    radius = np.linspace(0, 0.3, 20)
    over, under = (Probe(60, 31, defocus_nm=d).profile(radius) for d in (6, -6))
    np.testing.assert_allclose(over, under, atol=1e-6 * over.max())
    # underfocus compensates positive spherical aberration, overfocus adds to it
    cs = {d: Probe(200, 12, defocus_nm=d, cs_um=500).profile(np.zeros(1))[0] for d in (-40, 0, 40)}
    assert cs[-40] < cs[0] < cs[40]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"energy_kV": 0}, "energy_kV"),
        ({"energy_kV": math.nan}, "energy_kV"),
        ({"semiangle_mrad": 0}, "semiangle_mrad"),
        ({"source_fwhm_nm": -1}, "source_fwhm_nm"),
    ],
)
def test_bad_values_are_named(options: dict[str, float], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        Probe(**{"energy_kV": 60, "semiangle_mrad": 31, **options})
