"""Scanning a recorded image anew: crops, averages, interpolation, turns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from drivers.replay.resample import nearest, resample
from drivers.vocabulary import FloatArray, NmPair, SubScan

RECORD = np.random.default_rng(5).normal(100.0, 20.0, (23, 31))
PITCH = (0.37, 0.81)

sizes = st.integers(1, 12)
pitches = st.floats(0.01, 50.0)


def crop_scan(
    top: int, left: int, shape: tuple[int, int], pixel_nm: NmPair = PITCH, factor: int = 1
) -> SubScan:
    """Return the scan that covers a crop of the record, with boxes of ``factor`` pixels."""
    size = (shape[0] * pixel_nm[0], shape[1] * pixel_nm[1])
    center = (
        (top + shape[0] / 2 - RECORD.shape[0] / 2) * pixel_nm[0],
        (left + shape[1] / 2 - RECORD.shape[1] / 2) * pixel_nm[1],
    )
    return SubScan("s", center, size, (shape[0] // factor, shape[1] // factor), 1.0)


@given(top=st.integers(0, 11), left=st.integers(0, 19), ny=sizes, nx=sizes, py=pitches, px=pitches)
def test_aligned_crop_is_exactly_the_record(
    top: int, left: int, ny: int, nx: int, py: float, px: float
) -> None:
    scan = crop_scan(top, left, (ny, nx), (py, px))
    wanted = RECORD[top : top + ny, left : left + nx]
    assert np.array_equal(resample(RECORD, (py, px), scan), wanted)


@given(top=st.integers(0, 5), left=st.integers(0, 10), ny=st.integers(1, 4), nx=st.integers(1, 4))
def test_coarse_scan_is_the_mean_of_blocks(top: int, left: int, ny: int, nx: int) -> None:
    scan = crop_scan(top, left, (3 * ny, 3 * nx), factor=3)
    crop = RECORD[top : top + 3 * ny, left : left + 3 * nx]
    blocks = crop.reshape(ny, 3, nx, 3).mean(axis=(1, 3))
    assert np.allclose(resample(RECORD, PITCH, scan), blocks, rtol=1e-12)


@given(ny=st.integers(1, 23), nx=st.integers(1, 31))
def test_coarse_scan_of_the_whole_field_keeps_the_mean(ny: int, nx: int) -> None:
    field = (RECORD.shape[0] * PITCH[0], RECORD.shape[1] * PITCH[1])
    values = resample(RECORD, PITCH, SubScan("s", (0.0, 0.0), field, (ny, nx), 1.0))
    assert values.mean() == pytest.approx(RECORD.mean(), rel=1e-12)


@given(
    y=st.floats(-2.0, 2.0),
    x=st.floats(-6.0, 6.0),
    finer=st.floats(1.0, 8.0),
    turn=st.one_of(st.just(0.0), st.floats(-180.0, 180.0)),
)
def test_fine_scan_interpolates_as_scipy_does(
    y: float, x: float, finer: float, turn: float
) -> None:
    shape = (4, 5)
    fov = (shape[0] * min(PITCH) / finer, shape[1] * min(PITCH) / finer)
    scan = SubScan("s", (y, x), fov, shape, 1.0, turn)
    at = scan.positions_nm() / np.asarray(PITCH) + (np.asarray(RECORD.shape) - 1) / 2
    wanted = ndimage.map_coordinates(RECORD, np.moveaxis(at, -1, 0), order=1, mode="nearest")
    assert np.allclose(resample(RECORD, PITCH, scan), wanted, rtol=0, atol=1e-3)


def blob(center_nm: NmPair, width_nm: float = 3.0) -> FloatArray:
    """Return a round Gaussian spot recorded on the anisotropic grid."""
    y = (np.arange(64) - 31.5) * 0.5
    x = (np.arange(96) - 47.5) * 0.25
    dy, dx = np.meshgrid(y - center_nm[0], x - center_nm[1], indexing="ij")
    return np.asarray(np.exp(-(dy**2 + dx**2) / 2 / width_nm**2))


@settings(max_examples=25)
@given(y=st.floats(-3, 3), x=st.floats(-3, 3), turn=st.sampled_from([0.0, 30.0, -75.0]))
def test_anisotropic_pixels_keep_shapes_round_and_in_place(y: float, x: float, turn: float) -> None:
    scan = SubScan("s", (y, x), (6.0, 6.0), (24, 24), 1.0, turn)
    seen = resample(blob((y, x)), (0.5, 0.25), scan)
    local = (np.arange(24) + 0.5) / 24 * 6.0 - 3.0
    dy, dx = np.meshgrid(local, local, indexing="ij")
    wanted = np.exp(-(dy**2 + dx**2) / 2 / 3.0**2)
    assert np.abs(seen - wanted).max() < 0.01


@given(py=st.integers(-4, 4), px=st.integers(-4, 4))
def test_moving_the_scan_by_whole_pixels_shifts_the_image(py: int, px: int) -> None:
    scan = SubScan("s", (0.11, -0.23), (8 * 0.2, 9 * 0.3), (8, 9), 1.0)
    moved = scan.moved((py * 0.2, px * 0.3))
    record = np.random.default_rng(1).random((40, 50))
    big = SubScan("s", (0.11, -0.23), (16 * 0.2, 17 * 0.3), (16, 17), 1.0)
    whole = resample(record, (0.2, 0.3), big)
    part = whole[4 + py : 12 + py, 4 + px : 13 + px]
    assert np.allclose(resample(record, (0.2, 0.3), moved), part, atol=1e-9)


@pytest.mark.parametrize(("turn", "quarters"), [(90.0, -1), (180.0, 2), (-90.0, 1), (360.0, 0)])
def test_quarter_turns_are_exact(turn: float, quarters: int) -> None:
    record = np.arange(36.0).reshape(6, 6)
    scan = SubScan("s", (0.0, 0.0), (3.0, 3.0), (6, 6), 1.0, turn)
    # the axes turn anticlockwise, so that the specimen seems to turn clockwise
    assert np.array_equal(resample(record, (0.5, 0.5), scan), np.rot90(record, quarters))


def test_coarse_turned_scan_averages() -> None:
    noise = np.random.default_rng(2).normal(10.0, 1.0, (200, 200))
    scan = SubScan("s", (0.0, 0.0), (100.0, 100.0), (10, 10), 1.0, 30.0)
    values = resample(noise, (1.0, 1.0), scan)
    assert values.std() < 0.2
    assert values.mean() == pytest.approx(10.0, abs=0.05)


def test_a_hole_spreads_to_what_touches_it_and_no_further() -> None:
    record = np.ones((8, 8))
    record[2, 5] = np.nan
    aligned = resample(record, (1.0, 1.0), SubScan("s", (0.0, 0.0), (8.0, 8.0), (8, 8), 1.0))
    assert np.array_equal(np.isnan(aligned), np.isnan(record))
    coarse = resample(record, (1.0, 1.0), SubScan("s", (0.0, 0.0), (8.0, 8.0), (4, 4), 1.0))
    assert np.argwhere(np.isnan(coarse)).tolist() == [[1, 2]]
    assert np.nanmax(np.abs(coarse - 1)) < 1e-12


def test_outside_the_record_its_edge_goes_on() -> None:
    record = np.arange(12.0).reshape(3, 4)
    scan = SubScan("s", (0.0, 0.0), (5.0, 6.0), (5, 6), 1.0)
    assert np.array_equal(resample(record, (1.0, 1.0), scan), np.pad(record, 1, mode="edge"))


@given(py=pitches, px=pitches)
def test_nearest_finds_each_recorded_position(py: float, px: float) -> None:
    scan = SubScan("s", (0.0, 0.0), (5 * py, 7 * px), (5, 7), 1.0)
    numbers = nearest((5, 7), (py, px), scan.positions_nm())
    assert np.array_equal(numbers, np.arange(35).reshape(5, 7))


@given(y=st.floats(-2.49, 2.49), x=st.floats(-6.9, 6.9))
def test_nearest_is_nearest(y: float, x: float) -> None:
    grid = SubScan("s", (0.0, 0.0), (5.0, 14.0), (5, 7), 1.0).positions_nm().reshape(-1, 2)
    number = int(nearest((5, 7), (1.0, 2.0), np.array([y, x])))
    distance = np.abs(grid - (y, x)) / (1.0, 2.0)
    assert distance[number].max() <= distance.max(axis=1).min() + 1e-5
