"""Letting the time of a scan pass, and handing out its blocks as they fall due.

Two ways: in an event loop, on any clock; or in a thread of the served process, on the real clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from drivers.emulator.room import Room
from drivers.emulator.scan_run import Outcome, ScanRun, spoiled
from drivers.errors import DriverTimeout
from drivers.vocabulary import AnyArray, Clock, FrameBlock, Receipt

RENDER_LIMIT_S = 120.0
"""How long the scene may take for one block beyond its dwell time, in real seconds."""

Deliver = Callable[[FrameBlock], None]


async def drive(room: Room, run: ScanRun, deliver: Deliver, *, deadline_s: float) -> Receipt:
    """Let a scan take its time on the room's clock.

    Raises
    ------
    DriverTimeout
        If the scan is not over after ``deadline_s`` seconds of that clock.
    """
    stopped = asyncio.wrap_future(run.stopped)
    until_s = run.started_at_s + deadline_s
    what = f"scan {run.sub_scan.id}"
    while (due_s := run.due_s()) is not None:
        rendering = run.rendering(room.renderer)
        await _pass(room.clock, min(due_s, until_s), stopped)
        if due_s > until_s and not run.cancelled:
            raise DriverTimeout(what, deadline_s)
        data = await _rendered(rendering, run, stopped, what)
        if data is None:
            break
        for late_s, block in spoiled(run.take(data, room.clock.now()), room.faults):
            if late_s:
                await room.clock.sleep(late_s)
            deliver(block)
    await _pass(room.clock, min(run.planned_end_s, until_s), stopped)
    if run.planned_end_s > until_s and not run.cancelled:
        raise DriverTimeout(what, deadline_s)
    room.finish(run)
    return run.receipt()


async def _pass(clock: Clock, until_s: float, stopped: asyncio.Future[Outcome]) -> None:
    """Wait until that time of the clock, or until the scan is stopped."""
    left_s = until_s - clock.now()
    if left_s <= 0 or stopped.done():
        return
    nap = asyncio.ensure_future(clock.sleep(left_s))
    try:
        racers: set[asyncio.Future[Any]] = {nap, stopped}
        await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not nap.done():
            nap.cancel()
            await asyncio.gather(nap, return_exceptions=True)


async def _rendered(
    rendering: Future[AnyArray], run: ScanRun, stopped: asyncio.Future[Outcome], what: str
) -> AnyArray | None:
    """Return the data, or None when the scan is cancelled first."""
    ready = asyncio.wrap_future(rendering)
    if not ready.done() and not run.cancelled:
        sources: set[asyncio.Future[Any]] = {ready} if stopped.done() else {ready, stopped}
        done, _ = await asyncio.wait(
            sources, timeout=RENDER_LIMIT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if done == {stopped} and not run.cancelled:  # its time is over: only the data are missing
            sources = {ready}
            done, _ = await asyncio.wait(sources, timeout=RENDER_LIMIT_S)
        if not done:
            raise DriverTimeout(f"{what}: rendering", RENDER_LIMIT_S)
    return None if run.cancelled else await ready


def sit_out(room: Room, run: ScanRun) -> Receipt:
    """Let a scan take its time on the real clock, in the calling thread; not a moment longer."""
    _pass_blocking(room.clock, run.planned_end_s, run)
    room.finish(run)
    return run.receipt()


def deliver_blocking(room: Room, run: ScanRun, deliver: Deliver) -> bool:
    """Hand out the blocks of a scan as they fall due, in the calling thread.

    The scan does not wait for this: a block that took longer to render comes after its end.
    Returns whether the scan was completed.

    Raises
    ------
    DriverTimeout
        If the scene does not render in time.
    """
    while (due_s := run.due_s()) is not None:
        rendering = run.rendering(room.renderer)
        _pass_blocking(room.clock, due_s, run)
        if not rendering.done() and not run.stopped.done():
            either: set[Future[Any]] = {rendering, run.stopped}
            wait(either, RENDER_LIMIT_S, return_when=FIRST_COMPLETED)
        if run.cancelled:
            break
        for late_s, block in spoiled(
            run.take(_result(rendering, run), room.clock.now()), room.faults
        ):
            if late_s:
                time.sleep(late_s)
            deliver(block)
    return run.stopped.result(RENDER_LIMIT_S).completed


def _pass_blocking(clock: Clock, until_s: float, run: ScanRun) -> None:
    left_s = until_s - clock.now()
    if left_s > 0:
        wait({run.stopped}, left_s)


def _result(rendering: Future[AnyArray], run: ScanRun) -> AnyArray:
    try:
        return rendering.result(RENDER_LIMIT_S)
    except TimeoutError as error:
        raise DriverTimeout(f"scan {run.sub_scan.id}: rendering", RENDER_LIMIT_S) from error
