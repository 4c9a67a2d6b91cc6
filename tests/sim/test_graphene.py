"""Graphene against what is known of it: bond length, density, rings, and its own truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from sim.specimen import Specimen, graphene

FIELD = (14.0, 12.0)


@pytest.fixture(scope="module")
def sheet() -> Specimen:
    return graphene(FIELD, seed=3, dopants=12, vacancies=6, margin_nm=2.0)


@pytest.fixture(scope="module")
def crystal() -> Specimen:
    return graphene(FIELD, dopants=0, vacancies=0, boundary=False, margin_nm=1.0)


def inner(specimen: Specimen, rim_nm: float = 0.5) -> np.ndarray:
    half = np.asarray(specimen.size_nm) / 2 - rim_nm
    return np.flatnonzero((np.abs(specimen.positions_nm) < half).all(axis=1))


def test_bonds_are_142_pm_and_there_are_three_of_them(crystal: Specimen) -> None:
    distance, _ = KDTree(crystal.positions_nm).query(crystal.positions_nm[inner(crystal)], k=5)
    np.testing.assert_allclose(distance[:, 1:4], 0.142, atol=0.0005)
    np.testing.assert_allclose(distance[:, 4], 0.246, atol=0.0005)


def test_density_is_38_atoms_per_nm2(crystal: Specimen) -> None:
    assert len(crystal.positions_nm) / math.prod(crystal.size_nm) == pytest.approx(38.2, rel=0.01)


def test_atoms_fill_field_and_margin(sheet: Specimen) -> None:
    assert sheet.size_nm == (18.0, 16.0)
    np.testing.assert_allclose(np.abs(sheet.positions_nm).max(axis=0), (9.0, 8.0), atol=0.15)


def test_no_atoms_overlap_even_at_the_seam(sheet: Specimen) -> None:
    distance, _ = KDTree(sheet.positions_nm).query(sheet.positions_nm, k=2)
    assert distance[:, 1].min() > 0.1


def test_the_seam_holds_together(sheet: Specimen) -> None:
    """Most atoms at the boundary keep three bonds, none has more, and no gap opens."""
    near = inner(sheet)
    depth = sheet.truth["distance_to_boundary_nm"](*sheet.positions_nm[near].T)
    near = near[depth < 0.5]
    tree = KDTree(sheet.positions_nm)
    bonds = np.array([len(b) - 1 for b in tree.query_ball_point(sheet.positions_nm[near], 0.185)])
    assert np.mean(bonds == 3) > 0.8
    assert bonds.max() <= 3
    grid = np.stack(np.meshgrid(*[np.arange(-6, 6, 0.05)] * 2, indexing="ij"), -1).reshape(-1, 2)
    along = sheet.truth["distance_to_boundary_nm"](*grid.T) < 0.4
    assert tree.query(grid[along])[0].max() < 0.33


@pytest.mark.parametrize("tilt_deg", [10.0, 21.8, 32.2])
def test_grains_are_tilted_by_the_angle_asked_for(tilt_deg: float) -> None:
    sheet = graphene((20.0, 20.0), tilt_deg=tilt_deg, dopants=0, vacancies=0, margin_nm=0.0)
    directions = []
    for grain in (0.0, 1.0):
        depth = sheet.truth["distance_to_boundary_nm"](*sheet.positions_nm.T)
        mine = (sheet.truth["grain"](*sheet.positions_nm.T) == grain) & (depth > 1.0)
        place = sheet.positions_nm[mine]
        pairs = KDTree(place).query_pairs(0.16, output_type="ndarray")
        bond = place[pairs[:, 1]] - place[pairs[:, 0]]
        # bonds repeat every 60 degrees: six times the angle has one mean direction
        turn = np.exp(6j * np.arctan2(-bond[:, 0], bond[:, 1])).mean()
        assert abs(turn) > 0.99
        directions.append(math.degrees(np.angle(turn)) / 6)
    difference = abs(directions[0] - directions[1]) % 60
    assert min(difference, 60 - difference) == pytest.approx(min(tilt_deg, 60 - tilt_deg), abs=0.1)


def test_dopants_are_the_targets_and_sit_on_lattice_sites(sheet: Specimen) -> None:
    silicon = sheet.positions_nm[sheet.atomic_numbers == 14]
    assert sheet.target_label == "Si dopants"
    assert len(sheet.targets_nm) == 12
    assert sorted(map(tuple, silicon)) == sorted(map(tuple, sheet.targets_nm))
    assert np.all(np.abs(sheet.targets_nm) <= np.asarray(FIELD) / 2)
    assert np.all(np.isin(sheet.atomic_numbers, [6, 14]))
    away = sheet.truth["distance_to_dopant_nm"](*(sheet.targets_nm + np.array([0.1, 0.0])).T)
    np.testing.assert_allclose(away, 0.1)


def test_vacancies_take_atoms_out() -> None:
    options = {"seed": 5, "dopants": 0, "boundary": False, "margin_nm": 1.0}
    whole = graphene((8.0, 8.0), vacancies=0, **options)
    holed = graphene((8.0, 8.0), vacancies=7, **options)
    assert len(whole.positions_nm) - len(holed.positions_nm) == 7
    distance, _ = KDTree(holed.positions_nm).query(whole.positions_nm)
    assert np.count_nonzero(distance > 0.14) == 7


def test_dopants_gather_at_the_boundary_when_told_to() -> None:
    def near(affinity: float) -> float:
        sheet = graphene((20.0, 20.0), dopants=40, boundary_affinity=affinity, margin_nm=0.0)
        return float(np.mean(sheet.truth["distance_to_boundary_nm"](*sheet.targets_nm.T) < 3))

    assert near(1.0) > 0.8 > 0.5 > near(0.0)


def test_one_grain_has_no_boundary(crystal: Specimen) -> None:
    y, x = np.zeros((2, 3)), np.ones((2, 3))
    assert np.all(crystal.truth["grain"](y, x) == 1)
    assert np.all(np.isinf(crystal.truth["distance_to_boundary_nm"](y, x)))
    assert np.all(np.isinf(crystal.truth["distance_to_dopant_nm"](y, x)))


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(1, 59),
    st.floats(-180, 180),
    st.floats(4, 8),
)
def test_any_seam_is_free_of_overlaps_and_repeats_from_its_seed(
    seed: int, tilt_deg: float, angle_deg: float, side_nm: float
) -> None:
    def build() -> Specimen:
        return graphene(
            (side_nm, 5.0),
            seed=seed,
            tilt_deg=tilt_deg,
            boundary_angle_deg=angle_deg,
            dopants=3,
            vacancies=2,
            margin_nm=0.5,
        )

    first, second = build(), build()
    assert np.array_equal(first.positions_nm, second.positions_nm)
    assert np.array_equal(first.targets_nm, second.targets_nm)
    distance, _ = KDTree(first.positions_nm).query(first.positions_nm, k=2)
    assert distance[:, 1].min() > 0.1
    area = math.prod(first.size_nm)
    assert 0.9 < len(first.positions_nm) / area / 38.2 < 1.1


def test_reach_sets_how_close_to_the_boundary_silicon_sits() -> None:
    """Exponential with distance on both sides: the mean distance is the reach itself."""

    def mean_distance_nm(reach_nm: float) -> float:
        sheets = [
            graphene(
                (30.0, 30.0), seed=s, dopants=12, vacancies=0, margin_nm=0.0,
                boundary_affinity=1.0, boundary_reach_nm=reach_nm,
            )
            for s in range(6)
        ]  # fmt: skip
        return float(
            np.mean([h.truth["distance_to_boundary_nm"](*h.targets_nm.T).mean() for h in sheets])
        )

    assert mean_distance_nm(0.8) == pytest.approx(0.8, rel=0.35)
    assert mean_distance_nm(2.0) == pytest.approx(2.0, rel=0.35)


def test_seeds_differ() -> None:
    first, second = (graphene((6.0, 6.0), seed=s, dopants=4, vacancies=0) for s in (0, 1))
    assert not np.array_equal(first.targets_nm, second.targets_nm)


def test_too_many_defects_are_refused() -> None:
    with pytest.raises(ValueError, match="no room for 500 dopants"):
        graphene((5.0, 5.0), dopants=500, margin_nm=0.0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"boundary_affinity": 1.5}, "boundary_affinity"),
        ({"boundary_reach_nm": 0.0}, "boundary_reach_nm"),
        ({"dopants": -1}, "can't be negative"),
        ({"margin_nm": -1.0}, "margin"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        graphene((5.0, 5.0), **options)  # type: ignore[arg-type]
