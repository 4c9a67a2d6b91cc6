"""What an operator at the vendor's console sets, and a controller only reads back."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.vocabulary import NmPair


@dataclass(frozen=True, slots=True)
class Console:
    """Settings of scan generator, column and stage; field of view and stage in nm."""

    field_nm: NmPair
    rotation_deg: float = 0.0
    defocus_nm: float = 0.0
    stage_nm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def changed(
        self,
        field_nm: NmPair | None,
        rotation_deg: float | None,
        defocus_nm: float | None,
        stage_nm: tuple[float, float, float] | None,
    ) -> Console:
        """Return the settings with those changed that are given."""
        return Console(
            field_nm=self.field_nm if field_nm is None else field_nm,
            rotation_deg=self.rotation_deg if rotation_deg is None else rotation_deg,
            defocus_nm=self.defocus_nm if defocus_nm is None else defocus_nm,
            stage_nm=self.stage_nm if stage_nm is None else stage_nm,
        )
