"""Cross-sections against independent numbers: numerical integrals and multislice results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from sim.detector import Z_EXPONENT, Annulus, screened_rutherford_nm2
from sim.probe import Probe, wavelength_nm


def differential_nm2_per_sr(z: int, energy_kV: float, theta: float) -> float:
    """Return Wentzel's dσ/dΩ the other way round: |f|² with f from the Fourier transform."""
    bohr_nm, rest_kV = 0.0529177, 510.999
    screening_per_nm = z ** (1 / 3) / bohr_nm
    q_per_nm = 2 * math.pi * theta / wavelength_nm(energy_kV)
    gamma = 1 + energy_kV / rest_kV
    f_nm = 2 * z * gamma / bohr_nm / (q_per_nm**2 + screening_per_nm**2)
    return f_nm**2


@pytest.mark.parametrize("z", [6, 14, 56, 74])
@pytest.mark.parametrize(("inner", "outer"), [(0, 30), (40, 80), (80, 200)])
def test_closed_form_is_the_integral(z: int, inner: float, outer: float) -> None:
    expected, _ = quad(
        lambda t: differential_nm2_per_sr(z, 60, t) * 2 * math.pi * t, inner * 1e-3, outer * 1e-3
    )
    assert screened_rutherford_nm2(z, 60, inner, outer) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("inner", "outer", "z", "multislice", "tolerance"),
    [
        (80, 150, 14, 0.003872, 0.25),
        (40, 75, 14, 0.00906, 0.25),
        (40, 75, 6, 0.00184, 0.6),
    ],
)
def test_fraction_on_one_atom_is_near_converged_multislice(
    inner: float, outer: float, z: int, multislice: float, tolerance: float
) -> None:
    """60 kV, 31 mrad, probe on a single atom in graphene; values of a converged multislice."""
    probe = Probe(60, 31)
    ring = Annulus(inner, outer, Z_EXPONENT["haadf" if inner == 80 else "adf"])
    peak_per_nm2 = probe.profile(np.zeros(1))
    depth = ring.cross_sections_nm2(np.array([z]), 60) * peak_per_nm2
    assert ring.fraction(depth)[0] == pytest.approx(multislice, rel=tolerance)


def test_z_contrast_is_the_stated_power() -> None:
    carbon, silicon = Annulus(80, 200, 1.7).cross_sections_nm2(np.array([6, 14]), 60)
    assert silicon / carbon == pytest.approx((14 / 6) ** 1.7)


@settings(deadline=None)
@given(st.floats(0.001, 0.5))
def test_rings_collect_what_bright_field_loses(depth: float) -> None:
    """Where everything scattered lands on the ring, the two fractions add up to the beam."""
    ring, disc = Annulus(30, 200, 1.5), Annulus(0, 30, 1.5)
    assert ring.fraction(np.array(depth)) + disc.fraction(np.array(depth)) == pytest.approx(1)


@settings(deadline=None)
@given(
    z=st.integers(1, 92),
    energy_kV=st.sampled_from([60.0, 80.0, 200.0, 300.0]),
    semiangle=st.floats(10, 35),
    per_nm2=st.floats(0, 3000),
)
def test_no_more_electrons_are_collected_than_sent(
    z: int, energy_kV: float, semiangle: float, per_nm2: float
) -> None:
    """Bright field, medium and high angles side by side, for any element and thickness."""
    detectors = [
        Annulus(0, semiangle, Z_EXPONENT["bf"]),
        Annulus(80, 200, Z_EXPONENT["haadf"]),
    ]
    collected = sum(
        float(d.fraction(d.cross_sections_nm2(np.array([z]), energy_kV) * per_nm2)[0])
        for d in detectors
    )
    assert 0 <= collected <= 1 + 1e-12


@pytest.mark.parametrize(("inner", "outer"), [(80, 80), (90, 80), (-1, 50), (math.nan, 50)])
def test_a_ring_that_collects_nothing_is_refused(inner: float, outer: float) -> None:
    with pytest.raises(ValueError, match="collects nothing"):
        Annulus(inner, outer, 1.7)
