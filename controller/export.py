"""Export of stored sub-scans to EMD 1.0, for py4DSTEM and other programs that read it.

The format is that of the emdfile package (github.com/py4dstem/emdfile), written with h5py alone:
one root, one array with a calibrated vector per axis, and a bundle of metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np

from controller.errors import ExportError, StoreError
from controller.rundir import RunFolder
from controller.store_layout import ENTRY, camera_axes, scan_axes
from controller.store_meta import read_detector
from controller.store_read import WHOLE, StoredSubScan, find, index, opened
from drivers.vocabulary import DetectorInfo, FloatArray

_UNITS = {"nm": "nm", "mrad": "mrad", "px": "pixels", "": ""}
Axes = dict[str, tuple[FloatArray, str]]


def export_emd(
    folder: RunFolder, target: Path, detector: str, *, sub_scan_id: str | None = None
) -> Path:
    """Write the frames of one detector as an EMD 1.0 file.

    Parameters
    ----------
    folder : RunFolder
    target : Path
        A file that does not exist yet.
    detector : str
    sub_scan_id : str, optional
        Export this one alone: an image (y, x), or a py4DSTEM DataCube (y, x, qy, qx). By default
        all sub-scans of the configured geometry, stacked along a leading axis "step".

    Raises
    ------
    ExportError
        If the target exists or can't be written, or the detector recorded nothing to export.
    StoreError
        If the sub-scan is not stored, or the run file can't be read.
    """
    if target.exists():
        raise ExportError(f"{target} exists already and is not overwritten: choose another name")
    part = target.with_name(target.name + ".part")
    with opened(folder) as source:
        path, row, axes, info, metadata = _select(source, detector, sub_scan_id)
        metadata |= {"run": folder.path.name, **_instrument(source)}
        name = "datacube" if row is not None and info.kind == "pixelated" else detector
        try:
            with h5py.File(part, "w") as file:
                group = _new_array(file, name, axes, info.unit)
                _copy(source[path], row, group)
                _write_metadata(group, "probewise", "Metadata", metadata)
                if name == "datacube":
                    _write_calibration(group, axes, info)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ExportError(f"{target} can't be written: {error}") from error
    return target


Selected = tuple[str, int | None, Axes, DetectorInfo, dict[str, Any]]


def _select(source: h5py.File, detector: str, sub_scan_id: str | None) -> Selected:
    """Return dataset, row (None: all of it), axes, detector and metadata of what is wanted."""
    known = sorted({name for each in index(source).values() for name in each.rows})
    if detector not in known:
        there = ", ".join(known) or "none"
        raise ExportError(f"no frames of a detector '{detector}' are stored; there are {there}")
    info = read_detector(source[ENTRY], detector)
    if sub_scan_id is not None:
        return _one(find(source, sub_scan_id), info)
    path = f"{ENTRY}/subscans_{detector}/data"
    if path not in source:
        raise ExportError(
            f"detector '{detector}' recorded no sub-scan of the configured geometry: name one "
            "sub-scan to export it alone"
        )
    group = source[path].parent
    axes: Axes = {"step": (np.arange(len(group["data"]), dtype=np.float64), "")}
    for name in (each for each in ("y", "x", "qy", "qx") if each in group):
        axes[name] = (group[name][()], str(group[name].attrs["units"]))
    places = group["position_nm"][()]
    ids = ",".join(group["sub_scan_id"].asstr()[()])
    metadata = {"sub_scan_ids": ids, "position_y_nm": places[:, 0], "position_x_nm": places[:, 1]}
    return path, None, axes, info, metadata


def _one(stored: StoredSubScan, info: DetectorInfo) -> Selected:
    if info.name not in stored.rows:
        raise StoreError(
            f"sub-scan {stored.sub_scan.id} was not recorded by '{info.name}' but by "
            f"{', '.join(stored.rows)}"
        )
    path, row = stored.rows[info.name]
    scan = stored.sub_scan
    axes = {**scan_axes(scan, absolute=False), **camera_axes(info)}
    metadata = {
        "sub_scan_id": scan.id,
        "purpose": stored.purpose,
        "position_y_nm": scan.center_nm[0],
        "position_x_nm": scan.center_nm[1],
        "rotation_deg": scan.rotation_deg,
        "dwell_us": scan.dwell_us,
    }
    return path, row, axes, info, metadata


def _instrument(source: h5py.File) -> dict[str, Any]:
    instrument = source[ENTRY]["instrument"]
    found = {"voltage_kV": float(instrument["source/voltage"][()])}
    found["semiangle_mrad"] = float(instrument["beam/semiangle"][()])
    return found


def _new_array(file: h5py.File, name: str, axes: Axes, unit: str) -> h5py.Group:
    """Write the tree down to the array's axes; return its group."""
    file.attrs.update(
        {
            "emd_group_type": "file",
            "version_major": 1,
            "version_minor": 0,
            "authoring_program": "probewise",
            "authoring_user": "",
            "UUID": str(uuid4()),
        }
    )
    root = file.create_group("probewise_root")
    root.attrs.update({"emd_group_type": "root", "python_class": "Root"})
    group = root.create_group(name)
    kind = "DataCube" if name == "datacube" else "Array"
    group.attrs.update({"emd_group_type": "array", "python_class": kind, "units": unit})
    names = {"y": "Rx", "x": "Ry", "qy": "Qx", "qx": "Qy"} if kind == "DataCube" else {}
    for number, (axis, (values, axis_unit)) in enumerate(axes.items()):
        dimension = group.create_dataset(f"dim{number}", data=values)
        dimension.attrs.update({"name": names.get(axis, axis), "units": _UNITS[axis_unit]})
    return group


def _copy(source: h5py.Dataset, row: int | None, group: h5py.Group) -> None:
    """Copy frames one step at a time, so that a large stack needs little memory."""
    if row is not None:
        group.create_dataset("data", data=source[()] if row == WHOLE else source[row])
    else:
        data = group.create_dataset("data", shape=source.shape, dtype=source.dtype)
        for step in range(len(source)):
            data[step] = source[step]
    group["data"].attrs["units"] = group.attrs["units"]


def _write_calibration(group: h5py.Group, axes: Axes, info: DetectorInfo) -> None:
    """Write the calibration py4DSTEM looks for at the root, where pixels are taken as square."""
    sizes = {name: _pitch(values) for name, (values, _) in axes.items()}
    written = _write_metadata(
        group.parent,
        "calibration",
        "Calibration",
        {
            "Q_pixel_size": sizes["qx"] or sizes["qy"] or 1.0,
            "Q_pixel_units": _UNITS[axes["qx"][1]],
            "R_pixel_size": sizes["x"] or sizes["y"] or 1.0,
            "R_pixel_units": _UNITS[axes["x"][1]],
            "QR_rotation_degrees": info.calibration.rotation_deg,
            "QR_flip": info.calibration.flip,
            "_root_treepath": "",
        },
    )
    targets = written.create_group("_target_paths")
    targets.attrs.update({"type": "list_of_strings", "length": 1})
    targets.create_dataset("0", data=b"/datacube")


def _pitch(values: FloatArray) -> float:
    """Return the distance of neighbours, 0 for a single value."""
    return float(values[1] - values[0]) if len(values) > 1 else 0.0


def _write_metadata(
    group: h5py.Group, name: str, python_class: str, metadata: dict[str, Any]
) -> h5py.Group:
    bundle = group.create_group("metadatabundle")
    bundle.attrs["emd_group_type"] = "metadatabundle"
    written = bundle.create_group(name)
    written.attrs.update({"emd_group_type": "metadata", "python_class": python_class})
    for key, value in metadata.items():
        stored = value.encode() if isinstance(value, str) else value
        written.create_dataset(key, data=stored).attrs["type"] = _kind(value)
    return written


def _kind(value: Any) -> str:
    """Return what emdfile calls the type of a value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, np.ndarray):
        return "array"
    return "string" if isinstance(value, str) else "number"
