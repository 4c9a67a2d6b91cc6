"""Describers of one detector's statistics, the empty one, and describers by name."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.vocabulary import DetectorInfo, SubScan, SubScanData
from models.descriptors.factory import make_describer
from models.descriptors.images import image_of
from models.descriptors.protocols import Checkpointable, Describer, Refittable

SCAN = SubScan("a", (5.0, -3.0), (2.0, 3.0), (2, 3), 1.0)
CU = DetectorInfo("cu", "image", "float32")
CAMERA = DetectorInfo("camera", "pixelated", "uint16", (4, 5))
IMAGE = np.array([[1.0, 2, 3], [4, 5, 9]], dtype=np.float32)


def data(image=IMAGE):
    camera = np.arange(6 * 20, dtype=np.uint16).reshape(6, 4, 5)
    return SubScanData(SCAN, {"cu": image[None], "camera": camera}, {"cu": CU, "camera": CAMERA})


def test_channel_gives_mean_deviation_and_maximum():
    describer = make_describer("channel", {"detector": "cu"})
    assert isinstance(describer, Describer) and not isinstance(describer, Refittable)
    assert describer.version == 0
    describer.prepare(None, (2.0, 3.0))
    got = describer.describe(data())
    assert got.names == ("mean", "std", "max")
    np.testing.assert_allclose(got.summary, [4.0, np.std(IMAGE.astype(float)), 9.0])
    np.testing.assert_allclose(got.z, got.summary[None])
    assert got.positions_nm.tolist() == [[5.0, -3.0]]
    assert got.health.ok and got.version == describer.version == 1


def test_channel_of_a_camera_is_the_sum_of_each_frame():
    describer = make_describer("channel", {"detector": "camera"})
    describer.prepare(data(), (2.0, 3.0))
    sums = np.arange(120).reshape(6, 20).sum(axis=1)
    assert describer.describe(data()).summary[[0, 2]] == pytest.approx([sums.mean(), sums.max()])
    np.testing.assert_array_equal(image_of(data(), "camera"), sums.reshape(2, 3))


def test_channel_reports_pixels_that_are_not_finite():
    bad = IMAGE.copy()
    bad[0, 1] = np.inf
    bad[1, 1] = np.nan
    describer = make_describer("channel", {"detector": "cu"})
    health = describer.describe(data(bad)).health
    assert not health.ok and health.why == "2 pixels of cu are not finite"


def test_channel_wants_its_detector():
    describer = make_describer("channel", {"detector": "zn"})
    with pytest.raises(ValueError, match="no frames of detector 'zn'; there are camera"):
        describer.describe(data())
    describer.prepare(data(), (2.0, 3.0))  # a survey may lack the detector
    with pytest.raises(ValueError, match="'detector' must name a detector"):
        make_describer("channel", {})


def test_misshapen_frames_are_refused():
    with pytest.raises(ValueError, match=r"has frames \(1, 3, 2\), expected \(1, 2, 3\)"):
        image_of(data(IMAGE.T), "cu")


def test_null_says_nothing():
    describer = make_describer("null")
    describer.prepare(None, (2.0, 3.0))
    got = describer.describe(data())
    assert got.names == ("constant",) and got.summary.tolist() == [0.0]
    assert got.health.ok and got.version == 1 and isinstance(describer, Describer)


@pytest.mark.parametrize(("kind", "options"), [("channel", {"detector": "cu"}), ("null", {})])
def test_restored_describers_describe_the_same(kind, options):
    describer = make_describer(kind, options)
    assert isinstance(describer, Checkpointable)
    describer.prepare(None, (2.0, 3.0))
    other = make_describer(kind, {"detector": "camera"} if options else {})
    other.restore(describer.checkpoint())
    a, b = describer.describe(data()), other.describe(data())
    assert (a.summary == b.summary).all() and a.version == b.version


def test_linear_by_name_takes_its_options():
    describer = make_describer(
        "linear", {"detector": "cu", "n_components": 2, "sub_scan_shape": [3, 3]}
    )
    assert describer.name == "linear" and describer.version == 0
    with pytest.raises(ValueError, match="a 3x3 sub-scan is too small"):
        describer.prepare(data(), (2.0, 3.0))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("liner", {}, "did you mean 'linear'"),
        ("dcnn", {}, "known are linear, channel, null"),
        ("null", {"detector": "cu"}, "unknown option detector; it takes none"),
        ("linear", {"components": 2}, "it takes detector, n_components"),
        ("linear", {"n_components": 2.5}, "n_components is 2.5; it must be a whole number"),
        ("linear", {"sub_scan_shape": 3}, r"must be \(ny, nx\)"),
        ("channel", {"detector": 3}, "detector is 3; it must be a name"),
    ],
)
def test_bad_names_and_options_get_one_clear_error(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make_describer(kind, options)
