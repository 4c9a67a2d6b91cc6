"""Events a person should read, in words; and the tables of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller import events as e
from controller.report import style
from controller.report.gather import Row, RunRecord

MOST_NOTES = 400
MOST_CARDS = 400


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the list of events; ``level`` is "bad", "warn" or "info"."""

    t: str
    level: str
    kind: str
    text: str


def clock(seconds: float) -> str:
    """Return a time since the start of the run as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def notes(record: RunRecord) -> tuple[list[Note], int]:
    """Return the events of note in order, and how many were left out for length."""
    found: list[Note] = []
    for entry in record.entries:
        describe = _WORDS.get(entry.event.kind)
        said = describe(entry.event) if describe else None
        if said is not None:
            level, kind, text = said
            found.append(Note(clock(entry.t_s), level, kind, text))
    return found[:MOST_NOTES], max(0, len(found) - MOST_NOTES)


Said = tuple[str, str, str] | None


def _limit(v: e.LimitTripped) -> Said:
    where = f" at {v.sub_scan_id}" if v.sub_scan_id else ""
    level = "bad" if v.action == "park" else "warn"
    return level, "limit", f"{v.rule}{where}: {v.value:g} of {v.limit:g} {v.unit}; {v.action}"


def _command(v: e.CommandAccepted | e.CommandRefused) -> Said:
    command = v.command
    skipped = {"id", "by", "reason", "cmd", "if_revision"}
    values = {key: value for key, value in command.model_dump(exclude=skipped).items() if value}
    words = ", ".join(f"{key} {_short(value)}" for key, value in values.items())
    text = f"{command.by}: {command.cmd}" + (f" ({words})" if words else "")
    text += f", because: {command.reason}" if command.reason else ""
    if isinstance(v, e.CommandRefused):
        return "warn", "refused", f"{text}; {v.why}"
    return "info", "command", text


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _executed(v: e.Executed) -> Said:
    if v.outcome == "complete":
        return None
    charged = (
        "its whole planned dose is charged"
        if v.outcome == "unknown"
        else f"{v.positions_executed} of {v.sub_scan.n_positions} positions were exposed"
    )
    return "warn", "sub-scan", f"{v.id} is {v.outcome}: {charged}"


def _parked(v: e.Parked) -> Said:
    failed = [f"{step.name} failed: {step.error}" for step in v.steps if not step.ok]
    state = "blanker read back closed" if v.verified_blanked else "BLANKING NOT VERIFIED"
    if v.beam_stays_on:
        state = "no blanker: the beam stays on the parked probe"
    level = "info" if v.at_rest and not failed else "bad"
    return level, "parked", "; ".join([f"by {v.by}: {v.why}", state, *failed])


def _phase(v: e.PhaseChanged) -> Said:
    if v.new.value not in ("paused", "holding", "aborting", "fault"):
        return None
    level = "bad" if v.new.value == "fault" else "warn"
    return level, v.new.value, v.reason or f"after {v.old.value}"


def _finished(v: e.Finished) -> Said:
    return "info", "finished", f"{v.reason.value}: {v.message}"


_WORDS: dict[str, Callable[[Any], Said]] = {
    "run_resumed": lambda v: (
        "info",
        "resumed",
        f"by {v.by}" + (f": {v.reason}" if v.reason else ""),
    ),
    "phase_changed": _phase,
    "command_accepted": _command,
    "command_refused": _command,
    "executed": _executed,
    "dose_charged": lambda v: (
        "warn",
        "dose",
        f"{v.electrons:.3g} electrons at ({v.at_nm[0]:.1f}, {v.at_nm[1]:.1f}) nm: {v.why}",
    ),
    "limit_tripped": _limit,
    "suspender_tripped": lambda v: ("warn", "suspended", f"{v.name}: {v.why}"),
    "suspender_cleared": lambda v: ("info", "recovered", v.name),
    "overrun": lambda v: (
        "bad",
        "overrun",
        f"{v.detector} at {v.sub_scan_id}: {v.waiting_bytes} of {v.capacity_bytes} bytes waiting",
    ),
    "frame_rejected": lambda v: (
        "warn",
        "rejected",
        f"{v.sub_scan_id}, {v.detector}: {v.why}",
    ),
    "read_back_mismatch": lambda v: (
        "bad",
        "read-back",
        f"{v.what} is {v.got} where {v.expected} is expected",
    ),
    "parked": _parked,
    "warned": lambda v: ("warn", "warning", v.what),
    "encoder_published": lambda v: (
        "info",
        "encoder",
        f"{v.describer}, version {v.version}, sha256 {v.sha256[:12]}",
    ),
    "finished": _finished,
}


@dataclass(frozen=True, slots=True)
class Card:
    """A decision and what came of it, as text for a table."""

    number: str
    id: str
    what: str
    why: str
    acquisition: str
    predicted: str
    measured: str
    dose: str


def cards(record: RunRecord) -> list[Card]:
    """Return a card for each executed sub-scan, the newest ones where there are very many."""
    return [_card(row) for row in record.rows[-MOST_CARDS:]]


def _card(row: Row) -> Card:
    suggested = row.card
    why = f"asked for by {row.outcome.author}" if row.outcome.author else ""
    if suggested is not None:
        said = [f"{key}: {value}" for key, value in suggested.reasons.items()]
        why = "; ".join([*said, f"from {suggested.n_observed} outcomes"])
    what = str(row.outcome.purpose)
    if row.outcome.outcome != "complete":
        what += f", {row.outcome.outcome}"
    if row.outcome.rejected:
        what += ", frames rejected"
    return Card(
        number=str(row.number) if row.number else "",
        id=row.id,
        what=what,
        why=why,
        acquisition=f"{suggested.acquisition:.3g}" if suggested else "",
        predicted=f"{suggested.mean:.3g} ± {suggested.sd:.2g}" if suggested else "",
        measured="" if row.objective is None else f"{row.objective:.3g}",
        dose=style.number(row.dose_e_per_A2),
    )


def stage_table(record: RunRecord) -> list[tuple[str, str, str, str, int]]:
    """Return name, p50, p99 and largest time in ms, and number of values, of each stage."""
    rows = []
    for name, values in record.stages_ms.items():
        p50, p99 = np.percentile(values, (50, 99))
        rows.append((name, f"{p50:.3g}", f"{p99:.3g}", f"{max(values):.3g}", len(values)))
    return rows
