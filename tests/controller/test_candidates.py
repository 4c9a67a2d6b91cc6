"""The candidate grid, and which candidates dose and regions leave."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.candidates import CandidateMask, make_grid, rotated_size_nm
from controller.dose import DoseLedger
from drivers.vocabulary import FloatArray, Region, SubScan
from models.decision.protocols import BoolArray, CandidateGrid
from tests.controller.config_files import load

FIELD_NM = (12.0, 10.0)
ELECTRONS = 1.0e6


def template(rotation_deg: float = 0.0, fov_nm: tuple[float, float] = (2.0, 1.5)) -> SubScan:
    return SubScan("id", (0.0, 0.0), fov_nm, (16, 12), 1.0, rotation_deg)


def grid(stride_nm: float = 1.0, n: tuple[int, int] = (9, 7)) -> CandidateGrid:
    y, x = ((np.arange(count) - (count - 1) / 2) * stride_nm for count in n)
    return CandidateGrid(y, x, (2.0, 1.5))


def one_by_one(
    ledger: DoseLedger, candidates: CandidateGrid, scan: SubScan, limit: float
) -> tuple[FloatArray, BoolArray]:
    """Return what the ledger itself says of each candidate."""
    peaks = np.array(
        [
            ledger.peak_with(replace(scan, center_nm=(float(y), float(x))), ELECTRONS)
            for y, x in candidates.centers_nm()
        ]
    )
    return peaks, peaks <= limit * (1 + 1e-9)


def test_windows_stay_in_the_field_less_margin_and_are_centred(tmp_path: Path) -> None:
    config = load(tmp_path, (("margin_nm = 1.0", "margin_nm = 1.0\nstride_nm = [1.5, 0.7]"),))
    made = make_grid(config)
    assert made.window_nm == (2.0, 2.0)
    assert np.allclose(np.diff(made.y_nm), 1.5)
    assert np.allclose(np.diff(made.x_nm), 0.7)
    for axis, stride in ((made.y_nm, 1.5), (made.x_nm, 0.7)):
        assert np.isclose(axis[0], -axis[-1])
        assert axis[-1] + 1.0 <= 9.0 + 1e-9
        assert axis[-1] + stride / 2 + 1.0 > 9.0 - 1e-9


def test_stride_is_the_window_unless_given(tmp_path: Path) -> None:
    made = make_grid(load(tmp_path))
    assert made.shape == (9, 9)
    assert np.allclose(made.y_nm, np.arange(-8, 9, 2))


@settings(max_examples=40, deadline=None)
@given(
    rotation=st.floats(-180, 180), margin=st.floats(0, 3), stride=st.floats(0.3, 4),
    fov=st.tuples(st.floats(0.5, 5), st.floats(0.5, 5)),
)  # fmt: skip
def test_rotated_windows_stay_inside(
    tmp_path_factory: pytest.TempPathFactory,
    rotation: float,
    margin: float,
    stride: float,
    fov: tuple[float, float],
) -> None:
    config = base_config(tmp_path_factory)
    experiment = config.experiment
    part = experiment.sub_scan.model_copy(update={"fov_nm": fov, "rotation_deg": rotation})
    where = experiment.candidates.model_copy(
        update={"stride_nm": (stride, stride), "margin_nm": margin}
    )
    experiment = experiment.model_copy(update={"sub_scan": part, "candidates": where})
    made = make_grid(config.model_copy(update={"experiment": experiment}))
    scan = SubScan("id", (0.0, 0.0), fov, (4, 4), 1.0, rotation)
    corners = scan.corners_nm()
    for axis, centers in ((0, made.y_nm), (1, made.x_nm)):
        reach = np.abs(corners[:, axis]).max()
        assert np.isclose(rotated_size_nm(fov, rotation)[axis], 2 * reach)
        assert centers[-1] + reach <= 10.0 - margin + 1e-6
        assert centers[-1] + stride / 2 + reach > 10.0 - margin - 1e-5


def base_config(factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Return a configuration, read once."""
    if not hasattr(base_config, "made"):
        base_config.made = load(factory.mktemp("base"))  # type: ignore[attr-defined]
    return base_config.made  # type: ignore[attr-defined]


def test_no_room_is_one_clear_error(tmp_path: Path) -> None:
    config = load(tmp_path)
    where = config.experiment.candidates.model_copy(update={"margin_nm": 9.5})
    experiment = config.experiment.model_copy(update={"candidates": where})
    with pytest.raises(ValueError, match=r"window of 2 x 2 nm and a margin of 9.5 nm"):
        make_grid(config.model_copy(update={"experiment": experiment}))


def test_nothing_is_allowed_before_the_ledger_was_seen() -> None:
    mask = CandidateMask(grid(), template(), ELECTRONS, 1e9)
    assert not mask.allowed.any()
    mask.update(DoseLedger(FIELD_NM, 0.5))
    assert mask.allowed.all()


def test_one_scan_spends_its_neighbourhood_alone() -> None:
    candidates, scan = grid(stride_nm=2.0, n=(5, 5)), template(fov_nm=(2.0, 2.0))
    candidates = replace(candidates, window_nm=(2.0, 2.0))
    ledger = DoseLedger(FIELD_NM, 0.5)
    dose = ELECTRONS / 400.0
    mask = CandidateMask(candidates, scan, ELECTRONS, 1.5 * dose)
    mask.update(ledger)
    ledger.charge(scan, ELECTRONS)
    mask.update(ledger, scan)
    spent = np.zeros((5, 5), dtype=bool)
    spent[2, 2] = True
    assert np.array_equal(~mask.allowed.reshape(5, 5), spent)
    mask.set_budget(2 * dose)
    assert mask.allowed.all()
    mask.set_budget(0.9 * dose)
    assert not mask.allowed.any()


SCANS = st.builds(
    lambda y, x, h, w, r: SubScan("charged", (y, x), (h, w), (4, 4), 1.0, r),
    st.floats(-9, 9), st.floats(-9, 9), st.floats(0.05, 5), st.floats(0.05, 5),
    st.one_of(st.just(0.0), st.just(180.0), st.floats(-90, 90)),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    rotation=st.sampled_from([0.0, 180.0, 30.0, -77.0]),
    cell=st.sampled_from([0.375, 0.5, 0.4321, 3.0]),
    stride=st.sampled_from([0.5, 1.0, 0.777]),
    charged=st.lists(st.tuples(SCANS, st.floats(0, 3e6)), max_size=6),
    limit=st.floats(1e3, 2e4),
)
def test_incremental_is_from_scratch_is_what_the_ledger_says(
    rotation: float, cell: float, stride: float, charged: list[tuple[SubScan, float]], limit: float
) -> None:
    candidates, scan = grid(stride, (6, 5)), template(rotation)
    ledger = DoseLedger(FIELD_NM, cell)
    mask = CandidateMask(candidates, scan, ELECTRONS, limit)
    mask.update(ledger)
    for each, electrons in charged:
        ledger.charge(each, electrons)
        mask.update(ledger, each)
    fresh = CandidateMask(candidates, scan, ELECTRONS, limit)
    fresh.update(ledger)
    assert np.array_equal(mask.peak_e_per_A2, fresh.peak_e_per_A2)
    assert np.array_equal(mask.allowed, fresh.allowed)
    peaks, allowed = one_by_one(ledger, candidates, scan, limit)
    assert np.allclose(mask.peak_e_per_A2, peaks, rtol=1e-9)
    clear = np.abs(peaks - limit) > 1e-6 * limit
    assert np.array_equal(mask.allowed[clear], allowed[clear])


def test_another_cell_size_is_taken_up() -> None:
    mask = CandidateMask(grid(), template(), ELECTRONS, 1e9)
    mask.update(DoseLedger(FIELD_NM, 0.5))
    finer = DoseLedger(FIELD_NM, 0.2)
    finer.charge(template(), ELECTRONS)
    mask.update(finer, template())
    assert np.allclose(mask.peak_e_per_A2, one_by_one(finer, grid(), template(), 1.0)[0])


def points_in(scan: SubScan, n: int = 60) -> FloatArray:
    """Return a dense lattice of points strictly inside a window: (n * n, 2)."""
    part = (np.arange(n) + 0.5) / n - 0.5
    local = np.stack(np.meshgrid(part, part, indexing="ij"), axis=-1) * np.asarray(scan.fov_nm)
    return scan.to_plane(local).reshape(-1, 2)


TRIANGLES = st.lists(st.tuples(st.floats(-6, 6), st.floats(-6, 6)), min_size=3, max_size=5)


@settings(max_examples=60, deadline=None)
@given(corners=TRIANGLES, rotation=st.sampled_from([0.0, 25.0, 90.0, -60.0]))
def test_a_window_that_shares_a_point_with_a_region_touches_it(
    corners: list[tuple[float, float]], rotation: float
) -> None:
    region, scan, candidates = Region(tuple(corners)), template(rotation), grid(2.0, (4, 4))
    touched = CandidateMask(candidates, scan, 1.0, 1.0).touches(region)
    along = np.linspace(0, 1, 400)[:, None]
    ends = [*corners[1:], corners[0]]
    edges = [
        np.asarray(a) + along * (np.asarray(b) - a) for a, b in zip(corners, ends, strict=True)
    ]
    outline = np.concatenate(edges)
    for (y, x), said in zip(candidates.centers_nm(), touched, strict=True):
        window = replace(scan, center_nm=(float(y), float(x)))
        shrunk = replace(window, fov_nm=(window.fov_nm[0] * 0.999, window.fov_nm[1] * 0.999))
        grown = replace(window, fov_nm=(window.fov_nm[0] * 1.001, window.fov_nm[1] * 1.001))
        surely = shrunk.contains(outline).any() or region.contains(points_in(shrunk, 12)).any()
        if surely:
            assert said
        if said:
            reach = max(math.dist(a, b) for a, b in zip(corners, ends, strict=True)) / 400
            wider = replace(
                grown, fov_nm=(grown.fov_nm[0] + 2 * reach, grown.fov_nm[1] + 2 * reach)
            )
            assert wider.contains(outline).any() or region.contains(points_in(grown, 12)).any()


@pytest.mark.parametrize("rotation", [0.0, 45.0])
def test_a_region_thinner_than_any_sampling_still_cuts_a_window(rotation: float) -> None:
    sliver = Region(((-20.0, 0.30), (20.0, 0.30), (20.0, 0.3000001)))
    candidates, scan = grid(3.0, (3, 3)), template(rotation)
    mask = CandidateMask(candidates, scan, ELECTRONS, 1e9)
    mask.update(DoseLedger(FIELD_NM, 0.5))
    mask.set_regions([sliver], [])
    assert np.array_equal(mask.allowed.reshape(3, 3), [[True, False, True]] * 3)


def test_a_window_inside_a_region_and_a_region_inside_a_window_touch() -> None:
    mask = CandidateMask(grid(3.0, (3, 3)), template(), 1.0, 1.0)
    assert mask.touches(Region.box((0.0, 0.0), (40.0, 40.0))).all()
    small = mask.touches(Region.box((3.2, -3.1), (0.01, 0.01)))
    assert np.flatnonzero(small).tolist() == [6]


def test_a_common_border_is_no_touch() -> None:
    candidates = replace(grid(2.0, (5, 5)), window_nm=(2.0, 2.0))
    mask = CandidateMask(candidates, template(fov_nm=(2.0, 2.0)), 1.0, 1.0)
    assert np.flatnonzero(mask.touches(Region.box((0.0, 0.0), (2.0, 2.0)))).tolist() == [12]


def test_weights_of_regions_multiply_and_are_replaced() -> None:
    mask = CandidateMask(grid(3.0, (3, 3)), template(), 1.0, 1.0)
    everywhere, middle = Region.box((0, 0), (40, 40)), Region.box((0, 0), (0.1, 0.1))
    mask.set_regions([], [(everywhere, 0.5), (middle, 4.0)])
    expected = np.full(9, np.log(0.5))
    expected[4] = np.log(2.0)
    assert np.allclose(mask.log_weight, expected)
    mask.set_regions([middle], [])
    assert not mask.log_weight.any()
    with pytest.raises(ValueError, match="weight of a region must be positive"):
        mask.set_regions([], [(middle, 0.0)])


def test_what_is_handed_out_is_a_copy() -> None:
    mask = CandidateMask(grid(), template(), ELECTRONS, 1e9)
    mask.update(DoseLedger(FIELD_NM, 0.5))
    mask.allowed[:] = False
    mask.log_weight[:] = 1.0
    mask.peak_e_per_A2[:] = np.inf
    assert mask.allowed.all()
    assert not mask.log_weight.any()
