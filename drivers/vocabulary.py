"""The words every part of probewise shares: sub-scans, frames, receipts, calibrations, clocks.

Positions and sizes are (y, x) pairs in nanometres. A sub-scan's pixel (0, 0) is at its
top left before rotation; y grows downwards. Only the standard library and NumPy are used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

NmPair = tuple[float, float]
FloatArray = npt.NDArray[np.float64]
AnyArray = npt.NDArray[np.generic]
E_PER_S_PER_PA = 1e-12 / 1.602176634e-19
"""Electrons per second in one picoampere (SI 2019 elementary charge)."""


@dataclass(frozen=True, slots=True)
class SubScan:
    """A small scanned region: the unit of work.

    Attributes
    ----------
    id : str
        Name of this exposure; never executed twice.
    center_nm, fov_nm : (y, x)
        Centre, and full extent (edge to edge of the outermost pixels) in nm.
    shape : (ny, nx)
        Probe positions.
    dwell_us : float
        Dwell time per probe position in µs.
    rotation_deg : float
        Anticlockwise rotation of the fast axis about the centre, in degrees.
    """

    id: str
    center_nm: NmPair
    fov_nm: NmPair
    shape: tuple[int, int]
    dwell_us: float
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        numbers = (*self.center_nm, *self.fov_nm, self.dwell_us, self.rotation_deg)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"sub-scan {self.id}: position, size and dwell time must be finite")
        if min(self.fov_nm) <= 0 or min(self.shape) < 1 or self.dwell_us <= 0:
            raise ValueError(f"sub-scan {self.id}: size, shape and dwell time must be positive")

    @property
    def n_positions(self) -> int:
        """Number of probe positions."""
        return self.shape[0] * self.shape[1]

    @property
    def pixel_nm(self) -> NmPair:
        """Pitch of the probe positions, (y, x) in nm."""
        return self.fov_nm[0] / self.shape[0], self.fov_nm[1] / self.shape[1]

    @property
    def area_nm2(self) -> float:
        """Scanned area in nm²."""
        return self.fov_nm[0] * self.fov_nm[1]

    @property
    def scan_time_s(self) -> float:
        """Dwell time of all positions together, in s; settling and flyback not counted."""
        return self.n_positions * self.dwell_us * 1e-6

    def moved(self, offset_nm: NmPair) -> SubScan:
        """Return the same sub-scan with its centre shifted by (y, x) nm."""
        center = (self.center_nm[0] + offset_nm[0], self.center_nm[1] + offset_nm[1])
        return replace(self, center_nm=center)

    def to_plane(self, local_nm: FloatArray) -> FloatArray:
        """Rotate and shift (..., 2) local (y, x) coordinates in nm onto the scan plane."""
        angle = math.radians(self.rotation_deg)
        cos, sin = math.cos(angle), math.sin(angle)
        y, x = local_nm[..., 0], local_nm[..., 1]
        # y points down, so an anticlockwise turn moves +x towards -y
        turned = np.stack([y * cos - x * sin, y * sin + x * cos], axis=-1)
        return np.asarray(turned + np.asarray(self.center_nm), dtype=np.float64)

    def positions_nm(self) -> FloatArray:
        """Centres of the probe positions: (ny, nx, 2), (y, x) in nm."""
        ny, nx = self.shape
        y = (np.arange(ny) + 0.5) / ny * self.fov_nm[0] - self.fov_nm[0] / 2
        x = (np.arange(nx) + 0.5) / nx * self.fov_nm[1] - self.fov_nm[1] / 2
        return self.to_plane(np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1))

    def corners_nm(self) -> FloatArray:
        """Corners of the scanned area in order round it: (4, 2), (y, x) in nm."""
        half_y, half_x = self.fov_nm[0] / 2, self.fov_nm[1] / 2
        local = np.array(
            [[-half_y, -half_x], [-half_y, half_x], [half_y, half_x], [half_y, -half_x]]
        )
        return self.to_plane(local)

    def contains(self, points_nm: FloatArray) -> npt.NDArray[np.bool_]:
        """Say for each of (..., 2) points whether it lies inside the scanned area."""
        angle = math.radians(self.rotation_deg)
        cos, sin = math.cos(angle), math.sin(angle)
        d = np.asarray(points_nm, dtype=np.float64) - np.asarray(self.center_nm)
        y, x = d[..., 0] * cos + d[..., 1] * sin, -d[..., 0] * sin + d[..., 1] * cos
        half_y, half_x = self.fov_nm[0] / 2, self.fov_nm[1] / 2
        inside = (y >= -half_y) & (y < half_y) & (x >= -half_x) & (x < half_x)
        return np.asarray(inside, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Region:
    """A polygon in specimen nm, painted by an operator or drawn round a box."""

    corners_nm: tuple[NmPair, ...]

    def __post_init__(self) -> None:
        if len(self.corners_nm) < 3:
            raise ValueError("a region needs at least three corners")
        if not np.isfinite(np.asarray(self.corners_nm)).all():
            raise ValueError("the corners of a region must be finite numbers in nm")

    @classmethod
    def box(cls, center_nm: NmPair, size_nm: NmPair) -> Region:
        """Return the axis-aligned box of the given (y, x) centre and size in nm."""
        (y, x), hy, hx = center_nm, size_nm[0] / 2, size_nm[1] / 2
        return cls(((y - hy, x - hx), (y - hy, x + hx), (y + hy, x + hx), (y + hy, x - hx)))

    def contains(self, points_nm: FloatArray) -> npt.NDArray[np.bool_]:
        """Say for each of (..., 2) points, (y, x) in nm, whether it lies inside (even-odd rule)."""
        points = np.asarray(points_nm, dtype=np.float64)
        py, px = points[..., 0], points[..., 1]
        inside = np.zeros(py.shape, dtype=np.bool_)
        ends = self.corners_nm[1:] + self.corners_nm[:1]
        for (y0, x0), (y1, x1) in zip(self.corners_nm, ends, strict=True):
            if y0 == y1:
                continue
            crosses = (y0 <= py) != (y1 <= py)
            inside ^= crosses & (px < x0 + (py - y0) * (x1 - x0) / (y1 - y0))
        return inside


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a detector's pixels relate to the scan and to angles; travels with its data.

    Attributes
    ----------
    mrad_per_px : float or None
        Scattering angle per camera pixel; None for imaging detectors.
    rotation_deg, flip
        Rotation and mirror of the camera axes against the scan axes.
    scan_scale : float
        True nm per nominal nm of the scan (1 when the scan is calibrated).
    source, date : str
        Where the values come from and when they were taken (ISO 8601, or "").
    """

    mrad_per_px: float | None = None
    rotation_deg: float = 0.0
    flip: bool = False
    scan_scale: float = 1.0
    source: str = "nominal"
    date: str = ""


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What a detector delivers.

    ``kind`` is ``"image"`` (one value per probe position: a sub-scan is one frame of
    shape (ny, nx)) or ``"pixelated"`` (one frame of shape ``frame_shape`` per position).
    """

    name: str
    kind: Literal["image", "pixelated"]
    dtype: str
    frame_shape: tuple[int, int] | None = None
    saturation: float | None = None
    unit: str = "counts"
    calibration: Calibration = Calibration()

    def expected_frames(self, sub_scan: SubScan) -> int:
        """Return how many frames this detector delivers for a sub-scan."""
        return 1 if self.kind == "image" else sub_scan.n_positions

    def expected_shape(self, sub_scan: SubScan) -> tuple[int, int]:
        """Return the (y, x) shape of each of those frames."""
        return sub_scan.shape if self.frame_shape is None else self.frame_shape

    def expected_nbytes(self, sub_scan: SubScan) -> int:
        """Return the size of a whole sub-scan from this detector, in bytes."""
        ky, kx = self.expected_shape(sub_scan)
        return self.expected_frames(sub_scan) * ky * kx * np.dtype(self.dtype).itemsize


def _nothing() -> None:
    """Release nothing: for blocks whose memory is ordinary."""


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Some consecutive frames of one sub-scan, as they came off the wire.

    ``data`` is (n, ky, kx) in the wire's dtype; an imaging detector sends one block of
    (1, ny, nx). The consumer calls ``release`` when it no longer needs ``data``.
    """

    data: AnyArray
    first_index: int
    expected_total: int
    detector: str
    sub_scan_id: str
    received_at_s: float
    release: Callable[[], None] = field(default=_nothing, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the scan control says it executed.

    ``sub_scan`` holds the values read back from the instrument (scan coordinates).
    ``beam_on_s`` is all the time the beam was on the specimen for this command, settling and
    flyback included; times are on the instrument's clock.
    """

    sub_scan: SubScan
    completed: bool
    positions_executed: int
    beam_on_s: float
    started_at_s: float
    ended_at_s: float


@dataclass(frozen=True, slots=True)
class ScanState:
    """What the scan generator says of itself when read back."""

    field_nm: NmPair
    rotation_deg: float
    probe: Literal["parked", "positioned", "scanning"]


@dataclass(frozen=True, slots=True)
class ColumnState:
    """What the column says of itself when read back."""

    defocus_nm: float
    stage_nm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class BeamCurrent:
    """Beam current with where it comes from and how old it is."""

    value_pA: float
    source: Literal["measured", "configured"]
    age_s: float


@dataclass(frozen=True, slots=True)
class ScanCapabilities:
    """What a scan control can do.

    ``positions``: "native" position lists, "emulated" by the driver, or rectangular regions only.
    """

    field_nm: NmPair
    min_dwell_us: float
    max_dwell_us: float
    max_positions: int
    positions: Literal["native", "emulated", "region_only"] = "region_only"
    rotation: bool = True


@dataclass(frozen=True, slots=True)
class Truth:
    """What is really there, where it is known: for judging a run, never for steering it.

    Attributes
    ----------
    label : str
        What counts as a target, e.g. "Si dopants" or "top 10 % of Cu".
    targets_nm : (n, 2) array
        Positions of the targets, (y, x) in nm.
    """

    label: str
    targets_nm: FloatArray


class Clock(Protocol):
    """Time as a run sees it: real, or virtual in tests and dry runs."""

    @property
    def is_virtual(self) -> bool:
        """Whether seconds of this clock pass without being waited for."""

    def now(self) -> float:
        """Return seconds on a monotonic scale."""

    async def sleep(self, seconds: float) -> None:
        """Let that many seconds of this clock pass."""


def utc_now() -> str:
    """Return the present time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class SubScanData:
    """All frames of one executed sub-scan, by detector name.

    ``sub_scan`` is in specimen nm. A frame stack is (1, ny, nx) for an imaging detector and
    (ny * nx, ky, kx) for a pixelated one, in the wire's dtype.
    """

    sub_scan: SubScan
    frames: dict[str, AnyArray]
    detectors: dict[str, DetectorInfo]
