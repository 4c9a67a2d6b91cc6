"""What an operator steers by: places forced, left out and preferred, objectives, budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controller import commands as c
from controller import events as e
from controller.phases import FinishReason, Phase
from drivers.vocabulary import Region
from tests.controller.loop_bench import SLOW_DWELL_US, Bench, open_bench, play
from tests.controller.loop_checks import check_all, check_never_twice, outcome_places

SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": SLOW_DWELL_US}
MANY = {"n_sub_scans": 30}
FIRST = 2
"""Which call of `scan` is the first sub-scan's: the survey is the first."""


async def test_a_forced_sub_scan_goes_next_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Force(center_nm=(2.0, 2.5), shape=(3, 5), by="Ada"))

    with open_bench(tmp_path, monkeypatch) as bench:
        await play(bench, operator)
        executed = bench.of(e.Executed)
        forced = next(i for i in bench.of(e.Intent) if i.purpose == "forced")
        assert executed[2].id == forced.id
        assert forced.author == "Ada"
        assert forced.sub_scan.center_nm == (2.0, 2.5)
        assert forced.sub_scan.shape == (3, 5)
        assert bench.state.n_measured == 4
        assert bench.state.outcomes[forced.id].summary
        check_all(bench)


@pytest.mark.parametrize(
    ("force", "rule"),
    [
        (c.Force(center_nm=(2.9, 0.0)), "field"),
        (c.Force(center_nm=(0.0, 0.0), dwell_us=5e5), "local dose"),
        (c.Force(center_nm=(0.0, 0.0), dwell_us=1e-3), "dwell"),
        (c.Force(center_nm=(0.0, 0.0), shape=(9000, 9000)), "positions"),
        (c.Force(center_nm=(0.0, 0.0), fov_nm=(1e9, 1e9)), "field"),
    ],
    ids=["outside the field", "over dose", "too fast", "too many positions", "enormous"],
)
async def test_a_forced_sub_scan_passes_the_same_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: c.Force, rule: str
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        assert rule in await bench.refused(force)
        await bench.abort()

    with open_bench(
        tmp_path, monkeypatch, sub_scan=SLOW, budget={"max_local_dose_e_per_A2": 5e6}
    ) as bench:
        await play(bench, operator)
        assert not [i for i in bench.of(e.Intent) if i.purpose == "forced"]


async def test_a_forced_sub_scan_is_not_lost_when_a_pause_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Force(center_nm=(2.0, 2.5)))
        await bench.seen(e.Intent, 1, lambda i: i.purpose == "forced")
        await bench.ok(c.Pause())
        await bench.phase(Phase.PAUSED)
        await bench.ok(c.Resume())

    with open_bench(tmp_path, monkeypatch) as bench:
        await play(bench, operator)
        forced = [o for o in bench.state.outcomes.values() if o.purpose == "forced"]
        assert [o.sub_scan.center_nm for o in forced] == [(2.0, 2.5)]
        check_all(bench)


# --- steering ---


async def test_no_sub_scan_touches_an_excluded_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = Region(((-3.0, -4.0), (-3.0, 4.0), (0.9, 4.0), (0.9, -4.0)))

    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Exclude(region=region))

    with open_bench(tmp_path, monkeypatch, budget=MANY) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        later = outcome_places(bench, "complete")[1:]
        assert later, "nothing was left to judge by"
        assert all(y - 0.5 >= 0.9 - 1e-6 for y, _ in later)
        check_all(bench)


async def test_an_override_while_a_decision_is_in_the_lane_fences_its_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suggestion is journalled and dropped, and its place is left alone."""
    import threading

    deciding, go_on = threading.Event(), threading.Event()

    async def operator(bench: Bench) -> None:
        planner = bench.session.parts.decider.planner
        suggest, turns = planner.suggest, iter(range(100))

        def slow(q: int, deadline_s: float) -> Any:
            if next(turns) == 1:
                deciding.set()
                assert go_on.wait(20)
            return suggest(q, deadline_s)

        monkeypatch.setattr(planner, "suggest", slow)
        await asyncio.to_thread(deciding.wait, 20)
        force = asyncio.ensure_future(bench.do(c.Exclude(region=Region.box((-2.5, 0), (1, 8)))))
        await bench.seen(e.CommandAccepted)
        go_on.set()
        await force

    with open_bench(tmp_path, monkeypatch) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        dropped = bench.of(e.SuggestionDropped)[0]
        assert "override" in dropped.why
        suggested = next(v for v in bench.of(e.Suggested) if v.id == dropped.id)
        assert suggested.epoch < bench.state.epoch
        assert dropped.id not in bench.scanned()
        assert dropped.id not in {i.id for i in bench.of(e.Intent)}
        check_all(bench)


async def test_prioritised_regions_and_objectives_are_taken_up_and_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        decider = bench.session.parts.decider
        epoch = bench.state.epoch
        await bench.ok(c.Prioritise(region=Region.box((0.0, 0.0), (2.0, 2.0)), weight=5.0))
        assert decider._mask.log_weight.max() > 0
        await bench.ok(c.Undo())
        assert decider._mask.log_weight.max() == 0
        await bench.ok(c.SetObjective(name="channel", params={"statistic": "max"}))
        assert bench.state.epoch > epoch
        assert [v.cmd for v in bench.state.overrides] == ["set_objective"]

    with open_bench(tmp_path, monkeypatch, sub_scan={**SLOW, "dwell_us": 2000.0}) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        later = [o for o in bench.state.outcomes.values() if o.summary][1:]
        assert all(o.objective == o.summary[2] for o in later), "scored by the maximum"


async def test_an_objective_the_planner_does_not_know_is_refused_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        why = await bench.refused(c.SetObjective(name="no such objective"))
        assert "no such objective" in why
        assert bench.state.overrides == []
        wrong = c.SetAcquisition(name="no such function")
        assert "no such function" in await bench.refused(wrong)
        assert not (await bench.do(wrong)).ok, "the second answer is the first one's"
        assert bench.state.overrides == []

    planner = {"kind": "botorch", "options": {"n_initial": 10}}
    with open_bench(
        tmp_path, monkeypatch, planner=planner, sub_scan={**SLOW, "dwell_us": 8000.0}
    ) as bench:
        assert (await play(bench, operator)).reason is FinishReason.COMPLETED


async def test_a_budget_moves_up_to_the_ceiling_and_not_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        why = await bench.refused(c.SetBudget(max_total_dose_e_per_A2=2e9))
        assert "ceiling" in why
        await bench.ok(c.SetBudget(n_sub_scans=6, max_total_dose_e_per_A2=1e9))
        assert bench.session.parts.governor.budget().max_total_dose_e_per_A2 == 1e9

    with open_bench(tmp_path, monkeypatch) as bench:
        await play(bench, operator)
        assert bench.state.n_measured == 6


async def test_a_budget_raised_while_the_end_was_being_decided_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided ahead of an override is not the end of the run."""

    async def operator(bench: Bench) -> None:
        await bench.seen(e.LimitTripped)
        await bench.ok(c.SetBudget(max_total_dose_e_per_A2=1e8))

    budget = {"max_total_dose_e_per_A2": 1.0e4}
    slow = {**SLOW, "dwell_us": 10_000.0}
    with open_bench(tmp_path, monkeypatch, sub_scan=slow, budget=budget) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        assert bench.state.n_measured == 4
        check_never_twice(bench)


async def test_remarks_are_kept_with_who_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Annotate(text="carbon everywhere", by="Ada"))

    with open_bench(tmp_path, monkeypatch) as bench:
        await play(bench, operator)
        kept = [v.command for v in bench.of(e.CommandAccepted)]
        assert [(k.by, k.text) for k in kept if isinstance(k, c.Annotate)] == [
            ("Ada", "carbon everywhere")
        ]
