"""The virtual clock: order of waking, no real waiting, cancellation, holds, other threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.clock import VirtualClock


async def test_hours_pass_at_once() -> None:
    clock = VirtualClock()
    began = time.process_time()
    await clock.sleep(8 * 3600)
    assert clock.now() == 8 * 3600
    assert clock.is_virtual
    assert time.process_time() - began < 60


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 7.0]), min_size=1, max_size=12))
def test_sleepers_wake_in_order_of_time_then_of_coming(naps: list[float]) -> None:
    woken: list[tuple[float, int]] = []

    async def nap(clock: VirtualClock, number: int, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((clock.now(), number))

    async def main() -> None:
        clock = VirtualClock(start_s=10.0)
        async with asyncio.TaskGroup() as group:
            for number, seconds in enumerate(naps):
                group.create_task(nap(clock, number, seconds))

    asyncio.run(main())
    assert woken == sorted((10.0 + seconds, number) for number, seconds in enumerate(naps))


async def test_ready_tasks_run_before_time_moves() -> None:
    clock = VirtualClock()
    queue: asyncio.Queue[float] = asyncio.Queue()
    seen: list[float] = []

    async def relay(hops: int) -> None:
        value = await queue.get()
        for _ in range(hops):
            await asyncio.sleep(0)
        seen.append(clock.now() - value)

    async with asyncio.TaskGroup() as group:
        group.create_task(relay(10))
        group.create_task(clock.sleep(5.0))
        await clock.sleep(1.0)
        queue.put_nowait(clock.now())
    assert seen == [0.0]
    assert clock.now() == 5.0


async def test_time_stands_still_when_nobody_sleeps() -> None:
    clock = VirtualClock()
    for _ in range(100):
        await asyncio.sleep(0)
    assert clock.now() == 0.0
    await clock.sleep(0)
    await clock.sleep(-3.0)
    assert clock.now() == 0.0


async def test_a_cancelled_sleeper_moves_no_time() -> None:
    clock = VirtualClock()
    long = asyncio.create_task(clock.sleep(100.0))
    await asyncio.sleep(0)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    await clock.sleep(1.0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert clock.now() == 1.0


async def test_two_tasks_interleave_the_same_way_every_time() -> None:
    async def run() -> list[tuple[str, float]]:
        clock, log = VirtualClock(), []

        async def worker(name: str, period_s: float) -> None:
            for _ in range(5):
                await clock.sleep(period_s)
                log.append((name, clock.now()))

        async with asyncio.TaskGroup() as group:
            group.create_task(worker("a", 2.0))
            group.create_task(worker("b", 3.0))
        return log

    first = await run()
    assert first == await run()
    assert [when for _, when in first] == sorted(when for _, when in first)


async def test_a_hold_stops_time_until_work_in_a_thread_is_done() -> None:
    clock = VirtualClock()
    finish = threading.Event()
    readings: list[float] = []

    def work() -> None:
        readings.append(clock.now())
        assert finish.wait(timeout=30)
        readings.append(clock.now())

    async def held() -> None:
        with clock.hold():
            await asyncio.to_thread(work)

    async with asyncio.TaskGroup() as group:
        group.create_task(held())
        sleeper = group.create_task(clock.sleep(3.0))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not sleeper.done()
        finish.set()
    assert readings == [0.0, 0.0]
    assert clock.now() == 3.0


async def test_a_hold_may_end_in_another_thread() -> None:
    clock = VirtualClock()
    sleeper = asyncio.create_task(clock.sleep(3.0))

    def hold_briefly() -> None:
        with clock.hold():
            pass

    await asyncio.to_thread(hold_briefly)
    await sleeper
    assert clock.now() == 3.0


def test_one_clock_serves_one_loop_after_another() -> None:
    clock = VirtualClock()
    asyncio.run(clock.sleep(1.0))
    asyncio.run(clock.sleep(1.0))
    assert clock.now() == 2.0


def test_two_loops_at_once_are_refused() -> None:
    clock = VirtualClock()
    other = asyncio.new_event_loop()

    async def nap() -> None:
        await clock.sleep(1.0)

    waiting = other.create_task(nap())
    other.call_soon(other.stop)
    other.run_forever()  # one turn: the task now sleeps, and the loop stands still
    try:
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(clock.sleep(1.0))
    finally:
        other.run_until_complete(waiting)
        other.close()


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
async def test_endless_sleep_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="can't sleep"):
        await VirtualClock().sleep(seconds)
