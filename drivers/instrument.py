"""The instrument file: which parts there are, how they are set up, what they must not exceed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

P = TypeVar("P", bound="Part")
PositivePair = tuple[PositiveFloat, PositiveFloat]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_\-]*$")]


class Part(BaseModel):
    """Base of everything read from a file: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class InstrumentPart(Part):
    """``[instrument]``: what the instrument is called."""

    name: Name
    virtual: bool = False
    """True when no real beam is behind it: `run` then needs no consent."""
    serve: Literal["process", "in_process"] = "process"
    """Whether an emulated instrument runs as a process of its own."""
    manufacturer: str = ""
    model: str = ""


class ScanPart(Part):
    """``[scan]``: the scan generator."""

    driver: str
    field_nm: PositivePair
    """Largest field it can reach, (y, x), centred on (0, 0)."""
    min_dwell_us: PositiveFloat = 0.1
    max_dwell_us: PositiveFloat = 1e6
    max_positions: int = Field(default=4096 * 4096, gt=0)
    settle_us: NonNegativeFloat = 0.0
    """Beam-on time before the first position of each sub-scan."""
    flyback_us: NonNegativeFloat = 0.0
    """Beam-on time between lines."""
    park_position_nm: tuple[float, float] | None = None
    """Where the probe is parked; the corner of the field when not given."""


class DetectorPart(Part):
    """``[[detector]]``: one detector."""

    name: Name
    driver: str
    kind: Literal["image", "pixelated"] = "image"
    channel: str | None = None
    """What the driver calls it, e.g. a recorded channel; the detector's name when not given."""
    frame_shape: tuple[int, int] | None = None
    inner_mrad: NonNegativeFloat | None = None
    outer_mrad: PositiveFloat | None = None
    mrad_per_px: PositiveFloat | None = None
    camera_length_mm: PositiveFloat | None = None
    rotation_deg: float = 0.0
    flip: bool = False
    saturation: PositiveFloat | None = None
    dtype: Literal["uint8", "uint16", "uint32", "float32"] | None = None

    @model_validator(mode="after")
    def _pixelated_has_shape(self) -> Self:
        if self.kind == "pixelated" and self.frame_shape is None:
            raise ValueError("a pixelated detector needs frame_shape = [ky, kx]")
        return self


class BeamPart(Part):
    """``[beam]``: the beam and its blanker."""

    driver: str
    energy_kV: PositiveFloat
    semiangle_mrad: PositiveFloat
    current_pA: PositiveFloat | None = None
    """Without a current, `run` refuses: dose could not be counted."""
    current_source: Literal["measured", "configured"] = "configured"
    current_upper_pA: PositiveFloat | None = None
    """Upper bound; planned dose is reckoned with it. 1.1 x current when not given."""
    current_max_age_s: PositiveFloat | None = None
    """How old a measured current may be; no limit when not given."""
    probe_size_nm: PositiveFloat = 0.1
    """Full width at half maximum of the probe."""
    blanker: Literal["electrostatic", "electromagnetic", "none"] = "electrostatic"
    blank_latency_us: NonNegativeFloat = 0.0
    between_sub_scans: Literal["blank", "park_probe"] = "blank"
    accept_no_blanker: bool = False
    """Consent to work without a blanker; parked time is then charged as dose."""

    @model_validator(mode="after")
    def _blanker_consent(self) -> Self:
        if self.blanker == "none" and not self.accept_no_blanker:
            raise ValueError(
                'blanker = "none" leaves the beam on the specimen between sub-scans: '
                "set accept_no_blanker = true to work like this"
            )
        if self.blanker == "none" and self.between_sub_scans == "blank":
            raise ValueError('without a blanker use between_sub_scans = "park_probe"')
        return self

    @property
    def upper_pA(self) -> float:
        """Current in pA that planned dose is reckoned with; 0 when no current is known."""
        return self.current_upper_pA or 1.1 * (self.current_pA or 0.0)


class ColumnPart(Part):
    """``[column]``: what is read back from the column."""

    driver: str
    defocus_tolerance_nm: PositiveFloat = 5.0
    stage_tolerance_nm: PositiveFloat = 20.0


class LimitsPart(Part):
    """``[limits]``: ceilings no experiment and no operator can move during a run."""

    max_local_dose_e_per_A2: PositiveFloat
    max_total_dose_e_per_A2: PositiveFloat
    """Electrons delivered over the area of the field."""
    max_duration_s: PositiveFloat = 12 * 3600.0
    max_fov_nm: PositivePair | None = None
    max_stationary_probe_ms: PositiveFloat = 50.0
    """Longest time an unblanked probe may stand still: dwell, settling, parking."""
    min_free_disk_gb: NonNegativeFloat = 1.0
    max_drift_nm_per_min: PositiveFloat | None = None
    max_saturated_fraction: float = Field(default=0.05, gt=0, le=1)
    operator_heartbeat_s: PositiveFloat = 60.0
    """In ADVISE and MANUAL, how long the operator may be silent before the run holds."""
    call_deadline_s: PositiveFloat = 5.0
    """How long any single call to the instrument may take beyond the scan itself."""
    park_step_s: PositiveFloat = 2.0
    guardian_s: PositiveFloat = 1.0
    """Silence of the controller after which the guardian parks."""


class CalibrationPart(Part):
    """``[calibration]``: how nominal scan nm relate to true nm."""

    scan_scale: PositiveFloat = 1.0
    scan_rotation_deg: float = 0.0
    source: str = "nominal"
    date: str = ""


class InstrumentConfig(Part):
    """An instrument file, whole."""

    instrument: InstrumentPart
    scan: ScanPart
    detector: tuple[DetectorPart, ...] = Field(min_length=1)
    beam: BeamPart
    column: ColumnPart | None = None
    limits: LimitsPart
    calibration: CalibrationPart = CalibrationPart()
    drivers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each driver, in its own words."""

    @model_validator(mode="after")
    def _detector_names_differ(self) -> Self:
        names = [detector.name for detector in self.detector]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two detectors are called {', '.join(twice)}")
        return self

    def driver_names(self) -> tuple[str, ...]:
        """Return the drivers that parts name, each once, in order."""
        names = [self.scan.driver, *(part.driver for part in self.detector), self.beam.driver]
        names += [self.column.driver] if self.column else []
        return tuple(dict.fromkeys(names))

    def served_by_gateway(self, endpoint: str) -> InstrumentConfig:
        """Return the same instrument with every part reached through a gateway at ``endpoint``."""

        def through(part: P) -> P:
            return part.model_copy(update={"driver": "gateway"})

        return self.model_copy(
            update={
                "scan": through(self.scan),
                "detector": tuple(through(detector) for detector in self.detector),
                "beam": through(self.beam),
                "column": through(self.column) if self.column else None,
                "drivers": {**self.drivers, "gateway": {"endpoint": endpoint}},
            }
        )
