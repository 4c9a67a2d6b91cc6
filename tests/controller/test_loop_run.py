"""A whole run on an instrument in this process: what happens, in which order, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import events as e
from controller import journal as journals
from controller.phases import FinishReason, Phase
from controller.store import iterate_stored, list_stored, read_sub_scan
from drivers.emulator.exposure_log import Exposure
from tests.controller.loop_bench import CAMERA_SHAPE, Bench, instrument, open_bench, play
from tests.controller.loop_checks import check_all, check_blanked

ANCHOR = {
    "name": "corner",
    "center_nm": [-2.4, -3.4],
    "fov_nm": [1.0, 1.0],
    "shape": [4, 4],
    "dwell_us": 2.0,
    "every_n": 2,
    "max_dose_e_per_A2": 1e6,
}


async def test_a_run_goes_through_its_phases_in_order_and_ends_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bench(tmp_path, monkeypatch) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        assert bench.phases() == [
            "connecting", "ready", "surveying", "running", "finishing", "parking", "safe",
        ]  # fmt: skip
        assert bench.state.finish_reason is FinishReason.COMPLETED
        assert bench.state.parked
        assert not bench.state.needs_acknowledge
        assert bench.state.n_measured == 4
        assert bench.scanned() == [i.id for i in bench.of(e.Intent)]
        assert bench.session.controller.alarm == ""
        check_all(bench)
    assert (tmp_path / "run" / "run.nxs").exists()
    assert not (tmp_path / "run" / "run.nxs.part").exists()


async def test_every_executed_sub_scan_is_in_the_run_file_as_it_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bench(tmp_path, monkeypatch, anchor=[ANCHOR]) as bench:
        await play(bench)
        scene, folder = bench.driver.scene, bench.folder
        executed = bench.of(e.Executed)
        purposes = [bench.state.outcomes[v.id].purpose for v in executed]
        assert purposes == [
            "survey",
            "anchor",
            "measure",
            "measure",
            "anchor",
            "measure",
            "measure",
        ]
        check_all(bench)
    stored = {each.sub_scan.id: each for each in list_stored(folder)}
    assert set(stored) == {v.id for v in executed}
    for _, data in iterate_stored(folder):
        seen = scene.image(data.sub_scan, "haadf", current_pA=10.0, time_s=0.0)
        np.testing.assert_array_equal(data.frames["haadf"][0], seen)


async def test_intents_are_on_disk_before_the_beam_is_let_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from the file itself, at the moment the instrument is told to unblank."""
    on_disk: list[set[str]] = []
    with open_bench(tmp_path, monkeypatch) as bench:

        def look() -> None:
            entries, _ = journals.read(bench.folder.journal)
            on_disk.append({v.event.id for v in entries if isinstance(v.event, e.Intent)})

        for n in range(1, 6):
            bench.script.at("unblank", n, look)
        await play(bench)
        scanned = bench.scanned()
    assert len(on_disk) == len(scanned) == 5
    for known, key in zip(on_disk, scanned, strict=True):
        assert key in known


async def test_the_next_sub_scan_is_decided_while_the_present_one_is_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": 10_000.0}
    with open_bench(tmp_path, monkeypatch, sub_scan=slow) as bench:
        await play(bench)
        measured = [i.id for i in bench.of(e.Intent) if i.purpose == "measure"]
        log = bench.exposures()
        for before, k, after in zip([None, *measured], measured, measured[1:], strict=False):
            ended = next(x.utc for x in log if x.event == "scan_end" and x.sub_scan_id == k)
            wished = next(v for v in bench.entries if _is(v, e.Intent, k))
            decided = next(v for v in bench.entries if _is(v, e.Suggested, after))
            intended = next(v for v in bench.entries if _is(v, e.Intent, after))
            assert wished.seq < decided.seq < intended.seq
            assert intended.utc < ended
            assert isinstance(decided.event, e.Suggested)
            assert k in decided.event.pending
            known = measured.index(k)
            assert decided.event.n_observed == known, f"{after} was decided with {before} unknown"
        check_all(bench)


def _is(entry: e.Entry, kind: type[e.Event], key: str) -> bool:
    return isinstance(entry.event, kind) and getattr(entry.event, "id", None) == key


async def test_a_run_without_a_survey_or_with_a_learning_planner_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: dict[str, Any] = {
        "survey": {"enabled": False},
        "planner": {"kind": "botorch", "options": {"n_initial": 2}},
        "budget": {"n_sub_scans": 5},
    }
    with open_bench(tmp_path, monkeypatch, **tables) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        assert "surveying" not in bench.phases()
        described = bench.of(e.Described)
        assert len(described) == 5
        assert all(v.objective is not None for v in described)
        check_all(bench)


async def test_a_run_ends_when_every_allowed_place_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = {"stride_nm": [3.0, 4.0]}
    with open_bench(
        tmp_path, monkeypatch, candidates=candidates, budget={"n_sub_scans": 50}
    ) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        assert "every place" in end.message
        centres = [o.sub_scan.center_nm for o in bench.state.outcomes.values()][1:]
        assert len(centres) == len(set(centres)) == 4


async def test_image_and_camera_go_through_the_loop_into_the_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = {"name": "camera", "kind": "pixelated", "frame_shape": CAMERA_SHAPE, "dtype": "uint16"}
    config = instrument(detector=[{"name": "haadf", "saturation": 1e4}, camera])
    with open_bench(tmp_path, monkeypatch, instrument_config=config) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        folder = bench.folder
        measured = [i for i in bench.of(e.Intent) if i.purpose == "measure"]
        assert {i.detectors for i in measured} == {("haadf", "camera")}
        check_all(bench)
    data = read_sub_scan(folder, measured[0].id)
    assert data.frames["haadf"].shape == (1, 4, 6)
    assert data.frames["camera"].shape == (24, *CAMERA_SHAPE)
    np.testing.assert_array_equal(data.frames["camera"][7, 0], 70 + np.arange(CAMERA_SHAPE[1]))


async def test_parking_follows_from_every_phase_a_run_can_be_cancelled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener of the journal sees PARKING before SAFE, and a report between them."""
    with open_bench(tmp_path, monkeypatch, budget={"n_sub_scans": 1}) as bench:
        await play(bench)
        kinds = [entry.event for entry in bench.entries]
        parking = next(
            n
            for n, v in enumerate(kinds)
            if isinstance(v, e.PhaseChanged) and v.new is Phase.PARKING
        )
        after = [v.kind for v in kinds[parking:]]
    assert after == ["phase_changed", "parked", "phase_changed", "finished"]
    report = next(v for v in kinds if isinstance(v, e.Parked))
    assert report.verified_blanked
    assert [step.name for step in report.steps] == ["stop", "blank", "park probe", "verify"]


def test_the_bench_itself_notices_a_beam_left_on(tmp_path: Path) -> None:
    """`check_blanked` can fail."""

    class Left(Bench):
        def __init__(self) -> None:
            pass

        def exposures(self) -> list[Exposure]:
            return [Exposure(t_s=0.0, utc="", event="unblank", blanked=False)]

    with pytest.raises(AssertionError, match="left on"):
        check_blanked(Left())
