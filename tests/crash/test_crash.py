"""A controller that dies or freezes at any moment leaves a blanked beam and a run that goes on."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.crash.harness import (
    LOCAL_BUDGET_E_PER_A2,
    N_SUB_SCANS,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    Bench,
    beam_off_at_s,
    bench,
    check_charged,
    check_dose,
    check_kept,
    check_no_id_twice,
    closed_ids,
    send,
    until,
)

BLANKED_WITHIN_S = 2.0
LONGEST = 190
"""Journal entries of an undisturbed run, about."""


def _moments(n: int, seed: int) -> list[int]:
    """Return numbers of journal entries after which to strike, spread over the whole run."""
    rng = random.Random(seed)
    width = (LONGEST - 5) / n
    return [round(5 + width * (i + rng.random())) for i in range(n)]


def _strike(made: Bench, entries: int, jitter_s: float, signal_number: int):  # type: ignore[no-untyped-def]
    """Start a run, wait for that many journal entries and a little longer, send the signal."""
    process = made.start_run()
    until(
        lambda: len(made.journal()) >= entries or process.poll() is not None,
        f"{entries} journal entries\n{made.words()}",
    )
    time.sleep(jitter_s)  # the moment is random on purpose: nothing is waited for
    if process.poll() is not None:
        return process, time.monotonic(), False
    return process, send(process, signal_number), True


def _judge_beam(made: Bench, harmed_at_s: float) -> None:
    """The instrument's log says the beam went off in time, and stayed off."""

    def off() -> bool:
        return beam_off_at_s(made.exposures(), harmed_at_s) < float("inf")

    until(off, "the beam is off", 10.0)
    latch = made.folder / "state" / "crash" / "latch.json"
    until(lambda: latch.exists(), f"the guardian's latch\n{made.words()}", 10.0)
    off_at_s = beam_off_at_s(made.exposures(), harmed_at_s)
    assert off_at_s - harmed_at_s < BLANKED_WITHIN_S


def _judge_resume(made: Bench, closed: set[str]) -> None:
    """The run goes on after an acknowledgement and ends as planned, with nothing done twice."""
    until(
        lambda: (made.run / "guardian.json").exists() or _parked(made),
        "the guardian's report",
        10.0,
    )
    assert made.call("resume", "runs/r", "--no-report") == 3, "resumed without being acknowledged"
    assert made.call("acknowledge", "runs/r", "--by", "test") == 0, made.words()
    assert made.call("resume", "runs/r", "--no-report") == 0, made.words()
    exposures = made.exposures()
    check_no_id_twice(exposures)
    check_dose(exposures)
    check_charged(made)
    check_kept(made, closed | closed_ids(made))
    measured = [e for e in made.journal() if e["kind"] == "executed"]
    assert len(measured) == N_SUB_SCANS + 1, "the survey and all planned sub-scans, once each"


def _parked(made: Bench) -> bool:
    return any(event["kind"] == "parked" for event in made.journal())


def _kill_once(folder: Path, entries: int, jitter_s: float) -> bool:
    with bench(folder) as made:
        process, killed_at_s, hit = _strike(made, entries, jitter_s, SIGKILL)
        process.wait(10)
        if not hit:
            return False
        closed = closed_ids(made)
        _judge_beam(made, killed_at_s)
        _judge_resume(made, closed)
    return True


@pytest.mark.parametrize("entries", [8, 90])
def test_a_killed_controller_leaves_a_blanked_beam_and_can_be_resumed(
    entries: int, tmp_path: Path
) -> None:
    assert _kill_once(tmp_path / "bench", entries, jitter_s=0.013)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fifty_kills_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(7)
    hits = 0
    for number, entries in enumerate(_moments(60, seed=11)):
        hits += _kill_once(tmp_path / str(number), entries, rng.uniform(0, 0.06))
        if hits == 50:
            break
    assert hits == 50


def test_a_frozen_controller_is_parked_and_cannot_unblank_when_it_wakes(tmp_path: Path) -> None:
    with bench(tmp_path / "bench") as made:
        process, frozen_at_s, hit = _strike(made, 60, 0.02, SIGSTOP)
        assert hit
        closed = closed_ids(made)
        _judge_beam(made, frozen_at_s)
        until(lambda: (made.run / "guardian.json").exists(), "the guardian's report", 10.0)
        before = len([e for e in made.exposures() if e.event == "unblank"])
        send(process, SIGCONT)
        assert process.wait(30) == 3, made.words()
        after = made.exposures()
        assert len([e for e in after if e.event == "unblank"]) == before
        assert after[-1].blanked
        _judge_resume(made, closed)


def test_a_budget_that_one_more_exposure_would_break_is_what_the_checks_would_see() -> None:
    """The judge itself can fail: two exposures of one place are over the local budget."""
    from drivers.emulator.exposure_log import Exposure

    end = Exposure(
        t_s=1.0,
        utc="",
        event="scan_end",
        blanked=False,
        sub_scan_id="a",
        center_nm=(0.0, 0.0),
        fov_nm=(1.0, 1.0),
        shape=(16, 16),
        executed=256,
        electrons=LOCAL_BUDGET_E_PER_A2 * 60,
    )
    check_dose([end])
    with pytest.raises(AssertionError):
        check_dose([end, end])
