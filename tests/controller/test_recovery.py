"""A run whose controller died at any moment is put in order, and goes on, from its journal."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import commands as c
from controller import events as e
from controller import journal as journals
from controller.errors import CannotResume
from controller.journal import Journal
from controller.phases import FinishReason, Phase
from controller.recovery import Recovery, recover
from controller.rundir import RunFolder, RunFolderError, open_folder
from controller.state import RunState, fold
from controller.store import RunStore, StoreError, iterate_stored, list_stored
from drivers.clock import RealClock
from drivers.vocabulary import Region
from tests.controller.loop_bench import Bench, open_bench, play
from tests.controller.loop_checks import check_blanked, same_state

TABLES: dict[str, Any] = {
    "budget": {"n_sub_scans": 3},
    "anchor": [
        {
            "name": "corner",
            "center_nm": [2.4, 3.4],
            "fov_nm": [1.0, 1.0],
            "shape": [4, 4],
            "dwell_us": 2.0,
            "every_n": 2,
            "max_dose_e_per_A2": 1e6,
        }
    ],
}
EXCLUDED = Region.box((2.5, -3.5), (0.5, 0.5))


@pytest.fixture
async def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that completed, with an override and a remark."""

    async def operator(bench: Bench) -> None:
        await bench.called("scan", 1)
        await bench.ok(c.Exclude(region=EXCLUDED))
        await bench.ok(c.Annotate(text="by hand"))

    with open_bench(tmp_path, monkeypatch, **TABLES) as bench:
        await play(bench, operator)
    return tmp_path / "run"


def _cut(run: Path, to: Path, lines: int, *, data: bool = True) -> RunFolder:
    """Copy a run as it would be had its controller died after so many lines of its journal."""
    shutil.copytree(run, to)
    kept = (run / "events.jsonl").read_bytes().splitlines(keepends=True)[:lines]
    (to / "events.jsonl").write_bytes(b"".join(kept))
    if data:
        (to / "run.nxs").rename(to / "run.nxs.part")
    return open_folder(to)


def _recover(folder: RunFolder) -> tuple[Recovery, RunState]:
    journal = Journal(folder.journal, RealClock())
    try:
        return recover(folder, journal), journal.state
    finally:
        journal.close()


def _kinds(folder: RunFolder) -> Counter[str]:
    return Counter(entry.event.kind for entry in journals.read(folder.journal)[0])


async def test_recovery_after_every_line_of_a_journal(finished: Path, tmp_path: Path) -> None:
    """Ids never reused, doses never less than what was begun, and a second recovery is idle."""
    entries, _ = journals.read(finished / "events.jsonl")
    whole = fold(entries)
    for lines in range(1, len(entries) + 1):
        folder = _cut(finished, tmp_path / "cuts" / f"{lines}", lines)
        before = fold(entries[:lines])
        found, state = _recover(folder)
        assert not state.intents
        assert not state.pending
        assert found.unknown == tuple(before.intents)
        for key in found.unknown:
            outcome = state.outcomes[key]
            assert outcome.outcome == "unknown"
            assert outcome.electrons == before.intents[key].planned_electrons
        charged = sum(before.intents[key].planned_electrons for key in found.unknown)
        assert state.ledger.electrons == pytest.approx(before.ledger.electrons + charged)
        assert state.n_ids == before.n_ids
        assert {key for key in state.outcomes if state.outcomes[key].stored} == {
            each.sub_scan.id for each in list_stored(folder) if each.sub_scan.id in state.outcomes
        }
        again, after = _recover(folder)
        assert again == Recovery((), (), False)
        assert after.revision == state.revision
        same_state(after, state)
        shutil.rmtree(folder.path)
    assert set(whole.outcomes) == {each.sub_scan.id for each in list_stored(open_folder(finished))}


def _cuts(run: Path) -> list[int]:
    """Return where to cut: after each kind of event, once."""
    entries, _ = journals.read(run / "events.jsonl")
    last = {
        (entry.event.kind, getattr(entry.event, "purpose", "")): entry.seq
        for entry in entries
        if entry.event.kind not in ("finished", "parked")
        and not (isinstance(entry.event, e.PhaseChanged) and entry.event.new in AFTER)
    }
    return sorted(set(last.values()))


AFTER = {Phase.PARKING, Phase.SAFE, Phase.FINISHING}


async def test_resume_after_a_death_at_any_kind_of_moment(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on to its planned end; no id and no place is taken twice."""
    for lines in _cuts(finished):
        root = tmp_path / f"resumed-{lines}"
        folder = _cut(finished, root / "run", lines, data=False)
        _keep_stored(folder, open_folder(finished))
        begun = {
            entry.event.id
            for entry in journals.read(folder.journal)[0]
            if isinstance(entry.event, (e.Intent, e.Suggested))
        }
        with open_bench(root, monkeypatch, resume=True) as bench:
            end = await play(bench)
            assert end.reason is FinishReason.COMPLETED, (lines, end.message)
            assert not begun & set(bench.scanned())
            assert bench.state.n_measured == 3
            measured = [o for o in bench.state.outcomes.values() if o.purpose == "measure"]
            places = [o.sub_scan.center_nm for o in measured]
            assert len(set(places)) == 3, f"a place twice after line {lines}"
            assert bench.state.outcomes.keys() >= set(bench.scanned())
            surveys = [o for o in bench.state.outcomes.values() if o.purpose == "survey"]
            assert len(surveys) == 1
            check_blanked(bench)


def _keep_stored(folder: RunFolder, source: RunFolder) -> None:
    """Leave in the run file only what the journal says was stored by then."""
    folder.data.unlink()
    outcomes = fold(journals.read(folder.journal)[0]).outcomes
    store = RunStore(folder, folder.config(), {})
    for stored, data in iterate_stored(source):
        key = data.sub_scan.id
        if key in outcomes and outcomes[key].stored:
            if stored.purpose == "survey":
                store.write_survey(data)
            else:
                store.write(data, stored.purpose)
    store.close()


async def test_a_resumed_run_takes_up_encoder_planner_and_overrides(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, _ = journals.read(finished / "events.jsonl")
    described = [v.seq for v in entries if isinstance(v.event, e.Described)]
    root = tmp_path / "resumed"
    folder = _cut(finished, root / "run", described[0], data=False)
    _keep_stored(folder, open_folder(finished))
    with open_bench(root, monkeypatch, resume=True) as bench:
        before = bench.state
        assert bench.session.parts.digest.describer.version == 1
        planner = bench.session.parts.decider.planner
        known = [o for o in before.outcomes.values() if o.summary]
        assert len(known) == 1
        assert [planner.score(o.id) for o in known] == [o.objective for o in known]
        excluded = [v.region for v in before.overrides if isinstance(v, c.Exclude)]
        assert excluded == [EXCLUDED]
        await play(bench)
        assert [v.version for v in bench.of(e.EncoderPublished)] == []
        assert bench.of(e.Suggested)[0].n_observed >= 1
        mask = bench.session.parts.decider._mask
        assert not mask.allowed[mask.touches(EXCLUDED)].any()


async def test_frames_flushed_without_an_entry_are_taken_up(finished: Path, tmp_path: Path) -> None:
    entries, _ = journals.read(finished / "events.jsonl")
    executed = [v for v in entries if isinstance(v.event, e.Executed)][-1]
    folder = _cut(finished, tmp_path / "cut", executed.seq)
    assert isinstance(executed.event, e.Executed)
    key = executed.event.id
    found, state = _recover(folder)
    assert key in found.unjournalled
    assert state.outcomes[key].stored
    taken = [v.event for v in journals.read(folder.journal)[0] if isinstance(v.event, e.Stored)]
    original = [v.event for v in entries if isinstance(v.event, e.Stored) and v.event.id == key]
    late = next(v for v in taken if v.id == key)
    assert late.datasets == original[0].datasets
    assert late.indices == original[0].indices


async def test_a_run_file_that_is_missing_is_an_error(finished: Path, tmp_path: Path) -> None:
    folder = _cut(finished, tmp_path / "cut", 10**6)
    folder.data_part.unlink()
    with pytest.raises(StoreError, match="missing"):
        _recover(folder)


async def test_a_changed_manifest_is_refused(finished: Path, tmp_path: Path) -> None:
    folder = _cut(finished, tmp_path / "cut", 10)
    manifest = json.loads(folder.manifest.read_text())
    manifest["config"]["instrument"]["limits"]["max_total_dose_e_per_A2"] = 1e12
    folder.manifest.write_text(json.dumps(manifest))
    before = folder.journal.read_bytes()
    with pytest.raises(RunFolderError, match="changed since the run began"):
        _recover(folder)
    assert folder.journal.read_bytes() == before


@pytest.mark.parametrize("blanked", [True, False])
async def test_what_the_guardian_did_is_taken_in_once(
    finished: Path, tmp_path: Path, blanked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cut"
    folder = _cut(finished, root / "run", 12)
    step = e.ParkStep(name="verify", ok=blanked, took_s=0.1)
    report = e.Parked(by="guardian", why="died", verified_blanked=blanked, steps=(step,))
    folder.guardian.write_text(report.model_dump_json())
    found, state = _recover(folder)
    assert found.guardian_parked
    assert state.needs_acknowledge
    assert state.parked is blanked
    again, _ = _recover(folder)
    assert not again.guardian_parked
    assert _kinds(folder)["parked"] == 1
    with (
        pytest.raises(CannotResume, match="acknowledge"),
        open_bench(root, monkeypatch, resume=True),
    ):
        pass


async def test_a_guardian_report_that_is_damaged_is_warned_of(
    finished: Path, tmp_path: Path
) -> None:
    folder = _cut(finished, tmp_path / "cut", 12)
    folder.guardian.write_text('{"by": "gua')
    found, _ = _recover(folder)
    assert not found.guardian_parked
    warned = [v.event for v in journals.read(folder.journal)[0] if isinstance(v.event, e.Warned)]
    assert "guardian" in warned[-1].what


async def test_a_place_of_unknown_outcome_is_not_exposed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    """Killed in the first sub-scan: nothing was described yet, its area is spent all the same."""
    entries, _ = journals.read(finished / "events.jsonl")
    first = next(
        v for v in entries if isinstance(v.event, e.Intent) and v.event.purpose == "measure"
    )
    assert isinstance(first.event, e.Intent)
    root = tmp_path / "killed"
    folder = _cut(finished, root / "run", first.seq, data=False)
    _keep_stored(folder, open_folder(finished))
    with open_bench(root, monkeypatch, resume=True) as bench:
        outcome = bench.state.outcomes[first.event.id]
        assert outcome.outcome == "unknown"
        await play(bench)
        later = [o for o in bench.state.outcomes.values() if o.purpose == "measure"]
        assert sum(o.sub_scan.center_nm == first.event.sub_scan.center_nm for o in later) == 1
        drawn = np.array([o.sub_scan.center_nm for o in later])
        assert len(np.unique(drawn, axis=0)) == len(drawn)
