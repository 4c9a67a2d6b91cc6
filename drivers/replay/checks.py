"""What a recording must satisfy, and the one error that says what it does not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from drivers.errors import BadRecording


def bad(path: Path, why: str, todo: str) -> BadRecording:
    """Return the error that names a file, what is wrong with it and what to do."""
    return BadRecording(f"{path}: {why}; {todo}")


def native(dtype: npt.DTypeLike) -> np.dtype[np.generic]:
    """Return the type in the machine's byte order; truth values count as uint8."""
    plain = np.dtype(dtype).newbyteorder("=")
    return np.dtype(np.uint8) if plain.kind == "b" else plain


def check_shape(
    path: Path,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    scan_shape: tuple[int, int] | None,
) -> tuple[int, ...]:
    """Return the shape as (sy, sx) or (sy, sx, ky, kx), or raise `BadRecording`."""
    if np.dtype(dtype).kind not in "biuf":
        raise bad(path, f"it holds {np.dtype(dtype)}, not real numbers", "choose another dataset")
    if math.prod(shape) == 0:
        raise bad(path, f"it is empty (shape {shape})", "record or choose another file")
    if len(shape) > 4 or (scan_shape is None and (len(shape) == 3 or shape[-1] == 1)):
        squeezed = tuple(size for size in shape if size > 1)
        shape = squeezed if len(squeezed) in (2, 4) else shape
    if len(shape) == 3 and scan_shape is not None and math.prod(scan_shape) == shape[0]:
        return (*scan_shape, *shape[1:])
    if len(shape) == 3 and scan_shape is not None:
        why = f"it holds {shape[0]} frames, but scan_shape = {list(scan_shape)}"
        raise bad(path, why, "set scan_shape = [rows, columns] so that it fits")
    if len(shape) not in (2, 4):
        why = f"its shape is {shape}: neither an image (y, x) nor frames (sy, sx, ky, kx)"
        raise bad(path, why, "for a stack of frames set scan_shape = [rows, columns]")
    if scan_shape is not None and shape[:2] != tuple(scan_shape):
        why = f"its scan is {shape[:2]}, but scan_shape = {list(scan_shape)}"
        raise bad(path, why, "leave scan_shape out, or correct it")
    return shape
