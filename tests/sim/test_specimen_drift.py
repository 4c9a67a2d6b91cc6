"""Drift: steady speed, a wander with a random walk's statistics, any time in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.drift import Drift


@pytest.mark.parametrize(
    ("direction_deg", "expected"), [(0, (0, 3)), (90, (-3, 0)), (180, (0, -3)), (-90, (3, 0))]
)
def test_steady_drift_goes_its_way(direction_deg: float, expected: tuple[float, float]) -> None:
    drift = Drift(rate_nm_per_min=1.5, direction_deg=direction_deg)
    assert drift.displacement_nm(120.0) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.floats(0, 1e5), st.floats(0, 2), st.floats(0, 1), st.integers(0, 1000))
def test_any_time_alone_is_that_time_among_others(
    time_s: float, rate: float, wander: float, seed: int
) -> None:
    drift = Drift(rate, 20.0, wander, seed)
    together = drift.displacement_nm(np.array([[5.0, time_s], [1e4, 0.0]]))
    assert together.shape == (2, 2, 2)
    assert together[0, 1] == pytest.approx(drift.displacement_nm(time_s), abs=1e-9)
    assert together[1, 1] == pytest.approx([0, 0], abs=1e-12)
    again = Drift(rate, 20.0, wander, seed).displacement_nm(time_s)
    assert again.tolist() == drift.displacement_nm(time_s).tolist()


def test_wander_spreads_like_a_random_walk() -> None:
    start = np.linspace(0, 3e5, 4000)
    spread = {}
    for lag_s in (60.0, 240.0, 960.0):
        squares = []
        for seed in range(4):
            drift = Drift(wander_nm=0.2, seed=seed)
            step = drift.displacement_nm(start + lag_s) - drift.displacement_nm(start)
            squares.append((step**2).mean(axis=0))
        spread[lag_s] = np.sqrt(np.mean(squares))
    assert spread[60.0] == pytest.approx(0.2, rel=0.05)
    # four times as long, twice as far
    assert spread[240.0] / spread[60.0] == pytest.approx(2, rel=0.15)
    assert spread[960.0] / spread[240.0] == pytest.approx(2, rel=0.2)


def test_wander_is_smooth_within_seconds() -> None:
    path = Drift(wander_nm=0.5, seed=2).displacement_nm(np.arange(0, 600, 0.5))
    speed = np.diff(path, axis=0)
    assert np.abs(np.diff(speed, axis=0)).max() < 0.1 * np.abs(speed).max()


def test_seeds_differ_and_directions_are_independent() -> None:
    times = np.linspace(0, 2e5, 3000)
    first, second = (Drift(wander_nm=0.3, seed=s).displacement_nm(times) for s in (1, 2))
    assert not np.allclose(first, second)
    steps = np.diff(first, axis=0)
    assert abs(np.corrcoef(steps.T)[0, 1]) < 0.3
