"""The controller: the life of a run from connecting to parked.

While sub-scan k is acquired, k+1 is decided from what is known up to k-1 with k pending, and its
intent is written; k-1 is stored and described. One task acquires; beside it others take
commands, keep the guardian and the instrument informed, watch the suspenders, and digest.
However the run ends, it ends by parking.
"""

from __future__ import annotations

import asyncio
import sys

from controller import commands as c
from controller import events as e
from controller.acquisition import Acquisition
from controller.arbiter import Answer
from controller.errors import describe, innermost
from controller.governor import tripped
from controller.operating import OPERATOR_CLEARS, Operating
from controller.park import alarm
from controller.parts import End, Parts
from controller.phases import TRANSITIONS, FinishReason, Phase
from controller.suspenders import changes
from controller.waiting import uncancellable
from drivers.errors import DriverError, DriverRefused

BEAT_S = 0.2
SWITCH_S = 5e-4
"""How long a computing thread may keep the loop from running: Python's default is 5 ms."""
LOOK_S = 0.5
READ_CURRENT_S = 10.0
ABORT_PATIENCE_S = 10.0


class Controller:
    """Runs one experiment from connecting to parked.

    Attributes
    ----------
    alarm : str
        What a person must be told at once; empty when the beam is verifiably off.
    fault : exception or None
        What ended the run in FAULT.
    """

    def __init__(self, parts: Parts, holder: str) -> None:
        self._p = parts
        self._holder = holder
        self._operating = Operating(parts, parts.digest)
        self._failure: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[End] | None = None
        self._early_failure: BaseException | None = None
        self.alarm = ""
        self.fault: BaseException | None = None
        self.interrupted = 0
        """How often Ctrl-C was pressed."""

    async def submit(self, command: c.AnyCommand) -> Answer:
        """Hand in an operator's command and return what became of it."""
        return await self._operating.submit(command)

    async def run(self) -> End:
        """Run to the end. Cancelled or failing, it still parks before it returns or raises."""
        sys.setswitchinterval(SWITCH_S)
        self._loop = asyncio.get_running_loop()
        self._failure = self._loop.create_future()
        end = End(FinishReason.FAULT, "the run was cut short")
        try:
            end = await self._work_or_fault()
        except asyncio.CancelledError:
            end = End(FinishReason.ABORTED, "the run was cancelled")
            raise
        finally:
            end = await uncancellable(self._finish(end), "finish")
        return end

    def fail(self, error: BaseException) -> None:
        """Make the run end in FAULT; callable from any thread."""
        self.blame(error)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._fail_in_loop)

    def blame(self, error: BaseException) -> None:
        """Name the cause of failures that will follow from it; callable from any thread."""
        self._early_failure = self._early_failure or error

    def interrupt(self) -> None:
        """Ctrl-C: once means cancel, blank, finish writing; twice means park now."""
        self.interrupted += 1
        assert self._loop is not None
        self._p.wishes.end = End(FinishReason.ABORTED, "interrupted by Ctrl-C")
        self._p.wishes.changed.set()
        if self.interrupted == 1:
            self._interrupting = self._loop.create_task(self._cancel_scan(), name="cancel the scan")
        elif self._main is not None:
            self._main.cancel()

    async def _cancel_scan(self) -> None:
        try:
            await self._p.governor.cancel()
        except DriverError as error:
            self.fail(error)

    def _fail_in_loop(self) -> None:
        if self._failure is not None and not self._failure.done() and self._early_failure:
            self._failure.set_exception(self._early_failure)

    # --- the life of a run ---

    async def _work_or_fault(self) -> End:
        try:
            return await self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run ends parked, in FAULT
            wishes = self._p.wishes
            if wishes.end and wishes.parked and isinstance(innermost(error), DriverRefused):
                return wishes.end  # the park took the instrument from this controller
            return self._fault(error)

    def _fault(self, error: BaseException) -> End:
        error = self._early_failure or error
        message, self.fault = describe(error), innermost(error)
        if Phase.FAULT in TRANSITIONS[self._p.state.phase]:
            self._p.go(Phase.FAULT, message)
        return End(FinishReason.FAULT, message)

    async def _work(self) -> End:
        """Connect, acquire to the end, digest what is left."""
        p = self._p
        p.go(Phase.CONNECTING)
        await p.governor.connect(self._holder)
        p.go(Phase.READY)
        if self._early_failure is not None:
            self._fail_in_loop()
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._operating.run(), name="commands"),
                group.create_task(self._beat(), name="heartbeat"),
                group.create_task(self._look(), name="suspenders"),
                group.create_task(self._watch_failure(), name="failures"),
            ]
            digesting = group.create_task(p.digest.run(), name="digest")
            self._main = group.create_task(Acquisition(p).run(), name="acquisition")
            end = await self._main
            await p.governor.rest()
            p.go(Phase.ABORTING if end.reason is FinishReason.ABORTED else Phase.FINISHING)
            await self._drain(end)
            for task in [*beside, digesting]:
                task.cancel()
        return end

    async def _drain(self, end: End) -> None:
        """Wait for what is still to be digested; after an abort only so long."""
        patience_s = ABORT_PATIENCE_S if end.reason is FinishReason.ABORTED else None
        try:
            async with asyncio.timeout(patience_s):
                await self._p.digest.drained()
        except TimeoutError:
            what = f"not all sub-scans were stored and described {patience_s:g} s after the abort"
            self._p.journal.append(e.Warned(what=what))

    async def _finish(self, end: End) -> End:
        """Park, say how that went, and let go of everything; return how the run ended at last."""
        p = self._p
        if self._early_failure is not None and end.reason is not FinishReason.FAULT:
            end = self._fault(self._early_failure)
        if p.state.phase is not Phase.PARKING:
            p.go(Phase.PARKING, end.message)
        report = await asyncio.to_thread(p.park, end.message)
        p.journal.append(report)
        if report.beam_stays_on:
            what = "there is no blanker: the beam stays on, at the probe's park position"
            p.journal.append(e.Warned(what=what))
        if report.at_rest:
            p.go(Phase.SAFE)
        else:
            self.alarm = alarm(report)
            p.go(Phase.FAULT, self.alarm)
            end = End(FinishReason.FAULT, self.alarm)
        end = await self._say_finished(end)
        self._operating.close()
        try:
            await p.governor.close()
        finally:
            if p.guardian is not None and report.at_rest:
                await asyncio.to_thread(p.guardian.dismiss)
            elif p.guardian is not None:
                await asyncio.to_thread(p.guardian.abandon)
        return end

    async def _say_finished(self, end: End) -> End:
        """Get the end of the run to disk; return it, or that this failed."""
        finished = e.Finished(reason=end.reason, message=end.message)
        try:
            await asyncio.wrap_future(self._p.journal.durable(finished))
        except OSError as error:
            self.fault = self.fault or error
            return end if end.reason is FinishReason.FAULT else self._fault(error)
        return end

    # --- beside the acquisition ---

    async def _beat(self) -> None:
        """Tell guardian and instrument that this loop is alive, and look for the latch."""
        while True:
            if self._p.guardian is not None:
                self._p.guardian.beat()
            await self._p.governor.heartbeat()
            self._p.governor.latch.check()
            await asyncio.sleep(BEAT_S)

    async def _look(self) -> None:
        """Look at the suspenders and hold or release the run."""
        p, n = self._p, 0
        while True:
            n += 1
            if n % round(READ_CURRENT_S / LOOK_S) == 0:
                await p.governor.read_current()
            bad, recovered = changes(p.suspenders, frozenset(p.state.suspended))
            for suspender, verdict in bad:
                p.journal.append(tripped(verdict, None))
                p.journal.append(e.SuspenderTripped(name=suspender.name, why=str(verdict)))
            if "console" in p.state.suspended and await p.governor.changed_at_console() is None:
                recovered.append("console")
            watched = {suspender.name for suspender in p.suspenders} | OPERATOR_CLEARS
            recovered += [name for name in p.state.suspended if name not in watched]
            for name in recovered:
                p.journal.append(e.SuspenderCleared(name=name))
            if bad or recovered:
                p.wishes.changed.set()
            await asyncio.sleep(LOOK_S)

    async def _watch_failure(self) -> None:
        """Raise what failed in another thread."""
        assert self._failure is not None
        await self._failure
