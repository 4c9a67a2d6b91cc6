"""Recorded files made up for tests, and instruments that replay them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from drivers.instrument import InstrumentConfig
from drivers.vocabulary import AnyArray, SubScan

FRAME_SHAPE = (6, 10)
"""Not square, so that swapped axes show."""


def instrument(
    channels: dict[str, dict[str, Any]],
    detectors: list[dict[str, Any]] | None = None,
    *,
    field_nm: tuple[float, float] = (1e3, 1e3),
    name: str = "replayed",
    **settings: Any,
) -> InstrumentConfig:
    """Return an instrument that replays these channels, one imaging detector each by default."""
    shown = detectors or [{"name": channel} for channel in channels]
    return InstrumentConfig.model_validate(
        {
            "instrument": {"name": name, "virtual": True, "serve": "in_process"},
            "scan": {"driver": "replay", "field_nm": field_nm, "min_dwell_us": 0.01},
            "detector": [{"driver": "replay", **detector} for detector in shown],
            "beam": {
                "driver": "replay",
                "energy_kV": 200.0,
                "semiangle_mrad": 20.0,
                "current_pA": 20.0,
            },
            "column": {"driver": "replay"},
            "limits": {"max_local_dose_e_per_A2": 1e9, "max_total_dose_e_per_A2": 1e9},
            "calibration": {"source": "made up", "date": "2020-01-02"},
            "drivers": {"replay": {"channels": channels, **settings}},
        }
    )


def save_npy(path: Path, array: AnyArray) -> str:
    """Save an array and return its path."""
    np.save(path, array, allow_pickle=False)
    return str(path)


def save_hspy(path: Path, array: AnyArray, axes: list[dict[str, Any]], title: str = "") -> Path:
    """Write the parts of hyperspy's layout that carry data, axes and title."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        group = file.create_group("Experiments/__unnamed__")
        group.create_dataset("data", data=array, compression="gzip")
        for number, axis in enumerate(axes):
            group.create_group(f"axis-{number}").attrs.update(axis)
        group.create_group("metadata/General").attrs["title"] = title
    return path


def mib_bytes(frames: AnyArray, kind: str, depth: int = 12) -> bytes:
    """Return (n, ny, nx) big-endian frames as a Merlin file has them."""
    out = b""
    _, ny, nx = frames.shape
    for number, frame in enumerate(frames, start=1):
        head = f"MQ1,{number:06d},00384,01,{nx:04d},{ny:04d},{kind},   1x1,01,2021-05-07 18:56:59"
        head += f".151103,0.1,0,MQ1A,2021-05-07T16:56:59.151103718Z,100000000ns,{depth},"
        out += head.encode().ljust(384, b"\0") + frame.tobytes()
    return out


def sub_scan(
    identity: str = "s-1",
    center_nm: tuple[float, float] = (0.0, 0.0),
    fov_nm: tuple[float, float] = (4.0, 6.0),
    shape: tuple[int, int] = (4, 6),
    dwell_us: float = 10.0,
    rotation_deg: float = 0.0,
) -> SubScan:
    """Return a sub-scan."""
    return SubScan(identity, center_nm, fov_nm, shape, dwell_us, rotation_deg)
