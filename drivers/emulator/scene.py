"""What the beam of an emulated instrument meets: a simulated specimen, or a recording."""

from __future__ import annotations

from typing import Protocol

from drivers.vocabulary import AnyArray, DetectorInfo, NmPair, SubScan


class Scene(Protocol):
    """Renders the frames of a sub-scan given in scan coordinates.

    Rendering must not depend on the order of calls: the noise of a frame is drawn from a
    generator seeded by (run seed, sub-scan id, frame number). Called from a worker thread.
    """

    field_nm: NmPair
    """Largest field the scene can serve, centred on (0, 0)."""
    detectors: dict[str, DetectorInfo]

    def image(
        self, sub_scan: SubScan, detector: str, *, current_pA: float, time_s: float
    ) -> AnyArray:
        """Return the (ny, nx) image an imaging detector records.

        ``time_s`` is the instrument's clock at the start of the scan, for drift.
        """

    def frames(
        self,
        sub_scan: SubScan,
        detector: str,
        first: int,
        stop: int,
        *,
        current_pA: float,
        time_s: float,
    ) -> AnyArray:
        """Return frames ``first`` to ``stop`` (positions in row-major order): (n, ky, kx)."""
