"""The in-process session and what it is made of: parts, inboxes, checks, renderer, watchdog."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.clock import RealClock
from drivers.emulator import inbox as inbox_module
from drivers.emulator import rooms
from drivers.emulator.checks import BlockCheck
from drivers.emulator.inbox import Inbox
from drivers.emulator.renderer import Job, Renderer
from drivers.emulator.room import Room
from drivers.emulator.session import EmulatedSession
from drivers.emulator.watchdog import Watchdog
from drivers.errors import BadFrame, DriverDisconnected, DriverError, DriverTimeout
from drivers.vocabulary import AnyArray, DetectorInfo, FrameBlock, SubScan
from sim.clock import VirtualClock
from tests.conformance.scenes import MarkedScene, SceneDriver, instrument
from tests.conformance.suite import Rig, acquire, collect, connected

D = 10.0
CAMERA = DetectorInfo("camera", "pixelated", "uint16", (6, 10))
SCAN = SubScan("s-1", (0, 0), (2, 3), (3, 4), 100.0)


def block(first: int, n: int, data: AnyArray | None = None) -> FrameBlock:
    frames = np.zeros((n, 6, 10), np.uint16) if data is None else data
    return FrameBlock(frames, first, 12, "camera", "s-1", 0.0)


def rig(scene: MarkedScene | None = None, **config: Any) -> Rig:
    setup, clock = instrument(**config), RealClock()

    def make() -> Room:
        return Room(setup, scene or MarkedScene(), clock)

    return Rig(lambda: EmulatedSession(setup, make), lambda: SceneDriver().emergency(setup))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_only_the_whole_sub_scan_in_order_passes(sizes: list[int]) -> None:
    check = BlockCheck(CAMERA, replace(SCAN, shape=(1, sum(sizes))))
    firsts = np.cumsum([0, *sizes])
    for first, n in zip(firsts, sizes, strict=False):
        with pytest.raises(BadFrame, match="expected"):
            check.finish()
        check.accept(block(int(first), n))
    check.finish()
    with pytest.raises(BadFrame):
        check.accept(block(int(firsts[-1]), 1))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (block(1, 2), "frames 0 to 0 were lost"),
        (block(0, 13), "13 frames came"),
        (block(0, 2, np.zeros((2, 10, 6), np.uint16)), r"\(10, 6\), expected \(6, 10\)"),
        (block(0, 2, np.zeros((2, 6, 10), np.int16)), "int16, expected uint16"),
        (block(0, 2, np.zeros((6, 10), np.uint16)), "expected"),
    ],
)
def test_what_is_wrong_with_a_block_is_said(bad: FrameBlock, why: str) -> None:
    with pytest.raises(BadFrame, match=why):
        BlockCheck(CAMERA, SCAN).accept(bad)


def test_float_frames_must_be_finite_but_may_be_huge() -> None:
    info = DetectorInfo("bf", "image", "float32")
    huge = np.full((1, 3, 4), np.finfo(np.float32).max, np.float32)  # nor may checking overflow
    BlockCheck(info, SCAN).accept(block(0, 1, huge))
    for bad in (np.nan, np.inf, -np.inf):
        spoilt = np.zeros((1, 3, 4), np.float32)
        spoilt[0, 1, 2] = bad
        with pytest.raises(BadFrame, match="not finite"):
            BlockCheck(info, SCAN).accept(block(0, 1, spoilt))


async def test_a_consumer_too_far_behind_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "LIMIT_BYTES", 3 * 6 * 10 * 2)
    inbox = Inbox(CAMERA, SCAN)
    for first in range(4):
        inbox.put(block(first, 1))
    inbox.end(completed=True)
    with pytest.raises(BadFrame, match="overrun"):
        [b async for b in inbox.blocks(D)]


async def test_taking_blocks_makes_room_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "LIMIT_BYTES", 2 * 6 * 10 * 2)
    inbox = Inbox(CAMERA, SCAN)
    inbox.put(block(0, 1))
    taken = 0
    async for _ in inbox.blocks(D):
        taken += 1
        if taken < 12:
            inbox.put(block(taken, 1))
        else:
            inbox.end(completed=True)
    assert taken == 12


async def test_a_session_serves_only_the_parts_of_its_driver() -> None:
    setup = instrument()
    mixed = setup.model_copy(
        update={
            "beam": setup.beam.model_copy(update={"driver": "other"}),
            "column": None,
            "detector": tuple(
                d if d.name == "bf" else d.model_copy(update={"driver": "other"})
                for d in setup.detector
            ),
        }
    )
    session = SceneDriver().open(mixed, RealClock())
    assert session.beam is None
    assert session.column is None
    assert session.scan is not None
    assert list(session.detectors) == ["bf"]


async def test_nothing_works_before_connecting() -> None:
    session = rig().open()
    assert session.beam is not None
    with pytest.raises(DriverDisconnected, match="scene"):
        await session.beam.is_blanked(deadline_s=D)
    await session.close()


async def test_connecting_twice_is_fine() -> None:
    setup = rig()
    async with connected(setup) as session:
        await session.connect("again", deadline_s=D)
        assert session.beam is not None
        await session.beam.unblank(deadline_s=D)


async def test_an_instrument_built_too_late_is_let_go() -> None:
    setup, release, closed = instrument(), threading.Event(), threading.Event()

    class Watched(Room):
        def close(self) -> None:
            super().close()
            closed.set()

    def make() -> Room:
        release.wait(D)
        return Watched(setup, MarkedScene(), RealClock())

    session = EmulatedSession(setup, make)
    with pytest.raises(DriverTimeout, match="building 'scene'"):
        await session.connect("Ada", deadline_s=0.05)
    release.set()
    assert await asyncio.to_thread(closed.wait, D)
    with pytest.raises(DriverDisconnected):
        rooms.find("scene")


class BrokenScene(MarkedScene):
    """Can't render."""

    def image(
        self, sub_scan: SubScan, detector: str, *, current_pA: float, time_s: float
    ) -> AnyArray:
        raise ZeroDivisionError("no thickness")


async def test_a_scene_that_fails_is_a_driver_error_and_the_scan_ends() -> None:
    setup = rig(BrokenScene())
    async with connected(setup) as session:
        assert session.scan is not None
        haadf, camera = session.detectors["haadf"], session.detectors["camera"]
        await haadf.arm(setup.sub_scan(), deadline_s=D)
        with pytest.raises(DriverError, match="haadf of sub-scan s-1: no thickness"):
            await session.scan.scan(setup.sub_scan(), deadline_s=D)
        with pytest.raises(DriverError, match="no thickness"):
            await collect(haadf)
        await haadf.disarm(deadline_s=D)
        await camera.arm(setup.sub_scan("s-2"), deadline_s=D)
        assert (await session.scan.scan(setup.sub_scan("s-2"), deadline_s=D)).completed


def test_a_scene_that_makes_the_wrong_shape_is_named() -> None:
    class Transposed(MarkedScene):
        def image(
            self, sub_scan: SubScan, detector: str, *, current_pA: float, time_s: float
        ) -> AnyArray:
            return np.zeros(sub_scan.shape[::-1])

    renderer = Renderer(Transposed(), inline=True)
    with pytest.raises(DriverError, match=r"\(1, 4, 3\) instead of \(1, 3, 4\)"):
        renderer.submit(Job(SCAN, "haadf", 0, 1, 20.0, 0.0)).result()


def test_prepared_images_are_used_once_and_only_for_the_same_beam() -> None:
    renderer = Renderer(MarkedScene(), inline=True)
    job = Job(SCAN, "haadf", 0, 1, 20.0, 0.0)
    renderer.prepare(job)
    dark = renderer.submit(replace(job, current_pA=0.0)).result()
    first = renderer.submit(job).result()
    assert dark.max() == 0
    assert first.max() == 12
    assert renderer.submit(job).result() is not first


async def test_the_same_frames_come_under_either_clock() -> None:
    setup, driver, taken = instrument(), SceneDriver(), []
    for clock in (RealClock(), VirtualClock()):
        session = driver.open(setup, clock)
        await session.connect("the suite", deadline_s=D)
        _, blocks = await acquire(session, SCAN)
        await session.close()
        taken.append({n: np.concatenate([b.data for b in bs]) for n, bs in blocks.items()})
    for name in taken[0]:
        np.testing.assert_array_equal(taken[0][name], taken[1][name])


async def test_camera_frames_are_in_scan_order_and_not_transposed() -> None:
    setup = rig()
    async with connected(setup) as session:
        _, blocks = await acquire(session, setup.sub_scan())
    frames = np.concatenate([b.data for b in blocks["camera"]])
    ramp = np.arange(10)
    for index in (0, 1, 12, 95):
        np.testing.assert_array_equal(frames[index], np.broadcast_to(index * 10 + ramp, (6, 10)))


def test_the_watchdog_bites_once_and_only_a_silent_holder() -> None:
    bitten: list[tuple[str, str]] = []
    bit = threading.Event()

    def bite(token: str, reason: str) -> None:
        bitten.append((token, reason))
        bit.set()

    watchdog = Watchdog(bite)
    watchdog.start(0.05)
    watchdog.watch("t-0", "nobody")
    watchdog.rest()
    watchdog.watch("t-1", "Ada")
    assert bit.wait(D)
    watchdog.close()
    watchdog.close()
    assert bitten == [("t-1", "no heartbeat of Ada for 0.05 s")]
