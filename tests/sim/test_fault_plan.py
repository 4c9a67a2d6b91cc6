"""Faults fall due exactly when the plan says, whatever else is asked in between."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.faults import Fault, FaultPlan


def due_calls(plan: FaultPlan, where: str, calls: int) -> list[int]:
    return [call for call in range(1, calls + 1) if plan.due(where) is not None]


def test_nothing_goes_wrong_without_a_plan() -> None:
    assert due_calls(FaultPlan(), "scan", 50) == []


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 5))
def test_nth_call_and_those_after_it(nth: int, count: int) -> None:
    plan = FaultPlan([Fault("raise", "scan", nth=nth, count=count)])
    assert due_calls(plan, "scan", 40) == list(range(nth, nth + count))


def test_other_places_are_left_alone_and_do_not_count() -> None:
    plan = FaultPlan([Fault("hang", "blank", nth=2, seconds=3.0)])
    assert due_calls(plan, "scan", 5) == []
    assert plan.due("blank") is None
    fault = plan.due("blank")
    assert fault is not None
    assert (fault.kind, fault.seconds) == ("hang", 3.0)


def test_the_earlier_of_two_faults_happens() -> None:
    plan = FaultPlan([Fault("raise", "scan", nth=1), Fault("hang", "scan", nth=1, count=2)])
    kinds = [fault.kind for fault in (plan.due("scan"), plan.due("scan")) if fault]
    assert kinds == ["raise", "hang"]


def test_chances_come_about_as_often_as_they_should() -> None:
    plan = FaultPlan([Fault("dropped_frame", "frame", probability=0.1, count=10**6)], seed=4)
    assert len(due_calls(plan, "frame", 3000)) == pytest.approx(300, abs=80)


def test_a_chance_happens_no_more_often_than_its_count() -> None:
    plan = FaultPlan([Fault("raise", "scan", probability=1.0, count=3)])
    assert due_calls(plan, "scan", 20) == [1, 2, 3]


@settings(deadline=None)
@given(st.integers(0, 100), st.lists(st.sampled_from(["a", "b"]), max_size=60))
def test_what_happens_does_not_depend_on_the_order_of_places(
    seed: int, order: Iterable[str]
) -> None:
    def plan() -> FaultPlan:
        faults = [Fault("raise", where, probability=0.3, count=100) for where in ("a", "b")]
        return FaultPlan(faults, seed)

    mixed, by_place = plan(), plan()
    found: dict[str, list[bool]] = {"a": [], "b": []}
    for where in order:
        found[where].append(mixed.due(where) is not None)
    for where, seen in found.items():
        assert [by_place.due(where) is not None for _ in seen] == seen


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "either nth or a probability"),
        ({"nth": 1, "probability": 0.5}, "either nth or a probability"),
        ({"nth": 0}, "start at 1"),
        ({"nth": 1, "count": 0}, "start at 1"),
        ({"probability": 1.5}, "not between 0 and 1"),
        ({"nth": 1, "seconds": -1.0}, "seconds at 0"),
        ({"nth": 1, "kind": "gremlin"}, "unknown kind; known are hang"),
    ],
)
def test_bad_faults_are_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Fault(**{"kind": "raise", "where": "scan", **options})  # type: ignore[arg-type]
