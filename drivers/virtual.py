"""The virtual microscope: simulated specimens behind the same interface as a real instrument."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from drivers.emulator.emergency import EmulatedEmergency
from drivers.emulator.room import Room
from drivers.emulator.session import EmulatedSession
from drivers.errors import DriverRefused
from drivers.instrument import DetectorPart, InstrumentConfig
from drivers.protocols import Emergency, Session
from drivers.virtual_settings import SpecimenSettings, VirtualSettings
from drivers.vocabulary import (
    AnyArray,
    Calibration,
    Clock,
    DetectorInfo,
    FloatArray,
    NmPair,
    SubScan,
    Truth,
)
from sim import scanner
from sim.counts import counts, electrons_per_position, rng_for
from sim.detector import Z_EXPONENT, Annulus
from sim.drift import Drift
from sim.faults import Fault, FaultPlan
from sim.imaging import IncoherentImage, grid_shape
from sim.probe import Probe
from sim.specimen import Specimen, batio3, graphene, with_margin, ws2_wse2

_BUILDERS: dict[str, Callable[..., Specimen]] = {
    "graphene": graphene,
    "batio3": batio3,
    "ws2_wse2": ws2_wse2,
}
_CHANNELS = {"haadf": "haadf", "maadf": "adf", "adf": "adf", "bf": "bf"}
_ANGLES_MRAD = {"haadf": (80.0, 200.0), "adf": (40.0, 80.0)}
"""Rings of detectors whose angles the instrument file does not give."""
_HAADF_FROM = 2.0
"""A ring that starts past this many convergence semi-angles counts as high-angle."""


@lru_cache(maxsize=4)
def build_specimen(settings: SpecimenSettings, field_nm: NmPair, seed: int) -> Specimen:
    """Return the specimen of these settings; the same object for the same arguments.

    Raises
    ------
    DriverRefused
        If it can't be built, e.g. because its defects do not fit into the field.
    """
    options = settings.model_dump(exclude={"kind"})
    try:
        return _BUILDERS[settings.kind](field_nm, seed=seed, **options)
    except ValueError as error:
        raise DriverRefused(f"[drivers.virtual] specimen: {error}") from error


def read_settings(instrument: InstrumentConfig) -> VirtualSettings:
    """Return the driver's settings from an instrument file.

    Raises
    ------
    DriverRefused
        If a key is unknown or a value out of range; all of them are named.
    """
    try:
        return VirtualSettings.model_validate(instrument.drivers.get("virtual", {}))
    except ValidationError as error:
        wrong = "; ".join(f"{_key(one['loc'])}: {one['msg']}" for one in error.errors())
        raise DriverRefused(f"[drivers.virtual]: {wrong}") from error


def _key(place: tuple[int | str, ...]) -> str:
    return ".".join(map(str, place)) or "table"


def annulus_of(part: DetectorPart, semiangle_mrad: float) -> Annulus:
    """Return the angles a detector collects, from its channel (or name) and its angles.

    Raises
    ------
    DriverRefused
        If it is not an imaging detector, or not one that incoherent imaging can describe.
    """
    where = f"detector '{part.name}'"
    if part.kind != "image":
        raise DriverRefused(
            f"{where}: the virtual microscope has imaging detectors; "
            "use a replayed 4D set for a pixelated one"
        )
    kind = _CHANNELS.get((part.channel or part.name).lower())
    if kind is None and part.inner_mrad is not None:
        kind = "bf" if part.inner_mrad == 0 else "adf"
        kind = "haadf" if part.inner_mrad >= _HAADF_FROM * semiangle_mrad else kind
    if kind is None:
        raise DriverRefused(
            f"{where}: give its inner_mrad and outer_mrad, or one of the channels "
            f"{', '.join(_CHANNELS)}"
        )
    inner, outer = _ANGLES_MRAD.get(kind, (0.0, semiangle_mrad))
    inner = inner if part.inner_mrad is None else part.inner_mrad
    outer = outer if part.outer_mrad is None else part.outer_mrad
    if 0 < inner <= semiangle_mrad or (inner == 0 and kind != "bf"):
        raise DriverRefused(
            f"{where}: a ring must start outside the bright disc of {semiangle_mrad:g} mrad, "
            f"this one starts at {inner:g}; phase contrast is not simulated"
        )
    try:
        return Annulus(inner, outer, Z_EXPONENT[kind])
    except ValueError as error:
        raise DriverRefused(f"{where}: {error}") from error


class SimulatedScene:
    """Renders sub-scans of a simulated specimen; implements `drivers.emulator.scene.Scene`.

    Parameters
    ----------
    instrument : InstrumentConfig
        How the instrument is set up; its scan field is the specimen's field.
    started_at_s : float
        Reading of the instrument's clock at which drift is zero.

    Raises
    ------
    DriverRefused
        If the settings, a detector or the specimen can't be had.
    """

    def __init__(self, instrument: InstrumentConfig, started_at_s: float = 0.0) -> None:
        settings = read_settings(instrument)
        self.field_nm: NmPair = instrument.scan.field_nm
        self.probe = _probe(instrument, settings)
        self.specimen = build_specimen(settings.specimen, self.field_nm, settings.seed)
        self._scan = instrument.scan
        self._settings = settings
        self._started_at_s = started_at_s
        self._drift = Drift(**settings.drift.model_dump(), seed=settings.seed)
        self._lock = threading.Lock()
        self._images: dict[Annulus, IncoherentImage] = {}
        parts = [part for part in instrument.detector if part.driver == "virtual"]
        self.detectors = {part.name: _info(part) for part in parts}
        self._annuli = {part.name: annulus_of(part, self.probe.semiangle_mrad) for part in parts}

    def image(
        self, sub_scan: SubScan, detector: str, *, current_pA: float, time_s: float
    ) -> AnyArray:
        """Return the (ny, nx) counts of a sub-scan in scan coordinates."""
        annulus, info = self._annuli[detector], self.detectors[detector]
        depth = self._image_under(annulus).sample(self.probe_positions_nm(sub_scan, time_s))
        return counts(
            annulus.fraction(depth),
            electrons_per_position(current_pA, sub_scan.dwell_us),
            rng_for(self._settings.seed, sub_scan.id, stream=detector),
            dtype=info.dtype,
            saturation=info.saturation,
        )

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
        """Refuse: there are no pixelated detectors here.

        Raises
        ------
        DriverRefused
            Always.
        """
        raise DriverRefused(f"detector '{detector}' of the virtual microscope gives no patterns")

    def probe_positions_nm(self, sub_scan: SubScan, time_s: float) -> FloatArray:
        """Return where on the specimen the probe really dwells: (ny, nx, 2), (y, x) in nm.

        The specimen moves under the scan by the drift; scan errors move the probe itself.
        """
        timing = sub_scan.shape, sub_scan.dwell_us, self._scan.settle_us, self._scan.flyback_us
        elapsed_s = scanner.position_times_s(*timing)
        knots_s = np.append(scanner.line_starts_s(*timing), scanner.beam_on_s(*timing))
        drift_nm = self.drift_nm(time_s + knots_s)
        moved_nm = np.stack([np.interp(elapsed_s, knots_s, drift_nm[:, i]) for i in (0, 1)], -1)
        errors_nm = scanner.scan_errors_nm(
            sub_scan.shape,
            rng_for(self._settings.seed, sub_scan.id, stream="scan errors"),
            dwell_us=sub_scan.dwell_us,
            rotation_deg=sub_scan.rotation_deg,
            **self._settings.scan_errors.model_dump(),
        )
        return np.asarray(sub_scan.positions_nm() + errors_nm - moved_nm)

    def drift_nm(self, time_s: float | FloatArray) -> FloatArray:
        """Return how far the specimen has moved at times of the instrument's clock: (..., 2)."""
        return self._drift.displacement_nm(np.asarray(time_s) - self._started_at_s)

    def _image_under(self, annulus: Annulus) -> IncoherentImage:
        """Return the specimen's image for a detector, computed on first use."""
        with self._lock:
            if annulus not in self._images:
                atoms = self.specimen
                strength = annulus.cross_sections_nm2(atoms.atomic_numbers, self.probe.energy_kV)
                self._images[annulus] = IncoherentImage(
                    atoms.positions_nm, strength * atoms.multiplicity, atoms.size_nm, self.probe
                )
            return self._images[annulus]


def _probe(instrument: InstrumentConfig, settings: VirtualSettings) -> Probe:
    """Return the probe, having made sure that it can image the whole specimen."""
    beam = instrument.beam
    size_nm = with_margin(instrument.scan.field_nm, settings.specimen.margin_nm)
    try:
        probe = Probe(
            beam.energy_kV,
            beam.semiangle_mrad,
            settings.source_fwhm_nm,
            settings.defocus_nm,
            settings.cs_um,
        )
        grid_shape(size_nm, probe)
    except ValueError as error:
        raise DriverRefused(f"[drivers.virtual]: {error}") from error
    return probe


def _info(part: DetectorPart) -> DetectorInfo:
    return DetectorInfo(
        name=part.name,
        kind="image",
        dtype=part.dtype or "uint32",
        saturation=part.saturation,
        unit="electrons",
        calibration=Calibration(rotation_deg=part.rotation_deg, flip=part.flip),
    )


class VirtualDriver:
    """The driver ``virtual``."""

    name = "virtual"
    summary = "simulated specimens (graphene, BaTiO3, WS2/WSe2) under a simulated probe"
    emulated = True
    settings = VirtualSettings

    def open(self, instrument: InstrumentConfig, clock: Clock) -> Session:
        """Return a session, not yet connected, with the instrument in this process."""
        read_settings(instrument)
        return EmulatedSession(instrument, lambda: self.room(instrument, clock), driver=self.name)

    def emergency(self, instrument: InstrumentConfig) -> Emergency:
        """Return the way to park the instrument that is alive in this process."""
        return EmulatedEmergency(instrument)

    def room(
        self, instrument: InstrumentConfig, clock: Clock, exposure_log: Path | None = None
    ) -> Room:
        """Build the instrument: blanked, parked, leased to nobody.

        Raises
        ------
        DriverRefused
            If the settings, a detector or the specimen can't be had.
        """
        settings = read_settings(instrument)
        faults = [Fault(**fault.model_dump()) for fault in settings.faults]
        return Room(
            instrument,
            SimulatedScene(instrument, clock.now()),
            clock,
            exposure_log=exposure_log or settings.exposure_log,
            faults=FaultPlan(faults, settings.seed),
            prerender=settings.prerender,
        )

    def truth(self, instrument: InstrumentConfig) -> Truth:
        """Return the targets of the instrument's specimen."""
        settings = read_settings(instrument)
        specimen = build_specimen(settings.specimen, instrument.scan.field_nm, settings.seed)
        return Truth(specimen.target_label, specimen.targets_nm)


DRIVER = VirtualDriver()
