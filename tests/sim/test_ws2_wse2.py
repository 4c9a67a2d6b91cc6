"""WS2/WSe2: lattice, occupation that follows the composition, an interface where truth says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from sim.specimen import Specimen, ws2_wse2

FIELD = (24.0, 20.0)


@pytest.fixture(scope="module")
def sheet() -> Specimen:
    return ws2_wse2(FIELD, seed=4, margin_nm=2.0)


def of(sheet: Specimen, *elements: int) -> np.ndarray:
    return sheet.positions_nm[np.isin(sheet.atomic_numbers, elements)]


def grid(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.meshgrid(np.linspace(-12, 12, n), np.linspace(-10, 10, n), indexing="ij")
    return y, x


def test_two_chalcogens_for_each_tungsten(sheet: Specimen) -> None:
    tungsten, chalcogen = len(of(sheet, 74)), len(of(sheet, 16, 34))
    assert chalcogen / tungsten == pytest.approx(2, rel=0.02)
    assert len(sheet.positions_nm) == tungsten + chalcogen
    cell_nm2 = 0.323**2 * math.sqrt(3) / 2
    assert tungsten / math.prod(sheet.size_nm) == pytest.approx(1 / cell_nm2, rel=0.01)


def test_lattice_is_hexagonal_with_0_323_nm(sheet: Specimen) -> None:
    tungsten = of(sheet, 74)
    inside = tungsten[(np.abs(tungsten) < 9).all(axis=1)]
    distance, _ = KDTree(tungsten).query(inside, k=7)
    np.testing.assert_allclose(distance[:, 1:], 0.323, atol=1e-9)


def test_chalcogen_pairs_sit_in_the_middle_of_three_tungstens(sheet: Specimen) -> None:
    chalcogen = of(sheet, 16, 34)
    inside = chalcogen[(np.abs(chalcogen) < 9).all(axis=1)]
    distance, _ = KDTree(of(sheet, 74)).query(inside, k=3)
    np.testing.assert_allclose(distance, 0.323 / math.sqrt(3), atol=1e-9)
    partner, _ = KDTree(chalcogen).query(inside, k=3)
    np.testing.assert_allclose(partner[:, 1], 0, atol=1e-9)
    np.testing.assert_allclose(partner[:, 2], 0.323, atol=1e-9)


def test_selenium_follows_the_composition(sheet: Specimen) -> None:
    chalcogen = np.isin(sheet.atomic_numbers, (16, 34))
    chance = sheet.truth["composition"](*sheet.positions_nm[chalcogen].T)
    selenium = sheet.atomic_numbers[chalcogen] == 34
    for low, high in ((0.0, 0.05), (0.2, 0.8), (0.95, 1.0)):
        here = (chance >= low) & (chance <= high)
        n = np.count_nonzero(here)
        assert n > 100
        spread = 5 * math.sqrt(0.25 / n)
        assert selenium[here].mean() == pytest.approx(chance[here].mean(), abs=spread)


def test_composition_is_smooth_and_separated(sheet: Specimen) -> None:
    y, x = grid()
    composition = sheet.truth["composition"](y, x)
    assert composition.min() >= 0
    assert composition.max() <= 1
    assert np.mean((composition < 0.1) | (composition > 0.9)) > 0.7
    near = sheet.truth["composition"](y + 0.01, x)
    assert np.abs(near - composition).max() < 0.05


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 0.8))
def test_the_fraction_of_selenium_is_what_was_asked_for(seed: int, fraction: float) -> None:
    sheet = ws2_wse2(FIELD, seed=seed, selenium_fraction=fraction, margin_nm=0.0)
    assert sheet.truth["phase"](*grid()).mean() == pytest.approx(fraction, abs=0.03)


def test_phase_is_the_majority(sheet: Specimen) -> None:
    y, x = grid()
    majority = sheet.truth["composition"](y, x) > 0.5
    assert np.array_equal(sheet.truth["phase"](y, x), majority.astype(float))


def test_targets_lie_on_the_interface(sheet: Specimen) -> None:
    assert sheet.target_label == "WS2/WSe2 interface"
    assert len(sheet.targets_nm) > 15
    assert np.all(np.abs(sheet.targets_nm) <= np.asarray(FIELD) / 2)
    composition = sheet.truth["composition"](*sheet.targets_nm.T)
    np.testing.assert_allclose(composition, 0.5, atol=0.15)
    np.testing.assert_allclose(
        sheet.truth["distance_to_interface_nm"](*sheet.targets_nm.T), 0, atol=1e-9
    )
    distance, _ = KDTree(sheet.targets_nm).query(sheet.targets_nm, k=2)
    assert distance[:, 1].min() >= 0.5


def test_larger_domains_have_less_interface() -> None:
    def length(size_nm: float) -> float:
        sheets = (ws2_wse2((30.0, 30.0), seed=s, domain_size_nm=size_nm) for s in range(3))
        return float(np.mean([len(sheet.targets_nm) for sheet in sheets]))

    assert length(2.0) > 2 * length(8.0)


def test_seed_decides() -> None:
    first, again, other = (ws2_wse2((8.0, 8.0), seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.atomic_numbers, again.atomic_numbers)
    assert not np.array_equal(first.atomic_numbers, other.atomic_numbers)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"selenium_fraction": 0.0}, "selenium_fraction"),
        ({"selenium_fraction": 1.2}, "selenium_fraction"),
        ({"domain_size_nm": 0.0}, "must be positive"),
        ({"interface_sharpness": -1.0}, "must be positive"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ws2_wse2((5.0, 5.0), **options)
