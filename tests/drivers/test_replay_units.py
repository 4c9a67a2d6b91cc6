"""Units of recorded axes, as programs write them."""

from __future__ import annotations

import pytest

from drivers.replay.units import UNKNOWN, scales_of

LENGTHS = {"pm": 1e-3, "A": 0.1, "Å": 0.1, "angstrom": 0.1, "nm": 1.0, "µm": 1e3, "m": 1e9}
RECIPROCAL = {"1/A": 1.0, "$A^{-1}$": 1.0, "1 / Å": 1.0, "1/nm": 0.1, "nm^-1": 0.1}


def test_lengths_become_nm() -> None:
    for unit, nm in LENGTHS.items():
        assert scales_of([2.0, -3.0], [unit, unit]).pixel_nm == pytest.approx((2 * nm, 3 * nm))


def test_reciprocal_lengths_and_angles() -> None:
    for unit, inv_A in RECIPROCAL.items():
        scales = scales_of([1.0, 1.0, 0.5, 0.5], ["nm", "nm", unit, unit])
        assert scales.inv_A_per_px == pytest.approx(0.5 * inv_A)
        assert scales.mrad_per_px is None
    assert scales_of([1.0, 1.0, 2.0, 2.0], ["", "", "rad", "rad"]).mrad_per_px == 2000.0


def test_what_is_no_length_is_no_scale() -> None:
    for steps, units in (
        ([1.0, 1.0], ["", ""]),
        ([1.0, 1.0], ["nm", "s"]),
        ([0.0, 1.0], ["nm", "nm"]),
        ([float("nan"), 1.0], ["nm", "nm"]),
        ([1.0], ["nm"]),
        ([], []),
    ):
        assert scales_of(steps, units) == UNKNOWN
