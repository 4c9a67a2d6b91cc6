"""Ask the planner for the next sub-scan, in the compute lane, and keep its cards in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from controller import commands as c
from controller import events as e
from controller.candidates import CandidateMask
from controller.journal import Journal
from controller.lane import Lane, Priority
from controller.state import RunState
from drivers.vocabulary import FloatArray, Region, SubScan
from models.decision.protocols import Maps, Outcome, Planner, Suggestion

C = TypeVar("C", bound=c.Command)
DEADLINE_S = 30.0
"""How long a decision may take before it counts as failed."""


class Decider:
    """The planner's side of the loop.

    Parameters
    ----------
    planner : Planner
    mask : CandidateMask
        Which candidates dose and regions allow.
    lane : Lane
        Where the planner runs.
    journal : Journal
    defaults : tuple
        Configured objective and acquisition, (name, params) each: what `undo` goes back to.
    """

    def __init__(
        self,
        planner: Planner,
        mask: CandidateMask,
        lane: Lane,
        journal: Journal,
        *,
        objective: tuple[str, dict[str, float | str]],
        acquisition: tuple[str, dict[str, float]],
    ) -> None:
        self.planner = planner
        self._mask = mask
        self._lane = lane
        self._journal = journal
        self._objective = objective
        self._acquisition = acquisition
        self._spent: list[Region] = []
        self.last_decision_ms: dict[str, float] = {}

    @property
    def _state(self) -> RunState:
        return self._journal.state

    def charged(self, sub_scan: SubScan | None) -> None:
        """Take note that dose was charged here (everywhere when None)."""
        self._mask.update(self._state.ledger, sub_scan)

    async def suggest(self) -> Suggestion | None:
        """Return the next suggestion, journalled; None when no allowed candidate is left.

        Raises
        ------
        controller.lane.Stale
            If an override came before the planner's turn.
        """
        epoch = self._state.epoch
        allowed, log_weight = self._mask.allowed.copy(), self._mask.log_weight.copy()
        in_flight = tuple(self._state.intents)
        started = time.perf_counter()

        def work() -> list[Suggestion]:
            self.planner.constrain(allowed, log_weight)
            return self.planner.suggest(1, DEADLINE_S)

        found = await self._lane.submit(work, Priority.SUGGEST, deadline_s=DEADLINE_S, epoch=epoch)
        if not found:
            return None
        suggestion = found[0]
        self.last_decision_ms[suggestion.id] = (time.perf_counter() - started) * 1e3
        self._journal.append(_suggested(suggestion, epoch, in_flight))
        return suggestion

    async def drop(self, suggestion_id: str, why: str) -> None:
        """Forget a suggestion, journalled."""
        self.last_decision_ms.pop(suggestion_id, None)
        self._journal.append(e.SuggestionDropped(id=suggestion_id, why=why))
        await self._lane.submit(lambda: self.planner.cancel(suggestion_id), Priority.DESCRIBE)

    def spent(self, sub_scan: SubScan) -> None:
        """Keep a place that gave nothing from being suggested again."""
        y, x = sub_scan.corners_nm().T.tolist()
        self._spent.append(Region(tuple(zip(y, x, strict=True))))
        self.regions_changed()

    def regions_changed(self) -> None:
        """Take up the excluded, vetoed and prioritised regions in force."""
        excluded = [each.region for each in _of(self._state, c.Exclude)]
        weighted = [(each.region, each.weight) for each in _of(self._state, c.Prioritise)]
        self._mask.set_regions([*excluded, *self._state.vetoed, *self._spent], weighted)

    def budget_changed(self, max_local_dose_e_per_A2: float) -> None:
        """Take up the local budget in force."""
        self._mask.set_budget(max_local_dose_e_per_A2)

    async def steering_changed(self) -> None:
        """Take up the objective and acquisition in force.

        Raises
        ------
        ValueError
            If the planner does not know them.
        """
        await self._lane.submit(self.steer_now, Priority.SUGGEST)

    def steer_now(self) -> None:
        """Do so at once, from the lane or before the run begins."""
        name, params = self._objective
        for objective in _of(self._state, c.SetObjective):
            name, params = objective.name, objective.params
        acquisition, settings = self._acquisition
        for chosen in _of(self._state, c.SetAcquisition):
            acquisition, settings = chosen.name, chosen.params
        self.planner.set_objective(name, params)
        self.planner.set_acquisition(acquisition, settings)

    async def in_lane(self, work: Callable[[], None]) -> None:
        """Run something that touches the planner in the lane."""
        await self._lane.submit(work, Priority.DESCRIBE)

    def learn(self, outcome: Outcome) -> float | None:
        """Tell the planner an outcome and return its objective; called in the lane."""
        self.planner.ingest(outcome)
        return self.planner.score(outcome.id)

    async def maps(self) -> Maps | None:
        """Return the surrogate over the grid."""
        return await self._lane.submit(self.planner.maps, Priority.SUGGEST)

    async def relabel(
        self, version: int, summaries: dict[str, FloatArray]
    ) -> dict[str, float | None]:
        """Give the planner the summaries of a new encoder version; return the objectives."""

        def work() -> dict[str, float | None]:
            self.planner.relabel(version, summaries)
            return {key: self.planner.score(key) for key in summaries}

        return await self._lane.submit(work, Priority.SUGGEST)


def _suggested(suggestion: Suggestion, epoch: int, in_flight: Iterable[str]) -> e.Suggested:
    return e.Suggested(
        id=suggestion.id,
        sub_scan=suggestion.sub_scan,
        acquisition=suggestion.acquisition,
        mean=suggestion.mean,
        sd=suggestion.sd,
        reasons=dict(suggestion.reasons),
        n_observed=suggestion.n_observed,
        encoder_version=suggestion.encoder_version,
        epoch=epoch,
        pending=tuple(in_flight),
    )


def _of(state: RunState, kind: type[C]) -> list[C]:
    """Return the overrides of one kind in force, oldest first."""
    return [each for each in state.overrides if isinstance(each, kind)]
