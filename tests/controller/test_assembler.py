"""A sub-scan is put together whole, or it is said what is wrong with it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import assembler
from controller.assembler import Stack, collect
from controller.channels import ChannelFull
from controller.errors import innermost
from drivers.errors import BadFrame, DriverDisconnected
from drivers.vocabulary import AnyArray, DetectorInfo, FrameBlock, SubScan
from tests.controller.core_helpers import sub_scan

SCAN = sub_scan(shape=(3, 4))
CAMERA = DetectorInfo("camera", "pixelated", "uint16", (5, 7))
HAADF = DetectorInfo("haadf", "image", "float32")
FRAMES: AnyArray = np.arange(12 * 35, dtype=np.uint16).reshape(12, 5, 7)
IMAGE: AnyArray = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


def block(data: AnyArray, first: int = 0, **changes: Any) -> FrameBlock:
    whole = FrameBlock(data, first, 12, "camera", SCAN.id, 0.0)
    return dataclasses.replace(whole, **changes)


def filled(*blocks: FrameBlock) -> Stack:
    stack = Stack(CAMERA, SCAN)
    for each in blocks:
        stack.add(each)
    return stack


@given(st.lists(st.integers(1, 11), max_size=5))
def test_any_partition_into_blocks_gives_the_same_frames(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), 12]
    blocks = [block(FRAMES[a:b], a) for a, b in itertools.pairwise(edges)]
    data = filled(*blocks).finish(completed=True)
    assert data is not None
    np.testing.assert_array_equal(data, FRAMES)
    assert data.dtype == np.uint16


def test_the_frames_are_a_copy_of_memory_that_goes_back() -> None:
    wire, released = FRAMES.copy(), []
    stack = filled(block(wire, release=lambda: released.append(True)))
    wire[...] = 0
    data = stack.finish(completed=True)
    assert data is not None
    np.testing.assert_array_equal(data, FRAMES)
    assert released == [True]


BAD: dict[str, tuple[Callable[[], FrameBlock], str]] = {
    "other sub-scan": (lambda: block(FRAMES[4:], 4, sub_scan_id="s000099"), "s000099 arrived"),
    "other detector": (lambda: block(FRAMES[4:], 4, detector="eels"), "detector 'eels' arrived"),
    "shape": (lambda: block(FRAMES[4:, :4], 4), r"shape \(4, 7\) instead of \(5, 7\)"),
    "axes": (lambda: block(FRAMES[4:].transpose(0, 2, 1), 4), r"shape \(7, 5\)"),
    "one frame bare": (lambda: block(FRAMES[4], 4), r"shape \(5, 7\) instead of \(n, ky, kx\)"),
    "a number": (lambda: block(np.zeros((), np.uint16), 4), r"shape \(\)"),
    "dtype": (lambda: block(FRAMES[4:].astype(np.int16), 4), "int16 instead of uint16"),
    "byte order": (lambda: block(FRAMES[4:].astype(">u2"), 4), "instead of uint16"),
    "gap": (lambda: block(FRAMES[6:], 6), "frames from 4 on are missing"),
    "repeated": (lambda: block(FRAMES[2:6], 2), "frames from 2 on are delivered twice"),
    "too many": (lambda: block(np.concatenate([FRAMES] * 2)[4:14], 4), "14 frames instead of 12"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_block_that_can_not_be_right_is_refused_and_its_memory_goes_back(what: str) -> None:
    make, why = BAD[what]
    released: list[bool] = []
    stack = filled(block(FRAMES[:4]))
    with pytest.raises(BadFrame, match=why) as bad:
        stack.add(dataclasses.replace(make(), release=lambda: released.append(True)))
    assert (bad.value.detector, bad.value.sub_scan_id) == ("camera", SCAN.id)
    assert released == [True]
    assert stack.received == 4


@pytest.mark.parametrize("n", [0, 1, 11])
def test_a_tail_that_is_lost_shows_after_a_completed_scan_only(n: int) -> None:
    stack = filled(block(FRAMES[:n])) if n else filled()
    with pytest.raises(BadFrame, match=f"{n} of 12 frames arrived"):
        stack.finish(completed=True)
    assert stack.finish(completed=False) is None


def test_a_scan_cancelled_after_its_last_frame_has_its_frames() -> None:
    data = filled(block(FRAMES)).finish(completed=False)
    assert data is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_refused(bad: float) -> None:
    image = IMAGE.copy()
    image[0, 1, 2:] = bad
    stack = Stack(HAADF, SCAN)
    stack.add(FrameBlock(image, 0, 1, "haadf", SCAN.id, 0.0))
    with pytest.raises(BadFrame, match="2 of 12 values are not finite"):
        stack.finish(completed=True)


class Source:
    """A detector that delivers given blocks, and can stop, fail or wait in between."""

    def __init__(self, info: DetectorInfo, *blocks: FrameBlock) -> None:
        self.info = info
        self._blocks = blocks
        self.error: Exception | None = None
        self.waits: asyncio.Event | None = None
        self.closed = False

    async def arm(self, sub_scan: SubScan, *, deadline_s: float) -> None:
        pass

    async def blocks(self, *, deadline_s: float) -> AsyncIterator[FrameBlock]:
        try:
            for each in self._blocks:
                yield each
            if self.error is not None:
                raise self.error
            if self.waits is not None:
                await self.waits.wait()
        finally:
            self.closed = True

    async def disarm(self, *, deadline_s: float) -> None:
        pass


def camera(*blocks: FrameBlock) -> Source:
    return Source(CAMERA, *(blocks or [block(FRAMES[i : i + 3], i) for i in range(0, 12, 3)]))


def imaging() -> Source:
    return Source(HAADF, FrameBlock(IMAGE, 0, 1, "haadf", SCAN.id, 0.0))


async def test_several_detectors_are_collected_side_by_side() -> None:
    sources = {"camera": camera(), "haadf": imaging()}
    stacks = await collect(sources, SCAN, deadline_s=5)
    frames = {name: stack.finish(completed=True) for name, stack in stacks.items()}
    np.testing.assert_array_equal(frames["camera"], FRAMES)
    np.testing.assert_array_equal(frames["haadf"], IMAGE)


async def failure_of(sources: dict[str, Source]) -> BaseException:
    with pytest.raises(ExceptionGroup) as group:
        await collect(sources, SCAN, deadline_s=5)
    return innermost(group.value)


async def test_one_detector_that_fails_ends_the_others() -> None:
    broken, waiting = camera(), imaging()
    broken.error = DriverDisconnected("the peer closed")
    waiting.waits = asyncio.Event()
    error = await failure_of({"camera": broken, "haadf": waiting})
    assert isinstance(error, DriverDisconnected)
    assert waiting.closed


async def test_a_bad_block_ends_the_receiving() -> None:
    source = camera(block(FRAMES[:3]), block(FRAMES[6:], 6))
    source.waits = asyncio.Event()
    error = await failure_of({"camera": source})
    assert isinstance(error, BadFrame)
    assert source.closed


async def test_an_overrun_is_told_with_its_numbers_and_closes_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fast(Source):
        async def blocks(self, *, deadline_s: float) -> AsyncIterator[FrameBlock]:
            try:
                for each in self._blocks:
                    yield each  # never lets the assembler run
            finally:
                self.closed = True

    monkeypatch.setattr(assembler, "CAPACITY_BYTES", 2 * FRAMES[0].nbytes)
    source = Fast(CAMERA, *(block(FRAMES[i : i + 1], i) for i in range(12)))
    error = await failure_of({"camera": source})
    assert isinstance(error, ChannelFull)
    assert (error.waiting, error.capacity) == (3 * FRAMES[0].nbytes, 2 * FRAMES[0].nbytes)
    assert source.closed


async def test_cancelling_closes_the_sources() -> None:
    source = imaging()
    source.waits = asyncio.Event()
    task = asyncio.create_task(collect({"haadf": source}, SCAN, deadline_s=5))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed
