"""Figures over the field in nm: the survey with its sub-scans, the surrogate, the dose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from controller.report import style
from controller.report.gather import Row, RunRecord
from controller.store_read import load, opened
from drivers.vocabulary import AnyArray, FloatArray, SubScan

_SMALLEST_LABEL_PT = 5.0
_WIDTH_IN = 8.2


def survey_figure(record: RunRecord, path: Path) -> Path:
    """Draw the survey with the executed sub-scans as numbered boxes, coloured by objective."""
    extent = _view(record)
    width, height = extent[1] - extent[0], extent[2] - extent[3]
    figure = style.new_figure(_WIDTH_IN, min(9.5, max(3.5, 0.5 + 6.4 * height / width)))
    axes = figure.add_subplot()
    title = "Survey and executed sub-scans" if _draw_survey(record, axes) else "Executed sub-scans"
    axes.set_facecolor("#59626b")
    axes.set_aspect("equal")
    style.tidy(axes, x="x (nm)", y="y (nm)", title=title, grid=False)
    colours = _objective_colours(record)
    nm_per_pt = width / (0.78 * _WIDTH_IN * 72)
    for row in record.measured:
        _draw_box(axes, row, colours, nm_per_pt, n=len(record.measured))
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    style.scale_bar_above(axes, extent)
    if record.scored:
        style.colour_bar(axes, colours, f"objective: {record.objective_name}")
    _legend(axes, record)
    return style.save(figure, path)


def surrogate_figure(record: RunRecord, path: Path) -> Path | None:
    """Draw mean, standard deviation and acquisition over the field; None without a surrogate."""
    maps = record.surrogate
    if maps is None:
        return None
    extent = style.extent_of(maps.y_nm, maps.x_nm, record.config.experiment.sub_scan.fov_nm)
    view = _view(record)
    ratio = (view[2] - view[3]) / (view[1] - view[0])
    figure = style.new_figure(12.6, min(8.0, max(2.4, 0.7 + 2.95 * ratio)))
    panels = [
        ("Surrogate mean", maps.mean, style.MEAN_MAP, maps.objective),
        ("Surrogate standard deviation", maps.sd, style.SD_MAP, maps.objective),
        ("Acquisition", maps.acquisition, style.ACQUISITION_MAP, "acquisition value"),
    ]
    places = np.array([row.sub_scan.center_nm for row in record.measured]).reshape(-1, 2)
    grid = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, (title, values, colours, label) in zip(grid, panels, strict=True):
        image = style.show_map(axes, np.ma.masked_invalid(values), extent, colours)
        axes.plot(places[:, 1], places[:, 0], ".", ms=5, color="black", alpha=0.8)
        axes.plot(places[:, 1], places[:, 0], ".", ms=2.6, color="white")
        style.tidy(axes, x="x (nm)", title=title, grid=False)
        axes.set_xlim(view[0], view[1])
        axes.set_ylim(view[2], view[3])
        style.colour_bar(axes, image, label)
    grid[0].set_ylabel("y (nm)", color=style.INK, fontsize=9)
    return style.save(figure, path)


def dose_figure(record: RunRecord, path: Path) -> Path:
    """Draw the dose map in e/Å², on a logarithmic scale where doses differ much."""
    ledger = record.state.ledger
    y0, y1, x0, x1 = ledger.extent_nm
    dose = np.ma.masked_less_equal(ledger.map_e_per_A2, 0.0)
    ratio = (y1 - y0) / (x1 - x0)
    figure = style.new_figure(5.4, min(8.0, max(2.6, 0.5 + 3.9 * ratio)))
    axes = figure.add_subplot()
    axes.set_facecolor("#eef1f3")
    norm: Normalize | None = None
    if dose.count() and dose.max() > 20 * dose.min():
        norm = LogNorm(max(float(dose.min()), float(dose.max()) * 1e-4), float(dose.max()))
    image = style.show_map(axes, dose, (x0, x1, y1, y0), style.DOSE_MAP, norm=norm)
    style.tidy(axes, x="x (nm)", y="y (nm)", title="Dose", grid=False)
    if dose.count():
        style.colour_bar(axes, image, f"dose (e/Å²), cells of {ledger.cell_nm:g} nm")
    return style.save(figure, path)


def _view(record: RunRecord) -> style.Extent:
    """Return the field, widened where something was scanned outside it."""
    half_y, half_x = record.field_nm[0] / 2, record.field_nm[1] / 2
    corners = [row.sub_scan.corners_nm() for row in record.rows]
    points = np.concatenate([np.array([[-half_y, -half_x], [half_y, half_x]]), *corners])
    (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
    return float(left), float(right), float(bottom), float(top)


def _draw_survey(record: RunRecord, axes: Axes) -> bool:
    """Draw the newest survey that was stored; say whether there was one."""
    surveys = [each for each in record.stored.values() if each.purpose == "survey"]
    if not surveys:
        return False
    with opened(record.folder) as file:
        data = load(file, surveys[-1])
    name, frames = next(iter(data.frames.items()))
    image = picture(frames, data.sub_scan, imaging=data.detectors[name].kind == "image")
    low, high = style.contrast(image)
    scan = data.sub_scan
    (y, x), (fy, fx) = scan.center_nm, scan.fov_nm
    extent = (x - fx / 2, x + fx / 2, y + fy / 2, y - fy / 2)
    style.show_map(axes, image, extent, style.IMAGE_MAP, vmin=low, vmax=high)
    return True


def picture(frames: AnyArray, sub_scan: SubScan, *, imaging: bool) -> FloatArray:
    """Return a sub-scan as a (ny, nx) picture: the image, or the sum of each pattern."""
    values = frames.astype(np.float64)
    if imaging:
        return np.asarray(values[0])
    return np.asarray(values.sum(axis=(1, 2)).reshape(sub_scan.shape))


def _objective_colours(record: RunRecord) -> ScalarMappable:
    values = [row.objective for row in record.scored if row.objective is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    norm = Normalize(low, high)
    return ScalarMappable(norm, cmap=style.box_colours())


def _draw_box(axes: Axes, row: Row, colours: ScalarMappable, nm_per_pt: float, *, n: int) -> None:
    """Draw one sub-scan: a box with a dark halo, and its number where it is legible."""
    inner = _inset(row.sub_scan, 1.5 * nm_per_pt)
    corners = inner.corners_nm()
    value = row.objective
    colour = "#c5ccd3" if value is None else to_hex(colours.to_rgba(np.array([value]))[0])
    forced = row.outcome.purpose == "forced"
    box_pt = min(row.sub_scan.fov_nm) / nm_per_pt
    width = float(np.clip(box_pt / 12, 0.8, 2.0))
    box = Polygon(
        corners[:, ::-1],
        closed=True,
        fill=False,
        edgecolor=colour,
        linewidth=width,
        linestyle="-" if row.outcome.outcome == "complete" else (0, (3, 2)),
        zorder=4,
    )
    box.set_path_effects(style.halo(width + 2))
    axes.add_patch(box)
    if forced:
        y, x = corners[1] + 0.13 * (corners[3] - corners[1])
        axes.plot(
            x,
            y,
            "D",
            ms=float(np.clip(box_pt / 5, 2.5, 6)),
            color=style.ORANGE,
            mec="black",
            mew=0.8,
            zorder=6,
        )
    _draw_number(axes, row, box_pt, n)


def _draw_number(axes: Axes, row: Row, box_pt: float, n: int) -> None:
    """Write a box's number; where boxes are too small for theirs, every tenth alone."""
    size = float(np.clip(box_pt / (0.75 * len(str(n)) + 0.5), 0, 10))
    if size < _SMALLEST_LABEL_PT:
        if row.number % 10 != 0 and row.number not in (1, n):
            return
        size = 6.0
    y, x = row.sub_scan.center_nm
    axes.text(
        x,
        y,
        str(row.number),
        color="white",
        fontsize=size,
        ha="center",
        va="center",
        fontweight="bold",
        path_effects=style.halo(2.2),
        zorder=7,
    )


def _inset(scan: SubScan, by_nm: float) -> SubScan:
    """Return a slightly smaller window, so that the boxes of neighbours do not hide each other."""
    fy, fx = (max(size - 2 * by_nm, size / 2) for size in scan.fov_nm)
    return replace(scan, fov_nm=(fy, fx))


def _legend(axes: Axes, record: RunRecord) -> None:
    handles: list[Line2D] = []
    if any(row.outcome.purpose == "forced" for row in record.measured):
        handles.append(
            Line2D([], [], ls="", marker="D", color=style.ORANGE, mec="black", label="forced")
        )
    if any(row.outcome.outcome != "complete" for row in record.measured):
        handles.append(Line2D([], [], ls=(0, (3, 2)), color=style.MUTED, label="not complete"))
    if any(row.objective is None for row in record.measured):
        handles.append(Line2D([], [], color="#c5ccd3", lw=2, label="no objective"))
    if handles:
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=len(handles),
            fontsize=8,
            frameon=False,
        )
