"""What went wrong is said in one line, and each end of a run has its exit code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import describe, innermost
from controller.exits import EXPECTED, Exit, exit_for
from controller.parts import End
from controller.phases import FinishReason
from drivers.errors import DriverDisconnected


def test_an_error_is_one_line_and_a_group_is_its_first_member() -> None:
    inner = DriverDisconnected("the peer\n  closed")
    group = ExceptionGroup("a", [ExceptionGroup("b", [inner, ValueError("2")]), KeyError("3")])
    assert innermost(group) is inner
    assert describe(group) == "DriverDisconnected: the peer closed"
    assert describe(ValueError()) == "ValueError"
    assert innermost(inner) is inner


@given(st.text())
def test_any_error_is_described_in_one_line(text: str) -> None:
    assert len(describe(ValueError(text)).splitlines()) == 1


def code(reason: FinishReason, **changes: object) -> Exit:
    known = {"fault": None, "interrupted": False, "budget_is_the_end": True, **changes}
    return exit_for(End(reason, "x"), **known)  # type: ignore[arg-type]


def test_each_end_has_its_exit_code() -> None:
    bug, hardware = ZeroDivisionError(), DriverDisconnected("x")
    assert code(FinishReason.COMPLETED) == 0
    assert code(FinishReason.FAULT, fault=bug) == 1
    assert code(FinishReason.FAULT, fault=hardware) == 3
    assert code(FinishReason.FAULT) == 3
    assert code(FinishReason.LIMIT) == 4
    assert code(FinishReason.ABORTED) == 5
    assert code(FinishReason.BUDGET) == 0
    assert code(FinishReason.BUDGET, budget_is_the_end=False) == 6


@pytest.mark.parametrize(
    "reason", [each for each in FinishReason if each is not FinishReason.FAULT]
)
def test_ctrl_c_has_a_code_of_its_own(reason: FinishReason) -> None:
    assert code(reason, interrupted=True) == 130


def test_ctrl_c_does_not_hide_that_the_beam_may_be_on() -> None:
    assert code(FinishReason.FAULT, interrupted=True) == 3


def test_expected_failures_are_no_bugs() -> None:
    assert not any(issubclass(ValueError, kind) for kind in EXPECTED)
    assert not any(issubclass(AssertionError, kind) for kind in EXPECTED)
    assert any(issubclass(DriverDisconnected, kind) for kind in EXPECTED)
