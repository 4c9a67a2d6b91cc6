"""A recording as what the beam meets: recorded channels on one field, scanned anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drivers.emulator.rng import rng_for
from drivers.errors import BadRecording
from drivers.instrument import InstrumentConfig
from drivers.replay.channels import channel_of, common_field, describe, digitise
from drivers.replay.checks import bad
from drivers.replay.recording import Recording
from drivers.replay.resample import nearest, resample
from drivers.vocabulary import (
    AnyArray,
    DetectorInfo,
    FloatArray,
    NmPair,
    SubScan,
)

MAX_COUNTS = 1e15
"""Largest expected count: still exact in float64, and within the generator's range."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Counting noise added to a recording.

    Attributes
    ----------
    seed : int
        Seed of the run.
    counts_per_unit_per_us : float or None
        Expected counts per recorded unit and µs of dwell time; None leaves recorded values as
        they are, whatever the dwell time.
    """

    seed: int = 0
    counts_per_unit_per_us: float | None = None

    def apply(self, values: AnyArray, sub_scan: SubScan, frame: int, detector: str) -> FloatArray:
        """Draw the counts of one frame: Poisson of value x gain x dwell time.

        Values below zero count as zero; values that are not finite become NaN.

        Raises
        ------
        BadRecording
            If a count would be beyond what can be drawn.
        """
        gain = self.counts_per_unit_per_us
        if gain is None:
            return np.asarray(values, dtype=np.float64)
        expected = np.asarray(values, dtype=np.float64) * gain * sub_scan.dwell_us
        finite = np.isfinite(expected)
        if np.max(expected, where=finite, initial=0.0) > MAX_COUNTS:
            what = f"detector '{detector}' would count more than {MAX_COUNTS:g} in one dwell time"
            raise BadRecording(f"{what}; lower counts_per_unit_per_us")
        rng = rng_for(self.seed, sub_scan.id, frame, detector)
        counts = rng.poisson(np.where(finite, np.clip(expected, 0.0, None), 0.0))
        return np.asarray(np.where(finite, counts, np.nan), dtype=np.float64)


class RecordedScene:
    """Implements `drivers.emulator.scene.Scene` over recorded channels that share one field.

    The middle of the recorded field is (0, 0). Images are averaged or interpolated as
    `drivers.replay.resample` says; of a 4-D set each position gets the nearest recorded frame,
    never a mixture of two, so that a scan finer than the record meets the same frame again.
    Nothing drifts. With no beam every value is zero.

    Parameters
    ----------
    instrument : InstrumentConfig
        The detectors that name the driver ``replay``, each showing one channel.
    channels : mapping of str to Recording
        What was recorded, by channel.
    noise : Noise

    Raises
    ------
    BadRecording
        If a detector names a channel that is not there or of the wrong kind or frame shape, the
        fields of two channels differ by more than half a recorded pixel, the pixel size of one is
        not known, a record holds no finite value, or has gaps its detector's dtype can't carry.
    """

    def __init__(
        self, instrument: InstrumentConfig, channels: Mapping[str, Recording], noise: Noise
    ) -> None:
        self.field_nm: NmPair = common_field(channels)
        self._noise = noise
        self._shown: dict[str, Recording] = {}
        self.detectors: dict[str, DetectorInfo] = {}
        for part in instrument.detector:
            if part.driver == "replay":
                recording = channel_of(part, channels)
                self._shown[part.name] = recording
                self.detectors[part.name] = describe(part, recording, instrument)

    def image(
        self, sub_scan: SubScan, detector: str, *, current_pA: float, time_s: float
    ) -> AnyArray:
        """Return the (ny, nx) image an imaging detector records."""
        info, recording = self.detectors[detector], self._shown[detector]
        if recording.image is None:
            raise bad(recording.path, "it holds frames", f"read '{detector}' frame by frame")
        if current_pA <= 0:
            return np.zeros(sub_scan.shape, dtype=info.dtype)
        values = resample(recording.image, recording.pixel_nm, sub_scan)
        return digitise(self._noise.apply(values, sub_scan, 0, detector), info)

    def frames(
        self,
        sub_scan: SubScan,
        detector: str,
        first: int,
        stop: int,
        *,
        current_pA: float,
        time_s: float,
    ) -> AnyArray:
        """Return frames ``first`` to ``stop`` (positions in row-major order): (n, ky, kx)."""
        info, recording = self.detectors[detector], self._shown[detector]
        if recording.frames is None:
            raise bad(recording.path, "it holds an image", f"'{detector}' has no frames")
        if current_pA <= 0:
            shape = (stop - first, *recording.frames.shape[1:])
            return np.zeros(shape, dtype=info.dtype)
        points = sub_scan.positions_nm().reshape(-1, 2)[first:stop]
        numbers = nearest(recording.scan_shape, recording.pixel_nm, points)
        frames = recording.frames.take(numbers)
        if self._noise.counts_per_unit_per_us is None and frames.dtype == np.dtype(info.dtype):
            return frames
        counts = [
            digitise(self._noise.apply(frame, sub_scan, first + offset, detector), info)
            for offset, frame in enumerate(frames)
        ]
        return np.stack(counts)
