"""Commands and events are frozen data that survive a file, and none is forgotten by the fold."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from controller import commands as c
from controller import events as e
from controller import state
from controller.phases import Autonomy, FinishReason, Phase
from drivers.vocabulary import BeamCurrent, Region, SubScan
from tests.controller.core_helpers import any_float, regions, sub_scan, sub_scans

EVENTS: list[type[e.Event]] = list(get_args(get_args(e.AnyEvent)[0]))
COMMANDS: list[type[c.Command]] = list(get_args(get_args(c.AnyCommand)[0]))
SCAN = sub_scan()
EXAMPLES: list[e.AnyEvent] = [
    e.RunOpened(run_id="r", manifest_sha256="0", field_nm=(1.0, 2.0), dose_cell_nm=0.5),
    e.RunResumed(by="Ada"),
    e.PhaseChanged(old=Phase.IDLE, new=Phase.CONNECTING),
    e.CommandAccepted(command=c.Pause(id="c1", now=True)),
    e.CommandRefused(command=c.SetAutonomy(id="c2", mode=Autonomy.ADVISE), why="no"),
    e.CurrentRead(current=BeamCurrent(20.0, "measured", math.inf), upper_pA=22.0),
    e.Suggested(
        id="s000001",
        sub_scan=SCAN,
        acquisition=-math.inf,
        mean=math.nan,
        sd=0.1,
        reasons={"acquisition": "ucb"},
        n_observed=3,
        encoder_version=1,
        epoch=2,
        pending=("s000000",),
    ),
    e.SuggestionDropped(id="s000001", why="vetoed"),
    e.Intent(
        id="s000001",
        purpose="measure",
        author="planner",
        sub_scan=SCAN,
        offset_nm=(0.1, -0.1),
        planned_electrons=1e6,
        planned_dose_e_per_A2=10.0,
        detectors=("haadf", "camera"),
    ),
    e.IntentWithdrawn(id="s000001", why="paused"),
    e.Executed(
        id="s000001",
        outcome="partial",
        sub_scan=SCAN,
        positions_executed=9,
        electrons=1e5,
        beam_on_s=0.1,
    ),
    e.DoseCharged(electrons=5.0, at_nm=(-1.0, 1.0), why="parked"),
    e.Stored(id="s000001", datasets={"haadf": "/x"}, indices={"haadf": 0}, nbytes=128),
    e.EncoderPublished(describer="linear", version=1, checkpoint="a.npz", sha256="0"),
    e.Described(
        id="s000001",
        encoder_version=1,
        names=("a", "b", "c"),
        summary=(math.nan, math.inf, -math.inf),
        objective=math.nan,
        health_ok=False,
        health_score=math.inf,
    ),
    e.Relabelled(
        version=2,
        names=("a",),
        summaries={"s000001": (math.nan,)},
        objectives={"s000001": math.inf, "s000002": None},
    ),
    e.StepTimed(id="s000001", stages_ms={"scan": 3.0}, duty_cycle=None),
    e.DriftMeasured(offset_nm=(1.0, 2.0), rate_nm_per_min=0.1, confidence=0.9),
    e.LimitTripped(rule="local dose", value=2.0, limit=1.0, unit="e/Å²", action="refused"),
    e.SuspenderTripped(name="drift", why="fast"),
    e.SuspenderCleared(name="drift"),
    e.Overrun(detector="camera", sub_scan_id="s000001", waiting_bytes=2, capacity_bytes=1),
    e.FrameRejected(sub_scan_id="s000001", detector="camera", why="gap"),
    e.ReadBackMismatch(what="blanker", expected="on", got="off"),
    e.Parked(
        by="guardian",
        why="died",
        verified_blanked=True,
        steps=(e.ParkStep(name="blank", ok=True, took_s=0.1),),
    ),
    e.Warned(what="odd"),
    e.Finished(reason=FinishReason.COMPLETED, message="done"),
]


def entry_of(event: e.AnyEvent) -> e.Entry:
    return e.Entry(seq=1, utc="2026-01-01T00:00:00.000+00:00", t_s=0.5, event=event)


def round_trip(event: e.AnyEvent) -> e.AnyEvent:
    return e.ENTRIES.validate_json(entry_of(event).model_dump_json()).event


def same(one: BaseModel, other: BaseModel) -> bool:
    """Compare field by field with NaN equal to NaN."""
    return type(one) is type(other) and repr(one) == repr(other)


def test_there_is_an_example_of_every_kind_of_event() -> None:
    assert {type(example) for example in EXAMPLES} == set(EVENTS)


def test_every_event_survives_the_journal() -> None:
    for event in EXAMPLES:
        assert same(round_trip(event), event)


def test_no_event_can_be_changed() -> None:
    for event in EXAMPLES:
        name = next(iter(type(event).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(event, name, "other")


def test_an_unknown_field_in_a_journal_line_is_refused() -> None:
    for event in EXAMPLES:
        line: dict[str, Any] = json.loads(entry_of(event).model_dump_json())
        line["event"]["typo"] = 1
        with pytest.raises(ValidationError, match="typo"):
            e.ENTRIES.validate_json(json.dumps(line))


def test_an_unknown_field_inside_a_sub_scan_is_refused() -> None:
    event = next(example for example in EXAMPLES if isinstance(example, e.Intent))
    line: dict[str, Any] = json.loads(entry_of(event).model_dump_json())
    line["event"]["sub_scan"]["tilt_deg"] = 1
    with pytest.raises(ValidationError, match="tilt_deg"):
        e.ENTRIES.validate_json(json.dumps(line))


@given(sub_scans(), any_float, any_float, any_float)
def test_any_suggestion_survives_the_journal(
    scan: SubScan, acquisition: float, mean: float, sd: float
) -> None:
    event = e.Suggested(
        id=scan.id,
        sub_scan=scan,
        acquisition=acquisition,
        mean=mean,
        sd=sd,
        n_observed=0,
        encoder_version=0,
        epoch=0,
    )
    assert same(round_trip(event), event)


@given(st.lists(any_float, max_size=5), st.none() | any_float)
def test_any_summary_survives_the_journal(summary: list[float], objective: float | None) -> None:
    event = e.Described(
        id="s1",
        encoder_version=1,
        names=("x",) * len(summary),
        summary=tuple(summary),
        objective=objective,
        health_ok=True,
        health_score=0.0,
    )
    assert same(round_trip(event), event)


@given(regions, st.floats(1e-3, 1e3))
def test_regions_survive_the_journal(region: Region, weight: float) -> None:
    for command in (
        c.Exclude(region=region),
        c.Prioritise(region=region, weight=weight),
        c.Retarget(target=c.TargetBox(region=region)),
    ):
        assert c.COMMANDS.validate_json(command.model_dump_json()) == command
        event = e.CommandAccepted(command=command)
        assert round_trip(event) == event


@pytest.mark.parametrize("electrons", [math.nan, math.inf, -1.0])
def test_electrons_that_would_spoil_the_ledger_are_no_event(electrons: float) -> None:
    with pytest.raises(ValidationError, match="electrons"):
        e.DoseCharged(electrons=electrons, at_nm=(0.0, 0.0), why="x")
    with pytest.raises(ValidationError, match="electrons"):
        e.Executed(
            id="s1",
            outcome="complete",
            sub_scan=SCAN,
            positions_executed=1,
            electrons=electrons,
            beam_on_s=0.1,
        )


def test_every_kind_of_event_changes_the_state_or_is_said_not_to() -> None:
    handled, without = set(state._HANDLERS), set(state.NO_EFFECT)
    assert handled | without == {each.model_fields["kind"].default for each in EVENTS}
    assert not handled & without


def test_durable_kinds_exist_and_cover_dose_decisions_and_phases() -> None:
    kinds = {each.model_fields["kind"].default for each in EVENTS}
    assert kinds >= e.DURABLE
    assert {"intent", "executed", "dose_charged", "phase_changed", "suggested"} <= e.DURABLE


MINIMAL: dict[str, dict[str, Any]] = {
    "autonomy": {"mode": "advise"},
    "accept": {"suggestion_id": "s000001"},
    "veto": {"suggestion_id": "s000001"},
    "force": {"center_nm": [1.0, 2.0]},
    "exclude": {"region": {"corners_nm": [[0, 0], [0, 1], [1, 1]]}},
    "prioritise": {"region": {"corners_nm": [[0, 0], [0, 1], [1, 1]]}},
    "retarget": {"target": {"kind": "latent", "z": [0.5]}},
    "set_objective": {"name": "variance"},
    "set_acquisition": {"name": "ucb"},
    "annotate": {"text": "look"},
}


def wire(kind: type[c.Command], **more: Any) -> dict[str, Any]:
    """Return the least that a client sends for a command."""
    name = kind.model_fields["cmd"].default
    return {"cmd": name, **MINIMAL.get(name, {}), **more}


def test_every_command_survives_the_wire_with_an_id_of_its_own() -> None:
    for kind in COMMANDS:
        command = c.COMMANDS.validate_python(wire(kind))
        assert type(command) is kind
        assert c.COMMANDS.validate_json(command.model_dump_json()) == command
        assert command.id != c.COMMANDS.validate_python(wire(kind)).id


def test_every_command_is_frozen_and_takes_no_unknown_field() -> None:
    name = "by"
    for kind in COMMANDS:
        command = c.COMMANDS.validate_python(wire(kind))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(command, name, "someone else")
        with pytest.raises(ValidationError, match="nwo"):
            c.COMMANDS.validate_python(wire(kind, nwo=True))


NONSENSE = [
    '{"cmd": "force", "center_nm": [NaN, 0]}',
    '{"cmd": "force", "center_nm": [0, 1e999]}',
    '{"cmd": "force", "center_nm": [0, 0], "fov_nm": [Infinity, 1]}',
    '{"cmd": "force", "center_nm": [0, 0], "dwell_us": -1}',
    '{"cmd": "force", "center_nm": [0, 0], "shape": [0, 4]}',
    '{"cmd": "prioritise", "region": {"corners_nm": [[0,0],[0,1],[1,1]]}, "weight": Infinity}',
    '{"cmd": "exclude", "region": {"corners_nm": [[0,0],[0,1]]}}',
    '{"cmd": "exclude", "region": {"corners_nm": [[0,0],[0,NaN],[1,1]]}}',
    '{"cmd": "retarget", "target": {"kind": "latent", "z": [NaN]}}',
    '{"cmd": "retarget", "target": {"kind": "latent", "z": []}}',
    '{"cmd": "set_budget", "max_total_dose_e_per_A2": NaN}',
    '{"cmd": "set_budget", "n_sub_scans": 0}',
    '{"cmd": "set_acquisition", "name": "ucb", "params": {"beta": Infinity}}',
    '{"cmd": "set_objective", "name": "x", "params": {"entry": NaN}}',
    '{"cmd": "annotate", "text": ""}',
    '{"cmd": "pause", "id": ""}',
    '{"cmd": "unblank"}',
    "[]",
]


def test_a_command_that_makes_no_sense_never_gets_in() -> None:
    for sent in NONSENSE:
        with pytest.raises(ValidationError):
            raise AssertionError(f"{sent} got in as {c.COMMANDS.validate_json(sent)}")


def test_sets_of_commands_name_commands_that_exist() -> None:
    names = {kind.model_fields["cmd"].default for kind in COMMANDS}
    assert names >= c.OVERTAKING
    assert names >= c.UNDOABLE
    assert {"abort", "park", "pause"} <= c.OVERTAKING
    assert "force" not in c.UNDOABLE
