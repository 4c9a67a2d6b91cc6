"""The dose ledger against arithmetic by hand, conservation, and areas by Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.dose import (
    DoseLedger,
    executed_part,
    executed_shares,
    mean_dose_e_per_A2,
    probe_dose_e_per_A2,
)
from drivers.vocabulary import E_PER_S_PER_PA, FloatArray, SubScan
from tests.controller.core_helpers import sub_scan

places = st.tuples(st.floats(-30, 30), st.floats(-30, 30))
extents = st.tuples(st.floats(0.01, 12), st.floats(0.01, 12))
angles = st.sampled_from([0.0, 90.0, 180.0, 270.0, -90.0]) | st.floats(-360, 360)
charges = st.floats(0, 1e9)


@st.composite
def scans(draw: st.DrawFn) -> SubScan:
    return sub_scan(
        center_nm=draw(places),
        fov_nm=draw(extents),
        shape=(draw(st.integers(1, 40)), draw(st.integers(1, 40))),
        rotation_deg=draw(angles),
    )


def on_map(ledger: DoseLedger) -> float:
    """Return the electrons in the map: dose times area of a cell, summed."""
    return float(ledger.map_e_per_A2.sum()) * ledger.cell_nm**2 * 100.0


def dose_at(ledger: DoseLedger, y_nm: float, x_nm: float) -> float:
    top, _, left, _ = ledger.extent_nm
    row = math.floor((y_nm - top) / ledger.cell_nm)
    return float(ledger.map_e_per_A2[row, math.floor((x_nm - left) / ledger.cell_nm)])


def test_known_dose_of_a_slow_scan() -> None:
    electrons = 20.0 * E_PER_S_PER_PA * 256 * 256 * 1e-3
    scan = sub_scan(fov_nm=(10.0, 10.0), shape=(256, 256), dwell_us=1000.0)
    assert mean_dose_e_per_A2(scan, electrons) == pytest.approx(8.2e5, rel=0.005)
    ledger = DoseLedger((10.0, 10.0), 1.0)
    ledger.charge(scan, electrons)
    np.testing.assert_allclose(ledger.map_e_per_A2, mean_dose_e_per_A2(scan, electrons))
    assert ledger.total_e_per_A2 == pytest.approx(mean_dose_e_per_A2(scan, electrons))


def test_dose_under_the_probe_of_a_sparse_scan() -> None:
    scan = sub_scan(shape=(4, 4))
    # 1600 e over 16 positions, on a disk of 1 Å radius
    assert probe_dose_e_per_A2(scan, 1600.0, 0.2) == pytest.approx(100 / math.pi)


@given(st.lists(st.tuples(scans(), charges), min_size=1, max_size=4), st.floats(0.2, 3))
def test_the_map_holds_all_electrons_charged(
    exposures: list[tuple[SubScan, float]], cell_nm: float
) -> None:
    ledger = DoseLedger((8.0, 12.0), cell_nm)
    for scan, electrons in exposures:
        ledger.charge(scan, electrons)
        ledger.charge_point(scan.center_nm, electrons / 2)
    charged = 1.5 * sum(electrons for _, electrons in exposures)
    assert on_map(ledger) == pytest.approx(charged, rel=1e-9, abs=1e-6)
    assert ledger.electrons == pytest.approx(charged)


@given(scans(), charges)
def test_no_cell_gets_more_than_one_dose_or_less_than_none(scan: SubScan, electrons: float) -> None:
    ledger = DoseLedger((8.0, 12.0), 0.7)
    ledger.charge(scan, electrons)
    assert ledger.map_e_per_A2.min() >= 0
    assert ledger.peak_e_per_A2 <= mean_dose_e_per_A2(scan, electrons) * (1 + 1e-6)
    assert ledger.peak_e_per_A2 <= electrons / (ledger.cell_nm**2 * 100) * (1 + 1e-6)


@given(scans(), charges, charges)
def test_the_peak_foretold_is_the_peak_after_charging(
    scan: SubScan, before: float, electrons: float
) -> None:
    ledger = DoseLedger((8.0, 12.0), 0.5)
    ledger.charge(scan, before)
    foretold = ledger.peak_with(scan, electrons)
    ledger.charge(scan, electrons)
    assert ledger.peak_e_per_A2 == pytest.approx(foretold, rel=1e-9)


def test_foretelling_changes_nothing() -> None:
    ledger = DoseLedger((8.0, 8.0), 0.5)
    ledger.charge(sub_scan(), 1e5)
    before = ledger.map_e_per_A2.copy()
    ledger.peak_with(sub_scan(center_nm=(100.0, 100.0)), 1e5)
    np.testing.assert_array_equal(ledger.map_e_per_A2, before)
    assert ledger.electrons == 1e5


@settings(max_examples=60)
@given(places, extents, st.floats(0, 90), st.floats(0.1, 2))
def test_neighbours_side_by_side_never_exceed_one_dose(
    center_nm: tuple[float, float], fov_nm: tuple[float, float], angle: float, cell_nm: float
) -> None:
    first = sub_scan(center_nm=center_nm, fov_nm=fov_nm, rotation_deg=angle)
    right = first.to_plane(np.array([0.0, fov_nm[1]]))
    second = sub_scan("b", (right[0], right[1]), fov_nm=fov_nm, rotation_deg=angle)
    ledger = DoseLedger((10.0, 10.0), cell_nm)
    ledger.charge(first, 1e6)
    foretold = ledger.peak_with(second, 1e6)
    ledger.charge(second, 1e6)
    one = mean_dose_e_per_A2(first, 1e6)
    assert max(ledger.peak_e_per_A2, foretold) <= one * (1 + 1e-6)


@pytest.mark.parametrize("angle", [90.0, 180.0, 270.0, -90.0, 360.0])
def test_a_quarter_turn_is_the_same_as_the_turned_rectangle(angle: float) -> None:
    center_nm, fov_nm = (1.37, -2.21), (3.3, 5.9)
    turned, plain = DoseLedger((10.0, 10.0), 0.8), DoseLedger((10.0, 10.0), 0.8)
    turned.charge(sub_scan(center_nm=center_nm, fov_nm=fov_nm, rotation_deg=angle), 1e5)
    lying = fov_nm if angle % 180 == 0 else (fov_nm[1], fov_nm[0])
    plain.charge(sub_scan(center_nm=center_nm, fov_nm=lying), 1e5)
    np.testing.assert_allclose(turned.map_e_per_A2, plain.map_e_per_A2, atol=1e-9)


def test_almost_no_turn_is_almost_no_difference() -> None:
    turned, plain = DoseLedger((10.0, 10.0), 0.8), DoseLedger((10.0, 10.0), 0.8)
    turned.charge(sub_scan(center_nm=(0.3, 0.2), fov_nm=(3.3, 5.9), rotation_deg=1e-7), 1e5)
    plain.charge(sub_scan(center_nm=(0.3, 0.2), fov_nm=(3.3, 5.9)), 1e5)
    assert np.abs(turned.map_e_per_A2 - plain.map_e_per_A2).max() < 1e-5 * plain.peak_e_per_A2


@pytest.mark.parametrize("angle", [17.0, 45.0, 73.0])
def test_a_rotated_scan_falls_where_its_positions_are(angle: float) -> None:
    scan = sub_scan(center_nm=(0.4, -0.7), fov_nm=(4.0, 7.0), shape=(800, 1400), rotation_deg=angle)
    ledger = DoseLedger((20.0, 20.0), 1.0)
    ledger.charge(scan, 1e6)
    points: FloatArray = scan.positions_nm().reshape(-1, 2)
    edges = np.arange(-10, 11)
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=(edges, edges))[0]
    by_counting = counts * (1e6 / scan.n_positions / 100)
    atol = 0.01 * mean_dose_e_per_A2(scan, 1e6)
    np.testing.assert_allclose(ledger.map_e_per_A2, by_counting, atol=atol)
    assert ledger.peak_e_per_A2 == pytest.approx(mean_dose_e_per_A2(scan, 1e6), rel=1e-9)


def test_the_map_grows_where_drift_leads_and_keeps_what_it_has() -> None:
    ledger = DoseLedger((4.0, 4.0), 1.0)
    ledger.charge(sub_scan(fov_nm=(1.0, 1.0), center_nm=(0.5, 0.5)), 100.0)
    for center_nm in ((-10.5, 0.5), (0.5, 12.5), (9.5, 9.5)):
        ledger.charge(sub_scan(fov_nm=(1.0, 1.0), center_nm=center_nm), 200.0)
        assert dose_at(ledger, *center_nm) == pytest.approx(2.0)
    assert dose_at(ledger, 0.5, 0.5) == pytest.approx(1.0)
    assert ledger.extent_nm == (-11.0, 10.0, -2.0, 13.0)


def test_a_parked_probe_is_in_the_map_but_not_in_the_scanned_peak() -> None:
    ledger = DoseLedger((4.0, 4.0), 1.0)
    ledger.charge(sub_scan(fov_nm=(2.0, 2.0), center_nm=(1.0, 1.0)), 400.0)
    ledger.charge_point((1.5, 0.5), 5000.0)
    assert ledger.peak_e_per_A2 == pytest.approx(1.0)
    assert dose_at(ledger, 1.5, 0.5) == pytest.approx(51.0)
    assert ledger.spots_e_per_A2 == {(1.5, 0.5): 50.0}
    # what comes next there does see it
    assert ledger.peak_with(sub_scan(fov_nm=(2.0, 2.0), center_nm=(1.0, 1.0)), 400.0) > 51


def test_the_map_is_read_only_and_cells_have_a_size() -> None:
    ledger = DoseLedger((4.0, 4.0), 1.0)
    with pytest.raises(ValueError, match="read-only"):
        ledger.map_e_per_A2[0, 0] = 1.0
    for cell_nm in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="dose_cell_nm"):
            DoseLedger((4.0, 4.0), cell_nm)


@given(scans(), st.integers(0, 2000))
def test_the_executed_part_is_whole_rows_from_the_top(scan: SubScan, positions: int) -> None:
    part = executed_part(scan, positions)
    rows = min(scan.shape[0], max(1, math.ceil(positions / scan.shape[1])))
    assert part.shape == (rows, scan.shape[1])
    np.testing.assert_allclose(part.pixel_nm, scan.pixel_nm)
    np.testing.assert_allclose(part.positions_nm(), scan.positions_nm()[:rows], atol=1e-9)


@given(scans(), st.integers(0, 2000))
def test_the_shares_of_a_partial_scan_are_its_executed_positions(
    scan: SubScan, positions: int
) -> None:
    shares = executed_shares(scan, positions)
    assert sum(share for _, share in shares) == pytest.approx(1.0)
    if not 0 < positions < scan.n_positions:
        return
    covered = np.concatenate([part.positions_nm().reshape(-1, 2) for part, _ in shares])
    np.testing.assert_allclose(covered, scan.positions_nm().reshape(-1, 2)[:positions], atol=1e-9)
    densities = [share / part.n_positions for part, share in shares]
    np.testing.assert_allclose(densities, 1 / positions)


def test_stopping_just_after_a_row_does_not_dilute_the_rows_before() -> None:
    scan = sub_scan(fov_nm=(4.0, 4.0), shape=(4, 4))
    ledger = DoseLedger((4.0, 4.0), 1.0)
    for part, share in executed_shares(scan, 5):
        ledger.charge(part, 500.0 * share)
    np.testing.assert_allclose(ledger.map_e_per_A2[0], 1.0)
    np.testing.assert_allclose(ledger.map_e_per_A2[1], [1.0, 0.0, 0.0, 0.0])
