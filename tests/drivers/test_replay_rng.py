"""Noise is keyed by what is drawn: seed, sub-scan, frame and stream, each apart from the others."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.rng import rng_for

keys = st.tuples(st.integers(-(2**70), 2**70), st.text(), st.integers(0, 2**40), st.text())


@given(one=keys, other=keys)
def test_same_key_same_numbers_other_key_other_numbers(
    one: tuple[int, str, int, str], other: tuple[int, str, int, str]
) -> None:
    first = rng_for(*one).random(4)
    same = np.array_equal(first, rng_for(*other).random(4))
    assert same == (one == other)
    assert np.array_equal(first, rng_for(*one).random(4))


def test_keys_that_read_alike_when_joined_differ() -> None:
    alike = [(1, "s-1", 12, ""), (1, "s-11", 2, ""), (1, "s-", 112, ""), (11, "s-1", 2, "")]
    alike += [(1, "s-1", 1, "2"), (1, "s-11", 0, "2")]
    draws = [rng_for(*key).random(8) for key in alike]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(draws, 2))


def test_frames_in_a_row_are_uncorrelated() -> None:
    draws = np.stack([rng_for(3, "s-1", frame).normal(size=500) for frame in range(200)])
    assert abs(draws.mean()) < 5 / draws.size**0.5
    neighbours = (draws[:-1] * draws[1:]).mean()
    assert abs(neighbours) < 5 / draws[1:].size ** 0.5
