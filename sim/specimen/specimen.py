"""What every specimen is: projected atoms, and callables that know what is really there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TruthField = Callable[[FloatArray, FloatArray], FloatArray]
"""f(y_nm, x_nm) of any equal shapes; returns that shape, or that shape with a 2 behind it."""


@dataclass(frozen=True)
class Specimen:
    """Atoms seen along the beam, and the ground truth.

    Attributes
    ----------
    kind : str
        What it is, e.g. ``"graphene"``.
    positions_nm : (n, 2) array
        Projected atoms or columns, (y, x) in nm; the middle of the field is (0, 0).
    atomic_numbers : (n,) array
        Their elements.
    multiplicity : (n,) array
        How many atoms are stacked along the beam at each.
    field_nm : (y, x)
        Extent in which targets and truth are meant.
    size_nm : (y, x)
        Extent of the atoms: the field and a margin on all sides.
    truth : mapping
        Callables f(y_nm, x_nm), by name.
    target_label : str
        What the targets are.
    targets_nm : (m, 2) array
        Where they are, (y, x) in nm, all within the field.
    """

    kind: str
    positions_nm: FloatArray
    atomic_numbers: IntArray
    multiplicity: FloatArray
    field_nm: tuple[float, float]
    size_nm: tuple[float, float]
    truth: Mapping[str, TruthField]
    target_label: str
    targets_nm: FloatArray

    def __post_init__(self) -> None:
        n = len(self.positions_nm)
        if n == 0:
            raise ValueError(f"the {self.kind} specimen has no atoms: make the field larger")
        if self.positions_nm.shape != (n, 2):
            raise ValueError(
                f"atoms of {self.kind} have shape {self.positions_nm.shape}, not (n, 2)"
            )
        if len(self.atomic_numbers) != n or len(self.multiplicity) != n:
            raise ValueError(f"{self.kind}: positions, elements, multiplicities differ in number")
