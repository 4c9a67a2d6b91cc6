"""Acquisition functions over the candidate grid: BoTorch's own classes, by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import (
    LogExpectedImprovement,
    PosteriorStandardDeviation,
    UpperConfidenceBound,
)
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.sampling.normal import SobolQMCNormalSampler
from torch import Tensor

from drivers.vocabulary import FloatArray
from models.decision.surrogate import GridSurrogate

CHUNK = 1024
"""Candidates per call where each needs a joint posterior of its own: bounds the memory."""
_PARAMETERS: dict[str, dict[str, float]] = {
    "ucb": {"beta": 4.0},
    "log_ei": {},
    "q_log_ei": {"samples": 128.0},
    "sd": {},
}


@dataclass(frozen=True)
class Acquisition:
    """How the next place is chosen.

    Attributes
    ----------
    name : {"ucb", "log_ei", "q_log_ei", "sd"}
        "ucb": UpperConfidenceBound, mean + sqrt(beta) sd; finds many good places, the default.
        "log_ei": LogExpectedImprovement over the best posterior mean; finds the one best.
        "q_log_ei": qLogExpectedImprovement, with pending points joined by Monte Carlo; for long
        pipelines. "sd": PosteriorStandardDeviation; maps evenly and is blind to the objective.
    params : mapping
        ``beta`` of "ucb" (at least 0), ``samples`` of "q_log_ei".

    Raises
    ------
    ValueError
        If the name or a parameter is unknown or out of range.
    """

    name: str = "ucb"
    params: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in _PARAMETERS:
            close = difflib.get_close_matches(self.name, _PARAMETERS, 1, 0.4)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(_PARAMETERS)
            raise ValueError(f"unknown acquisition {self.name!r}: known are {known}{hint}")
        unknown = sorted(set(self.params) - set(_PARAMETERS[self.name]))
        if unknown:
            raise ValueError(
                f"acquisition {self.name}: unknown parameter {', '.join(unknown)}; "
                f"it takes {', '.join(_PARAMETERS[self.name]) or 'none'}"
            )
        values = {**_PARAMETERS[self.name], **self.params}
        if not 0 <= values.get("beta", 0.0) < float("inf"):
            raise ValueError(f"acquisition ucb: beta is {values['beta']}; it must be 0 or more")
        if not 1 <= values.get("samples", 1.0) <= 4096:
            raise ValueError("acquisition q_log_ei: samples must lie between 1 and 4096")
        object.__setattr__(self, "params", values)

    @property
    def title(self) -> str:
        """The name with its parameters."""
        values = ", ".join(f"{key} = {value:g}" for key, value in self.params.items())
        return f"{self.name} ({values})" if values else self.name

    def build(self, model: GridSurrogate, pending: Tensor, seed: int) -> AcquisitionFunction:
        """Return the BoTorch acquisition function, on standardised targets.

        Parameters
        ----------
        model : GridSurrogate
            Conditioned on what was measured alone.
        pending : (p, 2) tensor
            Places under way, in the unit cube.
        seed : int
            Of the Monte Carlo samples.
        """
        best = model.best_mean()
        if self.name == "q_log_ei":
            size = torch.Size([int(self.params["samples"])])
            sampler = SobolQMCNormalSampler(sample_shape=size, seed=seed)
            return qLogExpectedImprovement(
                model, best_f=best, sampler=sampler, X_pending=pending if len(pending) else None
            )
        model = model.with_pending(pending)
        if self.name == "ucb":
            return UpperConfidenceBound(model, beta=self.params["beta"])
        if self.name == "log_ei":
            return LogExpectedImprovement(model, best_f=best)
        return PosteriorStandardDeviation(model)

    def evaluate(
        self, model: GridSurrogate, pending: Tensor, points: Tensor, seed: int
    ) -> FloatArray:
        """Return the acquisition value at (n, 2) places of the unit cube: (n,).

        Values are in the objective's unit ("ucb", "sd") or the logarithm of such ("log_ei",
        "q_log_ei"). For ``pending`` and ``seed`` see `build`.
        """
        function = self.build(model, pending, seed)
        size = CHUNK if self.name == "q_log_ei" else max(1, len(points))
        with torch.no_grad():
            parts = [function(part[:, None]) for part in torch.split(points, size)]
        values = np.asarray(torch.cat(parts).numpy(), dtype=np.float64)
        if self.name in ("log_ei", "q_log_ei"):
            return values + math.log(model.target_scale)
        offset = model.target_mean if self.name == "ucb" else 0.0
        return offset + model.target_scale * values

    def prefer(self, values: FloatArray, log_weight: FloatArray) -> FloatArray:
        """Return acquisition values multiplied by exp(log_weight), for ranking: (n,).

        A logarithm of a positive value gets the weight added. "ucb" may be negative and is first
        shifted so that its smallest value is 0. The result is right up to a common factor.
        """
        if self.name in ("log_ei", "q_log_ei"):
            return values + log_weight
        if not log_weight.any():
            return values
        positive = values - values.min() if self.name == "ucb" else values
        # a common factor changes no ranking and keeps large weights finite
        return np.asarray(positive * np.exp(log_weight - log_weight.max()), dtype=np.float64)
