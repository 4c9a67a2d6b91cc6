"""Events are told in plain words, with the right weight; helpers of figures are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import FakeRun, data_of, full_run, sub_scan
from hypothesis import given
from hypothesis import strategies as st

from controller import commands as c
from controller import events as e
from controller.phases import FinishReason, Phase
from controller.report import notes, style
from controller.report.gather import gather
from controller.report.maps import picture
from drivers.vocabulary import SubScan

SCAN = SubScan("s000007", (0.0, 0.0), (1.0, 1.0), (4, 5), 1.0)
PART: dict[str, Any] = {"id": "s000007", "sub_scan": SCAN, "electrons": 1.0, "beam_on_s": 1.0}


@pytest.mark.parametrize(
    ("event", "level", "told"),
    [
        (e.RunResumed(by="guest", reason="lunch is over"), "info", "by guest: lunch is over"),
        (
            e.PhaseChanged(old=Phase.RUNNING, new=Phase.PAUSED, reason="operator"),
            "warn",
            "operator",
        ),
        (
            e.PhaseChanged(old=Phase.RUNNING, new=Phase.FAULT, reason="no frames"),
            "bad",
            "no frames",
        ),
        (
            e.CommandAccepted(command=c.Force(by="me", center_nm=(1.0, 2.0), reason="odd")),
            "info",
            "me: force (center_nm (1.0, 2.0)), because: odd",
        ),
        (
            e.CommandRefused(command=c.Step(by="me"), why="not paused"),
            "warn",
            "me: step; not paused",
        ),
        (
            e.Executed(outcome="partial", positions_executed=8, **PART),
            "warn",
            "s000007 is partial: 8 of 20 positions were exposed",
        ),
        (
            e.Executed(outcome="unknown", positions_executed=20, **PART),
            "warn",
            "s000007 is unknown: its whole planned dose is charged",
        ),
        (
            e.DoseCharged(electrons=1.5e6, at_nm=(1.0, -2.0), why="parked probe"),
            "warn",
            "1.5e+06 electrons at (1.0, -2.0) nm: parked probe",
        ),
        (
            e.LimitTripped(rule="drift", value=12.0, limit=5.0, unit="nm/min", action="park"),
            "bad",
            "drift: 12 of 5 nm/min; park",
        ),
        (e.SuspenderTripped(name="vacuum", why="2e-5 Pa"), "warn", "vacuum: 2e-5 Pa"),
        (e.SuspenderCleared(name="vacuum"), "info", "vacuum"),
        (
            e.Overrun(detector="cam", sub_scan_id="s1", waiting_bytes=9, capacity_bytes=8),
            "bad",
            "cam at s1: 9 of 8 bytes waiting",
        ),
        (e.FrameRejected(sub_scan_id="s1", detector="cam", why="NaN"), "warn", "s1, cam: NaN"),
        (
            e.ReadBackMismatch(what="defocus", expected="0 nm", got="50 nm"),
            "bad",
            "defocus is 50 nm where 0 nm is expected",
        ),
        (
            e.Parked(by="guardian", why="silence", verified_blanked=True, steps=()),
            "info",
            "by guardian: silence; blanker read back closed",
        ),
        (e.Warned(what="hot pixel"), "warn", "hot pixel"),
        (
            e.EncoderPublished(describer="linear", version=2, checkpoint="c", sha256="ab" * 32),
            "info",
            "linear, version 2, sha256 abababababab",
        ),
        (e.Finished(reason=FinishReason.BUDGET, message="dose"), "info", "budget: dose"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_each_event_of_note_in_words(
    tmp_path: Path, event: e.AnyEvent, level: str, told: str
) -> None:
    with FakeRun(tmp_path) as run:
        run.log(event)
    (note,), left_out = notes.notes(gather(run.folder))
    assert (note.level, note.text, left_out) == (level, told, 0)


def test_ordinary_events_are_not_noted(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.survey()
        run.phases(Phase.RUNNING)
        run.measure(sub_scan(2, (0.0, 0.0)))
    assert notes.notes(gather(run.folder)) == ([], 0)


def test_very_long_words_are_cut(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.log(e.CommandAccepted(command=c.Annotate(by="me", text="x" * 500)))
    (note,), _ = notes.notes(gather(run.folder))
    assert len(note.text) < 160 and note.text.endswith("...)")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.9, "0:00:00"), (61, "0:01:01"), (36_000 + 3599, "10:59:59")]
)
def test_times(seconds: float, shown: str) -> None:
    assert notes.clock(seconds) == shown


def test_rows_are_numbered_by_what_counts(tmp_path: Path) -> None:
    with full_run(tmp_path, n=8) as run:
        pass
    record = gather(run.folder)
    assert [row.number for row in record.rows] == [0, *range(1, 9)]
    assert record.measured[0].id == "s000002"
    forced = [row for row in record.measured if row.outcome.purpose == "forced"]
    assert [row.card for row in forced] == [None]
    electrons = sum(row.dose_e_per_A2 * row.sub_scan.area_nm2 * 100 for row in record.rows)
    assert electrons == pytest.approx(record.state.ledger.electrons)


def test_pictures_of_cameras_are_sums_of_patterns() -> None:
    scan = sub_scan(2, (0.0, 0.0), shape=(3, 4))
    data = data_of(scan, camera=True)
    image = picture(data.frames["camera"], scan, imaging=False)
    assert image.shape == (3, 4)
    assert image[2, 1] == data.frames["camera"][9].sum(dtype=np.float64)
    same = picture(data.frames["haadf"], scan, imaging=True)
    assert np.array_equal(same, data.frames["haadf"][0])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (12.3456, "12.35"), (2264.1, "2,264"), (1.5e6, "1.5e+06"), (-4000.0, "-4,000")],
)
def test_numbers(value: float, shown: str) -> None:
    assert style.number(value) == shown


@given(st.floats(1e-6, 1e6))
def test_scale_bars_have_round_lengths_that_fit(room: float) -> None:
    length = style._round_down(room)
    assert room / 2.5 * (1 - 1e-6) <= length <= room * (1 + 1e-6)
    assert f"{length:e}"[0] in "125"


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.full((2, 2), np.nan), np.array([[1.0, np.inf]])]
)
def test_contrast_is_never_empty(image: np.ndarray) -> None:
    low, high = style.contrast(image)
    assert np.isfinite([low, high]).all() and low < high


def test_contrast_ignores_few_outliers() -> None:
    image = np.random.default_rng(0).normal(100, 1, (100, 100))
    image[0, 0] = 1e9
    low, high = style.contrast(image)
    assert 95 < low < 100 < high < 105


def test_the_extent_of_a_map_reaches_half_a_pitch_beyond() -> None:
    y, x = np.array([-1.0, 0.0, 1.0]), np.array([5.0])
    assert style.extent_of(y, x, (9.0, 2.0)) == (4.0, 6.0, 1.5, -1.5)
