"""Rendering a scene in the background while the scan's dwell time passes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from drivers.emulator.scene import Scene
from drivers.errors import DriverError
from drivers.vocabulary import AnyArray, SubScan


@dataclass(frozen=True, slots=True)
class Job:
    """Some consecutive frames to render; an imaging detector's image is frame 0 of 1."""

    sub_scan: SubScan
    detector: str
    first: int
    stop: int
    current_pA: float
    time_s: float


class Renderer:
    """Renders jobs in the order given, in one worker thread, or at once when ``inline``.

    Under a virtual clock rendering is inline: no second of that clock may pass meanwhile.
    """

    KEPT = 16
    """How many images rendered at arming are kept until their scan."""

    def __init__(self, scene: Scene, *, inline: bool) -> None:
        self._scene = scene
        self._inline = inline
        self._lock = threading.Lock()  # scenes are asked for one thing at a time
        self._pool: ThreadPoolExecutor | None = None
        self._ready: OrderedDict[tuple[str, str, float], Future[AnyArray]] = OrderedDict()

    def _render(self, job: Job) -> AnyArray:
        try:
            with self._lock:
                return self._rendered(job)
        except DriverError:
            raise
        except Exception as error:
            what = f"{job.detector} of sub-scan {job.sub_scan.id}"
            raise DriverError(f"the scene could not render {what}: {error}") from error

    def _rendered(self, job: Job) -> AnyArray:
        info = self._scene.detectors[job.detector]
        at = {"current_pA": job.current_pA, "time_s": job.time_s}
        if info.kind == "image":
            frames = self._scene.image(job.sub_scan, job.detector, **at)[None]
        else:
            frames = self._scene.frames(job.sub_scan, job.detector, job.first, job.stop, **at)
        frames = np.ascontiguousarray(frames, dtype=np.dtype(info.dtype))
        expected = (job.stop - job.first, *info.expected_shape(job.sub_scan))
        if frames.shape != expected:
            raise ValueError(f"it made {frames.shape} instead of {expected}")
        frames.setflags(write=False)
        return frames

    def submit(self, job: Job) -> Future[AnyArray]:
        """Start rendering; the future gives (n, ky, kx) in the detector's dtype."""
        ready = self._ready.pop((job.sub_scan.id, job.detector, job.current_pA), None)
        if ready is not None:
            return ready
        return self._start(job)

    def prepare(self, job: Job) -> None:
        """Render an image before its scan starts, in the calling thread."""
        future = _done(lambda: self._render(job))
        future.result()
        self._ready[job.sub_scan.id, job.detector, job.current_pA] = future
        while len(self._ready) > self.KEPT:
            self._ready.popitem(last=False)

    def _start(self, job: Job) -> Future[AnyArray]:
        if not self._inline:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="probewise-render")
            return self._pool.submit(self._render, job)
        return _done(lambda: self._render(job))

    def close(self) -> None:
        """Stop the worker; a job in progress is finished first, the others are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._ready.clear()


def _done(work: Callable[[], AnyArray]) -> Future[AnyArray]:
    future: Future[AnyArray] = Future()
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001  # carried to whoever asks for the result
        future.set_exception(error)
    return future
