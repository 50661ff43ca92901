"""A gradient check as a picture: analytic against numeric, and where in the array the two differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from l0ref.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    legend_above,
    new_figure,
    png,
    say_empty,
    tidy,
)
from l0ref.testing import Finding, GradcheckReport, ParameterReport
from l0ref.validate import Array

LOOKS = {
    "ok": (BLUE, "o", "agree"),
    "kink": (PURPLE, "D", "at a kink"),
    "unresolved": (GREY, "s", "unresolved"),
    "wrong": (ORANGE, "X", "wrong"),
    "wrong at kink": (ORANGE, "D", "wrong at a kink"),
}
FLOOR, TOP = -16.0, 0.0  # decades of the heat map
TICKS = 5  # at most, on an axis of the scatter plot
DENSE = 0.3  # share of compared entries below which they are drawn as dots, larger than pixels


def gradcheck_png(report: GradcheckReport) -> bytes:
    """Return `gradcheck_figure` as a PNG file."""
    return png(gradcheck_figure(report))


def gradcheck_figure(report: GradcheckReport) -> Figure:
    """Return two panels: analytic against numeric of all compared entries, and a heat map of one parameter.

    left   both axes linear near 0 and logarithmic beyond, so that entries of all sizes are visible; right gradients lie
           on the diagonal
    right  log10 of the relative error minus the error of the differences themselves, over the array of the
           worst parameter, all axes but the last in rows; grey where nothing was compared
    """
    figure = new_figure(4.2)
    scatter, heat = figure.subplots(1, 2)
    draw_scatter(scatter, report)
    worst = worst_parameter(report)
    if worst is None:
        say_empty(heat, "no entry was compared by itself")
        heat.set_axis_off()
    else:
        _draw_heat(figure, heat, worst)
    return figure


def worst_parameter(report: GradcheckReport) -> ParameterReport | None:
    """The parameter to show: the one with the worst finding among those compared entry by entry."""
    found = [p for p in report.parameters if any(f.index is not None for f in p.findings)]
    return max(found, key=lambda p: (not p.passed, max(f.excess for f in p.findings)), default=None)


def draw_scatter(ax: Axes, report: GradcheckReport) -> None:
    """Draw analytic against numeric, one mark per finding, by status."""
    points = [f for f in report.findings if math.isfinite(f.analytic) and math.isfinite(f.numeric)]
    sizes = [abs(v) for f in points for v in (f.analytic, f.numeric) if v]
    if not points:
        say_empty(ax, "nothing to draw")
    linear = float(np.median(sizes)) / 100 if sizes else 1.0
    ax.set_xscale("symlog", linthresh=linear)
    ax.set_yscale("symlog", linthresh=linear)
    for status, (colour, marker, label) in LOOKS.items():
        mine = [f for f in points if f.status == status]
        if mine:
            ax.scatter(
                [f.numeric for f in mine], [f.analytic for f in mine], s=18, color=colour, marker=marker, alpha=0.7,
                linewidths=0, label=f"{label}: {len(mine)}",
            )  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        locator = SymmetricalLogLocator(base=10, linthresh=linear)
        locator.set_params(numticks=TICKS)
        axis.set_major_locator(locator)
    reach = max(sizes, default=1.0)
    ax.plot([-reach, reach], [-reach, reach], color=BLACK, lw=0.6, zorder=0)
    ax.grid(color=PALE)
    ax.tick_params(labelsize=8)
    ax.set_axisbelow(True)
    tidy(ax, x="numeric: differences of the value", y="analytic: the gradient under test")
    legend_above(ax)


def error_map(parameter: ParameterReport) -> Array:
    """Return log10 of the relative error over the array, as rows by last axis; NaN where nothing was compared."""
    shape = parameter.shape
    width = shape[-1] if shape else 1
    found = np.full(shape, np.nan)
    for f in parameter.findings:
        if f.index is not None:
            found[f.index] = _decades(f)
    return found.reshape(-1, width)


def _decades(f: Finding) -> float:
    size = max(abs(f.analytic), abs(f.numeric))
    error = f.relative_error if math.isfinite(f.relative_error) else 1.0
    if f.status == "kink":  # the value is right, whatever its distance from the mean of the slopes
        error = 0.0
    elif size and math.isfinite(size):
        error = max(error - f.error_estimate / size, 0.0)
    return min(max(math.log10(error), FLOOR), TOP) if error > 0 else FLOOR


def _draw_heat(figure: Figure, ax: Axes, parameter: ParameterReport) -> None:
    image = error_map(parameter)
    ax.imshow(np.zeros_like(image), cmap=ListedColormap([PALE]), aspect="auto", interpolation="nearest")
    rows, columns = np.nonzero(~np.isnan(image))
    look: dict[str, Any] = {"vmin": FLOOR, "vmax": TOP, "cmap": "viridis"}
    shown: ScalarMappable
    if rows.size < DENSE * image.size:
        shown = ax.scatter(columns, rows, c=image[rows, columns], s=24, marker="s", **look)
    else:
        shown = ax.imshow(image, aspect="auto", interpolation="nearest", **look)
    shape = " x ".join(map(str, parameter.shape)) or "a number"
    tidy(ax, title=f"{parameter.name} ({shape})", x="last axis", y="all other axes")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(shown, ax=ax, label="log10 of the relative error")
