"""Counting electrons: dose, shot noise, saturation, and random generators that can be repeated."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
E_PER_S_PER_PA = 1e-12 / 1.602176634e-19
"""Electrons per second in one picoampere (SI 2019 elementary charge)."""


def rng_for(
    seed: int, sub_scan_id: str, frame: int = 0, stream: str = "noise"
) -> np.random.Generator:
    """Return the random generator of one frame, whatever else has been drawn before.

    Parameters
    ----------
    seed : int
        Seed of the run.
    sub_scan_id : str
        Name of the sub-scan; equal names give equal generators.
    frame : int
        Number of the frame in the sub-scan.
    stream : str
        What the numbers are for, so that different uses of one frame are independent.

    Raises
    ------
    ValueError
        If the seed or the frame number is negative.
    """
    if seed < 0 or frame < 0:
        raise ValueError(f"seed = {seed}, frame = {frame}: neither may be negative")
    text = f"{len(stream)}:{stream}{sub_scan_id}"
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return np.random.default_rng(
        np.random.SeedSequence([seed, frame, *np.frombuffer(digest, dtype="<u4").tolist()])
    )


def electrons_per_position(current_pA: float, dwell_us: float) -> float:
    """Return the mean number of electrons that a probe position receives."""
    return current_pA * E_PER_S_PER_PA * dwell_us * 1e-6


def counts(
    fraction: FloatArray,
    electrons: float,
    rng: np.random.Generator,
    *,
    dtype: npt.DTypeLike = np.uint32,
    saturation: float | None = None,
) -> npt.NDArray[np.generic]:
    """Return the counts of a detector that sees each of its electrons, with shot noise.

    Parameters
    ----------
    fraction : array
        Fraction of the beam that reaches the detector, per position.
    electrons : float
        Mean number of electrons per position.
    rng : Generator
        Source of the Poisson noise.
    dtype : dtype
        Type of the result; integers are clipped to its largest value.
    saturation : float, optional
        Counts past which the detector shows no more.

    Raises
    ------
    ValueError
        If a fraction is outside 0 to 1 or not a number, or the number of electrons negative.
    """
    if not (np.all(fraction >= 0) and np.all(fraction <= 1)):
        raise ValueError("fractions of the beam must lie between 0 and 1")
    if not electrons >= 0:
        raise ValueError(f"electrons per position = {electrons}: must not be negative")
    drawn = rng.poisson(fraction * electrons)
    kind = np.dtype(dtype)
    ceiling = float(np.iinfo(kind).max) if kind.kind in "iu" else np.inf
    ceiling = min(ceiling, np.inf if saturation is None else saturation)
    return np.asarray(np.minimum(drawn, ceiling).astype(kind))
