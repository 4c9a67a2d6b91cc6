"""Back-pressure: nothing is lost, reordered or let in beyond what there is room for."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.channels import (
    Bounded,
    ChannelClosed,
    ChannelFull,
    CommandQueue,
    Latest,
    Ring,
)

steps = st.lists(st.sampled_from("pg") | st.integers(1, 3), max_size=60)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), max_size=40), st.integers(1, 10), steps)
def test_items_come_out_once_in_order_and_within_capacity(
    sizes: list[int], capacity: int, pauses: list[str | int]
) -> None:
    items = list(enumerate(sizes))

    async def run() -> list[tuple[int, int]]:
        channel: Bounded[tuple[int, int]] = Bounded(capacity, lambda item: item[1])
        waits = deque(pauses)

        def check() -> None:
            assert channel.waiting <= capacity or len(channel) == 1
            assert channel.waiting >= 0

        async def breathe(side: str) -> None:
            if waits and waits[0] != side:
                waits.popleft()
                await asyncio.sleep(0)

        async def produce() -> None:
            for item in items:
                await breathe("p")
                await channel.put(item)
                check()
            await channel.close()

        async def consume() -> list[tuple[int, int]]:
            got = []
            while True:
                await breathe("g")
                try:
                    got.append(await channel.get())
                except ChannelClosed:
                    return got
                check()

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            consumer = group.create_task(consume())
        assert channel.waiting == len(channel) == 0
        return consumer.result()

    assert asyncio.run(run()) == items


async def test_a_small_item_does_not_overtake_a_large_one_that_waits() -> None:
    channel: Bounded[int] = Bounded(10, lambda size: size)
    await channel.put(8)
    large = asyncio.create_task(channel.put(9))
    await settle()
    small = asyncio.create_task(channel.put(1))
    await settle()
    assert not large.done()
    assert not small.done()
    with pytest.raises(ChannelFull):
        await channel.put_now(1)
    assert [await channel.get(), await channel.get(), await channel.get()] == [8, 9, 1]
    await asyncio.gather(large, small)


async def test_a_putter_that_is_cancelled_lets_the_next_one_go() -> None:
    channel: Bounded[int] = Bounded(10, lambda size: size)
    await channel.put(8)
    large = asyncio.create_task(channel.put(9))
    await settle()
    small = asyncio.create_task(channel.put(2))
    await settle()
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    await small
    assert [await channel.get(), await channel.get()] == [8, 2]


async def test_a_getter_that_is_cancelled_takes_nothing_with_it() -> None:
    channel: Bounded[str] = Bounded(2)
    getter = asyncio.create_task(channel.get())
    await settle()
    await channel.put("a")
    getter.cancel()
    results = await asyncio.gather(getter, return_exceptions=True)
    left = [await channel.get()] if len(channel) else []
    assert [*(item for item in results if item == "a"), *left] == ["a"]


async def test_one_item_larger_than_the_channel_is_taken_when_it_is_empty() -> None:
    channel: Bounded[int] = Bounded(10, lambda size: size)
    await channel.put_now(25)
    with pytest.raises(ChannelFull) as full:
        await channel.put_now(1)
    assert (full.value.waiting, full.value.capacity) == (26, 10)
    assert await channel.get() == 25
    await channel.put_now(10)


async def test_closing_lets_getters_finish_and_refuses_more() -> None:
    channel: Bounded[int] = Bounded(1)
    await channel.put(1)
    putter = asyncio.create_task(channel.put(2))
    await settle()
    await channel.close()
    await channel.close()
    with pytest.raises(ChannelClosed):
        await putter
    with pytest.raises(ChannelClosed):
        await channel.put_now(3)
    assert await channel.get() == 1
    with pytest.raises(ChannelClosed):
        await channel.get()


async def test_closing_wakes_whoever_waits_for_an_item() -> None:
    channel: Bounded[int] = Bounded(1)
    getter = asyncio.create_task(channel.get())
    await settle()
    await channel.close()
    with pytest.raises(ChannelClosed):
        await getter


def test_latest_keeps_the_newest_and_counts_what_it_overwrote() -> None:
    latest: Latest[int] = Latest()
    assert latest.take() is None
    for i in range(4):
        latest.put(i)
    assert (latest.take(), latest.take(), latest.overwritten) == (3, None, 3)
    latest.put(4)
    assert (latest.take(), latest.overwritten) == (4, 3)


def test_latest_loses_no_count_between_threads() -> None:
    latest: Latest[int] = Latest()
    taken: list[int] = []

    def put() -> None:
        for i in range(2000):
            latest.put(i)

    threads = [threading.Thread(target=put) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        item = latest.take()
        if item is not None:
            taken.append(item)
    for thread in threads:
        thread.join()
    left = latest.take()
    assert len(taken) + (left is not None) + latest.overwritten == 4000


@given(st.integers(1, 8), st.integers(0, 30), st.integers(0, 35))
def test_a_ring_gives_what_it_still_has_or_says_where_to_look(
    capacity: int, n: int, sequence: int
) -> None:
    ring: Ring[str] = Ring(capacity)
    for i in range(n):
        ring.put(f"item {i}")
    if sequence < n - capacity:
        with pytest.raises(LookupError, match=f"read the journal from {sequence}"):
            ring.since(sequence)
    else:
        assert ring.since(sequence) == [(i, f"item {i}") for i in range(sequence, n)]


def test_a_ring_may_be_filled_while_its_items_are_looked_at() -> None:
    ring: Ring[int] = Ring(3)
    for i in range(3):
        ring.put(i)
    seen = []
    for number, item in ring.since(0):
        ring.put(item + 10)
        seen.append(number)
    assert seen == [0, 1, 2]


def queue_of(capacity: int) -> CommandQueue[str]:
    return CommandQueue(capacity, lambda item: item.isupper())


@given(st.lists(st.sampled_from(["a", "b", "c", "A", "P"]), max_size=30), st.integers(0, 5))
def test_urgent_commands_overtake_and_both_kinds_keep_their_order(
    sent: list[str], capacity: int
) -> None:
    async def run() -> None:
        queue = queue_of(capacity)
        accepted: list[str] = []
        for item in sent:
            try:
                queue.put(item)
            except ChannelFull:
                assert item.islower()
                assert sum(each.islower() for each in accepted) == capacity
            else:
                accepted.append(item)
        taken = list(iter(queue.take, None))
        assert taken == sorted(accepted, key=str.islower)

    asyncio.run(run())


async def test_a_full_queue_says_so_and_still_takes_an_urgent_command() -> None:
    queue = queue_of(2)
    queue.put("a")
    queue.put("b")
    with pytest.raises(ChannelFull) as full:
        queue.put("c")
    assert full.value.capacity == 2
    queue.put("ABORT")
    assert queue.take() == "ABORT"
    queue.put("PAUSE")
    assert [queue.take(), queue.take(), queue.take()] == ["PAUSE", "a", "b"]
    queue.put("c")


async def test_a_waiting_taker_is_told_of_each_arrival() -> None:
    queue = queue_of(2)
    got: list[str] = []

    async def take(n: int) -> None:
        while len(got) < n:
            item = queue.take()
            if item is None:
                await queue.arrived.wait()
            else:
                got.append(item)

    for expected in ("a", "B", "c"):
        taker = asyncio.create_task(take(len(got) + 1))
        await settle()
        assert not taker.done()
        queue.put(expected)
        await asyncio.wait_for(taker, 5)
    assert got == ["a", "B", "c"]
