"""The scan generator: when the probe is where, and how far from where it should be."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def beam_on_s(
    shape: tuple[int, int], dwell_us: float, settle_us: float = 0.0, flyback_us: float = 0.0
) -> float:
    """Return how long a scan keeps the beam on the specimen, in s.

    Settling before the first position, ny·nx dwell times, and a flyback after each line but
    the last.
    """
    ny, nx = shape
    return (settle_us + ny * nx * dwell_us + (ny - 1) * flyback_us) * 1e-6


def line_starts_s(
    shape: tuple[int, int], dwell_us: float, settle_us: float = 0.0, flyback_us: float = 0.0
) -> FloatArray:
    """Return when each line begins, in s after the beam came on: (ny,)."""
    ny, nx = shape
    starts_us = settle_us + np.arange(ny) * (nx * dwell_us + flyback_us)
    return np.asarray(starts_us * 1e-6, dtype=np.float64)


def position_times_s(
    shape: tuple[int, int], dwell_us: float, settle_us: float = 0.0, flyback_us: float = 0.0
) -> FloatArray:
    """Return the middle of each position's dwell, in s after the beam came on: (ny, nx)."""
    starts = line_starts_s(shape, dwell_us, settle_us, flyback_us)
    within = (np.arange(shape[1]) + 0.5) * dwell_us * 1e-6
    return np.asarray(starts[:, None] + within[None, :], dtype=np.float64)


def scan_errors_nm(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    dwell_us: float,
    rotation_deg: float = 0.0,
    line_jitter_nm: float = 0.0,
    settling_nm: float = 0.0,
    settling_time_us: float = 0.0,
) -> FloatArray:
    """Return where the probe really is, less where it should be: (ny, nx, 2), (y, x) in nm.

    Each line as a whole is off by a random amount (field noise between lines), and after
    flyback the coils lag behind: the start of every line is displaced against the fast direction
    by an amount that decays exponentially.

    Parameters
    ----------
    shape : (ny, nx)
        Probe positions.
    rng : Generator
        Draws the jitter.
    dwell_us : float
        Dwell time per position in µs.
    rotation_deg : float
        Anticlockwise rotation of the fast axis (y points down).
    line_jitter_nm : float
        Standard deviation of a line's displacement, in y and in x.
    settling_nm, settling_time_us : float
        Lag at the start of a line, and the time in which it falls to 1/e.
    """
    errors = np.zeros((*shape, 2))
    errors += rng.normal(0.0, line_jitter_nm, size=(shape[0], 1, 2))
    if settling_nm and settling_time_us:
        angle = math.radians(rotation_deg)
        fast_axis = np.array([-math.sin(angle), math.cos(angle)])
        elapsed_us = (np.arange(shape[1]) + 0.5) * dwell_us
        lag = settling_nm * np.exp(-elapsed_us / settling_time_us)
        errors -= lag[None, :, None] * fast_axis
    return errors
