"""Baselines cover what they say they cover, and are fair to the run."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from fake_run import config
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.report.baselines import compare, found_curve, random_windows, raster_windows
from drivers.vocabulary import SubScan


def overlap_nm2(a: SubScan, b: SubScan) -> float:
    """Return the common area of two unrotated windows."""
    low = np.maximum(a.corners_nm().min(0), b.corners_nm().min(0))
    high = np.minimum(a.corners_nm().max(0), b.corners_nm().max(0))
    return float(np.clip(high - low, 0, None).prod())


def with_candidates(**candidates: Any) -> Any:
    return config(candidates=candidates)


@settings(max_examples=12, deadline=None)
@given(stride=st.floats(0.6, 4.0), seed=st.integers(0, 1000), n=st.integers(1, 60))
def test_windows_stay_in_the_field_and_apart(stride: float, seed: int, n: int) -> None:
    made = with_candidates(stride_nm=(stride, stride))
    for windows in (raster_windows(made, n), random_windows(made, n, seed)):
        assert 0 < len(windows) <= n
        corners = np.concatenate([window.corners_nm() for window in windows])
        assert np.abs(corners).max() <= 20 + 1e-6
        for a, b in itertools.combinations(windows, 2):
            assert overlap_nm2(a, b) < 1e-4


def test_a_full_raster_tiles_the_field() -> None:
    windows = raster_windows(config(), 10_000)
    assert len(windows) == 256
    assert sum(window.area_nm2 for window in windows) == pytest.approx(1600)


def test_a_raster_is_a_serpentine_from_the_top_left() -> None:
    windows = raster_windows(config(), 40)
    centers = np.array([window.center_nm for window in windows])
    assert tuple(centers[0]) == (-18.75, -18.75)
    steps = np.abs(np.diff(centers, axis=0)).sum(axis=1)
    np.testing.assert_allclose(steps, 2.5)  # never jumps


def test_random_windows_depend_on_the_seed_alone() -> None:
    first, again, other = (random_windows(config(), 10, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_random_windows_find_targets_in_proportion_to_area() -> None:
    rng = np.random.default_rng(0)
    targets = rng.uniform(-20, 20, (3000, 2))
    result = compare(config(), random_windows(config(), 64, 999), targets)
    np.testing.assert_allclose(result.random.found, result.random.area, atol=0.01)
    assert result.random.area[-1] == pytest.approx(64 * 6.25 / 1600)
    assert np.all(result.random_low <= result.random.found + 1e-12)
    assert np.all(result.random.found <= result.random_high + 1e-12)
    assert result.n_seeds >= 20


def test_a_run_that_goes_where_the_targets_are_wins() -> None:
    targets = np.random.default_rng(0).normal((8.75, 8.75), 0.8, (200, 2))
    executed = [
        SubScan(f"s{i}", (y, x), (2.5, 2.5), (4, 4), 1.0)
        for i, (y, x) in enumerate(itertools.product((6.25, 8.75, 11.25), (6.25, 8.75, 11.25)))
    ]
    result = compare(config(), executed, targets)
    assert result.n_found == 200
    assert result.run.found[-1] == 1.0
    assert result.raster.found[-1] == 0.0
    assert result.random_high[-1] < 1.0


def test_a_target_counts_once() -> None:
    window = SubScan("s", (0.0, 0.0), (2.0, 2.0), (4, 4), 1.0)
    curve = found_curve([window, window], np.array([[0.0, 0.0], [5.0, 5.0]]), (10.0, 10.0))
    np.testing.assert_allclose(curve.found, [0.0, 0.5, 0.5])
    np.testing.assert_allclose(curve.area, [0.0, 0.04, 0.08])


def test_rotated_windows_stay_apart_and_inside() -> None:
    part = {"fov_nm": (3.0, 2.0), "shape": (8, 8), "dwell_us": 1.0, "rotation_deg": 30.0}
    made = config(sub_scan=part, candidates={"stride_nm": (1.0, 1.0)})
    points = np.random.default_rng(0).uniform(-20, 20, (20_000, 2))
    for windows in (raster_windows(made, 40), random_windows(made, 40, 3)):
        assert len(windows) == 40
        assert np.abs(np.concatenate([w.corners_nm() for w in windows])).max() <= 20 + 1e-6
        covered = sum(window.contains(points).astype(int) for window in windows)
        assert covered.max() == 1
