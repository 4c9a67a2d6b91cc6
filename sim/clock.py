"""A clock whose time passes only when somebody waits for it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_YIELDS = 25
"""Turns of the event loop left to tasks that are ready, before time moves on."""


class VirtualClock:
    """Time for tests and dry runs: sleeping costs no real time.

    Sleepers wake in order of their wake-up times, first come first served where those are
    equal. Before each wake-up the event loop is given some turns, so that whatever is ready
    runs at the present time first. One event loop may sleep on a clock at a time; `now` and
    `hold` may be called from any thread.

    Parameters
    ----------
    start_s : float
        The time it shows at first.
    """

    is_virtual = True

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = start_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticking = False
        self._holds = 0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the present time in s."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let that many seconds of this clock pass; zero or less gives the loop one turn.

        Raises
        ------
        ValueError
            If the number of seconds is not finite.
        RuntimeError
            If another event loop sleeps on this clock.
        """
        if not math.isfinite(seconds):
            raise ValueError(f"can't sleep for {seconds} s")
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._belong_to(asyncio.get_running_loop())
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        self._start_ticking()
        await woken

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make time stand still meanwhile: for work elsewhere that takes no virtual time."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
                loop = self._loop
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._start_ticking)

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            return
        others = self._loop is not None and not self._loop.is_closed() and self._drop_cancelled()
        if others:
            raise RuntimeError("another event loop is sleeping on this virtual clock")
        self._sleepers.clear()
        self._loop, self._ticking = loop, False

    def _drop_cancelled(self) -> bool:
        """Forget sleepers at the front that no longer wait; say whether any sleeper is left."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return bool(self._sleepers)

    def _start_ticking(self) -> None:
        if self._ticking or self._holds or not self._drop_cancelled() or self._loop is None:
            return
        self._ticking = True
        self._loop.call_soon(self._tick, _YIELDS)

    def _tick(self, turns_left: int) -> None:
        """Wait out the turns, then wake the earliest sleeper."""
        if turns_left and self._loop is not None:
            self._loop.call_soon(self._tick, turns_left - 1)
            return
        self._ticking = False
        if self._holds or not self._drop_cancelled():
            return
        when, _, woken = heapq.heappop(self._sleepers)
        self._now = max(self._now, when)
        woken.set_result(None)
        self._start_ticking()
