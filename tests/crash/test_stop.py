"""Stopping a run from outside: Ctrl-C once and twice, SIGTERM, and `probewise park`."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.crash.harness import (
    EXPERIMENT,
    N_SUB_SCANS,
    Bench,
    bench,
    check_kept,
    check_no_id_twice,
    closed_ids,
    send,
    until,
)


def _running(made: Bench, entries: int = 50) -> subprocess.Popen[bytes]:
    """Start a run and wait until it is in the middle of its sub-scans."""
    process = made.start_run()
    until(lambda: len(made.journal()) >= entries, f"{entries} entries\n{made.words()}")
    return process


def _phases(made: Bench) -> list[object]:
    return [event["new"] for event in made.journal() if event["kind"] == "phase_changed"]


def test_one_signal_cancels_blanks_and_finishes_writing(tmp_path: Path) -> None:
    with bench(tmp_path / "bench") as made:
        process = _running(made)
        send(process, signal.SIGINT)
        assert process.wait(20) == 130, made.words()
        assert made.exposures()[-1].blanked
        assert _phases(made)[-3:] == ["aborting", "parking", "safe"]
        executed = [event["id"] for event in made.journal() if event["kind"] == "executed"]
        whole = [
            event["id"]
            for event in made.journal()
            if event["kind"] == "executed" and event["outcome"] == "complete"
        ]
        assert closed_ids(made) == set(whole), "every complete sub-scan was written"
        assert len(executed) - len(whole) <= 1
        check_kept(made, closed_ids(made))
        assert made.call("resume", "runs/r", "--no-report") == 0, made.words()
        check_no_id_twice(made.exposures())


def test_two_signals_park_now(tmp_path: Path) -> None:
    with bench(tmp_path / "bench") as made:
        process = _running(made)
        send(process, signal.SIGTERM)
        send(process, signal.SIGTERM)
        assert process.wait(20) == 130, made.words()
        assert made.exposures()[-1].blanked
        assert _phases(made)[-1] == "safe"


def test_a_park_from_outside_stops_the_run_until_it_is_acknowledged(tmp_path: Path) -> None:
    longer = EXPERIMENT.replace(f"n_sub_scans = {N_SUB_SCANS}", "n_sub_scans = 85")
    with bench(tmp_path / "bench", experiment=longer) as made:
        process = _running(made)
        assert made.call("park", "runs/r") == 0, made.words()
        parked = len(made.exposures())
        assert made.exposures()[-1].blanked
        assert process.wait(20) == 3, made.words()
        assert not [e for e in made.exposures()[parked:] if e.event == "unblank"]
        assert made.call("resume", "runs/r", "--no-report") == 3
        assert made.call("acknowledge", "runs/r", "--reason", "looked at it") == 0
        assert made.call("resume", "runs/r", "--no-report") == 0, made.words()
        check_no_id_twice(made.exposures())


def test_an_instrument_can_be_served_first_and_is_then_found(tmp_path: Path) -> None:
    with bench(tmp_path / "bench") as made:
        served = made.start("serve", "instrument", "instrument.toml")
        endpoint = made.folder / "state" / "crash" / "crash.endpoint"
        until(endpoint.exists, f"the endpoint file\n{made.words()}")
        try:
            assert made.call("doctor", "instrument.toml") == 0, made.words()
            assert made.start_run().wait(60) == 0, made.words()
            claims = [e.note for e in made.exposures() if e.event == "claim"]
            assert claims == ["doctor", "r"]
        finally:
            send(served, signal.SIGTERM)
            assert served.wait(10) == 0, made.words()
        assert made.exposures()[-1].blanked
        assert not endpoint.exists()
