"""The sizes of the weights before and after compression: the gap that the l0 penalty opens, and the cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from l0ref.experiment import Experiment
from l0ref.nn import Model
from l0ref.report.figures.style import BLACK, GREY, Look, legend_above, look, new_figure, tidy
from l0ref.report.schema import main_of
from l0ref.validate import Array

BINS_PER_DECADE = 8
MOST_DECADES = 8
SLOT = 0.09  # width of the place for exact zeros, as a share of that of all bins


def weights_figure(experiment: Experiment, *, names: Mapping[str, str] | None = None) -> Figure:
    """Return histograms of |w| over all weight arrays: the main run above, the first control (if any) below.

    filled   the dense network
    outline  the fine-tuned network
    left     bars of their own for the weights that are exactly 0
    dashed   the largest |w| that the last cut removed; not drawn if it removed none

    Both panels share bins and axes; each histogram counts every weight once.

    names  {key of a run: name shown}; others are shown by their keys
    """
    main = main_of(experiment.runs)
    control = next((name for name in experiment.runs if name != main), None)
    runs = {name: experiment.runs[name] for name in (main, control) if name is not None}
    sizes = {name: [magnitudes(run.stages[i].model) for i in (0, -1)] for name, run in runs.items()}
    return sizes_figure(sizes, {name: largest_removed(run.cuts) for name, run in runs.items()}, names=names or {})


def sizes_figure(
    sizes: Mapping[str, Sequence[Array]], largest: Mapping[str, float], *, names: Mapping[str, str]
) -> Figure:
    """Return the same from |w| before and after, and the largest |w| removed, by the name of a run."""
    edges = log_edges([a for pair in sizes.values() for a in pair])
    figure = new_figure(3.0 * len(sizes) + 0.4)
    panels = figure.subplots(len(sizes), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for ax, name in zip(panels, sizes, strict=True):
        _draw(ax, look(name, names.get(name)), sizes[name], edges, largest[name])
    smaller = any(((a > 0) & (a < edges[0])).any() for pair in sizes.values() for a in pair)
    rest = "; the first bin includes all smaller ones" if smaller else ""
    panels[-1].set_xlabel(f"|w| (log scale{rest}); far left: exactly 0")
    return figure


def largest_removed(cuts: Sequence[Mapping[str, Any]]) -> float:
    """Return the largest |w| that the last cut removed; 0 if it removed none."""
    return (cuts[-1].get("largest_removed") or 0.0) if cuts else 0.0


def magnitudes(model: Model) -> Array:
    """Return |w| of all weights of a model, flat, in float64."""
    parts = [np.abs(model.params[key], dtype=np.float64).reshape(-1) for key in model.weights]
    return np.concatenate(parts) if parts else np.zeros(0)


def log_edges(sizes: Sequence[Array]) -> Array:
    """Return bin edges, evenly spaced in log10, that span the non-zero entries, MOST_DECADES decades at most."""
    found = [a[a > 0] for a in sizes]
    high = max((float(a.max()) for a in found if a.size), default=1.0)
    low = min((float(a.min()) for a in found if a.size), default=0.1)
    last = math.floor(math.log10(high)) + 1
    first = max(min(math.floor(math.log10(low)), last - 1), last - MOST_DECADES)
    return np.logspace(first, last, (last - first) * BINS_PER_DECADE + 1)


def log_counts(sizes: Array, edges: Array) -> tuple[int, Array]:
    """Return the number of exact zeros, and the counts of the rest; the first bin includes all smaller ones."""
    alive = sizes[sizes > 0]
    counts, _ = np.histogram(np.clip(alive, edges[0], edges[-1]), edges)
    return sizes.size - alive.size, counts


def _draw(ax: Axes, drawn: Look, sizes: Sequence[Array], edges: Array, largest: float) -> None:
    colour, _, label = drawn
    (dense_zeros, dense), (final_zeros, final) = (log_counts(a, edges) for a in sizes)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.stairs(dense, edges, baseline=0.5, fill=True, color=colour, alpha=0.3, label="dense")
    ax.stairs(final, edges, baseline=None, color=colour, lw=1.6, label="pruned and fine-tuned")
    left, middle, right = _slot(edges)
    ax.bar(left, dense_zeros, width=middle - left, align="edge", color=colour, alpha=0.3)
    ax.bar(middle, final_zeros, width=right - middle, align="edge", fill=False, ec=colour, lw=1.6)
    if largest > 0:
        ax.axvline(largest, color=BLACK, ls="--", lw=1.2, label=f"largest weight removed: {largest:.3g}")
    n = sizes[0].size
    title = f"{label}: {n:,} weights, {n - final_zeros:,} left"
    tidy(ax, title=title, y="number of weights (log scale)")
    ax.set_ylim(bottom=0.5)
    ax.axvline(edges[0], color=GREY, lw=0.6)
    _ticks(ax, edges)
    legend_above(ax)


def _slot(edges: Array) -> tuple[float, float, float]:
    """Left, middle and right end of the place for the two bars of exact zeros."""
    width = SLOT * math.log10(edges[-1] / edges[0])
    left, middle, right = (float(edges[0] * 10 ** (-width * part)) for part in (1.2, 0.7, 0.2))
    return left, middle, right


def _ticks(ax: Axes, edges: Array) -> None:
    first, last = round(math.log10(edges[0])), round(math.log10(edges[-1]))
    left, middle, _ = _slot(edges)
    decades = range(first, last + 1)
    ax.xaxis.set_major_locator(FixedLocator([middle, *(10.0**k for k in decades)]))
    ax.xaxis.set_major_formatter(FixedFormatter(["0", *(f"$10^{{{k}}}$" for k in decades)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(left * (left / middle) ** 0.4, edges[-1])
