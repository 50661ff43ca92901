"""Measured times as pictures: bars for single workloads, log-log curves of cost against size or density."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l0ref.bench.statistics import FEWEST
from l0ref.bench.table import seconds
from l0ref.bench.work import OURS
from l0ref.report.figures.density import OTHERS, draw_density
from l0ref.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    PALE,
    new_figure,
    png,
    tidy,
)

Row = Mapping[str, Any]
# The name of a work that is a point of a curve: "width = 4", "conv1, batch 128, density = 0.5 %"
SIZED = re.compile(r"(?:(.+), )?(\w+) = (\d+(?:\.\d+)?)(?: %)?")
BAR, GAP, CURVES = 0.22, 0.8, 3.2  # inches: a bar, a panel without its bars, a panel of curves


class Fit(NamedTuple):
    """seconds = factor size^exponent, fitted to the sizes from `first` on."""

    exponent: float
    factor: float
    first: float


def bench_png(rows: Sequence[Row]) -> bytes:
    """Return `bench_figure` as a PNG file."""
    return png(bench_figure(rows))


def bench_figure(rows: Sequence[Row]) -> Figure:
    """Return one panel per work, and one per family of works named "family, axis = size"; `rows` as of `l0ref bench`.

    bars    median seconds, with half the interquartile range to each side; ours in blue, and their ratios to ours
    curves  median seconds against size, both logarithmic; the dashed line and its exponent are fitted to the upper
            half of the sizes, where the cost of a step besides its products counts least; against density, see
            `draw_density`. More than two families are drawn in two columns
    """
    bars, curves = panels(rows)
    columns = 1 if len(curves) <= 2 else 2
    heights = [GAP + BAR * len(found) for found in bars.values()] + [CURVES] * -(-len(curves) // columns)
    figure = new_figure(max(sum(heights), 1.0))
    if not heights:
        return figure
    cells = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for row, (title, found) in enumerate(bars.items()):
        _draw_bars(figure.add_subplot(cells[row, :]), title, found)
    for number, ((family, axis), points) in enumerate(curves.items()):
        ax = figure.add_subplot(cells[len(bars) + number // columns, number % columns])
        if axis == "density":
            draw_density(ax, family, points)
        else:
            _draw_curves(ax, family, axis, points)
        if columns > 1:
            ax.set_title(ax.get_title(loc="left"), loc="left", fontsize=7.5)
    return figure


Points = dict[str, list[tuple[float, float]]]  # contender -> (size, seconds), by size


def panels(rows: Iterable[Row]) -> tuple[dict[str, list[Row]], dict[tuple[str, str], Points]]:
    """Return the rows of each work by its title, and the curves of each (suite and family, axis)."""
    bars: dict[str, list[Row]] = {}
    curves: dict[tuple[str, str], Points] = {}
    for row in (row for row in rows if "median_s" in row):  # claims are not drawn
        if sized := SIZED.fullmatch(row["work"]):
            family = f"{row['suite']}: {sized[1]}" if sized[1] else row["suite"]
            points = curves.setdefault((family, sized[2]), {}).setdefault(row["contender"], [])
            points.append((float(sized[3]), row["median_s"]))
            points.sort()
        else:
            bars.setdefault(f"{row['suite']}: {row['work']}", []).append(row)
    return bars, curves


def fit_exponent(points: Sequence[tuple[float, float]]) -> Fit | None:
    """Fit a power law by least squares of the logarithms, to the larger half of the sizes; None for a single one."""
    if len(points) < 2:
        return None
    upper = points[-max(2, (len(points) + 1) // 2) :]
    x, y = np.log(np.array(upper)).T
    exponent = float(((x - x.mean()) * (y - y.mean())).sum() / np.square(x - x.mean()).sum())
    return Fit(exponent, float(np.exp(y.mean() - exponent * x.mean())), upper[0][0])


def _draw_bars(ax: Axes, title: str, rows: Sequence[Row]) -> None:
    names = [row["contender"] for row in rows]
    medians, spread = (np.array([row[key] for row in rows]) for key in ("median_s", "iqr_s"))
    colours = [BLUE if name == OURS else GREY for name in names]
    ax.barh(names, medians, xerr=spread / 2, color=colours, height=0.7, ecolor=BLACK, capsize=2)
    for height, row in enumerate(rows):
        ax.text(row["median_s"] + row["iqr_s"] / 2, height, f"  {bar_label(row, rows)}", va="center", fontsize=7)
    ax.set_xlim(0, 1.25 * float((medians + spread / 2).max()))  # room for the text of the longest bar
    ax.invert_yaxis()
    ax.tick_params(labelsize=8)
    tidy(ax, title=title, x="seconds")


def bar_label(row: Row, rows: Sequence[Row]) -> str:
    """Return a median in words and, from five rounds on, its ratio to ours: "2.262 ms, 3.70 x"."""
    ours = next((r for r in rows if r["contender"] == OURS), row)
    if ours is row or row["rounds"] < FEWEST:
        return seconds(row["median_s"])
    return f"{seconds(row['median_s'])}, {row['median_s'] / ours['median_s']:.2f} x"


def _draw_curves(ax: Axes, family: str, axis: str, curves: Points) -> None:
    others = iter(range(len(curves)))
    for name, points in curves.items():
        colour = BLUE if name == OURS else OTHERS[next(others) % len(OTHERS)]
        sizes, times = np.array(points).T
        found = fit_exponent(points)
        label = name if found is None else f"{name}: {axis}^{found.exponent:.2f}"
        ax.plot(sizes, times, marker="o", ms=4, lw=1.4 if name == OURS else 1.0, color=colour, label=label)
        if found is not None:
            ends = np.array([found.first, sizes[-1]])
            ax.plot(ends, found.factor * ends**found.exponent, ls="--", lw=0.8, color=colour)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.grid(color=PALE)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=8)
    ax.xaxis.set_major_formatter("{x:g}")
    tidy(ax, title=f"{family}: cost against {axis}", x=axis, y="seconds, median")
