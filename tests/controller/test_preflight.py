"""What a run would cost, against numbers worked out by hand."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from controller.config import RunConfig
from controller.preflight import Preflight, preflight, render
from tests.controller.config_files import load

E_PER_S = 12e-12 / 1.602176634e-19
"""Electrons per second at the upper bound of the bench's current, 12 pA."""
SURVEY_S = 256 * 256 * 1e-6 + 200e-6 + 255 * 60e-6 + 2 * 5e-6
SUB_SCAN_S = 32 * 32 * 4e-6 + 200e-6 + 31 * 60e-6 + 2 * 5e-6
FIELD_A2 = 200.0 * 200.0
ANCHOR = (
    '[[anchor]]\nname = "corner"\ncenter_nm = [-8, -8]\nfov_nm = [2, 2]\nshape = [64, 64]\n'
    "dwell_us = 1.0\nevery_n = 8\nmax_dose_e_per_A2 = {budget}\n\n[candidates]"
)


def result(folder: Path, *experiment: tuple[str, str], **changes: object) -> Preflight:
    return preflight(load(folder, experiment, **changes))  # type: ignore[arg-type]


def anchored(budget: float) -> tuple[str, str]:
    return ("[candidates]", ANCHOR.format(budget=budget))


def test_time_counts_dwell_settling_flyback_and_blanking(tmp_path: Path) -> None:
    found = result(tmp_path)
    assert math.isclose(found.seconds, SURVEY_S + 20 * SUB_SCAN_S)
    assert [(each.name, times) for each, times in found.exposures] == [
        ("survey", 1),
        ("sub-scan", 20),
    ]


def test_dose_is_reckoned_with_the_upper_bound_of_the_current(tmp_path: Path) -> None:
    found = result(tmp_path)
    assert found.upper_pA == 12.0
    assert math.isclose(found.electrons, E_PER_S * found.seconds)
    assert math.isclose(found.total_dose_e_per_A2, found.electrons / FIELD_A2)
    survey, sub_scan = (each for each, _ in found.exposures)
    assert math.isclose(survey.dose_e_per_A2, E_PER_S * SURVEY_S / FIELD_A2)
    assert math.isclose(sub_scan.dose_e_per_A2, E_PER_S * SUB_SCAN_S / 400.0)
    assert math.isclose(
        found.peak_local_dose_e_per_A2, survey.dose_e_per_A2 + sub_scan.dose_e_per_A2, rel_tol=1e-6
    )
    assert found.ok
    assert not found.trips


def test_the_worked_example_of_a_dense_scan(tmp_path: Path) -> None:
    """20 pA on 256 x 256 positions of 1 ms over 10 x 10 nm is 8.2e5 e/Å²."""
    found = result(
        tmp_path,
        ("fov_nm = [2.0, 2.0]\nshape = [32, 32]\ndwell_us = 4.0",
         "fov_nm = [10.0, 10.0]\nshape = [256, 256]\ndwell_us = 1000.0"),
        instrument=(
            ("current_upper_pA = 12.0", "current_upper_pA = 20.0"),
            ("settle_us = 200.0", "settle_us = 0.0"), ("flyback_us = 60.0", "flyback_us = 0.0"),
            ("blank_latency_us = 5.0", ""),
        ),
    )  # fmt: skip
    assert math.isclose(found.exposures[-1][0].dose_e_per_A2, 8.18e5, rel_tol=1e-3)


def test_dose_under_the_probe_is_given_for_sparse_scans(tmp_path: Path) -> None:
    dense = result(tmp_path).exposures[-1][0]
    assert not dense.sparse
    found = result(tmp_path, ("shape = [32, 32]\ndwell_us = 4.0", "shape = [4, 4]\ndwell_us = 4.0"))
    sparse = found.exposures[-1][0]
    assert sparse.sparse
    footprint_A2 = math.pi / 4 * 1.0**2
    assert math.isclose(sparse.probe_dose_e_per_A2, sparse.electrons / 16 / footprint_A2)


def test_anchors_are_scanned_before_and_after_every_n_within_their_budget(tmp_path: Path) -> None:
    found = result(tmp_path, anchored(1e5))
    assert {each.name: times for each, times in found.exposures}["anchor corner"] == 3
    each = next(each for each, _ in found.exposures if each.name == "anchor corner")
    assert math.isclose(found.seconds, SURVEY_S + 3 * each.seconds + 20 * SUB_SCAN_S)
    survey = found.exposures[0][0].dose_e_per_A2
    peak = survey + 3 * each.dose_e_per_A2
    assert math.isclose(found.peak_local_dose_e_per_A2, peak, rel_tol=1e-6)
    twice = result(tmp_path, anchored(2.1 * each.dose_e_per_A2))
    assert {e.name: times for e, times in twice.exposures}["anchor corner"] == 2
    never = result(tmp_path, anchored(0.5 * each.dose_e_per_A2))
    assert {e.name: times for e, times in never.exposures}["anchor corner"] == 0
    assert [trip.then for trip in never.trips] == ["the anchor is never scanned"]


@pytest.mark.parametrize(
    ("change", "name", "n"),
    [
        (("n_sub_scans = 20", "n_sub_scans = 7"), "n_sub_scans", 7),
        (("n_sub_scans = 20", "n_sub_scans = 500"), "candidates", 81),
        (("max_total_dose_e_per_A2 = 1.0e4", "max_total_dose_e_per_A2 = 250.0"), "total dose", 8),
        (("n_sub_scans = 20", "n_sub_scans = 20\nmax_duration_s = 0.1"), "duration", 3),
    ],
)
def test_what_limits_the_number_of_decisions(
    tmp_path: Path, change: tuple[str, str], name: str, n: int
) -> None:
    found = result(tmp_path, change)
    assert found.limited_by == name
    assert found.n_sub_scans == n
    if name == "total dose":
        dose = E_PER_S / FIELD_A2
        assert SURVEY_S + n * SUB_SCAN_S <= 250.0 / dose < SURVEY_S + (n + 1) * SUB_SCAN_S
    if name == "duration":
        assert SURVEY_S + n * SUB_SCAN_S <= 0.1 < SURVEY_S + (n + 1) * SUB_SCAN_S
    assert bool(found.trips) is (name != "n_sub_scans")
    if found.trips:
        assert found.trips[0].value > found.trips[0].limit


def test_overlapping_candidates_count_as_far_as_they_fit_beside_each_other(tmp_path: Path) -> None:
    changes = (("margin_nm = 1.0", "margin_nm = 1.0\nstride_nm = [1.0, 1.0]"),
               ("n_sub_scans = 20", "n_sub_scans = 500"))  # fmt: skip
    found = result(tmp_path, *changes)
    assert found.n_candidates == 17 * 17
    assert found.decisions["candidates"] == 81
    assert math.isclose(found.coverage, 81 * 4.0 / 400.0)


def test_candidates_that_an_anchor_has_spent_are_not_counted(tmp_path: Path) -> None:
    plain = result(tmp_path)
    assert plain.n_candidates == 81
    local = plain.peak_local_dose_e_per_A2 * 1.01
    change = ("max_local_dose_e_per_A2 = 2.0e4", f"max_local_dose_e_per_A2 = {local}")
    assert result(tmp_path, change).n_candidates == 81
    assert result(tmp_path, change, anchored(1e5)).n_candidates == 80


def test_bytes_are_those_of_all_detectors(tmp_path: Path) -> None:
    found = result(tmp_path)
    assert found.nbytes == 2 * 4 * (256 * 256 + 20 * 32 * 32)
    camera = 'name = "maadf"\nkind = "pixelated"\nframe_shape = [64, 32]\ndtype = "uint16"'
    found = result(tmp_path, instrument=(('name = "maadf"', camera),))
    frames = 20 * 32 * 32
    assert found.nbytes == 4 * (256 * 256 + frames) + frames * 64 * 32 * 2
    assert found.free_bytes > 0


def test_a_full_disk_would_hold_the_run(tmp_path: Path) -> None:
    full = (("max_duration_s = 3600.0", "max_duration_s = 3600.0\nmin_free_disk_gb = 1e9"),)
    found = result(tmp_path, instrument=full)
    assert [trip.rule for trip in found.trips] == ["min_free_disk_gb"]
    assert "holds" in str(found.trips[0])


def test_every_check_names_budget_and_ceiling(tmp_path: Path) -> None:
    found = result(tmp_path, ("max_dose_e_per_A2 = 2.0e3", "max_dose_e_per_A2 = 1.0"))
    checks = {check.what: check for check in found.checks}
    survey = checks["survey dose"]
    assert (survey.budget, survey.ceiling, survey.ok) == (1.0, 1e6, False)
    assert [trip.rule for trip in found.trips] == ["survey.max_dose_e_per_A2"]
    total = checks["dose over field"]
    assert (total.budget, total.ceiling, total.ok) == (1e4, 1e5, True)
    assert checks["beam-on time"].ceiling == 3600.0


def test_without_a_beam_current_a_run_is_refused(tmp_path: Path) -> None:
    dark = (("current_pA = 10.0\ncurrent_upper_pA = 12.0\n", ""),)
    found = result(tmp_path, instrument=dark)
    assert not found.ok
    assert found.refusals[0].startswith("the beam current is unknown")
    assert "beam.current_pA (instrument file)" in found.missing
    bound = (("current_pA = 10.0\n", ""),)
    assert not result(tmp_path, instrument=bound).ok
    measured = (("current_pA = 10.0\n", 'current_source = "measured"\n'),)
    assert result(tmp_path, instrument=measured).ok


def test_a_local_budget_that_allows_no_sub_scan_is_a_refusal(tmp_path: Path) -> None:
    found = result(tmp_path, ("max_local_dose_e_per_A2 = 2.0e4", "max_local_dose_e_per_A2 = 900"))
    assert found.n_sub_scans == 0
    (text,) = found.refusals
    assert "no candidate is allowed" in text
    assert "max_local_dose_e_per_A2 = 900" in text


def test_missing_metadata_are_listed(tmp_path: Path) -> None:
    assert result(tmp_path).missing == (
        "experiment.proposal",
        "calibration.source (instrument file)",
    )
    cured = ('operator = "Ada"', 'operator = "Ada"\nproposal = "P-1"')
    source = (("[limits]", '[calibration]\nsource = "gold grating"\n\n[limits]'),)
    assert result(tmp_path, cured, instrument=source).missing == ()


def test_an_instrument_that_is_called_virtual_but_is_not_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(tmp_path)
    found = preflight(config)
    assert (found.virtual, found.emulated, found.warnings) == (True, True, ())
    monkeypatch.setattr("drivers.virtual.VirtualDriver.emulated", False)
    found = preflight(config)
    assert not found.emulated
    assert "may drive a real beam (virtual)" in found.warnings[0]


def printed(config: RunConfig) -> str:
    file = io.StringIO()
    render(preflight(config), Console(file=file, width=160))
    return file.getvalue()


def test_what_is_printed_says_it_all(tmp_path: Path) -> None:
    text = printed(load(tmp_path, (("n_sub_scans = 20", "n_sub_scans = 500"),)))
    for word in ("trial", "bench", "survey", "81 sub-scans, limited by candidates", "12 pA",
                 "would trip", "not stated", "experiment.proposal", "e/Å²"):  # fmt: skip
        assert word in text
    assert "refused" not in text
    dark = (("current_pA = 10.0\ncurrent_upper_pA = 12.0\n", ""), ("virtual = true\n", ""))
    text = printed(load(tmp_path, instrument=dark))
    assert "NOT virtual" in text
    assert "refused the beam current is unknown" in text
