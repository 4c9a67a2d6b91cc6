"""The wall clock, as `drivers.vocabulary.Clock`."""

from __future__ import annotations

import asyncio
import time


class RealClock:
    """The wall clock."""

    is_virtual = False

    def now(self) -> float:
        """Return seconds of the system's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        await asyncio.sleep(seconds)
