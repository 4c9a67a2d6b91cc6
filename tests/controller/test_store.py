"""What is written to the run file comes back as it was, in the layout other programs expect."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from fake_run import (
    CAMERA,
    FIELD_NM,
    HAADF,
    NAMES,
    FakeRun,
    config,
    data_of,
    description_of,
    sub_scan,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.dose import DoseLedger
from controller.rundir import create
from controller.store import RunStore, StoreError, iterate_stored, list_stored, read_sub_scan
from controller.store_describe import read_latents
from drivers.vocabulary import Calibration, DetectorInfo, SubScan, SubScanData
from models.decision.protocols import Maps


def same(a: SubScanData, b: SubScanData) -> bool:
    """Say whether two sub-scans' data are equal in every bit and word."""
    frames = a.frames.keys() == b.frames.keys() and all(
        a.frames[name].dtype == b.frames[name].dtype
        and np.array_equal(a.frames[name], b.frames[name])
        for name in a.frames
    )
    return frames and a.sub_scan == b.sub_scan and a.detectors == b.detectors


def test_images_and_patterns_come_back_as_they_were(tmp_path: Path) -> None:
    scans = [
        sub_scan(2, (1.0, -2.0), shape=(8, 6)),
        sub_scan(3, (3.5, 4.0), shape=(8, 6), rotation_deg=30.0),
        sub_scan(4, (3.5, 4.0), shape=(8, 6), dwell_us=7.0),
        sub_scan(5, (0.0, 9.0), shape=(4, 12), fov_nm=(1.0, 6.0)),
    ]
    sent = [data_of(scan, camera=True) for scan in scans]
    with FakeRun(tmp_path, camera=True, shape=(8, 6)) as run:
        for data in sent:
            run.store.write(data, "measure")
        assert same(run.store.read("s000003"), sent[1])
    for data in sent:
        assert same(read_sub_scan(run.folder, data.sub_scan.id), data)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    frame=st.none() | st.tuples(st.integers(1, 6), st.integers(1, 6)),
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "float32"]),
    fov=st.tuples(st.floats(0.1, 50), st.floats(0.1, 50)),
    rotation=st.floats(-180, 180),
    scale=st.none() | st.floats(0.01, 10),
)
def test_any_geometry_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    frame: tuple[int, int] | None,
    dtype: str,
    fov: tuple[float, float],
    rotation: float,
    scale: float | None,
) -> None:
    calibration = Calibration(scale, rotation, True, 1.02, "gold", "2026-01-02")
    info = DetectorInfo(
        "d", "pixelated" if frame else "image", dtype, frame, calibration=calibration
    )
    scan = SubScan("s000002", (1.25, -3.0), fov, shape, 3.0, rotation)
    full = (info.expected_frames(scan), *info.expected_shape(scan))
    frames = np.random.default_rng(1).integers(0, 250, full).astype(dtype)
    data = SubScanData(scan, {"d": frames}, {"d": info})
    folder = create(config(), tmp_path_factory.mktemp("any"), name="r")
    store = RunStore(folder, config(), {"d": info})
    store.write(data, "forced")
    store.close()
    assert same(read_sub_scan(folder, "s000002"), data)


def test_stored_at_says_where_the_frames_are(tmp_path: Path) -> None:
    with FakeRun(tmp_path, camera=True, shape=(8, 6)) as run:
        for number in (2, 3):
            data = data_of(sub_scan(number, (0.0, 0.0), shape=(8, 6)), camera=True)
            at = run.store.write(data, "measure")
    assert at.datasets == {
        "haadf": "/entry/subscans_haadf/data",
        "camera": "/entry/subscans_camera/data",
    }
    assert at.indices == {"haadf": 1, "camera": 1}
    assert at.nbytes == 8 * 6 * 2 + 8 * 6 * 120 * 2
    with h5py.File(run.folder.data_part) as file:
        stack = file[at.datasets["camera"]]
        assert np.array_equal(stack[1].reshape(-1, 12, 10), data.frames["camera"])


def test_axes_units_and_hints_for_other_programs(tmp_path: Path) -> None:
    with FakeRun(tmp_path, camera=True, shape=(8, 6)) as run:
        run.survey()
        run.measure(sub_scan(2, (5.0, -5.0), shape=(8, 6)))
        run.finish()
    with h5py.File(run.folder.data) as file:
        assert file.attrs["default"] == "entry"
        assert file["entry"].attrs["default"] == "subscans_haadf"
        group = file["entry/subscans_camera"]
        assert list(group.attrs["axes"]) == ["step", "y", "x", "qy", "qx"]
        assert group.attrs["interpretation"] == "image"
        assert group["data"].attrs["interpretation"] == "image"
        assert [group[axis].attrs["units"] for axis in ("y", "x", "qy", "qx")] == [
            *("nm", "nm"),
            *("mrad", "mrad"),
        ]
        np.testing.assert_allclose(np.diff(group["y"]), 2.5 / 8)
        np.testing.assert_allclose(group["qx"][()], 2.0 * (np.arange(10) - 4.5))
        np.testing.assert_allclose(group["position_nm"][0], (5.0, -5.0))
        assert group["data"].chunks == (1, 1, 6, 12, 10)
        survey = file["entry/survey_haadf"]
        assert survey["data"].shape == (128, 128)
        np.testing.assert_allclose(survey["y"][[0, -1]], [-20 + 40 / 256, 20 - 40 / 256])
        assert file["entry/instrument/source/voltage"][()] == 80.0
        assert file["entry/instrument/beam/current"].attrs["units"] == "pA"
        assert file["entry/instrument/detector_camera/camera_length"][()] == 130.0
        assert file["entry/sample/name"].asstr()[()] == "WS2 <flake>"
        assert file["entry/user/name"].asstr()[()] == "A. Person"
        assert file["entry/experiment_identifier"].asstr()[()] == "P-17"


def test_frames_are_compressed_by_the_detector_makers_filter(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
        run.finish()
    with h5py.File(run.folder.data) as file:
        filters = file["entry/subscans_haadf/data"].id.get_create_plist()
        assert filters.get_filter(0)[0] == 32008  # bitshuffle, registered with the HDF Group


def test_a_stack_holds_only_what_its_axes_describe(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        plain = run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
        wide = run.store.write(data_of(sub_scan(3, (0.0, 0.0), fov_nm=(5.0, 5.0))), "forced")
        fine = run.store.write(data_of(sub_scan(4, (0.0, 0.0), shape=(16, 64))), "anchor")
        again = run.store.write(data_of(sub_scan(5, (9.0, 0.0), fov_nm=(5.0, 5.0))), "forced")
    assert plain.datasets["haadf"] == "/entry/subscans_haadf/data"
    assert wide.datasets["haadf"] == again.datasets["haadf"] == "/entry/subscans_haadf_32x32/data"
    assert fine.datasets["haadf"] == "/entry/subscans_haadf_16x64/data"
    assert again.indices["haadf"] == 1
    with h5py.File(run.folder.data_part) as file:
        np.testing.assert_allclose(np.diff(file["entry/subscans_haadf_32x32/x"]), 5 / 32)
        assert file["entry"].attrs["default"] == "subscans_haadf"


def test_the_order_and_purpose_of_storing_are_kept(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.survey()
        run.store.write(data_of(sub_scan(9, (0.0, 0.0), shape=(4, 4))), "anchor")
        run.store.write(data_of(sub_scan(5, (0.0, 0.0))), "measure")
        run.store.write(data_of(sub_scan(7, (2.5, 0.0))), "forced")
    listed = [(each.sub_scan.id, each.purpose) for each in list_stored(run.folder)]
    assert listed == [
        ("s000001", "survey"),
        ("s000009", "anchor"),
        ("s000005", "measure"),
        ("s000007", "forced"),
    ]
    read = {stored.sub_scan.id: data for stored, data in iterate_stored(run.folder)}
    assert list(read) == [each for each, _ in listed]
    assert read["s000001"].sub_scan.fov_nm == FIELD_NM
    assert read["s000007"].frames["haadf"][0, 0, 0] == 7


@pytest.mark.parametrize(
    ("frames", "fragment"),
    [
        (np.zeros((1, 32, 31), np.uint16), r"shape \(1, 32, 31\) where \(1, 32, 32\)"),
        (np.zeros((2, 32, 32), np.uint16), "only whole sub-scans are stored"),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    tmp_path: Path, frames: np.ndarray, fragment: str
) -> None:
    with FakeRun(tmp_path) as run:
        data = SubScanData(sub_scan(2, (0.0, 0.0)), {"haadf": frames}, {"haadf": HAADF})
        with pytest.raises(StoreError, match=fragment):
            run.store.write(data, "measure")
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
    assert len(list_stored(run.folder)) == 1


def test_a_sub_scan_without_a_detector_or_a_name_is_refused(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        scan = sub_scan(2, (0.0, 0.0))
        with pytest.raises(StoreError, match="no frames of any detector"):
            run.store.write(SubScanData(scan, {}, {}), "measure")
        long = SubScan("x" * 65, (0.0, 0.0), (1.0, 1.0), (2, 2), 1.0)
        frames = {"haadf": np.zeros((1, 2, 2), np.uint16)}
        with pytest.raises(StoreError, match="must have 1 to 64 bytes"):
            run.store.write(SubScanData(long, frames, {"haadf": HAADF}), "measure")


def test_nothing_is_stored_twice(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
        with pytest.raises(StoreError, match="s000002 is stored already"):
            run.store.write(data_of(sub_scan(2, (5.0, 0.0))), "forced")


def test_an_unknown_id_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write(data_of(sub_scan(2, (0.0, 0.0))), "measure")
    with pytest.raises(StoreError, match=r"no sub-scan 's000099' \(last ones: s000002\)"):
        read_sub_scan(run.folder, "s000099")


def test_a_run_without_a_file_has_nothing_stored(tmp_path: Path) -> None:
    folder = create(config(), tmp_path, name="empty")
    assert list_stored(folder) == []
    with pytest.raises(StoreError, match=r"no run\.nxs"):
        read_sub_scan(folder, "s000001")


def test_latents_are_kept_by_encoder_version(tmp_path: Path) -> None:
    scans = [sub_scan(number, (0.0, 2.5 * number)) for number in (2, 3)]
    with FakeRun(tmp_path) as run:
        for value, scan in enumerate(scans):
            run.store.write(data_of(scan), "measure")
            run.store.write_description(scan.id, description_of(scan, float(value)))
        new = {scan.id: np.array([10.0 + n, 0.2]) for n, scan in enumerate(scans)}
        run.store.write_relabel(2, NAMES, new)
        run.store.write_description(scans[1].id, description_of(scans[1], 5.0, version=2))
    with h5py.File(run.folder.data_part) as file:
        assert file["entry/description"].attrs["current_version"] == 2
        np.testing.assert_allclose(file["entry/description/v1/summary"][:, 0], [0.0, 1.0])
        np.testing.assert_allclose(file["entry/description/v2/summary"][:, 0], [10.0, 5.0])
        assert list(file["entry/description/v2/names"].asstr()[()]) == list(NAMES)
        assert np.array_equal(read_latents(file, "s000003", 1), np.full((4, 2), 1.0))
        assert np.array_equal(read_latents(file, "s000003"), np.full((4, 2), 5.0))
        assert read_latents(file, "s000002") is None  # version 2 gave it a summary only
        assert read_latents(file, "s000099", 1) is None
        places = file["entry/description/v1/positions_nm"]
        np.testing.assert_allclose(places[4:], scans[1].corners_nm())


def test_a_version_can_not_change_its_names(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.store.write_relabel(1, ("a",), {"s000002": np.array([1.0])})
        with pytest.raises(StoreError, match="already describes by a, not by b"):
            run.store.write_relabel(1, ("b",), {"s000002": np.array([1.0])})


def test_the_dose_map_is_rewritten_in_place_and_may_grow(tmp_path: Path) -> None:
    ledger = DoseLedger(FIELD_NM, 0.625)
    with FakeRun(tmp_path) as run:
        ledger.charge(sub_scan(2, (0.0, 0.0)), 1e6)
        run.store.write_dose_map(ledger)
        ledger.charge(sub_scan(3, (30.0, 0.0)), 1e6)
        run.store.write_dose_map(ledger)
    with h5py.File(run.folder.data_part) as file:
        group = file["entry/dose"]
        assert np.array_equal(group["data"], ledger.map_e_per_A2)
        assert group["data"].attrs["units"] == "e/angstrom^2"
        assert group.attrs["electrons"] == 2e6
        cells = group["data"][()].sum() * group.attrs["dose_cell_nm"] ** 2 * 100
        assert cells == pytest.approx(2e6)
        weights = group["data"][()].sum(axis=1)
        assert np.average(group["y"], weights=weights) == pytest.approx(15.0, abs=0.01)


def test_the_newest_maps_are_kept(tmp_path: Path) -> None:
    y, x = np.linspace(-5, 5, 4), np.linspace(-6, 6, 5)
    with FakeRun(tmp_path) as run:
        for value in (1.0, 2.0):
            arrays = [np.full((4, 5), value * k) for k in (1, 2, 3)]
            run.store.write_maps(Maps(y, x, *arrays, objective="strain"))
    with h5py.File(run.folder.data_part) as file:
        group = file["entry/surrogate"]
        assert group.attrs["objective"] == "strain"
        assert group.attrs["signal"] == "mean"
        assert [group[name][0, 0] for name in ("mean", "sd", "acquisition")] == [2.0, 4.0, 6.0]
        assert np.array_equal(group["x"], x)


def test_a_camera_without_calibration_is_in_pixels(tmp_path: Path) -> None:
    info = DetectorInfo("d", "pixelated", "uint8", (3, 4))
    scan = SubScan("s000002", (0.0, 0.0), (1.0, 1.0), (2, 2), 1.0)
    folder = create(config(), tmp_path, name="r")
    store = RunStore(folder, config(), {"d": info})
    store.write(SubScanData(scan, {"d": np.ones((4, 3, 4), np.uint8)}, {"d": info}), "forced")
    store.close()
    with h5py.File(folder.data_part) as file:
        group = file["entry/subscans_d_2x2"]
        assert group["qy"].attrs["units"] == "px"
        np.testing.assert_allclose(group["qy"], [-1, 0, 1])


def test_a_large_frame_is_a_chunk_of_its_own(tmp_path: Path) -> None:
    info = DetectorInfo("d", "pixelated", "uint16", (1024, 1024))
    scan = SubScan("s000002", (0.0, 0.0), (1.0, 1.0), (1, 3), 1.0)
    folder = create(config(), tmp_path, name="r")
    store = RunStore(folder, config(), {"d": info})
    frames = np.zeros((3, 1024, 1024), np.uint16)
    store.write(SubScanData(scan, {"d": frames}, {"d": info}), "forced")
    store.close()
    with h5py.File(folder.data_part) as file:
        assert file["entry/subscans_d_1x3/data"].chunks == (1, 1, 1, 1024, 1024)


def test_cameras_can_record_the_survey_too(tmp_path: Path) -> None:
    scan = SubScan("s000001", (0.0, 0.0), FIELD_NM, (3, 4), 1.0)
    frames = np.arange(12 * 120, dtype=np.uint16).reshape(12, 12, 10)
    data = SubScanData(scan, {"camera": frames}, {"camera": CAMERA})
    with FakeRun(tmp_path, camera=True) as run:
        run.store.write_survey(data)
    assert same(read_sub_scan(run.folder, "s000001"), data)


def test_a_detector_may_be_called_like_a_part_of_the_instrument(tmp_path: Path) -> None:
    scan = SubScan("s000002", (0.0, 0.0), (1.0, 1.0), (2, 2), 1.0)
    infos = {name: DetectorInfo(name, "image", "uint8") for name in ("beam", "beam_2x2", "name")}
    frames = {name: np.full((1, 2, 2), n, np.uint8) for n, name in enumerate(infos)}
    data = SubScanData(scan, frames, infos)
    with FakeRun(tmp_path) as run:  # which does not know these detectors beforehand
        run.store.write(data, "forced")
        assert same(run.store.read("s000002"), data)
        with pytest.raises(StoreError, match="holds no 's000099'"):
            run.store.read("s000099")
    assert same(read_sub_scan(run.folder, "s000002"), data)
