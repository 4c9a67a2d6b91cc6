"""The run file ``run.nxs``: every frame, its geometry and its description, safe after each step.

Plain HDF5 in the NeXus manner that HyperSpy and LiberTEM open as it is. It is called
``run.nxs.part`` until it is closed as finished, and each sub-scan is committed as a whole, so that
what was stored survives a killed controller. One thread of one process writes.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import h5py
import numpy as np
from filelock import FileLock, Timeout

from controller.config import RunConfig
from controller.dose import DoseLedger
from controller.errors import StoreError
from controller.rundir import RunFolder
from controller.store_commit import CommittedFile, used_length
from controller.store_describe import DescriptionTable
from controller.store_layout import (
    ID_LENGTH,
    StoredAt,
    append_row,
    fits,
    new_stack,
    new_survey,
    row_values,
    shaped,
    trim,
    write_picture,
)
from controller.store_meta import write_detector, write_metadata
from controller.store_read import (
    WHOLE,
    StoredSubScan,
    index,
    iterate_stored,
    list_stored,
    load,
    read_sub_scan,
    reconcile,
    writer_lock,
)
from controller.store_space import reserve, settle
from drivers.vocabulary import AnyArray, DetectorInfo, FloatArray, SubScan, SubScanData, utc_now
from models.decision.protocols import Maps
from models.descriptors.protocols import Description

__all__ = [
    "RunStore",
    "StoreError",
    "StoredAt",
    "StoredSubScan",
    "iterate_stored",
    "list_stored",
    "read_sub_scan",
    "reconcile",
]
_SPARE_BYTES = 4 * 2**20
"""Reserved beyond the frames for columns, descriptions and HDF5's own tables."""


class RunStore:
    """Writes the run file; continues one that is there.

    Parameters
    ----------
    folder : RunFolder
    config : RunConfig
    detectors : mapping of str to DetectorInfo
        What each detector delivers; recorded with its calibration.

    Raises
    ------
    StoreError
        From the constructor and every method: the file can't be written, or what is given does
        not belong in it. Sub-scans stored before stay readable.
    """

    def __init__(
        self, folder: RunFolder, config: RunConfig, detectors: Mapping[str, DetectorInfo]
    ) -> None:
        self._folder = folder
        self._config = config
        self._file: h5py.File | None = None
        self._disk: CommittedFile | None = None
        self._lock = FileLock(writer_lock(folder), thread_local=False)
        self._failed = ""
        if folder.data.exists() and folder.data_part.exists():
            raise StoreError(
                f"{folder.path} holds both run.nxs and run.nxs.part: keep the one that belongs to "
                "this run and move the other away"
            )
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(f"{folder.path} is being written by another controller") from error
        if folder.data.exists():
            folder.data.replace(folder.data_part)
        try:
            with self._guarded("opened"):
                self._open(detectors)
        except StoreError:
            self._release()
            raise

    def _open(self, detectors: Mapping[str, DetectorInfo]) -> None:
        part = self._folder.data_part
        self._disk = CommittedFile(part)
        reserve(part, used_length(part) + _SPARE_BYTES)
        self._file = h5py.File(self._disk, "w" if self._disk.is_empty else "r+")
        atexit.register(self._release)
        self._entry = write_metadata(self._file, self._config, self._folder.path.name)
        for info in detectors.values():
            write_detector(self._entry, info, self._config)
        for group in self._entry.values():
            if group.attrs.get("role") == "subscans":
                trim(group)
        self._known = index(self._file)
        self._order = max((each.order for each in self._known.values()), default=-1) + 1
        self._descriptions = DescriptionTable(self._entry)
        self._commit()

    def write_survey(self, data: SubScanData) -> StoredAt:
        """Store the survey: one NXdata per detector in specimen nm."""
        blocks = self._blocks(data)
        with self._guarded(f"extended by survey {data.sub_scan.id}", _size(blocks)):
            rows = {}
            for name, block in blocks.items():
                info = data.detectors[name]
                write_detector(self._entry, info, self._config)
                made = new_survey(self._entry, data.sub_scan, info, block, self._order)
                rows[name] = (str(made.name), WHOLE)
            self._choose_default(f"survey_{next(iter(blocks))}", certain=False)
            self._commit()
        return self._stored(data.sub_scan, "survey", rows, blocks)

    def write(self, data: SubScanData, purpose: str) -> StoredAt:
        """Append a sub-scan to the stack of each of its detectors, and flush."""
        blocks = self._blocks(data)
        with self._guarded(f"extended by sub-scan {data.sub_scan.id}", _size(blocks)):
            rows = {}
            for name, block in blocks.items():
                info = data.detectors[name]
                write_detector(self._entry, info, self._config)
                group = self._stack(data.sub_scan, info, block)
                row = append_row(group, block, row_values(data.sub_scan, purpose, self._order))
                rows[name] = (f"{group.name}/data", row)
            self._commit()
        return self._stored(data.sub_scan, purpose, rows, blocks)

    def write_description(self, sub_scan_id: str, description: Description) -> None:
        """Store latents, positions and summary of a sub-scan under their encoder version."""
        size = description.z.nbytes + description.positions_nm.nbytes
        with self._guarded(f"extended by the description of {sub_scan_id}", size):
            self._descriptions.append(sub_scan_id, description)
            self._commit()

    def write_relabel(
        self, version: int, names: tuple[str, ...], summaries: Mapping[str, FloatArray]
    ) -> None:
        """Store the summaries a new encoder version gives to earlier sub-scans."""
        size = sum(summary.nbytes + ID_LENGTH for summary in summaries.values())
        with self._guarded(f"extended by encoder version {version}", size):
            self._descriptions.relabel(version, names, summaries)
            self._commit()

    def write_dose_map(self, ledger: DoseLedger) -> None:
        """Store the dose map as it is now, in e/Å² over specimen nm."""
        first_y, last_y, first_x, last_x = ledger.extent_nm
        ny, nx = ledger.map_e_per_A2.shape
        size = ledger.map_e_per_A2.nbytes
        with self._guarded("extended by the dose map", size):
            group = write_picture(
                self._entry,
                "dose",
                {
                    "y": (_centers(first_y, last_y, ny), "nm"),
                    "x": (_centers(first_x, last_x, nx), "nm"),
                },
                {"data": (ledger.map_e_per_A2, "e/angstrom^2")},
            )
            group.attrs["dose_cell_nm"] = ledger.cell_nm
            group.attrs["electrons"] = ledger.electrons
            self._commit()

    def write_maps(self, maps: Maps) -> None:
        """Store the surrogate's maps as they are now, over specimen nm."""
        size = 3 * maps.mean.nbytes
        with self._guarded("extended by the surrogate's maps", size):
            group = write_picture(
                self._entry,
                "surrogate",
                {"y": (maps.y_nm, "nm"), "x": (maps.x_nm, "nm")},
                {
                    "mean": (maps.mean, ""),
                    "sd": (maps.sd, ""),
                    "acquisition": (maps.acquisition, ""),
                },
            )
            group.attrs["objective"] = maps.objective
            self._commit()

    def read(self, sub_scan_id: str) -> SubScanData:
        """Return a sub-scan stored before, also while the file is being written."""
        if self._file is None or sub_scan_id not in self._known:
            raise StoreError(f"{self._folder.data_part} is closed or holds no '{sub_scan_id}'")
        try:
            return load(self._file, self._known[sub_scan_id])
        except (OSError, RuntimeError, KeyError) as error:
            raise StoreError(
                f"{self._folder.data_part}: sub-scan {sub_scan_id} can't be read back: {error}"
            ) from error

    def close(self, *, finished: bool = False) -> None:
        """Close the file; when ``finished`` it gets its final name. Harmless when closed."""
        if self._file is None:
            return
        try:
            if not self._failed:
                with self._guarded("closed", None) as file:
                    if finished:
                        self._end_time(file)
                    self._commit()
        finally:
            self._release()
        if not self._failed:
            settle(self._folder.data_part)
        if finished and not self._failed:
            self._folder.data_part.replace(self._folder.data)

    def _commit(self) -> None:
        """Let HDF5 write all it holds, then make that lasting at one stroke."""
        assert self._file is not None and self._disk is not None
        self._file.flush()
        self._disk.commit()

    def _end_time(self, file: h5py.File) -> None:
        if "end_time" in self._entry:
            del self._entry["end_time"]
        self._entry["end_time"] = utc_now()
        file.attrs["file_update_time"] = utc_now()

    def _release(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
                if not self._failed and self._disk is not None:
                    self._disk.commit()
        except (OSError, RuntimeError, ValueError) as error:
            if not self._failed:
                self._failed = str(error)
                raise self._error("closed", error) from error
        finally:
            if self._disk is not None:
                self._disk.close()
            self._lock.release()
            atexit.unregister(self._release)

    def _blocks(self, data: SubScanData) -> dict[str, AnyArray]:
        """Return the checked frames by detector; nothing is written for bad ones."""
        key = data.sub_scan.id
        if key in self._known:
            raise StoreError(f"sub-scan {key} is stored already; nothing is stored twice")
        if not 0 < len(key.encode()) <= ID_LENGTH:
            raise StoreError(f"sub-scan id {key!r} must have 1 to {ID_LENGTH} bytes")
        if not data.frames:
            raise StoreError(f"sub-scan {key} has no frames of any detector; nothing to store")
        return {
            name: shaped(frames, data.detectors[name], data.sub_scan)
            for name, frames in data.frames.items()
        }

    def _stored(
        self,
        sub_scan: SubScan,
        purpose: str,
        rows: dict[str, tuple[str, int]],
        blocks: dict[str, AnyArray],
    ) -> StoredAt:
        self._known[sub_scan.id] = StoredSubScan(sub_scan, purpose, self._order, rows)
        self._order += 1
        return StoredAt(
            {name: path for name, (path, _) in rows.items()},
            {name: max(row, 0) for name, (_, row) in rows.items()},
            _size(blocks),
        )

    def _stack(self, sub_scan: SubScan, info: DetectorInfo, block: AnyArray) -> h5py.Group:
        """Return the stack whose axes hold for this sub-scan, made when there is none."""
        part = self._config.experiment.sub_scan
        configured = part.shape == sub_scan.shape and np.allclose(part.fov_nm, sub_scan.fov_nm)
        ny, nx = sub_scan.shape
        base = f"subscans_{info.name}" + ("" if configured else f"_{ny}x{nx}")
        name, n = base, 1
        while name in self._entry and not fits(self._entry[name], sub_scan, info.name, block):
            n += 1
            name = f"{base}_{n}"
        if name not in self._entry:
            new_stack(self._entry, name, sub_scan, info, block)
            self._choose_default(name, certain=bool(configured))
        group: h5py.Group = self._entry[name]
        return group

    def _choose_default(self, name: str, *, certain: bool) -> None:
        """Let programs that open the file show this; the first configured stack stays."""
        shown = self._entry.attrs.get("default", "")
        configured = {f"subscans_{each}" for each in self._config.sub_scan_detectors()}
        if not shown or (certain and shown not in configured):
            self._entry.attrs["default"] = name

    @contextmanager
    def _guarded(self, what: str, nbytes: int | None = 0) -> Iterator[h5py.File]:
        """Reserve space, and turn what HDF5 raises into one clear error.

        After one, nothing more is written. Without ``nbytes`` no space is reserved.
        """
        if self._failed:
            raise StoreError(f"{self._folder.data_part} failed before: {self._failed}")
        if self._file is None and what != "opened":
            raise StoreError(f"{self._folder.data_part} is closed and can't be {what}")
        if self._file is not None and nbytes is not None:
            self._reserve(what, nbytes)
        try:
            yield self._file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            self._failed = str(error)
            raise self._error(what, error) from error

    def _reserve(self, what: str, nbytes: int) -> None:
        """Make sure of the disk space before HDF5 is touched."""
        assert self._file is not None
        needed = int(self._file.id.get_filesize()) + nbytes + nbytes // 16 + _SPARE_BYTES
        try:
            reserve(self._folder.data_part, needed)
        except OSError as error:
            raise StoreError(
                f"{self._folder.data_part} can't be {what}: no space for {needed / 1e6:.0f} MB "
                f"({error.strerror}); what was stored before is safe. Free some space on the "
                "disk, then resume the run"
            ) from error

    def _error(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"{self._folder.data_part} can't be {what}: {error}; what was stored before is safe. "
            "Check the free space and the permissions of the disk, then resume the run"
        )


def _size(blocks: dict[str, AnyArray]) -> int:
    return sum(block.nbytes for block in blocks.values())


def _centers(first: float, last: float, n: int) -> FloatArray:
    """Return the middles of ``n`` equal cells between two edges."""
    return np.asarray(first + (np.arange(n) + 0.5) * (last - first) / n, dtype=np.float64)
