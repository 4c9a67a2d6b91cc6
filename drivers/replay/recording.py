"""What every reader hands over: one recorded image, or frames recorded on a grid of positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from drivers.replay.checks import bad, check_shape, native
from drivers.replay.units import UNKNOWN, Scales
from drivers.vocabulary import AnyArray, NmPair

IntArray = npt.NDArray[np.int64]


class FrameSource(Protocol):
    """Frames that are read when they are asked for; safe to use from several threads."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, ky, kx)."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the values, in the machine's byte order."""

    def take(self, indices: IntArray) -> AnyArray:
        """Return the frames of these numbers, in this order: (n, ky, kx)."""


@dataclass(frozen=True, slots=True)
class ArrayFrames:
    """Frames in an array, or in a file that ``load`` maps into memory while frames are read.

    Attributes
    ----------
    path : Path
        File they came from, for messages.
    load : Callable
        Returns the array: (frames, ky, kx) or (sy, sx, ky, kx).
    shape : (frames, ky, kx)
    stored_dtype : dtype
        In the file's byte order.
    columns : (kx,) array or None
        Where each column of a frame is stored, when not in order.
    """

    path: Path
    load: Callable[[], AnyArray]
    shape: tuple[int, int, int]
    stored_dtype: np.dtype[np.generic]
    columns: IntArray | None = None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the values, in the machine's byte order."""
        return native(self.stored_dtype)

    def take(self, indices: IntArray) -> AnyArray:
        """Return the frames of these numbers, in this order: (n, ky, kx).

        Raises
        ------
        BadRecording
            If the file can't be read any more.
        """
        try:
            array = self.load()
            picked = array[np.unravel_index(indices, array.shape[:-2])]
        except (OSError, ValueError) as error:
            why = f"frames can't be read ({error})"
            raise bad(self.path, why, "copy the file again") from error
        picked = picked if self.columns is None else picked[..., self.columns]
        return np.asarray(picked).astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel as it was recorded.

    Exactly one of ``image`` and ``frames`` is set.

    Attributes
    ----------
    path : Path
        File it came from.
    image : (sy, sx) array or None
        One value per probe position.
    frames : FrameSource or None
        One frame per probe position, in row-major order of ``scan_shape``.
    scan_shape : (sy, sx)
        Recorded probe positions.
    scales : Scales
    title, unit : str
        What the file calls itself and its values; "" when it does not say.
    """

    path: Path
    image: AnyArray | None
    frames: FrameSource | None
    scan_shape: tuple[int, int]
    scales: Scales = UNKNOWN
    title: str = ""
    unit: str = ""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the recorded values, in the machine's byte order."""
        source = self.frames if self.image is None else self.image
        assert source is not None
        return native(source.dtype)

    @property
    def pixel_nm(self) -> NmPair:
        """Pitch of the recorded positions, (y, x) in nm.

        Raises
        ------
        BadRecording
            If neither the file nor the instrument file gives it.
        """
        if self.scales.pixel_nm is None:
            why = "it does not say how large a pixel is"
            todo = "set pixel_nm = [y, x] for this channel in the instrument file"
            raise bad(self.path, why, todo)
        return self.scales.pixel_nm

    @property
    def field_nm(self) -> NmPair:
        """Recorded field, edge to edge, (y, x) in nm."""
        pitch = self.pixel_nm
        return self.scan_shape[0] * pitch[0], self.scan_shape[1] * pitch[1]

    def with_pixel_nm(self, pixel_nm: NmPair | None) -> Recording:
        """Return the same recording with another pitch; None keeps the file's."""
        if pixel_nm is None:
            return self
        return replace(self, scales=replace(self.scales, pixel_nm=pixel_nm))


def from_array(
    path: Path,
    load: Callable[[], AnyArray],
    scan_shape: tuple[int, int] | None,
    scales: Scales = UNKNOWN,
    title: str = "",
    unit: str = "",
    columns: IntArray | None = None,
) -> Recording:
    """Make a recording of an array: an image is copied to memory, frames stay where they are.

    Parameters
    ----------
    path : Path
        File it came from, for messages.
    load : Callable
        Returns the array, (sy, sx), (frames, ky, kx) or (sy, sx, ky, kx), usually mapped from the
        file; called again whenever frames are read. Axes of length one are dropped where that
        leaves one of these.
    scan_shape : (sy, sx) or None
        Needed for (frames, ky, kx) alone: how the frames lie on the scan.
    scales, title, unit
        As in `Recording`.
    columns
        As in `ArrayFrames`.

    Raises
    ------
    BadRecording
        If the array is neither an image nor frames on a grid, is empty, or is not made of real
        numbers.
    """
    array = load()
    shape = check_shape(path, array.shape, array.dtype, scan_shape)
    scan = (shape[0], shape[1])
    if len(shape) == 2:
        image = np.array(array, dtype=native(array.dtype)).reshape(shape)
        return Recording(path, image, None, scan, scales, title, unit)
    count = (shape[0] * shape[1], shape[2], shape[3])
    stored = np.dtype(array.dtype)
    frames = ArrayFrames(path, lambda: load().reshape(shape), count, stored, columns)
    return Recording(path, None, frames, scan, scales, title, unit)


def require_finite(recording: Recording) -> bool:
    """Raise `BadRecording` if no value is finite, and say whether an image has gaps (NaN or inf).

    Frames are read in order until one has a finite value: usually one.
    """
    if recording.dtype.kind != "f":
        return False
    if recording.image is not None:
        finite = np.isfinite(recording.image.astype(np.float64, copy=False))
        if finite.any():
            return not bool(finite.all())
    elif recording.frames is not None:
        for index in range(recording.frames.shape[0]):
            if np.isfinite(recording.frames.take(np.array([index])).astype(np.float64)).any():
                return False
    raise bad(recording.path, "no value in it is a finite number", "record or choose another file")
