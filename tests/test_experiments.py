"""The experiments that come with probewise: each can be run, and a short one is."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.config import RunConfig
from controller.journal import read
from controller.loading import load_experiment
from controller.phases import FinishReason, Phase
from controller.planned import dose_before, make_plan
from controller.preflight import preflight
from controller.state import fold
from tests.conftest import DATA, REPOSITORY

EXPERIMENTS = sorted((REPOSITORY / "configs" / "experiments").glob("*.toml"))
NAMES = [path.stem for path in EXPERIMENTS]
DISJOINT = [path for path in EXPERIMENTS if "max_overlap" not in path.read_text()]


@pytest.fixture
def loaded(
    real_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], RunConfig]:
    """Return a function that loads an experiment, or skips naming the data it lacks."""

    def load(path: Path) -> RunConfig:
        instrument = tomllib.loads(path.read_text())["experiment"]["instrument"]
        text = (path.parent / instrument).read_text()
        for line in text.splitlines():
            if "${PROBEWISE_DATA}/" in line:
                real_data(line.split("${PROBEWISE_DATA}/")[1].split('"')[0])
        monkeypatch.setenv("PROBEWISE_DATA", str(DATA))
        return load_experiment(path)

    return load


@pytest.mark.parametrize("path", EXPERIMENTS, ids=NAMES)
def test_nothing_stands_in_the_way_of_a_run(
    path: Path, loaded: Callable[[Path], RunConfig]
) -> None:
    config = loaded(path)
    found = preflight(config)
    assert not found.refusals
    assert not found.trips
    assert not found.warnings
    assert not found.missing
    assert found.virtual and found.emulated
    assert found.n_sub_scans == config.experiment.budget.n_sub_scans
    assert config.experiment.experiment.name == path.stem


@pytest.mark.parametrize("path", DISJOINT, ids=[path.stem for path in DISJOINT])
def test_the_local_budget_allows_one_sub_scan_in_a_place_and_no_second(
    path: Path, loaded: Callable[[Path], RunConfig]
) -> None:
    config = loaded(path)
    plan = make_plan(config)
    survey = plan.survey.dose_e_per_A2 if plan.survey else 0.0
    one, budget = plan.sub_scan.dose_e_per_A2, config.experiment.budget.max_local_dose_e_per_A2
    assert 1.1 * (survey + one) < budget < survey + 2 * one


@pytest.mark.parametrize("path", EXPERIMENTS, ids=NAMES)
def test_budgets_are_near_what_is_planned(path: Path, loaded: Callable[[Path], RunConfig]) -> None:
    config = loaded(path)
    found, budget = preflight(config), config.experiment.budget
    assert found.total_dose_e_per_A2 < budget.max_total_dose_e_per_A2
    assert budget.max_total_dose_e_per_A2 < 2 * found.total_dose_e_per_A2
    before = dose_before(make_plan(config), config).peak_e_per_A2
    assert before < budget.max_local_dose_e_per_A2


def test_a_dry_run_leaves_a_report_and_a_journal_of_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controller.cli import app

    monkeypatch.chdir(tmp_path)
    source = REPOSITORY / "configs" / "experiments" / "demo.toml"
    sets = ["budget.n_sub_scans=10", "survey.dwell_us=2.0", "planner.options.n_initial=6"]
    arguments = ["dry-run", str(source), "--name", "short"]
    for each in sets:
        arguments += ["--set", each]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output

    run = tmp_path / "runs" / "short"
    report = (run / "report.html").read_text()
    assert "Si dopants" in report
    entries, intact = read(run / "events.jsonl")
    state = fold(entries)
    assert intact == (run / "events.jsonl").stat().st_size
    assert state.phase is Phase.SAFE and state.finish_reason is FinishReason.COMPLETED
    measured = [o for o in state.outcomes.values() if o.purpose == "measure"]
    assert len(measured) == state.n_measured == 10
    assert all(o.outcome == "complete" and o.stored and o.objective for o in measured)
    assert not state.intents and state.ledger.total_e_per_A2 > 0
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["config"]["experiment"]["budget"]["n_sub_scans"] == 10
