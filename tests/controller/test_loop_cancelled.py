"""A run that is cancelled, or whose disk, guardian or planner fails, ends parked all the same."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from controller import commands as c
from controller import events as e
from controller import loop
from controller.guardian import GuardianFailed
from controller.lease import Latch, Latched
from controller.phases import FinishReason, Phase
from controller.store import StoreError
from sim.faults import Fault
from tests.controller.loop_bench import SLOW_DWELL_US, Bench, instrument, open_bench, play
from tests.controller.loop_checks import check_blanked, check_charged, check_fault, check_folded

QUICK_LIMITS: dict[str, Any] = {"call_deadline_s": 0.2, "park_step_s": 0.2}
SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": SLOW_DWELL_US}
BEFORE_EXPOSING = {"connect": 1, "current": 1, "column": 1, "read_back": 1, "park_probe": 1}
WHILE_EXPOSING = {"arm": 2, "unblank": 2, "is_blanked": 4, "scan": 2, "blank": 3}


MOMENTS = ["arm", "unblank", "scan", "blank", "emergency.stop", "emergency.is_blanked"]


@pytest.mark.parametrize("where", MOMENTS)
async def test_cancelled_twice_at_an_awkward_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    parking = where.startswith("emergency")
    with open_bench(tmp_path, monkeypatch, sub_scan={**SLOW, "dwell_us": 500.0}) as bench:
        run = asyncio.create_task(bench.session.controller.run())
        await bench.called(where, 1 if parking else 3)
        run.cancel()
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 20)
        assert bench.phases()[-2:] == ["parking", "safe"]
        assert bench.of(e.Parked)[-1].verified_blanked
        assert bench.of(e.Finished)
        assert not bench.state.intents
        check_blanked(bench)
        check_charged(bench)
        check_folded(bench)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        run = asyncio.create_task(bench.session.controller.run())
        await bench.called("scan", 2)
        for _ in range(times):
            bench.session.controller.interrupt()
        await asyncio.wait({run}, timeout=20)
        if not run.cancelled():
            assert run.result().reason is FinishReason.ABORTED
        assert bench.state.finish_reason is FinishReason.ABORTED
        assert bench.phases()[-2:] == ["parking", "safe"]
        check_blanked(bench)


# --- the disk ---


async def test_a_full_disk_under_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intent can't be written: nothing more is exposed."""
    full, write = [False], os.write

    def limited(descriptor: int, data: bytes) -> int:
        if full[0] and b'"seq"' in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", limited)
    with open_bench(tmp_path, monkeypatch, budget={"n_sub_scans": 30}) as bench:
        bench.script.at("scan", 3, lambda: full.__setitem__(0, True))
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert "No space" in end.message
        assert bench.phases()[-3:] == ["fault", "parking", "safe"]
        assert len(bench.scanned()) == 3
        check_blanked(bench)
        full[0] = False


async def test_a_journal_that_fails_at_the_very_end_is_no_completed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, write = [False], os.write

    def limited(descriptor: int, data: bytes) -> int:
        if full[0] and b'"seq"' in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", limited)
    with open_bench(tmp_path, monkeypatch, budget={"n_sub_scans": 1}) as bench:
        bench.script.at("emergency.stop", 1, lambda: full.__setitem__(0, True))
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert "No space" in end.message
        check_blanked(bench)
        full[0] = False


@pytest.mark.parametrize("call", ["write", "write_survey", "write_description"])
async def test_a_full_disk_under_the_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*arguments: object) -> None:
        raise StoreError("run.nxs can't be extended: no space")

    with open_bench(tmp_path, monkeypatch, budget={"n_sub_scans": 30}) as bench:
        monkeypatch.setattr(bench.session.store, call, fail)
        end = await play(bench)
        check_fault(bench, end.reason)
        assert "no space" in end.message
        assert len(bench.scanned()) < 8


async def test_a_run_file_that_fails_while_aborting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ABORTING leads only to PARKING; the run has failed all the same."""
    aborting = threading.Event()

    def fail(*arguments: object) -> None:
        assert aborting.wait(20)
        raise StoreError("run.nxs can't be extended: no space")

    async def operator(bench: Bench) -> None:
        await bench.called("scan", 3)
        await bench.ok(c.Abort())
        await bench.phase(Phase.ABORTING)
        aborting.set()

    with open_bench(tmp_path, monkeypatch, sub_scan={**SLOW, "dwell_us": 500.0}) as bench:
        monkeypatch.setattr(bench.session.store, "write", fail)
        end = await play(bench, operator)
        assert end.reason is FinishReason.FAULT
        assert "no space" in end.message
        assert bench.phases()[-3:] == ["aborting", "parking", "safe"]
        check_blanked(bench)


# --- guardian, latch, planner ---


class _Guardian:
    """Stands in for the guardian process, which dies at its nth heartbeat."""

    def __init__(self, nth: int) -> None:
        self.beats, self.dies_at, self.said = 0, nth, ""

    def beat(self) -> None:
        self.beats += 1
        if self.beats >= self.dies_at:
            raise GuardianFailed("the guardian process is gone")

    def dismiss(self) -> None:
        self.said = "dismissed"

    def abandon(self) -> None:
        self.said = "abandoned"


async def test_a_guardian_that_is_gone_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BEAT_S", 0.01)
    guardian = _Guardian(5)
    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        bench.session.parts.guardian = guardian  # type: ignore[assignment]
        end = await play(bench)
        check_fault(bench, end.reason)
        assert "guardian" in end.message
        assert guardian.said == "dismissed"


async def test_the_guardian_is_left_to_park_when_parking_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardian = _Guardian(10**9)
    lies = Fault("raise", "emergency.is_blanked", nth=1, count=2)
    with open_bench(tmp_path, monkeypatch, faults=(lies,)) as bench:
        bench.session.parts.guardian = guardian  # type: ignore[assignment]
        await play(bench)
        assert guardian.said == "abandoned"


async def test_a_latch_that_appears_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def outside(bench: Bench) -> None:
        await bench.called("scan", 2)
        Latch("bench").set("probewise park", "a person came by")

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW) as bench:
        end = await play(bench, outside)
        check_fault(bench, end.reason)
        assert "a person came by" in end.message
    with pytest.raises(Latched), open_bench(tmp_path, monkeypatch, resume=True):
        pass


async def test_a_latch_found_just_before_the_unblank_charges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BEAT_S", 100.0)
    with open_bench(tmp_path, monkeypatch) as bench:
        bench.script.at("arm", 2, lambda: Latch("bench").set("somebody", "parked"))
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert len(bench.scanned()) == 1
        assert [v.id for v in bench.of(e.Executed)] == bench.scanned()
        assert bench.of(e.IntentWithdrawn)


@pytest.mark.parametrize("call", ["suggest", "ingest", "constrain"])
async def test_a_planner_that_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*arguments: object) -> None:
        raise LookupError("no idea")

    with open_bench(tmp_path, monkeypatch) as bench:
        monkeypatch.setattr(bench.session.parts.decider.planner, call, fail)
        end = await play(bench)
        check_fault(bench, end.reason)
        assert "no idea" in end.message


async def test_a_hung_driver_is_parked_by_the_timer_when_the_loop_can_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blanking never answers; the safety timer parks from its own thread."""
    config = instrument(limits={"call_deadline_s": 0.2, "park_step_s": 0.5})
    with open_bench(tmp_path, monkeypatch, instrument_config=config) as bench:
        exposer = bench.session.parts.governor._exposer

        async def never(record: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(exposer, "_end_beam", never)
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert "beam was on for more than" in end.message
        assert bench.of(e.Parked)[0].verified_blanked
        check_blanked(bench)
