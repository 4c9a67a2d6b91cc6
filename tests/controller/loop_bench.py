"""A small instrument in this process, a run on it, and scenarios that watch and steer it.

Nothing here waits for time to pass: a scenario waits for journal entries or for calls to the
instrument, and acts at those moments.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from controller import commands as c
from controller import events as e
from controller.arbiter import Answer
from controller.config import ExperimentConfig, RunConfig
from controller.parts import End
from controller.phases import Phase
from controller.rundir import RunFolder, create, open_folder
from controller.session import Session, new_session, resumed_session
from controller.state import RunState
from drivers import registry
from drivers.emulator import rooms
from drivers.emulator.exposure_log import Exposure, read_exposures
from drivers.emulator.room import Room
from drivers.instrument import InstrumentConfig
from drivers.vocabulary import AnyArray, Clock, DetectorInfo, NmPair, SubScan
from models.decision import botorch_planner
from sim.faults import Fault, FaultPlan
from tests.conformance.scenes import SceneDriver

LOADED = botorch_planner
"""Imported with the tests: what is imported in a test is looked at by every later collection."""
PATIENCE_S = 30.0
FIELD_NM: NmPair = (6.0, 8.0)
CAMERA_SHAPE = (6, 10)
SLOW_DWELL_US = 20_000.0
"""A dwell time with which a sub-scan takes longer than any scenario needs to stop it."""
E = TypeVar("E", bound=e.Event)
Scenario = Callable[["Bench"], Coroutine[Any, Any, None]]


class BenchScene:
    """A bright spot off the middle; counts depend on the place alone."""

    field_nm: NmPair = FIELD_NM

    def __init__(self) -> None:
        self.detectors = {
            "haadf": DetectorInfo("haadf", "image", "float32", saturation=1e4),
            "camera": DetectorInfo("camera", "pixelated", "uint16", CAMERA_SHAPE),
        }
        self.offset = 0.0

    def image(
        self, sub_scan: SubScan, detector: str, *, current_pA: float, time_s: float
    ) -> AnyArray:
        y, x = np.moveaxis(sub_scan.positions_nm(), -1, 0)
        spot = 100 * np.exp(-((y - 1.0) ** 2 + (x - 1.5) ** 2))
        counts = (10 + spot + self.offset) * (current_pA > 0)
        return np.asarray(counts, dtype=np.float32)

    def frames(
        self,
        sub_scan: SubScan,
        detector: str,
        first: int,
        stop: int,
        *,
        current_pA: float,
        time_s: float,
    ) -> AnyArray:
        index = np.arange(first, stop, dtype=np.uint16)[:, None, None] * np.uint16(10)
        ramp = np.arange(CAMERA_SHAPE[1], dtype=np.uint16)
        return np.asarray(np.broadcast_to(index + ramp, (stop - first, *CAMERA_SHAPE)))


class Script:
    """Decides what goes wrong, and tells whoever wants to know of calls to the instrument."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._plan = FaultPlan(faults)
        self._calls: Counter[str] = Counter()
        self._actions: dict[tuple[str, int], list[Callable[[], object]]] = {}
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Plan more faults, counted from now on."""
        with self._lock:
            self._plan = FaultPlan(faults)

    def at(self, where: str, nth: int, act: Callable[[], object]) -> None:
        """Call ``act`` at the nth call of that kind, before the instrument does it."""
        with self._lock:
            self._actions.setdefault((where, nth), []).append(act)

    def calls(self, where: str) -> int:
        """Return how often the instrument was called so."""
        return self._calls[where]

    def due(self, where: str) -> Fault | None:
        """Count the call, act, and return the fault due."""
        with self._lock:
            self._calls[where] += 1
            actions = self._actions.pop((where, self._calls[where]), [])
        for act in actions:
            act()
        return self._plan.due(where)


class BenchDriver(SceneDriver):
    """The driver `scene` over `BenchScene`, with a script of faults and an exposure log."""

    def __init__(self, script: Script, exposure_log: Path) -> None:
        super().__init__()
        self.script = script
        self.scene = BenchScene()
        self.log = exposure_log

    def room(
        self, instrument: InstrumentConfig, clock: Clock, exposure_log: Path | None = None
    ) -> Room:
        return Room(instrument, self.scene, clock, exposure_log=self.log, faults=self.script)


def instrument(**tables: Any) -> InstrumentConfig:
    """Return the bench's instrument with some keys of its tables changed."""
    base: dict[str, Any] = {
        "instrument": {"name": "bench", "virtual": True, "serve": "in_process"},
        "scan": {"driver": "scene", "field_nm": FIELD_NM, "settle_us": 50, "flyback_us": 20},
        "beam": {"driver": "scene", "energy_kV": 60, "semiangle_mrad": 30, "current_pA": 10},
        "column": {"driver": "scene"},
        "limits": {
            "max_local_dose_e_per_A2": 1e9,
            "max_total_dose_e_per_A2": 1e9,
            "min_free_disk_gb": 0.0,
            "call_deadline_s": 2.0,
            "park_step_s": 1.0,
            "max_stationary_probe_ms": 60_000.0,
        },
    }
    detectors: list[dict[str, Any]] = tables.pop("detector", None) or [
        {"name": "haadf", "saturation": 1e4}
    ]
    for name, changes in tables.items():
        base[name] = {**base[name], **changes}
    base["detector"] = [{"driver": "scene", **part} for part in detectors]
    return InstrumentConfig.model_validate(base)


def experiment(**tables: Any) -> ExperimentConfig:
    """Return the bench's experiment with some keys of its tables changed."""
    base: dict[str, Any] = {
        "experiment": {"name": "bench", "instrument": "bench.toml", "operator": "test"},
        "survey": {"shape": [16, 16], "dwell_us": 2.0, "max_dose_e_per_A2": 1e6},
        "sub_scan": {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": 10.0},
        "descriptor": {"kind": "channel"},
        "objective": {"name": "channel", "params": {"statistic": "mean"}},
        "planner": {"kind": "raster"},
        "budget": {
            "n_sub_scans": 4,
            "max_local_dose_e_per_A2": 1e8,
            "max_total_dose_e_per_A2": 1e8,
        },
    }
    for name, changes in tables.items():
        base[name] = {**base.get(name, {}), **changes} if isinstance(changes, dict) else changes
    return ExperimentConfig.model_validate(base)


@dataclass
class Bench:
    """A session on the bench's instrument, and what was seen of it."""

    session: Session
    driver: BenchDriver
    entries: list[e.Entry] = field(default_factory=list)
    _waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def script(self) -> Script:
        return self.driver.script

    @property
    def state(self) -> RunState:
        return self.session.journal.state

    @property
    def room(self) -> Room:
        return rooms.find("bench")

    @property
    def folder(self) -> RunFolder:
        return self.session.folder

    def note(self, entry: e.Entry) -> None:
        """Take note of a journal entry; any thread."""
        self.entries.append(entry)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """Wake those whose condition holds by now."""
        for condition, future in list(self._waiting):
            if not future.done() and condition():
                future.set_result(None)
        self._waiting = [each for each in self._waiting if not each[1].done()]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on what was journalled holds."""
        self._loop = asyncio.get_running_loop()
        if condition():
            return
        future = self._loop.create_future()
        self._waiting.append((condition, future))
        await future

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of a kind so far."""
        return [entry.event for entry in list(self.entries) if isinstance(entry.event, kind)]

    async def seen(
        self, kind: type[E], n: int = 1, which: Callable[[E], bool] = lambda _: True
    ) -> E:
        """Wait for the nth event of a kind (that fits), and return it."""
        await self.until(lambda: len([v for v in self.of(kind) if which(v)]) >= n)
        return [v for v in self.of(kind) if which(v)][n - 1]

    async def phase(self, phase: Phase, n: int = 1) -> e.PhaseChanged:
        """Wait until the run goes to a phase for the nth time."""
        return await self.seen(e.PhaseChanged, n, lambda v: v.new is phase)

    async def called(self, where: str, nth: int) -> None:
        """Wait until the instrument was called so for the nth time, and has taken the call."""
        self._loop = loop = asyncio.get_running_loop()
        if self.script.calls(where) >= nth:
            return
        happened = loop.create_future()
        self.script.at(where, nth, lambda: loop.call_soon_threadsafe(happened.set_result, None))
        await happened

    async def do(self, command: c.AnyCommand) -> Answer:
        """Submit a command, bounded in time."""
        return await asyncio.wait_for(self.session.controller.submit(command), PATIENCE_S)

    async def ok(self, command: c.AnyCommand) -> Answer:
        """Submit a command that must be taken."""
        answer = await self.do(command)
        assert answer.ok, answer.why
        return answer

    async def refused(self, command: c.AnyCommand) -> str:
        """Submit a command that must not be taken; return why not."""
        answer = await self.do(command)
        assert not answer.ok, f"{command.cmd} was taken"
        assert answer.why
        return answer.why

    async def abort(self) -> None:
        """End the run."""
        await self.ok(c.Abort())

    # --- afterwards ---

    def exposures(self) -> list[Exposure]:
        """Return what the instrument wrote down."""
        return read_exposures(self.driver.log)

    def scanned(self) -> list[str]:
        """Return the ids that were scanned, by the instrument's own log."""
        starts = [x.sub_scan_id for x in self.exposures() if x.event == "scan_start"]
        return [key for key in starts if key is not None]

    def phases(self) -> list[str]:
        """Return the phases gone through."""
        return [str(event.new) for event in self.of(e.PhaseChanged)]


@contextmanager
def open_bench(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    faults: tuple[Fault, ...] = (),
    instrument_config: InstrumentConfig | None = None,
    resume: bool = False,
    **tables: Any,
) -> Iterator[Bench]:
    """Give a new session on the bench, or one that goes on with the run in ``root``."""
    log = root / "exposures.jsonl"
    driver = BenchDriver(Script(faults), log)
    monkeypatch.setattr(registry, "load", lambda name: driver)
    if resume:
        session_of = resumed_session(open_folder(root / "run"), guarded=False)
    else:
        config = RunConfig(
            experiment=experiment(**tables), instrument=instrument_config or instrument()
        )
        session_of = new_session(create(config, root, name="run"), config, guarded=False)
    with session_of as session:
        bench = Bench(session, driver)
        session.journal.listen(bench.note)
        yield bench


async def play(bench: Bench, *scenarios: Scenario) -> End:
    """Run to the end while scenarios act; everything must end by itself."""
    run = asyncio.create_task(bench.session.controller.run(), name="run")
    acts = [
        asyncio.create_task(act(bench), name=f"scenario {n}") for n, act in enumerate(scenarios)
    ]
    done, left = await asyncio.wait(
        {run, *acts}, timeout=PATIENCE_S, return_when=asyncio.FIRST_EXCEPTION
    )
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
    for act in acts:
        if act in done:
            act.result()
    stuck = sorted(task.get_name() for task in left)
    if run in done and run.exception() is not None:
        run.result()
    assert not left, f"did not end: {stuck}; phases {bench.phases()}"
    return run.result()
