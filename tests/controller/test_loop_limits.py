"""Budgets and ceilings end a run before they are passed, never after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller import commands as c
from controller import events as e
from controller.phases import FinishReason, Phase
from drivers.vocabulary import E_PER_S_PER_PA
from tests.controller.loop_bench import FIELD_NM, Bench, instrument, open_bench, play
from tests.controller.loop_checks import check_all

SLOW = {"fov_nm": [1.0, 1.0], "shape": [4, 6], "dwell_us": 3000.0}
FIELD_A2 = FIELD_NM[0] * FIELD_NM[1] * 100.0
PER_SUB_SCAN = (24 * 3000e-6 + 50e-6 + 3 * 20e-6) * 11.0 * E_PER_S_PER_PA
"""Electrons of one `SLOW` sub-scan, by hand: dwell, settling, flyback at 1.1 x 10 pA."""
NO_SURVEY = {"enabled": False}


def _planned_total(n: float) -> float:
    """Return the total dose in e/Å² of n sub-scans."""
    return n * PER_SUB_SCAN / FIELD_A2


def _scanned_electrons(bench: Bench) -> float:
    return sum(v.electrons for v in bench.of(e.Executed))


async def test_the_total_budget_is_not_passed_though_the_next_is_prepared_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.5 sub-scans' worth: the fourth is refused while the third is still in flight."""
    limit = _planned_total(3.5)
    tables: dict[str, Any] = {
        "survey": NO_SURVEY,
        "sub_scan": SLOW,
        "budget": {"n_sub_scans": 20, "max_total_dose_e_per_A2": limit},
    }
    with open_bench(tmp_path, monkeypatch, **tables) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.BUDGET
        assert "total dose" in end.message
        assert bench.state.n_measured == 3
        assert _scanned_electrons(bench) / FIELD_A2 <= limit
        trips = bench.of(e.LimitTripped)
        assert [v.action for v in trips] == ["finish"]
        check_all(bench)


async def test_the_ceiling_ends_the_run_as_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = _planned_total(2.5)
    config = instrument(limits={"max_total_dose_e_per_A2": limit})
    with open_bench(
        tmp_path, monkeypatch, survey=NO_SURVEY, sub_scan=SLOW, instrument_config=config
    ) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.LIMIT
        assert bench.state.n_measured == 2
        assert _scanned_electrons(bench) / FIELD_A2 <= limit


async def test_no_cell_goes_over_the_local_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows overlap by half; a cell may be scanned once but not twice."""
    once = PER_SUB_SCAN / 100.0
    tables: dict[str, Any] = {
        "survey": NO_SURVEY,
        "sub_scan": SLOW,
        "candidates": {"stride_nm": [2.5, 0.5]},
        "planner": {"kind": "random", "options": {"max_overlap": 0.5}},
        "budget": {"n_sub_scans": 12, "max_local_dose_e_per_A2": 1.5 * once},
    }
    with open_bench(tmp_path, monkeypatch, **tables) as bench:
        await play(bench)
        assert bench.state.n_measured >= 8
        assert bench.state.ledger.peak_e_per_A2 <= 1.5 * once
        check_all(bench)


async def test_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = {"n_sub_scans": 40, "max_duration_s": 0.5}
    with open_bench(tmp_path, monkeypatch, survey=NO_SURVEY, sub_scan=SLOW, budget=budget) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.BUDGET
        assert "duration" in end.message
        assert bench.state.n_measured <= 0.5 / 0.072 + 1
        last = [v for v in bench.exposures() if v.event == "scan_end"][-1]
        first = bench.exposures()[0]
        assert last.t_s - first.t_s <= 0.6


async def test_the_survey_has_a_budget_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = {"shape": [16, 16], "dwell_us": 2.0, "max_dose_e_per_A2": 1e-3}
    with open_bench(tmp_path, monkeypatch, survey=survey) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.LIMIT
        assert "survey" in end.message
        assert bench.scanned() == []
        assert bench.state.ledger.electrons == 0
        check_all(bench)


async def test_an_anchor_is_no_longer_scanned_when_its_budget_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dose_of_one = (16 * 100e-6 + 50e-6 + 3 * 20e-6) * 11.0 * E_PER_S_PER_PA / 100.0
    anchor = {
        "name": "corner",
        "center_nm": [2.4, 3.4],
        "fov_nm": [1.0, 1.0],
        "shape": [4, 4],
        "dwell_us": 100.0,
        "every_n": 1,
        "max_dose_e_per_A2": 2.5 * dose_of_one,
    }
    with open_bench(tmp_path, monkeypatch, anchor=[anchor]) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        purposes = [o.purpose for o in bench.state.outcomes.values()]
        assert purposes.count("anchor") == 2
        assert purposes.count("measure") == 4
        assert {v.rule for v in bench.of(e.LimitTripped)} == {"anchor dose"}
        check_all(bench)


async def test_the_number_of_sub_scans_counts_forced_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def operator(bench: Bench) -> None:
        await bench.called("scan", 1)
        await bench.ok(c.Force(center_nm=(2.0, 2.5)))
        await bench.ok(c.Force(center_nm=(0.0, 2.5)))

    with open_bench(tmp_path, monkeypatch, survey=NO_SURVEY, sub_scan=SLOW) as bench:
        end = await play(bench, operator)
        assert end.reason is FinishReason.COMPLETED
        assert len(bench.scanned()) == 4


async def test_drift_moves_what_is_scanned_not_where_it_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def world(bench: Bench) -> None:
        await bench.called("scan", 1)
        await bench.ok(c.Pause())
        await bench.phase(Phase.PAUSED)
        drift = e.DriftMeasured(offset_nm=(0.25, -0.5), rate_nm_per_min=0.1, confidence=1.0)
        bench.session.journal.append(drift)
        await bench.ok(c.Resume())

    tables: dict[str, Any] = {
        "survey": NO_SURVEY,
        "sub_scan": SLOW,
        "candidates": {"margin_nm": 0.75},
        "budget": {"n_sub_scans": 2},
    }
    with open_bench(tmp_path, monkeypatch, **tables) as bench:
        await play(bench, world)
        second = bench.of(e.Executed)[1]
        wish = next(v for v in bench.of(e.Intent) if v.id == second.id)
        start = next(
            v for v in bench.exposures() if v.event == "scan_start" and v.sub_scan_id == second.id
        )
        assert start.center_nm is not None
        y, x = wish.sub_scan.center_nm
        assert start.center_nm == pytest.approx((y + 0.25, x - 0.5))
        assert second.sub_scan.center_nm == pytest.approx((y, x))
        check_all(bench)


async def test_a_parked_unblanked_probe_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = instrument(beam={"between_sub_scans": "park_probe"})
    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW, instrument_config=config) as bench:
        end = await play(bench)
        assert end.reason is FinishReason.COMPLETED
        log = bench.exposures()
        on = next(v.t_s for v in log if v.event == "unblank")
        off = [v.t_s for v in log if v.event == "blank"][-1]
        delivered = (off - on) * 10.0 * E_PER_S_PER_PA
        assert bench.state.ledger.electrons >= delivered
        assert bench.state.ledger.electrons <= 1.2 * delivered
        parked = sum(v.electrons for v in bench.of(e.DoseCharged))
        assert parked > 0
        corner = bench.of(e.DoseCharged)[0].at_nm
        assert corner == (-FIELD_NM[0] / 2, -FIELD_NM[1] / 2)
        assert log[-1].blanked


async def test_without_a_blanker_all_time_is_charged_from_connecting_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = instrument(
        beam={"blanker": "none", "between_sub_scans": "park_probe", "accept_no_blanker": True}
    )
    with open_bench(tmp_path, monkeypatch, sub_scan=SLOW, instrument_config=config) as bench:
        await play(bench)
        assert bench.state.n_measured == 4
        log = bench.exposures()
        claimed = next(v.t_s for v in log if v.event == "claim")
        end = [v.t_s for v in log if v.event == "scan_end"][-1]
        delivered = (end - claimed) * 10.0 * E_PER_S_PER_PA
        assert bench.state.ledger.electrons >= delivered
        assert not bench.of(e.Parked)[-1].verified_blanked
        assert bench.of(e.Parked)[-1].beam_stays_on
        assert "the beam stays on" in bench.of(e.Warned)[-1].what
        assert not bench.session.controller.alarm
