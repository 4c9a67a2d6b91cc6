"""Descriptions in the run file: latents and summaries, one group per encoder version.

``/entry/description/v<version>`` holds ``z`` and ``positions_nm`` of all described positions, one
below the other, and one row per sub-scan that says which of them are its own. Nothing is deleted:
a new encoder version adds a group, and ``current_version`` says which one holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from controller.errors import StoreError
from controller.store_layout import TEXT
from drivers.vocabulary import AnyArray, FloatArray
from models.descriptors.protocols import Description

_ROWS: dict[str, Any] = {
    "sub_scan_id": TEXT,
    "first_row": np.int64,
    "n_rows": np.int64,
    "health_ok": np.bool_,
    "health_score": np.float64,
}


class DescriptionTable:
    """Appends descriptions under ``/entry/description``.

    Parameters
    ----------
    entry : h5py.Group
        ``/entry`` of an open run file.
    """

    def __init__(self, entry: h5py.Group) -> None:
        self._entry = entry
        self._rows: dict[int, dict[str, int]] = {}
        """Row of each sub-scan, by encoder version."""

    def append(self, sub_scan_id: str, description: Description) -> None:
        """Add the latents and the summary of one sub-scan."""
        group = self._version(description.version, description.names)
        first = self._append_latents(group, description.z, description.positions_nm)
        self._set_row(
            group,
            sub_scan_id,
            description.summary,
            {
                "first_row": first,
                "n_rows": len(description.z),
                "health_ok": description.health.ok,
                "health_score": description.health.score,
            },
        )

    def relabel(
        self, version: int, names: tuple[str, ...], summaries: Mapping[str, FloatArray]
    ) -> None:
        """Set the summaries of many sub-scans under one version, which then holds."""
        group = self._version(version, names)
        for key, summary in summaries.items():
            self._set_row(group, key, summary, {"health_ok": True})

    def _version(self, version: int, names: tuple[str, ...]) -> h5py.Group:
        parent = self._entry.require_group("description")
        parent.attrs["NX_class"] = "NXcollection"
        parent.attrs["current_version"] = version
        if (key := f"v{version}") in parent:
            group: h5py.Group = parent[key]
            known = tuple(group["names"].asstr()[()])
            if known != names:
                raise StoreError(
                    f"encoder version {version} already describes by {', '.join(known)}, not by "
                    f"{', '.join(names)}: a change of names needs a new version"
                )
            ids = group["sub_scan_id"].asstr()[()]
            self._rows.setdefault(version, {name: row for row, name in enumerate(ids)})
            return group
        self._rows[version] = {}
        return _new_version(parent.create_group(key), version, names)

    def _append_latents(self, group: h5py.Group, z: FloatArray, positions: FloatArray) -> int:
        if "z" not in group:
            for name, values in (("z", z), ("positions_nm", positions)):
                width = values.shape[1]
                group.create_dataset(
                    name, shape=(0, width), maxshape=(None, width), dtype=np.float64
                )
            group["positions_nm"].attrs["units"] = "nm"
        first = min(len(group["z"]), len(group["positions_nm"]))
        for name, values in (("z", z), ("positions_nm", positions)):
            group[name].resize(first + len(values), axis=0)
            group[name][first:] = values
        return first

    def _set_row(
        self, group: h5py.Group, sub_scan_id: str, summary: FloatArray, values: dict[str, Any]
    ) -> None:
        """Write a sub-scan's row: in place where it has one, else at the end."""
        known = self._rows[int(group.attrs["encoder_version"])]
        row = known.setdefault(sub_scan_id, len(known))
        if row == len(group["summary"]):
            for name in (*_ROWS, "summary"):
                group[name].resize(row + 1, axis=0)
        group["sub_scan_id"][row] = sub_scan_id
        group["summary"][row] = summary
        for name, value in values.items():
            group[name][row] = value


def _new_version(group: h5py.Group, version: int, names: tuple[str, ...]) -> h5py.Group:
    group.attrs.update({"NX_class": "NXcollection", "encoder_version": version})
    group.create_dataset("names", data=np.array(names, dtype=h5py.string_dtype()))
    for name, dtype in _ROWS.items():
        group.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype)
    shape = (0, len(names))
    group.create_dataset("summary", shape=shape, maxshape=(None, len(names)), dtype=np.float64)
    return group


def read_latents(file: h5py.File, sub_scan_id: str, version: int | None = None) -> AnyArray | None:
    """Return the latents (n, d) of a sub-scan by one encoder version, by the present one if None.

    None when that version did not describe it.
    """
    parent = file["/entry"].get("description")
    if parent is None:
        return None
    group = parent.get(f"v{parent.attrs['current_version'] if version is None else version}")
    if group is None or "z" not in group:
        return None
    ids = list(group["sub_scan_id"].asstr()[()])
    if sub_scan_id not in ids:
        return None
    row = ids.index(sub_scan_id)
    first, n = int(group["first_row"][row]), int(group["n_rows"][row])
    return np.asarray(group["z"][first : first + n]) if n else None
