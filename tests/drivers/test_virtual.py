"""The virtual microscope shows its specimen: the right place, contrast, noise, drift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import registry
from drivers.errors import DriverRefused
from drivers.instrument import InstrumentConfig
from drivers.protocols import Driver, KnowsTruth
from drivers.virtual import DRIVER, SimulatedScene
from drivers.vocabulary import E_PER_S_PER_PA, SubScan

PERFECT = {"rate_nm_per_min": 0.0, "wander_nm": 0.0}


def instrument(
    name: str = "v", detectors: list[dict[str, Any]] | None = None, **virtual: Any
) -> InstrumentConfig:
    """Return a 10 nm graphene instrument; keywords go into ``[drivers.virtual]``."""
    specimen = {"kind": "graphene", "dopants": 5, "vacancies": 3, "margin_nm": 2.0}
    found = detectors or [
        {"name": "haadf", "inner_mrad": 80, "outer_mrad": 200},
        {"name": "maadf", "inner_mrad": 40, "outer_mrad": 80},
        {"name": "bf"},
    ]
    return InstrumentConfig.model_validate(
        {
            "instrument": {"name": name, "virtual": True, "serve": "in_process"},
            "scan": {
                "driver": "virtual", "field_nm": [10.0, 8.0], "settle_us": 100, "flyback_us": 50,
            },
            "detector": [{"driver": "virtual", **one} for one in found],
            "beam": {
                "driver": "virtual", "energy_kV": 60, "semiangle_mrad": 31, "current_pA": 30,
            },
            "column": {"driver": "virtual"},
            "limits": {"max_local_dose_e_per_A2": 1e9, "max_total_dose_e_per_A2": 1e9},
            "drivers": {"virtual": {"specimen": specimen, **virtual}},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> SimulatedScene:
    return SimulatedScene(instrument())


def image(scene: SimulatedScene, scan: SubScan, detector: str = "haadf", **at: float) -> np.ndarray:
    return scene.image(scan, detector, **{"current_pA": 30.0, "time_s": 0.0, **at})


def sub_scan(name: str = "s", **changes: Any) -> SubScan:
    fields = {
        "center_nm": (0.0, 0.0), "fov_nm": (2.0, 2.0), "shape": (64, 64), "dwell_us": 1000.0,
    }  # fmt: skip
    return SubScan(name, **{**fields, **changes})


def test_it_is_a_driver_that_knows_the_truth() -> None:
    assert registry.load("virtual") is DRIVER
    assert isinstance(DRIVER, Driver)
    assert isinstance(DRIVER, KnowsTruth)
    assert DRIVER.emulated


def test_every_target_is_a_bright_spot_where_truth_says(scene: SimulatedScene) -> None:
    truth = DRIVER.truth(instrument())
    assert truth.label == "Si dopants"
    assert truth.targets_nm.shape == (5, 2)
    for number, target in enumerate(truth.targets_nm):
        scan = sub_scan(f"t{number}", center_nm=tuple(target), fov_nm=(0.4, 0.4), shape=(20, 20))
        seen = image(scene, scan).astype(float)
        weight = np.clip(seen - np.percentile(seen, 80), 0, None)[..., None]
        centroid = (weight * scan.positions_nm()).sum(axis=(0, 1)) / weight.sum()
        assert np.linalg.norm(centroid - target) < 0.02


@pytest.mark.parametrize("rotation_deg", [0.0, 37.0, -90.0])
def test_a_rotated_sub_scan_sees_the_same_specimen(
    scene: SimulatedScene, rotation_deg: float
) -> None:
    target = DRIVER.truth(instrument()).targets_nm[0]
    center = tuple(target + np.array([0.3, -0.5]))
    scan = sub_scan("r", center_nm=center, rotation_deg=rotation_deg, dwell_us=5000.0)
    seen = image(scene, scan).astype(float)
    brightest = scan.positions_nm()[np.unravel_index(seen.argmax(), seen.shape)]
    assert np.linalg.norm(brightest - target) < 0.06


def test_counts_are_the_fraction_of_the_electrons_sent(scene: SimulatedScene) -> None:
    """Mean HAADF fraction of graphene: cross-section times density, whatever the probe."""
    scan = sub_scan(fov_nm=(6.0, 6.0), shape=(200, 200))
    electrons = 30.0 * E_PER_S_PER_PA * 1e-3
    expected = scene._annuli["haadf"].cross_sections_nm2(np.array([6]), 60.0)[0] * 38.2
    assert image(scene, scan).mean() / electrons == pytest.approx(expected, rel=0.05)


def test_twice_the_dose_is_twice_the_counts(scene: SimulatedScene) -> None:
    once = image(scene, sub_scan("a"))
    for other in (
        image(scene, sub_scan("b", dwell_us=2000.0)), image(scene, sub_scan("c"), current_pA=60.0)
    ):  # fmt: skip
        assert other.mean() == pytest.approx(2 * once.mean(), rel=0.03)
    assert not image(scene, sub_scan("d"), current_pA=0.0).any()


def test_detectors_see_complementary_contrast(scene: SimulatedScene) -> None:
    scan = sub_scan(dwell_us=10_000.0, shape=(80, 80))
    haadf, maadf, bright = (image(scene, scan, d).astype(float) for d in ("haadf", "maadf", "bf"))
    assert np.corrcoef(haadf.ravel(), maadf.ravel())[0, 1] > 0.6
    assert np.corrcoef(maadf.ravel(), bright.ravel())[0, 1] < -0.3
    electrons = 30.0 * E_PER_S_PER_PA * 1e-2
    assert haadf.mean() < maadf.mean() < bright.mean() < electrons


def test_noise_of_two_detectors_is_independent(scene: SimulatedScene) -> None:
    """Two repeats differ by noise alone; the differences of two detectors don't correlate."""
    first, second = sub_scan("n1"), sub_scan("n2")
    change = [
        (image(scene, first, d).astype(float) - image(scene, second, d).astype(float)).ravel()
        for d in ("haadf", "maadf")
    ]
    assert abs(np.corrcoef(*change)[0, 1]) < 5 / np.sqrt(change[0].size)
    assert change[0].var() == pytest.approx(2 * image(scene, first).mean(), rel=0.2)


@settings(max_examples=10, deadline=None)
@given(st.permutations(["a", "b", "c", "d"]))
def test_order_of_rendering_changes_nothing(order: list[str]) -> None:
    jittery = {"line_jitter_nm": 0.02}
    made = SimulatedScene(instrument(scan_errors=jittery))
    seen = {name: image(made, sub_scan(name, shape=(8, 8))) for name in order}
    fresh = SimulatedScene(instrument(scan_errors=jittery))
    for name in ("a", "b", "c", "d"):
        assert np.array_equal(seen[name], image(fresh, sub_scan(name, shape=(8, 8))))


def test_seeds_and_names_decide_the_noise() -> None:
    images = [
        image(SimulatedScene(instrument(seed=seed)), sub_scan(name))
        for seed, name in ((0, "a"), (1, "a"), (0, "b"))
    ]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_drift_moves_the_specimen_under_the_scan() -> None:
    drift = {"rate_nm_per_min": 1.0, "direction_deg": 0.0}
    made = SimulatedScene(instrument(drift=drift), started_at_s=1000.0)
    scan = sub_scan(shape=(16, 16), dwell_us=1.0)
    np.testing.assert_allclose(made.drift_nm(1000.0), 0)
    np.testing.assert_allclose(made.drift_nm(1060.0), (0, 1), atol=1e-12)
    still, moved = (made.probe_positions_nm(scan, t) for t in (1000.0, 1060.0))
    np.testing.assert_allclose(still, scan.positions_nm(), atol=1e-4)
    # the specimen has moved by +x, so the same place of the scan shows what was at -x
    np.testing.assert_allclose(moved - still, np.broadcast_to((0, -1), still.shape), atol=1e-9)
    followed = made.probe_positions_nm(scan.moved((0.0, 1.0)), 1060.0)
    np.testing.assert_allclose(followed, still, atol=1e-9)


def test_drift_goes_on_during_a_scan() -> None:
    made = SimulatedScene(instrument(drift={"rate_nm_per_min": 6.0, "direction_deg": -90.0}))
    scan = sub_scan(shape=(10, 10), dwell_us=10_000.0)
    sheared = made.probe_positions_nm(scan, 0.0) - scan.positions_nm()
    # 0.1 nm/s towards +y: positions are 10 ms apart, lines 50 µs more; settling takes 100 µs
    elapsed_s = 100e-6 + (np.arange(100).reshape(10, 10) + 0.5) * 0.01
    elapsed_s += np.arange(10)[:, None] * 50e-6
    np.testing.assert_allclose(sheared[..., 0], -0.1 * elapsed_s, atol=1e-5)
    np.testing.assert_allclose(sheared[..., 1], 0, atol=1e-12)


def test_scan_errors_are_the_same_for_all_detectors() -> None:
    made = SimulatedScene(instrument(scan_errors={"line_jitter_nm": 0.05}))
    scan = sub_scan()
    first, second = (made.probe_positions_nm(scan, 0.0) for _ in range(2))
    assert np.array_equal(first, second)
    assert (first - scan.positions_nm()).std() == pytest.approx(0.05, rel=0.3)


def test_saturation_and_dtype_of_a_detector() -> None:
    made = SimulatedScene(instrument(detectors=[{"name": "bf", "dtype": "uint8"}]))
    assert made.detectors["bf"].dtype == "uint8"
    assert np.all(image(made, sub_scan(), "bf") == 255)
    one = {"name": "haadf", "saturation": 3.0}
    clipped = image(SimulatedScene(instrument(detectors=[one])), sub_scan())
    assert clipped.max() == 3


def pixelated(name: str = "camera") -> dict[str, Any]:
    return {"name": name, "kind": "pixelated", "frame_shape": [8, 8]}


@pytest.mark.parametrize(
    ("detector", "complaint"),
    [
        (pixelated(), "use a replayed 4D set"),
        ({"name": "abf", "inner_mrad": 10, "outer_mrad": 25}, "outside the bright disc of 31 mrad"),
        ({"name": "odd"}, "give its inner_mrad and outer_mrad"),
        ({"name": "haadf", "inner_mrad": 0, "outer_mrad": 50}, "outside the bright disc"),
        ({"name": "haadf", "inner_mrad": 90, "outer_mrad": 60}, "collects nothing"),
    ],
)
def test_detectors_that_can_not_be_simulated_are_refused(
    detector: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DriverRefused, match=complaint) as refused:
        SimulatedScene(instrument(detectors=[detector]))
    assert f"'{detector['name']}'" in str(refused.value)


@pytest.mark.parametrize(
    ("detector", "kind"),
    [
        ({"name": "a", "inner_mrad": 0, "outer_mrad": 20}, 4 / 3),
        ({"name": "a", "inner_mrad": 70, "outer_mrad": 150}, 1.7),
        ({"name": "a", "inner_mrad": 35, "outer_mrad": 60}, 1.5),
        ({"name": "a", "channel": "HAADF"}, 1.7),
    ],
)
def test_angles_or_channel_say_what_a_detector_is(detector: dict[str, Any], kind: float) -> None:
    assert SimulatedScene(instrument(detectors=[detector]))._annuli["a"].z_exponent == kind


def too_large(config: InstrumentConfig) -> InstrumentConfig:
    scan = config.scan.model_copy(update={"field_nm": (900.0, 9.0)})
    return config.model_copy(update={"scan": scan})


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: instrument(sed=1), "sed: Extra inputs"),
        (lambda: instrument(specimen={"kind": "quartz"}), "specimen"),
        (lambda: instrument(specimen={"kind": "graphene", "dopants": 9999}), "no room for 9999"),
        (lambda: instrument(faults=[{"kind": "raise", "where": "scna", "nth": 1}]), "faults.0"),
        (lambda: instrument(faults=[{"kind": "raise", "where": "scan"}]), "either nth or a prob"),
        (
            lambda: instrument(faults=[{"kind": "nan_frame", "where": "scan", "nth": 1}]),
            "nan_frame can't happen at scan",
        ),
        (lambda: too_large(instrument(specimen={"kind": "batio3"})), "too large for this probe"),
    ],
)
def test_bad_settings_are_refused_with_their_key(
    make: Callable[[], InstrumentConfig], complaint: str
) -> None:
    with pytest.raises(DriverRefused, match=complaint):
        SimulatedScene(make())


def test_patterns_are_not_faked(scene: SimulatedScene) -> None:
    with pytest.raises(DriverRefused, match="gives no patterns"):
        scene.frames(sub_scan(), "haadf", 0, 1, current_pA=1.0, time_s=0.0)
