"""Parking goes on after whatever fails, takes no longer than its bounds, and never pretends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.events import Parked
from controller.park import alarm, longest_s, park
from drivers.errors import DriverDisconnected, DriverTimeout

NAMES = ("stop", "blank", "park_probe", "is_blanked")
STEPS = ["stop", "blank", "park probe", "verify"]
AGAIN = ["blank again", "verify again"]


class Column:
    """An instrument with a blanker, and a way to park it in which any call can misbehave."""

    def __init__(self) -> None:
        self.blanked = False
        self.calls: list[str] = []
        self.faults: dict[str, list[Callable[[float], Any]]] = {}
        self.released = threading.Event()

    def fault(self, name: str, *acts: Callable[[float], Any]) -> None:
        """Let the next calls of one kind do this instead."""
        self.faults[name] = list(acts)

    def hang(self, timeout_s: float) -> None:
        """Ignore the time allowed, and answer only when the test is over."""
        assert self.released.wait(30)

    def _call(self, name: str, timeout_s: float, act: Callable[[], Any]) -> Any:
        self.calls.append(name)
        acts = self.faults.get(name)
        return acts.pop(0)(timeout_s) if acts else act()

    def stop(self, timeout_s: float) -> None:
        self._call("stop", timeout_s, lambda: None)

    def blank(self, timeout_s: float) -> None:
        self._call("blank", timeout_s, lambda: setattr(self, "blanked", True))

    def park_probe(self, timeout_s: float) -> None:
        self._call("park_probe", timeout_s, lambda: None)

    def is_blanked(self, timeout_s: float) -> Any:
        return self._call("is_blanked", timeout_s, lambda: self.blanked)

    def close(self) -> None:
        pass


def refuse(_: float) -> None:
    raise DriverDisconnected("the cable is out")


def leave(_: float) -> None:
    raise SystemExit(0)


@pytest.fixture
def column() -> Iterator[Column]:
    made = Column()
    yield made
    made.released.set()


def run(column: Column, step_s: float = 5.0) -> Parked:
    return park(column, step_s=step_s, by="test", why="because")


def outcome(report: Parked) -> dict[str, bool]:
    return {step.name: step.ok for step in report.steps}


def test_parking_stops_blanks_parks_and_verifies_in_this_order(column: Column) -> None:
    report = run(column)
    assert column.calls == list(NAMES)
    assert outcome(report) == dict.fromkeys(STEPS, True)
    assert (report.verified_blanked, report.by, report.why) == (True, "test", "because")
    assert all(step.error == "" for step in report.steps)


def test_parking_twice_is_harmless(column: Column) -> None:
    assert run(column).verified_blanked
    assert run(column).verified_blanked
    assert column.blanked


@pytest.mark.parametrize("name", ["stop", "park_probe"])
@pytest.mark.parametrize("fault", [refuse, leave])
def test_a_failed_step_does_not_keep_the_beam_on(
    column: Column, name: str, fault: Callable[[float], None]
) -> None:
    column.fault(name, fault)
    report = run(column)
    assert column.blanked
    assert report.verified_blanked
    failed = [step for step in report.steps if not step.ok]
    assert [step.name for step in failed] == [name.replace("_", " ")]
    assert failed[0].error in ("the cable is out", "0")


def test_a_blank_that_failed_once_is_tried_again(column: Column) -> None:
    column.fault("blank", refuse)
    report = run(column)
    assert report.verified_blanked
    assert [step.name for step in report.steps] == [*STEPS, *AGAIN]
    assert [step.name for step in report.steps if not step.ok] == ["blank", "verify"]


def test_a_blanker_that_is_stuck_is_not_called_blanked(column: Column) -> None:
    column.fault("blank", lambda _: None, lambda _: None)
    report = run(column)
    assert not report.verified_blanked
    assert column.calls.count("blank") == column.calls.count("is_blanked") == 2
    assert "the instrument says the beam is on" in report.steps[-1].error


def test_only_the_read_back_verifies(column: Column) -> None:
    column.fault("is_blanked", refuse, refuse)
    report = run(column)
    assert column.blanked
    assert not report.verified_blanked


def test_a_read_back_that_failed_once_is_asked_again(column: Column) -> None:
    column.fault("is_blanked", refuse)
    report = run(column)
    assert report.verified_blanked
    assert [step.name for step in report.steps if not step.ok] == ["verify"]


@pytest.mark.parametrize("answer", [False, None, 0])
def test_a_read_back_that_says_nothing_does_not_verify(column: Column, answer: Any) -> None:
    column.fault("is_blanked", *[lambda _: answer] * 2)
    assert not run(column).verified_blanked


def test_a_late_yes_to_an_old_question_does_not_verify(column: Column) -> None:
    asked = threading.Event()

    def late_yes(_: float) -> bool:
        asked.set()
        column.released.wait(30)
        return True

    def no_after_the_late_yes(_: float) -> bool:
        column.released.set()
        return False

    column.fault("is_blanked", late_yes, no_after_the_late_yes)
    report = run(column, step_s=0.05)
    assert asked.is_set()
    assert not report.verified_blanked


def test_everything_hanging_takes_no_longer_than_the_bounds(column: Column) -> None:
    for name in NAMES:
        column.fault(name, column.hang, column.hang)
    step_s = 0.05
    started = time.monotonic()
    report = run(column, step_s)
    took_s = time.monotonic() - started
    assert outcome(report) == dict.fromkeys([*STEPS, *AGAIN], False)
    assert all(step.error == "no answer in 0.05 s" for step in report.steps)
    assert sum(step.took_s for step in report.steps) <= took_s
    assert all(step.took_s >= step_s for step in report.steps)
    assert longest_s(step_s) == pytest.approx(6 * 0.15)
    assert not report.verified_blanked


@pytest.mark.parametrize("name", ["stop", "blank", "park_probe"])
def test_a_hanging_step_does_not_keep_the_beam_on(column: Column, name: str) -> None:
    column.fault(name, column.hang)
    report = run(column, step_s=0.1)
    assert column.blanked
    assert report.verified_blanked


faults = st.sampled_from(["fine", "refuse", "timeout", "nothing"])


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(faults, min_size=6, max_size=6))
def test_verified_means_that_the_last_word_was_blanked(plan: list[str]) -> None:
    column = Column()

    def late(timeout_s: float) -> None:
        raise DriverTimeout("answer", timeout_s)

    order = ["stop", "blank", "park_probe", "is_blanked", "blank", "is_blanked"]
    for name, kind in zip(order, plan, strict=True):
        plain: dict[str, Callable[[float], Any]] = {
            "fine": {
                "blank": lambda _: setattr(column, "blanked", True),
                "is_blanked": lambda _: column.blanked,
            }.get(name, lambda _: None),
            "refuse": refuse,
            "timeout": late,
            "nothing": lambda _: None,
        }
        column.faults.setdefault(name, []).append(plain[kind])
    report = run(column)
    good = {"blank": "fine", "is_blanked": "fine"}
    first = plan[1] == good["blank"] and plan[3] == good["is_blanked"]
    again = "fine" in (plan[1], plan[4]) and plan[5] == good["is_blanked"]
    assert report.verified_blanked == (first or again)
    assert [step.name for step in report.steps] == (STEPS if first else [*STEPS, *AGAIN])
    if report.verified_blanked:
        assert column.blanked


def test_the_alarm_names_every_failed_step_and_says_what_to_do(column: Column) -> None:
    column.fault("stop", refuse)
    column.fault("is_blanked", refuse, refuse)
    text = alarm(run(column))
    assert text.startswith("THE BEAM MAY BE ON")
    for part in ("stop: the cable is out", "verify again: the cable is out", "column valve"):
        assert part in text
    assert "park probe" not in text


def test_an_error_without_words_is_named_by_its_kind(column: Column) -> None:
    def fail(_: float) -> None:
        raise ZeroDivisionError

    column.fault("stop", fail)
    assert run(column).steps[0].error == "ZeroDivisionError"
