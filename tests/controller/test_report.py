"""The report says what a run found and what it cost, in whatever state the run is."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fake_run import FOV_NM, FakeRun, Specimen, full_run, sub_scan
from PIL import Image

from controller import commands as c
from controller import events as e
from controller.phases import FinishReason, Phase
from controller.report import build_report
from controller.report.gather import gather
from controller.rundir import RunFolderError
from controller.store import StoreError
from drivers.vocabulary import Truth

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The text of a page, its sections and pictures; fails on tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        if tag == "section":
            self.sections.append(named["id"])
        if tag == "img":
            self.images.append(named)
        self.links += [named[key] for key in ("href", "src") if key in named]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        """All words of the page, single spaces between them."""
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save figures as single pixels: for tests of the words alone."""

    def save(_: object, path: Path) -> Path:
        Image.new("RGB", (1, 1)).save(path)
        return path

    monkeypatch.setattr("controller.report.style.save", save)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, FakeRun]:
    """Return the report of a finished run whose truth is known."""
    with full_run(tmp_path_factory.mktemp("whole"), n=30) as run:
        pass
    return Page(build_report(run.folder, truth=Specimen().truth())), run


def test_a_finished_run_has_every_part(whole: tuple[Page, FakeRun]) -> None:
    page, _ = whole
    assert page.sections == [
        *("survey", "found", "history", "surrogate", "gallery"),
        *("dose", "latency", "cards", "notes", "next"),
    ]


def test_the_page_needs_no_network(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "http" not in run.folder.report.read_text().replace("http-equiv", "")


def test_each_figure_is_in_the_page_and_beside_it(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    files = sorted(run.folder.path.glob("report-*.png"))
    assert sorted(image["title"] for image in page.images) == [file.name for file in files]
    assert len(files) == 7
    for image in page.images:
        raw = (run.folder.path / image["title"]).read_bytes()
        assert base64.b64decode(image["src"].partition(",")[2]) == raw
        assert image["alt"]
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert 500 < picture.width < 2000
            assert len(picture.convert("RGB").getcolors(10**6) or []) > 20, "not blank"


def test_headline_numbers(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    ledger = run.journal.state.ledger
    assert "completed done" in page.text
    assert "sub-scans 30 of 30 planned" in page.text
    share = 30 * FOV_NM[0] * FOV_NM[1] / 1600
    assert f"field exposed {share:.1%}" in page.text
    assert f"{ledger.total_e_per_A2 / 400:.0%} of the budget" in page.text
    best = max(o.objective for o in run.journal.state.outcomes.values() if o.objective is not None)
    assert f"best mean_1 {best:.3g}" in page.text


def test_found_targets_are_those_inside_executed_windows(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    targets = Specimen().truth().targets_nm
    inside = np.zeros(len(targets), dtype=bool)
    for outcome in run.journal.state.outcomes.values():
        if outcome.purpose != "survey":
            (y, x), (fy, fx) = outcome.sub_scan.center_nm, outcome.sub_scan.fov_nm
            near = np.abs(targets - (y, x)) * 2
            inside |= (near[:, 0] < fy) & (near[:, 1] < fx)
    assert f"{inside.sum()} of {len(targets)} rich spots" in page.text
    assert f"this run {100 * inside.mean():.1f} %" in page.text


def test_dose_is_stated_with_cells_electrons_and_bound(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    ledger = run.journal.state.ledger
    assert "cells of 0.625 nm ( dose_cell_nm )" in page.text
    assert f"electrons {ledger.electrons:.4g}" in page.text
    assert "upper bound 11 pA" in page.text
    assert "reckoned with the upper bound of the beam current" in page.text
    assert f"{ledger.peak_e_per_A2 / 4000:.0%} of 4,000" in page.text


def test_decisions_and_events_are_told(whole: tuple[Page, FakeRun]) -> None:
    page, _ = whole
    assert "acquisition: ucb; runner-up 1: (3.0, 4.0) nm, 0.41; from 1 outcomes" in page.text
    assert "asked for by A. Person" in page.text
    assert "measure, frames rejected" in page.text
    for told in (
        "local dose at s000032: 4100 of 4000 e/Å²; refused",
        "guest: resume, because: impatient; 'resume' can't be done while running",
        "A. Person: annotate (text nice)",
        "drift: 12 nm/min",
        "s000003, haadf: 2 frames missing",
        "by controller: end; blanker read back closed",
    ):
        assert told in page.text


def test_times_of_each_stage(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    stages = gather(run.folder).stages_ms
    p50, p99 = np.percentile(stages["store"], (50, 99))
    assert f"store {p50:.3g} {p99:.3g} {max(stages['store']):.3g} 30" in page.text
    assert "93.0 %" in page.text


def test_a_finished_run_can_be_replayed(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    assert f"probewise replay {run.folder.path}" in page.text
    assert "probewise resume" not in page.text


def test_what_people_typed_is_shown_as_text(whole: tuple[Page, FakeRun]) -> None:
    page, run = whole
    assert "sample WS2 <flake>" in page.text
    assert "<flake>" not in run.folder.report.read_text()


def empty(run: FakeRun) -> None:
    """Leave the run right after opening."""


def no_survey(run: FakeRun) -> None:
    run.phases(Phase.CONNECTING, Phase.READY, Phase.RUNNING)
    run.measure(sub_scan(1, (0.0, 0.0)))


def survey_only(run: FakeRun) -> None:
    run.survey()


def not_described(run: FakeRun) -> None:
    run.survey()
    run.phases(Phase.RUNNING)
    for number in (2, 3):
        run.measure(sub_scan(number, (0.0, 5.0 * number)), describe=False)


def cut_short(run: FakeRun) -> None:
    run.survey()
    run.phases(Phase.RUNNING)
    run.measure(sub_scan(2, (5.0, 5.0)))
    run.expose(sub_scan(3, (-5.0, 5.0)), "measure", part=0.4)


def outside_the_field(run: FakeRun) -> None:
    run.survey()
    run.phases(Phase.RUNNING)
    run.measure(sub_scan(2, (25.0, 30.0), rotation_deg=20.0, fov_nm=(6.0, 3.0)), forced=True)


def aborted(run: FakeRun) -> None:
    cut_short(run)
    run.phases(Phase.ABORTING, Phase.PARKING)
    failed = e.ParkStep(name="blank", ok=False, took_s=2.0, error="no answer after 2 s")
    run.log(e.Parked(by="controller", why="abort", verified_blanked=False, steps=(failed,)))
    run.log(e.Finished(reason=FinishReason.ABORTED, message="by A. Person"))


def not_finite(run: FakeRun) -> None:
    run.survey()
    run.phases(Phase.RUNNING)
    run.measure(sub_scan(2, (5.0, 5.0)), describe=False)
    run.log(
        e.Described(
            id="s000002",
            encoder_version=1,
            names=("a",),
            summary=(1.0,),
            objective=float("inf"),
            health_ok=True,
            health_score=0.0,
        )
    )


@pytest.mark.parametrize(
    ("story", "sections", "told"),
    [
        (empty, {"survey", "dose", "latency", "cards", "notes", "next"}, "Nothing was executed."),
        (no_survey, {"history", "gallery"}, "best entry (mean_1)"),
        (survey_only, {"survey"}, "sub-scans 0 of 60 planned"),
        (not_described, {"survey"}, "sub-scans 2"),
        (cut_short, {"history"}, "s000003 is partial: 409 of 1024 positions were exposed"),
        (outside_the_field, {"survey"}, "forced"),
        (aborted, {"history"}, "BLANKING NOT VERIFIED; blank failed: no answer after 2 s"),
        (not_finite, {"survey"}, "sub-scans 1"),
    ],
)
def test_a_run_in_any_state_has_a_report(
    tmp_path: Path, story: Callable[[FakeRun], None], sections: set[str], told: str
) -> None:
    with FakeRun(tmp_path) as run:
        story(run)
    page = Page(build_report(run.folder, truth=Specimen().truth()))
    assert sections <= set(page.sections)
    assert told in page.text
    assert ("found" in page.sections) == bool(gather(run.folder).measured)
    reason = run.journal.state.finish_reason
    assert ("not finished" if reason is None else reason.value) in page.text
    assert f"probewise resume {run.folder.path}" in page.text


@pytest.mark.usefixtures("unrendered")
def test_partial_sub_scans_count_only_where_they_were_exposed(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        run.phases(Phase.CONNECTING, Phase.READY, Phase.RUNNING)
        run.expose(sub_scan(1, (0.0, 0.0)), "measure", part=0.5)
    targets = Truth("spots", np.array([[-0.6, 0.0], [0.6, 0.0]]))  # in the upper and lower half
    page = Page(build_report(run.folder, truth=targets))
    assert "1 of 2 spots" in page.text
    assert f"field exposed {0.5 * 6.25 / 1600:.1%}" in page.text


@pytest.mark.usefixtures("unrendered")
def test_truth_without_targets_is_no_comparison(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        no_survey(run)
    page = Page(build_report(run.folder, truth=Truth("nothing", np.zeros((0, 2)))))
    assert "found" not in page.sections


def test_only_cameras_still_give_pictures(tmp_path: Path) -> None:
    with full_run(tmp_path, n=2, camera=True, shape=(8, 6)) as run:
        pass
    assert {"survey", "gallery"} <= set(Page(build_report(run.folder)).sections)


@pytest.mark.usefixtures("unrendered")
def test_a_new_report_leaves_no_old_figure(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        no_survey(run)
    build_report(run.folder, truth=Specimen().truth())
    assert (run.folder.path / "report-found.png").exists()
    page = Page(build_report(run.folder))
    assert not (run.folder.path / "report-found.png").exists()
    assert "found" not in page.sections
    assert list(run.folder.path.glob("*.part")) == [run.folder.data_part]


@pytest.mark.usefixtures("unrendered")
def test_moved_budgets_and_objectives_are_those_in_force(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        no_survey(run)
        run.log(e.CommandAccepted(command=c.SetBudget(id="b", n_sub_scans=90)))
        run.log(e.CommandAccepted(command=c.SetObjective(id="o", name="novelty")))
        run.measure(sub_scan(2, (5.0, 5.0)))
    page = Page(build_report(run.folder))
    assert "of 90 planned" in page.text
    assert "best novelty" in page.text


@pytest.mark.usefixtures("unrendered")
def test_relabelled_objectives_replace_the_first_ones(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        no_survey(run)
        summaries = {"s000001": (7.0, 0.0)}
        run.log(
            e.Relabelled(
                version=2, names=("a", "b"), summaries=summaries, objectives={"s000001": 7.25}
            )
        )
    assert "best entry (mean_1) 7.25" in Page(build_report(run.folder)).text


@pytest.mark.usefixtures("unrendered")
def test_very_many_decisions_and_events_are_cut_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.report.notes.MOST_CARDS", 3)
    monkeypatch.setattr("controller.report.notes.MOST_NOTES", 2)
    with FakeRun(tmp_path) as run:
        run.phases(Phase.CONNECTING, Phase.READY, Phase.RUNNING)
        for number in range(1, 6):
            run.measure(sub_scan(number, (0.0, -10 + 2.5 * number)))
            run.log(e.Warned(what=f"warning {number}"))
    page = Page(build_report(run.folder))
    assert "The newest 3 of 5" in page.text
    assert "3 more are in events.jsonl" in page.text
    assert "warning 2" in page.text and "warning 3" not in page.text


def test_figures_leave_no_trace_in_matplotlib(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    with FakeRun(tmp_path) as run:
        survey_only(run)
    build_report(run.folder)
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    from controller.rundir import RunFolder

    with pytest.raises(RunFolderError, match="is not a run folder"):
        build_report(RunFolder(tmp_path))


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    with FakeRun(tmp_path) as run:
        no_survey(run)
        run.finished = True
    run.folder.data.write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"run\.nxs can't be read"):
        build_report(run.folder)
