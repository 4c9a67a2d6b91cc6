"""Where a scan is at a given time, against counting it out step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.emulator.scan_run import _deliveries
from drivers.emulator.timeline import Timeline
from drivers.vocabulary import SubScan
from tests.conformance.scenes import MarkedScene, instrument

shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))
times = st.integers(0, 50).map(lambda n: n / 64)  # exact in binary: no rounding at the edges


def counted(shape: tuple[int, int], settle: float, dwell: float, flyback: float, t: float) -> int:
    """Walk through the scan position by position; return how many were begun before ``t``."""
    at, begun = settle, 0
    for line in range(shape[0]):
        at += flyback if line else 0.0
        for _ in range(shape[1]):
            begun += at < t
            at += dwell
    return begun


@given(shapes, times, times.map(lambda d: d + 1 / 64), times, times.map(lambda t: t * 8))
def test_executed_positions_are_those_begun(
    shape: tuple[int, int], settle: float, dwell: float, flyback: float, t: float
) -> None:
    timeline = Timeline(shape, settle, dwell, flyback)
    assert timeline.executed(t) == counted(shape, settle, dwell, flyback, t)


@given(shapes, times, times.map(lambda d: d + 1 / 64), times)
def test_duration_is_settling_dwell_and_flyback(
    shape: tuple[int, int], settle: float, dwell: float, flyback: float
) -> None:
    ny, nx = shape
    timeline = Timeline(shape, settle, dwell, flyback)
    assert timeline.duration_s == pytest.approx(settle + ny * nx * dwell + (ny - 1) * flyback)
    assert timeline.executed(timeline.duration_s) == ny * nx


@given(shapes, st.floats(1, 1e5))
def test_deliveries_cover_every_frame_once_when_its_line_is_done(
    shape: tuple[int, int], dwell_us: float
) -> None:
    sub_scan = SubScan("s", (0, 0), (1, 1), shape, dwell_us)
    timeline = Timeline.of(sub_scan, instrument().scan)
    queue = _deliveries(sub_scan, timeline, MarkedScene().detectors)
    assert [item.due_s for item in queue] == sorted(item.due_s for item in queue)
    camera = [item for item in queue if item.detector == "camera"]
    assert [item.first for item in camera] == [0, *(item.stop for item in camera)][:-1]
    assert camera[-1].stop == sub_scan.n_positions
    for item in camera:
        assert timeline.executed(item.due_s * (1 + 1e-9)) >= item.stop
    images = [item for item in queue if item.detector in {"haadf", "bf"}]
    assert [item.due_s for item in images] == [timeline.duration_s] * 2
