"""Names, axes and groups of the run file, after the NeXus conventions for images and stacks.

One growing stack per detector and geometry: ``/entry/subscans_<detector>`` for the configured
sub-scan, ``/entry/subscans_<detector>_<ny>x<nx>`` for others. A stack's columns all have one row
per sub-scan. Coordinates are specimen nm, (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from controller.errors import StoreError
from drivers.vocabulary import AnyArray, DetectorInfo, FloatArray, SubScan

ENTRY = "/entry"
ID_LENGTH = 64
TEXT = h5py.string_dtype("utf-8", ID_LENGTH)
_LINE_LIMIT = 4 * 2**20
"""A line of camera frames is one chunk up to this many bytes; above it each frame is."""
COLUMNS: dict[str, tuple[Any, tuple[int, ...], str]] = {
    "sub_scan_id": (TEXT, (), ""),
    "purpose": (TEXT, (), ""),
    "order": (np.int64, (), ""),
    "position_nm": (np.float64, (2,), "nm"),
    "fov_nm": (np.float64, (2,), "nm"),
    "rotation_deg": (np.float64, (), "deg"),
    "dwell_us": (np.float64, (), "us"),
}
"""dtype, shape of one row and unit of what is kept beside each sub-scan's frames."""


@dataclass(frozen=True, slots=True)
class StoredAt:
    """Where a sub-scan's frames are: dataset path and row by detector name, and their size."""

    datasets: dict[str, str]
    indices: dict[str, int]
    nbytes: int


def shaped(frames: AnyArray, info: DetectorInfo, sub_scan: SubScan) -> AnyArray:
    """Return a frame stack as one (ny, nx) image or one (ny, nx, qy, qx) block.

    Raises
    ------
    StoreError
        If the number or the shape of the frames is not what the detector delivers.
    """
    expected = (info.expected_frames(sub_scan), *info.expected_shape(sub_scan))
    if frames.shape != expected:
        raise StoreError(
            f"sub-scan {sub_scan.id}, detector '{info.name}': frames of shape {frames.shape} where "
            f"{expected} is expected; only whole sub-scans are stored, reject this one"
        )
    image = info.kind == "image"
    return np.asarray(frames[0] if image else frames.reshape(*sub_scan.shape, *frames.shape[1:]))


def chunks(block: AnyArray) -> tuple[int, ...]:
    """Return the chunk of one sub-scan in a stack: an image, a line of frames, or a frame."""
    if block.ndim == 2:
        return (1, *block.shape)
    line = (1, 1, *block.shape[1:])
    frame = (1, 1, 1, *block.shape[2:])
    return line if int(np.prod(line)) * block.itemsize <= _LINE_LIMIT else frame


def scan_axes(sub_scan: SubScan, *, absolute: bool) -> dict[str, tuple[FloatArray, str]]:
    """Return the pixel centres along y and x in nm, from the centre or in specimen nm."""
    axes = {}
    for name, n, size, center in zip(
        "yx", sub_scan.shape, sub_scan.fov_nm, sub_scan.center_nm, strict=True
    ):
        values = (np.arange(n) + 0.5) / n * size - size / 2
        axes[name] = (values + (center if absolute else 0.0), "nm")
    return axes


def camera_axes(info: DetectorInfo) -> dict[str, tuple[FloatArray, str]]:
    """Return a camera's pixel centres from the middle of the frame in mrad (px uncalibrated)."""
    if info.frame_shape is None:
        return {}
    scale = info.calibration.mrad_per_px
    unit = "px" if scale is None else "mrad"
    return {
        name: ((np.arange(n, dtype=np.float64) - (n - 1) / 2) * (scale or 1.0), unit)
        for name, n in zip(("qy", "qx"), info.frame_shape, strict=True)
    }


def new_nxdata(
    entry: h5py.Group,
    name: str,
    axes: dict[str, tuple[FloatArray, str]],
    *,
    leading: tuple[str, ...] = (),
    signal: str = "data",
) -> h5py.Group:
    """Make an NXdata group with its axes; ``leading`` names growing axes before them.

    ``interpretation`` stands on the group as well as on the dataset: NeXus wants the one,
    HyperSpy reads the other.
    """
    group = entry.create_group(name)
    names = [*leading, *axes]
    group.attrs.update({"NX_class": "NXdata", "signal": signal, "interpretation": "image"})
    group.attrs["axes"] = np.array(names, dtype=h5py.string_dtype())
    for index, axis in enumerate(names):
        group.attrs[f"{axis}_indices"] = index
    for axis, (values, unit) in axes.items():
        group.create_dataset(axis, data=values, maxshape=(None,)).attrs["units"] = unit
    return group


def new_frames(
    group: h5py.Group, shape: tuple[int, ...], block: AnyArray, unit: str, *, grows: bool
) -> h5py.Dataset:
    """Make the compressed dataset ``data``, one frame or one line of frames per chunk."""
    chunk = chunks(block)
    dataset = group.create_dataset(
        "data",
        shape=shape,
        maxshape=(None, *shape[1:]) if grows else shape,
        dtype=block.dtype,
        chunks=chunk if grows else chunk[1:],
        **hdf5plugin.Bitshuffle(cname="lz4"),
    )
    dataset.attrs.update({"interpretation": "image", "units": unit})
    return dataset


def new_stack(
    entry: h5py.Group, name: str, sub_scan: SubScan, info: DetectorInfo, block: AnyArray
) -> h5py.Group:
    """Make an empty stack for sub-scans of this geometry."""
    axes = {**scan_axes(sub_scan, absolute=False), **camera_axes(info)}
    group = new_nxdata(entry, name, axes, leading=("step",))
    group.attrs.update({"detector": info.name, "role": "subscans", "fov_nm": sub_scan.fov_nm})
    new_frames(group, (0, *block.shape), block, info.unit, grows=True)
    step = group.create_dataset("step", shape=(0,), maxshape=(None,), dtype=np.int64)
    step.attrs["units"] = ""
    for column, (dtype, row, unit) in COLUMNS.items():
        made = group.create_dataset(column, shape=(0, *row), maxshape=(None, *row), dtype=dtype)
        if unit:
            made.attrs["units"] = unit
    return group


def fits(group: h5py.Group, sub_scan: SubScan, detector: str, block: AnyArray) -> bool:
    """Say whether a sub-scan's frames can be appended to a stack with its axes staying true."""
    data = group["data"]
    if group.attrs["detector"] != detector:
        return False
    same_fov = np.allclose(group.attrs["fov_nm"], sub_scan.fov_nm, rtol=1e-9, atol=0)
    return bool(same_fov and data.shape[1:] == block.shape and data.dtype == block.dtype)


def row_values(sub_scan: SubScan, purpose: str, order: int) -> dict[str, Any]:
    """Return what is kept beside a sub-scan's frames, by column."""
    return {
        "sub_scan_id": sub_scan.id,
        "purpose": purpose,
        "order": order,
        "position_nm": sub_scan.center_nm,
        "fov_nm": sub_scan.fov_nm,
        "rotation_deg": sub_scan.rotation_deg,
        "dwell_us": sub_scan.dwell_us,
    }


def append_row(group: h5py.Group, block: AnyArray, values: dict[str, Any]) -> int:
    """Append one sub-scan to a stack; return its row."""
    row = int(group["data"].shape[0])
    for name in ("data", "step", *COLUMNS):
        group[name].resize(row + 1, axis=0)
    group["data"][row] = block
    group["step"][row] = row
    for name, value in values.items():
        group[name][row] = value
    return row


def trim(group: h5py.Group) -> int:
    """Cut a stack back to the rows that all its columns have; return how many were cut.

    After a crash a row may be there in part; it was never flushed, so nothing is lost.
    """
    lengths = [int(group[name].shape[0]) for name in ("data", "step", *COLUMNS)]
    rows = min(lengths)
    while rows and not group["sub_scan_id"].asstr()[rows - 1]:
        rows -= 1
    for name in ("data", "step", *COLUMNS):
        group[name].resize(rows, axis=0)
    return max(lengths) - rows


def new_survey(
    entry: h5py.Group, sub_scan: SubScan, info: DetectorInfo, block: AnyArray, order: int
) -> h5py.Dataset:
    """Write one detector's survey in specimen nm; return its dataset."""
    name, n = f"survey_{info.name}", 1
    while name in entry:
        n += 1
        name = f"survey_{info.name}_{n}"
    group = new_nxdata(entry, name, {**scan_axes(sub_scan, absolute=True), **camera_axes(info)})
    dataset = new_frames(group, block.shape, block, info.unit, grows=False)
    dataset[...] = block
    group.attrs.update(row_values(sub_scan, "survey", order))
    group.attrs.update({"detector": info.name, "role": "survey"})
    return dataset


def write_picture(
    entry: h5py.Group,
    name: str,
    axes: dict[str, tuple[FloatArray, str]],
    arrays: dict[str, tuple[FloatArray, str]],
) -> h5py.Group:
    """Write named (y, x) arrays in place of what was there, without wasting space."""
    if name in entry:
        group: h5py.Group = entry[name]
        for key, (values, _) in {**axes, **arrays}.items():
            group[key].resize(values.shape)
            group[key][...] = values
        return group
    group = new_nxdata(entry, name, axes, signal=next(iter(arrays)))
    for key, (values, unit) in arrays.items():
        dataset = group.create_dataset(key, data=values, maxshape=(None, None), chunks=values.shape)
        dataset.attrs.update({"interpretation": "image", "units": unit})
    others = list(arrays)[1:]
    if others:
        group.attrs["auxiliary_signals"] = np.array(others, dtype=h5py.string_dtype())
    return group
