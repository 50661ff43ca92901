"""Proximal maps and dead zones without a closed form: two monotone Newton runs, and a search on a fine grid.

    h(x)  = 1/2 (x - a)^2 + t phi(x)         to be minimised over 0 <= x <= a
    h'(x) = x - a + t phi'(x)

`prox_by_newton` assumes one property of phi: there is a dip d >= 0 such that phi'' falls on [0, d] and rises on
[d, inf). Then h' is concave on [0, d] and convex on [d, inf), so h has at most two wells, one on each side
of d, and Newton's iteration for h' = 0

    from 0 upward     stays below the first root, since the tangents of a concave function lie above it;
    from a downward   stays above the last root, since the tangents of a convex function lie below it.

Both runs are monotone and need no bracket. A run that meets h'' <= 0 has no well on its side; it stops at an
ordinary point, no better than the other well. The better of the two ends is the global minimiser.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0ref.validate import Array

Function = Callable[[Array], Array]

NEWTON_STEPS = 100  # enough to halve steps down to the last digit; a run stops as soon as no entry changes


def rise(a: Array, t: Array, slope: Function, curvature: Function) -> Array:
    """Run Newton's iteration for h'(x) = 0 from x = 0 upward; 0 where h'(0) >= 0."""
    return _run(np.zeros_like(a), +1.0, a, t, slope, curvature)


def descend(a: Array, t: Array, slope: Function, curvature: Function) -> Array:
    """Run Newton's iteration for h'(x) = 0 from x = a downward."""
    return _run(a.copy(), -1.0, a, t, slope, curvature)


def polish(x: Array, a: Array, t: Array, slope: Function, curvature: Function) -> Array:
    """Take one Newton step for h'(x) = 0 near its solution, where h'' is well away from 0: it restores lost digits."""
    bend = 1 + t * curvature(x)
    sure = bend > 1e-3
    step = (x - a + t * slope(x)) / np.where(sure, bend, 1.0)
    return np.where(sure, np.clip(x - step, 0.0, a), x)


def prox_by_newton(phi: Function, slope: Function, curvature: Function, a: Array, t: Array) -> Array:
    """Minimise h over x >= 0: the better end of the two runs, the smaller one where they tie.

    A run that crossed to the other side of d may stop beside the well there, where h is higher by its last digit only
    but x is off by the square root of that; a last Newton step corrects x.
    """
    low, high = rise(a, t, slope, curvature), descend(a, t, slope, curvature)
    gain = (high - low) * ((high - a) / 2 + (low - a) / 2) + t * (phi(high) - phi(low))  # h(high) - h(low)
    return polish(np.where(gain < 0, high, low), a, t, slope, curvature)


def or_zero(phi: Function, x: Array, a: Array, t: Array) -> Array:
    """x where h(x) < h(0), else 0; tested as x / 2 + t phi(x) / x < a, so that nothing overflows or cancels."""
    some = x > 0
    at = np.where(some, x, 1.0)
    return np.where(some & (at / 2 + t * (phi(at) / at) < a), x, 0.0)


def search_threshold(phi: Function, t: float, *, slope_at_zero: float, scale: float) -> float:
    """Return inf over x > 0 of x / 2 + t phi(x) / x, for a concave phi whose natural unit of length is `scale`.

    The infimum is t phi'(0+) at x -> 0, or a minimum at some x < 2 t phi'(0+), beyond which x / 2 alone is larger.
    A grid in log x from 1e-9 scale to there is refined around its best point down to a relative width of 1e-8. At
    a minimum the error of the value is the square of that of x, so it is right to rounding.
    """
    top = t * slope_at_zero
    low, high = 1e-9 * scale, 2 * top
    best = top
    while low < high < np.inf:
        x = np.geomspace(low, high, 401)
        ratio = x / 2 + t * (phi(x) / x)
        i = int(np.argmin(ratio))
        best = min(best, float(ratio[i]))
        if high <= low * (1 + 1e-8):
            break
        low, high = float(x[max(i - 1, 0)]), float(x[min(i + 1, x.size - 1)])
    return best


def _run(x: Array, sign: float, a: Array, t: Array, slope: Function, curvature: Function) -> Array:
    for _ in range(NEWTON_STEPS):
        pull = -sign * (x - a + t * slope(x))  # how far h' is from 0, positive while the run is on its way
        bend = 1 + t * curvature(x)
        moves = (pull > 0) & (bend > 0)
        new = np.where(moves, np.clip(x + sign * pull / np.where(moves, bend, 1.0), 0.0, a), x)
        if (new == x).all():
            break
        x = new
    return x
