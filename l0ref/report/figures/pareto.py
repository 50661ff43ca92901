"""Several runs in one picture: accuracy against compression, and the runs that no other one beats in both."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from l0ref.report.figures.style import BLUE, GREY, PALE, accuracy_axis, new_figure, plain_log_axis, say_empty, tidy

Point = tuple[float, float]  # compression ratio, accuracy


def front(points: Mapping[str, Point]) -> list[str]:
    """Return the names of the points that no other reaches in one number and beats in the other, by compression.

    >>> front({"a": (2.0, 0.9), "b": (4.0, 0.9), "c": (8.0, 0.5), "d": (3.0, 0.8)})
    ['b', 'c']
    """
    best = [
        name
        for name, (x, y) in points.items()
        if not any(u >= x and v >= y and (u, v) != (x, y) for u, v in points.values())
    ]
    return sorted(best, key=lambda name: points[name])


def pareto_figure(points: Mapping[str, Point]) -> Figure:
    """Return (compression ratio, validation accuracy) of runs by name; those of the front are joined, the rest grey."""
    figure = new_figure(4.5)
    ax = figure.subplots()
    tidy(ax, title="Validation accuracy against compression", x="compression ratio (log scale)")
    if not points:
        say_empty(ax, "no run has both numbers")
        return figure
    best = front(points)
    ax.plot(*zip(*(points[name] for name in best), strict=True), color=BLUE, lw=1, marker="o", ms=6)
    for name, (x, y) in points.items():
        colour = BLUE if name in best else GREY
        ax.plot([x], [y], "o", color=colour, ms=6)
        ax.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8, color=colour, parse_math=False)
    ax.set_xscale("log")
    ax.margins(x=0.15)
    plain_log_axis(ax.xaxis)
    ax.grid(axis="x", color=PALE)
    accuracy_axis(ax, [y for _, y in points.values()], label="accuracy (axis stretched towards 100 %)")
    return figure
