"""What the scan generator of an emulated instrument can do, and refusing what it can't."""

from __future__ import annotations

from drivers.emulator.scene import Scene
from drivers.errors import DriverRefused
from drivers.instrument import ScanPart
from drivers.vocabulary import ScanCapabilities, SubScan


def capabilities(scan: ScanPart, scene: Scene) -> ScanCapabilities:
    """Return what the scan generator can do over this scene."""
    field = (min(scan.field_nm[0], scene.field_nm[0]), min(scan.field_nm[1], scene.field_nm[1]))
    return ScanCapabilities(field, scan.min_dwell_us, scan.max_dwell_us, scan.max_positions)


def check_sub_scan(sub_scan: SubScan, can: ScanCapabilities) -> None:
    """Refuse a sub-scan that the scan generator can't do.

    Raises
    ------
    DriverRefused
        With what was asked and what is possible.
    """
    y_nm, x_nm = abs(sub_scan.corners_nm()).max(axis=0)
    field_y, field_x = can.field_nm
    slack = 1e-9 * max(field_y, field_x)
    if y_nm > field_y / 2 + slack or x_nm > field_x / 2 + slack:
        raise DriverRefused(
            f"sub-scan {sub_scan.id} reaches ({y_nm:.4g}, {x_nm:.4g}) nm from the centre, "
            f"the field ends at ({field_y / 2:.4g}, {field_x / 2:.4g}) nm"
        )
    if not can.min_dwell_us <= sub_scan.dwell_us <= can.max_dwell_us:
        raise DriverRefused(
            f"sub-scan {sub_scan.id} asks for a dwell time of {sub_scan.dwell_us:g} µs, "
            f"possible are {can.min_dwell_us:g} to {can.max_dwell_us:g} µs"
        )
    if sub_scan.n_positions > can.max_positions:
        raise DriverRefused(
            f"sub-scan {sub_scan.id} asks for {sub_scan.n_positions} positions, "
            f"at most {can.max_positions} are possible"
        )
