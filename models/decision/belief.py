"""What a planner believes of the objective: data, hyper-parameters, and when they are fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from drivers.vocabulary import AnyArray, FloatArray
from models.decision.cards import FitState
from models.decision.fitting import FIT_ERRORS, default_parameters, fit
from models.decision.surrogate import GridSurrogate, HyperParameters

SURPRISE = 4.0
"""Predicted standard deviations from the mean at which an observation calls for a fit."""


class Belief:
    """The surrogate over a grid, with its hyper-parameters fitted every so many observations.

    They are also fitted when an observation is more than `SURPRISE` off its prediction.

    Parameters
    ----------
    grid : (m, 2) tensor
        Candidates in the unit cube.
    length_floor : (y, x)
        Smallest length-scale in the unit cube.
    refit_every : int
        Most observations between two fits.

    Attributes
    ----------
    fit_due : bool
        Set it to have the next `fitted_model` fit whatever the number of observations.
    """

    def __init__(self, grid: Tensor, length_floor: tuple[float, float], refit_every: int) -> None:
        self._grid, self._floor, self._refit_every = grid, length_floor, refit_every
        self._points = torch.zeros(0, 2, dtype=torch.float64)
        self._targets = torch.zeros(0, dtype=torch.float64)
        self._hyper: HyperParameters | None = None
        self._model: GridSurrogate | None = None
        self.fit_state = FitState()
        self.fit_due = True

    @property
    def n(self) -> int:
        """Number of observations."""
        return len(self._targets)

    def tell(self, points: FloatArray, targets: FloatArray) -> None:
        """Replace all observations: (n, 2) in the unit cube and (n,)."""
        self._points, self._targets = torch.from_numpy(points), torch.from_numpy(targets)
        self._model = None

    def model(self) -> GridSurrogate | None:
        """Return the surrogate with the hyper-parameters in use; None before the first fit."""
        if self._hyper is None or not self.n:
            return None
        if self._model is None:
            with torch.no_grad():
                self._model = GridSurrogate.from_data(
                    self._hyper, self._points, self._targets, self._grid
                )
        return self._model

    def fitted_model(self) -> GridSurrogate:
        """Return the surrogate, fitted first if enough is new; a failed fit keeps the old.

        Raises
        ------
        ValueError
            If there are fewer than two observations.
        """
        if self.n < 2:
            raise ValueError(f"a surrogate needs 2 observations, there are {self.n}")
        new = self.n - self.fit_state.n_tried
        if self.fit_due or new >= self._refit_every or (new > 0 and self._surprised(new)):
            self._fit()
        model = self.model()
        assert model is not None
        return model

    def _surprised(self, new: int) -> bool:
        """Say whether one of the latest observations is far from what was predicted.

        Hyper-parameters fitted before the first find take that find for noise.
        """
        known = self.n - new
        if self._hyper is None or known < 2:
            return False
        points, targets = self._points[known:], self._targets[known:]
        with torch.no_grad():
            before = GridSurrogate.from_data(
                self._hyper, self._points[:known], self._targets[:known], points
            )
            mean, sd = before.on_grid()
            noise = before.target_scale**2 * self._hyper.noise
            residual = (targets - mean).abs() / (sd.square() + noise).sqrt()
        return bool((residual > SURPRISE).any())

    def _fit(self) -> None:
        """Fit the hyper-parameters, with those in use as one more start."""
        starts = [] if self._hyper is None else [self._hyper]
        try:
            self._hyper = fit(self._points, self._targets, self._floor, starts)
            self.fit_state = FitState(self.n, self.n)
        except FIT_ERRORS as error:
            self._hyper = self._hyper or default_parameters(self._floor)
            self.fit_state = replace(self.fit_state, n_tried=self.n, failure=str(error))
        self.fit_due = False
        self._model = None

    def pack(self) -> dict[str, AnyArray]:
        """Return hyper-parameters and fit state as arrays; observations are not among them."""
        hyper = self._hyper
        numbers = [] if hyper is None else [*hyper.length_scale, hyper.noise, hyper.mean]
        return {
            "gp.hyper": np.array(numbers, dtype=np.float64),
            "gp.fitted": np.array([self.fit_state.n_fitted, self.fit_state.n_tried]),
            "gp.failure": np.array(self.fit_state.failure),
            "gp.fit_due": np.array(self.fit_due),
        }

    def unpack(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take over what `pack` returned."""
        numbers = np.asarray(arrays["gp.hyper"], dtype=np.float64).tolist()
        self._hyper = None
        if numbers:
            self._hyper = HyperParameters((numbers[0], numbers[1]), numbers[2], numbers[3])
        n_fitted, n_tried = np.asarray(arrays["gp.fitted"], dtype=np.int64).tolist()
        self.fit_state = FitState(n_fitted, n_tried, str(arrays["gp.failure"]))
        self.fit_due = bool(arrays["gp.fit_due"])
        self._model = None
