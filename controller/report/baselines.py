"""What plain strategies would have found at the same cost: a raster and random windows.

A target counts as found when it lies inside an executed window. Baselines use the configured
window on the run's candidate grid, as many as the run executed, none overlapping another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.candidates import make_grid, rotated_size_nm
from controller.config import RunConfig
from drivers.vocabulary import FloatArray, SubScan
from models.decision.windows import WindowGeometry

N_SEEDS = 30


@dataclass(frozen=True, slots=True)
class Curve:
    """Fraction of targets found against the fraction of the field exposed, from (0, 0) on."""

    area: FloatArray
    found: FloatArray


@dataclass(frozen=True, slots=True)
class Comparison:
    """The run beside its baselines; ``random_low`` and ``random_high`` hold 80 % of the seeds."""

    run: Curve
    raster: Curve
    random: Curve
    random_low: FloatArray
    random_high: FloatArray
    n_targets: int
    n_found: int
    n_seeds: int


def found_curve(
    windows: Iterable[SubScan], targets_nm: FloatArray, field_nm: tuple[float, float]
) -> Curve:
    """Return the curve of windows in the order of their execution; no target counts twice."""
    area, found = [0.0], [0]
    seen = np.zeros(len(targets_nm), dtype=np.bool_)
    for window in windows:
        seen |= window.contains(targets_nm)
        area.append(area[-1] + window.area_nm2)
        found.append(int(seen.sum()))
    whole = field_nm[0] * field_nm[1]
    return Curve(np.asarray(area) / whole, np.asarray(found) / max(1, len(targets_nm)))


def raster_windows(config: RunConfig, n: int) -> list[SubScan]:
    """Return the first ``n`` windows of a serpentine raster from the top left."""
    grid, part = make_grid(config), config.experiment.sub_scan
    sizes = rotated_size_nm(part.fov_nm, part.rotation_deg)
    axes = [_thinned(axis, size) for axis, size in zip((grid.y_nm, grid.x_nm), sizes, strict=True)]
    windows: list[SubScan] = []
    for row, y in enumerate(axes[0]):
        columns = axes[1] if row % 2 == 0 else axes[1][::-1]
        windows += [_window(config, float(y), float(x)) for x in columns]
    return windows[:n]


def random_windows(config: RunConfig, n: int, seed: int) -> list[SubScan]:
    """Return up to ``n`` random candidates, none overlapping one before it."""
    grid = make_grid(config)
    geometry = WindowGeometry(grid, config.experiment.sub_scan.rotation_deg)
    centers = grid.centers_nm()
    free = np.ones(grid.n, dtype=np.bool_)
    chosen: list[SubScan] = []
    for index in np.random.default_rng(seed).permutation(grid.n):
        if len(chosen) == n:
            break
        if free[index]:
            chosen.append(_window(config, float(centers[index, 0]), float(centers[index, 1])))
            free &= ~geometry.overlapping(chosen[-1])
    return chosen


def compare(
    config: RunConfig, executed: Sequence[SubScan], targets_nm: FloatArray, n_seeds: int = N_SEEDS
) -> Comparison:
    """Return the curves of a run and of its baselines.

    Parameters
    ----------
    executed : sequence of SubScan
        What was exposed, in order, surveys left out.
    targets_nm : (n, 2) array
        (y, x) in specimen nm.
    """
    field, n = config.instrument.scan.field_nm, len(executed)
    run = found_curve(executed, targets_nm, field)
    raster = found_curve(raster_windows(config, n), targets_nm, field)
    curves = [
        found_curve(random_windows(config, n, seed), targets_nm, field) for seed in range(n_seeds)
    ]
    length = min(len(curve.found) for curve in curves)
    table = np.stack([curve.found[:length] for curve in curves])
    low, high = np.percentile(table, (10, 90), axis=0)
    mean = Curve(curves[0].area[:length], table.mean(axis=0))
    seen = _inside_any(executed, targets_nm)
    return Comparison(run, raster, mean, low, high, len(targets_nm), int(seen.sum()), n_seeds)


def _inside_any(windows: Sequence[SubScan], points: FloatArray) -> npt.NDArray[np.bool_]:
    seen = np.zeros(len(points), dtype=np.bool_)
    for window in windows:
        seen |= window.contains(points)
    return seen


def _thinned(axis: FloatArray, size: float) -> FloatArray:
    """Return the centres at least a window apart, so that windows of this size do not overlap."""
    pitch = float(axis[1] - axis[0]) if len(axis) > 1 else size
    return axis[:: max(1, math.ceil(size / pitch - 1e-9))]


def _window(config: RunConfig, y: float, x: float) -> SubScan:
    part = config.experiment.sub_scan
    return SubScan("w", (y, x), part.fov_nm, part.shape, part.dwell_us, part.rotation_deg)
