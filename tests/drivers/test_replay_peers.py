"""What is read here is what rosettasciio reads; it runs where that package is installed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivers.replay.reader_rsciio import read_rsciio
from drivers.replay.readers import open_recording
from drivers.replay.recording import Recording
from drivers.vocabulary import AnyArray

pytest.importorskip("rsciio", reason="rosettasciio is not installed")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]

RealData = Callable[[str], Path]


def values(recording: Recording) -> AnyArray:
    """Return all that was recorded."""
    if recording.image is not None:
        return recording.image
    assert recording.frames is not None
    return recording.frames.take(np.arange(recording.frames.shape[0]))


@pytest.mark.parametrize(
    "name",
    [
        "cuzn_eels/CuZn_HAADF.hspy",
        "cuzn_eels/Cu_map.hspy",
        "cuzn_eels/Zn_map.hspy",
        "small_4d/subset_data.hspy",
        "srtio3_adf_abf/example_detector_image.hspy",
    ],
)
def test_hspy(real_data: RealData, name: str) -> None:
    ours, theirs = open_recording(real_data(name)), read_rsciio(real_data(name), None, None)
    assert np.array_equal(values(ours), values(theirs))
    assert ours.scales == theirs.scales
    assert ours.scan_shape == theirs.scan_shape


@pytest.mark.parametrize("name", ["001_4x2_6bit", "002_4x2_6bit_roi128"])
def test_mib_is_upside_down_there(real_data: RealData, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(real_data("merlin_mib/Merlin_navigation4x2_ROI.zip")) as archive:
        archive.extractall(tmp_path)
    path = tmp_path / f"{name}.mib"
    ours, theirs = open_recording(path, scan_shape=(2, 4)), read_rsciio(path, None, (2, 4))
    assert np.array_equal(values(ours), values(theirs)[:, ::-1])
    assert not np.array_equal(values(ours), values(theirs))


def test_blo_and_dm4(real_data: RealData) -> None:
    pytest.importorskip("skimage", reason="rosettasciio reads blo with scikit-image")
    frames = open_recording(real_data("small_4d/test1.blo"))
    assert frames.scan_shape == (3, 2)
    assert values(frames).shape == (6, 144, 144)
    assert values(frames).any()
    film = open_recording(real_data("batio3_haadf/BTO_crystal_1.dm4"))
    assert film.scan_shape == (413, 469)
    assert film.pixel_nm == pytest.approx((0.02966, 0.02966), rel=1e-3)
