"""A served instrument as a process: started, found again, ended, and outliving its controller."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.clock import RealClock
from drivers.emulator.exposure_log import blanked_at_end, read_exposures
from drivers.errors import DriverDisconnected, DriverError, DriverRefused
from drivers.gateway import DRIVER
from drivers.instrument import InstrumentConfig
from drivers.serve import ServedInstrument, attach_or_spawn, spawn
from drivers.serve.instrument import emulated_driver
from drivers.serve.spawn import find, is_alive
from tests.conformance.scenes import instrument
from tests.conformance.suite import Rig, connected, scanning

SCENE = (sys.executable, "-P", str(Path(__file__).parents[1] / "conformance" / "serve_scene.py"))
D = 10.0


@contextlib.contextmanager
def spawned(folder: Path, **options: float) -> Iterator[ServedInstrument]:
    log = folder / "exposures.jsonl"
    served = spawn(instrument(), folder, log, command=SCENE, **options)
    try:
        yield served
    finally:
        served.end()


def through(served: ServedInstrument) -> InstrumentConfig:
    return instrument().served_by_gateway(served.endpoint)


def eventually(true: Callable[[], bool], seconds: float = D) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "did not come true in time"
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_blanks_and_ends(tmp_path: Path, how: signal.Signals) -> None:
    with spawned(tmp_path) as served:
        session = DRIVER.open(through(served), RealClock())
        await session.connect("Ada", deadline_s=D)
        assert session.beam is not None
        await session.beam.unblank(deadline_s=D)
        assert not blanked_at_end(read_exposures(served.exposure_log))
        os.kill(served.pid, how)
        await asyncio.to_thread(eventually, lambda: not is_alive(served.pid))
        assert blanked_at_end(read_exposures(served.exposure_log))
        assert not (tmp_path / "scene.endpoint").exists()
        await session.close()


def test_it_is_found_again_and_not_started_twice(tmp_path: Path) -> None:
    with spawned(tmp_path) as served:
        again = attach_or_spawn(instrument(), tmp_path, tmp_path / "other.jsonl", command=SCENE)
        assert again == served
        assert again.exposure_log == tmp_path / "exposures.jsonl"
        with pytest.raises(DriverError, match=f"kill {served.pid}"):
            other = instrument(current_pA=1.0)
            attach_or_spawn(other, tmp_path, tmp_path / "other.jsonl", command=SCENE)


def test_a_frozen_one_is_not_replaced(tmp_path: Path) -> None:
    with spawned(tmp_path) as served:
        os.kill(served.pid, signal.SIGSTOP)
        try:
            with pytest.raises(DriverError, match=f"{served.pid} .*does not answer"):
                attach_or_spawn(instrument(), tmp_path, tmp_path / "other.jsonl", command=SCENE)
        finally:
            os.kill(served.pid, signal.SIGCONT)


def test_a_dead_one_is_replaced_and_the_log_goes_on(tmp_path: Path) -> None:
    with spawned(tmp_path) as first:
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: not is_alive(first.pid))
        assert (tmp_path / "scene.endpoint").exists()
        assert find(instrument(), tmp_path) is None
        second = attach_or_spawn(instrument(), tmp_path, first.exposure_log, command=SCENE)
        try:
            assert second.pid != first.pid
        finally:
            second.end()
    events = [e.event for e in read_exposures(first.exposure_log)]
    assert events == ["start", "start", "fence", "release"]


def test_it_ends_by_itself_when_nobody_comes(tmp_path: Path) -> None:
    with spawned(tmp_path, linger_s=0.2) as served:
        eventually(lambda: not is_alive(served.pid))


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no specimen today')")
    with pytest.raises(DriverDisconnected, match="no specimen today"):
        spawn(instrument(), tmp_path, tmp_path / "log", command=command)


def test_one_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    with pytest.raises(DriverError, match="ready"):
        spawn(instrument(), tmp_path, tmp_path / "log", command=command, ready_s=0.2)


def test_only_emulated_instruments_are_served() -> None:
    config = instrument().served_by_gateway("tcp://127.0.0.1:1")
    with pytest.raises(DriverRefused, match="not emulated"):
        emulated_driver(config)
    mixed = config.model_copy(update={"scan": instrument().scan})
    with pytest.raises(DriverRefused, match="scene, gateway"):
        emulated_driver(mixed)


CONTROLLER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from drivers.clock import RealClock
from drivers.gateway import DRIVER
from drivers.vocabulary import SubScan
from tests.conformance.scenes import instrument

async def main():
    session = DRIVER.open(instrument().served_by_gateway(sys.argv[1]), RealClock())
    await session.connect("a doomed controller", deadline_s=10)
    sub_scan = SubScan("s-1", (0, 0), (1, 1), (10, 10), 600000.0)
    await session.detectors["haadf"].arm(sub_scan, deadline_s=10)
    await session.beam.unblank(deadline_s=10)
    await session.scan.scan(sub_scan, deadline_s=100)

asyncio.run(main())
"""


def test_a_killed_controller_leaves_a_blanked_instrument(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    with spawned(tmp_path) as served:
        command = [sys.executable, "-c", CONTROLLER, served.endpoint, root]

        def events() -> list[str]:
            return [e.event for e in read_exposures(served.exposure_log)]

        controller = subprocess.Popen(command)
        try:
            eventually(lambda: "scan_start" in events())
        finally:
            controller.kill()
            controller.wait()
        eventually(lambda: "fence" in events())
        exposures = read_exposures(served.exposure_log)
        assert blanked_at_end(exposures)
        fence = next(e for e in exposures if e.event == "fence")
        start = next(e for e in exposures if e.event == "scan_start")
        end = next(e for e in exposures if e.event == "scan_end")
        assert "a doomed controller" in fence.note
        assert fence.t_s - start.t_s < 60
        assert end.executed is not None
        assert end.executed < 100


async def test_a_command_sent_to_a_frozen_instrument_is_not_carried_out_on_waking(
    tmp_path: Path,
) -> None:
    with spawned(tmp_path) as served:
        rig = Rig(
            lambda: DRIVER.open(through(served), RealClock()),
            lambda: DRIVER.emergency(through(served)),
        )
        session = rig.open()
        await session.connect("Ada", deadline_s=D)
        assert session.beam is not None
        os.kill(served.pid, signal.SIGSTOP)
        try:
            with pytest.raises(DriverError):
                await session.beam.unblank(deadline_s=0.2)
        finally:
            os.kill(served.pid, signal.SIGCONT)
        await session.close()
        emergency = rig.emergency()
        assert await asyncio.to_thread(emergency.is_blanked, 5.0)
        await asyncio.to_thread(emergency.close)
        assert "unblank" not in {e.event for e in read_exposures(served.exposure_log)}


async def test_an_emergency_from_outside_stops_a_scan(tmp_path: Path) -> None:
    with spawned(tmp_path) as served:
        rig = Rig(
            lambda: DRIVER.open(through(served), RealClock()),
            lambda: DRIVER.emergency(through(served)),
        )
        emergency = rig.emergency()
        async with (
            connected(rig) as session,
            scanning(session, rig.sub_scan(seconds=30)) as (scan, _),
        ):
            await asyncio.to_thread(emergency.stop, 2.0)
            assert not (await scan).completed
        await asyncio.to_thread(emergency.close)
        ends = [e for e in read_exposures(served.exposure_log) if e.event == "scan_end"]
        assert len(ends) == 1
        assert json.loads((tmp_path / "scene.endpoint").read_text())["pid"] == served.pid
