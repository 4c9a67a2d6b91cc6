"""Open a recorded file, whatever its format: the one function the rest of the driver calls."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from drivers.errors import BadRecording
from drivers.replay.checks import bad
from drivers.replay.reader_hdf5 import read_hdf5
from drivers.replay.reader_mib import read_mib
from drivers.replay.reader_rsciio import read_rsciio
from drivers.replay.recording import Recording, from_array
from drivers.replay.units import NM_PER, Scales, scale_of
from drivers.vocabulary import AnyArray, NmPair

HDF5 = (".h5", ".hdf5", ".nxs", ".hspy")
TIFF = (".tif", ".tiff")
DATA_VARIABLE = "PROBEWISE_DATA"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_CHECKOUT_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def resolve(text: str) -> Path:
    """Return the path a setting stands for, with ``${VARIABLE}`` replaced from the environment.

    ``${PROBEWISE_DATA}`` without that variable set is ``../shared/data`` beside a source checkout,
    where that folder exists.

    Raises
    ------
    BadRecording
        If a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in os.environ:
            return os.environ[name]
        if name == DATA_VARIABLE and _CHECKOUT_DATA.is_dir():
            return str(_CHECKOUT_DATA)
        todo = "set it to the folder that holds the recorded data"
        raise BadRecording(f"{text}: the environment variable {name} is not set; {todo}")

    return Path(_VARIABLE.sub(value, text)).expanduser()


def open_recording(
    path: Path,
    *,
    dataset: str | None = None,
    pixel_nm: NmPair | None = None,
    scan_shape: tuple[int, int] | None = None,
) -> Recording:
    """Open a recorded image or 4-D set.

    npy, tif, hdf5 (hspy, NeXus, pycroscopy and plain) and mib are read here; every other format
    goes through rosettasciio, an optional package.

    Parameters
    ----------
    path : Path
        The file.
    dataset : str or None
        Which dataset of a file that holds several: its path in an hdf5 file, its title elsewhere.
    pixel_nm : (y, x) or None
        Pitch of the recorded positions in nm, in place of the file's.
    scan_shape : (sy, sx) or None
        How a stack of frames lies on the scan.

    Returns
    -------
    Recording
        Frames stay in the file, which is open only while some are read; an image is in memory.

    Raises
    ------
    BadRecording
        If the file is missing, corrupt or holds something else; it names the file, what is wrong
        and what to do.
    DriverUnavailable
        If its format needs a package that is not installed.
    """
    if not path.is_file():
        todo = "correct the path in the instrument file, or set PROBEWISE_DATA"
        raise bad(path, "there is no such file", todo)
    return _read(path, dataset, scan_shape).with_pixel_nm(pixel_nm)


def _read(path: Path, dataset: str | None, scan_shape: tuple[int, int] | None) -> Recording:
    """Choose a reader by the file's suffix."""
    suffix = path.suffix.lower()
    if suffix in HDF5:
        return read_hdf5(path, dataset, scan_shape)
    if suffix == ".npy":
        return read_npy(path, scan_shape)
    if suffix in TIFF:
        return read_tiff(path, scan_shape)
    if suffix == ".mib":
        return read_mib(path, scan_shape)
    return read_rsciio(path, dataset, scan_shape)


def read_npy(path: Path, scan_shape: tuple[int, int] | None) -> Recording:
    """Map a NumPy file into memory; files that hold Python objects are refused."""
    try:
        _map_npy(path)
    except (OSError, ValueError, EOFError) as error:
        todo = "save one array of numbers with numpy.save"
        raise bad(path, f"NumPy can't read it ({error})", todo) from error
    return from_array(path, lambda: _map_npy(path), scan_shape)


def _map_npy(path: Path) -> AnyArray:
    """Map a NumPy file; an archive of several arrays is refused."""
    return np.lib.format.open_memmap(path, mode="r")


def read_tiff(path: Path, scan_shape: tuple[int, int] | None) -> Recording:
    """Read the first series of a TIFF file, mapped into memory where its layout allows.

    The pitch is taken from ImageJ's resolution and unit; other tags are not trusted.
    """
    try:
        with tifffile.TiffFile(path) as file:
            if not file.series:
                raise bad(path, "it holds no image", "record or choose another file")
            series = file.series[0]
            scales = Scales(_imagej_pixel_nm(file))
            contiguous = series.dataoffset is not None
            array = None if contiguous else series.asarray()
            load = _tiff_loader(path, array)
            load()
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError) as error:
        todo = "it may be cut short: copy or export it anew"
        raise bad(path, f"it can't be read as TIFF ({error})", todo) from error
    return from_array(path, load, scan_shape, scales)


def _tiff_loader(path: Path, array: AnyArray | None) -> Callable[[], AnyArray]:
    """Return what gives an array read already, or maps the file."""
    if array is None:
        return lambda: tifffile.memmap(path, mode="r")
    return lambda: array


def _imagej_pixel_nm(file: tifffile.TiffFile) -> NmPair | None:
    """Return the (y, x) pitch in nm that ImageJ wrote, if it did."""
    unit = str((file.imagej_metadata or {}).get("unit", ""))
    tags = file.pages[0].aspage().tags
    steps = []
    for name in ("YResolution", "XResolution"):
        tag = tags.get(name)
        pixels, units = tag.value if tag is not None else (0, 1)
        if not pixels:
            return None
        steps.append(units / pixels)
    return scale_of(steps, [unit, unit], NM_PER)
