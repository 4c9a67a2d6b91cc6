"""Acquisition functions: BoTorch's values, and how preferences weigh on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement, UpperConfidenceBound
from scipy.stats import norm

from models.decision.acquisition import Acquisition
from models.decision.fitting import make_single_task_gp
from models.decision.surrogate import GridSurrogate, HyperParameters

HYPER = HyperParameters((0.15, 0.15), 0.01, 0.0)
NONE = torch.zeros(0, 2, dtype=torch.float64)


def axis_grid(n: int = 41):
    x = torch.linspace(0, 1, n, dtype=torch.float64)
    return torch.stack([torch.full_like(x, 0.5), x], dim=-1)


def model(values=(0.0, 1.0, -1.0, 0.2)):
    points = torch.tensor([[0.5, 0.1], [0.5, 0.4], [0.5, 0.7], [0.5, 0.95]], dtype=torch.float64)
    targets = torch.tensor(values, dtype=torch.float64)
    return GridSurrogate.from_data(HYPER, points, targets, axis_grid()), points, targets


def values(acquisition: Acquisition, surrogate, pending=NONE, seed=0):
    return acquisition.evaluate(surrogate, pending, axis_grid(), seed)


def best_mean(surrogate):
    return surrogate.target_mean + surrogate.target_scale * surrogate.best_mean()


def test_ucb_and_log_ei_equal_botorch_on_single_task_gp():
    surrogate, points, targets = model()
    theirs = make_single_task_gp(points, targets, (0.02, 0.02), HYPER).eval()
    x = axis_grid()[:, None]
    with torch.no_grad():
        ucb = UpperConfidenceBound(theirs, beta=4.0)(x)
        ei = LogExpectedImprovement(theirs, best_f=best_mean(surrogate))(x)
    assert values(Acquisition("ucb"), surrogate) == pytest.approx(ucb.numpy(), abs=1e-6)
    assert values(Acquisition("log_ei"), surrogate) == pytest.approx(ei.numpy(), abs=1e-4)


def test_ucb_is_mean_plus_root_beta_sd():
    surrogate, *_ = model()
    mean, sd = surrogate.on_grid()
    got = values(Acquisition("ucb", {"beta": 9.0}), surrogate)
    assert got == pytest.approx((mean + 3 * sd).numpy(), abs=1e-9)


def test_ei_follows_the_mean_even_where_it_is_below_the_incumbent():
    surrogate, *_ = model()
    mean, sd = (part.numpy() for part in surrogate.on_grid())
    best = best_mean(surrogate)
    u = (mean - best) / sd
    expected = np.log(sd * (norm.pdf(u) + u * norm.cdf(u)))
    got = values(Acquisition("log_ei"), surrogate)
    below = mean < best - 0.5 * sd
    keep = below & (u > -5)
    assert keep.sum() > 10
    assert got[keep] == pytest.approx(expected[keep], abs=1e-3)
    # with equal uncertainty the place of the higher mean is better, both far below the best
    low, high = (np.argmin(np.abs(axis_grid()[:, 1].numpy() - x)) for x in (0.7, 0.1))
    assert sd[low] == pytest.approx(sd[high], rel=0.05)
    assert mean[low] < mean[high] < best and got[high] > got[low] + 1


def test_sd_ignores_the_values():
    first, second = (
        values(Acquisition("sd"), model(v)[0]) for v in ((0, 1, -1, 0.2), (0, 1, 1, 0))
    )
    scale = second / first
    assert scale == pytest.approx(np.full_like(scale, scale[0]))


@pytest.mark.parametrize("name", ["ucb", "log_ei", "q_log_ei", "sd"])
def test_a_pending_point_makes_its_place_unattractive(name):
    surrogate, *_ = model()
    acquisition = Acquisition(name)
    alone = values(acquisition, surrogate)
    index = int(np.argmax(alone))
    with_pending = values(acquisition, surrogate, axis_grid()[index][None])
    assert int(np.argmax(with_pending)) != index
    if name == "q_log_ei":
        # the joint improvement of both can't be less than that of the one under way
        assert (with_pending >= alone[index] - 0.05).all()
    else:
        assert with_pending[index] < alone[index]


def test_q_log_ei_is_reproducible_and_near_the_analytic_value():
    surrogate, *_ = model()
    acquisition = Acquisition("q_log_ei", {"samples": 512})
    first = values(acquisition, surrogate, seed=4)
    assert (first == values(acquisition, surrogate, seed=4)).all()
    exact = values(Acquisition("log_ei"), surrogate)
    top = exact > exact.max() - 1
    assert first[top] == pytest.approx(exact[top], abs=0.15)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_the_objective_moves_no_ranking(unit):
    plain, scaled = model()[0], model(tuple(unit * v for v in (0.0, 1.0, -1.0, 0.2)))[0]
    assert values(Acquisition("ucb"), scaled) == pytest.approx(
        unit * values(Acquisition("ucb"), plain), rel=1e-6
    )
    for name in ("log_ei", "q_log_ei"):
        assert values(Acquisition(name), scaled) == pytest.approx(
            np.log(unit) + values(Acquisition(name), plain), abs=1e-6
        )


@pytest.mark.parametrize("name", ["ucb", "log_ei", "q_log_ei", "sd"])
def test_a_preference_multiplies_the_positive_value(name):
    raw = np.array([-3.0, -1.0, -2.0]) if name != "sd" else np.array([1.0, 3.0, 2.0])
    weight = np.array([0.0, 0.0, math.log(10)])
    got = Acquisition(name).prefer(raw, weight)
    positive = {"ucb": raw + 3, "sd": raw}.get(name, np.exp(raw))
    wanted = positive * np.exp(weight)
    actual = np.exp(got) if "ei" in name else got
    assert actual / actual.max() == pytest.approx(wanted / wanted.max())
    assert int(np.argmax(got)) == 2


def test_no_preference_keeps_the_order_and_large_ones_stay_finite():
    raw = np.array([0.5, -2.0, 1.5])
    acquisition = Acquisition("ucb")
    assert (np.argsort(acquisition.prefer(raw, np.zeros(3))) == np.argsort(raw)).all()
    assert np.isfinite(acquisition.prefer(raw, np.array([2000.0, 0.0, 1999.0]))).all()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ucbb", {}, "did you mean 'ucb'"),
        ("ucb", {"bta": 1.0}, "unknown parameter bta; it takes beta"),
        ("log_ei", {"beta": 1.0}, "it takes none"),
        ("ucb", {"beta": -1.0}, "beta is -1.0"),
        ("ucb", {"beta": float("nan")}, "beta is nan"),
        ("q_log_ei", {"samples": 0.0}, "samples must lie"),
    ],
)
def test_bad_input_gets_one_clear_error(name, params, message):
    with pytest.raises(ValueError, match=message):
        Acquisition(name, params)


def test_title_names_the_parameters():
    assert Acquisition("ucb", {"beta": 2.5}).title == "ucb (beta = 2.5)"
    assert Acquisition("sd").title == "sd"
