"""Which commands are taken: judged by phase, revision, autonomy, abilities and ceilings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import commands as c
from controller import events as e
from controller.arbiter import CAPACITY, Answer, Arbiter
from controller.phases import Autonomy, Phase
from controller.state import RunState, fold
from drivers.instrument import LimitsPart
from drivers.vocabulary import Region
from tests.controller.core_helpers import sub_scan

LIMITS = LimitsPart(
    max_local_dose_e_per_A2=2000.0, max_total_dose_e_per_A2=80.0, max_duration_s=900.0
)
BOX = Region.box((0.0, 0.0), (1.0, 1.0))
PREFERRED: list[c.AnyCommand] = [
    c.Pause(),
    c.Abort(),
    c.Exclude(region=BOX),
    c.Annotate(text="hm"),
    c.Force(center_nm=(0.0, 0.0)),
    c.SetObjective(name="variance"),
]


def state_of(
    *commands: c.AnyCommand,
    phase: Phase = Phase.RUNNING,
    mode: Autonomy = Autonomy.AUTO,
    suggestions: tuple[str, ...] = (),
) -> RunState:
    """Return the state after these commands were taken in this phase."""
    events: list[e.AnyEvent] = [
        e.PhaseChanged(old=Phase.READY, new=phase),
        e.CommandAccepted(command=c.SetAutonomy(mode=mode)),
        *(e.CommandAccepted(command=command) for command in commands),
        *(
            e.Suggested(
                id=name,
                sub_scan=sub_scan(name),
                acquisition=0.0,
                mean=0.0,
                sd=0.0,
                n_observed=0,
                encoder_version=0,
                epoch=0,
            )
            for name in suggestions
        ),
    ]
    return fold(e.Entry(seq=i + 1, utc="", t_s=0.0, event=x) for i, x in enumerate(events))


def judge(command: c.AnyCommand, *taken: c.AnyCommand, abilities: Any = (), **state: Any) -> str:
    """Return why a command is not taken, an empty string when it is."""
    return Arbiter(LIMITS, frozenset(abilities)).judge(command, state_of(*taken, **state)) or ""


@pytest.mark.parametrize("command", PREFERRED, ids=lambda command: command.cmd)
def test_a_command_is_judged_by_the_phase(command: c.AnyCommand) -> None:
    assert judge(command) == ""
    if command.cmd != "annotate":
        assert "can't be done while parking" in judge(command, phase=Phase.PARKING)


@pytest.mark.parametrize("command", PREFERRED, ids=lambda command: command.cmd)
def test_a_command_for_another_revision_is_refused_with_both(command: c.AnyCommand) -> None:
    now = state_of().revision
    fresh = command.model_copy(update={"if_revision": now})
    stale = command.model_copy(update={"if_revision": now - 1})
    assert judge(fresh) == ""
    moved_on = f"the run has moved on: revision {now}, not {now - 1}"
    assert judge(stale) == ("" if command.cmd in ("abort", "park") else moved_on)


def test_the_same_id_gets_the_same_answer() -> None:
    arbiter = Arbiter(LIMITS, frozenset())
    pause, resume = c.Pause(id="c1"), c.Resume(id="c2")
    assert arbiter.answered(pause, state_of()) is None
    state = state_of(pause)
    state.apply(
        e.Entry(seq=9, utc="", t_s=0.0, event=e.CommandRefused(command=resume, why="not now"))
    )
    assert arbiter.answered(pause, state) == Answer("c1", True, "", 9)
    assert arbiter.answered(resume, state) == Answer("c2", False, "not now", 9)
    # the id decides, not what is asked for under it
    assert arbiter.answered(c.Abort(id="c1"), state) == Answer("c1", True, "", 9)


@pytest.mark.parametrize("command", [c.Accept(suggestion_id="s9"), c.Veto(suggestion_id="s9")])
def test_an_answer_to_a_suggestion_that_does_not_wait_names_those_that_do(
    command: c.AnyCommand,
) -> None:
    advise: dict[str, Any] = {"mode": Autonomy.ADVISE}
    assert judge(command, **advise) == "no suggestion s9 waits (waiting: none)"
    why = judge(command, suggestions=("s1", "s2"), **advise)
    assert why == "no suggestion s9 waits (waiting: s1, s2)"
    assert judge(command, suggestions=("s1", "s9"), **advise) == ""


@pytest.mark.parametrize("mode", [Autonomy.AUTO, Autonomy.MANUAL])
def test_nothing_is_accepted_outside_advise_but_vetoed_anywhere(mode: Autonomy) -> None:
    waiting: dict[str, Any] = {"mode": mode, "suggestions": ("s1",)}
    why = judge(c.Accept(suggestion_id="s1"), **waiting)
    assert why == f"nothing needs accepting while autonomy is {mode.value}"
    assert judge(c.Veto(suggestion_id="s1"), **waiting) == ""


def test_a_budget_above_the_ceiling_is_refused_with_its_numbers() -> None:
    why = judge(c.SetBudget(max_total_dose_e_per_A2=81.0, max_duration_s=10.0))
    assert "max_total_dose_e_per_A2 = 81 e/Å²" in why
    assert "ceiling of 80" in why
    assert judge(c.SetBudget(max_total_dose_e_per_A2=80.0, n_sub_scans=10**6)) == ""


def test_undo_needs_something_to_undo() -> None:
    assert judge(c.Undo()) == "there is no override to undo"
    assert judge(c.Undo(), c.Exclude(region=BOX)) == ""
    assert judge(c.Undo(), c.Exclude(region=BOX), c.Undo()) == "there is no override to undo"
    assert judge(c.Undo(), c.Force(center_nm=(0.0, 0.0))) == "there is no override to undo"


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (c.Retrain(), "describer"),
        (c.Retarget(target=c.TargetBox(region=BOX)), "planner"),
    ],
)
def test_what_this_run_can_not_do_is_refused(command: c.AnyCommand, part: str) -> None:
    assert judge(command) == f"this run's {part} can't {command.cmd}"
    assert judge(command, abilities={command.cmd}) == ""


def test_a_full_queue_refuses_with_a_reason_but_never_an_abort() -> None:
    arbiter = Arbiter(LIMITS, frozenset())
    for i in range(CAPACITY):
        assert arbiter.offer(c.Annotate(text=str(i))) is None
    why = arbiter.offer(c.Annotate(text="one too many"))
    assert why is not None
    assert f"too many commands wait ({CAPACITY})" in why
    for urgent in (c.Abort(), c.Park(), c.Pause()):
        assert arbiter.offer(urgent) is None
    waiting: list[c.AnyCommand] = list(iter(arbiter.queue.take, None))
    taken = [command.cmd for command in waiting]
    assert taken == ["abort", "park", "pause", *["annotate"] * CAPACITY]


ordinary: st.SearchStrategy[c.AnyCommand] = st.sampled_from(
    [c.Resume(), c.Undo(), c.Step(), c.Annotate(text="x")]
)
urgent: st.SearchStrategy[c.AnyCommand] = st.sampled_from(
    [c.Abort(), c.Park(), c.Pause(now=True), c.Pause()]
)


@given(st.lists(ordinary | urgent, max_size=20))
def test_stopping_overtakes_whatever_waits(commands: list[c.AnyCommand]) -> None:
    arbiter = Arbiter(LIMITS, frozenset())
    for command in commands:
        assert arbiter.offer(command) is None
    taken = list(iter(arbiter.queue.take, None))
    assert taken == sorted(commands, key=lambda command: command.cmd not in c.OVERTAKING)


def test_judging_changes_nothing() -> None:
    arbiter, state = Arbiter(LIMITS, frozenset()), state_of()
    before = repr((state.revision, state.overrides, state.epoch, state.commands_seen))
    for command in PREFERRED:
        arbiter.judge(command, state)
    assert repr((state.revision, state.overrides, state.epoch, state.commands_seen)) == before
    assert not arbiter.forced
    assert not arbiter.accepted
