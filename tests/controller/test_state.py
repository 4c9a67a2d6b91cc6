"""What each event does to the state of a run."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given

from controller import commands as c
from controller import events as e
from controller.phases import Autonomy, FinishReason, Phase
from controller.state import RunState, fold
from drivers.vocabulary import BeamCurrent, Region
from tests.controller.core_helpers import regions, sub_scan

OPENED = e.RunOpened(run_id="r", manifest_sha256="f0", field_nm=(8.0, 8.0), dose_cell_nm=1.0)
BOX = Region.box((0.0, 0.0), (1.0, 1.0))


def after(*events: e.AnyEvent) -> RunState:
    entries = [
        e.Entry(seq=i + 1, utc="", t_s=0.5 * i, event=event)
        for i, event in enumerate((OPENED, *events))
    ]
    return fold(entries)


def accepted(*commands: c.AnyCommand) -> list[e.AnyEvent]:
    return [e.CommandAccepted(command=command) for command in commands]


def intent(name: str, purpose: e.Purpose = "measure") -> e.Intent:
    return e.Intent(
        id=name,
        purpose=purpose,
        author="Ada",
        sub_scan=sub_scan(name),
        offset_nm=(0.0, 0.0),
        planned_electrons=800.0,
        planned_dose_e_per_A2=2.0,
        detectors=("haadf",),
    )


def executed(name: str, positions: int = 64, electrons: float = 800.0) -> e.Executed:
    return e.Executed(
        id=name,
        outcome="complete",
        sub_scan=sub_scan(name),
        positions_executed=positions,
        electrons=electrons,
        beam_on_s=0.1,
    )


def suggested(name: str) -> e.Suggested:
    return e.Suggested(
        id=name,
        sub_scan=sub_scan(name),
        acquisition=1.0,
        mean=0.0,
        sd=1.0,
        n_observed=0,
        encoder_version=1,
        epoch=0,
    )


def phases(*names: Phase) -> list[e.AnyEvent]:
    return [e.PhaseChanged(old=old, new=new) for old, new in itertools.pairwise(names)]


def test_an_empty_journal_is_an_idle_run() -> None:
    state = fold([])
    assert (state.phase, state.revision, state.outcomes) == (Phase.IDLE, 0, {})


def test_opening_names_the_run_and_makes_its_ledger() -> None:
    state = after()
    assert (state.run_id, state.manifest_sha256, state.revision) == ("r", "f0", 1)
    assert state.ledger.map_e_per_A2.shape == (8, 8)


def test_an_exposure_goes_from_suggestion_to_outcome() -> None:
    state = after(suggested("s000001"))
    assert list(state.pending) == ["s000001"]
    state = after(suggested("s000001"), intent("s000001"))
    assert (list(state.pending), list(state.intents)) == ([], ["s000001"])
    state = after(suggested("s000001"), intent("s000001"), executed("s000001"))
    assert (state.intents, state.n_measured) == ({}, 1)
    assert state.outcomes["s000001"].author == "Ada"
    assert state.ledger.electrons == 800.0
    assert state.ledger.peak_e_per_A2 == pytest.approx(2.0)


def test_only_measurements_count_against_the_plan() -> None:
    purposes: list[e.Purpose] = ["survey", "anchor", "measure", "forced"]
    events: list[e.AnyEvent] = []
    for number, purpose in enumerate(purposes):
        events += [intent(f"s{number:06d}", purpose), executed(f"s{number:06d}")]
    assert after(*events).n_measured == 2


def test_an_exposure_without_an_intent_is_charged_all_the_same() -> None:
    state = after(executed("s000009"))
    assert state.ledger.electrons == 800.0
    assert "s000009" in state.outcomes


def test_a_partial_exposure_charges_the_rows_it_reached() -> None:
    # 2 x 2 nm of 8 x 8 positions on cells of 1 nm: a quarter of the rows is half a cell
    state = after(intent("s000001"), executed("s000001", positions=16, electrons=200.0))
    dose = state.ledger.map_e_per_A2
    assert dose[3, 3:5] == pytest.approx([1.0, 1.0])
    assert dose.sum() == pytest.approx(2.0)


def test_withdrawn_and_dropped_are_gone_without_dose() -> None:
    state = after(
        suggested("s000001"),
        e.SuggestionDropped(id="s000001", why="veto"),
        intent("s000002"),
        e.IntentWithdrawn(id="s000002", why="pause"),
    )
    assert (state.pending, state.intents, state.ledger.electrons) == ({}, {}, 0.0)
    assert state.n_ids == 2


@pytest.mark.parametrize(("name", "number"), [("s000041", 41), ("template", 0), ("s²", 0), ("", 0)])
def test_ids_given_out_are_remembered(name: str, number: int) -> None:
    assert after(intent(name)).n_ids == number


def test_a_standing_probe_is_charged_to_a_spot() -> None:
    state = after(e.DoseCharged(electrons=500.0, at_nm=(-3.5, -3.5), why="parked"))
    assert state.ledger.spots_e_per_A2 == {(-3.5, -3.5): 5.0}


def test_leaving_an_exposing_phase_fences_what_was_decided() -> None:
    way = [Phase.READY, Phase.SURVEYING, Phase.PAUSED]
    state = after(*phases(*way))
    assert (state.interrupted, state.epoch) == (Phase.SURVEYING, 1)
    state = after(*phases(*way, Phase.SURVEYING, Phase.RUNNING))
    assert state.epoch == 1
    state = after(*phases(*way, Phase.SURVEYING, Phase.RUNNING, Phase.HOLDING, Phase.PAUSED))
    assert (state.interrupted, state.epoch) == (Phase.RUNNING, 2)


def test_overrides_add_up_and_undo_takes_the_last() -> None:
    commands: list[c.AnyCommand] = [
        c.Exclude(region=BOX),
        c.SetBudget(n_sub_scans=5),
        c.Prioritise(region=BOX),
    ]
    state = after(*accepted(*commands))
    assert state.overrides == commands
    assert state.epoch == 3
    assert state.override("set_budget") == [commands[1]]
    state = after(*accepted(*commands, c.Undo(), c.Undo()))
    assert state.overrides == commands[:1]
    assert state.epoch == 5
    state = after(*accepted(c.Undo()))
    assert (state.overrides, state.epoch) == ([], 0)


@given(regions)
def test_any_override_can_be_undone(region: Region) -> None:
    for command in (c.Exclude(region=region), c.Prioritise(region=region)):
        assert after(*accepted(command)).overrides == [command]
        assert after(*accepted(command, c.Undo())).overrides == []


def test_a_force_is_no_override_and_keeps_the_epoch() -> None:
    state = after(*accepted(c.Force(center_nm=(0.0, 0.0)), c.Annotate(text="x"), c.Pause()))
    assert (state.overrides, state.epoch) == ([], 0)


def test_autonomy_and_freezing_are_taken_over() -> None:
    state = after(*accepted(c.SetAutonomy(mode=Autonomy.MANUAL), c.Freeze()))
    assert (state.autonomy, state.encoder_frozen, state.epoch) == (Autonomy.MANUAL, True, 1)
    assert not after(*accepted(c.Freeze(), c.Freeze(frozen=False))).encoder_frozen


def test_answers_are_remembered_also_of_a_command_that_failed_after_it_was_taken() -> None:
    taken, refused = c.Pause(id="c1"), c.Resume(id="c2")
    state = after(
        e.CommandAccepted(command=taken),
        e.CommandRefused(command=refused, why="not now"),
    )
    assert state.commands_seen == {"c1": "", "c2": "not now"}
    state.apply(
        e.Entry(seq=9, utc="", t_s=9.0, event=e.CommandRefused(command=taken, why="it failed"))
    )
    assert state.commands_seen == {"c1": "it failed", "c2": "not now"}


PARKED = e.Parked(by="controller", why="end", verified_blanked=True, steps=())


@pytest.mark.parametrize(
    ("event", "needed"),
    [
        (PARKED, False),
        (PARKED.model_copy(update={"verified_blanked": False}), True),
        (PARKED.model_copy(update={"by": "guardian"}), True),
        (PARKED.model_copy(update={"by": "probewise park"}), True),
        (e.PhaseChanged(old=Phase.RUNNING, new=Phase.FAULT), True),
        (e.PhaseChanged(old=Phase.RUNNING, new=Phase.ABORTING), False),
        (e.ReadBackMismatch(what="blanker", expected="on", got="off"), True),
        (e.ReadBackMismatch(what="defocus", expected="1", got="2"), False),
    ],
)
def test_what_needs_an_acknowledgement_and_that_one_is_enough(
    event: e.AnyEvent, needed: bool
) -> None:
    assert after(event).needs_acknowledge is needed
    assert not after(event, *accepted(c.Acknowledge())).needs_acknowledge
    assert after(event, e.RunResumed(by="Ada")).needs_acknowledge is needed


def test_a_blanker_that_lied_is_remembered_until_the_run_is_resumed() -> None:
    lied = e.ReadBackMismatch(what="blanker", expected="on", got="off")
    assert after(lied, *accepted(c.Acknowledge())).blank_lied
    assert not after(lied, e.RunResumed(by="Ada")).blank_lied


def test_parked_says_whether_it_was_verified() -> None:
    assert after(PARKED).parked
    assert not after(PARKED, PARKED.model_copy(update={"verified_blanked": False})).parked


def test_resuming_starts_from_idle_with_what_was_learnt() -> None:
    state = after(
        *phases(Phase.READY, Phase.RUNNING),
        intent("s000001"),
        executed("s000001"),
        suggested("s000002"),
        e.SuspenderTripped(name="drift", why="fast"),
        e.Finished(reason=FinishReason.ABORTED, message="stop"),
        e.RunResumed(by="Ada"),
    )
    assert (state.phase, state.finish_reason, state.finish_message) == (Phase.IDLE, None, "")
    assert (state.pending, state.suspended) == ({}, {})
    assert (list(state.outcomes), state.n_ids) == (["s000001"], 2)
    assert state.epoch == 1


def test_descriptions_and_their_renewal_belong_to_an_outcome() -> None:
    first = e.Described(
        id="s000001",
        encoder_version=1,
        names=("a",),
        summary=(1.0,),
        objective=1.0,
        health_ok=True,
        health_score=0.0,
    )
    renewed = e.Relabelled(
        version=2,
        names=("a", "b"),
        summaries={"s000001": (2.0, math.inf), "s000404": (0.0, 0.0)},
        objectives={"s000001": 2.5},
    )
    state = after(executed("s000001"), first)
    assert state.outcomes["s000001"].summary == (1.0,)
    outcome = after(executed("s000001"), first, renewed).outcomes["s000001"]
    assert (outcome.encoder_version, outcome.names) == (2, ("a", "b"))
    assert (outcome.summary, outcome.objective) == ((2.0, math.inf), 2.5)
    assert list(after(first, renewed).outcomes) == []


def test_small_facts_are_kept() -> None:
    state = after(
        executed("s000001"),
        e.Stored(id="s000001", datasets={}, indices={}, nbytes=1),
        e.FrameRejected(sub_scan_id="s000001", detector="haadf", why="gap"),
        e.CurrentRead(current=BeamCurrent(20.0, "measured", 1.0), upper_pA=22.0),
        e.DriftMeasured(offset_nm=(1.0, -2.0), rate_nm_per_min=0.5, confidence=0.9),
        e.EncoderPublished(describer="linear", version=3, checkpoint="c.npz", sha256="0"),
        e.SuspenderTripped(name="drift", why="fast"),
        e.SuspenderTripped(name="disk", why="full"),
        e.SuspenderCleared(name="drift"),
        e.SuspenderCleared(name="never tripped"),
        e.Finished(reason=FinishReason.BUDGET, message="spent"),
    )
    assert state.outcomes["s000001"].stored
    assert state.outcomes["s000001"].rejected == "haadf: gap"
    assert (state.upper_pA, state.offset_nm, state.drift_nm_per_min) == (22.0, (1.0, -2.0), 0.5)
    assert (state.encoder_version, state.encoder_checkpoint) == (3, "c.npz")
    assert state.suspended == {"disk": "full"}
    assert (state.finish_reason, state.finish_message) == (FinishReason.BUDGET, "spent")
