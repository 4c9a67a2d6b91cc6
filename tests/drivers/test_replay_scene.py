"""A recording as what the beam meets: values, noise, frames, darkness, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from drivers.errors import BadRecording
from drivers.replay import load_scene
from drivers.replay.channels import wavelength_A
from drivers.replay.scene import RecordedScene
from drivers.vocabulary import AnyArray, SubScan
from tests.drivers.replay_files import FRAME_SHAPE, instrument, save_hspy, save_npy, sub_scan

ADF = np.random.default_rng(1).random((4, 6)).astype(np.float32)
FRAMES = np.random.default_rng(2).integers(0, 9, (4, 6, *FRAME_SHAPE)).astype(np.uint16)
CAMERA = {"name": "camera", "kind": "pixelated", "frame_shape": FRAME_SHAPE}


def scene_of(
    tmp_path: Path,
    arrays: dict[str, AnyArray],
    detectors: list[dict[str, Any]] | None = None,
    **settings: Any,
) -> RecordedScene:
    """Return a scene of arrays recorded at 1 nm."""
    channels = {
        name: {"path": save_npy(tmp_path / f"{name}.npy", array), "pixel_nm": [1.0, 1.0]}
        for name, array in arrays.items()
    }
    return load_scene(instrument(channels, detectors, **settings))


def image(
    scene: RecordedScene, scan: SubScan, detector: str = "adf", current_pA: float = 20.0
) -> AnyArray:
    """Return what an imaging detector records."""
    return scene.image(scan, detector, current_pA=current_pA, time_s=0.0)


def frames(
    scene: RecordedScene, scan: SubScan, first: int = 0, stop: int | None = None
) -> AnyArray:
    """Return what the camera records."""
    last = scan.n_positions if stop is None else stop
    return scene.frames(scan, "camera", first, last, current_pA=20.0, time_s=0.0)


def test_whole_field_is_the_record(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, {"adf": ADF, "abf": 1 - ADF})
    assert scene.field_nm == (4.0, 6.0)
    assert np.array_equal(image(scene, sub_scan()), ADF)
    assert np.array_equal(image(scene, sub_scan(), "abf"), 1 - ADF)


def test_dwell_time_changes_nothing_without_a_gain(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, {"adf": ADF})
    assert np.array_equal(image(scene, sub_scan(dwell_us=1e4)), image(scene, sub_scan("s-2")))


@pytest.mark.parametrize(
    ("recorded", "delivered"),
    [("u1", "float32"), ("u2", "float32"), ("u4", "float64"), ("f8", "float64"), ("?", "float32")],
)
def test_values_keep_their_precision(tmp_path: Path, recorded: str, delivered: str) -> None:
    record = (ADF * 200).astype(recorded)
    scene = scene_of(tmp_path, {"adf": record})
    assert scene.detectors["adf"].dtype == delivered
    assert np.array_equal(image(scene, sub_scan()), record)


def test_a_dtype_rounds_and_a_saturation_clips(tmp_path: Path) -> None:
    record = np.array([[0.4, 0.6], [-3.0, 300.0]])
    detectors = [{"name": "adf", "dtype": "uint8", "saturation": 250.0}]
    scan = sub_scan(fov_nm=(2.0, 2.0), shape=(2, 2))
    seen = image(scene_of(tmp_path, {"adf": record}, detectors), scan)
    assert seen.dtype == np.uint8
    assert seen.tolist() == [[0, 1], [0, 250]]


@pytest.mark.parametrize("gain", [None, 2.0])
def test_no_beam_no_signal(tmp_path: Path, gain: float | None) -> None:
    scene = scene_of(
        tmp_path,
        {"adf": ADF + 5, "camera": FRAMES},
        [{"name": "adf"}, CAMERA],
        counts_per_unit_per_us=gain,
    )
    dark = image(scene, sub_scan(), current_pA=0.0)
    assert dark.shape == (4, 6)
    assert not dark.any()
    frames = scene.frames(sub_scan(), "camera", 3, 9, current_pA=0.0, time_s=0.0)
    assert frames.shape == (6, *FRAME_SHAPE)
    assert not frames.any()


def test_counts_are_poisson_and_grow_with_dwell_time(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, {"adf": np.full((64, 64), 0.5)}, counts_per_unit_per_us=3.0)
    for dwell_us in (4.0, 40.0):
        scan = sub_scan(fov_nm=(64.0, 64.0), shape=(64, 64), dwell_us=dwell_us)
        counts = image(scene, scan)
        expected = 0.5 * 3.0 * dwell_us
        assert np.array_equal(counts, np.rint(counts))
        assert counts.mean() == pytest.approx(expected, abs=4 * (expected / counts.size) ** 0.5)
        edges = stats.poisson(expected).ppf([0.25, 0.5, 0.75])
        bins = np.searchsorted(edges, counts.ravel())
        share = np.diff([0, *stats.poisson(expected).cdf(edges), 1])
        seen = np.bincount(bins, minlength=4)
        assert stats.chisquare(seen, share * counts.size).pvalue > 1e-4


def test_values_below_zero_give_no_counts(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, {"adf": ADF - 9}, counts_per_unit_per_us=50.0)
    assert not image(scene, sub_scan()).any()


def test_counts_beyond_reason_are_refused(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, {"adf": ADF + 1}, counts_per_unit_per_us=1e18)
    with pytest.raises(BadRecording, match=r"'adf'.*counts_per_unit_per_us"):
        image(scene, sub_scan())


def test_noise_differs_between_sub_scans_and_detectors(tmp_path: Path) -> None:
    record = np.full((4, 6), 100.0)
    scene = scene_of(tmp_path, {"adf": record, "abf": record}, counts_per_unit_per_us=1.0)
    first = image(scene, sub_scan("s-1"))
    assert not np.array_equal(first, image(scene, sub_scan("s-2")))
    assert not np.array_equal(first, image(scene, sub_scan("s-1"), "abf"))
    other = scene_of(tmp_path, {"adf": record, "abf": record}, counts_per_unit_per_us=1.0, seed=7)
    assert not np.array_equal(first, image(other, sub_scan("s-1")))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)), cut=st.integers(1, 23))
def test_noise_does_not_depend_on_the_order_of_calls(
    tmp_path: Path, order: list[int], cut: int
) -> None:
    scene = scene_of(
        tmp_path,
        {"adf": ADF * 90, "camera": FRAMES},
        [{"name": "adf"}, CAMERA],
        counts_per_unit_per_us=1.0,
    )
    scans = [sub_scan(f"s-{number}") for number in range(4)]
    wanted = [(image(scene, scan), frames(scene, scan)) for scan in scans]
    for number in order:
        parts = [frames(scene, scans[number], cut), frames(scene, scans[number], 0, cut)]
        assert np.array_equal(image(scene, scans[number]), wanted[number][0])
        assert np.array_equal(np.concatenate(parts[::-1]), wanted[number][1])


@pytest.mark.parametrize("kind", ["npy", "hspy"])
def test_frames_are_the_nearest_recorded_ones(tmp_path: Path, kind: str) -> None:
    channel: dict[str, Any] = {"path": str(tmp_path / f"f.{kind}"), "pixel_nm": [0.5, 0.25]}
    if kind == "npy":
        save_npy(tmp_path / "f.npy", FRAMES)
    else:
        save_hspy(tmp_path / "f.hspy", FRAMES, [])
    scene = load_scene(instrument({"camera": channel}, [CAMERA]))
    assert scene.field_nm == (2.0, 1.5)
    whole = sub_scan(fov_nm=(2.0, 1.5))
    assert np.array_equal(frames(scene, whole), FRAMES.reshape(24, *FRAME_SHAPE))
    assert frames(scene, whole).dtype == np.uint16
    part = sub_scan(center_nm=(0.5, 0.25), fov_nm=(1.0, 0.5), shape=(2, 2))
    assert np.array_equal(frames(scene, part), FRAMES[2:4, 3:5].reshape(4, *FRAME_SHAPE))
    fine = sub_scan(center_nm=(0.5, 0.25), fov_nm=(1.0, 0.5), shape=(4, 2))
    twice = np.repeat(FRAMES[2:4, 3:5], 2, axis=0)
    assert np.array_equal(frames(scene, fine), twice.reshape(8, *FRAME_SHAPE))
    turned = sub_scan(fov_nm=(0.5, 0.5), shape=(1, 2), rotation_deg=180.0)
    straight = sub_scan(fov_nm=(0.5, 0.5), shape=(1, 2))
    assert np.array_equal(frames(scene, turned), frames(scene, straight)[::-1])


def test_frames_with_noise_have_the_mean_of_the_record(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, {"camera": FRAMES}, [CAMERA], counts_per_unit_per_us=30.0)
    delivered = frames(scene, sub_scan(dwell_us=10.0))
    assert delivered.dtype == np.uint16
    counts = delivered.astype(np.float64)
    expected = FRAMES.reshape(24, *FRAME_SHAPE) * 300.0
    spread = (counts - expected)[expected > 0] / np.sqrt(expected[expected > 0])
    assert not counts[expected == 0].any()
    assert abs(spread.mean()) < 0.15
    assert spread.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("gain", [None, 5.0])
def test_a_gap_in_the_record_stays_one(tmp_path: Path, gain: float | None) -> None:
    record = ADF.copy()
    record[1, 2], record[3, 3] = np.nan, np.inf
    seen = image(scene_of(tmp_path, {"adf": record}, counts_per_unit_per_us=gain), sub_scan())
    assert np.array_equal(np.isfinite(seen), np.isfinite(record))


def test_detectors_carry_their_calibration(tmp_path: Path) -> None:
    axes = [{"scale": 1.0, "units": "nm"}] * 2 + [{"scale": 0.02, "units": "$A^{-1}$"}] * 2
    path = save_hspy(tmp_path / "f.hspy", FRAMES, axes)
    for given_mrad in (None, 0.4):
        detector = {**CAMERA, "mrad_per_px": given_mrad, "rotation_deg": 3.0, "flip": True}
        scene = load_scene(instrument({"camera": {"path": str(path)}}, [detector]))
        found = scene.detectors["camera"].calibration
        assert found.mrad_per_px == pytest.approx(given_mrad or 0.02 * 25.0793, rel=1e-4)
        assert (found.rotation_deg, found.flip) == (3.0, True)
        assert (found.source, found.date) == ("made up", "2020-01-02")


@pytest.mark.parametrize(
    ("energy_kV", "wanted"), [(60, 0.048661), (200, 0.025079), (300, 0.019687)]
)
def test_wavelengths_are_those_of_the_tables(energy_kV: float, wanted: float) -> None:
    """Kirkland, Advanced Computing in Electron Microscopy: wavelengths in Å."""
    assert wavelength_A(energy_kV) == pytest.approx(wanted, rel=1e-4)


def test_channels_may_be_sampled_differently_over_one_field(tmp_path: Path) -> None:
    coarse = ADF.reshape(2, 2, 3, 2).mean(axis=(1, 3))
    channels = {
        "adf": {"path": save_npy(tmp_path / "a.npy", ADF), "pixel_nm": [1.0, 1.0]},
        "cu": {"path": save_npy(tmp_path / "c.npy", coarse), "pixel_nm": [2.0, 2.0]},
    }
    scene = load_scene(instrument(channels))
    half = sub_scan(shape=(2, 3))
    assert np.allclose(image(scene, half), image(scene, half, "cu"))


def refusal(tmp_path: Path, *arguments: Any, **settings: Any) -> str:
    """Return the message of the one error that loading must raise."""
    with pytest.raises(BadRecording) as caught:
        scene_of(tmp_path, *arguments, **settings)
    return str(caught.value)


def test_fields_that_differ_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"adf": ADF, "cu": ADF[:3]})
    assert "cu.npy" in message
    assert "3 x 6 nm" in message
    assert "4 x 6 nm" in message


@pytest.mark.parametrize(
    ("arrays", "detector", "words"),
    [
        ({"adf": ADF}, {"name": "haadf"}, ["'haadf'", "adf"]),
        ({"adf": ADF}, {**CAMERA, "channel": "adf"}, ["adf.npy", 'kind = "image"']),
        ({"camera": FRAMES}, {"name": "camera"}, ["camera.npy", 'kind = "pixelated"']),
        ({"camera": FRAMES}, {**CAMERA, "frame_shape": (10, 6)}, ["camera.npy", "[6, 10]"]),
        ({"adf": ADF * np.nan}, {"name": "adf"}, ["adf.npy", "finite"]),
        ({"camera": FRAMES * np.nan}, CAMERA, ["camera.npy", "finite"]),
        ({"camera": FRAMES * 1.0}, {**CAMERA, "dtype": "uint16"}, ["camera.npy", "dtype"]),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, arrays: dict[str, AnyArray], detector: dict[str, Any], words: list[str]
) -> None:
    message = refusal(tmp_path, arrays, [detector])
    for word in words:
        assert word in message


def test_a_pitch_that_nobody_gives_is_asked_for(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "adf.npy", ADF)
    with pytest.raises(BadRecording, match=r"adf\.npy.*set pixel_nm"):
        load_scene(instrument({"adf": {"path": path}}))


def test_gaps_need_a_dtype_that_carries_them(tmp_path: Path) -> None:
    record = ADF.copy()
    record[0, 0] = np.nan
    message = refusal(tmp_path, {"adf": record}, [{"name": "adf", "dtype": "uint16"}])
    assert "leave dtype out" in message
