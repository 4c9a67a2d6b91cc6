"""Describers whose meaning never changes: simple statistics of one detector, or nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from drivers.vocabulary import AnyArray, SubScanData
from models.descriptors.images import image_of
from models.descriptors.protocols import Description, Health


class ChannelDescriber:
    """Mean, standard deviation and maximum of the image of one detector.

    Needs no survey; its version is always 1. The latent vector is the summary, with a single
    position at the sub-scan's centre.

    Parameters
    ----------
    detector : str
        Name of the detector; for a pixelated one the sum of each frame counts.
    """

    name = "channel"
    NAMES = ("mean", "std", "max")

    def __init__(self, detector: str) -> None:
        if not detector:
            raise ValueError("descriptor channel: 'detector' must name a detector")
        self.detector = detector
        self.version = 0

    def prepare(self, survey: SubScanData | None, window_nm: tuple[float, float]) -> None:
        """Get ready; nothing is learnt from a survey, which may lack the detector."""
        del survey, window_nm
        self.version = 1

    def describe(self, data: SubScanData) -> Description:
        """Return the statistics of one sub-scan.

        Raises
        ------
        ValueError
            If the detector's frames are missing or misshapen.
        """
        image = image_of(data, self.detector)
        summary = np.array([image.mean(), image.std(), image.max()])
        bad = int(np.count_nonzero(~np.isfinite(image)))
        health = Health(True, 0.0)
        if bad:
            health = Health(False, float(bad), f"{bad} pixels of {self.detector} are not finite")
        center = np.array([data.sub_scan.center_nm], dtype=np.float64)
        return Description(
            data.sub_scan.id, summary[None], center, summary, self.NAMES, health, self.version
        )

    def checkpoint(self) -> dict[str, AnyArray]:
        """Return the state as named arrays."""
        return {"detector": np.array(self.detector), "version": np.array(self.version)}

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Take up a state that `checkpoint` returned."""
        self.detector = str(arrays["detector"])
        self.version = int(np.asarray(arrays["version"], dtype=np.int64))
