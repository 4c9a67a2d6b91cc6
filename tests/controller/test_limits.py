"""Each limit trips just above its value and not just below; budgets stop at the ceilings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import commands as c
from controller import events as e
from controller.config import BudgetPart
from controller.dose import DoseLedger
from controller.limits import (
    Budget,
    Verdict,
    beam_on_s,
    budget_in_force,
    check_current,
    check_dose,
    check_geometry,
    check_resources,
    over_ceiling,
    planned_electrons,
)
from controller.state import fold
from drivers.instrument import LimitsPart
from drivers.vocabulary import BeamCurrent
from tests.controller.core_helpers import instrument, sub_scan

BENCH = instrument()
ABOVE, BELOW = 1 + 1e-3, 1 - 1e-3
BUDGET = Budget(10, 1000.0, 50.0, 600.0)
PART = BudgetPart(n_sub_scans=10, max_local_dose_e_per_A2=1e3, max_total_dose_e_per_A2=50.0)


def rules(found: Iterable[Verdict]) -> list[str]:
    return [verdict.rule for verdict in found]


def geometry(max_positions: int = 1 << 24, tables: Any = None, **scan: Any) -> list[str]:
    bench = instrument(**tables) if tables else BENCH
    return rules(check_geometry(sub_scan(**scan), bench, max_positions))


@pytest.mark.parametrize(
    ("axis", "center_nm"), [("y", (9.0, 0.0)), ("y", (-9.0, 0.0)), ("x", (0.0, 19.0))]
)
def test_a_scan_must_lie_in_the_field(axis: str, center_nm: tuple[float, float]) -> None:
    assert geometry(center_nm=center_nm) == []
    further = (center_nm[0] * ABOVE, center_nm[1] * ABOVE)
    assert geometry(center_nm=further) == [f"field, {axis} from its centre"]


def test_a_turned_scan_reaches_further_than_a_straight_one() -> None:
    assert geometry(center_nm=(8.9, 0.0)) == []
    turned = geometry(center_nm=(8.9, 0.0), rotation_deg=45.0)
    assert turned == ["field, y from its centre"]


def test_a_field_of_view_may_be_as_large_as_the_limit() -> None:
    tables = {"limits": {"max_fov_nm": [4.0, 6.0]}}
    assert geometry(tables=tables, fov_nm=(4.0, 6.0)) == []
    assert geometry(tables=tables, fov_nm=(4.0 * ABOVE, 6.0)) == ["field of view, y"]
    assert geometry(tables=tables, fov_nm=(4.0, 6.0 * ABOVE)) == ["field of view, x"]


def test_dwell_time_has_two_ends() -> None:
    assert geometry(dwell_us=1000.0) == geometry(dwell_us=1.0) == []
    assert geometry(dwell_us=1000.0 * ABOVE) == ["dwell time"]
    assert geometry(dwell_us=1.0 * BELOW) == ["shortest dwell time"]


def test_positions_are_counted() -> None:
    assert geometry(max_positions=64) == []
    assert geometry(max_positions=63) == ["positions"]


@pytest.mark.parametrize("which", ["settle_us", "flyback_us"])
def test_a_probe_may_not_stand_still_too_long(which: str) -> None:
    assert geometry(tables={"scan": {which: 10_000.0 * BELOW}}) == []
    assert geometry(tables={"scan": {which: 10_000.0 * ABOVE}}) == ["stationary probe"]
    tables = {"scan": {"max_dwell_us": 1e5}}
    assert geometry(tables=tables, dwell_us=10_000.0 * BELOW) == []
    assert geometry(tables=tables, dwell_us=10_000.0 * ABOVE) == ["stationary probe"]


def test_everything_that_is_wrong_is_said() -> None:
    found = geometry(max_positions=1, center_nm=(50.0, 50.0), dwell_us=2000.0)
    assert found == [
        "field, y from its centre",
        "field, x from its centre",
        "dwell time",
        "positions",
    ]


def test_beam_on_time_counts_settling_and_flyback() -> None:
    # 64 positions of 10 µs, settling of 100 µs, 7 flybacks of 50 µs
    assert beam_on_s(sub_scan(), BENCH.scan) == pytest.approx(1090e-6)
    assert beam_on_s(sub_scan(shape=(1, 64)), BENCH.scan) == pytest.approx(740e-6)


def test_planned_electrons_use_the_upper_bound_of_the_current_and_blanking() -> None:
    bench = instrument(beam={"current_upper_pA": 30.0, "blank_latency_us": 5.0})
    expected = 30e-12 / 1.602176634e-19 * 1100e-6
    assert planned_electrons(sub_scan(), bench) == pytest.approx(expected)
    guessed = instrument(beam={"current_upper_pA": None})
    assert planned_electrons(sub_scan(), guessed) == pytest.approx(
        22e-12 / 1.602176634e-19 * 1090e-6
    )


def dose(electrons: float, earlier: float = 0.0) -> list[tuple[str, str]]:
    ledger = DoseLedger((20.0, 40.0), 0.5)
    if earlier:
        ledger.charge(sub_scan(), earlier)
    found = check_dose(sub_scan(), electrons, ledger, BUDGET)
    return [(verdict.rule, verdict.action) for verdict in found]


def test_local_dose_counts_what_was_there_before() -> None:
    full = 1000.0 * 400  # e/Å² over 2 x 2 nm
    assert dose(full) == dose(full / 2, earlier=full / 2) == []
    assert dose(full * ABOVE) == [("local dose", "refused")]
    assert dose(full / 2 * ABOVE, earlier=full / 2) == [("local dose", "refused")]


def test_total_dose_ends_the_run() -> None:
    ledger = DoseLedger((20.0, 40.0), 0.5)
    budget = Budget(10, 1e9, 50.0, 600.0)
    full = 50.0 * 20 * 40 * 100
    assert rules(check_dose(sub_scan(), full, ledger, budget)) == []
    found = list(check_dose(sub_scan(), full * ABOVE, ledger, budget))
    assert [(verdict.rule, verdict.action) for verdict in found] == [("total dose", "finish")]


def test_a_dose_that_is_not_a_number_is_over_every_limit() -> None:
    assert [rule for rule, _ in dose(math.nan)] == ["local dose", "total dose"]


@pytest.mark.parametrize(
    ("current", "rule"),
    [
        (None, "beam current unknown"),
        (BeamCurrent(0.0, "measured", 0.0), "beam current unknown"),
        (BeamCurrent(-1.0, "measured", 0.0), "beam current unknown"),
        (BeamCurrent(math.nan, "measured", 0.0), "beam current unknown"),
        (BeamCurrent(20.0 * ABOVE, "measured", 0.0), "beam current"),
        (BeamCurrent(math.inf, "measured", 0.0), "beam current"),
        (BeamCurrent(20.0, "measured", 60.0 * ABOVE), "age of beam current"),
        (BeamCurrent(20.0, "measured", math.nan), "age of beam current"),
        (BeamCurrent(20.0, "measured", 60.0), None),
        (BeamCurrent(20.0 * BELOW, "configured", 0.0), None),
    ],
)
def test_a_beam_current_must_be_known_bounded_and_fresh(
    current: BeamCurrent | None, rule: str | None
) -> None:
    bench = instrument(beam={"current_max_age_s": 60.0})
    assert rules(check_current(current, bench)) == ([rule] if rule else [])


def resources(**changes: float) -> list[tuple[str, str]]:
    values = {"elapsed_s": 0.0, "scan_s": 1.0, "free_bytes": 1e10, "need_bytes": 0.0, **changes}
    found = check_resources(budget=BUDGET, limits=BENCH.limits, **values)
    return [(verdict.rule, verdict.action) for verdict in found]


def test_the_run_may_last_as_long_as_its_budget() -> None:
    assert resources(elapsed_s=599.0) == []
    assert resources(elapsed_s=599.0 * ABOVE) == [("duration", "finish")]


def test_the_disk_must_hold_the_frames_and_keep_a_reserve() -> None:
    assert resources(free_bytes=3e9, need_bytes=1e9) == []
    assert resources(free_bytes=3e9 * BELOW, need_bytes=1e9) == [("free disk", "hold")]


def test_a_verdict_is_a_sentence_with_numbers() -> None:
    text = str(Verdict("local dose", 1234.5, 1000.0, "e/Å²", "refused"))
    assert text == "local dose: 1234 e/Å² over the limit of 1000"


LIMITS = LimitsPart(
    max_local_dose_e_per_A2=2000.0, max_total_dose_e_per_A2=80.0, max_duration_s=900.0
)


def in_force(*commands: c.AnyCommand) -> Budget:
    events = [e.CommandAccepted(command=command) for command in commands]
    entries = [e.Entry(seq=i + 1, utc="", t_s=0.0, event=event) for i, event in enumerate(events)]
    return budget_in_force(PART, LIMITS, fold(entries))


def test_the_configured_budget_holds_until_an_operator_moves_it() -> None:
    assert in_force() == Budget(10, 1000.0, 50.0, 900.0)
    more = c.SetBudget(n_sub_scans=20, max_local_dose_e_per_A2=1500.0)
    later = c.SetBudget(max_local_dose_e_per_A2=400.0, max_duration_s=60.0)
    assert in_force(more) == Budget(20, 1500.0, 50.0, 900.0)
    assert in_force(more, later) == Budget(20, 400.0, 50.0, 60.0)
    assert in_force(more, later, c.Undo()) == in_force(more)


numbers = st.none() | st.floats(1e-6, 1e12)


@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=4))
def test_no_sequence_of_commands_gets_above_a_ceiling(
    wishes: list[tuple[float | None, float | None, float | None]],
) -> None:
    commands = [
        c.SetBudget(
            max_local_dose_e_per_A2=local,
            max_total_dose_e_per_A2=total,
            max_duration_s=duration,
        )
        for local, total, duration in wishes
    ]
    budget = in_force(*commands)
    assert budget.max_local_dose_e_per_A2 <= LIMITS.max_local_dose_e_per_A2
    assert budget.max_total_dose_e_per_A2 <= LIMITS.max_total_dose_e_per_A2
    assert budget.max_duration_s <= LIMITS.max_duration_s


@pytest.mark.parametrize(
    ("name", "ceiling"),
    [
        ("max_local_dose_e_per_A2", 2000.0),
        ("max_total_dose_e_per_A2", 80.0),
        ("max_duration_s", 900.0),
    ],
)
def test_a_budget_above_the_ceiling_is_refused_with_both_numbers(name: str, ceiling: float) -> None:
    assert over_ceiling(c.SetBudget.model_validate({name: ceiling}), LIMITS) is None
    why = over_ceiling(c.SetBudget.model_validate({name: 2 * ceiling}), LIMITS)
    assert why is not None
    assert f"{2 * ceiling:g}" in why
    assert f"ceiling of {ceiling:g}" in why
