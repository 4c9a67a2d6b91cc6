"""The driver as the registry sees it: settings, truth, and the instrument files that use it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.emulator.driver import EmulatedDriver
from drivers.errors import BadRecording, DriverUnavailable
from drivers.instrument import InstrumentConfig
from drivers.protocols import KnowsTruth
from drivers.registry import load
from drivers.replay import DRIVER, load_scene
from drivers.vocabulary import SubScan
from tests.drivers.replay_files import instrument, save_npy

INSTRUMENTS = Path(__file__).resolve().parents[2] / "configs" / "instruments"
ADF = np.random.default_rng(1).random((4, 6))
FILES = {
    "replay-cuzn": ((50, 40), "cuzn_eels/CuZn_HAADF.hspy"),
    "replay-graphene-gb": ((512, 512), "graphene_haadf/G-GrainBoundary-4nm.hdf5"),
    "replay-mos2": ((512, 512), "mos2_haadf/MoS2_stem_Exp-001-5.npy"),
    "replay-srtio3": ((999, 1012), "srtio3_adf_abf/STO_ADF.hdf5"),
    "replay-pt-atoms": ((512, 512), "pt_single_atoms/labels/021_Results.csv"),
    "replay-batio3": ((413, 469), "batio3_haadf/BTO_crystal_1.dm4"),
}


def channel(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of one recorded channel, with pixels of 0.5 x 0.25 nm."""
    return {"adf": {"path": save_npy(tmp_path / "adf.npy", ADF), "pixel_nm": [0.5, 0.25]}}


def from_file(name: str) -> InstrumentConfig:
    """Read an instrument file that comes with the package."""
    text = (INSTRUMENTS / f"{name}.toml").read_text(encoding="utf-8")
    return InstrumentConfig.model_validate(tomllib.loads(text))


def targets(tmp_path: Path, **truth: Any) -> np.ndarray[Any, Any]:
    """Return the targets that a truth table stands for."""
    found = DRIVER.truth(instrument(channel(tmp_path), truth={"label": "them", **truth}))
    assert found is not None
    assert found.label == "them"
    return found.targets_nm


def test_the_registry_finds_the_driver() -> None:
    driver = load("replay")
    assert isinstance(driver, EmulatedDriver)
    assert isinstance(driver, KnowsTruth)
    assert driver.name == "replay"
    assert driver.emulated


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"counts_per_unit": 3}, ["counts_per_unit"]),
        ({"counts_per_unit_per_us": -1.0}, ["counts_per_unit_per_us", "greater than 0"]),
        ({"channels": {"adf": {"file": "x.npy"}}}, ["channels.adf.path", "channels.adf.file"]),
        ({"channels": {}}, ["channels"]),
        ({"truth": {"kind": "guess"}}, ["truth", "top_fraction"]),
    ],
)
def test_wrong_settings_name_every_key(
    tmp_path: Path, wrong: dict[str, Any], words: list[str]
) -> None:
    config = instrument(channel(tmp_path))
    table = {**config.drivers["replay"], **wrong}
    with pytest.raises(
        BadRecording, match=r"\[drivers\.replay\] of instrument 'replayed'"
    ) as caught:
        load_scene(config.model_copy(update={"drivers": {"replay": table}}))
    for word in words:
        assert word in str(caught.value)


def test_no_settings_at_all_is_one_clear_error(tmp_path: Path) -> None:
    config = instrument(channel(tmp_path)).model_copy(update={"drivers": {}})
    with pytest.raises(BadRecording, match="channels: Field required"):
        DRIVER.truth(config)


def test_nothing_is_known_when_nothing_is_said(tmp_path: Path) -> None:
    assert DRIVER.truth(instrument(channel(tmp_path))) is None


def test_top_fraction_finds_the_brightest_pixels(tmp_path: Path) -> None:
    points = targets(tmp_path, kind="top_fraction", channel="adf", fraction=0.25)
    assert points.shape == (6, 2)
    row, column = ((points / (0.5, 0.25)) + (1.5, 2.5)).round().astype(int).T
    assert ADF[row, column].min() == np.sort(ADF.ravel())[-6]
    whole = SubScan("s", (0.0, 0.0), (2.0, 1.5), (4, 6), 1.0)
    assert np.allclose(points, whole.positions_nm()[row, column])


def test_top_fraction_of_an_unknown_channel(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match=r"'cu'.*adf"):
        targets(tmp_path, kind="top_fraction", channel="cu", fraction=0.25)


@pytest.mark.parametrize("unit", ["px", "nm"])
def test_coordinates_from_csv(tmp_path: Path, unit: str) -> None:
    rows = "0,0\n5,3\n" if unit == "px" else "-0.625,-0.75\n0.625,0.75\n"
    (tmp_path / "seen.csv").write_text("X,Y\n" + rows)
    points = targets(tmp_path, kind="coordinates", path=str(tmp_path / "seen.csv"), unit=unit)
    assert np.allclose(points, [[-0.75, -0.625], [0.75, 0.625]])


def test_coordinates_from_npy_are_rows_of_y_and_x(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "seen.npy", np.array([[3.0, 0.0]]))
    assert np.allclose(targets(tmp_path, kind="coordinates", path=path), [[0.75, -0.625]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("X,Z\n1,2\n", "Y.*columns"),
        ("X,Y\n1,two\n", "not a number"),
        ("X,Y\n1\n", "not a number"),
        ("X,Y\n", "one .y, x. per row"),
        ("X,Y\n1,2\n2,5\n", "1 of 2.*outside"),
    ],
)
def test_coordinates_that_make_no_sense(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "seen.csv").write_text(text)
    with pytest.raises(BadRecording, match=rf"seen\.csv.*{words}"):
        targets(tmp_path, kind="coordinates", path=str(tmp_path / "seen.csv"))


def test_coordinates_that_are_missing_or_objects(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match=r"gone\.csv.*no such file"):
        targets(tmp_path, kind="coordinates", path=str(tmp_path / "gone.csv"))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadRecording, match=r"o\.npy.*\(n, 2\)"):
        targets(tmp_path, kind="coordinates", path=str(tmp_path / "o.npy"))


@pytest.mark.parametrize("name", FILES)
def test_instrument_files_serve_their_recording(
    name: str, real_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, needed = FILES[name]
    missing = real_data(needed)
    monkeypatch.setenv("PROBEWISE_DATA", str(missing.parents[len(Path(needed).parts) - 1]))
    config = from_file(name)
    try:
        scene = load_scene(config)
    except DriverUnavailable as error:
        pytest.skip(str(error))
    assert config.instrument.virtual
    assert scene.field_nm == pytest.approx(config.scan.field_nm, rel=1e-7)
    assert all(
        f <= s * (1 + 1e-9) for f, s in zip(config.scan.field_nm, scene.field_nm, strict=True)
    )
    scan = SubScan("s-1", (0.0, 0.0), config.scan.field_nm, shape, config.scan.min_dwell_us)
    for detector, info in scene.detectors.items():
        image = scene.image(scan, detector, current_pA=20.0, time_s=0.0)
        assert image.shape == shape
        assert image.dtype == np.dtype(info.dtype)
        assert np.isfinite(image).all()
        assert image.std() > 0


@pytest.mark.parametrize("name", FILES)
def test_instrument_files_are_valid_without_their_data(name: str) -> None:
    config = from_file(name)
    assert config.instrument.name == name
    assert config.driver_names() == ("replay",)
    DRIVER.settings.model_validate(config.drivers["replay"])


def test_truth_of_cuzn_is_where_copper_is(
    real_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBEWISE_DATA", str(real_data("cuzn_eels/Cu_map.hspy").parents[1]))
    config = from_file("replay-cuzn")
    truth, scene = DRIVER.truth(config), load_scene(config)
    assert truth is not None
    assert len(truth.targets_nm) == 200
    scan = SubScan("s-1", (0.0, 0.0), config.scan.field_nm, (50, 40), 1.0)
    copper = scene.image(scan, "cu", current_pA=20.0, time_s=0.0).astype(np.float64)
    at = np.moveaxis((truth.targets_nm / scan.pixel_nm + (24.5, 19.5)).round().astype(int), -1, 0)
    assert copper[tuple(at)].min() >= np.quantile(copper, 0.89)


def test_labels_of_pt_atoms_lie_on_bright_spots(
    real_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rows and columns exchanged the labels would miss the atoms."""
    labels = real_data("pt_single_atoms/labels/021_Results.csv")
    monkeypatch.setenv("PROBEWISE_DATA", str(labels.parents[2]))
    config = from_file("replay-pt-atoms")
    truth, scene = DRIVER.truth(config), load_scene(config)
    assert truth is not None

    def mean(points_nm: np.ndarray[Any, Any], width_nm: float) -> float:
        spots = [
            SubScan("s", (float(y), float(x)), (width_nm, width_nm), (1, 1), 1.0)
            for y, x in points_nm
        ]
        values = [scene.image(spot, "haadf", current_pA=20.0, time_s=0.0) for spot in spots]
        return float(np.concatenate(values).astype(np.float64).mean())

    def contrast(points_nm: np.ndarray[Any, Any]) -> float:
        return mean(points_nm, 0.15) / mean(points_nm, 0.8) - 1

    inside = truth.targets_nm[(np.abs(truth.targets_nm) < 7.0).all(axis=1)]
    assert contrast(inside) > 0.05
    assert contrast(inside) > 5 * abs(contrast(inside[:, ::-1]))
