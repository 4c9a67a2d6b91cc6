"""A BaTiO3 film seen along [001], with ferroelectric a and c domains."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms

from sim.specimen.geometry import in_field, projected_cell, tile, with_margin
from sim.specimen.specimen import FloatArray, Specimen, TruthField

LATTICE_NM = 0.4
C_AXIS_NM = 0.4036
TI_SHIFT_NM = 0.0135 * C_AXIS_NM
O_APICAL_SHIFT_NM = -0.0250 * C_AXIS_NM
O_SIDE_SHIFT_NM = -0.0150 * C_AXIS_NM
"""Shifts along the polarization against Ba in bulk (Shirane et al., Phys. Rev. 105, 856 (1957))."""
_C_DOMAIN = np.array([-1.0, 0.0])
_A_DOMAIN = np.array([0.0, 1.0])
_ACROSS = np.array([-1.0, 1.0]) / math.sqrt(2)
"""Normal of the walls, (y, x): 90° walls without charge, the polarization head to tail."""


def batio3(
    field_nm: tuple[float, float],
    *,
    seed: int = 0,
    thickness_nm: float = 8.0,
    domain_width_nm: float = 9.0,
    wall_width_nm: float = 1.0,
    enhancement: float = 2.0,
    margin_nm: float = 5.0,
) -> Specimen:
    """Build the film.

    Stripes at 45°, by turns polarized towards -y (c) and towards +x (a). Across a wall the
    polarization's component along the wall turns over as tanh(s / wall width), the other one
    stays. The Ba lattice is cubic and unstrained.

    Parameters
    ----------
    field_nm : (y, x)
        Field of interest.
    seed : int
        Seed of the stripes' widths.
    thickness_nm : float
        Thickness along the beam.
    domain_width_nm : float
        Mean width of the stripes; each is between half and one and a half times this.
    wall_width_nm : float
        Half width ξ of the walls' tanh.
    enhancement : float
        Displacements over those of bulk BaTiO3; strained films reach two and more
        (Choi et al., Science 306, 1005 (2004)).
    margin_nm : float
        How far the film goes on outside the field.

    Returns
    -------
    Specimen
        Targets are points along the walls, 0.5 nm apart. Truth: ``domain`` (0 for c, 1 for a),
        ``polarization`` ((..., 2), (y, x), 1 in a domain's middle), ``distance_to_wall_nm``.

    Raises
    ------
    ValueError
        If a length is not positive.
    """
    if not min(thickness_nm, domain_width_nm, wall_width_nm) > 0:
        raise ValueError("thickness, domain width and wall width of BaTiO3 must be positive")
    size_nm = with_margin(field_nm, margin_nm)
    walls_nm = _wall_places(size_nm, domain_width_nm, np.random.default_rng([seed, 2]))
    polarization = _polarization(walls_nm, wall_width_nm)
    vectors, basis, elements = projected_cell(_cell())
    sites, member = tile(vectors, basis, size_nm)
    along = np.array([0.0, TI_SHIFT_NM, O_APICAL_SHIFT_NM, O_SIDE_SHIFT_NM, O_SIDE_SHIFT_NM])
    local = polarization(sites[:, 0], sites[:, 1])
    positions = sites + enhancement * along[member][:, None] * local
    inside = in_field(positions, size_nm)
    return Specimen(
        kind="batio3",
        positions_nm=positions[inside],
        atomic_numbers=elements[member[inside]],
        multiplicity=np.full(int(inside.sum()), float(max(1, round(thickness_nm / C_AXIS_NM)))),
        field_nm=field_nm,
        size_nm=size_nm,
        truth={
            "domain": lambda y_nm, x_nm: _domain(_across(y_nm, x_nm), walls_nm),
            "polarization": polarization,
            "distance_to_wall_nm": lambda y_nm, x_nm: _nearest(_across(y_nm, x_nm), walls_nm),
        },
        target_label="domain walls",
        targets_nm=_points_on_walls(walls_nm, field_nm),
    )


def _cell() -> Atoms:
    """Return the cubic cell: Ba, Ti, the O above Ti, and the two O beside it."""
    return Atoms(
        "BaTiO3",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        cell=[10 * LATTICE_NM] * 3,
        pbc=True,
    )


def _across(y_nm: FloatArray, x_nm: FloatArray) -> FloatArray:
    """Return the coordinate across the walls, in nm."""
    return np.asarray(y_nm * _ACROSS[0] + x_nm * _ACROSS[1])


def _wall_places(
    size_nm: tuple[float, float], width_nm: float, rng: np.random.Generator
) -> FloatArray:
    """Return where the walls cross the normal through (0, 0), in nm, ascending."""
    reach = math.hypot(*size_nm) / 2
    number = math.ceil(2 * reach / (0.5 * width_nm)) + 2
    widths = width_nm * rng.uniform(0.5, 1.5, size=number)
    places = -reach + np.cumsum(widths) - rng.uniform(0, width_nm)
    return np.asarray(places[places < reach], dtype=np.float64)


def _polarization(walls_nm: FloatArray, wall_width_nm: float) -> TruthField:
    """Return f(y_nm, x_nm) -> (..., 2), (y, x): unit length in the middle of a domain."""

    def polarization(y_nm: FloatArray, x_nm: FloatArray) -> FloatArray:
        across = _across(y_nm, x_nm)
        # -1 in c domains, +1 in a domains; each wall that is passed turns the sign over
        sign = -np.ones(across.shape)
        for place in walls_nm:
            sign *= -np.tanh((across - place) / wall_width_nm)
        middle, half = (_A_DOMAIN + _C_DOMAIN) / 2, (_A_DOMAIN - _C_DOMAIN) / 2
        return np.asarray(middle + sign[..., None] * half)

    return polarization


def _domain(across_nm: FloatArray, walls_nm: FloatArray) -> FloatArray:
    """Return 0 in c domains and 1 in a domains."""
    return np.asarray(np.searchsorted(walls_nm, across_nm) % 2, dtype=np.float64)


def _nearest(across_nm: FloatArray, walls_nm: FloatArray) -> FloatArray:
    """Return the distance in nm to the nearest wall; inf when there is none."""
    distance = np.full(np.shape(across_nm), np.inf)
    for place in walls_nm:
        distance = np.minimum(distance, np.abs(across_nm - place))
    return distance


def _points_on_walls(
    walls_nm: FloatArray, field_nm: tuple[float, float], step_nm: float = 0.5
) -> FloatArray:
    reach = math.hypot(*field_nm) / 2
    along = np.array([1.0, 1.0]) / math.sqrt(2)
    steps = np.arange(-reach, reach, step_nm)
    points = walls_nm[:, None, None] * _ACROSS + steps[None, :, None] * along
    flat = points.reshape(-1, 2)
    return np.asarray(flat[in_field(flat, field_nm)], dtype=np.float64)
