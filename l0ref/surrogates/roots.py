"""Closed forms used by the proximal maps: Lambert's W, the largest root of a cubic, hard and firm thresholds.

All functions work on flat float64 arrays and are exact up to rounding unless their docstrings say otherwise.
"""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array

HALLEY_STEPS = 3  # from the starts below, enough for the last digit anywhere in [-1/e, 0]


def lambert_w0(y: Array) -> Array:
    """The principal branch w of w exp(w) = y for -1/e <= y <= 0: -1 <= w <= 0.

    Start   y < -0.25: the series in p = sqrt(2 (1 + e y)) around the branch point w = -1;
            else the series y - y^2 + 3/2 y^3 around 0
    Steps   Halley's, cubic: f = w e^w - y, w <- w - f / (e^w (w + 1) - f (w + 2) / (2 (w + 1)))

    A y below -1/e, where W is not real, is treated as -1/e. Near the branch point W depends on y like a square
    root, so y determines it only to an accuracy of sqrt(machine epsilon) there.

    Ref   Corless, Gonnet, Hare, Jeffrey, Knuth 1996, On the Lambert W function
    """
    y = np.maximum(y, -np.exp(-1.0))
    p = np.sqrt(np.maximum(2 * (1 + np.e * y), 0.0))
    w = np.where(y < -0.25, -1 + p * (1 - p * (1 / 3 - 11 / 72 * p)), y * (1 - y * (1 - 1.5 * y)))
    for _ in range(HALLEY_STEPS):
        ew = np.exp(w)
        f = w * ew - y
        slope = np.maximum(w + 1, 1e-9)  # at the branch point both f and the slope vanish
        w = np.clip(w - f / (ew * slope - f * (w + 2) / (2 * slope)), -1.0, 0.0)
    return w


def rational_root(a: Array, t: Array, g: float) -> Array:
    """The largest root x of the cubic (x - a) (x + g)^2 + t g = 0, for values of a with three real roots.

    With y = x + g and s = a + g it is y^3 - s y^2 + t g = 0, whose largest root is
    y = s/3 (1 + 2 cos(f / 3)), cos f = 1 - 27 t g / (2 s^3).

    The result is accurate to a few ulp of a + g, so for g far above a a Newton step has to follow.
    """
    s = a + g
    f = np.arccos(np.clip(1 - 13.5 * ((t / s) / s) * (g / s), -1.0, 1.0))
    return np.clip((2 * s * np.cos(f / 3) - 2 * g + a) / 3, 0.0, a)


def hard(a: Array, threshold: Array | float) -> Array:
    """a where it lies above the threshold, else 0."""
    return np.where(a > threshold, a, 0.0)


def firm(a: Array, t: Array, lam: float, gamma: float) -> Array:
    """The prox of phi(x) = lam x - x^2 / (2 gamma) up to x = gamma lam, constant from there on, at a > 0 with step t.

    t < gamma    convex: 0 up to a = t lam, then (a - t lam) / (1 - t / gamma), and a from gamma lam on.
                 The middle piece is below a exactly where a < gamma lam, so the smaller of the two is right
    t >= gamma   concave up to gamma lam, so the minimiser is 0 or a: a hard threshold at lam sqrt(t gamma),
                 where 1/2 a^2 = t gamma lam^2 / 2

    Ref   Gao and Bruce 1997 (the name); Zhang 2010 for t < gamma
    """
    convex = t < gamma
    ramp = np.maximum(a - t * lam, 0.0) / np.where(convex, 1 - t / gamma, 1.0)
    return np.where(convex, np.minimum(ramp, a), hard(a, lam * np.sqrt(t * gamma)))
