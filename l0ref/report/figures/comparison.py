"""A comparison of methods as a picture: accuracy against compression, before and after fine-tuning."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l0ref.report.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, plain_log_axis, png, tidy

Row = Mapping[str, Any]
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY)
MARKERS = "osD^vP*X<>"
PANELS = {"val_acc1_pruned": "right after the cut", "val_acc1": "after fine-tuning"}


def comparison_png(rows: Sequence[Row]) -> bytes:
    """Return `comparison_figure` as a PNG file."""
    return png(comparison_figure(rows))


def comparison_figure(rows: Sequence[Row]) -> Figure:
    """Return two panels: validation accuracy against compression, right after the cut and after fine-tuning.

    Points are means over seeds, bars sample standard deviations; compression is what was reached, not what was asked.
    """
    names = list(dict.fromkeys(row["method"] for row in rows if "refused" not in row))
    figure = new_figure(4.5 + 0.16 * len(names) / 2)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (value, title) in zip(axes, PANELS.items(), strict=True):
        for number, name in enumerate(names):
            _curve(ax, [row for row in rows if row["method"] == name and "refused" not in row], value, name, number)
        tidy(
            ax, title=title, x="compression (weights before / after)", y="validation accuracy" if ax is axes[0] else ""
        )
        ax.set_xscale("log")
        plain_log_axis(ax.xaxis)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _curve(ax: Axes, rows: Sequence[Row], value: str, name: str, number: int) -> None:
    ratios = sorted({row["ratio"] for row in rows})
    groups = [[row for row in rows if row["ratio"] == ratio] for ratio in ratios]
    x = [statistics.fmean(row["compression_ratio"] for row in group) for group in groups]
    y = [statistics.fmean(row[value] for row in group) for group in groups]
    bars = [statistics.stdev(row[value] for row in group) if len(group) > 1 else 0.0 for group in groups]
    style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
    ax.errorbar(x, y, yerr=bars, label=name, linewidth=1, capsize=2, markersize=4, **style)
