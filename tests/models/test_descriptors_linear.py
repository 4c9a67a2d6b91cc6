"""The linear describer: it tells lattices apart, and says when it can't be trusted."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from drivers.vocabulary import DetectorInfo, SubScan, SubScanData
from models.descriptors.components import fit_encoder
from models.descriptors.linear import LinearDescriber
from models.descriptors.protocols import Checkpointable, Describer, Refittable

INFO = DetectorInfo("haadf", "image", "float64")


def specimen(y, x, boundary_nm=0.0):
    """Two lattices, 0.5 nm square on the left, 0.7 nm turned by 45 degrees on the right."""
    left = np.cos(2 * np.pi * y / 0.5) + np.cos(2 * np.pi * x / 0.5)
    right = np.cos(2 * np.pi * (y + x) / 0.7) + np.cos(2 * np.pi * (y - x) / 0.7)
    return 20 + 5 * np.where(x < boundary_nm, left, right)


def record(scan: SubScan, seed: int = 0, counts: float = 20.0, detector=INFO, field=specimen):
    positions = scan.positions_nm()
    rng = np.random.default_rng(seed)
    image = rng.poisson(counts * field(positions[..., 0], positions[..., 1])).astype(float)
    return SubScanData(scan, {detector.name: image[None]}, {detector.name: detector})


@functools.cache
def survey(shape=(256, 256), size=(32.0, 32.0)):
    return record(SubScan("survey", (0.0, 0.0), size, shape, 1.0))


def window(x: float, y: float = 0.0, shape=(64, 64), size=4.0, name="w", **kwargs):
    scan = SubScan(name, (y, x), (size, size), shape, 5.0)
    return record(scan, **kwargs)


@pytest.fixture(scope="module")
def fitted():
    describer = LinearDescriber("haadf", 3, (64, 64))
    describer.prepare(survey(), (4.0, 4.0))
    return describer


def entry(description, name):
    return description.summary[description.names.index(name)]


def test_it_is_what_the_protocols_ask(fitted):
    for protocol in (Describer, Refittable, Checkpointable):
        assert isinstance(fitted, protocol)
    assert fitted.version == 1 and LinearDescriber().version == 0


def test_the_first_component_tells_two_lattices_apart(fitted):
    left = [
        entry(fitted.describe(window(-9.0, y, seed=i)), "mean_1") for i, y in enumerate((-5, 3))
    ]
    right = [
        entry(fitted.describe(window(8.0, y, seed=i)), "mean_1") for i, y in enumerate((-5, 3))
    ]
    apart = abs(np.mean(left) - np.mean(right))
    assert apart > 10 * max(np.ptp(left), np.ptp(right))


def test_the_variance_within_a_sub_scan_is_largest_on_the_boundary(fitted):
    variances = {
        x: entry(fitted.describe(window(x)), "variance_1") for x in (-9.0, -5.0, 0.0, 5.0, 9.0)
    }
    assert max(variances, key=variances.__getitem__) == 0.0
    assert variances[0.0] > 20 * max(v for x, v in variances.items() if x != 0.0)


def test_a_description_holds_what_its_names_say(fitted):
    data = window(3.0)
    got = fitted.describe(data)
    assert got.names == (
        "mean_1", "mean_2", "mean_3", "variance_1", "variance_2", "variance_3",
        "intensity", "contrast",
    )  # fmt: skip
    assert got.z.shape == (9, 3) and got.positions_nm.shape == (9, 2)
    np.testing.assert_allclose(got.summary[:3], got.z.mean(axis=0))
    np.testing.assert_allclose(got.summary[3:6], got.z.var(axis=0))
    image = data.frames["haadf"][0]
    assert entry(got, "intensity") == pytest.approx(image.mean())
    assert entry(got, "contrast") == pytest.approx(image.std() / image.mean())
    assert got.maps["component_2"].shape == (3, 3)
    np.testing.assert_allclose(got.maps["component_2"].ravel(), got.z[:, 1])
    assert (got.sub_scan_id, got.version) == ("w", 1)


def test_positions_are_those_of_the_patches_in_the_specimen(fitted):
    data = window(3.0, -2.0)
    got = fitted.describe(data).positions_nm.reshape(3, 3, 2)
    np.testing.assert_allclose(got[:, :, 0], [[-3.0] * 3, [-2.0] * 3, [-1.0] * 3])
    np.testing.assert_allclose(got[:, :, 1], [[2.0, 3.0, 4.0]] * 3)
    turned = replace(data.sub_scan, rotation_deg=90.0)
    rotated = fitted.describe(replace(data, sub_scan=turned)).positions_nm.reshape(3, 3, 2)
    # the fast axis, +x, points to -y after an anticlockwise quarter turn (y down)
    np.testing.assert_allclose(rotated[1, :, 0], [-1.0, -2.0, -3.0])


def test_brightness_and_dose_hardly_move_the_latents(fitted):
    base = fitted.describe(window(-9.0)).summary[0]
    other = fitted.describe(window(9.0)).summary[0]
    dim = fitted.describe(window(-9.0, counts=5.0)).summary[0]
    assert abs(dim - base) < 0.25 * abs(other - base)


def test_survey_and_sub_scan_of_different_pitch_are_comparable(fitted):
    fine = fitted.describe(window(-9.0, shape=(96, 96))).summary[0]
    plain = fitted.describe(window(-9.0)).summary[0]
    other = fitted.describe(window(9.0)).summary[0]
    assert abs(fine - plain) < 0.2 * abs(other - plain)


def test_health_knows_the_unlike_and_the_broken(fitted):
    assert fitted.describe(window(-9.0)).health.ok

    def stripes(y, x):
        return 20 + 15 * np.sign(np.sin(2 * np.pi * (y + 0.3 * x) / 0.9))

    strange = fitted.describe(window(0.0, field=stripes)).health
    assert not strange.ok and strange.score > 1 and "unlike" in strange.why
    data = window(0.0)
    data.frames["haadf"][0, 3, 4] = np.nan
    broken = fitted.describe(data)
    assert not broken.health.ok and "not finite" in broken.health.why
    assert not np.isfinite(broken.summary).all()


@pytest.mark.parametrize("change", [{"counts": 100.0}, {"shape": (128, 128)}, {"shape": (32, 32)}])
def test_another_dose_or_pitch_is_not_unhealthy(fitted, change):
    assert all(fitted.describe(window(x, **change)).health.ok for x in (-9.0, 0.0, 9.0))


def test_equal_surveys_give_equal_components_with_a_fixed_sign():
    first, second = LinearDescriber("haadf"), LinearDescriber("haadf")
    for describer in (first, second):
        describer.prepare(survey(), (4.0, 4.0))
    components = first.encoder.components
    assert (components == second.encoder.components).all()
    largest = np.abs(components).argmax(axis=1)
    assert (components[np.arange(len(components)), largest] > 0).all()
    np.testing.assert_allclose(components @ components.T, np.eye(len(components)), atol=1e-9)
    assert (np.diff(first.encoder.explained) <= 0).all()


def test_refit_makes_a_new_version_of_what_was_measured(fitted):
    describer = LinearDescriber("haadf", 3, (64, 64))
    describer.prepare(survey(), (4.0, 4.0))
    before = describer.encoder
    with pytest.raises(ValueError, match="0 patches of 0 sub-scans are too few"):
        describer.refit([])
    assert describer.version == 1 and describer.encoder is before
    outcomes = [window(x, name=f"o{x}") for x in (-9.0, -6.0, 0.0, 6.0, 9.0)]
    describer.refit(outcomes)
    assert describer.version == describer.describe(outcomes[0]).version == 2
    left, right = (describer.describe(outcomes[i]).summary[0] for i in (0, 4))
    assert abs(left - right) > 1
    assert describer.describe(outcomes[0]).names == fitted.names


def test_a_restored_describer_describes_the_same(fitted):
    state = fitted.checkpoint()
    assert all(isinstance(v, np.ndarray) and v.dtype != object for v in state.values())
    other = LinearDescriber()
    other.restore(state)
    a, b = (d.describe(window(1.0)) for d in (fitted, other))
    assert (a.z == b.z).all() and (a.summary == b.summary).all()
    assert (a.names, a.version, a.health) == (b.names, b.version, b.health)


def test_several_detectors_are_described_side_by_side():
    bf = DetectorInfo("bf", "image", "float64")

    def both(scan):
        first = record(scan)
        flat = record(scan, detector=bf, field=lambda y, x: 20 + 0 * y)
        return SubScanData(scan, first.frames | flat.frames, first.detectors | flat.detectors)

    describer = LinearDescriber(n_components=2, sub_scan_shape=(64, 64))
    describer.prepare(both(survey().sub_scan), (4.0, 4.0))
    left, right = (describer.describe(both(window(x).sub_scan)).summary[0] for x in (-9, 9))
    assert abs(left - right) > 1
    with pytest.raises(ValueError, match="no frames of detector 'bf'; there are haadf"):
        describer.describe(window(0.0))


def test_a_pixelated_detector_counts_by_the_sum_of_each_frame():
    camera = DetectorInfo("camera", "pixelated", "float64", (2, 2))

    def with_camera(data):
        image = data.frames["haadf"][0]
        share = np.array([[0.1, 0.2], [0.3, 0.4]])
        frames = image.reshape(-1, 1, 1) * share
        return SubScanData(data.sub_scan, {"camera": frames}, {"camera": camera})

    plain, pixelated = LinearDescriber(), LinearDescriber("camera")
    plain.prepare(survey(), (4.0, 4.0))
    pixelated.prepare(with_camera(survey()), (4.0, 4.0))
    a, b = plain.describe(window(0.0)), pixelated.describe(with_camera(window(0.0)))
    np.testing.assert_allclose(a.summary, b.summary, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("n", "patches"), [(64, 9), (32, 9), (20, 4), (10, 1)])
def test_small_sub_scans_get_fewer_patches(n, patches):
    describer = LinearDescriber(sub_scan_shape=(n, n))
    describer.prepare(survey(), (4.0, 4.0))
    got = describer.describe(window(1.0, shape=(n, n)))
    assert len(got.z) == patches
    if patches == 1:
        assert entry(got, "variance_1") == 0.0


def test_what_can_not_be_done_gets_one_clear_error():
    with pytest.raises(ValueError, match="needs a survey"):
        LinearDescriber().prepare(None, (4.0, 4.0))
    with pytest.raises(
        ValueError, match=r"a 3x3 sub-scan is too small for a windowed FFT.*'channel'"
    ):
        LinearDescriber(sub_scan_shape=(3, 3)).prepare(survey(), (4.0, 4.0))
    with pytest.raises(ValueError, match=r"only 2\.0 pixels of the survey"):
        LinearDescriber().prepare(survey((16, 16)), (4.0, 4.0))
    with pytest.raises(ValueError, match="smaller than a sub-scan"):
        LinearDescriber().prepare(survey(size=(3.0, 3.0)), (4.0, 4.0))
    with pytest.raises(ValueError, match="no frames of detector 'bf'"):
        LinearDescriber("bf").prepare(survey(), (4.0, 4.0))
    with pytest.raises(ValueError, match="too few to fit"):
        LinearDescriber().prepare(survey(size=(4.0, 4.0), shape=(6, 6)), (4.0, 4.0))
    with pytest.raises(ValueError, match="no structure"):
        fit_encoder(np.ones((9, 5)), 2)
    with pytest.raises(ValueError, match="not finite"):
        fit_encoder(np.full((9, 5), np.nan), 2)
    with pytest.raises(RuntimeError, match="call prepare"):
        LinearDescriber().describe(window(0.0))
    with pytest.raises(ValueError, match="at least 1"):
        LinearDescriber(n_components=0)


def test_a_sub_scan_that_turns_out_too_small_is_refused(fitted):
    with pytest.raises(ValueError, match="sub-scan w: a 8x8 sub-scan is too small"):
        fitted.describe(window(0.0, shape=(8, 8)))


def test_a_real_lattice_differs_from_its_own_pixels_shuffled(real_data):
    """A real frame of graphene: windows described by components of that frame."""
    import h5py

    path = sorted(real_data("graphene_haadf").glob("*.hdf5"))[0]
    with h5py.File(path) as file:
        image = np.asarray(file["image_data"], dtype=float).squeeze()
    shape = image.shape
    scan = SubScan("real", (0.0, 0.0), (4.0 * shape[0] / shape[1], 4.0), shape, 1.0)
    data = SubScanData(scan, {"haadf": image[None]}, {"haadf": INFO})
    describer = LinearDescriber("haadf", 4)
    describer.prepare(data, (1.0, 1.0))
    n = round(shape[1] / 4)
    part = SubScan("p", (0.0, 0.0), (1.0, 1.0), (n, n), 1.0)
    crop = SubScanData(part, {"haadf": image[None, :n, :n]}, {"haadf": INFO})
    got = describer.describe(crop)
    assert np.isfinite(got.summary).all() and got.health.ok
    noise = np.random.default_rng(0).permuted(image.ravel()).reshape(shape)[None, :n, :n]
    strange = describer.describe(SubScanData(part, {"haadf": noise}, {"haadf": INFO}))
    spread = np.abs(strange.summary[:4] - got.summary[:4]).max()
    assert spread > 3 * np.sqrt(got.summary[4:8].max() / len(got.z))
