"""What every block of frames must satisfy before a consumer sees it."""

from __future__ import annotations

import numpy as np

from drivers.errors import BadFrame
from drivers.vocabulary import DetectorInfo, FrameBlock, SubScan


class BlockCheck:
    """Checks the blocks of one detector and one sub-scan, in the order they came.

    Gaps alone would miss frames lost at the tail, so `finish` counts against the plan.
    """

    def __init__(self, info: DetectorInfo, sub_scan: SubScan) -> None:
        self._info = info
        self._id = sub_scan.id
        self._expected = info.expected_frames(sub_scan)
        self._shape = info.expected_shape(sub_scan)
        self._got = 0

    def _bad(self, why: str) -> BadFrame:
        return BadFrame(self._info.name, self._id, why)

    def accept(self, block: FrameBlock) -> None:
        """Take the next block.

        Raises
        ------
        BadFrame
            If its shape, dtype or place in the sub-scan is wrong, or a value is not finite.
        """
        data = block.data
        if data.ndim != 3 or data.shape[1:] != self._shape:
            raise self._bad(f"frames are {data.shape[1:]}, expected {self._shape}")
        if data.dtype != np.dtype(self._info.dtype):
            raise self._bad(f"frames are {data.dtype}, expected {self._info.dtype}")
        if block.first_index > self._got:
            raise self._bad(f"frames {self._got} to {block.first_index - 1} were lost")
        if block.first_index < self._got:
            raise self._bad(f"frame {block.first_index} came twice")
        if self._got + len(data) > self._expected:
            raise self._bad(f"{self._got + len(data)} frames came, expected {self._expected}")
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            raise self._bad("a frame holds values that are not finite")
        self._got += len(data)

    def finish(self) -> None:
        """Check that all frames of a completed scan have come.

        Raises
        ------
        BadFrame
            If some are missing.
        """
        if self._got != self._expected:
            raise self._bad(f"{self._got} frames came, expected {self._expected}")
