"""Lattices, distances and points: what the specimens are put together with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from sim.specimen.specimen import FloatArray, IntArray, TruthField

if TYPE_CHECKING:
    from ase import Atoms


def projected_cell(atoms: Atoms) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return an ASE cell seen along z: in-plane vectors (2, 2), basis (m, 2), elements (m,).

    Vectors and positions are (y, x) in nm; ASE's are (x, y, z) in Å.
    """
    vectors = np.asarray(atoms.cell[:2, 1::-1], dtype=np.float64) / 10
    basis = np.asarray(atoms.positions[:, 1::-1], dtype=np.float64) / 10
    return vectors, basis, np.asarray(atoms.numbers, dtype=np.int64)


def with_margin(field_nm: tuple[float, float], margin_nm: float) -> tuple[float, float]:
    """Return the (y, x) size of a field with a margin on all sides.

    Raises
    ------
    ValueError
        If the field is not positive or the margin negative.
    """
    if not (min(field_nm) > 0 and margin_nm >= 0):
        raise ValueError(f"field {field_nm} nm, margin {margin_nm} nm: must be positive")
    return field_nm[0] + 2 * margin_nm, field_nm[1] + 2 * margin_nm


def rotation(angle_deg: float) -> FloatArray:
    """Return the matrix that turns rows of (y, x) anticlockwise, y pointing down: ``p @ m``."""
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[cos, sin], [-sin, cos]])


def tile(
    vectors_nm: FloatArray,
    basis_nm: FloatArray,
    size_nm: tuple[float, float],
    rotation_deg: float = 0.0,
) -> tuple[FloatArray, IntArray]:
    """Fill a rectangle round (0, 0) with a rotated lattice.

    Returns
    -------
    positions_nm : (n, 2) array
        Sites within the rectangle, (y, x) in nm.
    member : (n,) array
        Which of the (m, 2) basis each one is.
    """
    turned = vectors_nm @ rotation(rotation_deg)
    reach = math.hypot(*size_nm) / 2 + float(np.abs(vectors_nm).sum())
    # the farthest cell index needed: reach times the reciprocal vectors' lengths
    inverse = np.linalg.inv(turned)
    ni, nj = (math.ceil(reach * float(np.linalg.norm(inverse[:, i]))) for i in (0, 1))
    i, j = np.meshgrid(np.arange(-ni, ni + 1), np.arange(-nj, nj + 1), indexing="ij")
    origins = np.stack([i.ravel(), j.ravel()], axis=1) @ turned
    sites = origins[:, None, :] + (basis_nm @ rotation(rotation_deg))[None]
    member = np.broadcast_to(np.arange(len(basis_nm)), sites.shape[:2])
    inside = (np.abs(sites) <= np.asarray(size_nm) / 2).all(axis=-1)
    return sites[inside], np.asarray(member[inside], dtype=np.int64)


def in_field(points_nm: FloatArray, field_nm: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Say for each of (n, 2) points whether it lies within the field round (0, 0)."""
    return np.asarray((np.abs(points_nm) <= np.asarray(field_nm) / 2).all(axis=-1))


def too_close(points_nm: FloatArray, nearest_nm: float) -> IntArray:
    """Return indices to leave out so that no two of the (n, 2) points are closer than that."""
    gone: set[int] = set()
    for first, second in sorted(KDTree(points_nm).query_pairs(nearest_nm)):
        if first not in gone:
            gone.add(second)
    return np.array(sorted(gone), dtype=np.int64)


def thinned(points_nm: FloatArray, spacing_nm: float) -> FloatArray:
    """Return some of the (n, 2) points, none closer than the spacing to another kept one."""
    return np.delete(points_nm, too_close(points_nm, spacing_nm), axis=0)


def distance_to(points_nm: FloatArray) -> TruthField:
    """Return f(y_nm, x_nm): the distance in nm to the nearest of (n, 2) points; inf if none."""
    if len(points_nm) == 0:
        return lambda y_nm, x_nm: np.full(np.broadcast(y_nm, x_nm).shape, np.inf)
    tree = KDTree(points_nm)

    def distance(y_nm: FloatArray, x_nm: FloatArray) -> FloatArray:
        found, _ = tree.query(np.stack(np.broadcast_arrays(y_nm, x_nm), axis=-1))
        return np.asarray(found, dtype=np.float64)

    return distance
