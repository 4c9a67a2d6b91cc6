"""The compute lane: order of work, what is not begun any more, and how failures come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from controller.lane import Lane, LaneClosed, Priority, Stale, TooLate


class Gate:
    """Work that holds the lane until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.opened.wait(10)
        return "gate"


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane("test")
    yield made
    made.close()


async def hold(lane: Lane) -> tuple[Gate, asyncio.Task[str]]:
    """Occupy the lane; return the gate and the task that waits for it."""
    gate = Gate()
    task = asyncio.create_task(lane.submit(gate, Priority.TRAIN))
    await asyncio.to_thread(gate.entered.wait, 10)
    return gate, task


async def queued(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a submission and let it get into the queue."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def test_work_runs_in_the_lanes_thread_and_its_result_comes_back(lane: Lane) -> None:
    name = await lane.submit(lambda: threading.current_thread().name, Priority.FIT)
    assert name == "lane test"


async def test_urgent_work_goes_first_and_equals_by_age(lane: Lane) -> None:
    done: list[str] = []

    def note(what: str) -> Callable[[], None]:
        return lambda: done.append(what)

    gate, held = await hold(lane)
    order = [
        ("train", Priority.TRAIN),
        ("fit", Priority.FIT),
        ("suggest 1", Priority.SUGGEST),
        ("describe 1", Priority.DESCRIBE),
        ("suggest 2", Priority.SUGGEST),
        ("describe 2", Priority.DESCRIBE),
    ]
    tasks = [await queued(lane.submit(note(name), priority)) for name, priority in order]
    gate.opened.set()
    await asyncio.gather(held, *tasks)
    assert done == ["describe 1", "describe 2", "suggest 1", "suggest 2", "fit", "train"]


async def test_work_of_an_epoch_that_has_passed_is_not_begun(lane: Lane) -> None:
    done: list[str] = []
    gate, held = await hold(lane)
    old = await queued(lane.submit(lambda: done.append("old"), Priority.SUGGEST, epoch=0))
    lane.epoch = 1
    new = await queued(lane.submit(lambda: done.append("new"), Priority.SUGGEST, epoch=1))
    always = await queued(lane.submit(lambda: done.append("always"), Priority.SUGGEST))
    gate.opened.set()
    with pytest.raises(Stale, match="epoch 0, now 1"):
        await old
    await asyncio.gather(held, new, always)
    assert done == ["new", "always"]


async def test_work_whose_turn_comes_too_late_is_not_begun(lane: Lane) -> None:
    done: list[str] = []
    gate, held = await hold(lane)
    late = await queued(lane.submit(lambda: done.append("late"), Priority.FIT, deadline_s=-1.0))
    soon = await queued(lane.submit(lambda: done.append("soon"), Priority.FIT, deadline_s=60.0))
    gate.opened.set()
    with pytest.raises(TooLate, match="not begun within"):
        await late
    await asyncio.gather(held, soon)
    assert done == ["soon"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)])
async def test_what_work_raises_reaches_whoever_waits_and_the_lane_lives_on(
    lane: Lane, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    async def submit_and_catch() -> BaseException:
        try:
            await lane.submit(fail, Priority.FIT)
        except BaseException as caught:  # noqa: BLE001
            return caught
        raise AssertionError("nothing was raised")

    assert await submit_and_catch() is error
    assert await lane.submit(lambda: 5, Priority.FIT) == 5


async def test_work_that_runs_out_of_an_iterator_fails_instead_of_hanging(lane: Lane) -> None:
    empty: list[int] = []
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(lane.submit(lambda: next(iter(empty)), Priority.FIT), 10)


async def test_work_nobody_waits_for_any_more_is_not_begun(lane: Lane) -> None:
    done: list[str] = []
    gate, held = await hold(lane)
    task = await queued(lane.submit(lambda: done.append("unwanted"), Priority.DESCRIBE))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.opened.set()
    await held
    await lane.submit(lambda: done.append("wanted"), Priority.TRAIN)
    assert done == ["wanted"]


async def test_cancelling_does_not_stop_work_that_has_begun(lane: Lane) -> None:
    gate, held = await hold(lane)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    gate.opened.set()
    assert await lane.submit(lambda: "next", Priority.TRAIN) == "next"


async def test_closing_finishes_what_runs_and_fails_what_waits() -> None:
    lane = Lane()
    gate, held = await hold(lane)
    waiting = [await queued(lane.submit(lambda: 1, Priority.DESCRIBE)) for _ in range(3)]
    closing = asyncio.create_task(asyncio.to_thread(lane.close))
    for task in waiting:
        with pytest.raises(LaneClosed):
            await asyncio.wait_for(task, 10)
    gate.opened.set()
    await closing
    assert await held == "gate"
    with pytest.raises(LaneClosed):
        await lane.submit(lambda: 1, Priority.DESCRIBE)
    lane.close()


def test_a_loop_that_is_gone_does_not_end_the_lane() -> None:
    lane = Lane()
    gate = Gate()

    async def leave() -> None:
        await hold(lane)

    async def hold(lane: Lane) -> None:
        task = asyncio.create_task(lane.submit(gate, Priority.FIT))
        await asyncio.to_thread(gate.entered.wait, 10)
        task.cancel()

    asyncio.run(leave())
    gate.opened.set()

    async def use() -> int:
        return await asyncio.wait_for(lane.submit(lambda: 7, Priority.FIT), 10)

    assert asyncio.run(use()) == 7
    lane.close()
