"""Scan timing by simple counting, and scan errors as displacements with known statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.counts import rng_for
from sim.scanner import beam_on_s, line_starts_s, position_times_s, scan_errors_nm

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
times = st.floats(0.0, 500.0)
dwells = st.floats(0.5, 500.0)


def test_beam_time_of_a_known_scan() -> None:
    # 100 µs + 3·4·10 µs + 2·50 µs
    assert beam_on_s((3, 4), 10.0, settle_us=100.0, flyback_us=50.0) == pytest.approx(320e-6)


@settings(deadline=None)
@given(shapes, dwells, times, times)
def test_positions_follow_one_another_within_the_beam_time(
    shape: tuple[int, int], dwell_us: float, settle_us: float, flyback_us: float
) -> None:
    when = position_times_s(shape, dwell_us, settle_us, flyback_us)
    assert when.shape == shape
    assert np.all(np.diff(when.ravel()) >= dwell_us * 1e-6 * (1 - 1e-6))
    assert when[0, 0] == pytest.approx((settle_us + dwell_us / 2) * 1e-6)
    end = beam_on_s(shape, dwell_us, settle_us, flyback_us)
    assert when[-1, -1] == pytest.approx(end - dwell_us / 2 * 1e-6)
    assert line_starts_s(shape, dwell_us, settle_us, flyback_us)[0] == pytest.approx(
        settle_us * 1e-6
    )


def test_a_perfect_scanner_makes_no_errors() -> None:
    assert not scan_errors_nm((5, 6), rng_for(0, "a"), dwell_us=10.0).any()


def test_jitter_moves_whole_lines_by_its_standard_deviation() -> None:
    errors = scan_errors_nm((4000, 3), rng_for(1, "a"), dwell_us=10.0, line_jitter_nm=0.02)
    assert np.array_equal(errors[:, 0], errors[:, 1])
    assert np.array_equal(errors[:, 0], errors[:, 2])
    assert errors[:, 0].std(axis=0) == pytest.approx([0.02, 0.02], rel=0.05)
    neighbours = np.corrcoef(errors[:-1, 0, 1], errors[1:, 0, 1])[0, 1]
    assert abs(neighbours) < 0.06


@pytest.mark.parametrize(
    ("rotation_deg", "direction"), [(0, (0, -1)), (90, (1, 0)), (180, (0, 1)), (-90, (-1, 0))]
)
def test_settling_lags_against_the_fast_axis(
    rotation_deg: float, direction: tuple[float, float]
) -> None:
    errors = scan_errors_nm(
        (2, 40),
        rng_for(0, "a"),
        dwell_us=10.0,
        rotation_deg=rotation_deg,
        settling_nm=0.1,
        settling_time_us=50.0,
    )
    lag = errors @ np.array(direction)
    assert np.allclose(np.linalg.norm(errors, axis=-1), np.abs(lag))
    assert lag[0] == pytest.approx(lag[1])
    # five dwell times of 10 µs are one time constant
    assert lag[0, 5] / lag[0, 0] == pytest.approx(1 / np.e)
    assert 0.08 < lag[0, 0] < 0.1
    assert lag[0, -1] < 1e-3 * lag[0, 0]


def test_the_same_generator_gives_the_same_errors() -> None:
    first, second, other = (
        scan_errors_nm((8, 8), rng_for(3, name), dwell_us=10.0, line_jitter_nm=0.1)
        for name in ("a", "a", "b")
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
