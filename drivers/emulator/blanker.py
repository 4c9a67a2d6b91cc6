"""The blanker of an emulated instrument, and how long the beam has been on in all."""

from __future__ import annotations

import math

from drivers.errors import DriverRefused
from drivers.instrument import BeamPart


class Blanker:
    """Blanked at the start; without a blanker the beam is always on.

    Not thread-safe by itself: the room's lock guards it. All times are on the instrument's clock.
    """

    def __init__(self, beam: BeamPart, now_s: float) -> None:
        self.present = beam.blanker != "none"
        self._latency_s = beam.blank_latency_us * 1e-6
        self._on_since_s: float | None = None if self.present else now_s
        self._total_s = 0.0
        self._stuck_until_s = -math.inf

    @property
    def blanked(self) -> bool:
        """Whether the beam is off the specimen."""
        return self._on_since_s is None

    @property
    def on_since_s(self) -> float | None:
        """Since when the beam has been on; None when blanked."""
        return self._on_since_s

    def beam_on_s(self, at_s: float) -> float:
        """Return for how long the beam had been on, at a time not before the last switch."""
        return self._total_s + (at_s - self._on_since_s if self._on_since_s is not None else 0.0)

    def jam(self, now_s: float, seconds: float) -> None:
        """Stick for that long; for ever when ``seconds`` is 0."""
        self._stuck_until_s = now_s + (seconds or math.inf)

    def unblank(self, now_s: float) -> bool:
        """Let the beam on; return whether that changed anything."""
        if self._on_since_s is not None or now_s < self._stuck_until_s:
            return False
        self._on_since_s = now_s
        return True

    def blank(self, now_s: float) -> float | None:
        """Take the beam off; return when it is off, or None when nothing changed.

        Raises
        ------
        DriverRefused
            If there is no blanker.
        """
        if not self.present:
            raise DriverRefused("the instrument has no blanker: park the probe instead")
        if self._on_since_s is None or now_s < self._stuck_until_s:
            return None
        off_s = now_s + self._latency_s
        self._total_s = self.beam_on_s(off_s)
        self._on_since_s = None
        return off_s
