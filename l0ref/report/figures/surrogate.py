"""The penalty of one weight: its value, its slope, and the effect of one proximal step."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l0ref.penalty import Penalty
from l0ref.report.figures.style import BLACK, BLUE, GREY, ORANGE, PALE, new_figure, tidy
from l0ref.surrogates import Surrogate
from l0ref.validate import Array

POINTS = 600  # per half axis
FAR = 6.0  # few weights of a network are larger
PROX = "proximal step: z becomes the x that minimises (x - z)²/2 + step φ(x); this step is chosen to be visible"


def surrogate_figure(penalty: Penalty) -> Figure:
    """Return three panels: phi(w), its slope, and prox(z, step), each beside those of l1 and of the true l0.

    In the first panel l0 is drawn at the limit of phi, see `level`. The step of the third panel is not that of a
    training run but one large enough to be visible (`visible_step`); l1 and l0 are drawn there with the same dead zone,
    if there is one, not with the same step.
    """
    surrogate = penalty.surrogate
    half = half_width(surrogate)
    figure = new_figure(3.9)
    value, slope, prox = figure.subplots(1, 3)
    _draw_value(value, surrogate, half)
    _draw_slope(slope, surrogate, half)
    _draw_prox(prox, surrogate, half)
    for ax in (value, slope, prox):
        ax.set_xlim(-half, half)
    price = f"times alpha = {penalty.alpha:g} and the layer weight" if penalty.alpha else "times alpha = 0: no l0 term"
    figure.suptitle(f"φ: {surrogate!r}, {price}\n{PROX}", fontsize=10)
    handles = {text: h for ax in (value, prox) for h, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def half_width(surrogate: Surrogate) -> float:
    """Return the largest |w| drawn: 1.5 times the |w| at which phi nears its level, or 1."""
    reach = _reach(surrogate)
    return 1.5 * reach if reach < FAR and math.isfinite(surrogate.slope_at_zero) else 1.0


def level(surrogate: Surrogate) -> float:
    """Return the level that phi approaches, to 3 digits; 1 if it has none, or only far away."""
    return float(f"{surrogate.value(np.array([1e12]))[0]:.3g}") if _reach(surrogate) < FAR else 1.0


def _reach(surrogate: Surrogate) -> float:
    """The smallest |w| on a grid at which phi is 90 % of its value at 100."""
    w = np.logspace(-6, 2, 801)
    phi = surrogate.value(w)
    return float(w[np.argmax(phi >= 0.9 * phi[-1])])


def visible_step(surrogate: Surrogate, half: float) -> float:
    """Return the largest 2^-k with a dead zone of at most 2/5 of `half` and prox(half) at least half / 2."""
    edge = np.array([half])
    steps = [2.0**-k for k in range(100)]
    good = (t for t in steps if surrogate.dead_zone(t) <= 0.4 * half and surrogate.prox(edge, t)[0] >= 0.5 * half)
    return next(good, steps[-1])


def _draw_value(ax: Axes, surrogate: Surrogate, half: float) -> None:
    w = _grid(half)
    tidy(ax, title="Price of a weight", x="weight w", y="φ(w)")
    ax.plot(w, np.abs(w), color=ORANGE, lw=1, label="l1")
    top = level(surrogate)
    times = "" if top == 1 else f" times {top:g}"
    ax.plot(w, np.where(w == 0, np.nan, top), color=BLACK, lw=1, ls="--", label=f"l0{times}")
    ax.plot([0], [top], "o", mec=BLACK, mfc="white", ms=4)
    ax.plot([0], [0], "o", color=BLACK, ms=4)
    ax.plot(w, surrogate.value(w), color=BLUE, lw=2, label=type(surrogate).__name__)
    ax.set_ylim(top=min(ax.get_ylim()[1], 1.5 * max(top, float(surrogate.value(w).max()))))


def _draw_slope(ax: Axes, surrogate: Surrogate, half: float) -> None:
    w = _grid(half)
    slope = np.where(w == 0, np.nan, surrogate.grad(w))  # a line broken at the kink
    tidy(ax, title="Its slope: the pull to 0", x="weight w", y="φ'(w)")
    ax.plot(w, np.where(w == 0, np.nan, np.sign(w)), color=ORANGE, lw=1)
    ax.plot(w, slope, color=BLUE, lw=2)
    ax.plot([0], [0], "o", color=BLUE, ms=4)
    if math.isinf(surrogate.slope_at_zero):
        top = max(1.0, float(surrogate.grad(np.array([half / 20]))[0]))
        ax.set_ylim(-1.1 * top, 1.1 * top)


def _draw_prox(ax: Axes, surrogate: Surrogate, half: float) -> None:
    z = _grid(half)
    step = visible_step(surrogate, half)
    dead = surrogate.dead_zone(step)
    tidy(ax, title=f"Effect of a proximal step {step:.3g}", x="weight before: z", y="weight after: prox(z)")
    ax.plot(z, z, color=GREY, lw=0.8, ls=":", label="unchanged")
    if dead:
        ax.axvspan(-dead, dead, color=PALE, zorder=0, label=f"dead zone: |z| ≤ {dead:.2g}")
        ax.plot(z, np.sign(z) * np.maximum(np.abs(z) - dead, 0), color=ORANGE, lw=1)
        ax.plot(z, np.where(np.abs(z) > dead, z, 0.0), color=BLACK, lw=1, ls="--")
    ax.plot(z, surrogate.prox(z, step), color=BLUE, lw=2)


def _grid(half: float) -> Array:
    """Return points from -half to half, 0 among them, closer to each other near 0."""
    right = half * np.linspace(0, 1, POINTS) ** 2
    return np.concatenate([-right[:0:-1], right])
