"""A scene whose frames say where they come from, and instruments and a driver round it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from drivers.emulator.emergency import EmulatedEmergency
from drivers.emulator.faults import Faults
from drivers.emulator.room import Room
from drivers.emulator.session import EmulatedSession
from drivers.instrument import InstrumentConfig
from drivers.protocols import Emergency, Session
from drivers.vocabulary import AnyArray, Clock, DetectorInfo, NmPair, SubScan

CAMERA_SHAPE = (6, 10)
"""Not square, so that swapped axes show."""


class MarkedScene:
    """Image pixels count positions; camera frames carry their own index and a ramp along x."""

    field_nm: NmPair = (20.0, 30.0)

    def __init__(self) -> None:
        self.detectors = {
            "haadf": DetectorInfo("haadf", "image", "uint16"),
            "bf": DetectorInfo("bf", "image", "float32"),
            "camera": DetectorInfo("camera", "pixelated", "uint16", CAMERA_SHAPE),
        }

    def image(
        self, sub_scan: SubScan, detector: str, *, current_pA: float, time_s: float
    ) -> AnyArray:
        counts = np.arange(1, sub_scan.n_positions + 1).reshape(sub_scan.shape)
        return counts if current_pA > 0 else np.zeros(sub_scan.shape)

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
        index = np.arange(first, stop)[:, None, None] * 10
        frames = np.broadcast_to(index + np.arange(CAMERA_SHAPE[1]), (stop - first, *CAMERA_SHAPE))
        return frames if current_pA > 0 else np.zeros_like(frames)


def instrument(name: str = "scene", **beam: Any) -> InstrumentConfig:
    """Return an instrument with two imaging detectors and a camera, all by the driver `scene`."""
    tables = {
        "instrument": {"name": name, "virtual": True},
        "scan": {"driver": "scene", "field_nm": [20.0, 30.0], "settle_us": 50, "flyback_us": 20},
        "detector": [
            {"name": "haadf", "driver": "scene", "dtype": "uint16"},
            {"name": "bf", "driver": "scene", "dtype": "float32"},
            {"name": "camera", "driver": "scene", "kind": "pixelated", "frame_shape": CAMERA_SHAPE},
        ],
        "beam": {
            "driver": "scene", "energy_kV": 60, "semiangle_mrad": 30, "current_pA": 20, **beam,
        },
        "column": {"driver": "scene"},
        "limits": {"max_local_dose_e_per_A2": 1e6, "max_total_dose_e_per_A2": 1e6},
    }  # fmt: skip
    return InstrumentConfig.model_validate(tables)


class SceneSettings(BaseModel):
    """The scene needs no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneDriver:
    """A driver over `MarkedScene`."""

    name = "scene"
    summary = "frames that say where they come from"
    emulated = True
    settings: type[BaseModel] = SceneSettings

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        prerender: bool = False,
        exposure_log: Path | None = None,
    ) -> None:
        self._faults = faults
        self._exposure_log = exposure_log
        self._prerender = prerender

    def room(
        self, instrument: InstrumentConfig, clock: Clock, exposure_log: Path | None = None
    ) -> Room:
        return Room(
            instrument,
            MarkedScene(),
            clock,
            exposure_log=exposure_log or self._exposure_log,
            faults=self._faults,
            prerender=self._prerender,
        )

    def open(self, instrument: InstrumentConfig, clock: Clock) -> Session:
        return EmulatedSession(instrument, lambda: self.room(instrument, clock), driver=self.name)

    def emergency(self, instrument: InstrumentConfig) -> Emergency:
        return EmulatedEmergency(instrument)
