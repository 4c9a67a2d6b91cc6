"""Planners that do not learn, the overlap of windows, and planners by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decision_helpers import VALUE, at, centers, drive, ids, make_grid, outcome, template
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.vocabulary import SubScan
from models.decision.factory import make_planner
from models.decision.protocols import Planner
from models.decision.scripted import RandomPlanner, ScriptedPlanner
from models.decision.windows import WindowGeometry

REPOSITORY = Path(__file__).resolve().parents[2]


def make(kind, grid, seed=0, prefix="s", **options):
    new_id = ids(prefix)
    return make_planner(kind, grid, template(grid), new_id, seed, VALUE, ("ucb", {}), options)


def test_an_id_is_never_given_twice():
    grid = make_grid(3, 3)
    planner = RandomPlanner(grid, template(grid), lambda: "same", 0, VALUE)
    planner.suggest(1, 1.0)
    with pytest.raises(ValueError, match="'same' twice"):
        planner.suggest(1, 1.0)
    assert planner.n_pending == 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [("raster", "ScriptedPlanner"), ("random", "RandomPlanner"), ("botorch", "BotorchPlanner")],
)
def test_planners_by_name(kind, name):
    planner = make(kind, make_grid())
    assert type(planner).__name__ == name and isinstance(planner, Planner)


def test_options_reach_the_planner():
    grid = make_grid(6, 6)
    engine = make("botorch", grid, n_initial=3, refit_every=2)
    done = drive(engine, lambda c: c[0], 6)
    assert [s.reasons["initial_design"] == "no" for s in done] == [False] * 3 + [True] * 3
    assert done[-1].reasons["fit"].startswith("fitted on 5")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("rastr", {}, "did you mean 'raster'"),
        ("raster", {"n_initial": 3}, "unknown option n_initial; it takes max_overlap"),
        ("random", {"max_overlap": 0.9}, "between 0 and 0.5"),
        ("random", {"max_overlap": "much"}, "'much'; it must be a number"),
        ("botorch", {"n_initial": 2.5}, "n_initial is 2.5; it must be a whole number"),
        ("botorch", {"refit_every": True}, "refit_every is True; it must be a number"),
    ],
)
def test_unknown_names_get_one_clear_error(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make(kind, make_grid(), **options)


def test_a_template_of_another_size_is_refused():
    grid = make_grid(window=4.0)
    wrong = SubScan("t", (0, 0), (5.0, 4.0), (8, 8), 1.0)
    with pytest.raises(ValueError, match="must be equal"):
        ScriptedPlanner(grid, wrong, ids(), 0, VALUE)


def test_the_baselines_do_not_load_torch():
    code = (
        "import sys\n"
        "import models.decision.protocols, models.decision.scripted, models.decision.factory\n"
        "import models.descriptors.factory\n"
        "sys.exit(', '.join(m for m in ('torch', 'botorch', 'sklearn') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_raster_runs_to_and_fro():
    grid = make_grid(3, 3)
    y, x = grid.y_nm, grid.x_nm
    expected = [(y[i], x[j]) for i in range(3) for j in ((0, 1, 2), (2, 1, 0), (0, 1, 2))[i]]
    assert centers(drive(make("raster", grid), lambda c: 0.0, 20)) == expected


def test_raster_on_a_dense_grid_tiles_the_field_and_still_runs_to_and_fro():
    grid = make_grid(8, 8, step=2.0)
    done = np.array(centers(drive(make("raster", grid), lambda c: 0.0, 100)))
    assert len(done) == 16
    rows = done.reshape(4, 4, 2)
    assert (np.ptp(rows[:, :, 0], axis=1) == 0).all()
    assert [bool(row[0, 1] < row[-1, 1]) for row in rows] == [True, False, True, False]


def test_random_visits_every_place_once_in_an_order_of_the_seed():
    grid = make_grid(6, 6)
    runs = [centers(drive(make("random", grid, s), lambda c: 0.0, 99, q=3)) for s in (4, 4, 5)]
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 36
    assert runs[0] != sorted(runs[0])


@pytest.mark.parametrize("kind", ["raster", "random"])
def test_constraints_pending_and_cancel_hold_for_baselines(kind):
    grid = make_grid(4, 4)
    planner = make(kind, grid)
    allowed = np.arange(16) % 2 == 0
    planner.constrain(allowed, np.zeros(16))
    asked = planner.suggest(99, 1.0)
    assert {tuple(c) for c in grid.centers_nm()[allowed]} == set(centers(asked))
    assert planner.suggest(1, 1.0) == []
    planner.cancel(asked[3].id)
    assert centers(planner.suggest(9, 1.0)) == centers(asked[3:4])
    planner.ingest(outcome(asked[0], 4.0))
    assert planner.score(asked[0].id) == 4.0
    assert planner.maps() is None
    assert planner.rescore(asked) == asked
    planner.set_acquisition("ucb", {})
    assert "none" in asked[0].reasons["acquisition"]


@pytest.mark.parametrize("kind", ["raster", "random"])
def test_a_restored_baseline_goes_on_the_same(kind):
    grid = make_grid(5, 5)
    planner = make(kind, grid, 3)
    drive(planner, lambda c: c[1], 6)
    planner.suggest(2, 1.0)
    other = make(kind, grid, 8, prefix="r")
    other.restore(planner.checkpoint())
    expected = centers(drive(planner, lambda c: 0.0, 99))
    assert centers(drive(other, lambda c: 0.0, 99)) == expected and len(expected) == 17


@pytest.mark.parametrize(
    ("allowed", "weight", "message"),
    [
        (np.ones(8, bool), np.zeros(9), r"allowed is \(8,\)"),
        (np.ones((3, 3), bool), np.zeros(9), r"allowed is \(3, 3\)"),
        (np.ones(9, bool), np.full(9, np.nan), "NaN or"),
        (np.ones(9, bool), np.full(9, np.inf), "NaN or"),
    ],
)
def test_bad_constraints_are_refused(allowed, weight, message):
    planner = make("random", make_grid(3, 3))
    with pytest.raises(ValueError, match=message):
        planner.constrain(allowed, weight)
    assert len(planner.suggest(99, 1.0)) == 9


def test_sources_survive_a_checkpoint_and_unknown_ones_are_refused():
    grid = make_grid(3, 3)
    planner = make("random", grid)
    planner.ingest(outcome(at(grid, "op", (100.0, -40.0)), 1.0, source="operator"))
    state = planner.checkpoint()
    other = RandomPlanner(grid, template(grid), ids(), 0, VALUE)
    other.restore(state)
    assert (other.checkpoint()["book.sources"] == ["operator"]).all()
    with pytest.raises(ValueError, match="unknown source 'robot'"):
        other.restore({**state, "book.sources": np.array(["robot"])})


@settings(max_examples=40)
@given(dy=st.floats(-6, 6), dx=st.floats(-6, 6), turn=st.floats(-90, 90), size=st.floats(0.5, 9))
def test_the_shared_fraction_is_never_too_small(dy, dx, turn, size):
    grid = make_grid(1, 1)
    center = grid.centers_nm()[0]
    other = SubScan("o", (center[0] + dy, center[1] + dx), (size, size), (2, 2), 1.0, turn)
    fraction = WindowGeometry(grid, 0.0).shared_fraction(other)[0]
    own = SubScan("w", tuple(center), (4.0, 4.0), (41, 41), 1.0)
    sampled = other.contains(own.positions_nm()).mean()
    assert sampled - 0.06 <= fraction <= 1


def test_equal_rotations_are_measured_in_the_windows_own_axes():
    grid = make_grid(1, 1)
    y, x = grid.centers_nm()[0]
    geometry = WindowGeometry(grid, 45.0)
    half = 2 / np.sqrt(2)
    beside = SubScan("o", (y - half, x + half), (4.0, 4.0), (2, 2), 1.0, 45.0)
    # moved by half a window along its own fast axis
    assert geometry.shared_fraction(beside)[0] == pytest.approx(0.5)
    apart = SubScan("o", (y - 2 * half, x + 2 * half), (4.0, 4.0), (2, 2), 1.0, 45.0)
    assert not geometry.overlapping(apart)[0]
    assert geometry.overlapping(beside, 0.4)[0] and not geometry.overlapping(beside, 0.5)[0]
