"""Each kind of fault does what its name says, in process and over the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.clock import RealClock
from drivers.emulator.exposure_log import blanked_at_end, read_exposures
from drivers.errors import BadFrame, DriverDisconnected, DriverRefused, DriverTimeout
from drivers.protocols import Emergency, Session
from sim.clock import VirtualClock
from sim.faults import Fault, FaultPlan
from tests.conformance.scenes import SceneDriver, instrument
from tests.conformance.serving import serving
from tests.conformance.suite import Rig, acquire, collect, connected, scanning

D = 10.0


@dataclass
class Reached:
    """A session with a faulty instrument, and an emergency line to it."""

    session: Session
    emergency: Emergency


@contextlib.asynccontextmanager
async def faulty(how: str, *faults: Fault, log: Path | None = None) -> AsyncIterator[Reached]:
    """Connect to an instrument that has these faults."""
    plan = FaultPlan(list(faults))
    if how == "in process":
        config, driver = instrument(), SceneDriver(plan, exposure_log=log)
        rig = Rig(lambda: driver.open(config, RealClock()), lambda: driver.emergency(config))
        async with connected(rig) as session:
            yield Reached(session, rig.emergency())
        return
    with serving(plan, exposure_log=log) as served:
        emergency = served.emergency()
        async with connected(Rig(served.open, served.emergency)) as session:
            yield Reached(session, emergency)
        emergency.close()


def nth(kind: str, where: str, n: int = 1, seconds: float = 0.0) -> Fault:
    return Fault(kind, where, nth=n, seconds=seconds)  # type: ignore[arg-type]


RIG = Rig(lambda: pytest.fail("unused"), lambda: pytest.fail("unused"))
everywhere = pytest.mark.parametrize("how", ["in process", "over the wire"])


@everywhere
async def test_hang_times_out_naming_the_command(how: str) -> None:
    async with faulty(how, nth("hang", "unblank")) as it:
        assert it.session.beam is not None
        with pytest.raises(DriverTimeout, match="unblank"):
            await it.session.beam.unblank(deadline_s=0.1)
        assert await it.session.beam.is_blanked(deadline_s=D)


@everywhere
async def test_a_hang_that_passes_only_delays(how: str) -> None:
    async with faulty(how, nth("hang", "unblank", seconds=0.05)) as it:
        assert it.session.beam is not None
        await it.session.beam.unblank(deadline_s=D)
        assert not await it.session.beam.is_blanked(deadline_s=D)


@everywhere
async def test_an_emergency_is_not_held_up_by_a_hung_command(how: str) -> None:
    async with faulty(how, nth("hang", "park_probe")) as it:
        assert it.session.beam is not None
        assert it.session.scan is not None
        await it.session.beam.unblank(deadline_s=D)
        hung = asyncio.create_task(it.session.scan.park_probe(deadline_s=60))
        await asyncio.sleep(0)
        await asyncio.to_thread(it.emergency.stop, D)
        assert await asyncio.to_thread(it.emergency.is_blanked, D)
        assert not hung.done()
        hung.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hung


@everywhere
async def test_raise_is_a_refusal_and_the_next_call_works(how: str) -> None:
    async with faulty(how, nth("raise", "arm")) as it:
        detector = it.session.detectors["haadf"]
        with pytest.raises(DriverRefused, match="arm"):
            await detector.arm(RIG.sub_scan(), deadline_s=D)
        await detector.arm(RIG.sub_scan(), deadline_s=D)


@everywhere
async def test_disconnect_ends_the_session(how: str) -> None:
    async with faulty(how, nth("disconnect", "is_blanked")) as it:
        assert it.session.beam is not None
        detector = it.session.detectors["haadf"]
        await detector.arm(RIG.sub_scan(), deadline_s=D)
        waiting = asyncio.create_task(collect(detector))
        await asyncio.sleep(0)
        with pytest.raises(DriverDisconnected):
            await it.session.beam.is_blanked(deadline_s=D)
        with pytest.raises(DriverDisconnected):
            await waiting
        with pytest.raises(DriverDisconnected):
            await it.session.beam.unblank(deadline_s=D)


@everywhere
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("dropped_frame", "0 frames came|lost"),
        ("duplicate_frame", "twice"),
        ("nan_frame", "float32|finite"),
        ("wrong_shape", "expected"),
    ],
)
async def test_bad_frames_are_errors(how: str, kind: str, why: str) -> None:
    async with faulty(how, nth(kind, "frame")) as it:
        with pytest.raises(BaseExceptionGroup) as caught:
            await acquire(it.session, RIG.sub_scan())
        bad = caught.value.subgroup(BadFrame)
        assert bad is not None
        assert caught.group_contains(BadFrame, match=why)
        receipt, _ = await acquire(it.session, RIG.sub_scan("s-2"))
        assert receipt.completed


@everywhere
async def test_nan_in_a_float_frame_is_an_error(how: str) -> None:
    async with faulty(how, nth("nan_frame", "frame")) as it:
        detector = it.session.detectors["bf"]
        assert it.session.scan is not None
        await detector.arm(RIG.sub_scan(), deadline_s=D)
        await it.session.scan.scan(RIG.sub_scan(), deadline_s=D)
        with pytest.raises(BadFrame, match="not finite"):
            await collect(detector)


@everywhere
async def test_a_late_frame_is_awaited_within_the_deadline(how: str) -> None:
    async with faulty(how, nth("late_frame", "frame", seconds=0.2)) as it:
        receipt, blocks = await acquire(it.session, RIG.sub_scan())
        assert receipt.completed
        assert sum(len(b.data) for b in blocks["camera"]) == 96


@everywhere
async def test_a_frame_later_than_the_deadline_times_out(how: str) -> None:
    async with faulty(how, nth("late_frame", "frame", seconds=0.6)) as it:
        haadf, sub_scan = it.session.detectors["haadf"], RIG.sub_scan()
        assert it.session.scan is not None
        await haadf.arm(sub_scan, deadline_s=D)
        scan = asyncio.create_task(it.session.scan.scan(sub_scan, deadline_s=D))
        with pytest.raises(DriverTimeout, match="haadf for s-1"):
            await collect(haadf, deadline_s=0.2)
        assert (await scan).completed


@everywhere
async def test_a_stuck_blanker_reports_success_and_the_record_shows_the_beam(
    how: str, tmp_path: Path
) -> None:
    log = tmp_path / "exposures.jsonl"
    async with faulty(how, nth("stuck_blanker", "blank"), log=log) as it:
        assert it.session.beam is not None
        await it.session.beam.unblank(deadline_s=D)
        await it.session.beam.blank(deadline_s=D)
        assert not await it.session.beam.is_blanked(deadline_s=D)
    assert not blanked_at_end(read_exposures(log))
    assert any("stuck" in e.note for e in read_exposures(log))


@everywhere
async def test_a_blanker_that_was_stuck_blanks_again(how: str) -> None:
    async with faulty(how, nth("stuck_blanker", "blank", seconds=0.05)) as it:
        assert it.session.beam is not None
        await it.session.beam.unblank(deadline_s=D)
        await it.session.beam.blank(deadline_s=D)
        async with asyncio.timeout(D):
            while not await it.session.beam.is_blanked(deadline_s=D):
                await asyncio.sleep(0.01)
                await it.session.beam.blank(deadline_s=D)


@everywhere
async def test_a_lying_read_back_says_blanked(how: str) -> None:
    async with faulty(
        how, nth("blank_readback_lies", "is_blanked"), nth("raise", "emergency.blank")
    ) as it:
        assert it.session.beam is not None
        await it.session.beam.unblank(deadline_s=D)
        assert await it.session.beam.is_blanked(deadline_s=D)
        assert not await it.session.beam.is_blanked(deadline_s=D)
        with pytest.raises(DriverRefused):
            await asyncio.to_thread(it.emergency.blank, 1.0)
        await asyncio.to_thread(it.emergency.blank, 1.0)
        assert await asyncio.to_thread(it.emergency.is_blanked, 1.0)


@everywhere
async def test_an_ignored_cancel_lets_the_scan_go_on(how: str) -> None:
    sub_scan = RIG.sub_scan(seconds=30)
    async with (
        faulty(how, nth("ignore_cancel", "cancel")) as it,
        scanning(it.session, sub_scan) as (scan, _),
    ):
        assert it.session.scan is not None
        await it.session.scan.cancel(deadline_s=D)
        assert (await it.session.scan.read_back(deadline_s=D)).probe == "scanning"
        await it.session.scan.cancel(deadline_s=D)
        assert not (await scan).completed


async def test_a_hang_under_a_virtual_clock_takes_no_real_time() -> None:
    config = instrument()
    driver, clock = SceneDriver(FaultPlan([nth("hang", "scan")])), VirtualClock()
    rig = Rig(lambda: driver.open(config, clock), lambda: driver.emergency(config))
    async with connected(rig) as session:
        with pytest.raises(BaseExceptionGroup) as caught:
            await acquire(session, RIG.sub_scan())
        assert caught.group_contains(DriverTimeout, match="scan")
        assert clock.now() >= D


async def test_hours_of_sub_scans_pass_under_a_virtual_clock() -> None:
    config, driver, clock = instrument(), SceneDriver(), VirtualClock()
    rig = Rig(lambda: driver.open(config, clock), lambda: driver.emergency(config))
    async with connected(rig) as session:
        for n in range(90):
            sub_scan = RIG.sub_scan(f"s-{n}", seconds=80)
            detector = session.detectors["haadf"]
            assert session.scan is not None
            await detector.arm(sub_scan, deadline_s=D)
            receipt = await session.scan.scan(sub_scan, deadline_s=1000)
            assert receipt.completed
            (block,) = await collect(detector)
            assert block.data.shape == (1, 8, 12)
        assert clock.now() == pytest.approx(7200, rel=0.01)
