"""Phases of triple products of Fourier components: what magnitudes alone cannot tell.

A sublattice displaced one way and the other way gives the same Fourier magnitudes. The product
F(u) F(v) F*(u+v), the bispectrum, keeps the phase that tells them apart, and shifting the whole
image does not change it: it is the lowest order of which both are true (A. W. Lohmann and
B. Wirnitzer, Proc. IEEE 72, 889 (1984)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from drivers.vocabulary import FloatArray, NmPair
from models.descriptors.spectra import FLAT

MAX_REFLECTIONS = 16
"""Most lattice reflections that are looked for in a survey, the strongest."""
MAX_TRIPLES = 32
"""Most triples that are features: bounds the work."""
SIGNIFICANT = 30.0
"""Power of a reflection over the median; noise alone reaches 20 in 10^6 frequencies."""
NEAREST = 3.0
"""Least frequency of a reflection, in multiples of one over a patch's size: the width of the
window's own peak at the origin."""


@dataclass(frozen=True, slots=True)
class Triples:
    """Pairs of spatial frequencies u, v whose products with F*(u+v) are the features.

    Attributes
    ----------
    pairs : (m, 2, 2) array
        u and v of each, (y, x) in 1/nm.
    """

    pairs: FloatArray

    def features(self, patches: FloatArray, pixel_nm: NmPair) -> FloatArray:
        """Return the odd part of the triple products of each patch: (n, m).

        Im B / |B|^(2/3) of B = F(u) F(v) F*(u+v), over the mean magnitude of all Fourier
        components used: neither brightness, offset nor gain move it, and it vanishes where the
        structure has an inversion centre. Flat patches give zeros.

        Parameters
        ----------
        patches : (n, ny, nx) array
        pixel_nm : (y, x)
            Pitch of their pixels in nm.
        """
        u, v = self.pairs[:, 0], self.pairs[:, 1]
        m = len(self.pairs)
        parts = _fourier(patches, pixel_nm, np.concatenate([u, v, u + v]))
        product = parts[:, :m] * parts[:, m : 2 * m] * parts[:, 2 * m :].conj()
        magnitude = np.abs(product)
        size = np.abs(parts).mean(axis=1, keepdims=True)
        flat = size <= FLAT * np.abs(patches).max(axis=(1, 2))[:, None]
        scale = np.cbrt(magnitude) ** 2 * size
        odd = np.where(flat | (scale == 0), 0.0, product.imag)
        return np.asarray(odd / np.where(flat | (scale == 0), 1.0, scale), dtype=np.float64)

    @classmethod
    def find(
        cls, survey: FloatArray, pixel_nm: NmPair, patch_nm: NmPair, coarsest_nm: NmPair
    ) -> Triples:
        """Choose the triples of the strongest lattice reflections in a survey.

        Parameters
        ----------
        survey : (ny, nx) array
        pixel_nm : (y, x)
            Pitch of its pixels.
        patch_nm : (y, x)
            Size of the patches to come: reflections nearer than its resolution are one.
        coarsest_nm : (y, x)
            Coarsest pixel pitch to be compared; nothing beyond 0.8 of its Nyquist frequency
            is used.

        Raises
        ------
        ValueError
            If the survey shows no lattice whose reflections add up to one another.
        """
        found, strength = _reflections(survey, pixel_nm, patch_nm, coarsest_nm)
        pairs = _closed_pairs(found, strength, 0.25 / np.asarray(patch_nm))
        if not len(pairs):
            raise ValueError(
                f"descriptor linear: features 'phases' need a lattice in the survey, and "
                f"{len(found)} reflections that stand out of the noise give no triple; take a "
                "finer survey or more dose, or use features = 'amplitudes'"
            )
        return cls(pairs)


def blackman(n: int) -> FloatArray:
    """Return the Blackman window at n pixel centres: side lobes of 0.1 %, where Hann has 3 %.

    Leakage between reflections would change with the lattice's place in the patch, and so add to
    phases what a displacement of some picometres does.
    """
    t = 2 * np.pi * (np.arange(n) + 0.5) / n
    return np.asarray(0.42 - 0.5 * np.cos(t) + 0.08 * np.cos(2 * t), dtype=np.float64)


def _fourier(patches: FloatArray, pixel_nm: NmPair, frequencies: FloatArray) -> FloatArray:
    """Return complex Fourier components (n, f) of Blackman-windowed patches, mean removed."""
    n, ny, nx = patches.shape
    weight = np.outer(blackman(ny), blackman(nx))
    weight /= weight.sum()
    mean = (patches * weight).sum(axis=(1, 2), keepdims=True)
    windowed = ((patches - mean) * weight).reshape(n, -1)
    y_nm, x_nm = np.arange(ny) * pixel_nm[0], np.arange(nx) * pixel_nm[1]
    turns = frequencies[:, :1, None] * y_nm[:, None] + frequencies[:, 1:, None] * x_nm
    return np.asarray(windowed @ np.exp(-2j * np.pi * turns.reshape(len(frequencies), -1)).T)


def _reflections(
    survey: FloatArray, pixel_nm: NmPair, patch_nm: NmPair, coarsest_nm: NmPair
) -> tuple[FloatArray, FloatArray]:
    """Return the strongest peaks of a survey's power spectrum, (k, 2) in 1/nm, and their power.

    One of each pair of opposite ones; the strongest first.
    """
    ny, nx = survey.shape
    windowed = (survey - survey.mean()) * np.outer(blackman(ny), blackman(nx))
    power = np.abs(fft.rfft2(windowed)) ** 2
    k_y = fft.fftfreq(ny, pixel_nm[0])[:, None]
    k_x = fft.rfftfreq(nx, pixel_nm[1])[None, :]
    steps = np.hypot(k_y * patch_nm[0], k_x * patch_nm[1])
    limit_y, limit_x = (0.8 / (2 * pitch) for pitch in coarsest_nm)
    usable = (steps >= NEAREST) & (np.abs(k_y) <= limit_y) & (k_x <= limit_x)
    usable &= (k_x > 0) | (k_y > 0)
    left = np.where(usable, power, 0.0)
    floor = SIGNIFICANT * float(np.median(power[usable])) if usable.any() else np.inf
    found: list[tuple[float, float]] = []
    strength: list[float] = []
    while len(found) < MAX_REFLECTIONS and left.max() > floor:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        peak = float(k_y[row, 0]), float(k_x[0, column])
        found.append(peak)
        strength.append(float(left[row, column]))
        for sign in (1, -1):
            away = np.hypot(
                (k_y - sign * peak[0]) * patch_nm[0], (k_x - sign * peak[1]) * patch_nm[1]
            )
            left[away < 1.0] = 0.0
    return np.array(found).reshape(-1, 2), np.array(strength)


def _closed_pairs(found: FloatArray, strength: FloatArray, near: FloatArray) -> FloatArray:
    """Return the pairs (m, 2, 2) whose sum is a reflection too, those of most power first."""
    both = np.concatenate([found, -found]) if len(found) else found
    power = np.concatenate([strength, strength])
    chosen: dict[tuple[int, ...], tuple[float, FloatArray]] = {}
    k = len(found)
    for i in range(k):
        for j in range(len(both)):
            gap = np.abs(both - (both[i] + both[j])) / near
            hit = int(gap.max(axis=1).argmin())
            # three reflections make one triple, in whatever order and sign
            key = tuple(sorted((i, j % k, hit % k)))
            if gap[hit].max() <= 1 and key not in chosen:
                chosen[key] = power[i] * power[j] * power[hit], np.stack([both[i], both[j]])
    best = sorted(chosen.values(), key=lambda each: -each[0])[:MAX_TRIPLES]
    return np.array([pair for _, pair in best]).reshape(-1, 2, 2)
