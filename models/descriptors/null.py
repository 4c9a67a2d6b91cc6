"""A describer that says nothing: what is left of a run without any model's time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from drivers.vocabulary import AnyArray, SubScanData
from models.descriptors.protocols import Description, Health


class NullDescriber:
    """Describes every sub-scan by the number 0, named "constant"; its version is always 1."""

    name = "null"
    NAMES = ("constant",)

    def __init__(self) -> None:
        self.version = 0

    def prepare(self, survey: SubScanData | None, window_nm: tuple[float, float]) -> None:
        """Get ready; nothing is needed."""
        del survey, window_nm
        self.version = 1

    def describe(self, data: SubScanData) -> Description:
        """Return the constant description; the frames are not looked at."""
        center = np.array([data.sub_scan.center_nm], dtype=np.float64)
        return Description(
            data.sub_scan.id,
            np.zeros((1, 1)),
            center,
            np.zeros(1),
            self.NAMES,
            Health(True, 0.0),
            self.version,
        )

    def checkpoint(self) -> dict[str, AnyArray]:
        """Return the state as named arrays."""
        return {"version": np.array(self.version)}

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned."""
        self.version = int(np.asarray(arrays["version"], dtype=np.int64))
