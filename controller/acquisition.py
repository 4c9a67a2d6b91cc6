"""The task that acquires: survey, anchors, then one sub-scan after another until an end.

It alone changes between RUNNING, PAUSED and HOLDING, and it alone asks the governor to expose.
While one sub-scan is exposed, the next is decided and its intent written (`_ahead`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from controller import commands as c
from controller import events as e
from controller.config import AnchorPart
from controller.governor import Exposed, Refused, tripped
from controller.lane import Stale
from controller.limits import Verdict
from controller.operating import forced_sub_scan
from controller.parts import End, Parts
from controller.phases import EXPOSING, Autonomy, FinishReason, Phase
from controller.suspenders import check_saturation
from controller.waiting import settled
from drivers.vocabulary import SubScan

MAX_REFUSALS = 25
"""Suggestions in a row that limits may refuse before the run ends."""


class Acquisition:
    """Acquires until there is a reason to end, and says which."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._ahead: asyncio.Task[e.Intent | End | None] | None = None
        self._refusals = 0
        self._previous_end_s: float | None = None
        self._since_anchor: dict[str, int] = {}
        self._ahead_epoch = 0
        self._force: c.Force | None = None
        """The operator's wish that the last forced intent came from."""
        self._epochs: dict[str, int] = {}
        """The epoch in which the next suggestion was prepared, by its id."""

    async def run(self) -> End:
        """Acquire until the end."""
        try:
            end = await self._survey()
            if end is not None:
                return end
            self._p.go(Phase.RUNNING)
            while True:
                end = await self._free() or self._enough() or await self._anchors()
                end = end or await self._one()
                if end is not None:
                    return end
        finally:
            if self._ahead is not None:
                self._ahead.cancel()  # what it waits for may never come
            self._p.digest.release()
            await self._discard_ahead("the acquisition ended")

    # --- waiting ---

    async def _free(self) -> End | None:
        """Wait, blanked, while the run is paused or held; return an end that was asked for."""
        wishes, state = self._p.wishes, self._p.state
        while True:
            if wishes.end is not None:
                return wishes.end
            if wishes.steps == 0:
                wishes.steps, wishes.pause = None, True
            if wishes.pause:
                await self._rest(Phase.PAUSED, "as the operator asked")
            elif state.suspended:
                await self._rest(Phase.HOLDING, "; ".join(state.suspended.values()))
            elif self._nothing_forced_in_manual():
                await self._rest(Phase.HOLDING, "MANUAL: waiting for a sub-scan to be forced")
            else:
                if state.phase not in EXPOSING:
                    self._p.go(state.interrupted)
                return None
            await self._changed()

    def _nothing_forced_in_manual(self) -> bool:
        state = self._p.state
        exposing = state.phase if state.phase in EXPOSING else state.interrupted
        manual = state.autonomy is Autonomy.MANUAL and exposing is not Phase.SURVEYING
        return manual and not self._p.arbiter.forced

    async def _rest(self, phase: Phase, reason: str) -> None:
        """Go to a phase without exposure, leaving nothing half prepared and no beam on."""
        self._p.digest.release()
        await self._discard_ahead(reason)
        self._p.go(phase, reason)
        await self._p.governor.rest()

    async def _changed(self, timeout_s: float | None = None) -> bool:
        """Wait for a command or a signal; False when none came in time."""
        event = self._p.wishes.changed
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    # --- survey and anchors ---

    async def _survey(self) -> End | None:
        """Scan the survey, once in the life of a run, and make the describer ready."""
        p, part = self._p, self._p.config.experiment.survey
        done = any(outcome.purpose == "survey" for outcome in p.state.outcomes.values())
        if part.enabled and not done:
            p.go(Phase.SURVEYING)
            try:
                exposed = await self._planned(self._prepare_survey)
            except Refused as refused:
                return End(FinishReason.LIMIT, f"the survey was refused: {refused}")
            if isinstance(exposed, End):
                return exposed
            p.survey = exposed.data
        if p.wishes.end is not None:
            return p.wishes.end
        if p.state.encoder_version > 0:
            return None
        try:
            await p.digest.prepare(p.survey, p.config.experiment.sub_scan.fov_nm)
        except ValueError as error:
            if part.enabled and p.survey is None:
                why = "the survey gave no image and is never exposed again: start a new run"
                return End(FinishReason.FAULT, f"{why} ({error})")
            raise
        return None

    async def _prepare_survey(self) -> e.Intent:
        p, part = self._p, self._p.config.experiment.survey
        sub_scan = SubScan(
            id=p.new_id(),
            center_nm=(0.0, 0.0),
            fov_nm=p.config.survey_fov_nm(),
            shape=part.shape,
            dwell_us=part.dwell_us,
        )
        return await p.governor.prepare(
            sub_scan, "survey", "experiment", p.config.survey_detectors()
        )

    async def _anchors(self) -> End | None:
        """Scan the anchors that are due."""
        for anchor in self._p.config.experiment.anchor:
            since = self._since_anchor.get(anchor.name)
            if since is not None and since < anchor.every_n:
                continue
            self._since_anchor[anchor.name] = 0
            await self._discard_ahead(f"anchor {anchor.name} is due")
            with suppress(Refused):  # its own budget is spent: journalled, and the run goes on
                exposed = await self._planned(partial(self._prepare_anchor, anchor))
                if isinstance(exposed, End):
                    return exposed
        return None

    async def _planned(self, prepare: Callable[[], Awaitable[e.Intent]]) -> Exposed | End:
        """Expose a survey or an anchor; after a command that comes first, prepare it anew."""
        while True:
            end = await self._free()
            if end is not None:
                return end
            intent = await prepare()
            if not self._overtaken(intent):
                return await self._expose(intent)
            self._p.governor.withdraw(intent, "a command came before it was begun")

    async def _prepare_anchor(self, anchor: AnchorPart) -> e.Intent:
        sub_scan = SubScan(
            id=self._p.new_id(),
            center_nm=anchor.center_nm,
            fov_nm=anchor.fov_nm,
            shape=anchor.shape,
            dwell_us=anchor.dwell_us,
        )
        detectors = self._p.config.survey_detectors()
        return await self._p.governor.prepare(sub_scan, "anchor", anchor.name, detectors)

    # --- one sub-scan ---

    async def _one(self) -> End | None:
        """Execute one sub-scan, if there is one to execute."""
        wait_from_s = time.perf_counter()
        if self._ahead is None or not self._ahead.done():
            self._p.digest.release()
        found = await self._next()
        if not isinstance(found, e.Intent):
            return found
        stages_ms = {"wait for decision": (time.perf_counter() - wait_from_s) * 1e3}
        if self._overtaken(found):
            self._p.digest.release()
            await self._take_back(found, "a command came before it was begun")
            return None
        self._refusals = 0
        more = not self._enough(in_flight=1)
        if more and self._p.state.autonomy is Autonomy.AUTO and not self._p.arbiter.forced:
            name = f"decide after {found.id}"
            self._ahead_epoch = self._p.state.epoch
            self._ahead = asyncio.create_task(self._decide(ahead=True), name=name)
            if self._p.clock.is_virtual:
                self._p.digest.release()
                await asyncio.wait({self._ahead})  # no second of this clock may pass meanwhile
        await self._expose(found, stages_ms)
        wishes = self._p.wishes
        if wishes.steps:
            wishes.steps -= 1
        for anchor_name in self._since_anchor:
            self._since_anchor[anchor_name] += 1
        return None

    def _enough(self, in_flight: int = 0) -> End | None:
        """Return an end when all planned sub-scans are done, those in flight counted in."""
        n = self._p.governor.budget().n_sub_scans
        if self._p.state.n_measured + in_flight < n:
            return None
        return End(FinishReason.COMPLETED, f"all {n} planned sub-scans are done")

    def _overtaken(self, intent: e.Intent) -> bool:
        """Say whether the run must not go on with this exposure after all."""
        wishes, state = self._p.wishes, self._p.state
        if wishes.end is not None or wishes.pause or state.suspended:
            return True
        return intent.purpose == "measure" and self._epochs.pop(intent.id, -1) != state.epoch

    async def _next(self) -> e.Intent | End | None:
        """Return what is exposed next: forced, decided ahead, or decided now."""
        if self._p.arbiter.forced:
            await self._discard_ahead("an operator's sub-scan goes first")
            return await self._forced(self._p.arbiter.forced.popleft())
        if self._ahead is None:
            return await self._decide(ahead=False)
        found = await self._ahead
        self._ahead = None  # from here on, not before: cancelled meanwhile, it is taken back
        if isinstance(found, End) and self._ahead_epoch != self._p.state.epoch:
            return None  # an override may have changed that
        return found

    async def _forced(self, command: c.Force) -> e.Intent | End | None:
        self._force = command
        try:
            return await self._p.governor.prepare(
                forced_sub_scan(command, self._p, self._p.new_id()),
                "forced",
                command.by,
                self._p.config.sub_scan_detectors(),
            )
        except Refused as refused:
            if any(verdict.action == "hold" for verdict in refused.verdicts):
                self._p.arbiter.forced.appendleft(command)
            return self._refused(refused)

    async def _decide(self, *, ahead: bool) -> e.Intent | End | None:
        """Ask for a suggestion and prepare it; None when it came to nothing."""
        p = self._p
        await p.digest.drained()
        epoch = p.state.epoch
        try:
            suggestion = await p.decider.suggest()
        except Stale:
            return None
        if suggestion is None:
            if ahead or p.state.epoch != epoch:
                return None
            return End(FinishReason.COMPLETED, "every place that dose and regions allow is done")
        if p.state.epoch != epoch:
            await p.decider.drop(suggestion.id, "decided before an override")
            return None
        if p.state.autonomy is Autonomy.ADVISE and not await self._accepted(suggestion.id):
            return None
        if suggestion.id not in p.state.pending:
            return None
        self._epochs = {suggestion.id: p.state.epoch}
        try:
            return await p.governor.prepare(
                suggestion.sub_scan, "measure", "planner", p.config.sub_scan_detectors()
            )
        except Refused as refused:
            await p.decider.drop(suggestion.id, str(refused))
            return self._refused(refused)

    async def _accepted(self, suggestion_id: str) -> bool:
        """Wait, blanked, for an operator's answer (ADVISE); no answer means no."""
        p, countdown_s = self._p, self._p.config.experiment.autonomy.countdown_s
        p.go(Phase.HOLDING, f"waiting for an answer to {suggestion_id}")
        await p.governor.rest()
        until_s = time.monotonic() + countdown_s
        while suggestion_id in p.state.pending and p.wishes.end is None:
            if suggestion_id in p.arbiter.accepted:
                p.arbiter.accepted.discard(suggestion_id)
                p.go(Phase.RUNNING, f"{suggestion_id} was accepted")
                return True
            if p.state.autonomy is not Autonomy.ADVISE or p.wishes.pause or p.arbiter.forced:
                await p.decider.drop(suggestion_id, "an override came before an answer")
                return False
            if not await self._changed(max(0.0, until_s - time.monotonic())):
                await p.decider.drop(suggestion_id, f"no answer in {countdown_s:g} s")
                await self._changed()
                return False
        return False

    def _refused(self, refused: Refused) -> End | None:
        """Say what a refusal means for the run: its end, a hold, or only another suggestion."""
        for verdict in refused.verdicts:
            if verdict.action == "finish":
                return self._spent(verdict.rule, verdict.limit, str(verdict))
        for verdict in refused.verdicts:
            if verdict.action == "hold":
                self._p.journal.append(e.SuspenderTripped(name=verdict.rule, why=str(verdict)))
                return None
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            why = f"{MAX_REFUSALS} suggestions in a row were refused; the last: {refused}"
            return End(FinishReason.LIMIT, why)
        return None

    def _spent(self, rule: str, limit: float, message: str) -> End:
        limits = self._p.config.instrument.limits
        ceilings = {"total dose": limits.max_total_dose_e_per_A2, "duration": limits.max_duration_s}
        if rule == "number of sub-scans":
            return End(FinishReason.COMPLETED, f"all {limit:g} planned sub-scans are done")
        reason = FinishReason.LIMIT if limit >= ceilings.get(rule, 1e99) else FinishReason.BUDGET
        return End(reason, message)

    async def _discard_ahead(self, why: str) -> None:
        """Take back what was decided ahead; its dose was never delivered."""
        if self._ahead is None:
            return
        ahead, self._ahead = self._ahead, None
        try:
            await settled(ahead, pass_on=True)
        except asyncio.CancelledError:
            if not ahead.cancelled() and isinstance(found := ahead.result(), e.Intent):
                self._p.governor.withdraw(found, why)
            raise
        found = None if ahead.cancelled() else ahead.result()
        if isinstance(found, e.Intent):
            await self._take_back(found, why)

    async def _take_back(self, intent: e.Intent, why: str) -> None:
        """Withdraw an intent that was not begun; what an operator forced stays wished for."""
        self._p.governor.withdraw(intent, why)
        if intent.purpose != "forced":
            await self._p.decider.drop(intent.id, why)
        elif self._force is not None:
            self._p.arbiter.forced.appendleft(self._force)

    async def _expose(self, intent: e.Intent, stages_ms: dict[str, float] | None = None) -> Exposed:
        """Expose, hand over for digestion, and look at what came back."""
        p = self._p
        try:
            exposed = await p.governor.expose(intent, p.digest.release)
        finally:
            p.digest.release()
        record = exposed.record
        stages = {**(stages_ms or {}), **record.stages_ms}
        stages["scan"] = (record.ended_at_s - record.scan_command_at_s) * 1e3
        if self._previous_end_s is not None:
            gap_ms = (record.scan_command_at_s - self._previous_end_s) * 1e3
            stages["overhead"] = max(0.0, gap_ms - stages.get("wait for decision", 0.0))
            if not p.clock.is_virtual:
                whole_ms = (record.ended_at_s - self._previous_end_s) * 1e3
                stages["duty_cycle"] = stages["scan"] / whole_ms
        self._previous_end_s = record.ended_at_s
        decided_ms = p.decider.last_decision_ms.pop(intent.id, None)
        if decided_ms is not None:
            stages["decide"] = decided_ms
        p.decider.charged(intent.sub_scan)
        if self._ahead is not None and self._ahead.done():
            p.digest.hold()  # the next exposure follows at once
        await p.digest.put(exposed, stages)
        self._look_at(exposed)
        return exposed

    def _look_at(self, exposed: Exposed) -> None:
        """Hold the run when the detector saturates or the console was touched."""
        p, limits = self._p, self._p.config.instrument.limits
        if exposed.changed is not None:
            p.journal.append(e.SuspenderTripped(name="console", why=exposed.changed))
        if exposed.data is not None:
            verdict = check_saturation(exposed.data, limits)
            if verdict is not None:
                p.journal.append(tripped(verdict, exposed.intent.id))
                p.journal.append(e.SuspenderTripped(name="saturation", why=str(verdict)))
        still_ms, allowed_ms = p.governor.still_ms, limits.max_stationary_probe_ms
        if still_ms > allowed_ms and not p.clock.is_virtual:
            verdict = Verdict("stationary probe", still_ms, allowed_ms, "ms", "hold")
            p.journal.append(tripped(verdict, exposed.intent.id))
            p.journal.append(e.SuspenderTripped(name="stationary probe", why=str(verdict)))
