"""Waiting for work that must come to its end however often the waiter is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(task: asyncio.Task[Any], *, pass_on: bool = False) -> None:
    """Wait for a task to its end; cancelled meanwhile, be cancelled after it.

    Parameters
    ----------
    task : Task
        Its result or error is left to the caller.
    pass_on : bool
        Cancel the task too when the waiter is cancelled.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
            if pass_on:
                task.cancel()
    if cancelled:
        raise asyncio.CancelledError


async def uncancellable(work: Coroutine[Any, Any, T], name: str) -> T:
    """Do work to its end, in a task of its own; cancelled meanwhile, be cancelled after it.

    Raises what the work raises, also when cancelled.
    """
    task = asyncio.create_task(work, name=name)
    try:
        await settled(task)
    except asyncio.CancelledError:
        task.result()
        raise
    return task.result()
