"""Time against density: the share of kept weights up to which a sparse product is faster than the dense one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from l0ref.bench.work import DENSE, OURS
from l0ref.report.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, tidy

Points = Mapping[str, Sequence[tuple[float, float]]]  # contender -> (percent kept, seconds), by density
OTHERS = (ORANGE, GREEN, PURPLE, BLACK)
STYLES = ("--", ":", "-.")  # of dense contenders


def draw_density(ax: Axes, title: str, curves: Points) -> None:
    """Draw median seconds against density, both logarithmic; the legend has each break-even density.

    Contenders whose names begin with "dense" multiply zeros too; each is a horizontal line at the median over all
    densities. A cross marks the break-even point of ours with the fastest of them.
    """
    colours, styles = iter(OTHERS * len(curves)), iter(STYLES * len(curves))
    for name, points in curves.items():
        densities, times = np.array(points).T
        if name.startswith(DENSE):
            ax.axhline(median(times), color=GREY, ls=next(styles), lw=1.0, label=name)
            continue
        found, colour = break_even(against_dense(points, curves)), BLUE if name == OURS else next(colours)
        label = f"{name}: {verdict(found)}"
        ax.plot(densities, times, marker="o", ms=4, lw=1.4 if name == OURS else 1.0, color=colour, label=label)
        if name == OURS and 0 < found < math.inf:
            height = np.exp(np.interp(np.log(found), np.log(densities), np.log(times)))
            ax.plot([found], [height], marker="x", ms=9, mew=2, color=BLACK)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator(sorted({d for points in curves.values() for d, _ in points})))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(color=PALE)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=7)
    tidy(ax, title=title, x="density, % of the weights kept", y="seconds, median")


def against_dense(points: Sequence[tuple[float, float]], curves: Points) -> list[tuple[float, float]]:
    """Return (density, time / time of the fastest dense contender at this density), where there is one."""
    dense: dict[float, float] = {}
    for name, others in curves.items():
        for density, seconds in others if name.startswith(DENSE) else ():
            dense[density] = min(seconds, dense.get(density, math.inf))
    return [(density, seconds / dense[density]) for density, seconds in points if density in dense]


def break_even(ratios: Sequence[tuple[float, float]]) -> float:
    """Return the density up to which sparse is faster than dense, from (density, sparse time / dense time), by density.

    Between two densities the logarithm of the ratio is interpolated linearly in that of the density; the first
    crossing counts. 0 if sparse is not faster at the lowest density, infinity if it is faster at all of them.

    >>> break_even([(1, 0.25), (4, 0.5), (16, 2.0)])
    8.0
    """
    before = None
    for density, ratio in ratios:
        if ratio >= 1:
            if before is None:
                return 0.0
            share = math.log(before[1]) / (math.log(before[1]) - math.log(ratio))
            return float(before[0] * (density / before[0]) ** share)
        before = density, ratio
    return math.inf


def verdict(density: float) -> str:
    """Return a break-even density in words.

    >>> [verdict(d) for d in (0.0, 38.21, float("inf"))]
    ['never faster than dense', 'faster than dense up to 38 %', 'faster than dense throughout']
    """
    if density == 0:
        return "never faster than dense"
    return "faster than dense throughout" if math.isinf(density) else f"faster than dense up to {density:.2g} %"
