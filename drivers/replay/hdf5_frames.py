"""Frames that stay in their HDF5 file until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of compressed detector files
import numpy as np

from drivers.replay.checks import bad, native
from drivers.replay.recording import IntArray
from drivers.vocabulary import AnyArray


@dataclass(frozen=True, slots=True)
class Hdf5Frames:
    """Frames in an HDF5 dataset; the file is open only while frames are read.

    ``scan_axes`` is how many leading axes of the dataset number the frames.
    """

    path: Path
    dataset: str
    stored_shape: tuple[int, ...]
    stored_dtype: np.dtype[np.generic]
    scan_axes: int
    shape: tuple[int, int, int]

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
        wanted, back = np.unique(indices, return_inverse=True)
        out = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        try:
            with h5py.File(self.path, "r") as file:
                data = file[self.dataset]
                for slot, number in enumerate(wanted):
                    where = np.unravel_index(number, self.stored_shape[: self.scan_axes])
                    at = tuple(int(index) for index in where)
                    out[slot] = data[at].reshape(self.shape[1:])
        except (OSError, KeyError) as error:
            raise bad(
                self.path, f"frames can't be read ({error})", "copy the file again"
            ) from error
        return np.asarray(out[back.reshape(-1)])
