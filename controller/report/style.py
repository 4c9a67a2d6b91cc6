"""How figures look: fonts, colours, scale bars, legible marks; no global state of matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke

from drivers.vocabulary import AnyArray, FloatArray

DPI = 120
INK = "#1f2933"
MUTED = "#66727f"
GRID = "#e3e7eb"
# Okabe and Ito's palette, told apart by colour-blind readers
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
MEAN_MAP, SD_MAP, ACQUISITION_MAP, IMAGE_MAP, DOSE_MAP = (
    "viridis",
    "cividis",
    "inferno",
    "gray",
    "magma",
)
Extent = tuple[float, float, float, float]


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure with a canvas of its own."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor("white")
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; return its path."""
    figure.savefig(path, dpi=DPI)
    return path


def tidy(axes: Axes, *, x: str = "", y: str = "", title: str = "", grid: bool = True) -> None:
    """Give axes quiet spines, labels and a left-aligned title."""
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    if title:
        axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.tick_params(labelsize=8, colors=MUTED, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b4bcc4")
    if grid:
        axes.grid(True, color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)


def halo(width: float = 2.5) -> list[AbstractPathEffect]:
    """Return a dark outline that keeps a light mark legible on a bright lattice."""
    return [withStroke(linewidth=width, foreground="black", alpha=0.85)]


def contrast(image: AnyArray) -> tuple[float, float]:
    """Return the grey levels from the 0.5th to the 99.5th percentile, never equal."""
    finite = np.asarray(image, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(each) for each in np.percentile(finite, (0.5, 99.5)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def extent_of(y_nm: FloatArray, x_nm: FloatArray, pitch_nm: tuple[float, float]) -> Extent:
    """Return the extent of a map for `show_map`, edges half a pitch outside the centres."""
    steps = [
        (float(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else pitch)
        for axis, pitch in zip((y_nm, x_nm), pitch_nm, strict=True)
    ]
    half_y, half_x = steps[0] / 2, steps[1] / 2
    return (
        float(x_nm[0]) - half_x,
        float(x_nm[-1]) + half_x,
        float(y_nm[-1]) + half_y,
        float(y_nm[0]) - half_y,
    )


def show_map(
    axes: Axes, values: AnyArray, extent: Extent, colours: str, **options: Any
) -> AxesImage:
    """Draw a map in nm, y downwards."""
    image = axes.imshow(
        values,
        extent=extent,
        origin="upper",
        cmap=colours,
        interpolation="nearest",
        aspect="equal",
        **options,
    )
    tidy(axes, x="x (nm)", y="y (nm)", grid=False)
    return image


def colour_bar(axes: Axes, image: Any, label: str) -> None:
    """Add a colour bar with its label."""
    figure = axes.figure
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label(label, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=3)
    bar.outline.set_visible(False)


def scale_bar(axes: Axes, extent: Extent) -> None:
    """Draw a bar of a round length, with its length, at the lower left of an image."""
    x0, x1, y1, y0 = extent
    width, height = x1 - x0, y1 - y0
    length = _round_down(width / 3)
    left, base = x0 + 0.05 * width, y1 - 0.06 * height
    bar = Rectangle((left, base), length, 0.018 * height, color="white", zorder=9)
    bar.set_path_effects(halo(3))
    axes.add_patch(bar)
    axes.text(
        left,
        base - 0.02 * height,
        f"{length:g} nm",
        color="white",
        ha="left",
        va="bottom",
        fontsize=8,
        fontweight="bold",
        path_effects=halo(2.5),
        zorder=9,
    )


def scale_bar_above(axes: Axes, extent: Extent) -> None:
    """Draw a bar of a round length above the right end of a map, where it hides nothing."""
    x0, x1, y1, y0 = extent
    length, rise = _round_down((x1 - x0) / 4), 0.02 * (y1 - y0)
    axes.plot(
        [x1 - length, x1],
        [y0 - rise, y0 - rise],
        color=INK,
        lw=4,
        clip_on=False,
        solid_capstyle="butt",
    )
    axes.text(
        x1 - length - 0.01 * (x1 - x0),
        y0 - rise,
        f"{length:g} nm",
        color=INK,
        ha="right",
        va="center",
        fontsize=9,
    )


def box_colours() -> ListedColormap:
    """Return viridis without its darkest third, which is lost on dark images."""
    table = colormaps["viridis"](np.linspace(0.3, 1.0, 256))
    return ListedColormap(table, name="viridis_light")


def number(value: float) -> str:
    """Return a number with four significant digits, thousands set apart, no exponent below 1e6."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


def _round_down(value: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))
