"""BaTiO3: columns, displacements that follow the polarization, walls where truth says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.spatial import KDTree

from sim.specimen import Specimen, batio3

FIELD = (20.0, 24.0)


@pytest.fixture(scope="module")
def film() -> Specimen:
    return batio3(FIELD, seed=2, margin_nm=1.0)


def of(film: Specimen, z: int) -> np.ndarray:
    return film.positions_nm[film.atomic_numbers == z]


def ti_shift(film: Specimen, rim_nm: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of each Ti's four Ba neighbours, and how far the Ti is from it."""
    barium, titanium = of(film, 56), of(film, 22)
    half = np.asarray(film.size_nm) / 2 - rim_nm
    titanium = titanium[(np.abs(titanium) < half).all(axis=1)]
    _, four = KDTree(barium).query(titanium, k=4)
    middle = barium[four].mean(axis=1)
    return middle, titanium - middle


def test_formula_and_column_density(film: Specimen) -> None:
    barium, titanium, oxygen = (len(of(film, z)) for z in (56, 22, 8))
    assert barium / math.prod(film.size_nm) == pytest.approx(1 / 0.4**2, rel=0.05)
    assert titanium / barium == pytest.approx(1, rel=0.05)
    assert oxygen / barium == pytest.approx(3, rel=0.05)


def test_barium_is_a_square_lattice_of_0_4_nm(film: Specimen) -> None:
    barium = of(film, 56)
    inside = barium[(np.abs(barium) < 9).all(axis=1)]
    distance, _ = KDTree(barium).query(inside, k=5)
    np.testing.assert_allclose(distance[:, 1:], 0.4, atol=1e-9)


def test_thickness_is_the_number_of_atoms_in_a_column() -> None:
    for thickness_nm, atoms in ((8.0, 20), (4.0, 10), (0.1, 1)):
        film = batio3((3.0, 3.0), thickness_nm=thickness_nm, margin_nm=0.5)
        assert np.all(film.multiplicity == atoms)


def test_titanium_moves_along_the_polarization(film: Specimen) -> None:
    middle, shift = ti_shift(film)
    expected = film.truth["polarization"](*middle.T) * 2.0 * 0.0135 * 0.4036
    np.testing.assert_allclose(shift, expected, atol=5e-5)


def test_oxygen_moves_against_titanium(film: Specimen) -> None:
    """The O above each Ti is displaced the other way, by 0.0250 c in bulk."""
    middle, _ = ti_shift(film)
    distance, nearest = KDTree(of(film, 8)).query(middle)
    shift = of(film, 8)[nearest] - middle
    length = np.linalg.norm(film.truth["polarization"](*middle.T), axis=1)
    np.testing.assert_allclose(distance, 2 * 0.0250 * 0.4036 * length, atol=1e-4)
    assert np.all((shift * film.truth["polarization"](*middle.T)).sum(axis=1) < 0)


def test_domains_are_polarized_up_and_right(film: Specimen) -> None:
    middle, shift = ti_shift(film)
    deep = film.truth["distance_to_wall_nm"](*middle.T) > 3.0
    label = film.truth["domain"](*middle.T)
    assert set(label) == {0.0, 1.0}
    direction = shift / np.linalg.norm(shift, axis=1, keepdims=True)
    np.testing.assert_allclose(direction[deep & (label == 0)] - [-1.0, 0.0], 0, atol=0.02)
    np.testing.assert_allclose(direction[deep & (label == 1)] - [0.0, 1.0], 0, atol=0.02)


def test_walls_carry_no_charge(film: Specimen) -> None:
    """Across a wall at 45° the polarization's normal component stays the same."""
    y, x = np.random.default_rng(0).uniform(-10, 10, size=(2, 500))
    normal = film.truth["polarization"](y, x) @ np.array([-1.0, 1.0]) / math.sqrt(2)
    np.testing.assert_allclose(normal, 1 / math.sqrt(2), atol=1e-12)


def test_walls_have_the_width_asked_for() -> None:
    film = batio3((30.0, 30.0), seed=4, wall_width_nm=0.8, domain_width_nm=12.0)
    target = film.targets_nm[np.argmin(np.linalg.norm(film.targets_nm, axis=1))]
    s = np.linspace(-2, 2, 81)
    points = target + s[:, None] * np.array([-1.0, 1.0]) / math.sqrt(2)
    along = film.truth["polarization"](*points.T) @ np.array([1.0, 1.0]) / math.sqrt(2)
    (height, width), _ = curve_fit(lambda s, a, w: a * np.tanh(s / w), s, along, p0=(0.7, 1.0))
    assert abs(height) == pytest.approx(1 / math.sqrt(2), rel=0.02)
    assert abs(width) == pytest.approx(0.8, rel=0.05)


def test_targets_lie_on_walls_in_the_field(film: Specimen) -> None:
    assert film.target_label == "domain walls"
    assert len(film.targets_nm) > 20
    assert np.all(np.abs(film.targets_nm) <= np.asarray(FIELD) / 2)
    np.testing.assert_allclose(film.truth["distance_to_wall_nm"](*film.targets_nm.T), 0, atol=1e-9)
    step = np.array([-1.0, 1.0]) * 1e-3
    before, after = (film.truth["domain"](*(film.targets_nm + s * step).T) for s in (-1, 1))
    assert np.all(before != after)


def test_no_two_columns_overlap_but_those_of_ti_and_o(film: Specimen) -> None:
    heavy = film.positions_nm[film.atomic_numbers != 8]
    distance, _ = KDTree(heavy).query(heavy, k=2)
    assert distance[:, 1].min() > 0.25


def test_seed_decides() -> None:
    first, again, other = (batio3((10.0, 10.0), seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.positions_nm, again.positions_nm)
    assert not np.array_equal(first.positions_nm, other.positions_nm)


def test_without_enhancement_it_is_cubic() -> None:
    _, shift = ti_shift(batio3((6.0, 6.0), enhancement=0.0, margin_nm=1.0))
    np.testing.assert_allclose(shift, 0, atol=1e-12)


@pytest.mark.parametrize("name", ["thickness_nm", "domain_width_nm", "wall_width_nm"])
def test_bad_lengths_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        batio3((5.0, 5.0), **{name: 0.0})
