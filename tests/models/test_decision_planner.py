"""The learning planner: what it may suggest, what it learns, and that it finds things."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import UpperConfidenceBound
from decision_helpers import (
    UCB,
    VALUE,
    at,
    bump,
    centers,
    drive,
    ids,
    make_grid,
    outcome,
    template,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decision import belief, botorch_planner
from models.decision.botorch_planner import BotorchPlanner
from models.decision.fitting import ModelFittingError, make_single_task_gp
from models.decision.protocols import Planner
from models.decision.scripted import RandomPlanner
from models.decision.surrogate import HyperParameters


def planner(grid=None, seed=1, acquisition=UCB, objective=VALUE, prefix="s", **options):
    grid = grid or make_grid()
    return BotorchPlanner(
        grid, template(grid), objective, acquisition, ids(prefix), seed, **options
    )


def share_area(a, b, window=4.0):
    return bool((np.abs(np.subtract(a, b)) < window - 1e-6).all())


def test_it_is_a_planner():
    assert isinstance(planner(), Planner)


def test_the_first_places_spread_over_the_field_and_say_so():
    grid = make_grid()
    engine = planner(grid)
    first = engine.suggest(8, 10.0)
    assert (
        [s.id for s in first] == [s.sub_scan.id for s in first] == [f"s{i:04d}" for i in range(8)]
    )
    assert all(s.reasons["initial_design"].startswith("yes") for s in first)
    middle = grid.centers_nm().mean(axis=0)
    quadrants = {tuple(np.asarray(s.sub_scan.center_nm) > middle) for s in first}
    assert len(quadrants) == 4
    scan = first[0].sub_scan
    assert (scan.fov_nm, scan.shape, scan.dwell_us) == ((4.0, 4.0), (16, 16), 5.0)
    assert engine.maps() is None
    assert engine.rescore(first) == first


def test_no_outcomes_and_one_outcome_give_places_of_the_design():
    engine = planner(n_initial=1)
    first = engine.suggest(1, 1.0)[0]
    engine.ingest(outcome(first, 1.0))
    second = engine.suggest(1, 1.0)[0]
    assert second.reasons["initial_design"].startswith("yes")
    engine.ingest(outcome(second, 2.0))
    assert engine.suggest(1, 1.0)[0].reasons["initial_design"] == "no"


def test_the_choice_is_the_best_free_candidate_of_botorch_on_single_task_gp():
    grid = make_grid()
    engine = planner(grid)
    drive(engine, bump(grid, (0.3, 0.7)), 8)
    chosen = engine.suggest(1, 1.0)[0]
    state = engine.checkpoint()
    numbers = state["gp.hyper"]
    hyper = HyperParameters((numbers[0], numbers[1]), numbers[2], numbers[3])
    low = np.array([98.0, -42.0])
    unit = torch.from_numpy((grid.centers_nm() - low) / 48.0)
    done = state["book.outcomes.numbers"][:, :2]
    model = make_single_task_gp(
        torch.from_numpy((done - low) / 48.0),
        torch.from_numpy(state["book.summaries"][:, 0]),
        (0.5 * 4 / 48, 0.5 * 4 / 48),
        hyper,
    ).eval()
    with torch.no_grad():
        value = UpperConfidenceBound(model, beta=4.0)(unit[:, None]).numpy()
    taken = [any(share_area(c, d) for d in done) for c in grid.centers_nm()]
    value[taken] = -np.inf
    best = int(np.argmax(value))
    assert chosen.sub_scan.center_nm == tuple(grid.centers_nm()[best])
    assert chosen.acquisition == pytest.approx(value[best], abs=1e-6)
    assert chosen.acquisition == pytest.approx(chosen.mean + 2 * chosen.sd, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_the_best_places_in_several_times_fewer_sub_scans_than_random(seed):
    grid = make_grid(20, 20)
    peak = np.random.default_rng(seed).uniform(0.2, 0.8, size=2)
    field = bump(grid, tuple(peak), 0.15)
    values = np.array([field(c) for c in grid.centers_nm()])
    threshold = np.quantile(values, 0.98)

    def hits(engine):
        return sum(field(c) >= threshold for c in centers(drive(engine, field, 30)))

    random = RandomPlanner(grid, template(grid), ids(), seed, VALUE)
    # by chance 30 of 400 places hold 0.6 of the 8 targets
    assert hits(planner(grid, seed, n_initial=8)) >= 4 * max(1, hits(random))


@pytest.mark.parametrize("acquisition", ["ucb", "log_ei", "q_log_ei", "sd"])
def test_batches_never_overlap(acquisition):
    grid = make_grid(10, 10, step=2.0)
    engine = planner(grid, acquisition=(acquisition, {}), n_initial=4)
    done = centers(drive(engine, bump(grid, (0.5, 0.5)), 4))
    batch = engine.suggest(4, 10.0)
    places = done + centers(batch)
    assert len(batch) == 4
    assert not any(share_area(a, b) for i, a in enumerate(places) for b in places[:i])
    assert batch[0].reasons["acquisition"].startswith(acquisition)


@settings(max_examples=12, deadline=None)
@given(data=st.data(), step=st.sampled_from([1.5, 4.0]), overlap=st.sampled_from([0.0, 0.4]))
def test_suggestions_are_allowed_unique_and_apart(data, step, overlap):
    grid = make_grid(5, 6, step=step)
    engine = planner(grid, n_initial=2, max_overlap=overlap)
    executed, pending, seen = [], {}, set()
    allowed_nm = {tuple(c) for c in grid.centers_nm()}
    for _ in range(12):
        action = data.draw(st.sampled_from(["ask", "ask", "learn", "cancel", "constrain"]))
        if action == "constrain":
            allowed = np.array(data.draw(st.lists(st.booleans(), min_size=30, max_size=30)))
            engine.constrain(allowed, np.zeros(30))
            allowed_nm = {tuple(c) for c in grid.centers_nm()[allowed]}
        elif action == "ask":
            for s in engine.suggest(2, 10.0):
                here = s.sub_scan.center_nm
                assert s.id not in seen and here in allowed_nm
                assert not any(share_area(here, p) for p in pending.values())
                shared = [np.clip(4 - np.abs(np.subtract(here, e)), 0, 4).prod() for e in executed]
                assert max(shared, default=0) / 16 <= overlap + 1e-5
                seen.add(s.id)
                pending[s.id] = here
        elif pending:
            key = data.draw(st.sampled_from(sorted(pending)))
            here = pending.pop(key)
            if action == "cancel":
                engine.cancel(key)
            else:
                value = data.draw(st.sampled_from([0.0, 1.0, 5.0, float("nan")]))
                engine.ingest(outcome(at(grid, key, here), value))
                executed.append(here)
        assert engine.n_pending == len(pending)


def test_all_candidates_spent_gives_an_empty_list():
    grid = make_grid(3, 3)
    engine = planner(grid, n_initial=4)
    assert len(drive(engine, bump(grid, (0.5, 0.5)), 100)) == 9
    assert engine.suggest(1, 1.0) == []
    assert engine.suggest(0, 1.0) == []


def test_forbidden_places_and_preferences_apply_at_once():
    grid = make_grid()
    engine = planner(grid)
    drive(engine, bump(grid, (0.3, 0.7)), 10)
    left = grid.centers_nm()[:, 1] < grid.x_nm.mean()
    engine.constrain(left, np.zeros(grid.n))
    assert engine.suggest(1, 1.0)[0].sub_scan.center_nm[1] < grid.x_nm.mean()
    weight = np.zeros(grid.n)
    wanted = int(np.flatnonzero(engine._book.free())[-1])
    weight[wanted] = 50.0
    engine.constrain(np.ones(grid.n, bool), weight)
    chosen = engine.suggest(1, 1.0)[0]
    assert chosen.sub_scan.center_nm == tuple(grid.centers_nm()[wanted])
    assert chosen.reasons["preference"] == "log weight 50"
    weight[:] = -np.inf
    engine.constrain(np.ones(grid.n, bool), weight)
    assert engine.suggest(1, 1.0) == []


def test_constant_and_not_finite_objectives():
    grid = make_grid()
    engine = planner(grid, n_initial=4)
    spent = drive(engine, lambda c: 3.0, 8)
    flat = engine.suggest(1, 1.0)[0]
    assert flat.mean == pytest.approx(3.0) and np.isfinite(flat.sd)
    engine.ingest(outcome(flat, float("nan")))
    assert engine.score(flat.id) is None
    assert engine.score(spent[0].id) == 3.0 and engine.score("nobody") is None
    after = engine.suggest(1, 1.0)[0]
    assert after.reasons["left_out"] == "1 without a finite objective"
    assert after.n_observed == 8
    assert not share_area(after.sub_scan.center_nm, flat.sub_scan.center_nm)


def test_only_not_finite_objectives_still_explore():
    engine = planner(n_initial=2)
    done = drive(engine, lambda c: float("nan"), 20)
    assert len(set(centers(done))) == 20
    assert all(s.reasons["initial_design"].startswith("yes") for s in done)


def test_operators_sub_scans_are_learnt_from_wherever_they_are():
    grid = make_grid()
    engine = planner(grid, n_initial=3)
    drive(engine, lambda c: 0.0, 3)
    engine.ingest(outcome(at(grid, "op", (121.3, -20.7)), 9.0, source="operator"))
    engine.ingest(outcome(at(grid, "far", (1000.0, 0.0)), 99.0, source="operator"))
    near = engine.suggest(1, 1.0)[0]
    assert np.hypot(*np.subtract(near.sub_scan.center_nm, (121.3, -20.7))) < 12
    assert near.n_observed == 4
    assert near.reasons["left_out"] == "1 outside the field"
    assert not share_area(near.sub_scan.center_nm, (121.3, -20.7))
    engine.cancel("nobody")


def test_an_outcome_told_twice_replaces_the_first():
    grid = make_grid()
    engine = planner(grid, n_initial=3)
    done = drive(engine, lambda c: 0.0, 4)
    engine.ingest(outcome(done[1], 8.0))
    assert engine.score(done[1].id) == 8.0
    assert engine.suggest(1, 1.0)[0].n_observed == 4


def test_a_cancelled_place_may_be_asked_again():
    grid = make_grid(2, 2)
    engine = planner(grid)
    asked = engine.suggest(4, 1.0)
    assert engine.suggest(1, 1.0) == []
    engine.cancel(asked[2].id)
    again = engine.suggest(1, 1.0)
    assert centers(again) == centers(asked[2:3]) and again[0].id != asked[2].id


def test_relabel_replaces_all_or_nothing():
    grid = make_grid()
    engine = planner(grid, n_initial=3)
    done = drive(engine, lambda c: c[0], 6)
    new = {s.id: np.array([-s.sub_scan.center_nm[0]]) for s in done}
    some = dict(list(new.items())[:2])
    with pytest.raises(ValueError, match=r"no summary for s0002.*given were s0000, s0001"):
        engine.relabel(2, some)
    with pytest.raises(ValueError, match="shape"):
        engine.relabel(2, {**new, "s0003": np.zeros(2)})
    assert engine.score("s0000") == done[0].sub_scan.center_nm[0]
    up = engine.suggest(1, 1.0)[0]
    engine.cancel(up.id)
    engine.relabel(2, {**new, "not ours": np.zeros(1)})
    assert engine.score("s0000") == -done[0].sub_scan.center_nm[0]
    down = engine.suggest(1, 1.0)[0]
    assert down.encoder_version == 2
    assert down.sub_scan.center_nm[0] < up.sub_scan.center_nm[0]
    with pytest.raises(ValueError, match="but 2 is in use"):
        engine.relabel(1, new)


def test_outcomes_of_an_old_encoder_wait_for_a_new_label():
    engine = planner(n_initial=2)
    done = drive(engine, lambda c: 1.0, 4)
    late = engine.suggest(1, 1.0)[0]
    engine.relabel(2, {s.id: np.ones(1) for s in done})
    engine.ingest(outcome(late, 1000.0, version=1))
    after = engine.suggest(1, 1.0)[0]
    assert after.reasons["left_out"] == "1 of another encoder version"
    assert engine.score(late.id) is None
    engine.relabel(2, {s.id: np.ones(1) for s in [*done, late]})
    assert engine.score(late.id) == 1.0


def test_an_outcome_with_other_entries_is_refused():
    engine = planner(n_initial=2)
    done = drive(engine, lambda c: 1.0, 2)
    odd = outcome(at(make_grid(), "odd", (100.0, 0.0)), 1.0)
    with pytest.raises(ValueError, match="no summary entry 'value'; there are other"):
        planner().ingest(type(odd)("odd", odd.sub_scan, np.ones(1), ("other",), 1))
    with pytest.raises(ValueError, match="earlier ones have value"):
        engine.ingest(type(odd)("odd", odd.sub_scan, np.ones(2), ("value", "b"), 1))
    with pytest.raises(ValueError, match="1 names"):
        engine.ingest(type(odd)("odd", odd.sub_scan, np.ones(2), ("value",), 1))
    assert engine.score("odd") is None and engine.score(done[0].id) == 1.0


def test_the_decision_card_says_why(monkeypatch):
    monkeypatch.setattr(belief, "SURPRISE", np.inf)
    grid = make_grid()
    engine = planner(grid, n_initial=4)
    drive(engine, bump(grid, (0.4, 0.4)), 6)
    card = engine.suggest(1, 1.0)[0].reasons
    assert card["acquisition"].startswith("ucb (beta = 4) = ")
    assert "value: " in card["posterior"] and "±" in card["posterior"]
    assert card["runners_up"].count(" nm: ") == 3
    assert card["neighbours"].count(" at ") == 3
    assert card["fit"] == "fitted on 4 observations, 2 since"
    assert card["length_scale"].count("nm in") == 2 and "standard deviation" in card["noise"]
    assert card["left_out"] == "none"


def test_hyper_parameters_are_fitted_every_so_many_observations(monkeypatch):
    sizes = []
    real = belief.fit

    def counted(points, targets, floor, starts):
        sizes.append((len(targets), len(starts)))
        return real(points, targets, floor, starts)

    monkeypatch.setattr(belief, "fit", counted)
    monkeypatch.setattr(belief, "SURPRISE", np.inf)
    grid = make_grid()
    engine = planner(grid, n_initial=4, refit_every=5)
    drive(engine, bump(grid, (0.4, 0.4)), 15)
    assert sizes == [(4, 0), (9, 1), (14, 1)]
    engine.maps()
    assert len(sizes) == 3
    engine.set_objective("component", {"name": "value", "sign": "min"})
    engine.suggest(2, 10.0)
    assert sizes[3:] == [(15, 1)]


def test_a_surprise_brings_a_fit_forward():
    grid = make_grid()
    engine = planner(grid, n_initial=16, refit_every=50)
    rng = np.random.default_rng(0)
    drive(engine, lambda c: rng.uniform(-1, 1), 18)
    find = engine.suggest(1, 1.0)[0]
    assert find.reasons["fit"] == "fitted on 16 observations, 2 since"
    engine.ingest(outcome(find, 40.0))
    after = engine.suggest(1, 1.0)[0]
    assert after.reasons["fit"] == "fitted on 19 observations, 0 since"
    # what was found is taken for a find, not for noise
    assert engine.maps().mean.max() > 20
    engine.ingest(outcome(after, after.mean))
    assert engine.suggest(1, 1.0)[0].reasons["fit"] == "fitted on 19 observations, 1 since"


def test_a_failed_fit_keeps_the_old_hyper_parameters_and_says_so(monkeypatch):
    def broken(*args):
        raise ModelFittingError("no luck")

    grid = make_grid()
    engine = planner(grid, n_initial=4, refit_every=2)
    drive(engine, bump(grid, (0.4, 0.4)), 5)
    before = engine.checkpoint()["gp.hyper"]
    monkeypatch.setattr(belief, "fit", broken)
    asked = drive(engine, bump(grid, (0.4, 0.4)), 3)
    assert (engine.checkpoint()["gp.hyper"] == before).all()
    assert "latest fit failed and was not used: no luck" in asked[-1].reasons["fit"]
    fresh = planner(grid, n_initial=2)
    drive(fresh, lambda c: c[0], 2)
    assert fresh.suggest(1, 1.0)[0].reasons["fit"].startswith("defaults, never fitted; latest fit")


def test_equal_seeds_give_equal_runs_and_other_seeds_do_not():
    grid = make_grid()
    field = bump(grid, (0.6, 0.2))
    runs = [centers(drive(planner(grid, seed), field, 12, q=2)) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("n", [0, 3, 13])
def test_a_restored_planner_goes_on_the_same(n):
    grid = make_grid()
    field = bump(grid, (0.6, 0.2))
    engine = planner(grid, acquisition=("log_ei", {}))
    drive(engine, field, n)
    engine.suggest(2, 1.0)
    weight = np.linspace(-1, 0, grid.n)
    engine.constrain(np.arange(grid.n) % 5 != 0, weight)
    state = {key: value.copy() for key, value in engine.checkpoint().items()}
    assert all(isinstance(v, np.ndarray) and v.dtype != object for v in state.values())
    other = planner(grid, seed=77, prefix="r")
    other.restore(state)
    again = other.checkpoint()
    assert all((again[key] == value).all() for key, value in state.items())
    expected, got = engine.suggest(2, 10.0), other.suggest(2, 10.0)
    assert centers(expected) == centers(got)
    assert [(s.acquisition, s.mean, s.sd) for s in expected] == [
        (s.acquisition, s.mean, s.sd) for s in got
    ]
    assert centers(drive(engine, field, 9)) == centers(drive(other, field, 9))


def test_a_state_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="one entry per candidate"):
        planner(make_grid(3, 3)).restore(planner().checkpoint())


def test_maps_are_in_the_objectives_unit_on_the_grid():
    grid = make_grid(7, 9)
    engine = planner(grid, n_initial=6)
    drive(engine, lambda c: 1000 + c[0], 12)
    maps = engine.maps()
    assert maps is not None and maps.objective == "value"
    assert maps.mean.shape == maps.sd.shape == maps.acquisition.shape == (7, 9)
    truth = np.broadcast_to(1000 + grid.y_nm[:, None], (7, 9))
    assert np.abs(maps.mean - truth).max() < 6
    assert maps.acquisition == pytest.approx(maps.mean + 2 * maps.sd)
    sd = maps.sd.copy()
    engine.suggest(1, 1.0)
    assert (engine.maps().sd == sd).all()
    assert engine.maps().acquisition.max() < maps.acquisition.max()


def test_rescoring_knows_what_came_since():
    grid = make_grid()
    engine = planner(grid, n_initial=6)
    drive(engine, bump(grid, (0.5, 0.5)), 6)
    first, second = engine.suggest(2, 10.0)
    same = engine.rescore([second])[0]
    assert (same.acquisition, same.mean, same.sd) == pytest.approx(
        (second.acquisition, second.mean, second.sd), abs=1e-6
    )
    y, x = second.sub_scan.center_nm
    engine.ingest(outcome(first, -3.0))
    engine.ingest(outcome(at(grid, "op", (y + 2.0, x)), 50.0))
    now = engine.rescore([second])[0]
    assert now.id == second.id and now.sub_scan == second.sub_scan
    assert now.mean > second.mean + 1 and now.n_observed == 8


def test_a_new_objective_scores_earlier_outcomes_again():
    engine = planner(n_initial=3)
    done = drive(engine, lambda c: c[0], 4)
    engine.set_objective("component", {"name": "value", "sign": "min"})
    assert engine.score(done[0].id) == -done[0].sub_scan.center_nm[0]
    with pytest.raises(ValueError, match="mean_1"):
        engine.set_objective("novelty", {})
    assert engine.score(done[0].id) == -done[0].sub_scan.center_nm[0]


def test_a_new_acquisition_function_changes_the_choice():
    grid = make_grid()
    engine = planner(grid, n_initial=6)
    drive(engine, bump(grid, (0.5, 0.5), 0.2), 10)
    engine.set_acquisition("ucb", {"beta": 0.0})
    greedy = engine.suggest(1, 1.0)[0]
    engine.cancel(greedy.id)
    engine.set_acquisition("sd", {})
    curious = engine.suggest(1, 1.0)[0]
    assert greedy.mean > curious.mean and curious.sd > greedy.sd
    with pytest.raises(ValueError, match="unknown acquisition"):
        engine.set_acquisition("magic", {})


def test_a_deadline_stops_a_batch_but_not_its_first_place(monkeypatch):
    times = iter([0.0, 5.0, 9.0])
    monkeypatch.setattr(botorch_planner.time, "monotonic", lambda: next(times))
    assert len(planner().suggest(4, 6.0)) == 2


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1)])
def test_thin_grids_work(shape):
    grid = make_grid(*shape)
    done = drive(planner(grid, n_initial=3), lambda c: c[0] + c[1], 20)
    assert len(done) == grid.n


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_initial": 0}, "n_initial is 0"),
        ({"refit_every": 0}, "refit_every 0"),
        ({"max_overlap": 0.7}, "between 0 and 0.5"),
        ({"acquisition": ("ucp", {})}, "did you mean 'ucb'"),
        ({"objective": ("novlty", {})}, "did you mean 'novelty'"),
    ],
)
def test_bad_options_get_one_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        planner(**options)
