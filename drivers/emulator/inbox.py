"""Where the blocks of one armed detector wait for their consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from drivers.emulator.checks import BlockCheck
from drivers.errors import BadFrame, DriverTimeout
from drivers.vocabulary import DetectorInfo, FrameBlock, SubScan

LIMIT_BYTES = 2**30
"""How much may wait; a consumer that falls further behind gets an error, never a gap."""


class Inbox:
    """Blocks of one detector and one sub-scan, checked and in order; lives in one event loop."""

    def __init__(self, info: DetectorInfo, sub_scan: SubScan) -> None:
        self.sub_scan = sub_scan
        self._info = info
        self._blocks: deque[FrameBlock] = deque()
        self._waiting_bytes = 0
        self._ended: bool | None = None
        self._failure: BaseException | None = None
        self._news = asyncio.Event()

    def put(self, block: FrameBlock) -> None:
        """Add a block; too many waiting bytes make the consumer fail."""
        self._waiting_bytes += block.data.nbytes
        if self._waiting_bytes > LIMIT_BYTES and self._failure is None:
            why = f"overrun: {self._waiting_bytes} bytes wait for their consumer"
            self._failure = BadFrame(self._info.name, self.sub_scan.id, why)
        if self._failure is None:
            self._blocks.append(block)
        self._news.set()

    def end(self, *, completed: bool) -> None:
        """Say that no more blocks come; first call counts."""
        if self._ended is None:
            self._ended = completed
        self._news.set()

    def fail(self, error: BaseException) -> None:
        """Make the consumer raise this once it has taken what is here; first call counts."""
        if self._failure is None:
            self._failure = error
        self._news.set()

    async def blocks(self, deadline_s: float) -> AsyncIterator[FrameBlock]:
        """Yield the blocks until the end.

        Raises
        ------
        DriverTimeout
            If no news come for ``deadline_s`` real seconds.
        BadFrame
            If a block is missing, came twice, or can't be used.
        """
        check = BlockCheck(self._info, self.sub_scan)
        while True:
            while self._blocks:
                block = self._blocks.popleft()
                self._waiting_bytes -= block.data.nbytes
                check.accept(block)
                yield block
            if self._failure is not None:
                raise self._failure
            if self._ended is not None:
                if self._ended:
                    check.finish()
                return
            self._news.clear()
            await self._wait(deadline_s)

    async def _wait(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                await self._news.wait()
        except TimeoutError as error:
            what = f"frames of {self._info.name} for {self.sub_scan.id}"
            raise DriverTimeout(what, deadline_s) from error
