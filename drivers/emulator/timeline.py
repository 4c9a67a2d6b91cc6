"""When a scan is where: settling, lines, flyback. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drivers.instrument import ScanPart
from drivers.vocabulary import SubScan


@dataclass(frozen=True, slots=True)
class Timeline:
    """The course of one sub-scan in seconds since its start.

    The probe settles, then scans ``ny`` lines of ``nx`` positions with a flyback between lines.
    """

    shape: tuple[int, int]
    settle_s: float
    dwell_s: float
    flyback_s: float

    @classmethod
    def of(cls, sub_scan: SubScan, scan: ScanPart) -> Timeline:
        """Return the course of a sub-scan on a scan generator."""
        dwell_s = sub_scan.dwell_us * 1e-6
        return cls(sub_scan.shape, scan.settle_us * 1e-6, dwell_s, scan.flyback_us * 1e-6)

    @property
    def line_s(self) -> float:
        """Dwell time of one line."""
        return self.shape[1] * self.dwell_s

    @property
    def duration_s(self) -> float:
        """Time from the start to the end of the last dwell."""
        return self.lines_done_s(self.shape[0])

    def lines_done_s(self, lines: int) -> float:
        """Return when that many lines are complete (``lines`` >= 1)."""
        return self.settle_s + lines * self.line_s + (lines - 1) * self.flyback_s

    def executed(self, elapsed_s: float) -> int:
        """Return how many positions have been dwelt on, begun ones included."""
        ny, nx = self.shape
        into = elapsed_s - self.settle_s
        if into <= 0:
            return 0
        if elapsed_s >= self.duration_s:
            return ny * nx
        line, rest = divmod(into, self.line_s + self.flyback_s)
        return min(int(line) * nx + min(math.ceil(rest / self.dwell_s), nx), ny * nx)
