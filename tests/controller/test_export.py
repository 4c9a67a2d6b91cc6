"""An exported file holds the stored frames with calibrated axes, after the EMD 1.0 layout."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from fake_run import FakeRun, data_of, full_run, sub_scan

from controller.export import ExportError, export_emd
from controller.rundir import create
from controller.store import StoreError, list_stored, read_sub_scan


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    """Return a small run with images and diffraction patterns."""
    with full_run(tmp_path, n=4, camera=True, shape=(8, 6)) as made:
        pass
    return made


def array(file: h5py.File) -> h5py.Group:
    """Return the one array of an EMD file, checking the tags on the way."""
    assert file.attrs["emd_group_type"] == "file"
    assert (file.attrs["version_major"], file.attrs["version_minor"]) == (1, 0)
    (root,) = file.values()
    assert root.attrs["emd_group_type"] == "root"
    (group,) = (each for name, each in root.items() if name != "metadatabundle")
    assert group.attrs["emd_group_type"] == "array"
    data = group["data"]
    for axis, length in enumerate(data.shape):
        assert group[f"dim{axis}"].shape == (length,)
    return group


def test_one_4d_sub_scan_becomes_a_datacube(tmp_path: Path, run: FakeRun) -> None:
    target = export_emd(run.folder, tmp_path / "one.emd", "camera", sub_scan_id="s000003")
    stored = read_sub_scan(run.folder, "s000003")
    with h5py.File(target) as file:
        group = array(file)
        assert group.attrs["python_class"] == "DataCube"
        assert np.array_equal(group["data"], stored.frames["camera"].reshape(8, 6, 12, 10))
        units = [group[f"dim{axis}"].attrs["units"] for axis in range(4)]
        assert units == ["nm", "nm", "mrad", "mrad"]
        np.testing.assert_allclose(np.diff(group["dim0"]), 2.5 / 8)
        np.testing.assert_allclose(np.diff(group["dim3"]), 2.0)
        calibration = group.parent["metadatabundle/calibration"]
        assert calibration["Q_pixel_size"][()] == 2.0
        assert calibration["R_pixel_size"][()] == pytest.approx(2.5 / 6)
        assert calibration["Q_pixel_units"][()] == b"mrad"
        words = group["metadatabundle/probewise"]
        assert words["sub_scan_id"][()] == b"s000003"
        assert words["voltage_kV"][()] == 80.0
        assert words["position_y_nm"][()] == stored.sub_scan.center_nm[0]


def test_all_sub_scans_are_stacked_in_order(tmp_path: Path, run: FakeRun) -> None:
    target = export_emd(run.folder, tmp_path / "all.emd", "haadf")
    with h5py.File(target) as file:
        group = array(file)
        assert group["data"].shape == (4, 8, 6)
        assert group["data"].dtype == np.uint16
        assert np.array_equal(group["data"][:, 0, 0], [2, 3, 4, 5])
        assert group["dim0"].attrs["name"] == "step"
        words = group["metadatabundle/probewise"]
        assert words["sub_scan_ids"][()].decode() == "s000002,s000003,s000004,s000005"
        centers = [each.sub_scan.center_nm for each in list_stored(run.folder)[1:]]
        np.testing.assert_allclose(words["position_x_nm"], [x for _, x in centers])


def test_the_survey_can_be_exported(tmp_path: Path, run: FakeRun) -> None:
    target = export_emd(run.folder, tmp_path / "s.emd", "haadf", sub_scan_id="s000001")
    with h5py.File(target) as file:
        group = array(file)
        assert np.array_equal(
            group["data"], read_sub_scan(run.folder, "s000001").frames["haadf"][0]
        )
        assert group.attrs["python_class"] == "Array"


def test_nothing_is_overwritten(tmp_path: Path, run: FakeRun) -> None:
    target = tmp_path / "mine.emd"
    target.write_text("precious")
    with pytest.raises(ExportError, match=r"mine\.emd exists already and is not overwritten"):
        export_emd(run.folder, target, "haadf")
    assert target.read_text() == "precious"


def test_an_unknown_detector_is_named_with_the_known_ones(tmp_path: Path, run: FakeRun) -> None:
    with pytest.raises(ExportError, match="detector 'eels' are stored; there are camera, haadf"):
        export_emd(run.folder, tmp_path / "a.emd", "eels")


def test_an_unknown_sub_scan_is_refused(tmp_path: Path, run: FakeRun) -> None:
    with pytest.raises(StoreError, match="no sub-scan 's000099'"):
        export_emd(run.folder, tmp_path / "a.emd", "haadf", sub_scan_id="s000099")
    with pytest.raises(StoreError, match="s000001 was not recorded by 'camera' but by haadf"):
        export_emd(run.folder, tmp_path / "a.emd", "camera", sub_scan_id="s000001")
    assert list(tmp_path.glob("a.emd*")) == []


def test_only_forced_geometry_needs_an_id(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as made:
        made.store.write(data_of(sub_scan(2, (0.0, 0.0), shape=(4, 4))), "forced")
    with pytest.raises(ExportError, match="name one sub-scan to export it alone"):
        export_emd(made.folder, tmp_path / "a.emd", "haadf")
    export_emd(made.folder, tmp_path / "a.emd", "haadf", sub_scan_id="s000002")


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path, run: FakeRun) -> None:
    with pytest.raises(ExportError, match=r"missing/a\.emd can't be written"):
        export_emd(run.folder, tmp_path / "missing" / "a.emd", "haadf")


def test_a_run_without_frames_has_nothing_to_export(tmp_path: Path) -> None:
    from fake_run import config

    folder = create(config(), tmp_path, name="empty")
    with pytest.raises(StoreError, match=r"no run\.nxs"):
        export_emd(folder, tmp_path / "a.emd", "haadf")
