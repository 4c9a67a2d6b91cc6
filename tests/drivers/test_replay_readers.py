"""Opening recorded files: every format gives the same array, every fault one clear message."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from drivers.errors import BadRecording, DriverUnavailable
from drivers.replay.readers import open_recording, resolve
from drivers.replay.recording import Recording
from drivers.vocabulary import AnyArray
from tests.drivers.replay_files import FRAME_SHAPE, save_hspy, save_npy

IMAGE = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
FRAMES = np.random.default_rng(2).integers(0, 4000, (3, 4, *FRAME_SHAPE)).astype(np.uint16)
NM = {"units": "nm", "navigate": True}
INV_A = {"units": "$A^{-1}$", "navigate": False}


def all_frames(recording: Recording) -> AnyArray:
    """Read every frame."""
    assert recording.frames is not None
    return recording.frames.take(np.arange(recording.frames.shape[0]))


def same_frames(recording: Recording, wanted: AnyArray = FRAMES) -> bool:
    """Say whether the frames are those recorded, whatever the order they are asked for in."""
    assert recording.frames is not None
    assert recording.scan_shape == wanted.shape[:2]
    flat = wanted.reshape(-1, *wanted.shape[2:])
    picks = np.array([5, 0, 5, 11])
    some = np.array_equal(recording.frames.take(picks), flat[picks])
    return some and np.array_equal(all_frames(recording), flat)


def fault(path: Path, **options: Any) -> str:
    """Return the message of the one error that opening must raise; it names the file."""
    with pytest.raises(BadRecording) as caught:
        open_recording(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_npy(tmp_path: Path, order: str) -> None:
    save_npy(tmp_path / "a.npy", IMAGE.astype(f"{order}f4"))
    save_npy(tmp_path / "f.npy", FRAMES.astype(f"{order}u2"))
    recording = open_recording(tmp_path / "a.npy", pixel_nm=(0.5, 0.25))
    assert recording.image is not None
    assert np.array_equal(recording.image, IMAGE)
    assert recording.field_nm == (2.5, 1.75)
    frames = open_recording(tmp_path / "f.npy")
    assert same_frames(frames)
    assert frames.dtype == all_frames(frames).dtype == np.dtype(np.uint16)


def test_frames_stay_in_the_file(tmp_path: Path) -> None:
    path = Path(save_npy(tmp_path / "f.npy", FRAMES))
    recording = open_recording(path)
    with path.open("r+b") as file:
        file.seek(-2, 2)
        file.write(np.array([9], dtype=np.uint16).tobytes())
    assert all_frames(recording)[-1, -1, -1] == 9


def test_stack_of_frames_needs_the_shape_of_the_scan(tmp_path: Path) -> None:
    path = Path(save_npy(tmp_path / "f.npy", FRAMES.reshape(12, *FRAME_SHAPE)))
    assert same_frames(open_recording(path, scan_shape=(3, 4)))
    assert "scan_shape" in fault(path)
    assert "12 frames" in fault(path, scan_shape=(3, 5))


def test_truth_values_are_counts(tmp_path: Path) -> None:
    path = Path(save_npy(tmp_path / "b.npy", IMAGE > 0))
    assert open_recording(path).dtype == np.dtype(np.uint8)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_with_imagej_scale(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        IMAGE,
        imagej=compression is None,
        compression=compression,
        resolution=(4.0, 2.0),
        metadata={"unit": "nm"} if compression is None else None,
    )
    recording = open_recording(path)
    assert np.array_equal(np.asarray(recording.image), IMAGE)
    assert recording.scales.pixel_nm == ((0.5, 0.25) if compression is None else None)


def test_tiff_without_a_length_has_no_scale(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, resolution=(300, 300), resolutionunit="INCH")
    recording = open_recording(tmp_path / "a.tif")
    with pytest.raises(BadRecording, match=r"a\.tif.*pixel_nm"):
        _ = recording.field_nm


def test_hspy_image_and_frames(tmp_path: Path) -> None:
    axes = [{**NM, "scale": 0.5, "size": 5}, {"units": "Å", "scale": 2.5, "size": 7}]
    path = save_hspy(tmp_path / "a.hspy", IMAGE, axes, title="Cu map")
    recording = open_recording(path)
    assert np.array_equal(np.asarray(recording.image), IMAGE)
    assert recording.scales.pixel_nm == (0.5, 0.25)
    assert recording.title == "Cu map"
    scan = [{**NM, "scale": scale, "size": n} for scale, n in ((2.0, 3), (1.5, 4))]
    frame = [{**INV_A, "scale": 0.0126, "size": size} for size in FRAME_SHAPE]
    frames = open_recording(save_hspy(tmp_path / "f.hspy", FRAMES, scan + frame))
    assert same_frames(frames)
    assert frames.scales.pixel_nm == (2.0, 1.5)
    assert frames.scales.inv_A_per_px == 0.0126


@pytest.mark.parametrize("units", ["", "_None_", "s"])
def test_axes_in_units_of_no_length_give_no_scale(tmp_path: Path, units: str) -> None:
    axes = [{"scale": 0.5, "size": 5, "units": units}, {"scale": 0.5, "size": 7, "units": units}]
    assert open_recording(save_hspy(tmp_path / "a.hspy", IMAGE, axes)).scales.pixel_nm is None


def test_nexus_follows_default_and_signal(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        file.create_dataset("other/image", data=IMAGE)
        entry = file.create_group("entry")
        entry.attrs["default"] = b"data"
        data = entry.create_group("data")
        data.attrs["signal"] = "frames"
        data.attrs["axes"] = ["y", "x", "ky", "kx"]
        data.create_dataset("frames", data=FRAMES).attrs["units"] = "counts"
        for name, size, step, unit in zip("yx", (3, 4), (0.5, 0.25), ("nm", "nm"), strict=True):
            data.create_dataset(name, data=np.arange(size) * step).attrs["units"] = unit
        for name, size in zip(("ky", "kx"), FRAME_SHAPE, strict=True):
            data.create_dataset(name, data=np.arange(size) * 0.7).attrs["units"] = "mrad"
    recording = open_recording(path)
    assert same_frames(recording)
    assert recording.scales.pixel_nm == (0.5, 0.25)
    assert recording.scales.mrad_per_px == pytest.approx(0.7)
    assert recording.unit == "counts"


@pytest.mark.parametrize(("size", "pixel_nm"), [("3.5", 0.5), (3500.0, 0.5)])
def test_pycroscopy_scan_size_is_text_in_nm_or_a_number_in_pm(
    tmp_path: Path, size: str | float, pixel_nm: float
) -> None:
    with h5py.File(tmp_path / "p.hdf5", "w") as file:
        file["image_data"] = IMAGE
        file["metadata"] = f'{{"scan size": {size!r}}}'.replace("'", '"')
    assert open_recording(tmp_path / "p.hdf5").scales.pixel_nm == (pixel_nm, pixel_nm)


def test_hdf5_with_several_datasets_lists_them(tmp_path: Path) -> None:
    path = tmp_path / "several.h5"
    with h5py.File(path, "w") as file:
        file["scan/adf"] = IMAGE
        file["scan/frames"] = FRAMES[:, :, None]
        file["scan/energy"] = np.arange(9.0)
    message = fault(path)
    assert "/scan/adf" in message
    assert "/scan/frames" in message
    assert "energy" not in message
    assert same_frames(open_recording(path, dataset="scan/frames"))
    assert open_recording(path, dataset="/scan/adf").title == "adf"
    assert "/scan/adf" in fault(path, dataset="scan/abf")


def test_frames_behind_an_external_link(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["entry/data"] = FRAMES.reshape(12, *FRAME_SHAPE)
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file.attrs["default"] = "entry"
        file["entry/data_000001"] = h5py.ExternalLink("data.h5", "/entry/data")
    assert same_frames(open_recording(tmp_path / "master.h5", scan_shape=(3, 4)))
    (tmp_path / "data.h5").unlink()
    assert "put data.h5 beside it" in fault(tmp_path / "master.h5", scan_shape=(3, 4))


def test_frames_of_a_file_gone_since_say_so(tmp_path: Path) -> None:
    path = save_hspy(tmp_path / "f.hspy", FRAMES, [])
    recording = open_recording(path)
    path.unlink()
    with pytest.raises(BadRecording, match=r"f\.hspy"):
        all_frames(recording)


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.hspy", "a.h5", "a.mib"])
@pytest.mark.parametrize("content", [b"", b"not what it says it is" * 9])
def test_corrupt_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert ";" in fault(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.hspy"])
def test_file_cut_short(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    big = np.random.default_rng(3).random((64, 64))
    if name == "a.npy":
        save_npy(path, big)
    elif name == "a.tif":
        tifffile.imwrite(path, big)
    else:
        save_hspy(path, big, [])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    fault(path)


@pytest.mark.parametrize("name", ["gone.npy", "gone.dm4"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    assert "no such file" in fault(tmp_path / name)


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (2, 2, 2, 2, 2), (0, 4)])
def test_wrong_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert str(shape)[:-1] in fault(Path(save_npy(tmp_path / "a.npy", np.zeros(shape))))


@pytest.mark.parametrize("shape", [(1, 5, 7, 1), (1, 5, 7), (5, 7, 1)])
def test_axes_of_length_one_are_dropped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = Path(save_npy(tmp_path / "a.npy", IMAGE.reshape(shape)))
    assert np.array_equal(np.asarray(open_recording(path).image), IMAGE)


def test_a_single_row_of_frames_stays_frames(tmp_path: Path) -> None:
    path = Path(save_npy(tmp_path / "f.npy", FRAMES[:1]))
    recording = open_recording(path)
    assert recording.scan_shape == (1, 4)
    assert np.array_equal(all_frames(recording), FRAMES[0])


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    assert "complex" in fault(Path(save_npy(tmp_path / "a.npy", IMAGE + 1j)))


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "numpy.save" in fault(tmp_path / "o.npy")


def test_environment_variables_in_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROBEWISE_DATA", str(tmp_path))
    assert resolve("${PROBEWISE_DATA}/x/a.npy") == tmp_path / "x" / "a.npy"
    monkeypatch.delenv("PROBEWISE_DATA")
    monkeypatch.setattr("drivers.replay.readers._CHECKOUT_DATA", tmp_path / "nowhere")
    with pytest.raises(BadRecording, match="PROBEWISE_DATA is not set"):
        resolve("${PROBEWISE_DATA}/x/a.npy")


def test_other_formats_need_an_optional_gpl_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.dm4").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "rsciio", None)
    with pytest.raises(DriverUnavailable) as caught:
        open_recording(tmp_path / "a.dm4")
    for word in ("a.dm4", "GPL-3", "pip install 'probewise[formats]'"):
        assert word in str(caught.value)


def plugin(monkeypatch: pytest.MonkeyPatch, signals: list[dict[str, Any]] | Exception) -> None:
    """Stand a plugin of rosettasciio in, which knows dm4 files."""

    def file_reader(_: str) -> list[dict[str, Any]]:
        if isinstance(signals, Exception):
            raise signals
        return signals

    reader, package = types.ModuleType("rsciio.dm"), types.ModuleType("rsciio")
    reader.file_reader = file_reader  # type: ignore[attr-defined]
    package.IO_PLUGINS = [{"file_extensions": ["dm3", "dm4"], "api": "rsciio.dm"}]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rsciio", package)
    monkeypatch.setitem(sys.modules, "rsciio.dm", reader)


def signal(data: AnyArray, title: str = "") -> dict[str, Any]:
    """Return a signal as rosettasciio returns it."""
    axes = [{"scale": 0.5, "units": "nm"}, {"scale": 0.25, "units": "nm"}]
    return {"data": data, "axes": axes, "metadata": {"General": {"title": title}}}


def test_other_formats_through_rosettasciio(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.dm4"
    path.write_bytes(b"anything")
    plugin(monkeypatch, [signal(IMAGE, "adf"), signal(IMAGE[:2], "abf"), signal(IMAGE[0])])
    assert "'adf'" in fault(path)
    recording = open_recording(path, dataset="abf")
    assert np.array_equal(np.asarray(recording.image), IMAGE[:2])
    assert recording.scales.pixel_nm == (0.5, 0.25)
    plugin(monkeypatch, OSError("cut short"))
    assert "cut short" in fault(path)
    (tmp_path / "a.xyz").write_bytes(b"anything")
    assert ".xyz" in fault(tmp_path / "a.xyz")
