"""The command line: exit codes, one clear message for bad input, nothing heavy for `--help`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.lease import Latch, Lease
from tests.crash.harness import EXPERIMENT, INSTRUMENT

COMMANDS = (
    "check", "run", "dry-run", "demo", "resume", "recover", "replay", "report", "export", "park",
    "acknowledge", "serve", "drivers", "doctor",
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with an experiment of a few quick sub-scans."""
    quick = EXPERIMENT.replace("n_sub_scans = 30", "n_sub_scans = 4").replace("150.0", "20.0")
    (tmp_path / "instrument.toml").write_text(INSTRUMENT)
    (tmp_path / "experiment.toml").write_text(quick)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def call(*arguments: str) -> tuple[int, str]:
    """Return the exit code and all that was printed, line breaks folded."""
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def dry_run(*more: str) -> tuple[int, str]:
    return call("dry-run", "experiment.toml", "--name", "r", "--no-report", *more)


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from controller.cli import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(result.output)\n"
        "heavy = {'torch', 'botorch', 'sklearn', 'matplotlib', 'h5py', 'scipy', 'zmq'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found\n"
    )
    command = [sys.executable, "-P", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f" {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    code, said = call(name, "--help")
    assert code == 0
    assert "Usage" in said


def test_all_mistakes_are_shown_at_once_with_their_lines(here: Path) -> None:
    text = (here / "experiment.toml").read_text()
    text = text.replace("dwell_us = 20.0", "dwel_us = 20.0").replace('"random"', '"randon"')
    (here / "experiment.toml").write_text(text)
    code, said = dry_run()
    assert code == 2
    lines = text.splitlines()
    line = 1 + next(i for i, each in enumerate(lines) if "randon" in each)
    assert f"experiment.toml:{line}: planner.kind" in said
    assert "random" in said.split("did you mean")[-1] or "did you mean 'random'" in said
    assert said.count("dwel_us") >= 1
    assert not (here / "runs").exists()


def test_a_missing_file_is_one_message(here: Path) -> None:
    code, said = call("check", "nowhere.toml")
    assert code == 2
    assert "nowhere.toml" in said
    assert "Traceback" not in said


def test_a_dry_run_ends_well_and_its_files_are_there(here: Path) -> None:
    code, said = dry_run()
    assert code == 0, said
    folder = here / "runs" / "r"
    assert {"manifest.json", "events.jsonl", "run.nxs"} <= {p.name for p in folder.iterdir()}


def test_dry_runs_of_one_seed_decide_and_measure_the_same(here: Path) -> None:
    def facts(name: str) -> list[object]:
        more = ("--set", "planner.kind=botorch", "--set", "budget.n_sub_scans=20")
        assert call("dry-run", "experiment.toml", "--name", name, "--no-report", *more)[0] == 0
        lines = (here / "runs" / name / "events.jsonl").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines]
        return [
            {key: event.get(key) for key in ("id", "sub_scan", "acquisition", "summary", "pending")}
            for event in events
            if event["kind"] in ("suggested", "described")
        ]

    assert facts("one") == facts("two")


def test_a_run_folder_is_never_overwritten(here: Path) -> None:
    (here / "runs" / "r").mkdir(parents=True)
    code, said = dry_run()
    assert code == 2
    assert "exists already" in said
    assert "resume" in said
    assert list((here / "runs" / "r").iterdir()) == []


def test_a_second_run_on_a_leased_instrument_is_refused_naming_the_holder(here: Path) -> None:
    lease = Lease("crash", "the-other-run")
    lease.take()
    try:
        code, said = dry_run()
    finally:
        lease.release()
    assert code == 3
    assert "the-other-run" in said


def test_a_latched_instrument_is_not_used_until_acknowledged(here: Path) -> None:
    Latch("crash").set("guardian", "a test")
    code, said = dry_run()
    assert code == 3
    assert "guardian" in said
    assert call("acknowledge", "--instrument", "instrument.toml")[0] == 0
    assert call("dry-run", "experiment.toml", "--name", "second", "--no-report")[0] == 0


def test_a_budget_that_is_not_the_end_cuts_the_plan_short(here: Path) -> None:
    tight = "budget.max_total_dose_e_per_A2=1250.0"
    code, said = dry_run("--set", tight, "--set", "budget.budget_is_the_end=false")
    assert code == 6, said
    code, said = call(
        "dry-run", "experiment.toml", "--name", "ok", "--no-report", "--set", tight
    )  # fmt: skip
    assert code == 0, said


def test_a_ceiling_of_the_instrument_is_a_limit(here: Path) -> None:
    ceiling = ("--set", "instrument.limits.max_total_dose_e_per_A2=1250.0")
    code, said = dry_run(*ceiling, "--set", "budget.max_total_dose_e_per_A2=1250.0")
    assert code == 4, said


def test_check_says_what_would_trip_and_exposes_nothing(here: Path) -> None:
    code, said = call("check", "experiment.toml", "--set", "budget.n_sub_scans=5000")
    assert code in (0, 4)
    assert "5000 sub-scans" in said
    assert not (here / "runs").exists()


def test_an_instrument_with_a_real_beam_needs_consent(here: Path) -> None:
    text = INSTRUMENT.replace("virtual = true", "virtual = false")
    (here / "instrument.toml").write_text(text)
    code, said = call("run", "experiment.toml", "--name", "r", "--no-report")
    assert code == 2
    assert "--yes" in said
    assert not (here / "runs").exists()


def test_a_run_can_be_replayed_reported_and_exported(here: Path) -> None:
    assert dry_run()[0] == 0
    code, said = call("replay", "runs/r", "--planner", "raster")
    assert code == 0
    assert "raster" in said
    assert call("report", "runs/r")[0] == 0
    assert (here / "runs" / "r" / "report.html").stat().st_size > 10_000
    assert call("export", "runs/r", "--to", "frames.emd")[0] == 0
    assert (here / "frames.emd").exists()
    code, said = call("export", "runs/r", "--to", "frames.emd")
    assert code != 0
    assert "frames.emd" in said


def test_a_folder_that_is_no_run_is_said_to_be_none(here: Path) -> None:
    for command in ("resume", "recover", "report", "replay"):
        code, said = call(command, ".")
        assert code == 2, said
        assert "not a run folder" in said


def test_parking_needs_to_know_what(here: Path) -> None:
    code, said = call("park")
    assert code == 2
    assert "--instrument" in said


def test_drivers_are_listed() -> None:
    code, said = call("drivers")
    assert code == 0
    for name in ("virtual", "replay", "gateway"):
        assert name in said
