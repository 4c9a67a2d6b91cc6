"""Triple products of Fourier components: they keep the sense of a displacement, no more."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.vocabulary import DetectorInfo, FloatArray, SubScan, SubScanData
from models.descriptors.factory import make_describer
from models.descriptors.linear import LinearDescriber
from models.descriptors.triples import Triples

PIXEL_NM = (0.04, 0.04)
A_NM = 0.4
ALONG_X = Triples(np.array([[[0.0, 2.5], [0.0, 2.5]]]))
INFO = DetectorInfo("haadf", "image", "float64")


def atoms(y: FloatArray, x: FloatArray, shift_nm: FloatArray | float) -> FloatArray:
    """A square lattice of bright columns, with dim ones beside each cell's middle by ``shift``."""

    def column(dy: FloatArray, dx: FloatArray) -> FloatArray:
        return np.exp(4 * (np.cos(2 * np.pi * dy / A_NM) + np.cos(2 * np.pi * dx / A_NM) - 2))

    return 2.0 + 20 * column(y, x) + 8 * column(y - A_NM / 2, x - A_NM / 2 - shift_nm)


def patch(shift_nm: float, moved_nm: tuple[float, float] = (0.0, 0.0), n: int = 40) -> FloatArray:
    axis = np.arange(n) * PIXEL_NM[0]
    y, x = np.meshgrid(axis - moved_nm[0], axis - moved_nm[1], indexing="ij")
    return np.asarray(atoms(y, x, shift_nm))[None]


@functools.cache
def found(noise: float = 0.0) -> Triples:
    axis = np.arange(256) * PIXEL_NM[0]
    image = atoms(*np.meshgrid(axis, axis, indexing="ij"), 0.02)
    image = image + noise * np.random.default_rng(0).normal(size=image.shape)
    return Triples.find(image, PIXEL_NM, (1.6, 1.6), PIXEL_NM)


@pytest.mark.parametrize("phase", [-1.2, 0.0, 0.4, 2.0])
def test_the_phase_of_a_known_series_is_recovered(phase: float) -> None:
    """1 + a cos(gx) + b cos(2gx + φ): F(g) F(g) F*(2g) = a²b/8 exp(-iφ)."""
    a, b = 0.6, 0.3
    x = 2 * np.pi * 2.5 * np.arange(40) * PIXEL_NM[1]
    image = np.broadcast_to(1 + a * np.cos(x) + b * np.cos(2 * x + phase), (40, 40))[None]
    mean = (a / 2 + a / 2 + b / 2) / 3
    expected = -np.sin(phase) * np.cbrt(a * a * b / 8) / mean
    assert ALONG_X.features(image, PIXEL_NM)[0, 0] == pytest.approx(expected, abs=2e-4)


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_moving_the_lattice_in_the_window_changes_nothing(dy_nm: float, dx_nm: float) -> None:
    triples = found()
    here, there = (triples.features(patch(0.015, m), PIXEL_NM) for m in ((0, 0), (dy_nm, dx_nm)))
    scale = np.abs(here).max()
    assert scale > 0.05
    assert np.allclose(there, here, atol=0.05 * scale)


def test_opposite_displacements_have_opposite_features() -> None:
    triples = found()
    plus, minus, none = (triples.features(patch(s), PIXEL_NM)[0] for s in (0.015, -0.015, 0.0))
    largest = np.abs(plus).max()
    assert largest > 0.1
    assert np.allclose(plus, -minus, atol=0.02 * largest)
    assert np.allclose(none, 0.0, atol=0.02 * largest)


def test_features_grow_with_the_displacement() -> None:
    triples = found()
    sizes = [np.linalg.norm(triples.features(patch(s), PIXEL_NM)) for s in (0.005, 0.01, 0.02)]
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.1)
    assert sizes[2] == pytest.approx(4 * sizes[0], rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 1e3), st.floats(-100, 100))
def test_gain_and_offset_change_nothing(gain: float, offset: float) -> None:
    image, triples = patch(0.015), ALONG_X
    plain = triples.features(image, PIXEL_NM)
    assert np.allclose(triples.features(gain * image + offset, PIXEL_NM), plain, atol=1e-6)


def test_flat_patches_give_zeros() -> None:
    assert not ALONG_X.features(np.full((2, 16, 16), 7.0), PIXEL_NM).any()
    assert not ALONG_X.features(np.zeros((2, 16, 16)), PIXEL_NM).any()


def test_the_pairs_found_are_reflections_of_the_lattice() -> None:
    orders = found(noise=2.0).pairs * A_NM
    assert len(orders) >= 4
    assert np.allclose(orders, np.round(orders), atol=0.06)
    assert np.round(np.abs(orders)).max(axis=2).min() >= 1


def test_each_triple_is_found_once() -> None:
    pairs = np.round(found().pairs * A_NM).astype(int)
    keys = set()
    for u, v in pairs:
        members = [tuple(u), tuple(v), tuple(u + v)]
        keys.add(tuple(sorted(max(m, tuple(-np.array(m))) for m in members)))
    assert len(keys) == len(pairs)


def test_noise_holds_no_lattice() -> None:
    image = np.random.default_rng(1).poisson(5.0, (512, 512)).astype(float)
    with pytest.raises(ValueError, match="need a lattice in the survey"):
        Triples.find(image, PIXEL_NM, (1.6, 1.6), PIXEL_NM)


# -- in the linear describer ---------------------------------------------------------------------


def record(scan: SubScan, seed: int) -> SubScanData:
    """A film polarized towards +x where x > 0 and towards -x elsewhere, with counting noise."""
    at = scan.positions_nm()
    shift_nm = 0.015 * np.tanh(at[..., 1] / 0.3)
    expected = 3 * atoms(at[..., 0], at[..., 1], shift_nm)
    image = np.random.default_rng(seed).poisson(expected).astype(np.float64)
    return SubScanData(scan, {"haadf": image[None]}, {"haadf": INFO})


def window(x_nm: float, seed: int) -> SubScanData:
    return record(SubScan("w", (0.13, x_nm), (3.2, 3.2), (80, 80), 5.0), seed)


@pytest.fixture(scope="module")
def fitted() -> LinearDescriber:
    describer = LinearDescriber("haadf", 3, (80, 80), features="phases")
    describer.prepare(
        record(SubScan("s", (0.0, 0.0), (20.0, 20.0), (500, 500), 1.0), 0), (3.2, 3.2)
    )
    return describer


def separation(describer: LinearDescriber) -> float:
    """Return how far apart the domains' first means are, over their spread."""
    values = [
        [
            describer.describe(window(side * x, seed)).summary[0]
            for seed, x in enumerate((3, 4, 5, 6))
        ]
        for side in (-1, 1)
    ]
    left, right = np.array(values)
    return float(abs(left.mean() - right.mean()) / max(left.std(), right.std()))


def test_phases_tell_domains_apart_and_amplitudes_do_not(fitted: LinearDescriber) -> None:
    blind = LinearDescriber("haadf", 3, (80, 80))
    survey = record(SubScan("s", (0.0, 0.0), (20.0, 20.0), (500, 500), 1.0), 0)
    blind.prepare(survey, (3.2, 3.2))
    assert separation(fitted) > 10
    assert separation(blind) < 5


def test_the_variance_is_largest_on_a_wall(fitted: LinearDescriber) -> None:
    entry = fitted.names.index("variance_1")
    on_wall, inside = (fitted.describe(window(x, 9)).summary[entry] for x in (0.0, 5.0))
    assert on_wall > 10 * inside


def test_health_is_good_for_more_of_the_same(fitted: LinearDescriber) -> None:
    assert fitted.describe(window(4.0, 5)).health.ok


def test_a_checkpoint_describes_the_same(fitted: LinearDescriber) -> None:
    other = LinearDescriber()
    other.restore(fitted.checkpoint())
    data = window(1.0, 3)
    assert np.array_equal(other.describe(data).summary, fitted.describe(data).summary)


def test_unknown_features_are_refused() -> None:
    with pytest.raises(ValueError, match="known are amplitudes, phases"):
        make_describer("linear", {"features": "phase"})
