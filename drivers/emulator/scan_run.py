"""One scan in progress: what is due when, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from drivers.emulator.faults import Faults
from drivers.emulator.renderer import Job, Renderer
from drivers.emulator.timeline import Timeline
from drivers.vocabulary import AnyArray, DetectorInfo, FrameBlock, Receipt, SubScan

BLOCK_S = 2e-3
"""Lines of a pixelated detector are sent together until a block takes about this long to scan."""
LOOKAHEAD_BYTES = 64 * 2**20
"""How much is rendered before it is due."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A block that becomes available ``due_s`` after the start of the scan."""

    due_s: float
    detector: str
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scan ended, on the instrument's clock."""

    ended_at_s: float
    executed: int
    completed: bool
    beam_on_s: float


class ScanRun:
    """A scan between its start and its end.

    The room ends it (``stopped``) when its time is over or when somebody cancels it; whoever
    drives it (`drivers.emulator.drive`) takes blocks out of it as they fall due.
    """

    def __init__(
        self,
        sub_scan: SubScan,
        timeline: Timeline,
        armed: dict[str, DetectorInfo],
        started_at_s: float,
        current_pA: float,
    ) -> None:
        self.sub_scan = sub_scan
        self.timeline = timeline
        self.started_at_s = started_at_s
        self.armed = armed
        self.stopped: Future[Outcome] = Future()
        self.stopped.set_running_or_notify_cancel()  # from now on nobody who waits can cancel it
        self._current_pA = current_pA
        self._queue = _deliveries(sub_scan, timeline, armed)
        self._rendering: list[Future[AnyArray]] = []
        self._next = 0

    @property
    def planned_end_s(self) -> float:
        """When the last dwell ends if nobody cancels."""
        return self.started_at_s + self.timeline.duration_s

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped before its time was over."""
        return self.stopped.done() and not self.stopped.result().completed

    def due_s(self) -> float | None:
        """Return when the next block falls due, on the instrument's clock; None after the last."""
        if self._next == len(self._queue):
            return None
        return self.started_at_s + self._queue[self._next].due_s

    def rendering(self, renderer: Renderer) -> Future[AnyArray]:
        """Return the next block as it is being rendered, and keep some work ahead of it."""
        ahead = self._lookahead()
        while (
            len(self._rendering) < len(self._queue) and len(self._rendering) <= self._next + ahead
        ):
            item = self._queue[len(self._rendering)]
            job = Job(
                self.sub_scan, item.detector, item.first, item.stop,
                self._current_pA, self.started_at_s,
            )  # fmt: skip
            self._rendering.append(renderer.submit(job))
        return self._rendering[self._next]

    def _lookahead(self) -> int:
        item = self._queue[self._next]
        info = self.armed[item.detector]
        frame = math.prod(info.expected_shape(self.sub_scan)) * np.dtype(info.dtype).itemsize
        return int(LOOKAHEAD_BYTES // (frame * (item.stop - item.first)))

    def take(self, data: AnyArray, now_s: float) -> FrameBlock:
        """Hand out the next block, whose data have been rendered."""
        item = self._queue[self._next]
        if self._rendering:
            self._rendering[self._next] = Future()  # lets go of the data
        self._next += 1
        total = self.armed[item.detector].expected_frames(self.sub_scan)
        return FrameBlock(data, item.first, total, item.detector, self.sub_scan.id, now_s)

    def receipt(self) -> Receipt:
        """Say what was executed; valid once stopped."""
        end = self.stopped.result(timeout=0)
        return Receipt(
            sub_scan=self.sub_scan,
            completed=end.completed,
            positions_executed=end.executed,
            beam_on_s=end.beam_on_s,
            started_at_s=self.started_at_s,
            ended_at_s=end.ended_at_s,
        )


def _deliveries(
    sub_scan: SubScan, timeline: Timeline, armed: dict[str, DetectorInfo]
) -> list[Delivery]:
    ny, nx = sub_scan.shape
    lines = max(1, math.ceil(BLOCK_S / timeline.line_s))
    queue = []
    for name, info in armed.items():
        if info.kind == "image":
            queue.append(Delivery(timeline.duration_s, name, 0, 1))
            continue
        for first in range(0, ny, lines):
            stop = min(first + lines, ny)
            queue.append(Delivery(timeline.lines_done_s(stop), name, first * nx, stop * nx))
    return sorted(queue, key=lambda item: item.due_s)


def spoiled(block: FrameBlock, faults: Faults | None) -> Iterator[tuple[float, FrameBlock]]:
    """Yield the block as the wire delivers it: (extra delay in s, block), with faults applied."""
    fault = faults.due("frame") if faults is not None else None
    kind = fault.kind if fault is not None else ""
    if kind == "dropped_frame":
        return
    if kind == "nan_frame":
        block = _with_data(block, np.full(block.data.shape, np.nan, dtype=np.float32))
    elif kind == "wrong_shape":
        block = _with_data(block, block.data[:, :-1])
    late_s = fault.seconds if fault is not None and kind == "late_frame" else 0.0
    yield late_s, block
    if kind == "duplicate_frame":
        yield 0.0, block


def _with_data(block: FrameBlock, data: AnyArray) -> FrameBlock:
    return FrameBlock(
        data, block.first_index, block.expected_total, block.detector, block.sub_scan_id,
        block.received_at_s,
    )  # fmt: skip
