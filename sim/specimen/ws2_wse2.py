"""A phase-separated WS2/WSe2 monolayer: sulfur-rich and selenium-rich regions side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.build import mx2

from sim.specimen.geometry import distance_to, in_field, projected_cell, thinned, tile, with_margin
from sim.specimen.specimen import FloatArray, Specimen

LATTICE_NM = 0.323
"""Mean of WS2 (0.318) and WSe2 (0.328); the mismatch strain between the phases is left out."""
SULFUR, SELENIUM = 16, 34
_WAVES = 96
_FINE_NM = 0.25
"""Pitch of the grid on which the interface is looked for."""


@dataclass(frozen=True)
class _Composition:
    """Selenium fraction as a smooth random field: 0.5 (1 + tanh((g - level) / sharpness)).

    g is a Gaussian random field with a squared-exponential covariance, as a sum of cosines with
    random waves (Rahimi & Recht, NIPS 2007).
    """

    waves_per_nm: FloatArray
    phases: FloatArray
    sharpness: float
    level: float = 0.0

    def field(self, y_nm: FloatArray, x_nm: FloatArray) -> FloatArray:
        """Return g less its level; 0 on the interface."""
        points = np.stack(np.broadcast_arrays(y_nm, x_nm), axis=-1)
        total = np.zeros(points.shape[:-1])
        for wave, phase in zip(self.waves_per_nm, self.phases, strict=True):
            total += np.cos(points @ wave + phase)
        return np.asarray(total * math.sqrt(2 / len(self.phases)) - self.level)

    def __call__(self, y_nm: FloatArray, x_nm: FloatArray) -> FloatArray:
        """Return the selenium fraction, 0 to 1."""
        return np.asarray(0.5 * (1 + np.tanh(self.field(y_nm, x_nm) / self.sharpness)))


def ws2_wse2(
    field_nm: tuple[float, float],
    *,
    seed: int = 0,
    domain_size_nm: float = 6.0,
    selenium_fraction: float = 0.5,
    interface_sharpness: float = 0.15,
    rotation_deg: float = 10.0,
    margin_nm: float = 5.0,
) -> Specimen:
    """Build the sheet.

    Each chalcogen atom is S or Se at random, with the local composition as its chance of Se.

    Parameters
    ----------
    field_nm : (y, x)
        Field of interest.
    seed : int
        Seed of the composition and of the occupations.
    domain_size_nm : float
        Correlation length of the composition.
    selenium_fraction : float
        Part of the field that is selenium-rich, between 0 and 1.
    interface_sharpness : float
        Width of the transition, in standard deviations of the random field.
    rotation_deg : float
        Rotation of the lattice.
    margin_nm : float
        How far the sheet goes on outside the field.

    Returns
    -------
    Specimen
        Targets are points along the interface, at least 0.5 nm apart. Truth: ``composition``
        (Se fraction), ``phase`` (0 for WS2, 1 for WSe2), ``distance_to_interface_nm``.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if not 0 < selenium_fraction < 1:
        raise ValueError(f"selenium_fraction = {selenium_fraction}: must lie between 0 and 1")
    if not min(domain_size_nm, interface_sharpness) > 0:
        raise ValueError("domain size and interface sharpness of WS2/WSe2 must be positive")
    rng = np.random.default_rng([seed, 3])
    size_nm = with_margin(field_nm, margin_nm)
    composition = _composition(
        field_nm, domain_size_nm, selenium_fraction, interface_sharpness, rng
    )
    vectors, basis, elements = projected_cell(mx2("WS2", kind="2H", a=10 * LATTICE_NM))
    positions, member = tile(vectors, basis, size_nm, rotation_deg)
    numbers = elements[member].copy()
    chance = composition(positions[:, 0], positions[:, 1])
    numbers[(numbers == SULFUR) & (rng.random(len(numbers)) < chance)] = SELENIUM
    interface = _interface(composition, field_nm)
    return Specimen(
        kind="ws2_wse2",
        positions_nm=positions,
        atomic_numbers=numbers,
        multiplicity=np.ones(len(positions)),
        field_nm=field_nm,
        size_nm=size_nm,
        truth={
            "composition": composition,
            "phase": lambda y_nm, x_nm: np.asarray(
                composition.field(y_nm, x_nm) > 0, dtype=np.float64
            ),
            "distance_to_interface_nm": distance_to(interface),
        },
        target_label="WS2/WSe2 interface",
        targets_nm=thinned(interface, 0.5),
    )


def _composition(
    field_nm: tuple[float, float],
    size_nm: float,
    fraction: float,
    sharpness: float,
    rng: np.random.Generator,
) -> _Composition:
    """Draw a composition whose selenium-rich part of the field is ``fraction``."""
    waves = rng.normal(0.0, 1 / size_nm, size=(_WAVES, 2))
    drawn = _Composition(waves, rng.uniform(0, 2 * math.pi, size=_WAVES), sharpness)
    y, x = _grid(field_nm)
    level = float(np.quantile(drawn.field(y, x), 1 - fraction))
    return _Composition(drawn.waves_per_nm, drawn.phases, sharpness, level)


def _grid(field_nm: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    axes = [np.linspace(-f / 2, f / 2, max(2, math.ceil(f / _FINE_NM) + 1)) for f in field_nm]
    y, x = np.meshgrid(*axes, indexing="ij")
    return y, x


def _interface(composition: _Composition, field_nm: tuple[float, float]) -> FloatArray:
    """Return where the field changes sign along the lines of a fine grid: (n, 2) in nm."""
    y, x = _grid(field_nm)
    points, value = np.stack([y, x], axis=-1), composition.field(y, x)
    found = []
    for before, after in (
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        crossing = (value[before] > 0) != (value[after] > 0)
        start, end = value[before][crossing], value[after][crossing]
        along = (start / (start - end))[:, None]
        found.append(points[before][crossing] * (1 - along) + points[after][crossing] * along)
    interface = np.concatenate(found)
    return np.asarray(interface[in_field(interface, field_nm)], dtype=np.float64)
