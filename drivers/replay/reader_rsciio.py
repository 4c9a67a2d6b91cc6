"""Read the vendors' formats (dm4, blo, emd, ser, ...) through rosettasciio, if it is installed.

rosettasciio is licensed under the GPL-3; it is imported only when such a file is opened.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from drivers.errors import DriverUnavailable
from drivers.replay.checks import bad
from drivers.replay.recording import Recording, from_array
from drivers.replay.units import scales_of

INSTALL = "pip install 'probewise[formats]'"


def read_rsciio(path: Path, dataset: str | None, scan_shape: tuple[int, int] | None) -> Recording:
    """Read a file with whichever rosettasciio plugin knows its suffix.

    Raises
    ------
    DriverUnavailable
        If rosettasciio, or a package it needs for this format, is not installed.
    BadRecording
        If it does not know the suffix, can't read the file, or finds no image or frames in it.
    """
    plugins = _import(path, "rsciio").IO_PLUGINS
    suffix = path.suffix.lower().lstrip(".")
    known = [plugin for plugin in plugins if suffix in plugin["file_extensions"]]
    if not known:
        todo = "convert it to npy, tif, hdf5 or hspy"
        raise bad(path, f"no reader knows files of type '{path.suffix}'", todo)
    plugin = _import(path, known[0]["api"])
    try:
        signals = plugin.file_reader(str(path))
    except Exception as error:  # a plugin may raise anything on a corrupt file
        why = f"rosettasciio can't read it ({type(error).__name__}: {error})"
        raise bad(path, why, "it may be cut short: copy or export it anew") from error
    return _recording(path, _choose(path, signals, dataset), scan_shape)


def _import(path: Path, module: str) -> Any:
    """Import a module of rosettasciio, or say what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DriverUnavailable(
            f"{path}: files of type '{path.suffix}' are read by rosettasciio, an optional package "
            f"licensed under the GPL-3: {error}; install it with {INSTALL}"
        ) from error


def _title(signal: dict[str, Any]) -> str:
    """Return what a signal calls itself."""
    return str(signal.get("metadata", {}).get("General", {}).get("title", ""))


def _choose(path: Path, signals: list[dict[str, Any]], dataset: str | None) -> dict[str, Any]:
    """Return the signal called ``dataset``, or the only one that is an image or frames."""
    named = [signal for signal in signals if dataset is None or _title(signal) == dataset]
    fits = [signal for signal in named if np.ndim(signal["data"]) in (2, 3, 4)]
    if len(fits) == 1:
        return fits[0]
    titles = ", ".join(f"'{_title(signal)}' {np.shape(signal['data'])}" for signal in signals)
    what = f"{len(fits)} signals fit" if dataset is None else f"none is called '{dataset}'"
    raise bad(path, f"{what} among {titles}", "set dataset to one of these titles")


def _recording(path: Path, signal: dict[str, Any], scan_shape: tuple[int, int] | None) -> Recording:
    """Make a recording of what rosettasciio returned."""
    axes = signal.get("axes", [])
    steps = [float(axis.get("scale", 0.0)) for axis in axes]
    units = [str(axis.get("units") or "") for axis in axes]
    scales = scales_of(steps, units)
    array = np.asanyarray(signal["data"])
    return from_array(path, lambda: array, scan_shape, scales, title=_title(signal))
