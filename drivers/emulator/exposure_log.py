"""The instrument's own record of beam and scans: JSON lines, written as things happen.

It is the truth by which runs are judged after a crash: when the beam was on, which sub-scans
were executed how far, how many electrons were let through. Each line is written with one
unbuffered write, so that a killed process loses nothing; a restart appends.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from drivers.errors import BadRecording
from drivers.vocabulary import SubScan, utc_now

EventName = Literal[
    "start", "unblank", "blank", "scan_start", "scan_end", "fence", "claim", "release", "park",
    "refused",
]  # fmt: skip


class Exposure(BaseModel):
    """One line of the log.

    Attributes
    ----------
    t_s, utc
        The instrument's clock, and the time of day.
    blanked : bool
        Whether the beam is off the specimen from this event on.
    sub_scan_id, center_nm, fov_nm, shape, rotation_deg, dwell_us
        The sub-scan of a ``scan_start`` or ``scan_end``, in scan coordinates.
    executed : int or None
        Positions dwelt on (``scan_end``).
    beam_on_s, electrons : float or None
        Of a ``scan_end``: beam-on time and electrons during that scan. Of a ``blank``: since the
        beam was let on, the scans in between included; so the two are never to be added.
    note : str
        Who claimed, why it was fenced or refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    t_s: float
    utc: str
    event: EventName
    blanked: bool
    current_pA: float = 0.0
    sub_scan_id: str | None = None
    center_nm: tuple[float, float] | None = None
    fov_nm: tuple[float, float] | None = None
    shape: tuple[int, int] | None = None
    rotation_deg: float | None = None
    dwell_us: float | None = None
    executed: int | None = None
    beam_on_s: float | None = None
    electrons: float | None = None
    note: str = ""


class ExposureLog:
    """Appends exposures to a file; without a path it keeps nothing.

    Raises
    ------
    OSError
        If the file can't be opened or written.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(
        self,
        event: EventName,
        t_s: float,
        *,
        blanked: bool,
        current_pA: float,
        sub_scan: SubScan | None = None,
        executed: int | None = None,
        beam_on_s: float | None = None,
        electrons: float | None = None,
        note: str = "",
    ) -> None:
        """Append one line."""
        if self._file is None:
            return
        line = {"t_s": t_s, "utc": utc_now(), "event": event, "blanked": blanked}
        line |= {"current_pA": current_pA, "note": note}
        if sub_scan is not None:
            line |= {"sub_scan_id": sub_scan.id, "center_nm": sub_scan.center_nm}
            line |= {"fov_nm": sub_scan.fov_nm, "shape": sub_scan.shape}
            line |= {"rotation_deg": sub_scan.rotation_deg, "dwell_us": sub_scan.dwell_us}
        line |= {"executed": executed, "beam_on_s": beam_on_s, "electrons": electrons}
        data = json.dumps({k: v for k, v in line.items() if v is not None}).encode() + b"\n"
        with self._lock:
            if self._file is not None:
                os.write(self._file, data)

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def read_exposures(path: Path) -> list[Exposure]:
    """Read a log, oldest line first.

    Raises
    ------
    BadRecording
        If a line other than an unfinished last one can't be read; names file and line.
    """
    *lines, tail = path.read_bytes().split(b"\n")
    exposures = []
    for number, line in enumerate(lines, start=1):
        try:
            exposures.append(Exposure.model_validate_json(line))
        except ValueError as error:
            raise BadRecording(f"{path}, line {number}: not an exposure: {error}") from error
    # a tail without its newline is a write cut short by the end of the machine
    del tail
    return exposures


def blanked_at_end(exposures: Sequence[Exposure]) -> bool:
    """Say whether the beam was off the specimen after the last event."""
    return exposures[-1].blanked if exposures else True


def executed_ids(exposures: Sequence[Exposure]) -> list[str]:
    """Return the ids of the sub-scans that were started, in order, repeats included."""
    starts = (e.sub_scan_id for e in exposures if e.event == "scan_start")
    return [identity for identity in starts if identity is not None]


def beam_on_after(exposures: Sequence[Exposure], t_s: float) -> float:
    """Return for how many seconds the beam was on after ``t_s``; inf if it still is."""
    total, since = 0.0, None
    for exposure in exposures:
        if not exposure.blanked and since is None:
            since = exposure.t_s
        elif exposure.blanked and since is not None:
            total += max(0.0, exposure.t_s - max(since, t_s))
            since = None
    return float("inf") if since is not None else total


def electrons_delivered(exposures: Sequence[Exposure]) -> float:
    """Return the electrons that reached the specimen while the beam was on, blanked spans only."""
    return sum(e.electrons or 0.0 for e in exposures if e.event == "blank")
