"""The image of a sub-scan that a detector recorded, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from drivers.vocabulary import FloatArray, SubScanData


def image_of(data: SubScanData, detector: str) -> FloatArray:
    """Return the (ny, nx) image of a detector, float64.

    For a pixelated detector it is the sum of each frame: a virtual bright-field image over the
    whole camera.

    Raises
    ------
    ValueError
        If the sub-scan has no frames of that detector, or of the wrong shape.
    """
    scan = data.sub_scan
    if detector not in data.frames or detector not in data.detectors:
        there = ", ".join(sorted(data.frames)) or "none"
        raise ValueError(
            f"sub-scan {scan.id}: no frames of detector {detector!r}; there are {there}"
        )
    info, frames = data.detectors[detector], np.asarray(data.frames[detector])
    expected = (info.expected_frames(scan), *info.expected_shape(scan))
    if frames.shape != expected:
        raise ValueError(
            f"sub-scan {scan.id}: detector {detector!r} has frames {frames.shape}, "
            f"expected {expected}"
        )
    if info.kind == "image":
        return np.asarray(frames[0], dtype=np.float64)
    return np.asarray(frames.sum(axis=(1, 2), dtype=np.float64)).reshape(scan.shape)


def choose_detectors(data: SubScanData, wanted: str | None) -> tuple[str, ...]:
    """Return the detectors to describe: the wanted one, else all imaging ones, else all.

    Raises
    ------
    ValueError
        If the wanted one is not there, or there is none.
    """
    if wanted is not None:
        image_of(data, wanted)
        return (wanted,)
    imaging = _sorted(name for name, info in data.detectors.items() if info.kind == "image")
    chosen = imaging or _sorted(data.detectors)
    if not chosen:
        raise ValueError(f"sub-scan {data.sub_scan.id}: no detector to describe")
    return chosen


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in alphabetical order."""
    return tuple(sorted(names))
