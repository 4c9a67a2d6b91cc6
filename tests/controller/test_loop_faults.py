"""Whatever fails, the run ends parked with the beam off, or with an alarm nobody can miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller import commands as c
from controller import events as e
from controller import loop
from controller.errors import CannotResume
from controller.phases import FinishReason
from drivers.errors import DriverError
from sim.faults import Fault
from tests.controller.loop_bench import SLOW_DWELL_US, Bench, instrument, open_bench, play
from tests.controller.loop_checks import (
    check_blanked,
    check_fault,
    check_folded,
)

QUICK_LIMITS: dict[str, Any] = {"call_deadline_s": 0.2, "park_step_s": 0.2}
SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": SLOW_DWELL_US}
BEFORE_EXPOSING = {"connect": 1, "current": 1, "column": 1, "read_back": 1, "park_probe": 1}
WHILE_EXPOSING = {"arm": 2, "unblank": 2, "is_blanked": 4, "scan": 2, "blank": 3}


def _quick() -> Any:
    return instrument(limits=QUICK_LIMITS)


@pytest.mark.parametrize(("where", "nth"), WHILE_EXPOSING.items())
@pytest.mark.parametrize("kind", ["raise", "hang", "disconnect"])
async def test_a_driver_that_fails_during_an_exposure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, where: str, nth: int
) -> None:
    fault = Fault(kind, where, nth=nth, seconds=0.0)
    with open_bench(tmp_path, monkeypatch, faults=(fault,), instrument_config=_quick()) as bench:
        end = await play(bench)
        check_fault(bench, end.reason)
        assert where in end.message or "beam was on for more than" in end.message
        assert isinstance(bench.session.controller.fault, DriverError)
        check_folded(bench)


@pytest.mark.parametrize("kind", ["raise", "hang"])
async def test_a_detector_that_fails_to_disarm_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """Arming anew is what counts."""
    fault = Fault(kind, "disarm", nth=2, seconds=0.0)
    with open_bench(tmp_path, monkeypatch, faults=(fault,), instrument_config=_quick()) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED


@pytest.mark.parametrize(("where", "nth"), BEFORE_EXPOSING.items())
async def test_a_driver_that_fails_before_anything_is_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, nth: int
) -> None:
    fault = Fault("raise", where, nth=nth)
    with open_bench(tmp_path, monkeypatch, faults=(fault,), instrument_config=_quick()) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert bench.scanned() == []
        assert bench.exposures()[-1].blanked
        assert bench.state.ledger.electrons == 0


@pytest.mark.parametrize(("where", "nth"), {"read_back": 3, "column": 3, "current": 2}.items())
async def test_a_driver_that_fails_beside_the_exposures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, nth: int
) -> None:
    monkeypatch.setattr(loop, "LOOK_S", 0.01)
    monkeypatch.setattr(loop, "READ_CURRENT_S", 0.01)
    fault = Fault("raise", where, nth=nth)
    with open_bench(
        tmp_path, monkeypatch, faults=(fault,), instrument_config=_quick(),
        budget={"n_sub_scans": 40},
    ) as bench:  # fmt: skip
        end = await play(bench)
        check_fault(bench, end.reason)


async def test_a_cancel_that_is_ignored_ends_with_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", 2)
        await bench.ok(c.Abort())

    fault = Fault("ignore_cancel", "cancel", nth=1)
    slow = {**SLOW, "dwell_us": 2000.0}
    with open_bench(tmp_path, monkeypatch, faults=(fault,), sub_scan=slow) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.ABORTED
        assert bench.of(e.Executed)[-1].outcome == "complete"
        check_blanked(bench)


# --- the blanker ---


async def test_a_stuck_blanker_ends_in_an_alarm_and_refuses_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("stuck_blanker", "blank", nth=3, seconds=0.0)
    with open_bench(tmp_path, monkeypatch, faults=(fault,), instrument_config=_quick()) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert bench.phases()[-1] == "fault"
        assert "BEAM MAY BE ON" in bench.session.controller.alarm
        assert end.message == bench.session.controller.alarm
        assert bench.state.blank_lied
        assert bench.state.needs_acknowledge
        assert not bench.exposures()[-1].blanked
        assert not bench.of(e.Parked)[-1].verified_blanked
    with (
        pytest.raises(CannotResume, match="acknowledge"),
        open_bench(tmp_path, monkeypatch, resume=True),
    ):
        pass


async def test_a_blanker_that_sticks_when_parking_a_completed_run_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `run` returns decides the exit code: it must not say COMPLETED."""
    lies = Fault("raise", "emergency.is_blanked", nth=1, count=2)
    with open_bench(tmp_path, monkeypatch, faults=(lies,), instrument_config=_quick()) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert bench.state.finish_reason is FinishReason.FAULT
        assert "BEAM MAY BE ON" in end.message
        assert bench.state.needs_acknowledge


async def test_a_read_back_that_lies_is_found_out_by_the_unblank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("blank_readback_lies", "is_blanked", nth=4, count=9)
    with open_bench(tmp_path, monkeypatch, faults=(fault,), instrument_config=_quick()) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.FAULT
        assert bench.state.blank_lied
        assert bench.of(e.ReadBackMismatch)
        check_blanked(bench)
    with pytest.raises(CannotResume), open_bench(tmp_path, monkeypatch, resume=True):
        pass
