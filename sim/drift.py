"""Drift of the specimen: a steady creep and a slow random wander, both known for any time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sim.counts import rng_for

FloatArray = npt.NDArray[np.float64]
_PERIODS_S = np.geomspace(30.0, 7200.0, 24)


@dataclass(frozen=True)
class Drift:
    """Displacement of the specimen against the scan as a function of time.

    The wander is a random walk without its fastest and slowest parts: cosines of periods
    between 30 s and 2 h with random phases (spectral representation, Shinozuka & Deodatis,
    Appl. Mech. Rev. 44, 191 (1991)) and a random walk's 1/f² spectrum. It needs no history,
    so any time may be asked for in any order.

    Attributes
    ----------
    rate_nm_per_min : float
        Speed of the steady part.
    direction_deg : float
        Its direction, anticlockwise from +x (y points down).
    wander_nm : float
        Root mean square of the wander's displacement over one minute, in y and in x.
    seed : int
        Seed of the wander.
    """

    rate_nm_per_min: float = 0.0
    direction_deg: float = 0.0
    wander_nm: float = 0.0
    seed: int = 0

    def displacement_nm(self, time_s: float | FloatArray) -> FloatArray:
        """Return the displacement at the given times (...), as (..., 2) (y, x) in nm; 0 at 0 s."""
        time = np.asarray(time_s, dtype=np.float64)
        angle = math.radians(self.direction_deg)
        velocity = np.array([-math.sin(angle), math.cos(angle)]) * self.rate_nm_per_min / 60
        steady = time[..., None] * velocity
        if self.wander_nm == 0:
            return np.asarray(steady)
        amplitudes, phases = self._cosines
        turns = 2 * math.pi * time[..., None, None] / _PERIODS_S + phases
        wander = (amplitudes * (np.cos(turns) - np.cos(phases))).sum(axis=-1)
        return np.asarray(steady + wander)

    @cached_property
    def _cosines(self) -> tuple[FloatArray, FloatArray]:
        """Return the amplitudes (m,) and the phases (2, m) of the wander's cosines."""
        phases = rng_for(self.seed, "drift", stream="drift").uniform(
            0, 2 * math.pi, size=(2, _PERIODS_S.size)
        )
        # with logarithmic spacing a 1/f² spectrum means amplitudes that go as √period
        power = _PERIODS_S
        per_minute = np.sum(power * (1 - np.cos(2 * math.pi * 60.0 / _PERIODS_S)))
        return self.wander_nm * np.sqrt(power / per_minute), phases
