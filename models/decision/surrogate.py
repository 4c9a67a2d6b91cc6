"""The exact Gaussian process over the candidate grid, as a BoTorch model.

`GridSurrogate` has the posterior of ``botorch.models.SingleTaskGP`` with the same
hyper-parameters and data, in standardised units: floors on the variance inside the libraries
then bite at the same relative size, whatever the unit of the objective. It keeps the triangular
solve of the cross-covariance to the whole grid, so that the posterior over all candidates, and
with one more pending point, costs a product instead of a new solve. Any BoTorch acquisition
function accepts it. Coordinates are those of the unit cube; nothing here knows nanometres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from linear_operator import to_linear_operator
from linear_operator.operators import DiagLinearOperator
from torch import Tensor

MIN_VARIANCE = 1e-9
"""Floor of a posterior variance, in units of the prior variance: guards against rounding."""

ROUNDING = 1e-12
"""Relative spread of targets that counts as none."""


@dataclass(frozen=True, slots=True)
class HyperParameters:
    """Hyper-parameters of the Gaussian process, for targets of mean 0 and variance 1.

    Attributes
    ----------
    length_scale : (y, x)
        Of the squared exponential kernel, in the unit cube.
    noise : float
        Variance of the observation noise.
    mean : float
        Constant prior mean.
    """

    length_scale: tuple[float, float]
    noise: float
    mean: float


def standardisation(targets: Tensor) -> tuple[float, float]:
    """Return mean and scale of (n,) targets.

    The scale is the standard deviation (n - 1), or 1 for a single target and where all are equal
    to within rounding. BoTorch's ``Standardize`` is the same but for its floor, which is absolute.
    """
    mean = float(targets.mean())
    scale = float(targets.std()) if len(targets) > 1 else 0.0
    return mean, scale if scale > ROUNDING * abs(mean) else 1.0


def squared_exponential(a: Tensor, b: Tensor, length_scale: tuple[float, float]) -> Tensor:
    """Return exp(-d²/2) for points (n, 2) and (m, 2), d in length-scales: (n, m)."""
    scale = torch.tensor(length_scale, dtype=torch.float64)
    u, v = a / scale, b / scale
    exponent = -0.5 * (u[:, None, 0] - v[None, :, 0]).square()
    exponent -= 0.5 * (u[:, None, 1] - v[None, :, 1]).square()
    return exponent.exp_()


@dataclass(frozen=True, slots=True)
class Conditioned:
    """A Gaussian process conditioned on n points, for standardised targets.

    Attributes
    ----------
    points : (n, 2) tensor
    factor : (n, n) tensor
        L, the lower Cholesky factor of the covariance of the observations.
    weights : (n,) tensor
        L⁻¹ (y - c).
    cross : (n, m) tensor
        V = L⁻¹ K(points, grid).
    mean, variance : (m,) tensors
        Posterior at the grid.
    """

    points: Tensor
    factor: Tensor
    weights: Tensor
    cross: Tensor
    mean: Tensor
    variance: Tensor


def condition(hyper: HyperParameters, points: Tensor, targets: Tensor, grid: Tensor) -> Conditioned:
    """Condition on standardised targets (n,) at points (n, 2).

    Rasmussen & Williams, *Gaussian Processes for Machine Learning* (2006), equations 2.25, 2.26
    and algorithm 2.1: the mean is c + Vᵀ L⁻¹ (y - c), the variance 1 - Σ V².
    """
    covariance = squared_exponential(points, points, hyper.length_scale)
    covariance.diagonal().add_(hyper.noise)
    factor = torch.linalg.cholesky(covariance)
    weights = _solve(factor, (targets - hyper.mean)[:, None])[:, 0]
    cross = _solve(factor, squared_exponential(points, grid, hyper.length_scale))
    mean = hyper.mean + weights @ cross
    return Conditioned(points, factor, weights, cross, mean, 1.0 - cross.square().sum(dim=0))


def hallucinate(
    hyper: HyperParameters, known: Conditioned, point: Tensor, grid: Tensor
) -> Conditioned:
    """Add one observation at a point (2,) with the value of the posterior mean there.

    The mean stays everywhere, the variance falls near the point: the hallucinated observation
    of GP-BUCB (Desautels et al., JMLR 15, 2014). One more row of L and V.
    """
    here = point[None]
    column = _solve(known.factor, squared_exponential(known.points, here, hyper.length_scale))[:, 0]
    pivot = (1.0 + hyper.noise - column @ column).clamp_min(MIN_VARIANCE).sqrt()
    prior = squared_exponential(here, grid, hyper.length_scale)[0]
    row = (prior - column @ known.cross) / pivot
    n = len(known.points)
    factor = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    factor[:n, :n] = known.factor
    factor[n, :n], factor[n, n] = column, pivot
    return Conditioned(
        torch.cat([known.points, here]),
        factor,
        torch.cat([known.weights, torch.zeros(1, dtype=torch.float64)]),
        torch.cat([known.cross, row[None]]),
        known.mean,
        known.variance - row.square(),
    )


class GridSurrogate(Model):  # type: ignore[misc]
    """Posterior of a Gaussian process with constant mean, squared exponential kernel and noise.

    Make one with `from_data`.

    Attributes
    ----------
    hyper : HyperParameters
    grid : (m, 2) tensor
        Candidates in the unit cube.
    known : Conditioned
    target_mean, target_scale : float
        Standardisation of the targets.
    """

    num_outputs = 1
    batch_shape = torch.Size()

    def __init__(
        self,
        hyper: HyperParameters,
        grid: Tensor,
        known: Conditioned,
        target_mean: float,
        target_scale: float,
    ) -> None:
        super().__init__()
        self.hyper, self.grid, self.known = hyper, grid, known
        self.target_mean, self.target_scale = target_mean, target_scale

    @classmethod
    def from_data(
        cls, hyper: HyperParameters, points: Tensor, targets: Tensor, grid: Tensor
    ) -> GridSurrogate:
        """Condition on observations.

        Parameters
        ----------
        hyper : HyperParameters
        points : (n, 2) tensor
            Observed places in the unit cube, float64; n at least 1.
        targets : (n,) tensor
            Observed values in their own unit.
        grid : (m, 2) tensor
            Candidates in the unit cube.

        Raises
        ------
        ValueError
            If a coordinate lies outside the unit cube or a target is not finite.
        """
        for name, coordinates in (("points", points), ("grid", grid)):
            if not bool(((coordinates >= 0) & (coordinates <= 1)).all()):
                raise ValueError(f"surrogate: {name} lie outside the unit cube; scale them first")
        if not bool(torch.isfinite(targets).all()):
            raise ValueError("surrogate: targets must be finite numbers")
        mean, scale = standardisation(targets)
        known = condition(hyper, points, (targets - mean) / scale, grid)
        return cls(hyper, grid, known, mean, scale)

    def with_pending(self, points: Tensor) -> GridSurrogate:
        """Return this model with places (p, 2) taken as observed at the posterior mean."""
        known = self.known
        for point in points:
            known = hallucinate(self.hyper, known, point, self.grid)
        return GridSurrogate(self.hyper, self.grid, known, self.target_mean, self.target_scale)

    def on_grid(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation at all candidates, (m,) each, in target units."""
        sd = self.known.variance.clamp_min(MIN_VARIANCE).sqrt()
        return self.target_mean + self.target_scale * self.known.mean, self.target_scale * sd

    def at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation at any places (n, 2): (n,) each, in target units."""
        mean, covariance = self._joint(points[:, None])
        sd = covariance[:, 0, 0].clamp_min(MIN_VARIANCE).sqrt()
        return self.target_mean + self.target_scale * mean[:, 0], self.target_scale * sd

    def best_mean(self) -> float:
        """Return the highest posterior mean at an observed place, in standardised units."""
        known, lengths = self.known, self.hyper.length_scale
        prior = squared_exponential(known.points, known.points, lengths)
        mean = self.hyper.mean + known.weights @ _solve(known.factor, prior)
        return float(mean.max())

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool = False,
        posterior_transform: Any = None,
    ) -> GPyTorchPosterior:
        """Return the joint posterior of the q points of each batch of ``X`` (..., q, 2).

        It is that of standardised targets: mean 0 and variance 1.

        Raises
        ------
        NotImplementedError
            For output subsets, observation noise or transforms: no acquisition here uses them.
        """
        if output_indices is not None or observation_noise or posterior_transform is not None:
            raise NotImplementedError("GridSurrogate gives the plain posterior of one output")
        if X.shape == (len(self.grid), 1, 2) and torch.equal(X[:, 0], self.grid):
            variance = self.known.variance.clamp_min(MIN_VARIANCE)
            covariance = DiagLinearOperator(variance[:, None])
            return GPyTorchPosterior(MultivariateNormal(self.known.mean[:, None], covariance))
        mean, joint = self._joint(X)
        return GPyTorchPosterior(MultivariateNormal(mean, to_linear_operator(joint)))

    def _joint(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (..., q) and covariance (..., q, q) of standardised targets."""
        known, lengths = self.known, self.hyper.length_scale
        cross = _solve(known.factor, squared_exponential(known.points, X.reshape(-1, 2), lengths))
        mean = (self.hyper.mean + known.weights @ cross).reshape(X.shape[:-1])
        columns = cross.T.reshape(*X.shape[:-1], len(known.points))
        steps = (X[..., :, None, :] - X[..., None, :, :]) / torch.tensor(lengths, dtype=X.dtype)
        prior = (-0.5 * steps.square().sum(dim=-1)).exp()
        covariance = prior - columns @ columns.transpose(-1, -2)
        covariance.diagonal(dim1=-2, dim2=-1).add_(MIN_VARIANCE)
        return mean, covariance


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """Return L⁻¹ B for a lower triangular L."""
    solution: Tensor = torch.linalg.solve_triangular(factor, right, upper=False)
    return solution
