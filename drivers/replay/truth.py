"""Targets known in a recording: its brightest pixels, or positions listed in a file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from drivers.errors import BadRecording
from drivers.replay.checks import bad
from drivers.replay.readers import resolve
from drivers.replay.recording import Recording
from drivers.replay.settings import Coordinates, TopFraction
from drivers.vocabulary import FloatArray, Truth


def find_truth(
    settings: TopFraction | Coordinates | None, channels: Mapping[str, Recording]
) -> Truth | None:
    """Return the targets that the settings name, in scan coordinates.

    Raises
    ------
    BadRecording
        If the channel or the list of positions is missing, or is not what it should be.
    """
    if settings is None:
        return None
    if isinstance(settings, TopFraction):
        return Truth(settings.label, top_fraction(settings, channels))
    grid = next(iter(channels.values()))
    return Truth(settings.label, coordinates(settings, grid))


def pixel_centres_nm(recording: Recording, row_column: FloatArray) -> FloatArray:
    """Convert (n, 2) recorded pixels, counted from the centre of the first, to (y, x) in nm."""
    middle = (np.asarray(recording.scan_shape) - 1) / 2
    return np.asarray((row_column - middle) * np.asarray(recording.pixel_nm), dtype=np.float64)


def top_fraction(settings: TopFraction, channels: Mapping[str, Recording]) -> FloatArray:
    """Return the centres of the brightest pixels of a channel, (n, 2) in nm, brightest first."""
    recording = channels.get(settings.channel)
    if recording is None:
        known = ", ".join(channels)
        where = f"truth names channel '{settings.channel}', which is not recorded"
        raise BadRecording(f"{where}; set channel to one of: {known}")
    if recording.image is None:
        raise bad(recording.path, "truth needs an image", "name a channel that is one")
    values = np.asarray(recording.image, dtype=np.float64).ravel()
    finite = np.flatnonzero(np.isfinite(values))
    count = max(1, round(settings.fraction * len(finite)))
    best = finite[np.argsort(-values[finite], kind="stable")[:count]]
    at = np.stack(np.unravel_index(best, recording.scan_shape), axis=-1)
    return pixel_centres_nm(recording, at.astype(np.float64))


def coordinates(settings: Coordinates, grid: Recording) -> FloatArray:
    """Return listed positions, (n, 2) in nm.

    Raises
    ------
    BadRecording
        If the list can't be read, is empty, or reaches beyond the recorded field.
    """
    path = resolve(settings.path)
    if not path.is_file():
        raise bad(path, "there is no such file", "correct the path of truth")
    listed = _npy(path) if path.suffix.lower() == ".npy" else _csv(path, settings.columns)
    if listed.ndim != 2 or listed.shape[1] != 2 or not len(listed):
        raise bad(path, f"its shape is {listed.shape}, not (n, 2)", "list one (y, x) per row")
    points = pixel_centres_nm(grid, listed) if settings.unit == "px" else listed
    half = np.asarray(grid.field_nm) / 2
    outside = ~(np.abs(points) <= half).all(axis=1)
    if outside.any():
        why = f"{outside.sum()} of {len(points)} positions lie outside the recorded field"
        raise bad(path, why, "check their unit and the order of columns")
    return points


def _npy(path: Path) -> FloatArray:
    """Read positions from a NumPy file; files that hold Python objects are refused."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError, TypeError) as error:
        todo = "save an (n, 2) array of numbers"
        raise bad(path, f"NumPy can't read it ({error})", todo) from error


def _csv(path: Path, columns: tuple[str, str]) -> FloatArray:
    """Read two named columns of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[float(row[name]) for name in columns] for row in csv.DictReader(file)]
    except KeyError as error:
        todo = "set columns to the headings of y and x"
        raise bad(path, f"it has no column {error}", todo) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise bad(path, f"a position is not a number ({error})", "correct that row") from error
    return np.asarray(rows, dtype=np.float64).reshape(-1, 2)
