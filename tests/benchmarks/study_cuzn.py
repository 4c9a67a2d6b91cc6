"""What the controller finds on a recorded Cu-Zn map: planner, raster, random, rank by survey.

Targets are the tenth of the recorded pixels that are richest in Cu. Each sub-scan exposes 3 x 3 of
them. Planner, raster and random are whole runs of ``configs/experiments/cuzn.toml`` through the
controller with its limits and journal, one per seed and on a virtual clock; a raster is the same
for every seed and runs once. "Rank by survey" visits the same windows by falling brightness of the
HAADF survey and learns nothing: what a person with the survey in hand could do, always shown.

Run with ``python -m tests.benchmarks.study_cuzn [FIGURE]``; writes a figure, and the last line is
one JSON object. Its ``low`` and ``high`` hold 80 % of the seeds. The area under a curve is its mean
from no exposure to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from controller.candidates import make_grid
from controller.config import RunConfig
from controller.loading import load_experiment
from controller.opening import truth_of
from drivers.vocabulary import FloatArray, SubScan, SubScanData
from models.descriptors.images import image_of
from tests.benchmarks.study_runs import REPOSITORY, execute, found_fraction

EXPERIMENT = REPOSITORY / "configs" / "experiments" / "cuzn.toml"
STYLES = {
    "planner (BoTorch UCB)": ("#D55E00", "-"),
    "rank by survey": ("#CC79A7", "-."),
    "random": ("#56B4E9", "-"),
    "raster": ("#009E73", "--"),
}
"""Colours of Okabe and Ito, told apart by all; dashes besides."""
PLANNER, RANK, RANDOM, RASTER = STYLES


@dataclass(frozen=True)
class Study:
    """Fraction of targets found, (seeds, n + 1) for each strategy, against exposed area (n + 1)."""

    area: FloatArray
    found: dict[str, FloatArray]

    def auc(self, name: str) -> FloatArray:
        """Return the mean of each seed's curve: (seeds,)."""
        return np.asarray(np.trapezoid(self.found[name], self.area, axis=1) / self.area[-1])

    def at(self, name: str, area: float) -> FloatArray:
        """Return what each seed had found at an exposed fraction of the field: (seeds,)."""
        return np.array([np.interp(area, self.area, curve) for curve in self.found[name]])


def rank_by_survey(config: RunConfig, survey: SubScanData) -> list[SubScan]:
    """Return the candidates' windows by falling mean brightness of the survey."""
    image = image_of(survey, "haadf")
    at = survey.sub_scan.positions_nm().reshape(-1, 2)
    part = config.experiment.sub_scan
    windows = [
        SubScan("w", (float(y), float(x)), part.fov_nm, part.shape, part.dwell_us)
        for y, x in make_grid(config).centers_nm()
    ]
    brightness = [image.ravel()[window.contains(at)].mean() for window in windows]
    return [windows[i] for i in np.argsort(brightness)[::-1]]


def run_study(n_seeds: int, folder: Path, console: Console) -> Study:
    """Run every strategy and return what each found."""
    config = load_experiment(EXPERIMENT)
    truth = truth_of(config.instrument)
    if truth is None:
        raise SystemExit(f"{EXPERIMENT} names an instrument without ground truth")
    n = config.experiment.budget.n_sub_scans
    kinds = {PLANNER: ("botorch", n_seeds), RANDOM: ("random", n_seeds), RASTER: ("raster", 1)}
    found: dict[str, FloatArray] = {}
    survey: SubScanData | None = None
    with Progress(console=console) as progress:
        for name, (kind, seeds) in kinds.items():
            curves = []
            for seed in progress.track(range(seeds), description=name):
                sets = [f"planner.kind={kind}", f"experiment.seed={seed}", *_options(kind)]
                windows, survey = execute(
                    load_experiment(EXPERIMENT, sets), folder / f"{kind}-{seed}"
                )
                curves.append(found_fraction(windows, truth.targets_nm, n))
            found[name] = np.stack(curves)
    assert survey is not None
    found[RANK] = found_fraction(rank_by_survey(config, survey), truth.targets_nm, n)[None]
    field_nm = config.instrument.scan.field_nm
    window_nm = config.experiment.sub_scan.fov_nm
    share = window_nm[0] * window_nm[1] / (field_nm[0] * field_nm[1])
    return Study(np.asarray(np.arange(n + 1) * share, dtype=np.float64), found)


def _options(kind: str) -> list[str]:
    """Return assignments that leave out what only the learning planner takes."""
    return [] if kind == "botorch" else ["planner.params={}", "planner.options={}"]


def draw(study: Study, path: Path) -> None:
    """Draw mean and the band of 80 % of the seeds of each strategy."""
    matplotlib.use("Agg")
    figure = Figure(figsize=(6.4, 4.4), dpi=160, layout="constrained")
    axes: Axes = figure.add_subplot()
    for name, (colour, dashes) in STYLES.items():
        curves = study.found[name]
        label = f"{name}, {len(curves)} seeds" if len(curves) > 1 else name
        axes.plot(study.area, curves.mean(axis=0), dashes, color=colour, lw=2.2, label=label)
        if len(curves) > 1:
            low, high = np.percentile(curves, (10, 90), axis=0)
            axes.fill_between(study.area, low, high, color=colour, alpha=0.22, lw=0)
    axes.set_xlabel("fraction of the field exposed by sub-scans")
    axes.set_ylabel("fraction of the richest 10 % of Cu pixels found")
    axes.set_title("Recorded Cu-Zn map: mean, and band of 80 % of the seeds", fontsize=10)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, float(study.area[-1]))
    axes.set_ylim(0, 1)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    figure.savefig(path)


def table(study: Study) -> Table:
    """Return found fractions and areas under the curves, mean and 80 % of the seeds."""
    end = float(study.area[-1])
    made = Table("strategy", "seeds", "found at 10 %", f"found at {end:.0%}", "area under curve")
    for name in STYLES:
        columns = (study.at(name, 0.10), study.at(name, end), study.auc(name))
        made.add_row(name, str(len(columns[0])), *(_spread(each) for each in columns))
    return made


def _spread(values: FloatArray) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    low, high = np.percentile(values, (10, 90))
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def summary(study: Study) -> dict[str, object]:
    """Return the JSON object of the study; ratios above 1 are better for the planner."""
    auc, end = {name: study.auc(name) for name in STYLES}, float(study.area[-1])

    def ratio(other: str) -> dict[str, float | int]:
        each = auc[PLANNER] / auc[other]
        low, middle, high = (float(v) for v in np.percentile(each, (10, 50, 90)))
        return {"median": middle, "low": low, "high": high, "n": len(each)}

    short = {PLANNER: "planner", RANK: "rank_by_survey", RANDOM: "random", RASTER: "raster"}
    values: dict[str, float] = {"area_exposed": end}
    for name, key in short.items():
        values[f"auc_{key}"] = float(auc[name].mean())
        values[f"found_10pct_{key}"] = float(study.at(name, 0.10).mean())
        values[f"found_end_{key}"] = float(study.at(name, end).mean())
    ratios = {f"auc_vs_{short[name]}": ratio(name) for name in (RANDOM, RASTER, RANK)}
    return {"area": "cuzn", "ratios": ratios, "values": values}


def main() -> None:
    """Run the study, write the figure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", nargs="?", type=Path, default=Path("cuzn-study.png"))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        os.environ["PROBEWISE_STATE_DIR"] = str(Path(place) / "state")
        study = run_study(options.seeds, Path(place), console)
    draw(study, options.figure)
    console.print(table(study))
    console.print(f"figure: {options.figure}")
    print(json.dumps(summary(study)))


if __name__ == "__main__":
    main()
