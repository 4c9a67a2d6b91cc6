"""What the governor lets through, what it charges, and what it never does."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import events as e
from controller.governor import Governor, Refused
from controller.phases import Phase
from drivers.errors import DriverDisconnected
from drivers.instrument import InstrumentConfig
from drivers.vocabulary import E_PER_S_PER_PA, BeamCurrent, SubScan
from sim.faults import Fault
from tests.controller.loop_bench import Bench, instrument, open_bench

SCAN = SubScan("s900001", (0.0, 0.0), (1.0, 1.0), (4, 6), 100.0)
"""2.4 ms of dwell, 50 µs of settling, 3 flybacks of 20 µs: 2.51 ms of beam."""
SECONDS = 24 * 100e-6 + 50e-6 + 3 * 20e-6
UPPER_PA = 11.0


@asynccontextmanager
async def governed(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: InstrumentConfig | None = None,
    faults: tuple[Fault, ...] = (),
    **tables: Any,
) -> AsyncIterator[tuple[Bench, Governor]]:
    """Give a connected governor in a run that may expose."""
    with open_bench(root, monkeypatch, faults=faults, instrument_config=config, **tables) as bench:
        parts = bench.session.parts
        parts.go(Phase.CONNECTING)
        await parts.governor.connect("test")
        try:
            parts.go(Phase.READY)
            parts.go(Phase.RUNNING)
            yield bench, parts.governor
        finally:
            await parts.governor.close()


async def _prepared(governor: Governor, scan: SubScan = SCAN) -> e.Intent:
    return await governor.prepare(scan, "measure", "planner", ("haadf",))


async def test_connecting_leaves_the_beam_blanked_and_the_probe_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, _):
        assert bench.room.is_blanked()
        assert bench.room.scan_state().probe == "parked"
        assert bench.of(e.CurrentRead)[0].upper_pA == UPPER_PA


async def test_the_charge_is_what_the_beam_could_have_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = instrument(beam={"blank_latency_us": 40.0})
    async with governed(tmp_path, monkeypatch, config) as (bench, governor):
        intent = await _prepared(governor)
        exposed = await governor.expose(intent)
        assert exposed.outcome == "complete"
        expected = UPPER_PA * E_PER_S_PER_PA * (SECONDS + 2 * 40e-6)
        assert bench.of(e.Executed)[0].electrons == pytest.approx(expected, rel=1e-6)
        assert intent.planned_electrons == pytest.approx(expected, rel=1e-6)
        assert intent.planned_dose_e_per_A2 == pytest.approx(expected / 100.0)
        delivered = [v.electrons for v in bench.exposures() if v.event == "blank"][-1]
        assert delivered is not None
        assert bench.state.ledger.electrons >= delivered


async def test_an_id_is_prepared_and_executed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        intent = await _prepared(governor)
        with pytest.raises(ValueError, match="used before"):
            await _prepared(governor)
        await governor.expose(intent)
        with pytest.raises(ValueError, match="used before"):
            await _prepared(governor)
        with pytest.raises(ValueError, match="no intent"):
            await governor.expose(intent)
        assert len(bench.scanned()) == 1


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.HOLDING, Phase.FINISHING, Phase.FAULT])
async def test_nothing_is_exposed_outside_the_exposing_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        intent = await _prepared(governor)
        bench.session.parts.go(phase)
        with pytest.raises(ValueError, match=phase.value):
            await governor.expose(intent)
        assert all(v.blanked for v in bench.exposures())


async def test_a_withdrawn_intent_can_not_be_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        intent = await _prepared(governor)
        governor.withdraw(intent, "changed my mind")
        with pytest.raises(ValueError, match="no intent"):
            await governor.expose(intent)
        assert bench.scanned() == []
        assert bench.state.ledger.electrons == 0


@pytest.mark.parametrize(
    ("scan", "rule", "action"),
    [
        (replace(SCAN, center_nm=(2.6, 0.0)), "field", "refused"),
        (replace(SCAN, center_nm=(0.0, -3.6)), "field", "refused"),
        (replace(SCAN, dwell_us=2e6), "dwell time", "refused"),
        (replace(SCAN, dwell_us=200e3), "local dose", "refused"),
        (replace(SCAN, rotation_deg=45.0, center_nm=(2.4, 0.0)), "field", "refused"),
    ],
)
async def test_a_limit_refuses_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: SubScan, rule: str, action: str
) -> None:
    budget = {"max_local_dose_e_per_A2": 1e6}
    async with governed(tmp_path, monkeypatch, budget=budget) as (bench, governor):
        with pytest.raises(Refused) as told:
            await _prepared(governor, scan)
        assert rule in str(told.value)
        tripped = bench.of(e.LimitTripped)
        assert (tripped[0].sub_scan_id, tripped[0].action) == (scan.id, action)
        assert not bench.of(e.Intent)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    y=st.floats(-2.5, 2.5), x=st.floats(-3.5, 3.5), angle=st.floats(0, 90),
    budget=st.floats(0.5, 4.0),
)  # fmt: skip
async def test_whatever_is_let_through_keeps_the_ledger_within_its_budgets(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    y: float,
    x: float,
    angle: float,
    budget: float,
) -> None:
    """Two sub-scans, the first in flight while the second is prepared."""
    once = UPPER_PA * E_PER_S_PER_PA * SECONDS / 100.0
    limit = budget * once
    root = tmp_path_factory.mktemp("governed")
    async with governed(root, monkeypatch, budget={"max_local_dose_e_per_A2": limit}) as (
        bench,
        governor,
    ):
        first = replace(SCAN, id="s900001", rotation_deg=angle)
        second = replace(SCAN, id="s900002", center_nm=(y, x))
        intents = []
        for scan in (first, second):
            try:
                intents.append(await _prepared(governor, scan))
            except Refused as refused:
                assert {v.rule.split(",")[0] for v in refused.verdicts} <= {"local dose", "field"}
        for intent in intents:
            await governor.expose(intent)
        assert bench.state.ledger.peak_e_per_A2 <= limit * (1 + 1e-6)


async def test_what_is_in_flight_elsewhere_counts_in_the_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_scan = UPPER_PA * E_PER_S_PER_PA * SECONDS / (6 * 8 * 100.0)
    budget = {"max_total_dose_e_per_A2": 1.5 * per_scan}
    async with governed(tmp_path, monkeypatch, budget=budget) as (bench, governor):
        await _prepared(governor)
        apart = replace(SCAN, id="s900002", center_nm=(2.0, 3.0))
        with pytest.raises(Refused) as told:
            await _prepared(governor, apart)
        assert [(v.rule, v.action) for v in told.value.verdicts] == [("total dose", "finish")]
        bench.session.parts.governor.withdraw(bench.state.intents[SCAN.id], "not now")
        await _prepared(governor, apart)


async def test_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = instrument(limits={"min_free_disk_gb": 1.0})
    async with governed(tmp_path, monkeypatch, config, budget={"max_duration_s": 1e-6}) as (
        _,
        governor,
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0.5e9))
        governor.checks._free = (-1e9, 0.0)
        found = {v.rule: v.action for v in governor.verdicts(SCAN, "measure")}
        assert found == {"free disk": "hold", "duration": "finish"}


@pytest.mark.parametrize(
    ("current", "rule"),
    [
        (BeamCurrent(0.0, "measured", 0.0), "beam current unknown"),
        (BeamCurrent(float("nan"), "measured", 0.0), "beam current unknown"),
        (BeamCurrent(12.0, "measured", 0.0), "beam current"),
        (BeamCurrent(10.0, "measured", 500.0), "age of beam current"),
    ],
)
async def test_without_a_trustworthy_current_nothing_is_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: BeamCurrent, rule: str
) -> None:
    config = instrument(beam={"current_max_age_s": 100.0})
    async with governed(tmp_path, monkeypatch, config) as (bench, governor):
        monkeypatch.setattr(bench.room, "beam_current", lambda: current)
        await governor.read_current()
        with pytest.raises(Refused, match=rule):
            await _prepared(governor)


async def test_an_intent_that_is_not_on_disk_is_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        with monkeypatch.context() as broken:

            def full(descriptor: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            broken.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                await _prepared(governor)
        assert bench.state.intents == {}
        assert bench.scanned() == []


async def test_a_preparation_that_is_cancelled_leaves_no_intent_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        preparing = asyncio.create_task(_prepared(governor))
        await bench.seen(e.Intent)
        preparing.cancel()
        await asyncio.wait({preparing})
        if preparing.cancelled():
            assert bench.state.intents == {}
        else:
            assert list(bench.state.intents) == [SCAN.id]


async def test_a_cancelled_scan_is_charged_by_the_rows_it_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = replace(SCAN, dwell_us=20_000.0)
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        intent = await _prepared(governor, slow)
        exposing = asyncio.create_task(governor.expose(intent))
        await bench.called("scan", 1)
        await governor.cancel()
        exposed = await exposing
        assert exposed.outcome == "partial"
        assert exposed.data is None
        executed = bench.of(e.Executed)[0]
        delivered = next(v.electrons for v in bench.exposures() if v.event == "scan_end")
        assert delivered is not None
        assert delivered <= executed.electrons < 0.5 * intent.planned_electrons
        assert bench.room.is_blanked()


async def test_cancelling_when_nothing_is_scanned_does_nothing_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (_, governor):
        await governor.cancel()
        exposed = await governor.expose(await _prepared(governor))
        assert exposed.outcome == "complete"
        await governor.cancel()


async def test_an_unknown_end_is_charged_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("disconnect", "scan", nth=1)
    async with governed(tmp_path, monkeypatch, faults=(fault,)) as (bench, governor):
        intent = await _prepared(governor)
        with pytest.raises(DriverDisconnected):
            await governor.expose(intent)
        executed = bench.of(e.Executed)[0]
        assert executed.outcome == "unknown"
        assert executed.electrons == intent.planned_electrons


async def test_closing_twice_is_harmless_and_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, monkeypatch) as (bench, governor):
        await governor.close()
        await governor.close()
        assert bench.exposures()[-1].blanked
