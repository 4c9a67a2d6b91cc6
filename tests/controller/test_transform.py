"""Drift is taken out in one place, and what was scanned is put back where it belongs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.transform import SpecimenToScan
from tests.controller.core_helpers import sub_scan

offsets = st.tuples(st.floats(-100, 100), st.floats(-100, 100))


@given(offsets, offsets, st.floats(-180, 180))
def test_drift_is_taken_out_and_put_back(
    offset_nm: tuple[float, float], center_nm: tuple[float, float], angle: float
) -> None:
    scan = sub_scan(center_nm=center_nm, rotation_deg=angle)
    transform = SpecimenToScan(offset_nm)
    moved = transform.to_scan(scan)
    assert moved.center_nm == (center_nm[0] + offset_nm[0], center_nm[1] + offset_nm[1])
    assert (moved.id, moved.fov_nm, moved.rotation_deg) == (scan.id, scan.fov_nm, angle)
    back = transform.to_specimen(moved)
    np.testing.assert_allclose(back.center_nm, center_nm, atol=1e-12)


def test_without_drift_specimen_and_scan_are_the_same() -> None:
    assert SpecimenToScan().to_scan(sub_scan()) == sub_scan()


def test_the_offset_is_where_the_specimens_origin_now_is() -> None:
    drifted = SpecimenToScan((3.0, -1.0))
    assert drifted.to_scan(sub_scan(center_nm=(0.0, 0.0))).center_nm == (3.0, -1.0)
    assert drifted.to_specimen(sub_scan(center_nm=(3.0, -1.0))).center_nm == (0.0, 0.0)


def test_a_transform_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SpecimenToScan().offset_nm = (1.0, 1.0)  # type: ignore[misc]
