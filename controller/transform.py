"""From specimen coordinates to scan coordinates: the one place where drift is taken out.

Candidates, regions, dose map and journal are in specimen nm. Only the governor applies this
transform, and only a `DriftMeasured` event changes its offset.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.vocabulary import NmPair, SubScan


@dataclass(frozen=True, slots=True)
class SpecimenToScan:
    """Shift by ``offset_nm``: where the specimen's origin now is in scan coordinates."""

    offset_nm: NmPair = (0.0, 0.0)

    def to_scan(self, sub_scan: SubScan) -> SubScan:
        """Return a sub-scan given in specimen nm as the scan control has to scan it."""
        return sub_scan.moved(self.offset_nm)

    def to_specimen(self, sub_scan: SubScan) -> SubScan:
        """Return a sub-scan given in scan nm as it lies on the specimen."""
        return sub_scan.moved((-self.offset_nm[0], -self.offset_nm[1]))
