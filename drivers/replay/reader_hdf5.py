"""Read images and 4-D sets from HDF5 files: hyperspy, NeXus, pycroscopy, and plain ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of compressed detector files
import numpy as np

from drivers.replay.checks import bad, check_shape, native
from drivers.replay.hdf5_frames import Hdf5Frames
from drivers.replay.hdf5_layouts import (
    hyperspy_scales,
    hyperspy_title,
    nexus_scales,
    pycroscopy_scales,
    text_of,
)
from drivers.replay.recording import Recording
from drivers.replay.units import Scales

PYCROSCOPY = ("image_data", "nn_input")


def read_hdf5(path: Path, dataset: str | None, scan_shape: tuple[int, int] | None) -> Recording:
    """Read one image, or open one set of frames, in an HDF5 file.

    Without ``dataset`` the file's own default is taken: the experiment of a hyperspy file, the
    ``default`` and ``signal`` of a NeXus file, ``image_data`` of a pycroscopy file, or the only
    dataset that has the shape of an image or of frames.

    Raises
    ------
    BadRecording
        If the file is corrupt, has no such dataset, or leaves the choice open (it lists them).
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file, dataset, scan_shape)
    except (OSError, RuntimeError, KeyError) as error:
        todo = "it may be corrupt, cut short or still being written: copy it again"
        raise bad(path, f"it can't be read as HDF5 ({error})", todo) from error


def _read(
    path: Path, file: h5py.File, dataset: str | None, scan_shape: tuple[int, int] | None
) -> Recording:
    """Choose a dataset and make a recording of it."""
    data = _named(path, file, dataset) if dataset else _default(path, file)
    stored = tuple(int(size) for size in data.shape)
    shape = check_shape(path, stored, data.dtype, scan_shape)
    scales, title = _scales(data, file, shape), _title(data)
    unit = text_of(data.attrs.get("units", ""))
    scan = (shape[0], shape[1])
    if len(shape) == 2:
        image = np.asarray(data[()]).astype(native(data.dtype), copy=False).reshape(shape)
        return Recording(path, image, None, scan, scales, title, unit)
    frames = Hdf5Frames(
        Path(data.file.filename),
        str(data.name),
        stored,
        np.dtype(data.dtype),
        _scan_axes(stored, shape),
        (shape[0] * shape[1], shape[2], shape[3]),
    )
    return Recording(path, None, frames, scan, scales, title, unit)


def _scan_axes(stored: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return how many leading axes of the dataset number the frames."""
    frames, count = shape[0] * shape[1], 1
    for axis, size in enumerate(stored):
        count *= size
        if count == frames and stored[axis + 1 :] and _rest(stored[axis + 1 :]) == shape[2:]:
            return axis + 1
    return len(stored) - 2


def _rest(stored: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes that are longer than one."""
    return tuple(size for size in stored if size > 1)


def _named(path: Path, file: h5py.File, dataset: str) -> h5py.Dataset:
    """Return the dataset at a path; a group stands for the data it holds."""
    found = file.get(dataset)
    if isinstance(found, h5py.Group):
        found = found.get("data")
    if not isinstance(found, h5py.Dataset):
        listing = _listing(_candidates(file))
        raise bad(path, f"it has no dataset '{dataset}'", f"it has {listing}")
    return found


def _default(path: Path, file: h5py.File) -> h5py.Dataset:
    """Return the dataset the file itself puts forward, or the only one that fits."""
    layouts: tuple[Callable[[h5py.File], list[h5py.Dataset]], ...] = (
        _hyperspy,
        _nexus,
        _pycroscopy,
        _candidates,
    )
    for layout in layouts:
        found = layout(file)
        if len(found) == 1:
            return found[0]
        if found:
            todo = f"set dataset to one of {_listing(found)}"
            raise bad(path, f"it holds {len(found)} datasets that fit", todo)
    elsewhere = _links(file)
    todo = f"put {', '.join(elsewhere)} beside it" if elsewhere else "choose another file"
    raise bad(path, "it holds no image and no frames", todo)


def _links(file: h5py.File) -> list[str]:
    """Return the names of the files that links in this one lead to."""
    found: set[str] = set()

    def look(_: str, link: object) -> None:
        if isinstance(link, h5py.ExternalLink):
            found.add(str(link.filename))

    file.visititems_links(look)
    return sorted(found)


def _hyperspy(file: h5py.File) -> list[h5py.Dataset]:
    """Return the data of each experiment of a hyperspy file."""
    experiments = file.get("Experiments")
    if text_of(file.attrs.get("file_format", "")) != "HyperSpy" or experiments is None:
        return []
    return [group["data"] for group in experiments.values() if "data" in group]


def _nexus(file: h5py.File) -> list[h5py.Dataset]:
    """Follow ``default`` and ``signal`` attributes from the root."""
    group: h5py.Group = file
    while text_of(group.attrs.get("default", "")) in group:
        inner = group[text_of(group.attrs["default"])]
        if isinstance(inner, h5py.Dataset):
            return [inner]
        group = inner
    signal = group.get(text_of(group.attrs.get("signal", "")) or "no signal")
    if isinstance(signal, h5py.Dataset):
        return [signal]
    return [data for data in group.values() if _fits(data)] if group.name != "/" else []


def _pycroscopy(file: h5py.File) -> list[h5py.Dataset]:
    """Return the image of a pycroscopy file."""
    return [file[name] for name in PYCROSCOPY if isinstance(file.get(name), h5py.Dataset)]


def _candidates(file: h5py.File) -> list[h5py.Dataset]:
    """Return every dataset that has the shape of an image or of frames."""
    found: list[h5py.Dataset] = []

    def look(_: str, item: object) -> None:
        if _fits(item):
            found.append(item)

    file.visititems(look)
    return found


def _fits(item: object) -> bool:
    """Say whether something in a file is an array of numbers with two to five axes."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biuf":
        return False
    return len(_rest(item.shape)) >= 2 and len(item.shape) <= 5


def _listing(datasets: list[h5py.Dataset]) -> str:
    """Return the paths and shapes of datasets, for a message."""
    return ", ".join(f"'{data.name}' {data.shape}" for data in datasets) or "none that fits"


def _scales(data: h5py.Dataset, file: h5py.File, shape: tuple[int, ...]) -> Scales:
    """Return the calibrations the file gives for a dataset."""
    for layout in (hyperspy_scales, nexus_scales):
        scales = layout(data)
        if scales != Scales():
            return scales
    return pycroscopy_scales(data, file, shape)


def _title(data: h5py.Dataset) -> str:
    """Return what a dataset is called."""
    return hyperspy_title(data) or str(data.name).rsplit("/", 1)[-1]
