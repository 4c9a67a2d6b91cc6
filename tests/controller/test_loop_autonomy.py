"""Who decides: nothing is exposed in ADVISE without a yes, nor in MANUAL without a wish."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller import commands as c
from controller import events as e
from controller import loop
from controller.phases import Autonomy, FinishReason, Phase
from tests.controller.loop_bench import Bench, instrument, open_bench, play
from tests.controller.loop_checks import check_all

SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": 2000.0}


def _measured(bench: Bench) -> int:
    return len(bench.scanned()) - 1


async def test_advise_waits_blanked_and_executes_what_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        for n in range(1, 4):
            suggested = await bench.seen(e.Suggested, n)
            await bench.phase(Phase.HOLDING, n)
            assert bench.room.is_blanked()
            assert _measured(bench) == n - 1
            await bench.ok(c.Accept(suggestion_id=suggested.id))
            await bench.seen(e.Executed, n + 1)

    autonomy = {"mode": "advise"}
    with open_bench(tmp_path, monkeypatch, autonomy=autonomy, budget={"n_sub_scans": 3}) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        assert bench.scanned()[1:] == [v.id for v in bench.of(e.Suggested)]
        check_all(bench)


async def test_advise_leaves_a_vetoed_place_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        vetoed = await bench.seen(e.Suggested)
        await bench.phase(Phase.HOLDING)
        await bench.ok(c.Veto(suggestion_id=vetoed.id, by="Ada", reason="a hole"))
        assert "no suggestion" in await bench.refused(c.Accept(suggestion_id=vetoed.id))
        accepted = await bench.seen(e.Suggested, 2)
        assert accepted.sub_scan.center_nm != vetoed.sub_scan.center_nm
        await bench.phase(Phase.HOLDING, 1)
        await bench.ok(c.Accept(suggestion_id=accepted.id))

    autonomy = {"mode": "advise"}
    with open_bench(tmp_path, monkeypatch, autonomy=autonomy, budget={"n_sub_scans": 1}) as bench:
        await play(bench, operator)
        dropped = bench.of(e.SuggestionDropped)[0]
        assert "Ada" in dropped.why
        assert bench.scanned()[1:] == [bench.of(e.Suggested)[1].id]


async def test_no_answer_in_time_means_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        first = await bench.seen(e.Suggested)
        dropped = await bench.seen(e.SuggestionDropped)
        assert dropped.id == first.id
        assert "no answer" in dropped.why
        assert bench.state.phase is Phase.HOLDING
        assert bench.room.is_blanked()
        assert _measured(bench) == 0
        assert "no suggestion" in await bench.refused(c.Accept(suggestion_id=first.id))
        await bench.ok(c.SetAutonomy(mode=Autonomy.AUTO))

    autonomy = {"mode": "advise", "countdown_s": 0.05}
    with open_bench(tmp_path, monkeypatch, autonomy=autonomy) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        assert bench.state.n_measured == 4
        check_all(bench)


async def test_manual_executes_only_what_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        held = await bench.phase(Phase.HOLDING)
        assert "MANUAL" in held.reason
        assert _measured(bench) == 0
        assert bench.room.is_blanked()
        for n, x in enumerate((-2.0, 0.0, 2.0), start=1):
            await bench.ok(c.Force(center_nm=(0.0, x)))
            await bench.phase(Phase.HOLDING, n + 1)
        await bench.abort()

    with open_bench(tmp_path, monkeypatch, autonomy={"mode": "manual"}) as bench:
        await play(bench, operator)
        assert bench.of(e.Suggested) == []
        assert [o.purpose for o in bench.state.outcomes.values()] == ["survey"] + ["forced"] * 3
        check_all(bench)


async def test_manual_after_a_pause_during_the_survey_exposes_nothing_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The survey is the plan's; what comes after it is the operator's."""

    async def operator(bench: Bench) -> None:
        await bench.called("scan", 1)
        await bench.ok(c.Pause())
        await bench.phase(Phase.PAUSED)
        await bench.ok(c.SetAutonomy(mode=Autonomy.MANUAL))
        await bench.ok(c.Resume())
        held = await bench.seen(e.PhaseChanged, 1, lambda v: v.new is Phase.HOLDING)
        assert "MANUAL" in held.reason
        await bench.abort()

    survey = {"shape": [16, 16], "dwell_us": 100.0, "max_dose_e_per_A2": 1e6}
    with open_bench(tmp_path, monkeypatch, survey=survey) as bench:
        await play(bench, operator)
        assert _measured(bench) == 0


@pytest.mark.parametrize("mode", [Autonomy.ADVISE, Autonomy.MANUAL])
async def test_taking_over_while_a_sub_scan_runs_stops_what_was_decided_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Autonomy
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", 2)
        await bench.seen(e.Intent, 3)
        await bench.ok(c.SetAutonomy(mode=mode))
        await bench.phase(Phase.HOLDING)
        await bench.abort()

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        await play(bench, operator)
        assert _measured(bench) == 1
        assert bench.of(e.IntentWithdrawn)
        assert not bench.state.intents
        check_all(bench)


async def test_a_silent_operator_holds_a_run_that_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.seen(e.SuspenderTripped)
        assert bench.room.is_blanked()
        await bench.do(c.Annotate(text="I am here"))
        await bench.seen(e.SuspenderCleared)
        await bench.abort()

    monkeypatch.setattr(loop, "LOOK_S", 0.02)
    config = instrument(limits={"operator_heartbeat_s": 0.3})
    with open_bench(
        tmp_path, monkeypatch, autonomy={"mode": "manual"}, instrument_config=config
    ) as bench:
        await play(bench, operator)
        assert [v.name for v in bench.of(e.SuspenderTripped)][:1] == ["operator heartbeat"]
        assert [v.name for v in bench.of(e.SuspenderCleared)][:1] == ["operator heartbeat"]
