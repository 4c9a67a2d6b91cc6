"""Keeping an emulated instrument's exposure log, with the state of the beam at each event."""

from __future__ import annotations

from pathlib import Path

from drivers.emulator.blanker import Blanker
from drivers.emulator.exposure_log import EventName, ExposureLog
from drivers.instrument import BeamPart
from drivers.vocabulary import E_PER_S_PER_PA, SubScan


class Record:
    """Writes events with the blanker's state, beam-on times and electrons.

    Not thread-safe by itself: the room's lock guards it.
    """

    def __init__(self, path: Path | None, beam: BeamPart, blanker: Blanker) -> None:
        self._log = ExposureLog(path)
        self._blanker = blanker
        self._current_pA = beam.current_pA or 0.0
        self._span_start_s = 0.0
        self._scan_start_s = 0.0

    def note(self, event: EventName, at_s: float, note: str = "") -> None:
        """Write an event that is neither a blanking nor a scan."""
        self._write(event, at_s, note=note)

    def blanked(self, off_s: float) -> None:
        """Write that the beam is off, and for how long it had been on."""
        total_s = self._blanker.beam_on_s(off_s)
        spent_s, self._span_start_s = total_s - self._span_start_s, total_s
        self._write("blank", off_s, beam_on_s=spent_s)

    def scan_started(self, sub_scan: SubScan, at_s: float) -> None:
        """Write the start of a scan."""
        self._scan_start_s = self._blanker.beam_on_s(at_s)
        self._write("scan_start", at_s, sub_scan=sub_scan)

    def scan_ended(self, sub_scan: SubScan, executed: int, at_s: float) -> float:
        """Write the end of a scan; return for how long the beam was on during it."""
        spent_s = max(0.0, self._blanker.beam_on_s(at_s) - self._scan_start_s)
        self._write("scan_end", at_s, sub_scan=sub_scan, executed=executed, beam_on_s=spent_s)
        return spent_s

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def _write(
        self,
        event: EventName,
        at_s: float,
        *,
        sub_scan: SubScan | None = None,
        executed: int | None = None,
        beam_on_s: float | None = None,
        note: str = "",
    ) -> None:
        electrons = None
        if beam_on_s is not None:
            electrons = beam_on_s * self._current_pA * E_PER_S_PER_PA
        self._log.write(
            event,
            at_s,
            blanked=self._blanker.blanked,
            current_pA=self._current_pA,
            sub_scan=sub_scan,
            executed=executed,
            beam_on_s=beam_on_s,
            electrons=electrons,
            note=note,
        )
