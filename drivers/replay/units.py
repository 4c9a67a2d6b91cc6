"""Units that files use for their axes, and the scales they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.vocabulary import NmPair

NM_PER = {"pm": 1e-3, "a": 0.1, "å": 0.1, "angstrom": 0.1, "nm": 1.0, "nanometer": 1.0}
NM_PER |= {"um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9}
INV_A_PER = {"1/å": 1.0, "1/a": 1.0, "a^-1": 1.0, "a^{-1}": 1.0, "1/angstrom": 1.0}
INV_A_PER |= {"1/nm": 0.1, "nm^-1": 0.1, "nm^{-1}": 0.1, "å^-1": 1.0, "å^{-1}": 1.0}
MRAD_PER = {"mrad": 1.0, "rad": 1e3}


@dataclass(frozen=True, slots=True)
class Scales:
    """Calibrations found in a file; None where it has none.

    ``pixel_nm`` is the (y, x) pitch of the probe positions in nm; ``inv_A_per_px`` and
    ``mrad_per_px`` describe one pixel of a recorded frame.
    """

    pixel_nm: NmPair | None = None
    mrad_per_px: float | None = None
    inv_A_per_px: float | None = None


UNKNOWN = Scales()
"""The scales of a file that gives none."""


def scale_of(
    steps: Sequence[float], units: Sequence[str], table: dict[str, float]
) -> NmPair | None:
    """Convert the steps of a (y, x) pair of axes by a table of units; None if that can't be."""
    factors = [table.get(unit.strip().strip("$").replace(" ", "").lower()) for unit in units]
    if len(factors) != 2 or any(factor is None for factor in factors):
        return None
    y, x = (abs(step) * (factor or 0.0) for step, factor in zip(steps, factors, strict=True))
    return (y, x) if min(y, x) > 0 and math.isfinite(y + x) else None


def scales_of(steps: Sequence[float], units: Sequence[str]) -> Scales:
    """Return the scales that the steps and units of 2 or 4 axes, slowest first, stand for."""
    pixel_nm = scale_of(steps[:2], units[:2], NM_PER)
    inv_A = scale_of(steps[2:], units[2:], INV_A_PER)
    mrad = scale_of(steps[2:], units[2:], MRAD_PER)
    return Scales(pixel_nm, mrad[1] if mrad else None, inv_A[1] if inv_A else None)
