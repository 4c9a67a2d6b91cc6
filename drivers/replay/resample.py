"""How a recorded image looks when it is scanned again at another place, pitch and angle.

One rule: a value is the mean of the recorded image over a box as wide as the larger of the
requested pitch and one recorded pixel, each recorded pixel being a square of constant value. So a
scan on the recorded grid returns exactly the recorded pixels, a coarser one their area average, and
at the recorded pitch or a finer one the rule is bilinear interpolation. Outside the record its edge
pixels go on.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage, sparse

from drivers.replay.recording import IntArray
from drivers.vocabulary import AnyArray, FloatArray, NmPair, SubScan

SNAP_PX = 1e-6
"""Edges this close to those of a recorded pixel, in recorded pixels, are taken to be on them."""


def resample(image: AnyArray, pixel_nm: NmPair, sub_scan: SubScan) -> FloatArray:
    """Scan a recorded image.

    Parameters
    ----------
    image : (sy, sx) array
        The record; its middle lies at (0, 0) of the scan.
    pixel_nm : (y, x)
        Recorded pitch in nm.
    sub_scan : SubScan
        In scan coordinates.

    Returns
    -------
    (ny, nx) array
        Not finite where the box touches a recorded value that is not.
    """
    if sub_scan.rotation_deg % 360.0 == 0.0:
        return _upright(image, pixel_nm, sub_scan)
    return _turned(image, pixel_nm, sub_scan)


def nearest(shape: tuple[int, int], pixel_nm: NmPair, points_nm: FloatArray) -> IntArray:
    """Return the row-major number of the recorded position nearest to each of (..., 2) points.

    A point halfway between two positions belongs to the one below, or to the right.
    """
    numbers = []
    for axis in (0, 1):
        edge = points_nm[..., axis] / pixel_nm[axis] + shape[axis] / 2
        numbers.append(np.clip(np.floor(_snapped(edge)), 0, shape[axis] - 1).astype(np.int64))
    return np.asarray(numbers[0] * shape[1] + numbers[1], dtype=np.int64)


def _snapped(edges: FloatArray) -> FloatArray:
    """Move edges that lie on a recorded pixel's, but for rounding, onto it."""
    whole = np.rint(edges)
    return np.asarray(np.where(np.abs(edges - whole) < SNAP_PX, whole, edges), dtype=np.float64)


def _upright(image: AnyArray, pixel_nm: NmPair, sub_scan: SubScan) -> FloatArray:
    """Average over boxes along the recorded axes: one sparse matrix per axis."""
    rows, first, last = _weights(image.shape[0], pixel_nm[0], sub_scan, axis=0)
    columns, left, right = _weights(image.shape[1], pixel_nm[1], sub_scan, axis=1)
    crop = np.asarray(image[first:last, left:right], dtype=np.float64)
    holes = ~np.isfinite(crop)
    if not holes.any():
        return np.asarray((columns @ (rows @ crop).T).T)
    filled = np.asarray((columns @ (rows @ np.where(holes, 0.0, crop)).T).T)
    touched = (columns @ (rows @ holes.astype(np.float64)).T).T > 0
    return np.asarray(np.where(touched, np.nan, filled))


def _weights(
    size: int, pixel_nm: float, sub_scan: SubScan, *, axis: int
) -> tuple[sparse.csr_array, int, int]:
    """Return the (n, stop - start) averaging matrix of one axis, and start and stop.

    Row i holds the share of box i that lies on each recorded pixel from start to stop.
    """
    n = sub_scan.shape[axis]
    pitch_px = sub_scan.fov_nm[axis] / n / pixel_nm
    middle = (sub_scan.center_nm[axis] - sub_scan.fov_nm[axis] / 2) / pixel_nm + size / 2
    centre: FloatArray = middle + (np.arange(n, dtype=np.float64) + 0.5) * pitch_px
    half = max(pitch_px, 1.0) / 2
    low, high = _snapped(centre - half), _snapped(centre + half)
    first = np.floor(low).astype(np.int64)
    reach = int(np.ceil(high - first).max())
    pixel = first[:, None] + np.arange(reach)
    share = np.minimum(high[:, None], pixel + 1) - np.maximum(low[:, None], pixel)
    share = np.clip(share, 0.0, None)
    share /= share.sum(axis=1, keepdims=True)
    pixel = np.clip(pixel, 0, size - 1)
    used = pixel[share > 0]
    start, stop = int(used.min()), int(used.max()) + 1
    row = np.broadcast_to(np.arange(n)[:, None], pixel.shape)
    where = share > 0
    entries = (share[where], (row[where], pixel[where] - start))
    return sparse.csr_array(entries, shape=(n, stop - start)), start, stop


def _turned(image: AnyArray, pixel_nm: NmPair, sub_scan: SubScan) -> FloatArray:
    """Average bilinear samples spread over each turned box, at most one recorded pixel apart."""
    pitch = sub_scan.pixel_nm
    parts = [max(1, math.ceil(pitch[axis] / min(pixel_nm) - SNAP_PX)) for axis in (0, 1)]
    fine = SubScan(
        sub_scan.id,
        sub_scan.center_nm,
        sub_scan.fov_nm,
        (sub_scan.shape[0] * parts[0], sub_scan.shape[1] * parts[1]),
        sub_scan.dwell_us,
        sub_scan.rotation_deg,
    )
    points = fine.positions_nm() / np.asarray(pixel_nm)
    at = _snapped(points + (np.asarray(image.shape) - 1) / 2)
    record, corner = _around(image, at)
    where = np.moveaxis(at - corner, -1, 0)
    samples = ndimage.map_coordinates(record, where, order=1, mode="nearest")
    ny, nx = sub_scan.shape
    return np.asarray(samples.reshape(ny, parts[0], nx, parts[1]).mean(axis=(1, 3)))


def _around(image: AnyArray, at: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the part of the record that samples at (..., 2) pixels need, and its corner."""
    limit = np.asarray(image.shape) - 1
    low = np.clip(np.floor(at.min(axis=(0, 1))), 0, limit).astype(np.int64)
    high = np.clip(np.ceil(at.max(axis=(0, 1))), 0, limit).astype(np.int64) + 1
    part = image[low[0] : high[0], low[1] : high[1]]
    return np.asarray(part, dtype=np.float64), low
