"""What happens to a sub-scan after it was acquired: stored, described, learnt.

Runs beside the acquisition of the next one, and begins when that is under way: threads that
compute would otherwise delay its commands. Storing is in a writer thread, describing and
learning in the compute lane; the channel into it holds a few sub-scans and then lets the
acquisition wait.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal

import numpy as np

from controller import events as e
from controller.channels import Bounded, ChannelClosed
from controller.deciding import Decider
from controller.governor import Exposed
from controller.journal import Journal
from controller.lane import Lane, Priority
from controller.rundir import RunFolder
from controller.store import RunStore, StoredAt
from drivers.vocabulary import FloatArray, SubScanData
from models.decision.protocols import Outcome
from models.descriptors.protocols import Checkpointable, Describer, Description, Refittable

CAPACITY = 4
MAX_FAILURES = 5
"""Sub-scans in a row that the describer may fail on before the run is stopped."""


class DescriberFailed(Exception):
    """The describer failed on several sub-scans in a row."""


class Digest:
    """Stores, describes and learns sub-scans, one after the other."""

    def __init__(
        self,
        folder: RunFolder,
        store: RunStore,
        describer: Describer,
        decider: Decider,
        lane: Lane,
        journal: Journal,
    ) -> None:
        self.describer = describer
        self._folder = folder
        self._store = store
        self._decider = decider
        self._lane = lane
        self._journal = journal
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._channel: Bounded[tuple[Exposed, dict[str, float]]] = Bounded(CAPACITY)
        known = (outcome.names for outcome in journal.state.outcomes.values() if outcome.names)
        self._names: tuple[str, ...] = next(known, ())
        self._unlearnt: list[e.Intent] = []
        """What gave nothing before the first description."""
        self._learning = asyncio.Lock()
        """Held while a sub-scan is digested, and while the encoder is exchanged."""
        self._failures = 0
        self._done = 0
        self._taken = 0
        self._progress = asyncio.Condition()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def hold(self) -> None:
        """Begin nothing until `release`: the next exposure is about to be commanded."""
        self._quiet.clear()

    def release(self) -> None:
        """Go on: the beam is scanning, or nothing is about to be."""
        self._quiet.set()

    async def put(self, exposed: Exposed, stages_ms: dict[str, float]) -> None:
        """Hand over a sub-scan, waiting while several are still to be digested."""
        self._taken += 1
        await self._channel.put((exposed, stages_ms))

    async def drained(self, waiting: int = 0) -> None:
        """Wait until at most ``waiting`` of those handed over are not digested yet."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._taken - self._done <= waiting)

    async def run(self) -> None:
        """Digest what is handed over until cancelled or closed."""
        while True:
            try:
                exposed, stages_ms = await self._channel.get()
            except ChannelClosed:
                return
            await self._quiet.wait()
            async with self._learning:
                await self._digest(exposed, stages_ms)
            async with self._progress:
                self._done += 1
                self._progress.notify_all()

    async def in_writer(self, work: partial[StoredAt] | partial[None]) -> StoredAt | None:
        """Run something that touches the store in the writer thread."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def close(self) -> None:
        """End the writer thread after what it is doing."""
        self._writer.shutdown(wait=True)

    async def prepare(self, survey: SubScanData | None, window_nm: tuple[float, float]) -> None:
        """Make the describer ready from the survey and publish its encoder."""
        await self._lane.submit(
            lambda: self.describer.prepare(survey, window_nm), Priority.DESCRIBE
        )
        self.publish()

    def publish(self) -> None:
        """Save the encoder in use and journal its version."""
        arrays = self.describer.checkpoint() if isinstance(self.describer, Checkpointable) else {}
        version = self.describer.version
        path, digest = self._folder.save_arrays(f"encoder-{version:04d}", arrays)
        self._journal.append(
            e.EncoderPublished(
                describer=self.describer.name, version=version, checkpoint=path, sha256=digest
            )
        )

    async def _digest(self, exposed: Exposed, stages_ms: dict[str, float]) -> None:
        intent = exposed.intent
        if exposed.data is None:
            await self._learn_nothing(exposed)
            self._timed(intent.id, stages_ms)
            return
        learns = intent.purpose in ("measure", "forced")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(exposed, stages_ms), name=f"store {intent.id}")
            if learns:
                group.create_task(self._learn(exposed, stages_ms), name=f"learn {intent.id}")
        self._timed(intent.id, stages_ms)

    def _timed(self, sub_scan_id: str, stages_ms: dict[str, float]) -> None:
        duty = stages_ms.pop("duty_cycle", None)
        stages = {name: round(value, 3) for name, value in stages_ms.items()}
        self._journal.append(e.StepTimed(id=sub_scan_id, stages_ms=stages, duty_cycle=duty))

    async def _keep(self, exposed: Exposed, stages_ms: dict[str, float]) -> None:
        started = time.perf_counter()
        assert exposed.data is not None
        if exposed.intent.purpose == "survey":
            work = partial(self._store.write_survey, exposed.data)
        else:
            work = partial(self._store.write, exposed.data, exposed.intent.purpose)
        stored = await self.in_writer(work)
        assert stored is not None
        stages_ms["store"] = (time.perf_counter() - started) * 1e3
        self._journal.append(
            e.Stored(
                id=exposed.intent.id,
                datasets=stored.datasets,
                indices=stored.indices,
                nbytes=stored.nbytes,
            )
        )

    async def _learn(self, exposed: Exposed, stages_ms: dict[str, float]) -> None:
        data, intent = exposed.data, exposed.intent
        assert data is not None
        started = time.perf_counter()

        def work() -> tuple[Description, float | None]:
            description = self.describer.describe(data)
            self._names = description.names
            while self._unlearnt:
                self._ingest_nothing(self._unlearnt.pop())
            return description, self._decider.learn(_outcome(exposed, description))

        try:
            description, objective = await self._lane.submit(work, Priority.DESCRIBE)
        except (ValueError, ArithmeticError, RuntimeError) as error:
            await self._failed(exposed, error)
            return
        stages_ms["describe"] = (time.perf_counter() - started) * 1e3
        self._failures = 0
        self._journal.append(_described(description, objective))
        await self.in_writer(partial(self._store.write_description, intent.id, description))

    def describe_late(self, sub_scan_id: str) -> None:
        """Describe a sub-scan that was stored just before an earlier controller died."""
        data = self._store.read(sub_scan_id)
        try:
            description = self.describer.describe(data)
        except (ValueError, ArithmeticError, RuntimeError) as error:
            what = f"sub-scan {sub_scan_id} could not be described: {error}"
            self._journal.append(e.Warned(what=what))
            return
        self._journal.append(_described(description, None))
        self._store.write_description(sub_scan_id, description)

    async def _failed(self, exposed: Exposed, error: Exception) -> None:
        self._failures += 1
        what = f"sub-scan {exposed.intent.id} could not be described: {error}"
        self._journal.append(e.Warned(what=what))
        if self._failures >= MAX_FAILURES:
            raise DescriberFailed(f"{MAX_FAILURES} sub-scans in a row; the last: {error}")
        await self._learn_nothing(exposed)

    async def _learn_nothing(self, exposed: Exposed) -> None:
        """Tell the planner that this place was visited and gave nothing."""
        intent = exposed.intent
        if intent.purpose not in ("measure", "forced"):
            return
        if not self._names:  # the planner can't be told yet: the place stays pending, and spent
            self._unlearnt.append(intent)
            self._decider.spent(intent.sub_scan)
            return
        await self._decider.in_lane(lambda: self._ingest_nothing(intent))

    def _ingest_nothing(self, intent: e.Intent) -> None:
        """Tell the planner in the lane, once the names of what it learns are known."""
        nothing = Outcome(
            id=intent.id,
            sub_scan=intent.sub_scan,
            summary=np.full(len(self._names), np.nan),
            names=self._names,
            encoder_version=self.describer.version,
            source=_source(intent),
        )
        self._decider.planner.ingest(nothing)

    async def retrain(self) -> str | None:
        """Make a new encoder version from all stored sub-scans and relabel every outcome.

        Nothing is learnt meanwhile, so that all outcomes are of one version. Returns why there
        is no new version, None when there is one.
        """
        await self.drained()
        async with self._learning:
            try:
                fresh = await self._refit()
            except (ValueError, ArithmeticError, RuntimeError) as error:
                return f"the encoder stays as it is: {error}"
            self.publish()
            await self._relabel(fresh)
        return None

    async def _refit(self) -> dict[str, Description]:
        """Refit and describe all anew; when that fails the encoder is what it was."""
        describer = self.describer
        assert isinstance(describer, Refittable)
        described = [k for k, o in self._journal.state.outcomes.items() if o.summary]

        def read() -> list[SubScanData]:
            return [self._store.read(key) for key in described]

        kept = await asyncio.get_running_loop().run_in_executor(self._writer, read)

        def work() -> dict[str, Description]:
            before = describer.checkpoint() if isinstance(describer, Checkpointable) else None
            try:
                describer.refit(kept)
                return {data.sub_scan.id: self.describer.describe(data) for data in kept}
            except Exception:
                if before is not None and isinstance(describer, Checkpointable):
                    describer.restore(before)
                raise

        return await self._lane.submit(work, Priority.TRAIN)

    async def _relabel(self, fresh: dict[str, Description]) -> None:
        if not fresh:
            return
        version, names = self.describer.version, next(iter(fresh.values())).names
        summaries: dict[str, FloatArray] = {key: each.summary for key, each in fresh.items()}
        nothing = {key: np.full(len(names), np.nan) for key in self._journal.state.outcomes}
        objectives = await self._decider.relabel(version, nothing | summaries)
        self._journal.append(
            e.Relabelled(
                version=version,
                names=names,
                summaries={k: tuple(map(float, s)) for k, s in summaries.items()},
                objectives={key: objectives[key] for key in summaries},
            )
        )
        await self.in_writer(partial(self._store.write_relabel, version, names, summaries))


def _source(intent: e.Intent) -> Literal["operator", "planner"]:
    return "operator" if intent.purpose == "forced" else "planner"


def _outcome(exposed: Exposed, description: Description) -> Outcome:
    return Outcome(
        id=exposed.intent.id,
        sub_scan=exposed.intent.sub_scan,
        summary=description.summary,
        names=description.names,
        encoder_version=description.version,
        source=_source(exposed.intent),
    )


def _described(description: Description, objective: float | None) -> e.Described:
    return e.Described(
        id=description.sub_scan_id,
        encoder_version=description.version,
        names=description.names,
        summary=tuple(float(value) for value in description.summary),
        objective=objective,
        health_ok=description.health.ok,
        health_score=description.health.score,
        health_why=description.health.why,
    )
