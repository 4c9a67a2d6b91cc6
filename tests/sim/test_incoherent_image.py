"""Image formation against direct summation over atoms, and the symmetries it must have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.imaging import MAX_GRID_PX, IncoherentImage, grid_shape
from sim.probe import Probe

FloatArray = npt.NDArray[np.float64]
PROBES = [Probe(60, 31, 0.08), Probe(200, 22, 0.0), Probe(300, 10, 0.05)]


def atoms(n: int = 40, size_nm: float = 4.0, seed: int = 1) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-size_nm / 2, size_nm / 2, size=(n, 2)), rng.uniform(1, 10, size=n)


def summed(
    points: FloatArray, places: FloatArray, strengths: FloatArray, probe: Probe
) -> FloatArray:
    """Return Σ σ P(r - r_j) one pair at a time, by the Hankel transform of the probe."""
    distance = np.linalg.norm(points[:, None] - places[None], axis=-1)
    profile = probe.profile(distance.ravel()).reshape(distance.shape)
    return np.asarray(profile @ strengths)


@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_image_is_the_sum_over_atoms(probe: Probe) -> None:
    places, strengths = atoms()
    image = IncoherentImage(places, strengths, (6.0, 7.0), probe)
    points = np.random.default_rng(2).uniform(-2.5, 2.5, size=(60, 2))
    expected = summed(points, places, strengths, probe)
    assert np.abs(image.sample(points) - expected).max() < 1e-3 * expected.max()


def test_all_that_is_scattered_is_in_the_image() -> None:
    places, strengths = atoms(size_nm=2.0)
    image = IncoherentImage(places, strengths, (8.0, 8.0), Probe(60, 31, 0.08))
    axis = np.linspace(-4, 4, 401)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    total = image.sample(points).sum() * (axis[1] - axis[0]) ** 2
    assert total == pytest.approx(strengths.sum(), rel=0.01)


@settings(max_examples=10, deadline=None)
@given(st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)))
def test_moving_the_atoms_moves_the_image(shift_nm: tuple[float, float]) -> None:
    places, strengths = atoms()
    points = np.random.default_rng(3).uniform(-2, 2, size=(50, 2))
    still = IncoherentImage(places, strengths, (6.0, 6.0), PROBES[0]).sample(points)
    moved = IncoherentImage(places + shift_nm, strengths, (6.0, 6.0), PROBES[0])
    np.testing.assert_allclose(moved.sample(points + shift_nm), still, atol=1e-3 * still.max())


def test_image_is_linear_in_the_atoms() -> None:
    places, strengths = atoms()
    points = places[:10] + 0.03
    both, first, second = (
        IncoherentImage(places[part], strengths[part], (6.0, 6.0), PROBES[0]).sample(points)
        for part in (slice(None), slice(0, 20), slice(20, None))
    )
    np.testing.assert_allclose(both, first + second, rtol=1e-3, atol=1e-3 * both.max())


def test_turning_everything_changes_nothing() -> None:
    places, strengths = atoms(size_nm=3.0)
    points = np.random.default_rng(4).uniform(-1.5, 1.5, size=(50, 2))
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    still = IncoherentImage(places, strengths, (6.0, 6.0), PROBES[1]).sample(points)
    turned = IncoherentImage(places @ turn, strengths, (6.0, 6.0), PROBES[1]).sample(points @ turn)
    np.testing.assert_allclose(turned, still, atol=1.5e-3 * still.max())


def test_outside_is_vacuum_and_nothing_is_negative() -> None:
    places, strengths = atoms()
    image = IncoherentImage(places, strengths, (6.0, 4.0), PROBES[1])
    assert image.sample(np.array([[3.1, 0.0], [0.0, 2.1], [-50.0, 1e6]])).tolist() == [0, 0, 0]
    inside = np.random.default_rng(5).uniform(-2, 2, size=(4000, 2))
    assert image.sample(inside).min() >= 0


def test_shape_of_points_is_kept() -> None:
    image = IncoherentImage(*atoms(), (6.0, 6.0), PROBES[0])
    points = np.zeros((3, 5, 2))
    assert image.sample(points).shape == (3, 5)


def test_too_large_a_specimen_is_refused_with_the_limit() -> None:
    with pytest.raises(ValueError, match=r"at most \d+ nm a side"):
        grid_shape((4000.0, 20.0), PROBES[0])
    assert max(grid_shape((30.0, 20.0), PROBES[0])) < MAX_GRID_PX
