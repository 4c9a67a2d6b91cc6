"""Objectives: what is scored, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.neighbors import NearestNeighbors

from models.decision.objectives import make_objective

NAMES = ("mean_1", "mean_2", "variance_1", "intensity", "mean")
TABLE = np.array([[1.0, 2, 3, 4, 5], [-1, 0, 9, 8, 7], [0, 0, 0, np.nan, 1]])


@pytest.mark.parametrize(
    ("name", "params", "column", "sign"),
    [
        ("component", {"name": "mean_2"}, 1, 1),
        ("component", {"name": "mean_2", "sign": "min"}, 1, -1),
        ("component", {"name": "intensity"}, 3, 1),
        ("variance", {}, 2, 1),
        ("variance", {"component": 1, "sign": "min"}, 2, -1),
        ("channel", {}, 4, 1),
        ("channel", {"statistic": "mean", "sign": "min"}, 4, -1),
    ],
)
def test_entries_are_taken_as_they_are(name, params, column, sign):
    got = make_objective(name, params).score(TABLE, NAMES)
    np.testing.assert_array_equal(got, sign * TABLE[:, column])


def test_labels_say_what_is_maximised():
    assert make_objective("component", {"name": "mean_1", "sign": "min"}).label == "-mean_1"
    assert make_objective("variance", {"component": 3}).label == "variance_3"
    assert "k = 2" in make_objective("novelty", {"k": 2}).label


@settings(max_examples=20, deadline=None)
@given(latents=arrays(float, (9, 2), elements=st.floats(-50, 50)), k=st.integers(1, 12))
def test_novelty_is_the_mean_distance_to_other_outcomes(latents, k):
    names = ("mean_1", "variance_1", "mean_2")
    table = np.column_stack([latents[:, 0], np.full(9, 1e6), latents[:, 1]])
    got = make_objective("novelty", {"k": k}).score(table, names)
    near = NearestNeighbors(n_neighbors=min(k, 8), algorithm="brute").fit(latents)
    distance, _ = near.kneighbors()  # without arguments a point is not its own neighbour
    np.testing.assert_allclose(got, distance.mean(axis=1), atol=1e-5)


def test_novelty_of_an_outlier_is_largest_and_falls_when_its_like_is_seen():
    names = ("mean_1",)
    values = np.array([[0.0], [0.1], [0.2], [5.0]])
    novelty = make_objective("novelty", {"k": 1})
    before = novelty.score(values, names)
    assert before.argmax() == 3
    after = novelty.score(np.vstack([values, [[5.01]]]), names)
    assert after[3] == pytest.approx(0.01) and after[3] < before[3]


def test_novelty_leaves_out_what_is_not_finite():
    novelty = make_objective("novelty", {"k": 5})
    assert np.isnan(novelty.score(np.array([[1.0]]), ("mean_1",))).all()
    got = novelty.score(np.array([[1.0], [np.nan], [3.0]]), ("mean_1",))
    np.testing.assert_allclose(got, [2.0, np.nan, 2.0])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("component", {"name": "means_1"}, "there are mean_1, mean_2.*did you mean 'mean_1'"),
        ("variance", {"component": 2}, "no summary entry 'variance_2'"),
        ("channel", {"statistic": "max"}, "no summary entry 'max'"),
    ],
)
def test_a_missing_entry_lists_those_there_are(name, params, message):
    with pytest.raises(ValueError, match=message):
        make_objective(name, params).score(TABLE, NAMES)


def test_novelty_without_latents_is_refused():
    with pytest.raises(ValueError, match="'mean_1'; there are std"):
        make_objective("novelty", {}).score(np.zeros((2, 1)), ("std",))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("novelti", {}, "did you mean 'novelty'"),
        ("novelty", {"n": 3}, "unknown parameter n; it takes k"),
        ("novelty", {"k": 0}, "k is 0"),
        ("novelty", {"k": 1.5}, "whole number"),
        ("novelty", {"k": "3"}, "whole number"),
        ("variance", {"component": 0}, "count from 1"),
        ("component", {}, "'name' must name an entry"),
        ("component", {"name": 3.0}, "'name' must name an entry"),
        ("component", {"name": "mean_1", "sign": "up"}, "must be 'max' or 'min'"),
    ],
)
def test_bad_parameters_get_one_clear_error(name, params, message):
    with pytest.raises(ValueError, match=message):
        make_objective(name, params)
