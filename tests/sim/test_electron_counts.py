"""Electron counting: Poisson statistics, saturation, and generators independent of order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.counts import counts, electrons_per_position, rng_for


def test_one_picoampere_for_a_microsecond() -> None:
    assert electrons_per_position(1.0, 1.0) == pytest.approx(6.2415, rel=1e-4)


@pytest.mark.parametrize(("fraction", "electrons"), [(1e-3, 1e4), (0.02, 1e3), (0.9, 500)])
def test_counts_are_poisson(fraction: float, electrons: float) -> None:
    drawn = counts(np.full(40_000, fraction), electrons, rng_for(3, "a")).astype(float)
    mean = fraction * electrons
    assert drawn.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / drawn.size))
    assert drawn.var() == pytest.approx(mean, rel=0.05)
    observed = [np.mean(drawn <= k) for k in (mean - np.sqrt(mean), mean, mean + np.sqrt(mean))]
    expected = stats.poisson.cdf([mean - np.sqrt(mean), mean, mean + np.sqrt(mean)], mean)
    np.testing.assert_allclose(observed, expected, atol=0.015)


def test_saturation_and_type() -> None:
    bright = np.full((4, 4), 1.0)
    clipped = counts(bright, 1e4, rng_for(0, "a"), saturation=100)
    assert clipped.dtype == np.uint32
    assert np.all(clipped == 100)
    assert np.all(counts(bright, 1e6, rng_for(0, "a"), dtype=np.uint8) == 255)
    assert counts(bright, 10.0, rng_for(0, "a"), dtype="float32").dtype == np.float32


def test_no_beam_no_counts() -> None:
    assert not counts(np.full(9, 0.5), 0.0, rng_for(0, "a")).any()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, np.nan])
def test_impossible_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        counts(np.array([0.1, fraction]), 100.0, rng_for(0, "a"))


def test_negative_dose_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        counts(np.array([0.1]), -1.0, rng_for(0, "a"))


@settings(deadline=None)
@given(
    st.integers(0, 2**63), st.text(max_size=20), st.integers(0, 10**6), st.sampled_from(["a", "b"])
)
def test_generator_depends_on_its_key_alone(
    seed: int, sub_scan: str, frame: int, stream: str
) -> None:
    first = rng_for(seed, sub_scan, frame, stream).integers(2**62, size=4)
    rng_for(seed, sub_scan + "x", frame, stream).random(100)
    again = rng_for(seed, sub_scan, frame, stream).integers(2**62, size=4)
    assert first.tolist() == again.tolist()


def test_every_part_of_the_key_counts() -> None:
    keys = [
        (0, "a", 0, "n"),
        (1, "a", 0, "n"),
        (0, "b", 0, "n"),
        (0, "a", 1, "n"),
        (0, "a", 0, "m"),
    ]
    keys += [(0, "na", 0, ""), (0, "", 0, "na")]
    drawn = {tuple(rng_for(*key).integers(2**62, size=2).tolist()) for key in keys}
    assert len(drawn) == len(keys)


def test_generators_of_neighbouring_frames_are_not_correlated() -> None:
    drawn = np.array([rng_for(0, "scan", frame).normal(size=200) for frame in range(60)])
    correlation = np.corrcoef(drawn)[np.triu_indices(60, 1)]
    assert np.abs(correlation).max() < 6 / np.sqrt(200)


def test_noise_of_stored_runs_stays_reproducible() -> None:
    """The numbers a given key has always drawn."""
    assert rng_for(7, "survey-1", 0).integers(1000, size=4).tolist() == RECORDED


RECORDED = [800, 531, 895, 800]


@pytest.mark.parametrize(("seed", "frame"), [(-1, 0), (0, -1)])
def test_negative_keys_are_refused(seed: int, frame: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        rng_for(seed, "a", frame)
