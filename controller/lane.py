"""The compute lane: one thread in which models run, most urgent first.

Describing goes before deciding, deciding before fitting, fitting before training. Work whose
epoch has passed or whose deadline is over when its turn comes is not begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """Order of work in the lane."""

    DESCRIBE = 0
    SUGGEST = 1
    FIT = 2
    TRAIN = 3


class Stale(Exception):
    """The work was asked for in an epoch that has passed."""


class TooLate(Exception):
    """The work's turn came after its deadline."""


class LaneClosed(Exception):
    """The lane takes no more work."""


class Lane:
    """A single thread that runs submitted functions by priority, then by age."""

    def __init__(self, name: str = "compute") -> None:
        self.epoch = 0
        """Work of an older epoch is stale; set by the controller."""
        self._heap: list[tuple[int, int, Callable[[], None], Callable[[], None]]] = []
        self._counter = itertools.count()
        self._ready = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"lane {name}", daemon=True)
        self._thread.start()

    async def submit(
        self,
        work: Callable[[], T],
        priority: Priority,
        *,
        deadline_s: float | None = None,
        epoch: int | None = None,
    ) -> T:
        """Run ``work`` in the lane and return what it returns, or raise what it raises.

        Cancelling the wait does not stop work that has begun; what has not is dropped.

        Raises
        ------
        Stale, TooLate
            If its turn came in a later epoch, or more than ``deadline_s`` from now.
        LaneClosed
            If the lane was closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        latest_s = None if deadline_s is None else time.monotonic() + deadline_s

        def run() -> None:
            if future.cancelled():
                return
            try:
                if epoch is not None and epoch != self.epoch:
                    raise Stale(f"asked for in epoch {epoch}, now {self.epoch}")
                if latest_s is not None and time.monotonic() > latest_s:
                    raise TooLate(f"not begun within {deadline_s:g} s")
                result = work()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                _deliver(loop, future, _fail, error)
            else:
                _deliver(loop, future, _succeed, result)

        def drop() -> None:
            _deliver(loop, future, _fail, LaneClosed("the compute lane was closed"))

        with self._ready:
            if self._closed:
                raise LaneClosed("the compute lane was closed")
            heapq.heappush(self._heap, (priority, next(self._counter), run, drop))
            self._ready.notify()
        return await future

    def close(self) -> None:
        """Finish what is running, drop the rest, and end the thread."""
        with self._ready:
            self._closed = True
            for _, _, _, drop in self._heap:
                drop()
            self._heap.clear()
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._closed or bool(self._heap))
                if self._closed:
                    return
                _, _, run, _ = heapq.heappop(self._heap)
            run()


def _deliver(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    how: Callable[[asyncio.Future[Any], Any], None],
    what: Any,
) -> None:
    """Hand a result to the loop; nobody waits any more when the loop is closed."""
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(how, future, what)


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # no future can carry it
        told = RuntimeError("work in the compute lane raised StopIteration")
        told.__cause__ = error
        error = told
    future.set_exception(error)
