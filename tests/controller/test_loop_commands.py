"""What operator commands do to a run: pausing, stopping, steering, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controller import commands as c
from controller import events as e
from controller.phases import FinishReason, Phase
from tests.controller.loop_bench import SLOW_DWELL_US, Bench, open_bench, play
from tests.controller.loop_checks import check_all, outcome_places

SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": SLOW_DWELL_US}
MANY = {"n_sub_scans": 30}
FIRST = 2
"""Which call of `scan` is the first sub-scan's: the survey is the first."""


# --- pausing, stopping ---


async def test_pause_lets_the_present_sub_scan_end_and_resume_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Pause())
        await bench.phase(Phase.PAUSED)
        assert bench.room.is_blanked()
        assert [v.outcome for v in bench.of(e.Executed)] == ["complete", "complete"]
        assert not bench.state.intents, "an intent was left open while paused"
        await bench.ok(c.Resume())

    with open_bench(tmp_path, monkeypatch) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        assert bench.state.n_measured == 4
        assert bench.phases().count("running") == 2
        check_all(bench)


async def test_pause_now_charges_the_part_and_never_goes_back_to_that_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Pause(now=True))
        await bench.phase(Phase.PAUSED)
        assert bench.room.is_blanked()
        partial = bench.of(e.Executed)[-1]
        intent = next(i for i in bench.of(e.Intent) if i.id == partial.id)
        assert partial.outcome == "partial"
        assert partial.positions_executed < 24
        assert 0 < partial.electrons < intent.planned_electrons
        await bench.ok(c.Resume())
        await bench.phase(Phase.RUNNING, 2)
        await bench.seen(e.Executed, 3)
        await bench.abort()

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW, budget={"n_sub_scans": 3}) as bench:
        await play(bench, operator)
        places = outcome_places(bench, "partial", "complete")
        assert len(places) == len(set(places)) >= 2
        check_all(bench)


@pytest.mark.parametrize("where", ["arm", "unblank", "scan"])
@pytest.mark.parametrize("command", [c.Pause(now=True), c.Abort()], ids=["pause now", "abort"])
async def test_a_stop_just_before_the_scan_begins_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, command: c.AnyCommand
) -> None:
    """Between arming and the first position there is nothing to cancel yet."""
    answers: list[asyncio.Task[Any]] = []

    async def operator(bench: Bench) -> None:
        def act() -> None:
            answers.append(asyncio.ensure_future(bench.do(command)))

        bench.script.at(where, FIRST, act)
        await bench.called("scan", FIRST)
        assert (await answers[0]).ok
        if isinstance(command, c.Pause):
            await bench.phase(Phase.PAUSED)
            await bench.abort()

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.ABORTED
        measured = bench.of(e.Executed)[1:]
        assert all(v.outcome == "partial" for v in measured)
        check_all(bench)


@pytest.mark.parametrize("stop", [c.Abort(), c.Pause()], ids=["abort", "pause"])
async def test_a_stop_while_the_survey_s_intent_is_written_comes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: c.AnyCommand
) -> None:
    async def operator(bench: Bench) -> None:
        if isinstance(stop, c.Pause):
            await bench.phase(Phase.PAUSED)
            assert bench.scanned() == []
            await bench.ok(c.Resume())

    with open_bench(tmp_path, monkeypatch, budget={"n_sub_scans": 1}) as bench:
        governor = bench.session.parts.governor
        prepare = governor.prepare

        async def overtaken(*wish: Any) -> e.Intent:
            intent = await prepare(*wish)
            await bench.do(stop)  # the second time this is the first one's answer
            return intent

        monkeypatch.setattr(governor, "prepare", overtaken)
        await play(bench, operator)
        purposes = [o.purpose for o in bench.state.outcomes.values()]
        assert purposes == ([] if isinstance(stop, c.Abort) else ["survey", "measure"])
        assert not bench.state.intents
        check_all(bench)


async def test_step_executes_one_sub_scan_and_pauses_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Pause())
        for n in (1, 2):
            await bench.phase(Phase.PAUSED, n)
            assert bench.state.n_measured == n
            await bench.ok(c.Step())
        await bench.phase(Phase.PAUSED, 3)
        assert bench.state.n_measured == 3
        await bench.abort()

    with open_bench(tmp_path, monkeypatch, budget=MANY) as bench:
        assert (await play(bench, operator)).reason is FinishReason.ABORTED
        check_all(bench)


async def test_abort_stops_the_scan_and_ends_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Abort(by="Ada"))

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.ABORTED
        assert "Ada" in end.message
        assert bench.phases()[-3:] == ["aborting", "parking", "safe"]
        assert bench.of(e.Executed)[-1].outcome == "partial"
        assert not bench.state.needs_acknowledge
        check_all(bench)


@pytest.mark.parametrize("paused", [False, True])
async def test_park_stops_at_once_and_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: bool
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        if paused:
            await bench.ok(c.Pause(now=True))
            await bench.phase(Phase.PAUSED)
        await bench.ok(c.Park(by="Ada"))

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.ABORTED, end.message
        assert "Ada" in end.message
        assert not bench.state.needs_acknowledge
        assert all(v.verified_blanked for v in bench.of(e.Parked))
        check_all(bench)


async def test_abort_overtakes_a_full_queue_and_one_too_many_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        notes = [asyncio.ensure_future(bench.do(c.Annotate(text=str(n)))) for n in range(70)]
        abort = asyncio.ensure_future(bench.do(c.Abort()))
        answers = await asyncio.gather(*notes)
        assert (await abort).ok
        assert [a.why for a in answers if not a.ok]
        assert all("too many commands" in a.why for a in answers if not a.ok)
        taken = [v.command.cmd for v in bench.of(e.CommandAccepted)]
        assert taken[0] == "abort"

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        assert (await play(bench, operator)).reason is FinishReason.ABORTED


async def test_abort_does_not_wait_for_a_command_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An objective is taken up in the compute lane; while that is busy the abort goes ahead."""
    import threading

    busy, free = threading.Event(), threading.Event()

    def occupy() -> None:
        busy.set()
        assert free.wait(20)

    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        lane = asyncio.ensure_future(bench.session.parts.decider.in_lane(occupy))
        await asyncio.to_thread(busy.wait, 20)
        slow = asyncio.ensure_future(bench.do(c.SetAcquisition(name="ucb")))
        await bench.seen(e.CommandAccepted)
        try:
            await bench.ok(c.Abort())
            await bench.seen(e.Executed, 2)
            assert not slow.done()
        finally:
            free.set()
        await lane
        await slow

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.ABORTED
        assert bench.of(e.Executed)[-1].outcome == "partial"


async def test_commands_after_the_end_are_answered_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bench(tmp_path, monkeypatch, budget={"n_sub_scans": 1}) as bench:
        await play(bench)
        for command in (c.Pause(), c.Annotate(text="late"), c.Abort(), c.Acknowledge()):
            assert "ended" in await bench.refused(command)
            again = await bench.do(command)
            assert not again.ok


async def test_a_command_while_parking_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.phase(Phase.PARKING)
        answer = await bench.do(c.Annotate(text="still there?"))
        assert answer.why or answer.ok

    with open_bench(tmp_path, monkeypatch, budget={"n_sub_scans": 1}) as bench:
        await play(bench, operator)


# --- once, and only if the run has not moved on ---


async def test_the_same_command_twice_has_one_effect_and_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        force = c.Force(center_nm=(2.0, 2.0))
        first, second = await asyncio.gather(bench.do(force), bench.do(force))
        assert first == second
        assert first.ok
        wrong = c.SetAcquisition(id="wrong", name="no such function")
        answers = [await bench.do(wrong) for _ in range(2)]
        assert [a.ok for a in answers] == [answers[0].ok] * 2
        assert answers[0].why == answers[1].why

    with open_bench(tmp_path, monkeypatch, sub_scan={**SLOW, "dwell_us": 2000.0}) as bench:
        await play(bench, operator)
        assert len([i for i in bench.of(e.Intent) if i.purpose == "forced"]) == 1
        check_all(bench)


async def test_a_command_for_an_older_state_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        await bench.ok(c.Pause())
        await bench.phase(Phase.PAUSED)
        await bench.seen(e.StepTimed, 2)
        now = bench.state.revision
        why = await bench.refused(c.Resume(if_revision=now - 1))
        assert "moved on" in why
        await bench.ok(c.Resume(if_revision=bench.state.revision))

    with open_bench(tmp_path, monkeypatch) as bench:
        assert (await play(bench, operator)).reason is FinishReason.COMPLETED


@pytest.mark.parametrize(
    "command",
    [c.Acknowledge(), c.Resume(), c.Step(), c.Undo(), c.Retrain(), c.Accept(suggestion_id="s9")],
    ids=lambda command: command.cmd,
)
async def test_what_makes_no_sense_now_is_refused_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: c.AnyCommand
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", FIRST)
        why = await bench.refused(command)
        assert bench.of(e.CommandRefused)[-1].why == why
        await bench.abort()

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        assert (await play(bench, operator)).reason is FinishReason.ABORTED
