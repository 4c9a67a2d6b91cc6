"""A graphene sheet: two grains, their boundary, substitutional Si atoms and vacancies."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from ase.build import graphene as ase_graphene
from scipy.spatial import KDTree

from sim.specimen.geometry import (
    distance_to,
    in_field,
    projected_cell,
    tile,
    too_close,
    with_margin,
)
from sim.specimen.specimen import FloatArray, IntArray, Specimen, TruthField

LATTICE_NM = 0.246
BOND_NM = LATTICE_NM / math.sqrt(3)
_OVERLAP_NM = 0.09
_NEAREST_NM = 0.105
"""Two atoms closer than these are one too many: before and after the seam is relaxed."""
_SEAM_NM = 0.45
_REACH_NM = 0.02
"""How far each grain reaches over the line before atoms in each other's way are taken out."""
_SECOND_NM = 0.235
"""Atoms that are not bonded keep this far apart."""
_STRETCHED_NM = 0.19
_APART_NM = 0.8
"""Nearest that two defects are placed."""


def graphene(
    field_nm: tuple[float, float],
    *,
    seed: int = 0,
    dopants: int = 24,
    vacancies: int = 12,
    boundary: bool = True,
    tilt_deg: float = 21.8,
    boundary_angle_deg: float = 70.0,
    boundary_affinity: float = 0.5,
    boundary_reach_nm: float = 1.5,
    margin_nm: float = 5.0,
) -> Specimen:
    """Build the sheet.

    Parameters
    ----------
    field_nm : (y, x)
        Field in which defects are placed.
    seed : int
        Seed of the boundary's place and of the defects.
    dopants, vacancies : int
        Number of Si atoms on carbon sites and of missing carbon atoms, in the field.
    boundary : bool
        Whether there are two grains; otherwise one.
    tilt_deg : float
        Angle between the grains' lattices.
    boundary_angle_deg : float
        Direction of the boundary, anticlockwise from +x.
    boundary_affinity : float
        Part of the Si atoms (0 to 1) that sit near the boundary.
    boundary_reach_nm : float
        Distance from the boundary at which a site near it is 1/e as likely to be one of theirs.
    margin_nm : float
        How far the sheet goes on outside the field.

    Returns
    -------
    Specimen
        Targets are the Si atoms. Truth: ``grain`` (0 or 1), ``distance_to_boundary_nm``,
        ``distance_to_dopant_nm``.

    Raises
    ------
    ValueError
        If the field has no room for that many defects, or a number is out of range.
    """
    if not 0 <= boundary_affinity <= 1:
        raise ValueError(f"boundary_affinity = {boundary_affinity}: must be between 0 and 1")
    if not boundary_reach_nm > 0:
        raise ValueError(f"boundary_reach_nm = {boundary_reach_nm}: must be positive")
    rng = np.random.default_rng([seed, 1])
    size_nm = with_margin(field_nm, margin_nm)
    offset_nm = float(rng.uniform(-0.15, 0.15)) * min(field_nm)
    signed = _signed_distance(boundary_angle_deg, offset_nm)
    if boundary:
        positions = _two_grains(size_nm, signed, boundary_angle_deg, tilt_deg)
    else:
        signed = _signed_distance(boundary_angle_deg, -math.inf)
        positions = _sheet(size_nm, boundary_angle_deg)
    at_boundary = round(boundary_affinity * dopants) if boundary else 0

    def likelihood(sites_nm: FloatArray) -> FloatArray:
        return np.exp(-np.abs(signed(sites_nm[:, 0], sites_nm[:, 1])) / boundary_reach_nm)

    chosen = _defect_sites(positions, field_nm, dopants, vacancies, at_boundary, likelihood, rng)
    numbers = np.full(len(positions), 6, dtype=np.int64)
    numbers[chosen[:dopants]] = 14
    silicon = positions[chosen[:dopants]]
    kept = np.delete(np.arange(len(positions)), chosen[dopants:])
    return Specimen(
        kind="graphene",
        positions_nm=positions[kept],
        atomic_numbers=numbers[kept],
        multiplicity=np.ones(len(kept)),
        field_nm=field_nm,
        size_nm=size_nm,
        truth={
            "grain": lambda y_nm, x_nm: np.asarray(signed(y_nm, x_nm) > 0, dtype=np.float64),
            "distance_to_boundary_nm": lambda y_nm, x_nm: np.abs(signed(y_nm, x_nm)),
            "distance_to_dopant_nm": distance_to(silicon),
        },
        target_label="Si dopants",
        targets_nm=silicon,
    )


def _signed_distance(angle_deg: float, offset_nm: float) -> TruthField:
    """Return the distance in nm from a line at that angle; positive on the side of its normal."""
    angle = math.radians(angle_deg)
    normal_y, normal_x = math.cos(angle), math.sin(angle)
    return lambda y_nm, x_nm: np.asarray(y_nm * normal_y + x_nm * normal_x - offset_nm)


def _sheet(size_nm: tuple[float, float], rotation_deg: float) -> FloatArray:
    vectors, basis, _ = projected_cell(ase_graphene(a=10 * LATTICE_NM))
    return tile(vectors, basis, size_nm, rotation_deg)[0]


def _two_grains(
    size_nm: tuple[float, float], signed: TruthField, angle_deg: float, tilt_deg: float
) -> FloatArray:
    """Return two half sheets joined along the line, with the seam cleaned up."""
    halves = []
    for side in (-1, 1):
        half = _sheet(size_nm, angle_deg + side * tilt_deg / 2)
        halves.append(half[side * signed(half[:, 0], half[:, 1]) > -_REACH_NM])
    joined = np.concatenate(halves)
    joined = np.delete(joined, too_close(joined, _OVERLAP_NM), axis=0)
    relaxed = _relaxed(joined, np.abs(signed(joined[:, 0], joined[:, 1])) < _SEAM_NM)
    return np.delete(relaxed, too_close(relaxed, _NEAREST_NM), axis=0)


def _relaxed(
    positions_nm: FloatArray, movable: npt.NDArray[np.bool_], steps: int = 60
) -> FloatArray:
    """Return the atoms with the movable ones shifted until bonds are near their length.

    Atoms that are among each other's three nearest are bonded by springs, others push each
    other away up to the second-neighbour distance: enough for plausible rings at the seam,
    not an elastic calculation.
    """
    place = positions_nm.copy()
    near = np.flatnonzero(movable)
    if len(near) == 0:
        return place
    around = np.unique(np.concatenate(KDTree(place).query_ball_point(place[near], 0.4)).astype(int))
    local = place[around]
    free = np.isin(around, near)
    for _ in range(steps):
        tree = KDTree(local)
        pairs = tree.query_pairs(_SECOND_NM, output_type="ndarray")
        bond = local[pairs[:, 1]] - local[pairs[:, 0]]
        length = np.linalg.norm(bond, axis=1, keepdims=True)
        third_nm = np.asarray(tree.query(local, k=4)[0])[:, 3]
        bonded = length[:, 0] <= np.minimum(third_nm[pairs], _STRETCHED_NM).min(axis=1) + 1e-9
        wanted = np.where(bonded, BOND_NM, _SECOND_NM)[:, None]
        push = 0.2 * (length - wanted) * bond / length
        step = np.zeros_like(local)
        np.add.at(step, pairs[:, 0], push)
        np.add.at(step, pairs[:, 1], -push)
        local[free] += step[free]
    place[around] = local
    return place


def _defect_sites(
    positions_nm: FloatArray,
    field_nm: tuple[float, float],
    dopants: int,
    vacancies: int,
    at_boundary: int,
    likelihood: Callable[[FloatArray], FloatArray],
    rng: np.random.Generator,
) -> IntArray:
    """Return indices of the sites for Si atoms, then for vacancies, none near another.

    The first ``at_boundary`` are drawn with that likelihood, the others evenly.
    """
    if dopants < 0 or vacancies < 0:
        raise ValueError(f"dopants = {dopants}, vacancies = {vacancies}: can't be negative")
    inner = (max(field_nm[0] - 0.6, 0.0), max(field_nm[1] - 0.6, 0.0))
    sites = np.flatnonzero(in_field(positions_nm, inner))
    near = likelihood(positions_nm[sites])
    chosen: list[int] = []
    for number in range(dopants + vacancies):
        weight = near.copy() if number < at_boundary else np.ones(len(sites))
        if chosen:
            gap, _ = KDTree(positions_nm[chosen]).query(positions_nm[sites])
            weight[gap < _APART_NM] = 0.0
        if len(sites) == 0 or weight.sum() == 0:
            raise ValueError(
                f"no room for {dopants} dopants and {vacancies} vacancies in a field of "
                f"{field_nm[0]:g} x {field_nm[1]:g} nm: ask for fewer or enlarge the field"
            )
        chosen.append(int(rng.choice(sites, p=weight / weight.sum())))
    return np.array(chosen, dtype=np.int64)
