"""Signals that hold a run, blanked, and let it go on when they recover."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller import commands as c
from controller import events as e
from controller import loop
from controller.phases import FinishReason, Phase
from drivers.vocabulary import BeamCurrent
from sim.faults import Fault
from tests.controller.loop_bench import SLOW_DWELL_US, Bench, instrument, open_bench, play
from tests.controller.loop_checks import check_all

SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": 1000.0}
MANY = {"n_sub_scans": 40}


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the suspenders every 20 ms, and read the current as often."""
    monkeypatch.setattr(loop, "LOOK_S", 0.02)
    monkeypatch.setattr(loop, "READ_CURRENT_S", 0.02)


async def _held(bench: Bench, name: str) -> None:
    """Wait until the run is held by a signal, and see that nothing is exposed."""
    await bench.seen(e.SuspenderTripped, 1, lambda v: v.name == name)
    await bench.until(lambda: bench.state.phase is Phase.HOLDING)
    assert bench.room.is_blanked()
    assert bench.room.scan_state().probe != "scanning"
    assert not bench.state.intents


async def _recovers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    spoil: Callable[[Bench], None],
    mend: Callable[[Bench], None],
    **limits: float,
) -> None:
    """Spoil while a sub-scan runs, see the run hold, mend, and see it go on by itself."""

    async def world(bench: Bench) -> None:
        await bench.called("scan", 2)
        spoil(bench)
        await _held(bench, name)
        mend(bench)
        await bench.seen(e.SuspenderCleared, 1, lambda v: v.name == name)
        await bench.phase(Phase.RUNNING, 2)
        await bench.abort()

    config = instrument(limits=limits, beam={"current_max_age_s": 100.0})
    with open_bench(
        tmp_path, monkeypatch, sub_scan=SLOW, budget=MANY, instrument_config=config
    ) as bench:
        end = await play(bench, world)
        assert end.reason is FinishReason.ABORTED
        check_all(bench)


async def test_free_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=50e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)

    def set_free(bench: Bench, value: float) -> None:
        free.free = value
        bench.session.parts.governor.checks._free = (-1e9, 0.0)

    await _recovers(
        tmp_path,
        monkeypatch,
        "free disk",
        lambda b: set_free(b, 1e9),
        lambda b: set_free(b, 50e9),
        min_free_disk_gb=2.0,
    )


async def test_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drift(rate: float) -> Callable[[Bench], None]:
        event = e.DriftMeasured(offset_nm=(0.0, 0.0), rate_nm_per_min=rate, confidence=1.0)

        def append(bench: Bench) -> None:
            bench.session.journal.append(event)

        return append

    await _recovers(
        tmp_path, monkeypatch, "drift rate", drift(9.0), drift(0.5), max_drift_nm_per_min=2.0
    )


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("age of beam current", BeamCurrent(10.0, "measured", 1000.0)),
        ("beam current", BeamCurrent(20.0, "measured", 1.0)),
        ("beam current unknown", BeamCurrent(0.0, "measured", 1.0)),
    ],
)
async def test_beam_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, bad: BeamCurrent
) -> None:
    def read(current: BeamCurrent) -> Callable[[Bench], None]:
        return lambda bench: monkeypatch.setattr(bench.room, "beam_current", lambda: current)

    good = BeamCurrent(10.0, "measured", 1.0)
    await _recovers(tmp_path, monkeypatch, name, read(bad), read(good))


async def test_a_touch_at_the_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _recovers(
        tmp_path,
        monkeypatch,
        "console",
        lambda bench: bench.room.console(defocus_nm=200.0),
        lambda bench: bench.room.console(defocus_nm=0.0),
    )


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"field_nm": (3.0, 4.0)}, "field of view"),
        ({"rotation_deg": 10.0}, "rotation"),
        ({"stage_nm": (0.0, 500.0, 0.0)}, "stage"),
    ],
)
async def test_what_was_touched_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], word: str
) -> None:
    async def world(bench: Bench) -> None:
        await bench.called("scan", 2)
        bench.room.console(**changed)  # type: ignore[arg-type]
        await _held(bench, "console")
        assert word in bench.state.suspended["console"]
        await bench.abort()

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW, budget=MANY) as bench:
        await play(bench, world)
        assert len(bench.scanned()) == 2


async def test_saturation_holds_until_an_operator_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def world(bench: Bench) -> None:
        await bench.called("scan", 2)
        bench.driver.scene.offset = 5e4
        await _held(bench, "saturation")
        looks = bench.script.calls("current")
        await bench.called("current", looks + 5)
        assert "saturation" in bench.state.suspended, "it cleared by itself"
        bench.driver.scene.offset = 0.0
        await bench.ok(c.Resume())
        await bench.phase(Phase.RUNNING, 2)
        await bench.abort()

    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW, budget=MANY) as bench:
        await play(bench, world)
        assert [v.rule for v in bench.of(e.LimitTripped)][:1] == ["saturated fraction"]
        assert bench.of(e.SuspenderCleared)


async def test_a_probe_that_stood_still_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settling of the blanker's answer is the time the unblanked probe stands."""
    config = instrument(limits={"max_stationary_probe_ms": 20.0})
    slow = Fault("hang", "is_blanked", nth=4, seconds=0.05)
    with open_bench(tmp_path, monkeypatch, faults=(slow,), instrument_config=config) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        tripped = [v for v in bench.of(e.SuspenderTripped) if v.name == "stationary probe"]
        assert tripped
        assert "stationary probe" in {v.name for v in bench.of(e.SuspenderCleared)}
        assert "holding" in bench.phases()
        charged = bench.of(e.DoseCharged)
        assert max(v.electrons for v in charged) > 0.05 * 11 * 6.24e6
        check_all(bench)


async def test_no_suspender_acts_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def world(bench: Bench) -> None:
        await bench.phase(Phase.FAULT)
        event = e.DriftMeasured(offset_nm=(0.0, 0.0), rate_nm_per_min=90.0, confidence=1.0)
        bench.session.journal.append(event)

    config = instrument(limits={"max_drift_nm_per_min": 2.0})
    fault = Fault("raise", "scan", nth=2)
    slow = {**SLOW, "dwell_us": SLOW_DWELL_US}
    with open_bench(
        tmp_path, monkeypatch, faults=(fault,), sub_scan=slow, instrument_config=config
    ) as bench:
        end = await play(bench, world)
        assert end.reason is FinishReason.FAULT
        assert bench.of(e.SuspenderTripped) == []
        assert bench.phases()[-3:] == ["fault", "parking", "safe"]
