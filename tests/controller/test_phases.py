"""Which phase follows which, and which command is taken when: the whole table, written out."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from controller import commands as c
from controller.phases import (
    EXPOSING,
    TRANSITIONS,
    IllegalTransition,
    Phase,
    check_transition,
    refusal,
)

# one column per phase: Y taken, . refused
TABLE = """
command idle connecting ready surveying running holding paused finishing aborting fault parking safe
pause           . . . Y Y Y . . . . . .
resume          . . . . . Y Y . . . . .
step            . . . . . . Y . . . . .
abort           . Y Y Y Y Y Y Y . . . .
park            Y Y Y Y Y Y Y Y Y Y . .
autonomy        . . Y Y Y Y Y . . . . .
accept          . . . . Y Y . . . . . .
veto            . . . . Y Y Y . . . . .
force           . . Y Y Y Y Y . . . . .
exclude         . . Y Y Y Y Y . . . . .
prioritise      . . Y Y Y Y Y . . . . .
retarget        . . Y Y Y Y Y . . . . .
set_objective   . . Y Y Y Y Y . . . . .
set_acquisition . . Y Y Y Y Y . . . . .
set_budget      . . Y Y Y Y Y . . . . .
annotate        Y Y Y Y Y Y Y Y Y Y Y Y
retrain         . . Y Y Y Y Y . . . . .
freeze          . . Y Y Y Y Y . . . . .
undo            . . Y Y Y Y Y . . . . .
acknowledge     . . . . . . . . . . . Y
"""
COLUMNS, *LINES = (line.split() for line in TABLE.strip().splitlines())
COLUMNS = COLUMNS[1:]
ROWS = {line[0]: line[1:] for line in LINES}
ONWARD = """
idle        connecting parking
connecting  ready fault aborting parking
ready       surveying running finishing paused holding fault aborting parking
surveying   running holding paused finishing fault aborting parking
running     holding paused finishing fault aborting parking
holding     surveying running paused finishing fault aborting parking
paused      surveying running holding finishing fault aborting parking
finishing   fault aborting parking
aborting    parking
fault       parking
parking     safe fault
safe        ready connecting parking
"""
EDGES = {line.split()[0]: set(line.split()[1:]) for line in ONWARD.strip().splitlines()}


def command_classes() -> list[type[c.Command]]:
    """Return every class of the command union."""
    return list(get_args(get_args(c.AnyCommand)[0]))


def reachable(start: Phase, *, without: frozenset[Phase] = frozenset()) -> set[Phase]:
    """Return the phases that can follow ``start``, by any way that avoids ``without``."""
    seen: set[Phase] = set()
    waiting = [start]
    while waiting:
        for new in TRANSITIONS[waiting.pop()] - without:
            if new not in seen:
                seen.add(new)
                waiting.append(new)
    return seen


def test_a_command_is_taken_where_the_table_says_so() -> None:
    for command, phase in itertools.product(ROWS, Phase):
        works = {name for name, mark in zip(COLUMNS, ROWS[command], strict=True) if mark == "Y"}
        why = refusal(command, phase)
        assert (why is None) is (phase.value in works), f"{command} while {phase.value}: {why}"
        if why is not None:
            assert set(why.partition("it can while ")[2].split(", ")) == works
            assert f"'{command}'" in why
            assert f"while {phase.value}" in why


def test_the_table_has_a_row_for_every_command_and_a_column_for_every_phase() -> None:
    assert set(ROWS) == {each.model_fields["cmd"].default for each in command_classes()}
    assert set(COLUMNS) == {phase.value for phase in Phase}
    assert all(len(marks) == len(Phase) for marks in ROWS.values())


def test_a_command_without_a_row_is_an_error_not_a_permission() -> None:
    with pytest.raises(KeyError):
        refusal("fly", Phase.RUNNING)


def test_phases_follow_each_other_as_listed_and_no_other_way() -> None:
    for old, new in itertools.product(Phase, Phase):
        if new.value in EDGES[old.value]:
            check_transition(old, new)
        else:
            with pytest.raises(IllegalTransition, match=f"{old.value} can't become {new.value}"):
                check_transition(old, new)


def test_parking_is_one_step_from_everywhere() -> None:
    for phase in set(Phase) - {Phase.PARKING}:
        check_transition(phase, Phase.PARKING)


def test_aborting_and_fault_lead_to_parking_alone() -> None:
    assert TRANSITIONS[Phase.ABORTING] == TRANSITIONS[Phase.FAULT] == {Phase.PARKING}


def test_only_parking_ends_in_safe() -> None:
    assert {phase for phase in Phase if Phase.SAFE in TRANSITIONS[phase]} == {Phase.PARKING}


def test_nothing_is_exposed_after_safe_without_being_ready_again() -> None:
    assert not reachable(Phase.SAFE, without=frozenset({Phase.READY})) & EXPOSING


def test_safe_is_reached_from_every_phase() -> None:
    assert all(Phase.SAFE in reachable(phase) for phase in Phase)


def test_nothing_is_exposed_after_a_stop_without_having_been_safe() -> None:
    for stopped in (Phase.ABORTING, Phase.FAULT, Phase.FINISHING, Phase.PARKING):
        assert not reachable(stopped, without=frozenset({Phase.SAFE})) & EXPOSING


def test_no_phase_follows_itself_and_none_is_a_dead_end() -> None:
    assert set(TRANSITIONS) == set(Phase)
    for phase, following in TRANSITIONS.items():
        assert following
        assert phase not in following
    assert reachable(Phase.IDLE) == set(Phase) - {Phase.IDLE}


def test_exposing_phases_are_the_survey_and_the_run() -> None:
    assert {Phase.SURVEYING, Phase.RUNNING} == EXPOSING
