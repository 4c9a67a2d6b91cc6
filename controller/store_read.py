"""Reading sub-scans back from a run file, finished or not, and comparing it with the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # registers the filter the frames are compressed with
import numpy as np
from filelock import FileLock, Timeout

from controller.errors import StoreError
from controller.rundir import RunFolder
from controller.state import RunState
from controller.store_commit import complete, side_file
from controller.store_layout import COLUMNS, ENTRY
from controller.store_meta import read_detector
from drivers.vocabulary import AnyArray, SubScan, SubScanData

__all__ = ["StoredSubScan", "hdf5plugin", "iterate_stored", "list_stored", "read_sub_scan"]

_COMMIT_S = 2.0
"""How long a commit of a living writer may take."""
WHOLE = -1
"""In place of a row: the dataset holds this one sub-scan alone."""


@dataclass(frozen=True, slots=True)
class StoredSubScan:
    """A sub-scan in a run file: its frames are read by `read_sub_scan`.

    ``rows`` holds the dataset path and the row (or `WHOLE`) by detector name.
    """

    sub_scan: SubScan
    purpose: str
    order: int
    rows: dict[str, tuple[str, int]]


def data_file(folder: RunFolder) -> Path:
    """Return the run file, finished or still written.

    Raises
    ------
    StoreError
        If there is none.
    """
    for path in (folder.data, folder.data_part):
        if path.exists():
            return path
    raise StoreError(f"{folder.path} has no run.nxs: no frames were stored in this run")


def writer_lock(folder: RunFolder) -> Path:
    """Return the lock that whoever writes the run file holds."""
    return folder.path / "run.nxs.lock"


def _settled(folder: RunFolder, path: Path) -> None:
    """Wait for a commit in progress, or complete that of a writer that was killed."""
    give_up = time.monotonic() + _COMMIT_S
    while side_file(path).exists():
        with suppress(Timeout), FileLock(writer_lock(folder)).acquire(timeout=0):
            complete(path)
        if time.monotonic() > give_up:
            raise StoreError(f"{path} is being written by a controller that does not get on")
        time.sleep(0.001)


@contextmanager
def opened(folder: RunFolder) -> Iterator[h5py.File]:
    """Open a run file for reading, also while a run still writes it.

    Raises
    ------
    StoreError
        If there is none, or it can't be read.
    """
    path = data_file(folder)
    _settled(folder, path)
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise StoreError(
            f"{path} can't be read: {error}; if a run is still writing it, wait for the next "
            "sub-scan, else restore it from a copy"
        ) from error
    with file:
        yield file


def index(file: h5py.File) -> dict[str, StoredSubScan]:
    """Return what an open run file holds, by id, in the order of storing."""
    found: dict[str, StoredSubScan] = {}
    for group in file[ENTRY].values():
        role = group.attrs.get("role")
        rows = _stack_rows(group) if role == "subscans" else []
        if role == "survey":
            rows = [({name: group.attrs[name] for name in COLUMNS}, WHOLE)]
        for values, row in rows:
            stored = _stored(values)
            known = found.setdefault(stored.sub_scan.id, stored)
            # the row's shape is that of the frames, not of any column
            known.rows[str(group.attrs["detector"])] = (f"{group.name}/data", row)
    shaped = {key: _with_shape(file, each) for key, each in found.items()}
    return dict(sorted(shaped.items(), key=lambda item: item[1].order))


def _stack_rows(group: h5py.Group) -> list[tuple[dict[str, Any], int]]:
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        text = name in ("sub_scan_id", "purpose")
        columns[name] = group[name].asstr()[()] if text else group[name][()]
    n = min(len(group["data"]), *(len(column) for column in columns.values()))
    rows = [({name: column[row] for name, column in columns.items()}, row) for row in range(n)]
    return [(values, row) for values, row in rows if values["sub_scan_id"]]


def _stored(values: dict[str, Any]) -> StoredSubScan:
    sub_scan = SubScan(
        id=str(values["sub_scan_id"]),
        center_nm=_pair(values["position_nm"]),
        fov_nm=_pair(values["fov_nm"]),
        shape=(1, 1),
        dwell_us=float(values["dwell_us"]),
        rotation_deg=float(values["rotation_deg"]),
    )
    return StoredSubScan(sub_scan, str(values["purpose"]), int(values["order"]), {})


def _pair(value: Any) -> tuple[float, float]:
    return float(value[0]), float(value[1])


def _with_shape(file: h5py.File, stored: StoredSubScan) -> StoredSubScan:
    path, row = next(iter(stored.rows.values()))
    shape = file[path].shape if row == WHOLE else file[path].shape[1:]
    sub_scan = replace(stored.sub_scan, shape=(int(shape[0]), int(shape[1])))
    return replace(stored, sub_scan=sub_scan)


def load(file: h5py.File, stored: StoredSubScan) -> SubScanData:
    """Return the frames of one sub-scan as they came off the detectors."""
    frames: dict[str, AnyArray] = {}
    detectors = {}
    for name, (path, row) in stored.rows.items():
        block = np.asarray(file[path][()] if row == WHOLE else file[path][row])
        info = read_detector(file[ENTRY], name)
        frames[name] = block[None] if info.kind == "image" else block.reshape(-1, *block.shape[2:])
        detectors[name] = info
    return SubScanData(stored.sub_scan, frames, detectors)


def find(file: h5py.File, sub_scan_id: str) -> StoredSubScan:
    """Return where a sub-scan is.

    Raises
    ------
    StoreError
        If it is not in the file.
    """
    known = index(file)
    if sub_scan_id not in known:
        some = ", ".join(list(known)[-5:]) or "none"
        raise StoreError(f"{file.filename} holds no sub-scan '{sub_scan_id}' (last ones: {some})")
    return known[sub_scan_id]


def read_sub_scan(folder: RunFolder, sub_scan_id: str) -> SubScanData:
    """Return a stored sub-scan (or survey, or anchor) by its id.

    Raises
    ------
    StoreError
        If it is not stored, or the run file can't be read.
    """
    with opened(folder) as file:
        return load(file, find(file, sub_scan_id))


def list_stored(folder: RunFolder) -> list[StoredSubScan]:
    """Return what is in the run file, in the order of storing; nothing if there is no file."""
    if not (folder.data.exists() or folder.data_part.exists()):
        return []
    with opened(folder) as file:
        return list(index(file).values())


def iterate_stored(folder: RunFolder) -> Iterator[tuple[StoredSubScan, SubScanData]]:
    """Yield each stored sub-scan with its frames, in the order of storing.

    No file stays open between two of them.
    """
    for stored in list_stored(folder):
        with opened(folder) as file:
            data = load(file, stored)
        yield stored, data


def reconcile(folder: RunFolder, state: RunState) -> list[str]:
    """Return the ids in the run file that the journal does not know as stored.

    Raises
    ------
    StoreError
        If the journal says of a sub-scan that it is stored and its frames are not there.
    """
    present = [stored.sub_scan.id for stored in list_stored(folder)]
    told = {outcome.id for outcome in state.outcomes.values() if outcome.stored}
    lost = sorted(told - set(present))
    if lost:
        raise StoreError(
            f"{folder.path}: the journal says that {', '.join(lost)} are stored, but run.nxs does "
            "not hold them: the file was changed or replaced; restore it from a copy"
        )
    return [each for each in present if each not in told]
