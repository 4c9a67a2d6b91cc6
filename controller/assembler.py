"""Put a sub-scan together from the blocks its detectors deliver, and refuse what can't be used.

Blocks wait in a channel bounded in bytes; when it is full the scan is stopped (`ChannelFull`).
Frames are counted against the number expected: gaps at the end are seen as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

import numpy as np

from controller.channels import Bounded, ChannelClosed
from drivers.errors import BadFrame
from drivers.protocols import Detector
from drivers.vocabulary import AnyArray, DetectorInfo, FrameBlock, SubScan

CAPACITY_BYTES = 512 * 1024 * 1024
"""How many bytes of one detector may wait to be assembled."""


class Stack:
    """The frames of one detector for one sub-scan, filled block by block."""

    def __init__(self, info: DetectorInfo, sub_scan: SubScan) -> None:
        self._info = info
        self._id = sub_scan.id
        self._total = info.expected_frames(sub_scan)
        self._shape = info.expected_shape(sub_scan)
        self._data: AnyArray | None = None
        self.received = 0

    def add(self, block: FrameBlock) -> None:
        """Take in a block.

        Raises
        ------
        BadFrame
            If it belongs elsewhere, comes twice or out of order, or has the wrong shape or dtype.
        """
        try:
            self._take(block)
        finally:
            block.release()

    def _take(self, block: FrameBlock) -> None:
        if block.data.ndim != 3:
            self._refuse(f"a block of shape {block.data.shape} instead of (n, ky, kx)")
        n, *shape = block.data.shape
        if block.detector != self._info.name:
            self._refuse(f"a frame of detector '{block.detector}' arrived")
        if block.sub_scan_id != self._id:
            self._refuse(f"a frame of sub-scan {block.sub_scan_id} arrived")
        if tuple(shape) != self._shape:
            self._refuse(f"frames of shape {tuple(shape)} instead of {self._shape}")
        if block.data.dtype != np.dtype(self._info.dtype):
            self._refuse(f"frames of {block.data.dtype} instead of {self._info.dtype}")
        if block.first_index != self.received:
            what = "missing" if block.first_index > self.received else "delivered twice"
            self._refuse(f"frames from {min(block.first_index, self.received)} on are {what}")
        if block.first_index + n > self._total:
            self._refuse(f"{block.first_index + n} frames instead of {self._total}")
        if n == self._total:
            self._data = np.array(block.data)
        else:
            if self._data is None:
                self._data = np.zeros((self._total, *self._shape), block.data.dtype)
            self._data[block.first_index : block.first_index + n] = block.data
        self.received += n

    def finish(self, *, completed: bool) -> AnyArray | None:
        """Return the frames; None when the scan stopped early and the image is not whole.

        Raises
        ------
        BadFrame
            If frames are missing after a completed scan, or values are not finite.
        """
        if self._data is None or self.received < self._total:
            if completed:
                self._refuse(f"{self.received} of {self._total} frames arrived")
            return None
        if self._data.dtype.kind == "f" and not np.isfinite(self._data).all():
            bad = int(self._data.size - np.isfinite(self._data).sum())
            self._refuse(f"{bad} of {self._data.size} values are not finite")
        return self._data

    def _refuse(self, why: str) -> None:
        raise BadFrame(self._info.name, self._id, why)


async def collect(
    detectors: Mapping[str, Detector], sub_scan: SubScan, *, deadline_s: float
) -> dict[str, Stack]:
    """Receive all blocks of a sub-scan from detectors that are armed.

    Returns when every detector has delivered all it will. Values are checked by
    `Stack.finish`, once it is known whether the scan was completed.

    Raises
    ------
    ExceptionGroup
        Of `BadFrame`, `ChannelFull` or `DriverError`, nested by detector; the other detectors'
        tasks are cancelled.
    """
    async with asyncio.TaskGroup() as group:
        tasks = {
            name: group.create_task(
                _collect_one(detector, sub_scan, deadline_s), name=f"collect {name}"
            )
            for name, detector in detectors.items()
        }
    return {name: task.result() for name, task in tasks.items()}


async def _collect_one(detector: Detector, sub_scan: SubScan, deadline_s: float) -> Stack:
    stack = Stack(detector.info, sub_scan)
    channel: Bounded[FrameBlock] = Bounded(CAPACITY_BYTES, lambda block: block.data.nbytes)

    async def receive() -> None:
        blocks = detector.blocks(deadline_s=deadline_s)
        try:
            async for block in blocks:
                await channel.put_now(block)
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()  # now, not when it is collected
            await channel.close()

    async def assemble() -> None:
        while True:
            try:
                block = await channel.get()
            except ChannelClosed:
                return
            stack.add(block)

    async with asyncio.TaskGroup() as group:
        group.create_task(receive(), name=f"receive {detector.info.name}")
        group.create_task(assemble(), name=f"assemble {detector.info.name}")
    return stack
