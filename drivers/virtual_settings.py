"""The ``[drivers.virtual]`` table: the specimen, and how imperfect the microscope is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from drivers.instrument import Part

Fraction = Annotated[float, Field(ge=0, le=1)]
FaultName = Literal[
    "hang", "raise", "disconnect",
    "dropped_frame", "duplicate_frame", "late_frame", "nan_frame", "wrong_shape",
    "stuck_blanker", "blank_readback_lies", "ignore_cancel",
]  # fmt: skip
Place = Literal[
    "connect", "scan", "cancel", "park_probe", "read_back", "arm", "disarm",
    "blank", "unblank", "is_blanked", "current", "column", "frame",
    "emergency.stop", "emergency.blank", "emergency.park_probe", "emergency.is_blanked",
]  # fmt: skip
_PLACES_OF_KIND: dict[str, tuple[Place, ...]] = {
    "stuck_blanker": ("blank", "emergency.blank"),
    "blank_readback_lies": ("is_blanked", "emergency.is_blanked"),
    "ignore_cancel": ("cancel", "emergency.stop"),
    **dict.fromkeys(
        ("dropped_frame", "duplicate_frame", "late_frame", "nan_frame", "wrong_shape"), ("frame",)
    ),
}
_COMMANDS = tuple(place for place in get_args(Place) if place != "frame")


class GrapheneSettings(Part):
    """Graphene with Si dopants; the targets are the dopants."""

    kind: Literal["graphene"] = "graphene"
    dopants: NonNegativeInt = 24
    """Si atoms on carbon sites, in the field."""
    vacancies: NonNegativeInt = 12
    """Missing carbon atoms, in the field."""
    boundary: bool = True
    """Whether there are two grains."""
    tilt_deg: float = 21.8
    """Angle between the grains."""
    boundary_angle_deg: float = 70.0
    """Direction of the boundary, anticlockwise from +x."""
    boundary_affinity: Fraction = 0.5
    """Part of the dopants that sit near the boundary."""
    boundary_reach_nm: PositiveFloat = 1.5
    """Distance from the boundary at which such a place is 1/e as likely as on it."""
    margin_nm: NonNegativeFloat = 5.0
    """How far the sheet goes on outside the field: room for drift."""


class BaTiO3Settings(Part):
    """BaTiO3 film with ferroelectric domains; the targets are points on the domain walls."""

    kind: Literal["batio3"] = "batio3"
    thickness_nm: PositiveFloat = 8.0
    domain_width_nm: PositiveFloat = 9.0
    """Mean width of the stripes."""
    wall_width_nm: PositiveFloat = 1.0
    """Half width of the walls."""
    enhancement: NonNegativeFloat = 2.0
    """Displacements over those of bulk BaTiO3."""
    margin_nm: NonNegativeFloat = 5.0
    """How far the film goes on outside the field: room for drift."""


class WS2WSe2Settings(Part):
    """Phase-separated WS2/WSe2 sheet; the targets are points on the interface."""

    kind: Literal["ws2_wse2"] = "ws2_wse2"
    domain_size_nm: PositiveFloat = 6.0
    """Correlation length of the composition."""
    selenium_fraction: float = Field(default=0.5, gt=0, lt=1)
    """Part of the field that is selenium-rich."""
    interface_sharpness: PositiveFloat = 0.15
    """Width of the transition, in standard deviations of the composition's random field."""
    rotation_deg: float = 10.0
    """Rotation of the lattice."""
    margin_nm: NonNegativeFloat = 5.0
    """How far the sheet goes on outside the field: room for drift."""


SpecimenSettings = Annotated[
    GrapheneSettings | BaTiO3Settings | WS2WSe2Settings, Field(discriminator="kind")
]


class DriftSettings(Part):
    """How the specimen drifts under the scan."""

    rate_nm_per_min: NonNegativeFloat = 0.0
    """Speed of the steady part."""
    direction_deg: float = 0.0
    """Its direction, anticlockwise from +x."""
    wander_nm: NonNegativeFloat = 0.0
    """Root mean square of the random part over one minute, in y and in x."""


class ScanErrorSettings(Part):
    """How far the probe is from where it should be."""

    line_jitter_nm: NonNegativeFloat = 0.0
    """Standard deviation of a whole line's displacement, in y and in x."""
    settling_nm: NonNegativeFloat = 0.0
    """Lag at the start of a line."""
    settling_time_us: NonNegativeFloat = 0.0
    """Time in which that lag falls to 1/e."""


class FaultSettings(Part):
    """One thing that goes wrong; places and kinds are listed in `drivers.emulator.faults`."""

    kind: FaultName
    where: Place
    """The call it happens to, e.g. ``"scan"``; ``"frame"`` for each delivered block."""
    nth: int | None = Field(default=None, ge=1)
    """Happens at that call, and goes on for ``count`` calls."""
    probability: Fraction = 0.0
    """Without ``nth``: chance at each call, until it has happened ``count`` times."""
    count: int = Field(default=1, ge=1)
    seconds: NonNegativeFloat = 1.0
    """How long, for kinds that take time; for ever when a blanker is stuck for 0 s."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if (self.nth is None) == (self.probability == 0):
            raise ValueError("give either nth or a probability above 0")
        return self

    @model_validator(mode="after")
    def _kind_fits_place(self) -> Self:
        places = _PLACES_OF_KIND.get(self.kind, _COMMANDS)
        if self.where not in places:
            raise ValueError(f"{self.kind} can't happen at {self.where}, only at {places}")
        return self


class VirtualSettings(Part):
    """Settings of the driver ``virtual``. The specimen is as large as ``[scan] field_nm``."""

    specimen: SpecimenSettings = GrapheneSettings()
    seed: NonNegativeInt = 0
    """Seed of the specimen and of all noise: one seed, one run."""
    source_fwhm_nm: NonNegativeFloat = 0.08
    """Full width at half maximum of the source's image on the specimen."""
    defocus_nm: float = 0.0
    cs_um: float = 0.0
    """Third-order spherical aberration."""
    drift: DriftSettings = DriftSettings()
    scan_errors: ScanErrorSettings = ScanErrorSettings()
    faults: tuple[FaultSettings, ...] = ()
    prerender: bool = False
    """Render images when a detector is armed: for measuring what the controller adds."""
    exposure_log: Path | None = None
    """Where the instrument keeps its own record of beam and scans; nowhere when not given."""
