"""Several configurations in one picture: accuracy against compression, and those that no other one beats in both."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from l0ref.report.figures.style import (
    BLUE,
    GREY,
    PALE,
    TOLD,
    accuracy_axis,
    new_figure,
    plain_log_axis,
    say_empty,
    tidy,
)

Point = tuple[float, float]  # compression ratio, accuracy
NO_SPREAD = (0.0, 0.0)


def front(points: Mapping[str, Point]) -> list[str]:
    """Return the names of points that no other dominates (at least equal in both, better in one), by compression.

    >>> front({"a": (2.0, 0.9), "b": (4.0, 0.9), "c": (8.0, 0.5), "d": (3.0, 0.8)})
    ['b', 'c']
    """
    best = [
        name
        for name, (x, y) in points.items()
        if not any(u >= x and v >= y and (u, v) != (x, y) for u, v in points.values())
    ]
    return sorted(best, key=lambda name: points[name])


def pareto_figure(
    points: Mapping[str, Point], *, spread: Mapping[str, Point] | None = None, quality: str = "acc1"
) -> Figure:
    """Return (compression ratio, validation accuracy) by name; those of the front are joined, the rest grey.

    spread   standard deviations of the two, drawn as bars; a name without one has no bars
    quality  "acc1", or "r2" for the R² of regressions
    """
    figure = new_figure(4.5)
    ax = figure.subplots()
    tidy(ax, title=f"Validation {TOLD[quality]} against compression", x="compression ratio (log scale)")
    if not points:
        say_empty(ax, "no run has both numbers")
        return figure
    best, bars = front(points), {name: (spread or {}).get(name, NO_SPREAD) for name in points}
    ax.plot(*zip(*(points[name] for name in best), strict=True), color=BLUE, lw=1, marker="o", ms=6)
    for name, (x, y) in points.items():
        colour = BLUE if name in best else GREY
        ax.plot([x], [y], "o", color=colour, ms=6)
        if any(bars[name]):
            ax.errorbar([x], [y], xerr=bars[name][0], yerr=bars[name][1], color=colour, elinewidth=0.8, capsize=2)
        ax.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8, color=colour, parse_math=False)
    ax.set_xscale("log")
    ax.margins(x=0.15)
    plain_log_axis(ax.xaxis)
    ax.grid(axis="x", color=PALE)
    lowest = [y - bars[name][1] for name, (_, y) in points.items()]
    accuracy_axis(ax, lowest, label=f"{TOLD[quality]} (axis stretched towards 100 %)")
    return figure
