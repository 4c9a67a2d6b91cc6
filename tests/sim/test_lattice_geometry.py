"""Filling rectangles with lattices, rotations, distances: by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.specimen.geometry import distance_to, rotation, thinned, tile, too_close, with_margin
from sim.specimen.specimen import Specimen

SQUARE = np.eye(2)
POINT = np.zeros((1, 2))


@settings(max_examples=25, deadline=None)
@given(st.floats(-360, 360), st.floats(3, 12), st.floats(3, 12))
def test_a_rotated_lattice_fills_the_rectangle(angle: float, height: float, width: float) -> None:
    sites, member = tile(SQUARE, POINT, (height, width), angle)
    assert not member.any()
    assert np.all(np.abs(sites) <= np.array([height, width]) / 2)
    # brute force: a patch of lattice far larger than the rectangle
    i, j = np.meshgrid(np.arange(-20, 21), np.arange(-20, 21), indexing="ij")
    patch = np.stack([i.ravel(), j.ravel()], 1) @ rotation(angle)
    inside = np.all(np.abs(patch) <= np.array([height, width]) / 2, axis=1)
    assert len(sites) == np.count_nonzero(inside)


def test_rotation_is_anticlockwise_with_y_down() -> None:
    along_x = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(along_x @ rotation(90), [[-1.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(along_x @ rotation(30), [[-0.5, math.sqrt(3) / 2]], atol=1e-12)


def test_members_of_the_basis_are_told_apart() -> None:
    basis = np.array([[0.0, 0.0], [0.5, 0.25]])
    sites, member = tile(SQUARE, basis, (6.0, 6.0))
    np.testing.assert_allclose(sites[member == 1] % 1.0, np.tile([0.5, 0.25], (36, 1)))
    np.testing.assert_allclose(sites[member == 0] % 1.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.5))
def test_thinned_points_keep_their_distance_and_cover(seed: int, spacing: float) -> None:
    points = np.random.default_rng(seed).uniform(size=(60, 2))
    kept = thinned(points, spacing)
    gaps = np.linalg.norm(kept[:, None] - kept[None], axis=-1) + np.eye(len(kept)) * 9
    assert gaps.min() > spacing
    # every point left out is near one that was kept
    nearest = np.linalg.norm(points[:, None] - kept[None], axis=-1).min(axis=1)
    assert nearest.max() <= spacing


def test_points_apart_are_left_alone() -> None:
    assert len(too_close(np.array([[0.0, 0.0], [1.0, 0.0]]), 0.5)) == 0


def test_distance_takes_any_shape_and_no_points_at_all() -> None:
    distance = distance_to(np.array([[0.0, 0.0], [0.0, 3.0]]))
    y, x = np.array([[0.0], [4.0]]), np.array([[0.0, 3.0, 6.0]])
    np.testing.assert_allclose(distance(y, x), [[0, 0, 3], [4, 4, 5]])
    assert np.all(np.isinf(distance_to(np.empty((0, 2)))(y, x)))
    assert distance_to(np.empty((0, 2)))(y, x).shape == (2, 3)


@pytest.mark.parametrize(("field", "margin"), [((0.0, 1.0), 1.0), ((1.0, 1.0), -0.1)])
def test_impossible_sizes_are_refused(field: tuple[float, float], margin: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        with_margin(field, margin)


@pytest.mark.parametrize(
    ("atoms", "numbers", "complaint"),
    [(0, 0, "has no atoms"), (2, 1, "differ in number")],
)
def test_a_specimen_is_consistent(atoms: int, numbers: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Specimen(
            kind="test",
            positions_nm=np.zeros((atoms, 2)),
            atomic_numbers=np.ones(numbers, dtype=np.int64),
            multiplicity=np.ones(atoms),
            field_nm=(1.0, 1.0),
            size_nm=(1.0, 1.0),
            truth={},
            target_label="",
            targets_nm=np.empty((0, 2)),
        )
