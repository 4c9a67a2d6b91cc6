"""Hyper-parameters of the surrogate: BoTorch's SingleTaskGP, fitted from several starts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import OptimizationWarning
from botorch.models import SingleTaskGP
from botorch.models.transforms.outcome import Standardize
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import RBFKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from linear_operator.utils.errors import NanError, NotPSDError
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from models.decision.surrogate import HyperParameters, standardisation

START_LENGTH_SCALES = (0.06, 0.3)
"""Length-scales, in the unit cube, that every fit starts from: one short, one long. A single
start ends in a poor local optimum in a quarter of fits."""
START_NOISE = 0.02
MAX_ITERATIONS = 75
FIT_ERRORS = (ModelFittingError, NanError, NotPSDError, LinAlgError)


def default_parameters(floor: tuple[float, float]) -> HyperParameters:
    """Return hyper-parameters to use before any fit succeeded."""
    return HyperParameters(_above(floor, START_LENGTH_SCALES[-1]), START_NOISE, 0.0)


def _above(floor: tuple[float, float], value: float) -> tuple[float, float]:
    """Return a length-scale in y and x that respects the floor."""
    return max(value, 1.05 * floor[0]), max(value, 1.05 * floor[1])


def make_single_task_gp(
    points: Tensor,
    targets: Tensor,
    floor: tuple[float, float],
    parameters: HyperParameters | None = None,
) -> SingleTaskGP:
    """Return BoTorch's SingleTaskGP with a floor on the length-scale.

    Priors are BoTorch's dimension-scaled ones (Hvarfner et al., ICML 2024).

    Parameters
    ----------
    points : (n, 2) tensor
        Places in the unit cube, float64.
    targets : (n,) tensor
    floor : (y, x)
        Smallest length-scale in the unit cube.
    parameters : HyperParameters, optional
        Values to set; BoTorch's initial ones otherwise.
    """
    prior = LogNormalPrior(loc=math.sqrt(2) + 0.5 * math.log(2), scale=math.sqrt(3))
    bound = torch.tensor(floor, dtype=torch.float64)
    kernel = RBFKernel(
        ard_num_dims=2,
        lengthscale_prior=prior,
        lengthscale_constraint=GreaterThan(
            bound,
            transform=None,
            initial_value=torch.tensor([_above(floor, 0.3)], dtype=torch.float64),
        ),
    )
    model = SingleTaskGP(
        points, targets[:, None], covar_module=kernel, outcome_transform=Standardize(m=1)
    )
    if parameters is not None:
        scale = torch.tensor([parameters.length_scale], dtype=torch.float64)
        model.covar_module.lengthscale = torch.maximum(scale, bound)
        model.likelihood.noise = max(parameters.noise, 1.0001e-4)
        model.mean_module.constant = torch.tensor(parameters.mean, dtype=torch.float64)
    return model


def read_parameters(model: SingleTaskGP) -> HyperParameters:
    """Return the hyper-parameters a model has."""
    y, x = model.covar_module.lengthscale.detach().reshape(2).tolist()
    noise = float(model.likelihood.noise.detach())
    return HyperParameters((y, x), noise, float(model.mean_module.constant.detach()))


def fit(
    points: Tensor,
    targets: Tensor,
    floor: tuple[float, float],
    starts: Sequence[HyperParameters] = (),
) -> HyperParameters:
    """Maximise the posterior of the hyper-parameters from several starts; return the best.

    Parameters
    ----------
    points : (n, 2) tensor
        Places in the unit cube; n at least 2.
    targets : (n,) tensor
    floor : (y, x)
        Smallest length-scale in the unit cube.
    starts : sequence
        Starts besides the two built in, such as the hyper-parameters in use.

    Raises
    ------
    ModelFittingError
        If no start ends at finite hyper-parameters.
    """
    mean, scale = standardisation(targets)
    targets = (targets - mean) / scale
    built_in = [
        HyperParameters(_above(floor, value), START_NOISE, 0.0) for value in START_LENGTH_SCALES
    ]
    best: tuple[float, HyperParameters] | None = None
    failures: list[str] = []
    for start in [*built_in, *starts]:
        try:
            loss, found = _fit_once(points, targets, floor, start)
        except FIT_ERRORS as error:
            failures.append(f"{type(error).__name__}: {error}")
            continue
        if best is None or loss < best[0]:
            best = loss, found
    if best is None:
        raise ModelFittingError(f"no start gave a fit: {'; '.join(failures)}")
    return best[1]


def _fit_once(
    points: Tensor, targets: Tensor, floor: tuple[float, float], start: HyperParameters
) -> tuple[float, HyperParameters]:
    """Return the loss (negative log posterior per point) and the optimum from one start."""
    model = make_single_task_gp(points, targets, floor, start)
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    mll.train()
    with warnings.catch_warnings():
        # an optimum reached with jitter or cut short by the iteration limit is still usable
        warnings.simplefilter("ignore", OptimizationWarning)
        warnings.simplefilter("ignore", NumericalWarning)
        result = fit_gpytorch_mll_scipy(mll, options={"maxiter": MAX_ITERATIONS})
    found = read_parameters(model)
    loss = float(result.fval)
    if not all(math.isfinite(v) for v in (loss, *found.length_scale, found.noise, found.mean)):
        raise ModelFittingError("the optimum is not finite")
    return loss, found
