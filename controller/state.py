"""The state of a run: the fold of its journal, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from controller import commands as c
from controller import events as e
from controller.dose import DoseLedger, executed_shares
from controller.phases import EXPOSING, Autonomy, FinishReason, Phase
from drivers.vocabulary import BeamCurrent, NmPair, Region, SubScan


@dataclass(slots=True)
class Outcome:
    """What is known of one executed sub-scan."""

    id: str
    purpose: e.Purpose
    author: str
    sub_scan: SubScan
    outcome: str
    electrons: float
    stored: bool = False
    rejected: str = ""
    encoder_version: int = 0
    names: tuple[str, ...] = ()
    summary: tuple[float, ...] = ()
    objective: float | None = None


@dataclass(slots=True)
class RunState:
    """Everything a run knows of itself. Only `apply` changes it."""

    run_id: str = ""
    manifest_sha256: str = ""
    revision: int = 0
    t_s: float = 0.0
    phase: Phase = Phase.IDLE
    interrupted: Phase = Phase.RUNNING
    """The exposing phase that a pause or a hold goes back to."""
    autonomy: Autonomy = Autonomy.AUTO
    finish_reason: FinishReason | None = None
    finish_message: str = ""
    epoch: int = 0
    """Grows with each pause and override; a suggestion of an older epoch is stale."""
    n_ids: int = 0
    """Highest number of a sub-scan id that was given out."""
    ledger: DoseLedger = field(default_factory=lambda: DoseLedger((1.0, 1.0), 1.0))
    current: BeamCurrent | None = None
    upper_pA: float = 0.0
    offset_nm: NmPair = (0.0, 0.0)
    drift_nm_per_min: float = 0.0
    n_measured: int = 0
    """Number of executed sub-scans that count against the plan: measured or forced."""
    intents: dict[str, e.Intent] = field(default_factory=dict)
    """Intents without a receipt yet."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    pending: dict[str, e.Suggested] = field(default_factory=dict)
    """Suggestions neither executed nor dropped yet."""
    overrides: list[c.AnyCommand] = field(default_factory=list)
    """Regions, objectives, acquisitions and budgets in force, oldest first."""
    encoder_version: int = 0
    encoder_checkpoint: str = ""
    encoder_frozen: bool = False
    vetoed: list[Region] = field(default_factory=list)
    """Spots that an operator does not want scanned; a window that covers one is not suggested."""
    suspended: dict[str, str] = field(default_factory=dict)
    commands_seen: dict[str, str] = field(default_factory=dict)
    """Answer by command id: "" when accepted, else why not."""
    blank_lied: bool = False
    parked: bool = False
    needs_acknowledge: bool = False

    def override(self, cmd: str) -> list[c.AnyCommand]:
        """Return the overrides of one kind in force, oldest first."""
        return [each for each in self.overrides if each.cmd == cmd]

    def apply(self, entry: e.Entry) -> None:
        """Take in one journal entry."""
        self.revision = entry.seq
        self.t_s = entry.t_s
        handler = _HANDLERS.get(entry.event.kind)
        if handler is not None:
            handler(self, entry.event)


def fold(entries: Iterable[e.Entry]) -> RunState:
    """Return the state a journal leads to."""
    state = RunState()
    for entry in entries:
        state.apply(entry)
    return state


def _opened(s: RunState, v: e.RunOpened) -> None:
    s.run_id, s.manifest_sha256 = v.run_id, v.manifest_sha256
    s.ledger = DoseLedger(v.field_nm, v.dose_cell_nm)


def _resumed(s: RunState, v: e.RunResumed) -> None:
    s.finish_reason, s.finish_message = None, ""
    s.phase, s.parked, s.blank_lied = Phase.IDLE, False, False
    s.pending.clear()
    s.suspended.clear()
    s.epoch += 1


def _phase(s: RunState, v: e.PhaseChanged) -> None:
    if v.old in EXPOSING and v.new not in EXPOSING:
        s.interrupted = v.old
        s.epoch += 1
    s.phase = v.new
    if v.new is Phase.FAULT:
        s.needs_acknowledge = True


def _accepted(s: RunState, v: e.CommandAccepted) -> None:
    command = v.command
    s.commands_seen[command.id] = ""
    if isinstance(command, c.SetAutonomy):
        s.autonomy = command.mode
        s.epoch += 1
    elif isinstance(command, c.Veto) and command.suggestion_id in s.pending:
        sub_scan = s.pending[command.suggestion_id].sub_scan
        height, width = sub_scan.fov_nm
        s.vetoed.append(Region.box(sub_scan.center_nm, (0.1 * height, 0.1 * width)))
    elif isinstance(command, c.Freeze):
        s.encoder_frozen = command.frozen
    elif isinstance(command, c.Acknowledge):
        s.needs_acknowledge = False
    elif isinstance(command, c.Undo) and s.overrides:
        s.overrides.pop()
        s.epoch += 1
    elif command.cmd in c.UNDOABLE:
        s.overrides.append(command)
        s.epoch += 1


def _refused(s: RunState, v: e.CommandRefused) -> None:
    s.commands_seen[v.command.id] = v.why


def _current(s: RunState, v: e.CurrentRead) -> None:
    s.current, s.upper_pA = v.current, v.upper_pA


def _suggested(s: RunState, v: e.Suggested) -> None:
    s.pending[v.id] = v
    _count_id(s, v.id)


def _dropped(s: RunState, v: e.SuggestionDropped) -> None:
    s.pending.pop(v.id, None)


def _intent(s: RunState, v: e.Intent) -> None:
    s.intents[v.id] = v
    s.pending.pop(v.id, None)
    _count_id(s, v.id)


def _withdrawn(s: RunState, v: e.IntentWithdrawn) -> None:
    s.intents.pop(v.id, None)


def _executed(s: RunState, v: e.Executed) -> None:
    intent = s.intents.pop(v.id, None)
    s.outcomes[v.id] = Outcome(
        id=v.id,
        purpose=intent.purpose if intent else "measure",
        author=intent.author if intent else "",
        sub_scan=v.sub_scan,
        outcome=v.outcome,
        electrons=v.electrons,
    )
    s.n_measured += s.outcomes[v.id].purpose in ("measure", "forced")
    for part, share in executed_shares(v.sub_scan, v.positions_executed):
        s.ledger.charge(part, v.electrons * share)


def _charged(s: RunState, v: e.DoseCharged) -> None:
    s.ledger.charge_point(v.at_nm, v.electrons)


def _stored(s: RunState, v: e.Stored) -> None:
    if v.id in s.outcomes:
        s.outcomes[v.id].stored = True


def _encoder(s: RunState, v: e.EncoderPublished) -> None:
    s.encoder_version, s.encoder_checkpoint = v.version, v.checkpoint


def _described(s: RunState, v: e.Described) -> None:
    outcome = s.outcomes.get(v.id)
    if outcome is not None:
        outcome.encoder_version, outcome.names = v.encoder_version, v.names
        outcome.summary, outcome.objective = v.summary, v.objective


def _relabelled(s: RunState, v: e.Relabelled) -> None:
    for key, summary in v.summaries.items():
        outcome = s.outcomes.get(key)
        if outcome is not None:
            outcome.encoder_version, outcome.names, outcome.summary = v.version, v.names, summary
            outcome.objective = v.objectives.get(key)


def _drift(s: RunState, v: e.DriftMeasured) -> None:
    s.offset_nm, s.drift_nm_per_min = v.offset_nm, v.rate_nm_per_min


def _tripped(s: RunState, v: e.SuspenderTripped) -> None:
    s.suspended[v.name] = v.why


def _cleared(s: RunState, v: e.SuspenderCleared) -> None:
    s.suspended.pop(v.name, None)


def _rejected(s: RunState, v: e.FrameRejected) -> None:
    outcome = s.outcomes.get(v.sub_scan_id)
    if outcome is not None:
        outcome.rejected = f"{v.detector}: {v.why}"


def _mismatch(s: RunState, v: e.ReadBackMismatch) -> None:
    if v.what == "blanker":
        s.blank_lied = True
        s.needs_acknowledge = True


def _parked(s: RunState, v: e.Parked) -> None:
    s.parked = v.at_rest
    if not v.at_rest or v.by != "controller":
        s.needs_acknowledge = True


def _finished(s: RunState, v: e.Finished) -> None:
    s.finish_reason, s.finish_message = v.reason, v.message


def _count_id(s: RunState, sub_scan_id: str) -> None:
    """Remember the highest number given out, so that no id is used twice after a crash."""
    digits = sub_scan_id[1:]
    if digits.isascii() and digits.isdigit():
        s.n_ids = max(s.n_ids, int(digits))


_HANDLERS: dict[str, Callable[[RunState, Any], None]] = {
    "run_opened": _opened,
    "run_resumed": _resumed,
    "phase_changed": _phase,
    "command_accepted": _accepted,
    "command_refused": _refused,
    "current_read": _current,
    "suggested": _suggested,
    "suggestion_dropped": _dropped,
    "intent": _intent,
    "intent_withdrawn": _withdrawn,
    "executed": _executed,
    "dose_charged": _charged,
    "stored": _stored,
    "encoder_published": _encoder,
    "described": _described,
    "relabelled": _relabelled,
    "drift_measured": _drift,
    "suspender_tripped": _tripped,
    "suspender_cleared": _cleared,
    "frame_rejected": _rejected,
    "read_back_mismatch": _mismatch,
    "parked": _parked,
    "finished": _finished,
}
NO_EFFECT = frozenset({"step_timed", "limit_tripped", "overrun", "warned"})
"""Kinds that say something but change no state; a test checks that every kind is in one set."""
