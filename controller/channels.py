"""The only place where back-pressure is coded.

| edge | channel | when full |
|---|---|---|
| detector → assembler | `Bounded` in bytes | `ChannelFull`: the scan stops, `Overrun`, blank |
| assembler → store, → descriptor | `Bounded` in sub-scans | the putter waits: scanning holds |
| live image → window | `Latest` | the older one is overwritten |
| commands → arbiter | `CommandQueue` | refused with a reason; abort and pause overtake |
| events → anyone late | `Ring` | the oldest fall out; replay the journal from a sequence number |
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelFull(Exception):
    """There is no room and the channel may not wait."""

    def __init__(self, waiting: int, capacity: int) -> None:
        super().__init__(f"{waiting} waiting of {capacity}")
        self.waiting = waiting
        self.capacity = capacity


class ChannelClosed(Exception):
    """Nothing more will come."""


class Bounded(Generic[T]):
    """A first-in first-out channel that holds at most ``capacity`` of summed ``size``.

    One item larger than the capacity is taken when the channel is empty, so that nothing can
    wait for ever.
    """

    def __init__(self, capacity: int, size: Callable[[T], int] = lambda _: 1) -> None:
        self.capacity = capacity
        self.waiting = 0
        self._size = size
        self._items: deque[T] = deque()
        self._changed = asyncio.Condition()
        self._closed = False
        self._putting: deque[object] = deque()
        """One token for each putter that waits, oldest first: the order in which they go."""

    def __len__(self) -> int:
        return len(self._items)

    def _fits(self, item: T) -> bool:
        return not self._items or self.waiting + self._size(item) <= self.capacity

    async def put(self, item: T) -> None:
        """Add an item, waiting for room.

        Raises
        ------
        ChannelClosed
            If the channel was closed.
        """
        mine = object()
        async with self._changed:
            self._putting.append(mine)
            try:
                await self._changed.wait_for(
                    lambda: self._closed or (self._putting[0] is mine and self._fits(item))
                )
                self._add(item)
            finally:
                self._putting.remove(mine)
                self._changed.notify_all()

    async def put_now(self, item: T) -> None:
        """Add an item or raise `ChannelFull`; never waits for room.

        Raises
        ------
        ChannelFull
            If there is no room, or others wait for some.
        ChannelClosed
            If the channel was closed.
        """
        async with self._changed:
            if not self._closed and (self._putting or not self._fits(item)):
                raise ChannelFull(self.waiting + self._size(item), self.capacity)
            self._add(item)

    def _add(self, item: T) -> None:
        if self._closed:
            raise ChannelClosed
        self._items.append(item)
        self.waiting += self._size(item)
        self._changed.notify_all()

    async def get(self) -> T:
        """Take the oldest item, waiting for one; `ChannelClosed` when no more will come."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                raise ChannelClosed
            item = self._items.popleft()
            self.waiting -= self._size(item)
            self._changed.notify_all()
            return item

    async def close(self) -> None:
        """Let getters take what is left, and refuse more."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()


class Latest(Generic[T]):
    """Holds one item; a newer one replaces it. Safe between threads."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._lock = threading.Lock()
        self.overwritten = 0

    def put(self, item: T) -> None:
        """Replace what is there."""
        with self._lock:
            self.overwritten += self._item is not None
            self._item = item

    def take(self) -> T | None:
        """Return the item and forget it; None when there is none."""
        with self._lock:
            item, self._item = self._item, None
            return item


class Ring(Generic[T]):
    """The last ``capacity`` items, with the sequence number of each."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque(maxlen=capacity)
        self._next = 0

    def put(self, item: T) -> None:
        """Add an item; the oldest falls out when full."""
        self._items.append(item)
        self._next += 1

    def since(self, sequence: int) -> list[tuple[int, T]]:
        """Return (sequence, item) from ``sequence`` on.

        Raises
        ------
        LookupError
            If older items than the oldest kept are asked for.
        """
        first = self._next - len(self._items)
        if sequence < first:
            raise LookupError(f"items before {first} are gone; read the journal from {sequence}")
        numbered = enumerate(self._items, start=first)
        return [(number, item) for number, item in numbered if number >= sequence]


class CommandQueue(Generic[T]):
    """Bounded queue of operator commands in which some overtake and are never refused."""

    def __init__(self, capacity: int, overtakes: Callable[[T], bool]) -> None:
        self.capacity = capacity
        self._overtakes = overtakes
        self._urgent: deque[T] = deque()
        self._ordinary: deque[T] = deque()
        self.arrived = asyncio.Event()
        self.urgent_arrived = asyncio.Event()

    def put(self, item: T) -> None:
        """Add a command.

        Raises
        ------
        ChannelFull
            If too many ordinary commands wait.
        """
        if self._overtakes(item):
            self._urgent.append(item)
            self.urgent_arrived.set()
        elif len(self._ordinary) >= self.capacity:
            raise ChannelFull(len(self._ordinary), self.capacity)
        else:
            self._ordinary.append(item)
        self.arrived.set()

    def take(self) -> T | None:
        """Return the next command, urgent ones first; None when there is none."""
        if self._urgent:
            return self._urgent.popleft()
        if self._ordinary:
            return self._ordinary.popleft()
        self.arrived.clear()
        return None

    def take_urgent(self) -> T | None:
        """Return the next command that overtakes; None when there is none."""
        if self._urgent:
            return self._urgent.popleft()
        self.urgent_arrived.clear()
        return None
