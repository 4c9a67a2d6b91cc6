"""What a run leaves for a person to look at: one page with its figures beside it."""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from controller.phases import FinishReason
from controller.report import curves, maps, notes, style
from controller.report.baselines import Comparison, compare
from controller.report.gather import RunRecord, gather
from controller.rundir import RunFolder
from drivers.vocabulary import Truth

__all__ = ["build_report"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure in the page: its file, what it shows, and its bytes for the page itself."""

    name: str
    alt: str
    data: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A number at the top of the page."""

    label: str
    value: str
    note: str
    unit: str = ""


def build_report(folder: RunFolder, *, truth: Truth | None = None) -> Path:
    """Write ``report.html`` and its figures ``report-*.png`` into a run's folder.

    Works for a run in any state: unfinished, aborted, without survey or descriptions.

    Parameters
    ----------
    folder : RunFolder
    truth : Truth, optional
        What is really there, to judge the run by.

    Returns
    -------
    Path
        The page; it holds its figures and needs no network.

    Raises
    ------
    RunFolderError, JournalError, StoreError
        If the manifest, the journal or the run file can't be read.
    """
    record = gather(folder)
    executed = [row.sub_scan for row in record.measured]
    comparison = None
    if truth is not None and len(truth.targets_nm) and executed:
        comparison = compare(record.config, executed, truth.targets_nm)
    pictures = _pictures(record, comparison, truth)
    page = (
        _environment()
        .get_template("template.html.j2")
        .render(_context(record, comparison, truth, pictures))
    )
    part = folder.report.with_suffix(".html.part")
    part.write_text(page, encoding="utf-8")
    part.replace(folder.report)
    return folder.report


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _pictures(
    record: RunRecord, comparison: Comparison | None, truth: Truth | None
) -> dict[str, Picture]:
    """Draw every figure there is something to show in."""

    def at(name: str) -> Path:
        return record.folder.path / f"report-{name}.png"

    drawn = {
        "survey": maps.survey_figure(record, at("survey")),
        "surrogate": maps.surrogate_figure(record, at("surrogate")),
        "history": curves.history_figure(record, at("history")),
        "latency": curves.latency_figure(record, at("latency")),
        "dose": maps.dose_figure(record, at("dose")),
        "gallery": curves.gallery_figure(record, at("gallery")),
        "found": None,
    }
    if comparison is not None and truth is not None:
        drawn["found"] = curves.found_figure(comparison, truth.label, at("found"))
    for name, path in drawn.items():
        if path is None:  # no stale figure beside the new page
            at(name).unlink(missing_ok=True)
    return {
        name: Picture(path.name, _ALT[name], base64.b64encode(path.read_bytes()).decode())
        for name, path in drawn.items()
        if path is not None
    }


_ALT = {
    "survey": "Survey image with numbered boxes where sub-scans were executed",
    "surrogate": "Maps of the surrogate's mean and standard deviation and of the acquisition",
    "history": "Objective and best so far against sub-scan number and exposed area",
    "latency": "Time taken by each stage of a sub-scan",
    "dose": "Map of the dose in electrons per square ångström",
    "gallery": "Sub-scans of highest and lowest objective",
    "found": "Targets found against area exposed, for this run, a raster and random windows",
}


def _context(
    record: RunRecord,
    comparison: Comparison | None,
    truth: Truth | None,
    pictures: dict[str, Picture],
) -> dict[str, Any]:
    said, left_out = notes.notes(record)
    experiment = record.config.experiment.experiment
    return {
        "title": experiment.name,
        "run_id": record.folder.path.name,
        "facts": _facts(record),
        "verdict": _verdict(record),
        "tiles": _tiles(record, comparison, truth),
        "pictures": pictures,
        "comparison": comparison,
        "truth": truth,
        "dose": _dose(record),
        "dose_cell_nm": record.state.ledger.cell_nm,
        "stages": notes.stage_table(record),
        "duty_cycle": record.duty_cycle,
        "cards": notes.cards(record),
        "n_rows": len(record.rows),
        "notes": said,
        "notes_left_out": left_out,
        "commands": _commands(record),
        "versions": record.manifest.get("versions", {}),
    }


def _facts(record: RunRecord) -> list[str]:
    part, instrument = record.config.experiment.experiment, record.config.instrument
    beam = instrument.beam
    known = [
        f"sample {part.sample}" if part.sample else "",
        f"operator {part.operator}" if part.operator else "",
        f"proposal {part.proposal}" if part.proposal else "",
        instrument.instrument.name + (" (virtual)" if instrument.instrument.virtual else ""),
        f"{beam.energy_kV:g} kV, {beam.semiangle_mrad:g} mrad",
        str(record.manifest.get("created_utc", "")),
    ]
    return [each for each in known if each]


def _verdict(record: RunRecord) -> tuple[str, str, str]:
    """Return level, why the run ended, and the message that came with it."""
    reason, message = record.state.finish_reason, record.state.finish_message
    if reason is None:
        return "warn", "not finished", f"the journal ends while {record.state.phase.value}"
    level = "good" if reason in (FinishReason.COMPLETED, FinishReason.BUDGET) else "warn"
    return ("bad" if reason is FinishReason.FAULT else level), reason.value, message


def _tiles(record: RunRecord, comparison: Comparison | None, truth: Truth | None) -> list[Tile]:
    tiles = []
    if comparison is not None and truth is not None:
        share = comparison.n_found / comparison.n_targets
        against = (
            f"random {comparison.random.found[-1]:.0%}, raster {comparison.raster.found[-1]:.0%}"
        )
        note = f"{comparison.n_found} of {comparison.n_targets} {truth.label}; {against}"
        tiles.append(Tile("targets found", f"{share:.0%}", note))
    scored = record.scored
    if scored:
        best = max(scored, key=lambda row: row.objective or 0.0)
        tiles.append(
            Tile(
                f"best {record.objective_name}",
                f"{best.objective:.3g}",
                f"sub-scan {best.number} ({best.id})",
            )
        )
    n, planned = len(record.measured), record.budget("n_sub_scans")
    tiles.append(Tile("sub-scans", str(n), f"of {planned:.0f} planned" if planned else ""))
    tiles.append(Tile("field exposed", f"{record.area_fraction:.1%}", "by measured sub-scans"))
    ledger, used = record.state.ledger, record.budget("max_total_dose_e_per_A2")
    share_used = f"{ledger.total_e_per_A2 / used:.0%} of the budget" if used else ""
    tiles.append(Tile("total dose", style.number(ledger.total_e_per_A2), share_used, "e/Å²"))
    tiles.append(Tile("duration", notes.clock(record.state.t_s), _duty_words(record)))
    return tiles


def _duty_words(record: RunRecord) -> str:
    if record.duty_cycle is None:
        return "duty cycle n/a (virtual clock)"
    return f"duty cycle {record.duty_cycle:.0%}"


def _dose(record: RunRecord) -> list[tuple[str, str, str]]:
    """Return name, value and budget of each sum of the dose ledger."""
    ledger, state = record.state.ledger, record.state
    total, local = (
        record.budget(name) for name in ("max_total_dose_e_per_A2", "max_local_dose_e_per_A2")
    )
    current = state.current
    rows = [
        (
            "total, over the field",
            f"{style.number(ledger.total_e_per_A2)} e/Å²",
            _of(ledger.total_e_per_A2, total),
        ),
        (
            "peak of any cell",
            f"{style.number(ledger.peak_e_per_A2)} e/Å²",
            _of(ledger.peak_e_per_A2, local),
        ),
        ("electrons", f"{ledger.electrons:.4g}", ""),
    ]
    if current is not None:
        rows.append(
            (
                "beam current",
                f"{current.value_pA:g} pA ({current.source})",
                f"upper bound {state.upper_pA:g} pA",
            )
        )
    return rows


def _of(value: float, budget: float | None) -> str:
    return f"{value / budget:.0%} of {style.number(budget)}" if budget else ""


def _commands(record: RunRecord) -> list[tuple[str, str]]:
    """Return what can be done next, and the exact command for it."""
    path = shlex.quote(str(record.folder.path))
    replay = ("decide again over the same data, without an instrument", f"probewise replay {path}")
    ended = record.state.finish_reason in (FinishReason.COMPLETED, FinishReason.BUDGET)
    resume = ("go on with the next sub-scan", f"probewise resume {path}")
    return [replay] if ended else [resume, replay]
