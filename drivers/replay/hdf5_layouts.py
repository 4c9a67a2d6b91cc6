"""Where HDF5 files of different programs keep their calibrations."""

from __future__ import annotations

import json
from contextlib import suppress

import h5py
import numpy as np

from drivers.replay.units import Scales, scales_of


def text_of(value: object) -> str:
    """Return an HDF5 string, which may come as bytes, as text; "" for anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else ""


def hyperspy_scales(data: h5py.Dataset) -> Scales:
    """Read the ``axis-N`` groups beside the data of a hyperspy file.

    N counts the array's axes, navigation axes first, in all versions of the layout. Axes without
    units (old files) and in units that are no length give no scale.
    """
    steps, units = [], []
    for number in range(data.ndim):
        axis = data.parent.get(f"axis-{number}")
        if axis is None:
            return Scales()
        if int(axis.attrs.get("size", data.shape[number])) > 1:
            steps.append(float(axis.attrs.get("scale", 0.0)))
            units.append(text_of(axis.attrs.get("units", "")))
    return scales_of(steps, units)


def hyperspy_title(data: h5py.Dataset) -> str:
    """Return the title in a hyperspy file's metadata, or the experiment's name, or ""."""
    general = data.parent.get("metadata/General")
    title = text_of(general.attrs.get("title", "")) if general is not None else ""
    inside = str(data.parent.name).startswith("/Experiments/")
    name = str(data.parent.name).rsplit("/", 1)[-1] if inside else ""
    return title or ("" if name == "__unnamed__" else name)


def nexus_scales(data: h5py.Dataset) -> Scales:
    """Read the ``axes`` of the NXdata group that holds the data."""
    names = [text_of(name) for name in np.atleast_1d(data.parent.attrs.get("axes", []))]
    if len(names) != data.ndim:
        return Scales()
    steps, units = [], []
    for name in names:
        axis = data.parent.get(name)
        if not isinstance(axis, h5py.Dataset) or axis.ndim != 1 or axis.dtype.kind not in "iuf":
            return Scales()
        values = np.asarray(axis[()], dtype=np.float64)
        steps.append(float(np.median(np.diff(values))) if values.size > 1 else 0.0)
        units.append(text_of(axis.attrs.get("units", "")))
    return scales_of(steps, units)


def pycroscopy_scales(data: h5py.Dataset, file: h5py.File, shape: tuple[int, ...]) -> Scales:
    """Read the field of view from the ``scan size`` of a pycroscopy file.

    These files give it as text in nm ("4.0") or as a number in pm (2000.0), along x, in the JSON
    ``metadata`` or as an attribute of the data. Pixels are square.
    """
    holder: object = data.attrs.get("metadata", None)
    if holder is None and isinstance(file.get("metadata"), h5py.Dataset):
        holder = file["metadata"][()]
    size: object = data.attrs.get("scan size", None)
    with suppress(ValueError):  # the metadata need not be JSON
        found = json.loads(text_of(holder))
        size = found.get("scan size", size) if isinstance(found, dict) else size
    if isinstance(size, str):
        return scales_of([_number(size) / shape[1]] * 2, ["nm", "nm"])
    if isinstance(size, int | float | np.number):
        return scales_of([float(size) / shape[1]] * 2, ["pm", "pm"])
    return Scales()


def _number(text: str) -> float:
    """Return a number written as text, 0 when it is none."""
    try:
        return float(text)
    except ValueError:
        return 0.0
