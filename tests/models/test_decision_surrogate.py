"""The surrogate against BoTorch's own model, and its fit against a known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.exceptions.errors import ModelFittingError
from gpytorch.mlls import ExactMarginalLogLikelihood

from models.decision import fitting
from models.decision.fitting import default_parameters, fit, make_single_task_gp
from models.decision.surrogate import GridSurrogate, HyperParameters, standardisation

FLOOR = (0.03, 0.05)
HYPER = HyperParameters((0.2, 0.35), 0.01, 0.3)


def data(n: int = 25, seed: int = 0, offset: float = 1000.0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(n, 2))
    values = offset + 50 * (np.sin(7 * points[:, 0]) + points[:, 1] ** 2)
    return torch.from_numpy(points), torch.from_numpy(values + rng.normal(size=n))


def mesh(n: int = 9):
    axis = torch.linspace(0, 1, n, dtype=torch.float64)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)


def reference(points, targets):
    return make_single_task_gp(points, targets, FLOOR, HYPER).eval()


@pytest.mark.parametrize("n", [1, 2, 25])
def test_posterior_over_the_grid_is_that_of_single_task_gp(n):
    if n == 1:
        # SingleTaskGP standardises a single target to NaN: two equal ones at one place,
        # with twice the noise each, hold the same information
        points, targets = data(1)
        ours = GridSurrogate.from_data(HYPER, points, targets, mesh())
        doubled = HyperParameters(HYPER.length_scale, 2 * HYPER.noise, HYPER.mean)
        theirs = make_single_task_gp(points.repeat(2, 1), targets.repeat(2), FLOOR, doubled).eval()
    else:
        points, targets = data(n)
        ours = GridSurrogate.from_data(HYPER, points, targets, mesh())
        theirs = reference(points, targets)
    with torch.no_grad():
        posterior = theirs.posterior(mesh()[:, None])
    mean, sd = ours.on_grid()
    torch.testing.assert_close(mean, posterior.mean[:, 0, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sd, posterior.variance[:, 0, 0].sqrt(), rtol=1e-5, atol=1e-6)


def test_joint_posterior_is_that_of_single_task_gp():
    points, targets = data()
    batch = torch.rand(4, 3, 2, dtype=torch.float64, generator=torch.manual_seed(1))
    with torch.no_grad():
        ours = GridSurrogate.from_data(HYPER, points, targets, mesh()).posterior(batch)
        theirs = reference(points, targets).posterior(batch)
    mean, scale = float(targets.mean()), float(targets.std())
    got, expected = (p.distribution.covariance_matrix for p in (ours, theirs))
    torch.testing.assert_close(mean + scale * ours.mean, theirs.mean, rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(scale**2 * got, expected, rtol=1e-6, atol=1e-5)


def test_the_posterior_anywhere_is_that_of_single_task_gp():
    points, targets = data()
    places = torch.rand(7, 2, dtype=torch.float64, generator=torch.manual_seed(2))
    mean, sd = GridSurrogate.from_data(HYPER, points, targets, mesh()).at(places)
    with torch.no_grad():
        expected = reference(points, targets).posterior(places[:, None])
    torch.testing.assert_close(mean, expected.mean[:, 0, 0], rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(sd, expected.variance[:, 0, 0].sqrt(), rtol=1e-6, atol=1e-6)


def test_pending_points_equal_observations_at_the_posterior_mean():
    points, targets = data()
    pending = torch.tensor([[0.11, 0.9], [0.52, 0.48]], dtype=torch.float64)
    base = GridSurrogate.from_data(HYPER, points, targets, mesh())
    model = base.with_pending(pending)
    first = reference(points, targets)
    with torch.no_grad():
        first.posterior(pending[:1])
        imagined = first.condition_on_observations(
            pending, (first.posterior(pending).mean - base.target_mean) / base.target_scale
        )
        expected = imagined.posterior(mesh()[:, None])
    mean, sd = model.on_grid()
    torch.testing.assert_close(mean, base.on_grid()[0], rtol=0, atol=0)
    torch.testing.assert_close(sd, expected.variance[:, 0, 0].sqrt(), rtol=1e-5, atol=1e-5)
    assert (sd <= base.on_grid()[1] + 1e-12).all()
    torch.testing.assert_close(model.at(mesh()[3:5])[1], sd[3:5], rtol=1e-6, atol=1e-6)


def test_duplicates_do_not_break_it():
    points, targets = data(3)
    many = GridSurrogate.from_data(HYPER, points.repeat(60, 1), targets.repeat(60), mesh())
    assert all(torch.isfinite(part).all() for part in many.on_grid())


def test_best_mean_is_the_highest_posterior_mean_where_it_was_measured():
    points, targets = data()
    model = GridSurrogate.from_data(HYPER, points, targets, mesh())
    with torch.no_grad():
        expected = reference(points, targets).posterior(points[:, None]).mean.max()
    best = model.target_mean + model.target_scale * model.best_mean()
    assert best == pytest.approx(float(expected), rel=1e-9)


def test_raw_coordinates_are_refused():
    points, targets = data()
    with pytest.raises(ValueError, match="outside the unit cube"):
        GridSurrogate.from_data(HYPER, points * 256, targets, mesh())
    with pytest.raises(ValueError, match="grid lie outside"):
        GridSurrogate.from_data(HYPER, points, targets, mesh() * float("nan"))
    with pytest.raises(ValueError, match="finite"):
        GridSurrogate.from_data(HYPER, points, targets * float("inf"), mesh())


def test_unsupported_posteriors_are_refused():
    points, targets = data()
    model = GridSurrogate.from_data(HYPER, points, targets, mesh())
    with pytest.raises(NotImplementedError, match="plain posterior"):
        model.posterior(mesh()[:, None], observation_noise=True)


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], (3.0, 1.0)), ([2.0, 2.0], (2.0, 1.0)), ([1, 3], (2, 2**0.5))]
)
def test_standardisation(values, expected):
    targets = torch.tensor(values, dtype=torch.float64)
    assert standardisation(targets) == pytest.approx(expected)


def loss(points, targets, hyper):
    model = make_single_task_gp(points, targets, FLOOR, hyper)
    mll = ExactMarginalLogLikelihood(model.likelihood, model).train()
    with torch.no_grad():
        return -float(mll(model(*model.train_inputs), model.train_targets))


def test_fit_is_an_optimum_at_least_as_good_as_from_either_start():
    points, targets = data(40)
    found = fit(points, targets, FLOOR)
    best = loss(points, targets, found)
    for factor in (0.9, 1.1):
        y, x = found.length_scale
        for other in (
            HyperParameters((y * factor, x), found.noise, found.mean),
            HyperParameters((y, x * factor), found.noise, found.mean),
            HyperParameters((y, x), found.noise * factor, found.mean),
        ):
            assert best <= loss(points, targets, other) + 1e-6
    for value in fitting.START_LENGTH_SCALES:
        start = HyperParameters((value, value), fitting.START_NOISE, 0.0)
        assert best <= loss(points, targets, start)


def test_several_starts_find_a_short_length_scale_that_a_long_start_misses():
    rng = np.random.default_rng(3)
    points = torch.from_numpy(rng.uniform(size=(120, 2)))
    wave = np.sin(2 * np.pi * points[:, 0].numpy() / 0.12)
    targets = torch.from_numpy(wave + 0.05 * rng.normal(size=120))
    found = fit(points, targets, FLOOR)
    assert found.length_scale[0] < 0.1
    assert found.noise < 0.2


def test_fit_keeps_the_floor_and_survives_constant_targets():
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(size=(12, 2)))
    noise = fit(points, torch.from_numpy(rng.normal(size=12)), (0.2, 0.4))
    assert noise.length_scale[0] >= 0.2 and noise.length_scale[1] >= 0.4
    constant = fit(points, torch.full((12,), 7.0, dtype=torch.float64), FLOOR)
    assert np.isfinite([*constant.length_scale, constant.noise, constant.mean]).all()


def test_a_fit_without_a_good_start_says_why(monkeypatch):
    def broken(*args, **kwargs):
        raise fitting.NotPSDError("not positive definite")

    monkeypatch.setattr(fitting, "fit_gpytorch_mll_scipy", broken)
    with pytest.raises(ModelFittingError, match="NotPSDError: not positive definite"):
        fit(*data(10), FLOOR, [default_parameters(FLOOR)])
