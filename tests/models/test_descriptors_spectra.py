"""Windowed spectra against the FFT, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import windows

from models.descriptors.spectra import (
    FrequencyGrid,
    amplitudes,
    fitting_orders,
    hann,
    log_spectra,
)


def lattice(n, pitch_nm, size_nm, phase=(0.0, 0.0), contrast=0.5):
    """An n x n image of a square lattice over size_nm."""
    r = (np.arange(n) + 0.5) * size_nm / n
    y = np.cos(2 * np.pi * r / pitch_nm + phase[0])[:, None]
    x = np.cos(2 * np.pi * r / pitch_nm + phase[1])[None]
    return 10 * (1 + contrast * (y + x) / 2)


def test_hann_window_is_the_usual_one_between_its_zeros():
    # at pixel centres: every second sample of the symmetric window of 2 n + 1 points
    np.testing.assert_allclose(hann(12), windows.hann(25, sym=True)[1::2], atol=1e-12)


def test_magnitudes_are_those_of_the_fft_where_the_grids_agree():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 16, 24))
    grid = FrequencyGrid((1.6, 4.8), (5, 7))
    got = amplitudes(images, (0.1, 0.2), grid)
    window = np.outer(hann(16), hann(24))
    window /= window.sum()
    centred = images - (images * window).sum(axis=(1, 2))[:, None, None]
    fft = np.abs(np.fft.fftshift(np.fft.fft2(centred * window), axes=2))
    np.testing.assert_allclose(got, fft[:, :6, 12 - 7 : 12 + 8], atol=1e-12)


def test_the_origin_vanishes_and_no_frequency_is_kept_twice():
    grid = FrequencyGrid((2.0, 2.0), (3, 3))
    spectrum = amplitudes(np.random.default_rng(0).normal(size=(1, 16, 16)), (0.125, 0.125), grid)
    assert spectrum[0, 0, 3] == pytest.approx(0, abs=1e-15)
    # at k_y = 0 the two signs of k_x say the same of a real image
    np.testing.assert_allclose(spectrum[0, 0, :3], spectrum[0, 0, :3:-1])
    assert grid.n_features == (7 * 7 - 1) // 2
    assert grid.kept().shape == grid.shape


def test_one_lattice_gives_one_spectrum_whatever_the_pixel_pitch():
    size = 4.0
    grid = FrequencyGrid((size, size), (10, 10))
    coarse, fine = (
        amplitudes(lattice(n, 0.5, size)[None], (size / n, size / n), grid)[0] for n in (32, 128)
    )
    np.testing.assert_allclose(coarse, fine, atol=0.01 * fine.max())
    assert np.unravel_index(fine.argmax(), fine.shape) in [(8, 10), (0, 2), (0, 18)]


@given(
    shift=st.tuples(st.floats(0, 6.28), st.floats(0, 6.28)),
    gain=st.floats(1e-3, 1e4),
    offset=st.floats(0, 1e3),
)
def test_shift_gain_and_offset_leave_the_spectrum(shift, gain, offset):
    grid = FrequencyGrid((4.0, 4.0), (12, 12))
    texture = np.random.default_rng(1).normal(size=(64, 64))
    pixel = (4 / 64, 4 / 64)
    base = log_spectra((lattice(64, 0.5, 4.0) + texture)[None], pixel, grid)
    scaled = log_spectra((gain * (lattice(64, 0.5, 4.0) + texture) + offset)[None], pixel, grid)
    np.testing.assert_allclose(scaled, base, atol=1e-6)
    moved = log_spectra((lattice(64, 0.5, 4.0, shift) + texture)[None], pixel, grid)
    assert np.abs(moved - base).mean() < 0.12 < base.std()


def test_flat_patches_give_zeros():
    grid = FrequencyGrid((2.0, 2.0), (4, 4))
    flat = np.stack([np.zeros((16, 16)), np.full((16, 16), 0.1 + 1e5)])
    assert not log_spectra(flat, (0.125, 0.125), grid).any()


@pytest.mark.parametrize(
    ("pitch", "most", "expected"),
    [((0.1, 0.2), 99, (16, 8)), ((0.1, 0.2), 10, (10, 8)), ((3.0, 3.0), 10, (1, 1))],
)
def test_orders_stay_below_the_nyquist_frequency(pitch, most, expected):
    assert fitting_orders((4.0, 4.0), pitch, 0.8, most) == expected
