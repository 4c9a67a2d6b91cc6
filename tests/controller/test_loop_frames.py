"""Frames that can't be used, describers that fail, and encoders that are exchanged."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import commands as c
from controller import events as e
from controller.digest import MAX_FAILURES
from controller.phases import FinishReason
from controller.store import read_sub_scan
from drivers.vocabulary import AnyArray, SubScanData
from models.descriptors.protocols import Description, Health
from sim.faults import Fault
from tests.controller.loop_bench import (
    CAMERA_SHAPE,
    SLOW_DWELL_US,
    Bench,
    instrument,
    open_bench,
    play,
)
from tests.controller.loop_checks import check_all

SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": 1000.0}
SPOILED = ["dropped_frame", "duplicate_frame", "nan_frame", "wrong_shape"]


def _check_rejected(bench: Bench, key: str) -> None:
    """Journalled, charged in full, told to nobody, and its place left alone."""
    outcome = bench.state.outcomes[key]
    assert outcome.rejected
    assert not outcome.stored
    assert outcome.summary == ()
    assert outcome.electrons > 0
    places = [o.sub_scan.center_nm for o in bench.state.outcomes.values() if o.purpose == "measure"]
    assert len(places) == len(set(places)), "a spoiled place was scanned again"


@pytest.mark.parametrize("nth", [2, 4], ids=["the first", "a later one"])
@pytest.mark.parametrize("kind", SPOILED)
async def test_a_frame_that_can_not_be_used_is_rejected_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, nth: int
) -> None:
    """Call 1 of `frame` is the survey's; the first sub-scan's is the second."""
    fault = Fault(kind, "frame", nth=nth)
    with open_bench(tmp_path, monkeypatch, faults=(fault,), budget={"n_sub_scans": 5}) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        rejected = bench.of(e.FrameRejected)
        assert [v.sub_scan_id for v in rejected] == [bench.scanned()[nth - 1]]
        assert rejected[0].why
        assert bench.state.n_measured == 5
        _check_rejected(bench, rejected[0].sub_scan_id)
        check_all(bench)


async def test_the_first_sub_scans_all_spoiled_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("nan_frame", "frame", nth=2, count=3)
    with open_bench(tmp_path, monkeypatch, faults=(fault,), budget={"n_sub_scans": 6}) as bench:
        await play(bench)
        for rejected in bench.of(e.FrameRejected):
            _check_rejected(bench, rejected.sub_scan_id)
        assert len(bench.of(e.FrameRejected)) == 3
        assert len(bench.of(e.Described)) == 3
        check_all(bench)


async def test_a_late_frame_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("late_frame", "frame", nth=3, seconds=0.1)
    with open_bench(tmp_path, monkeypatch, faults=(fault,)) as bench:
        assert (await play(bench)).reason is FinishReason.COMPLETED
        assert bench.of(e.FrameRejected) == []
        check_all(bench)


async def test_a_frame_that_comes_too_late_ends_the_scan_s_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("late_frame", "frame", nth=3, seconds=1.0)
    config = instrument(limits={"call_deadline_s": 0.2})
    with open_bench(tmp_path, monkeypatch, faults=(fault,), instrument_config=config) as bench:
        end = await play(bench)
        assert end.reason in (FinishReason.COMPLETED, FinishReason.FAULT)
        late = bench.scanned()[2]
        assert not bench.state.outcomes[late].stored
        check_all(bench)


async def test_a_spoiled_survey_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("nan_frame", "frame", nth=1)
    with open_bench(tmp_path, monkeypatch, faults=(fault,)) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        purposes = [o.purpose for o in bench.state.outcomes.values()]
        assert purposes.count("survey") == 1
        check_all(bench)


# --- describers ---


class _Fails:
    """A describer that fails on chosen calls; it can be refitted."""

    name = "fails"

    def __init__(self, failing: Sequence[int] = (), refit_fails: bool = False) -> None:
        self.version, self.calls = 0, 0
        self._failing = set(failing)
        self._refit_fails = refit_fails
        self.refitting = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def prepare(self, survey: SubScanData | None, window_nm: tuple[float, float]) -> None:
        self.version = 1

    def describe(self, data: SubScanData) -> Description:
        self.calls += 1
        if self.calls in self._failing:
            raise ValueError("nothing to see")
        mean = float(np.asarray(data.frames["haadf"], np.float64).mean()) * self.version
        one = np.array([[mean]])
        center = np.array([data.sub_scan.center_nm])
        key = data.sub_scan.id
        return Description(key, one, center, one[0], ("mean",), Health(True, 0.0), self.version)

    def refit(self, outcomes: Sequence[SubScanData]) -> None:
        self.refitting.set()
        assert self.go_on.wait(20)
        self.version += 1
        if self._refit_fails:
            raise ValueError("too few outcomes")

    def checkpoint(self) -> dict[str, AnyArray]:
        return {"version": np.array(self.version)}

    def restore(self, arrays: dict[str, AnyArray]) -> None:
        self.version = int(arrays["version"].astype(int))


def _use(monkeypatch: pytest.MonkeyPatch, describer: _Fails) -> _Fails:
    from controller import session

    monkeypatch.setattr(session, "make_describer", lambda kind, options: describer)
    return describer


OBJECTIVE = {"name": "component", "params": {"name": "mean"}}


async def test_a_describer_that_fails_now_and_then_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use(monkeypatch, _Fails([1, 3, 4]))
    with open_bench(tmp_path, monkeypatch, objective=OBJECTIVE, budget={"n_sub_scans": 6}) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        warned = [v.what for v in bench.of(e.Warned)]
        assert len(warned) == 3
        assert all("nothing to see" in what for what in warned)
        assert len(bench.of(e.Described)) == 3
        measured = [o for o in bench.state.outcomes.values() if o.purpose == "measure"]
        assert all(o.stored for o in measured), "frames are kept all the same"
        assert len({o.sub_scan.center_nm for o in measured}) == 6
        check_all(bench)


async def test_a_describer_that_fails_again_and_again_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use(monkeypatch, _Fails(range(2, 100)))
    with open_bench(
        tmp_path, monkeypatch, objective=OBJECTIVE, budget={"n_sub_scans": 30}
    ) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert "nothing to see" in end.message
        assert len(bench.of(e.Warned)) == MAX_FAILURES
        assert bench.phases()[-3:] == ["fault", "parking", "safe"]
        check_all(bench)


async def test_retraining_gives_every_outcome_the_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One outcome was rejected before, and others come in while the encoder is refitted."""
    describer = _use(monkeypatch, _Fails())

    async def operator(bench: Bench) -> None:
        describer.go_on.clear()
        await bench.seen(e.Described, 3)
        retrain = asyncio.ensure_future(bench.do(c.Retrain()))
        await asyncio.to_thread(describer.refitting.wait, 20)
        await bench.seen(e.Executed, len(bench.of(e.Executed)) + 1)
        describer.go_on.set()
        assert (await retrain).ok

    fault = Fault("nan_frame", "frame", nth=3)
    with open_bench(
        tmp_path, monkeypatch, faults=(fault,), objective=OBJECTIVE, sub_scan=SLOW,
        budget={"n_sub_scans": 8},
    ) as bench:  # fmt: skip
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED, end.message
        assert [v.version for v in bench.of(e.EncoderPublished)] == [1, 2]
        relabelled = bench.of(e.Relabelled)[0]
        assert relabelled.version == 2
        described = [o for o in bench.state.outcomes.values() if o.summary]
        assert {o.encoder_version for o in described} == {2}
        for outcome in described:
            data = read_sub_scan(bench.folder, outcome.id)
            assert outcome.summary[0] == pytest.approx(2 * data.frames["haadf"].mean(), rel=1e-6)
            assert outcome.objective == pytest.approx(outcome.summary[0])
        planner = bench.session.parts.decider.planner
        assert all(planner.score(o.id) == o.objective for o in described)
        check_all(bench)


async def test_a_failed_retraining_keeps_the_encoder_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describer = _use(monkeypatch, _Fails(refit_fails=True))

    async def operator(bench: Bench) -> None:
        await bench.seen(e.Described, 2)
        assert "too few" in await bench.refused(c.Retrain())
        assert describer.version == 1

    with open_bench(
        tmp_path, monkeypatch, objective=OBJECTIVE, sub_scan=SLOW, budget={"n_sub_scans": 8}
    ) as bench:
        assert (await play(bench, operator)).reason is FinishReason.COMPLETED
        assert {o.encoder_version for o in bench.state.outcomes.values() if o.summary} == {1}
        assert [v.version for v in bench.of(e.EncoderPublished)] == [1]


async def test_a_frozen_encoder_is_not_retrained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use(monkeypatch, _Fails())

    async def operator(bench: Bench) -> None:
        await bench.called("scan", 2)
        await bench.ok(c.Freeze())
        assert "frozen" in await bench.refused(c.Retrain())
        await bench.ok(c.Freeze(frozen=False))
        await bench.abort()

    slow = {**SLOW, "dwell_us": SLOW_DWELL_US}
    with open_bench(tmp_path, monkeypatch, objective=OBJECTIVE, sub_scan=slow) as bench:
        await play(bench, operator)
        assert not bench.of(e.Relabelled)


# --- recorded data ---


async def test_a_recorded_4d_set_goes_through_the_loop_into_the_run_file(
    tmp_path: Path,
) -> None:
    from controller.config import RunConfig
    from controller.rundir import create
    from controller.session import new_session
    from tests.controller.loop_bench import experiment
    from tests.drivers import replay_files

    ny, nx = 12, 16
    index = np.arange(ny * nx, dtype=np.uint16).reshape(ny, nx, 1, 1)
    frames = index + np.arange(CAMERA_SHAPE[1], dtype=np.uint16)
    cube = np.broadcast_to(frames, (ny, nx, *CAMERA_SHAPE)).copy()
    path = replay_files.save_npy(tmp_path / "cube.npy", cube)
    config = RunConfig(
        experiment=experiment(
            survey={"enabled": False},
            sub_scan={"fov_nm": [4.0, 6.0], "shape": [4, 6]},
            descriptor={"kind": "null"},
            objective={"name": "component", "params": {"name": "constant"}},
            budget={"n_sub_scans": 2},
        ),
        instrument=replay_files.instrument(
            {"camera": {"path": path, "pixel_nm": [1.0, 1.0]}},
            [
                {
                    "name": "camera",
                    "kind": "pixelated",
                    "frame_shape": CAMERA_SHAPE,
                    "dtype": "uint16",
                }
            ],
            field_nm=(12.0, 16.0),
        ),
    )
    folder = create(config, tmp_path, name="replayed")
    with new_session(folder, config, guarded=False) as session:
        end = await asyncio.wait_for(session.controller.run(), 20)
        assert end.reason is FinishReason.COMPLETED, end.message
        state = session.journal.state
        keys = [o.id for o in state.outcomes.values() if o.stored]
    assert len(keys) == 2
    for key in keys:
        data = read_sub_scan(folder, key)
        assert data.frames["camera"].shape == (24, *CAMERA_SHAPE)
        first = data.frames["camera"][:, 0, 0].reshape(4, 6)
        np.testing.assert_array_equal(np.diff(first.astype(int), axis=1), 1)
        np.testing.assert_array_equal(np.diff(first.astype(int), axis=0), nx)
