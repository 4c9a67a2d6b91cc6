"""Seeing what somebody changed at the vendor's console while a run goes on."""

from __future__ import annotations

import asyncio

import numpy as np

from controller.opening import OpenInstrument
from drivers.vocabulary import ColumnState, ScanState


class ReadBack:
    """Remembers how an instrument was set, and says what has changed since."""

    def __init__(self, instrument: OpenInstrument) -> None:
        self._instrument = instrument
        self._baseline: tuple[ScanState, ColumnState | None] | None = None

    async def remember(self) -> None:
        """Take the present settings as those of the run."""
        self._baseline = await self._read()

    async def _read(self) -> tuple[ScanState, ColumnState | None]:
        deadline_s = self._instrument.config.limits.call_deadline_s
        scan, column = self._instrument.scan, self._instrument.column
        if column is None:
            return await scan.read_back(deadline_s=deadline_s), None
        return await asyncio.gather(
            scan.read_back(deadline_s=deadline_s), column.read_back(deadline_s=deadline_s)
        )

    async def changed(self) -> str | None:
        """Return what was changed since `remember`, None if nothing."""
        assert self._baseline is not None
        scan, column = await self._read()
        scan_0, column_0 = self._baseline
        if not np.allclose(scan.field_nm, scan_0.field_nm, rtol=1e-3):
            return f"field of view {scan_0.field_nm} → {scan.field_nm} nm"
        if abs(scan.rotation_deg - scan_0.rotation_deg) > 0.05:
            return f"scan rotation {scan_0.rotation_deg:g} → {scan.rotation_deg:g}°"
        part = self._instrument.config.column
        if column is None or column_0 is None or part is None:
            return None
        if abs(column.defocus_nm - column_0.defocus_nm) > part.defocus_tolerance_nm:
            return f"defocus {column_0.defocus_nm:g} → {column.defocus_nm:g} nm"
        moved_nm = float(np.abs(np.subtract(column.stage_nm, column_0.stage_nm)).max())
        if moved_nm > part.stage_tolerance_nm:
            return f"stage moved by {moved_nm:.4g} nm"
        return None
