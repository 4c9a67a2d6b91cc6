"""Figures over time: objective history, targets found, latency of each stage; and the gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    StrMethodFormatter,
)

from controller import commands as c
from controller import events as e
from controller.report import style
from controller.report.baselines import Comparison
from controller.report.gather import Row, RunRecord
from controller.report.maps import picture
from controller.store_read import load, opened

_GALLERY = 6


def history_figure(record: RunRecord, path: Path) -> Path | None:
    """Draw objective and best so far against sub-scan number and exposed area."""
    rows = record.scored
    if not rows:
        return None
    values = np.array([row.objective for row in rows], dtype=np.float64)
    best = np.maximum.accumulate(values)
    areas = {
        row.number: area
        for row, area in zip(
            record.measured,
            np.cumsum([row.sub_scan.area_nm2 for row in record.measured]),
            strict=True,
        )
    }
    figure = style.new_figure(11.0, 3.4)
    by_number, by_area = figure.subplots(1, 2, sharey=True)
    numbers = np.array([row.number for row in rows])
    _history(by_number, rows, numbers, values, best)
    _history(by_area, rows, np.array([areas[row.number] for row in rows]), values, best)
    style.tidy(by_number, x="sub-scan", y=record.objective_name, title="Objective by sub-scan")
    style.tidy(by_area, x="exposed area (nm²)", title="Objective by exposed area")
    by_number.set_xlim(0, len(record.measured) + 1)
    by_area.set_xlim(left=0, right=1.03 * max(areas.values()))
    by_number.xaxis.set_major_locator(MaxNLocator(integer=True))
    for number in _changes(record):
        by_number.axvline(number + 0.5, color=style.PURPLE, lw=1, ls=":")
    by_number.legend(
        fontsize=8,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        borderaxespad=0.2,
    )
    return style.save(figure, path)


def _history(
    axes: Axes, rows: list[Row], x: np.ndarray, values: np.ndarray, best: np.ndarray
) -> None:
    forced = np.array([row.outcome.purpose == "forced" for row in rows])
    axes.plot(x, best, color=style.VERMILLION, lw=2, drawstyle="steps-post", label="best so far")
    axes.plot(x[~forced], values[~forced], "o", ms=4, color=style.BLUE, label="planned")
    if forced.any():
        axes.plot(
            x[forced],
            values[forced],
            "D",
            ms=5,
            color=style.ORANGE,
            mec="black",
            mew=0.6,
            label="forced",
        )


def _changes(record: RunRecord) -> list[int]:
    """Return after how many sub-scans the operator changed the objective."""
    done, out = 0, []
    counted = {row.id for row in record.measured}
    for entry in record.entries:
        event = entry.event
        if isinstance(event, e.Executed):
            done += event.id in counted
        elif isinstance(event, e.CommandAccepted) and isinstance(event.command, c.SetObjective):
            out.append(done)
    return out


def found_figure(comparison: Comparison, label: str, path: Path) -> Path:
    """Draw targets found against area exposed, for the run and for its baselines."""
    figure = style.new_figure(5.4, 3.6)
    axes = figure.add_subplot()
    random = comparison.random
    axes.fill_between(
        random.area,
        comparison.random_low,
        comparison.random_high,
        color=style.SKY,
        alpha=0.35,
        lw=0,
        label=f"random, 80 % of {comparison.n_seeds} seeds",
    )
    axes.plot(random.area, random.found, color=style.SKY, lw=2, label="random, mean")
    axes.plot(
        comparison.raster.area,
        comparison.raster.found,
        color=style.GREEN,
        lw=2,
        ls="--",
        label="raster",
    )
    axes.plot(
        comparison.run.area, comparison.run.found, color=style.VERMILLION, lw=2.4, label="this run"
    )
    style.tidy(
        axes,
        x="fraction of the field exposed",
        y="fraction of targets found",
        title=f"Targets found: {label}",
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return style.save(figure, path)


def latency_figure(record: RunRecord, path: Path) -> Path | None:
    """Draw how long each stage took, as boxes from p25 to p75 and all single values."""
    stages = record.stages_ms
    if not stages:
        return None
    figure = style.new_figure(5.4, 1.0 + 0.36 * len(stages))
    axes = figure.add_subplot()
    names = list(stages)[::-1]
    rng = np.random.default_rng(0)
    for index, name in enumerate(names):
        values = np.maximum(np.array(stages[name]), 1e-3)
        spread = index + rng.uniform(-0.22, 0.22, len(values))
        axes.plot(values, spread, ".", ms=3, color=style.SKY, alpha=0.5)
    axes.boxplot(
        [np.maximum(stages[name], 1e-3) for name in names],
        orientation="horizontal",
        positions=range(len(names)),
        tick_labels=names,
        widths=0.5,
        whis=(1, 99),
        showfliers=False,
        medianprops={"color": style.VERMILLION, "linewidth": 2},
        boxprops={"color": style.BLUE},
        whiskerprops={"color": style.BLUE},
        capprops={"color": style.BLUE},
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    style.tidy(axes, x="time (ms); box p25 to p75, whiskers p1 to p99", title="Time per stage")
    return style.save(figure, path)


def gallery_figure(record: RunRecord, path: Path) -> Path | None:
    """Draw the sub-scans of highest and lowest objective; None when none is stored."""
    rows = sorted(
        (row for row in record.scored if row.id in record.stored),
        key=lambda row: -(row.objective or 0.0),
    )
    if not rows:
        return None
    best = rows[:_GALLERY]
    worst = rows[len(best) :][::-1][:_GALLERY]
    figure = style.new_figure(11.0, 4.4 if worst else 2.3)
    grid = figure.subplots(2 if worst else 1, _GALLERY, squeeze=False)
    for line, (name, chosen) in zip(
        grid, (("Highest objective", best), ("Lowest objective", worst)), strict=False
    ):
        for axes, row in zip(line, chosen, strict=False):
            _tile(record, axes, row)
        for axes in line[len(chosen) :]:
            axes.set_axis_off()
        line[0].set_ylabel(name, fontsize=9, fontweight="bold", color=style.INK)
    return style.save(figure, path)


def _tile(record: RunRecord, axes: Axes, row: Row) -> None:
    with opened(record.folder) as file:
        data = load(file, record.stored[row.id])
    names = sorted(data.frames, key=lambda name: data.detectors[name].kind != "image")
    imaging = data.detectors[names[0]].kind == "image"
    image = picture(data.frames[names[0]], data.sub_scan, imaging=imaging)
    low, high = style.contrast(image)
    fy, fx = data.sub_scan.fov_nm
    extent = (-fx / 2, fx / 2, fy / 2, -fy / 2)
    axes.imshow(image, cmap=style.IMAGE_MAP, vmin=low, vmax=high, extent=extent)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"{row.number}:  {row.objective:.3g}", fontsize=9, color=style.INK)
    style.scale_bar(axes, extent)
