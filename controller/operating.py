"""What operator commands do, once the arbiter has taken them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from controller import commands as c
from controller import events as e
from controller.arbiter import Answer
from controller.digest import Digest
from controller.parts import End, Parts
from controller.phases import FinishReason
from controller.waiting import uncancellable
from drivers.vocabulary import SubScan

OPERATOR_CLEARS = frozenset({"saturation", "console"})
"""What holds a run until an operator says `resume`."""
ENDED = "the run has ended"


class Operating:
    """Takes commands from the queue, judges them, journals the answer and carries them out."""

    def __init__(self, parts: Parts, digest: Digest) -> None:
        self._p = parts
        self._digest = digest
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._closed = False

    async def submit(self, command: c.AnyCommand) -> Answer:
        """Offer a command and return what became of it."""
        p = self._p
        known = p.arbiter.answered(command, p.state)
        if known is not None:
            return known
        future = self._waiting.get(command.id)
        if future is None:
            why = ENDED if self._closed else p.arbiter.offer(command)
            if why is not None:
                return self._refuse(command, why)
            future = asyncio.get_running_loop().create_future()
            self._waiting[command.id] = future
        return await asyncio.shield(future)

    async def run(self) -> None:
        """Carry out commands until cancelled; those that overtake wait for no other's effect."""
        queue = self._p.arbiter.queue
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(queue.take, queue.arrived), name="commands in turn")
            urgent = self._serve(queue.take_urgent, queue.urgent_arrived)
            group.create_task(urgent, name="urgent commands")

    async def _serve(self, take: Callable[[], c.AnyCommand | None], arrived: asyncio.Event) -> None:
        while True:
            command = take()
            if command is None:
                await arrived.wait()
            else:
                self._answer(await self._carry_out(command))

    def _answer(self, answer: Answer) -> None:
        future = self._waiting.pop(answer.id, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def close(self) -> None:
        """Refuse what still waits, and from now on everything: the run has ended."""
        self._closed = True
        while (command := self._p.arbiter.queue.take()) is not None:
            self._answer(self._refuse(command, ENDED))
        for key in list(self._waiting):  # taken, and cut short by the end
            why = self._p.state.commands_seen.get(key, ENDED)
            self._answer(Answer(key, ok=not why, why=why, revision=self._p.state.revision))

    def _refuse(self, command: c.AnyCommand, why: str) -> Answer:
        self._p.journal.append(e.CommandRefused(command=command, why=why))
        return Answer(command.id, ok=False, why=why, revision=self._p.state.revision)

    async def _carry_out(self, command: c.AnyCommand) -> Answer:
        p = self._p
        p.wishes.operator_spoke_at_s = time.monotonic()
        why = p.arbiter.judge(command, p.state) or self._beyond_limits(command)
        if why is not None:
            return self._refuse(command, why)
        p.journal.append(e.CommandAccepted(command=command))
        p.lane.epoch = p.state.epoch
        revision = p.state.revision
        why = await self._effect(command)
        p.wishes.changed.set()
        if why is not None:
            return self._refuse(command, why)
        return Answer(command.id, ok=True, why="", revision=revision)

    def _beyond_limits(self, command: c.AnyCommand) -> str | None:
        """Return why a forced sub-scan is against the limits, None when it is not."""
        if not isinstance(command, c.Force):
            return None
        try:
            wish = forced_sub_scan(command, self._p, "wish")
        except ValueError as error:
            return str(error)
        found = self._p.governor.verdicts(wish, "forced")
        return "; ".join(map(str, found)) or None

    async def _effect(self, command: c.AnyCommand) -> str | None:
        """Carry a command out; return why that failed, None when it did not."""
        p, wishes = self._p, self._p.wishes
        match command:
            case c.Pause():
                wishes.pause, wishes.steps = True, None
                if command.now:
                    await p.governor.cancel()
            case c.Resume():
                return await self._resume()
            case c.Step():
                wishes.pause, wishes.steps = False, 1
            case c.Abort():
                wishes.end = End(FinishReason.ABORTED, f"aborted by {command.by}")
                await p.governor.cancel()
            case c.Park():
                wishes.end = End(FinishReason.ABORTED, f"parked by {command.by}")
                wishes.parked, why = True, f"park commanded by {command.by}"
                await uncancellable(self._park(why), "park")
            case c.Veto():
                p.decider.regions_changed()
                why = f"vetoed by {command.by}: {command.reason}"
                await p.decider.drop(command.suggestion_id, why)
            case c.Accept():
                p.arbiter.accepted.add(command.suggestion_id)
            case c.Force():
                p.arbiter.forced.append(command)
            case c.Exclude() | c.Prioritise():
                p.decider.regions_changed()
            case c.SetBudget():
                p.decider.budget_changed(p.governor.budget().max_local_dose_e_per_A2)
            case c.SetObjective() | c.SetAcquisition():
                return await self._steer()
            case c.Undo():
                p.decider.regions_changed()
                p.decider.budget_changed(p.governor.budget().max_local_dose_e_per_A2)
                return await self._steer()
            case c.Retrain():
                return await self._digest.retrain()
            case _:
                pass  # the journal entry is the whole effect
        return None

    async def _park(self, why: str) -> None:
        """Park at once, by the way that works when the driver hangs."""
        self._p.journal.append(await asyncio.to_thread(self._p.park, why))

    async def _steer(self) -> str | None:
        """Take up objective and acquisition; one the planner does not know is taken back."""
        try:
            await self._p.decider.steering_changed()
        except ValueError as error:
            undo = c.Undo(by="controller", reason=str(error))
            self._p.journal.append(e.CommandAccepted(command=undo))
            self._p.lane.epoch = self._p.state.epoch
            await self._p.decider.steering_changed()
            return str(error)
        return None

    async def _resume(self) -> str | None:
        """Go on, unless the instrument is still set other than when the run connected."""
        p = self._p
        changed = await p.governor.changed_at_console() if "console" in p.state.suspended else None
        if changed is not None:
            return f"changed at the console: {changed}; set it back, or start a new run"
        p.wishes.pause, p.wishes.steps = False, None
        for name in sorted(OPERATOR_CLEARS & set(self._p.state.suspended)):
            p.journal.append(e.SuspenderCleared(name=name))
        return None


def forced_sub_scan(command: c.Force, parts: Parts, sub_scan_id: str) -> SubScan:
    """Return the sub-scan an operator asks for; what is not said is as in the experiment."""
    part = parts.config.experiment.sub_scan
    template = SubScan(
        id=sub_scan_id,
        center_nm=command.center_nm,
        fov_nm=part.fov_nm,
        shape=part.shape,
        dwell_us=part.dwell_us,
        rotation_deg=part.rotation_deg,
    )
    return replace(
        template,
        fov_nm=command.fov_nm or part.fov_nm,
        shape=command.shape or part.shape,
        dwell_us=command.dwell_us or part.dwell_us,
    )
