"""The planner that learns: a Gaussian process and BoTorch acquisition functions."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from drivers.vocabulary import AnyArray, FloatArray, SubScan
from models.decision import cards
from models.decision.acquisition import Acquisition
from models.decision.base import BasePlanner, NamedParams
from models.decision.belief import Belief
from models.decision.protocols import BoolArray, CandidateGrid, Maps, Suggestion
from models.decision.surrogate import GridSurrogate
from models.decision.unitcube import UnitCube

N_SOBOL = 1024
"""Points of the initial design that are drawn; they are used over again after that."""


class BotorchPlanner(BasePlanner):
    """Bayesian optimisation over the candidate grid.

    The first ``n_initial`` places are scrambled Sobol points moved to the nearest free
    candidate. Then each place is the best free candidate of an acquisition function on a Gaussian
    process of the objective, with places under way taken as observed at their posterior mean.
    Free means: allowed, sharing no area with a window under way, and no more than ``max_overlap``
    with an executed one. Torch is set to one thread; equal seeds and calls give equal suggestions.

    Parameters
    ----------
    grid : CandidateGrid
    sub_scan_template : SubScan
        Every suggestion is this sub-scan with another id and centre.
    objective : (name, params)
        See `models.decision.objectives.make_objective`.
    acquisition : (name, params)
        See `models.decision.acquisition.Acquisition`.
    new_id : callable
        Returns the id of the next sub-scan.
    seed : int
    n_initial : int
        Places of the initial design; operators' sub-scans count.
    refit_every : int
        Most observations between two fits of the hyper-parameters; a surprise brings one forward.
    max_overlap : float
        Fraction of a window, 0 to 0.5.

    Raises
    ------
    ValueError
        If a name or number is unknown or out of range.
    """

    def __init__(
        self,
        grid: CandidateGrid,
        sub_scan_template: SubScan,
        objective: NamedParams,
        acquisition: tuple[str, Mapping[str, float]],
        new_id: Callable[[], str],
        seed: int,
        n_initial: int = 8,
        refit_every: int = 8,
        max_overlap: float = 0.0,
    ) -> None:
        super().__init__(grid, sub_scan_template, new_id, seed, objective, max_overlap)
        if n_initial < 1 or refit_every < 1:
            raise ValueError(
                f"n_initial is {n_initial} and refit_every {refit_every}; both must be at least 1"
            )
        torch.set_num_threads(1)
        self._acquisition = Acquisition(acquisition[0], dict(acquisition[1]))
        self._cube = UnitCube(grid)
        self._grid_unit = torch.from_numpy(self._cube.scale(self._centers_nm))
        self._n_initial = n_initial
        self._belief = Belief(self._grid_unit, self._cube.length_floor, refit_every)
        self._told_all, self._left_out = False, ""
        self._n_sobol = 0
        self._sobol = self._draw_sobol()

    # -- asking ------------------------------------------------------------------------------

    def suggest(self, q: int, deadline_s: float) -> list[Suggestion]:
        """Suggest up to ``q`` places, in the order of choice; each stays pending.

        Parameters
        ----------
        q : int
        deadline_s : float
            Seconds from now; after them no further place is begun, but one is always returned.

        Returns
        -------
        list of Suggestion
            Empty when no candidate is free.
        """
        stop = time.monotonic() + deadline_s
        suggestions: list[Suggestion] = []
        while len(suggestions) < q:
            free = self._book.free()
            if not free.any():
                break
            suggestions.append(self._suggest_one(free))
            if time.monotonic() > stop:
                break
        return suggestions

    def rescore(self, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
        """Return suggestions with acquisition, mean and sd as of now.

        Each is judged with all other pending places taken as observed. Before there is a
        surrogate they are returned as they are.
        """
        model = self._told().model()
        return list(suggestions) if model is None else [self._judge(s, model) for s in suggestions]

    def maps(self) -> Maps | None:
        """Return the surrogate over the grid; None before the first fit.

        Mean and standard deviation are those of what was measured; the acquisition function
        also knows what is pending.
        """
        model = self._told().model()
        if model is None:
            return None
        mean, sd = model.on_grid()
        values = self._acquire(model, self._pending_unit(), self._grid_unit)
        shape = self._grid.shape
        return Maps(
            self._grid.y_nm,
            self._grid.x_nm,
            mean.numpy().reshape(shape).copy(),
            sd.numpy().reshape(shape).copy(),
            values.reshape(shape),
            self._objective.label,
        )

    # -- learning ----------------------------------------------------------------------------

    def set_objective(self, name: str, params: Mapping[str, float | str]) -> None:
        """Steer by another objective; hyper-parameters are fitted anew at the next suggestion.

        Raises
        ------
        ValueError
            If it is unknown, or needs an entry that the outcomes do not have.
        """
        super().set_objective(name, params)
        self._belief.fit_due = True

    def set_acquisition(self, name: str, params: Mapping[str, float]) -> None:
        """Choose by another acquisition function.

        Raises
        ------
        ValueError
            If the name or a parameter is unknown or out of range.
        """
        self._acquisition = Acquisition(name, dict(params))

    def relabel(self, version: int, summaries: Mapping[str, FloatArray]) -> None:
        """Replace all summaries, atomically; hyper-parameters are fitted anew when next asked.

        Raises
        ------
        ValueError
            If an outcome has no new summary, or a summary has the wrong length.
        """
        super().relabel(version, summaries)
        self._belief.fit_due = True

    # -- saving ------------------------------------------------------------------------------

    def checkpoint(self) -> dict[str, AnyArray]:
        """Return the whole state as named arrays; after `restore` suggestions are the same."""
        acquisition = [self._acquisition.name, dict(self._acquisition.params)]
        return {
            **super().checkpoint(),
            **self._belief.pack(),
            "acquisition": np.array(json.dumps(acquisition)),
            "sobol.used": np.array(self._n_sobol),
        }

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned.

        Raises
        ------
        ValueError
            If it was made with a grid of another size.
        """
        super().restore(arrays)
        name, params = json.loads(str(arrays["acquisition"]))
        self._acquisition = Acquisition(name, params)
        self._belief.unpack(arrays)
        self._n_sobol = int(np.asarray(arrays["sobol.used"], dtype=np.int64))
        self._sobol = self._draw_sobol()

    # -- inside ------------------------------------------------------------------------------

    def _suggest_one(self, free: BoolArray) -> Suggestion:
        """Choose one of the free candidates and note it as pending."""
        n = self._told().n
        if n < 2 or n + self.n_pending < self._n_initial:
            return self._initial(free)
        model = self._told().fitted_model()
        pending = self._pending_unit()
        values = self._acquire(model, pending, self._grid_unit)
        ranking = np.full(len(free), -np.inf)
        ranking[free] = self._acquisition.prefer(values[free], self._book.log_weight[free])
        index = int(np.argmax(ranking))
        mean, sd = (float(v[index]) for v in model.with_pending(pending).on_grid())
        sub_scan = self._register(index)
        elsewhere = free & self._book.apart_from(sub_scan)
        reasons = {
            "acquisition": f"{self._acquisition.title} = {values[index]:.4g}",
            "posterior": f"{self._objective.label}: {mean:.4g} ± {sd:.2g}",
            "runners_up": cards.runners_up(values, self._centers_nm, elsewhere),
            "preference": f"log weight {self._book.log_weight[index]:.3g}",
            **self._card(index, "no"),
        }
        return self._suggestion(sub_scan, float(values[index]), mean, sd, reasons)

    def _initial(self, free: BoolArray) -> Suggestion:
        """Take the free candidate nearest to the next Sobol point."""
        target = self._sobol[self._n_sobol % N_SOBOL]
        self._n_sobol += 1
        distance = np.square(self._grid_unit.numpy() - target).sum(axis=1)
        index = int(np.argmin(np.where(free, distance, np.inf)))
        note = f"yes: scrambled Sobol point {self._n_sobol}, {self._n_initial} observations wanted"
        sub_scan = self._register(index)
        return self._suggestion(sub_scan, 0.0, 0.0, 0.0, self._card(index, note))

    def _suggestion(
        self, sub_scan: SubScan, value: float, mean: float, sd: float, reasons: dict[str, str]
    ) -> Suggestion:
        """Put a suggestion together."""
        n = self._told().n
        return Suggestion(sub_scan.id, sub_scan, value, mean, sd, reasons, n, self._book.version)

    def _card(self, index: int, initial: str) -> dict[str, str]:
        """Return the part of the decision card that every suggestion has."""
        belief = self._told()
        center = self._centers_nm[index]
        reasons = {
            "initial_design": initial,
            "neighbours": cards.neighbours(center, self._book.outcomes, self._all_scores()),
            "left_out": self._left_out,
            "fit": belief.fit_state.text(belief.n),
        }
        model = belief.model()
        if model is not None:
            y, x = self._cube.lengths_nm(model.hyper.length_scale)
            noise = model.target_scale * math.sqrt(model.hyper.noise)
            reasons["length_scale"] = f"{y:.4g} nm in y, {x:.4g} nm in x"
            reasons["noise"] = f"standard deviation {noise:.3g}"
        return reasons

    def _acquire(self, model: GridSurrogate, pending: Tensor, points: Tensor) -> FloatArray:
        """Return the acquisition value at places of the unit cube."""
        return self._acquisition.evaluate(model, pending, points, self._seed)

    def _judge(self, suggestion: Suggestion, model: GridSurrogate) -> Suggestion:
        """Return a suggestion with its numbers as of now."""
        point_nm = np.array([suggestion.sub_scan.center_nm])
        point = torch.from_numpy(self._cube.scale(point_nm))
        others = self._pending_unit(besides=suggestion.id)
        value = float(self._acquire(model, others, point)[0])
        mean, sd = (float(v[0]) for v in model.with_pending(others).at(point))
        return replace(
            suggestion,
            acquisition=value,
            mean=mean,
            sd=sd,
            n_observed=self._told().n,
            encoder_version=self._book.version,
        )

    def _pending_unit(self, besides: str = "") -> Tensor:
        """Return the pending places inside the field, in the unit cube: (p, 2)."""
        scans = [s for key, s in self._book.pending.items() if key != besides]
        centers = np.array([s.center_nm for s in scans], dtype=np.float64).reshape(-1, 2)
        return torch.from_numpy(self._cube.scale(centers[self._cube.inside(centers)]))

    def _told(self) -> Belief:
        """Return the belief, told of what can be learnt from.

        That is: outcomes of the current encoder version, with a finite objective, in the field.
        """
        if self._told_all:
            return self._belief
        outcomes = list(self._book.outcomes.values())
        centers = np.array([o.sub_scan.center_nm for o in outcomes]).reshape(-1, 2)
        targets = np.array(list(self._all_scores().values()), dtype=np.float64)
        stale = np.array([o.encoder_version != self._book.version for o in outcomes], dtype=bool)
        inside, finite = self._cube.inside(centers), np.isfinite(targets)
        used = finite & inside
        self._left_out = cards.left_out(
            int((~finite & ~stale).sum()), int(stale.sum()), int((finite & ~inside).sum())
        )
        self._belief.tell(self._cube.scale(centers[used]), targets[used])
        self._told_all = True
        return self._belief

    def _draw_sobol(self) -> FloatArray:
        """Return the scrambled Sobol points of the seed in the unit cube: (N_SOBOL, 2)."""
        points = qmc.Sobol(d=2, scramble=True, rng=self._seed).random(N_SOBOL)
        return np.asarray(points, dtype=np.float64)

    def _changed(self) -> None:
        """Note that outcomes or the objective changed."""
        super()._changed()
        self._told_all = False
