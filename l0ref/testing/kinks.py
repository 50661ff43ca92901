"""Kinks: one-sided slopes at several steps h distinguish them from errors; and the values accepted at a kink.

smooth     right - left falls as h^3: a step eight times smaller makes it 512 times smaller
kink       right - left is the same at three steps
vertical   right - left grows from step to step: a slope is infinite, as of |w|^(1/2) at 0, or the value jumps
near       right - left follows none of these: a kink lies within reach of every step

The derivative at a kink does not exist; code returns a value by convention. The accepted values are: 0
where the two slopes are opposite (|w| at 0), else anything between them (ReLU at 0: 0 or 1; a tied maximum: 0
for the losers and 1 for the winner).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l0ref.testing.differences import RUNGS, Line, Rung, growing_jump, jump_falls, ladder, same_jump
from l0ref.validate import Array

OPPOSITE = 1e-6  # slopes count as opposite if their sum is below this share of their difference


@dataclass(frozen=True, eq=False)
class Slopes:
    """Slopes of each component of y along a line: arrays of shape (m,).

    numeric, noise   two-sided slope and a bound on its error
    left, right      one-sided slopes; equal to `numeric` where there is no kink, infinite at a vertical kink
    kink             True at a kink
    step             h of the rung the numbers come from
    """

    numeric: Array
    noise: Array
    left: Array
    right: Array
    kink: Array
    step: Array


def slopes(line: Line, y0: Array, *, first: float, eps: float, rtol: float, rungs: int = RUNGS) -> Slopes:
    """Return the slopes of y(t) at t = 0; the arguments are those of `ladder`."""
    found = ladder(line, y0, first=first, rungs=rungs, eps=eps, rtol=rtol)
    best = _best(found)
    numeric, step = _pick(found, best, "numeric"), _pick(found, best, "h")
    noise = np.asarray(np.take_along_axis(_noise(found), best[None], axis=0)[0])
    left, right = numeric.copy(), numeric.copy()
    kink = np.zeros(y0.shape, dtype=bool)
    for k in range(len(found) - 2):
        three = found[k : k + 3]
        new = same_jump(three) & ~kink
        _set(new, (left, three[1].left), (right, three[1].right), (noise, three[1].fuzz), (step, three[1].h))
        steep = growing_jump(three) & ~kink & ~new
        _set(steep, (left, _steep(three, "left")), (right, _steep(three, "right")), (step, three[1].h))
        kink |= new | steep
    if len(found) < 3:  # too few steps were possible; the curvature at h and h/2 has to decide
        last = found[-1]
        new = last.suspicious & (last.growth > 0.75)
        _set(new, (left, last.left), (right, last.right), (noise, last.fuzz), (step, last.h))
        kink |= new
    return Slopes(numeric, noise, left, right, kink, step)


def as_documented(
    value: Array, middle: Array, left: Array, right: Array, low: Array, high: Array, slack: Array
) -> Array:
    """Whether the value at a kink is 0 for opposite slopes, else in [low, high]; `slack` allows for rounding.

    middle       two-sided slope: the rounding error of two slopes that cancel, or of two vertical ones
    left, right  slopes of the whole function; low, high sums of the smaller and larger slopes of its parts
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total, gap = left + right, np.abs(right - left)
        opposite = np.where(np.isfinite(total), np.abs(total) <= OPPOSITE * gap + slack, left == -right)
        between = (value >= low - slack) & (value <= high + slack)
    zero = np.minimum(np.abs(value), np.abs(value - middle)) <= slack  # or the remainder of the opposite slopes
    return np.asarray(np.where(opposite, zero, between))


def _best(found: list[Rung]) -> Array:
    """Index of the rung with the least noise, among those without a kink in reach if there are any."""
    noise = _noise(found)
    clear = np.array([~r.suspicious for r in found])
    for k in range(len(found) - 1):
        clear[k] |= jump_falls(found[k], found[k + 1])
    chosen = np.where(clear | ~clear.any(axis=0), noise, np.inf)
    return np.asarray(chosen.argmin(axis=0))


def _noise(found: list[Rung]) -> Array:
    """The noise of each rung, at least the rounding (of order 1 / h) that the smaller steps show."""
    own = np.array([r.noise for r in found])
    steps = np.array([r.h for r in found])[:, None]
    rounding = np.array([np.maximum.reduce(own[k:] * steps[k:]) for k in range(len(found))])
    return np.asarray(np.maximum(own, 2 * rounding / steps)) if len(found) > 2 else own


def _pick(found: list[Rung], best: Array, name: str) -> Array:
    rows = np.array([np.broadcast_to(getattr(r, name), best.shape) for r in found])
    return np.asarray(np.take_along_axis(rows, best[None], axis=0)[0])


def _set(where: Array, *pairs: tuple[Array, Array | float]) -> None:
    for target, value in pairs:
        np.copyto(target, value, where=where)


def _steep(three: list[Rung], side: str) -> Array:
    """The one-sided slope, infinite where it grows with every rung."""
    a, b, c = (getattr(r, side) for r in three)
    grows = (np.abs(b) > 1.15 * np.abs(a)) & (np.abs(c) > 1.15 * np.abs(b))
    return np.asarray(np.where(grows, np.copysign(np.inf, c), c))
