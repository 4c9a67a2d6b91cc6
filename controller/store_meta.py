"""What the run file says about sample, operator, instrument and detectors."""

from __future__ import annotations

import json
from typing import Any

import h5py

from controller.config import RunConfig
from drivers.instrument import DetectorPart
from drivers.vocabulary import Calibration, DetectorInfo, utc_now

_FIELDS = ("mrad_per_px", "rotation_deg", "flip", "scan_scale", "source", "date")


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.require_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _put(group: h5py.Group, name: str, value: Any, unit: str = "") -> None:
    """Write a value with its unit, unless there is none to write or it is there already."""
    if value is None or value == "" or name in group:
        return
    dataset = group.create_dataset(name, data=value)
    if unit:
        dataset.attrs["units"] = unit


def write_metadata(file: h5py.File, config: RunConfig, run_id: str) -> h5py.Group:
    """Write the groups every run has; return ``/entry``."""
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "probewise"})
    file.attrs["file_time"] = utc_now()
    entry = _group(file, "entry", "NXentry")
    part = config.experiment.experiment
    _put(entry, "title", part.name)
    _put(entry, "entry_identifier", run_id)
    _put(entry, "experiment_identifier", part.proposal)
    _put(entry, "experiment_description", part.note)
    _put(entry, "start_time", utc_now())
    _put(_group(entry, "sample", "NXsample"), "name", part.sample or "unnamed")
    _put(_group(entry, "user", "NXuser"), "name", part.operator or "unnamed")
    _write_instrument(entry, config)
    return entry


def _write_instrument(entry: h5py.Group, config: RunConfig) -> None:
    instrument, beam = config.instrument.instrument, config.instrument.beam
    group = _group(entry, "instrument", "NXinstrument")
    _put(group, "name", instrument.name)
    _put(group, "manufacturer", instrument.manufacturer)
    _put(group, "model", instrument.model)
    source = _group(group, "source", "NXsource")
    _put(source, "probe", "electron")
    _put(source, "energy", beam.energy_kV, "keV")
    _put(source, "voltage", beam.energy_kV, "kV")
    optics = _group(group, "beam", "NXbeam")
    _put(optics, "semiangle", beam.semiangle_mrad, "mrad")
    _put(optics, "current", beam.current_pA, "pA")
    _put(optics, "current_source", beam.current_source)
    _put(optics, "current_upper_bound", beam.upper_pA, "pA")
    _put(optics, "probe_size", beam.probe_size_nm, "nm")


def write_detector(entry: h5py.Group, info: DetectorInfo, config: RunConfig) -> None:
    """Write what a detector delivers and its calibration, unless that is there already."""
    if f"detector_{info.name}" in entry["instrument"]:
        return
    group = _group(entry["instrument"], f"detector_{info.name}", "NXdetector")
    _put(group, "kind", info.kind)
    _put(group, "dtype", info.dtype)
    _put(group, "frame_shape", info.frame_shape, "px")
    _put(group, "saturation_value", info.saturation, info.unit)
    _put(group, "unit", info.unit)
    for part in config.instrument.detector:
        if part.name == info.name:
            _write_geometry(group, part)
    calibration = _group(group, "calibration", "NXnote")
    for field in _FIELDS:
        _put(calibration, field, getattr(info.calibration, field))
    group.attrs["info"] = json.dumps(_plain(info))


def _write_geometry(group: h5py.Group, part: DetectorPart) -> None:
    _put(group, "camera_length", part.camera_length_mm, "mm")
    _put(group, "inner_angle", part.inner_mrad, "mrad")
    _put(group, "outer_angle", part.outer_mrad, "mrad")


def _plain(info: DetectorInfo) -> dict[str, Any]:
    """Return a detector's description as JSON can hold it."""
    return {
        "name": info.name,
        "kind": info.kind,
        "dtype": info.dtype,
        "frame_shape": info.frame_shape,
        "saturation": info.saturation,
        "unit": info.unit,
        "calibration": {field: getattr(info.calibration, field) for field in _FIELDS},
    }


def read_detector(entry: h5py.Group, name: str) -> DetectorInfo:
    """Return what `write_detector` wrote."""
    plain = json.loads(entry["instrument"][f"detector_{name}"].attrs["info"])
    shape = plain["frame_shape"]
    return DetectorInfo(
        **{
            **plain,
            "frame_shape": None if shape is None else (int(shape[0]), int(shape[1])),
            "calibration": Calibration(**plain["calibration"]),
        }
    )
