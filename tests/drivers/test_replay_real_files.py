"""Real recordings open with the shapes, scales and counts their sources state."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivers.errors import BadRecording
from drivers.replay.readers import open_recording
from drivers.vocabulary import FloatArray

RealData = Callable[[str], Path]

IMAGES = [
    ("cuzn_eels/CuZn_HAADF.hspy", (50, 40), "uint16", 0.92139),
    ("cuzn_eels/Cu_map.hspy", (50, 40), "float64", 0.92139),
    ("graphene_haadf/G-GrainBoundary-4nm.hdf5", (512, 512), "float32", 4 / 512),
    ("graphene_haadf/G-Si-2nm.hdf5", (256, 256), "float64", 2 / 256),
    ("graphene_haadf/test-1.hdf5", (256, 256), "float64", 2 / 256),
    ("graphene_si_defects/Si1C3/105.hdf5", (256, 256), "float32", 2 / 256),
    ("srtio3_adf_abf/STO_ADF.hdf5", (999, 1012), "float32", None),
    ("mos2_haadf/MoS2_stem_Exp-001-5.npy", (512, 512), "float64", None),
    (
        "pt_single_atoms/images/021_HAADF_15nm_Sample_PtNC_21Oct20.tif",
        (512, 512),
        "uint32",
        0.0293,
    ),
]


@pytest.mark.parametrize(("name", "shape", "dtype", "pixel_nm"), IMAGES)
def test_images(
    real_data: RealData, name: str, shape: tuple[int, int], dtype: str, pixel_nm: float | None
) -> None:
    recording = open_recording(real_data(name))
    assert recording.image is not None
    assert recording.image.shape == shape
    assert recording.dtype.name == dtype
    if pixel_nm is None:
        assert recording.scales.pixel_nm is None
    else:
        assert recording.pixel_nm == pytest.approx((pixel_nm, pixel_nm), rel=1e-3)


def test_small_4d_set(real_data: RealData) -> None:
    recording = open_recording(real_data("small_4d/subset_data.hspy"))
    assert recording.frames is not None
    assert recording.frames.shape == (4, 256, 256)
    assert recording.pixel_nm == (2.0, 2.0)
    assert recording.scales.inv_A_per_px == pytest.approx(0.01261)


def test_frames_with_a_colour_axis(real_data: RealData) -> None:
    path = real_data("small_4d/fpd_file_test.hdf5")
    recording = open_recording(path, dataset="fpd_expt/fpd_data/data")
    sums = open_recording(path, dataset="fpd_expt/fpd_sum_im/data")
    assert recording.frames is not None
    assert sums.image is not None
    frames = recording.frames.take(np.arange(4))
    assert frames.dtype == np.uint16
    assert np.array_equal(frames.sum(axis=(1, 2)).reshape(2, 2), sums.image)


def test_compressed_frames_behind_a_dectris_master(real_data: RealData) -> None:
    path = real_data("dectris_meta/test_00_master.h5")
    recording = open_recording(path, scan_shape=(4, 4))
    assert recording.frames is not None
    assert recording.frames.shape == (16, 192, 192)
    assert not recording.frames.take(np.array([15, 0])).any()
    with pytest.raises(BadRecording, match="scan_shape"):
        open_recording(path)


@pytest.mark.parametrize(("name", "rows"), [("001_4x2_6bit", 256), ("002_4x2_6bit_roi128", 128)])
def test_merlin_frames(real_data: RealData, tmp_path: Path, name: str, rows: int) -> None:
    with zipfile.ZipFile(real_data("merlin_mib/Merlin_navigation4x2_ROI.zip")) as archive:
        archive.extractall(tmp_path)
    path = tmp_path / f"{name}.mib"
    with pytest.raises(BadRecording, match="8 frames"):
        open_recording(path)
    recording = open_recording(path, scan_shape=(2, 4))
    assert recording.frames is not None
    frames = recording.frames.take(np.arange(8))
    assert frames.shape == (8, rows, 256)
    size = path.stat().st_size // 8
    raw = path.read_bytes()[5 * size + 384 : 6 * size]
    assert frames[5].tobytes() == raw


@pytest.mark.parametrize(
    "name",
    ["cuzn_eels/CuZn_EELS_mapping_tutorial.hspy", "ag_domains/SPED_Ag_labels.hspy"],
)
def test_what_is_neither_image_nor_frames(real_data: RealData, name: str) -> None:
    with pytest.raises(BadRecording, match="neither an image"):
        open_recording(real_data(name))


def spacing_nm(image: FloatArray, pixel_nm: float, low: float, high: float) -> float:
    """Return the spacing of the strongest lattice planes between two limits, in nm."""
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    power = np.abs(np.fft.fft2((image - image.mean()) * window, (2048, 2048)))
    k = np.fft.fftfreq(2048, pixel_nm)
    radius = np.hypot(*np.meshgrid(k, k, indexing="ij"))
    power[(radius < 1 / high) | (radius > 1 / low)] = 0
    return float(1 / radius.ravel()[power.argmax()])


@pytest.mark.parametrize(
    ("name", "pixel_nm", "planes_nm"),
    [
        ("graphene_haadf/G-GrainBoundary-4nm.hdf5", None, 0.2131),
        ("srtio3_adf_abf/STO_ADF.hdf5", 0.009326270238, 0.2761),
    ],
)
def test_scales_agree_with_the_lattice(
    real_data: RealData, name: str, pixel_nm: float | None, planes_nm: float
) -> None:
    """Graphene (100): a = 0.246 nm; SrTiO3 (110): a = 0.3905 nm."""
    given = None if pixel_nm is None else (pixel_nm, pixel_nm)
    recording = open_recording(real_data(name), pixel_nm=given)
    image = np.asarray(recording.image, dtype=np.float64)
    found = spacing_nm(image, recording.pixel_nm[0], 0.15, 0.35)
    assert found == pytest.approx(planes_nm, rel=0.02)
