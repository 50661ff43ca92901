"""Slopes from values alone: five-point differences with an error estimate, and the two one-sided slopes.

For a function y(t) along a line, with a step h and u = h / 2,

    D(h) = (8 (y(h) - y(-h)) - (y(2h) - y(-2h))) / 12h            errs by h^4 y^(5) / 30
    D    = D(u) + (D(u) - D(h)) / 15                              Richardson: the h^4 term cancels

and |D(u) - D(h)| bounds the remaining error. Rounding adds about eps |y| / h, and eps |y''| where the terms
of the slope cancel. The one-sided slopes

    right = 2 (y(u) - y(0)) / u - (y(h) - y(0)) / h               errs by h^2; left likewise

agree in a smooth function: right - left = -h^3 y^(4) / 16, which falls 512-fold from one step to the next.
At a kink it does not fall.

The first step is 2^-10 of the scale of the entry, each further one an eighth of the one before, until
the estimate is as good as rounding allows and no kink lies within reach. In a piecewise linear network the
nearest kink is often closer than the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from l0ref.errors import GradientError
from l0ref.validate import Array

FIRST, RATIO, RUNGS = 2.0**-10, 8.0, 6  # the first step, its ratio to the next, the number of steps tried
BENT = 0.1  # share of a jump by which the slopes on one side may differ
ROUNDING = 8.0  # error of a value in units in the last place, a generous bound
CURVED = 16.0  # the same for y'', whose rounding remains where the terms of the slope cancel


class OutOfDomain(GradientError):
    """The function raised, or is not finite, at a point near the one where it is checked."""


@dataclass(frozen=True, eq=False)
class Rung:
    """Slopes of each component of y from one step h: arrays of shape (m,).

    numeric, noise     D and a bound on its error
    left, right        one-sided slopes
    jump, fuzz         right - left, and a bound on its rounding error
    growth             (y(u) - 2 y(0) + y(-u)) / u over the same with h: 1/2 where smooth, 1 at a kink
    bend               difference of the slopes between h/2, h and 2h on one side: small at a kink at t = 0, as
                       large as the jump if the jump is noise
    settled            the estimate is as good as rounding allows
    suspicious         the jump is too large for rounding and large enough to matter
    """

    h: float
    numeric: Array
    noise: Array
    left: Array
    right: Array
    jump: Array
    fuzz: Array
    growth: Array
    bend: Array
    settled: Array
    suspicious: Array


Line = Callable[[float], Array]


def rung(line: Line, y0: Array, h: float, *, eps: float, rtol: float) -> Rung:
    """Evaluate `line` at +-h/2, +-h and +-2h and return the slopes; raises OutOfDomain where it is not finite.

    line  t -> y(t), shape (m,); y0 = y(0)
    eps   spacing of the numbers the values were computed in
    rtol  a jump below rtol/20 of the slopes does not matter
    """
    u = h / 2
    values = np.array([line(t) for t in (u, -u, h, -h, 2 * h, -2 * h)])
    if not np.isfinite(values).all():
        raise OutOfDomain("the value is not finite")
    near, far, wide = values[:2], values[2:4], values[4:]
    coarse = (8 * (far[0] - far[1]) - (wide[0] - wide[1])) / (12 * h)
    fine = (8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * u)
    numeric = fine + (fine - coarse) / 15
    size = np.maximum(np.abs(y0), np.abs(values).max(axis=0))
    rounding = eps * (ROUNDING * size + np.abs(numeric)) / h  # the second: x + h is rounded as well
    spread = np.abs(fine - coarse)
    curved = CURVED * eps * np.abs(far[0] - 2 * y0 + far[1]) / h**2
    right = 2 * (near[0] - y0) / u - (far[0] - y0) / h
    left = 2 * (y0 - near[1]) / u - (y0 - far[1]) / h
    jump, fuzz = right - left, 8 * rounding
    slope = np.maximum(np.abs(left), np.abs(right))
    bends = [((a - y0) - (y0 - b)) / s for (a, b), s in ((near, u), (far, h))]
    growth = np.abs(bends[0]) / np.maximum(np.abs(bends[1]), 1e-3 * np.abs(bends[0]) + np.finfo(np.float64).tiny)
    sides = [np.abs((w - f) / h - (f - n) / u) for w, f, n in zip(wide, far, near, strict=True)]
    return Rung(
        h,
        numeric,
        2 * spread + rounding + curved,
        left,
        right,
        jump,
        fuzz,
        growth,
        np.maximum(*sides),
        settled=spread <= np.maximum(0.05 * rtol * np.abs(numeric), rounding),
        suspicious=np.abs(jump) > np.maximum(fuzz, 0.05 * rtol * slope),
    )


def ladder(line: Line, y0: Array, *, first: float, rungs: int, eps: float, rtol: float) -> list[Rung]:
    """Return rungs until every component is settled and not suspicious, or its kink is certain."""
    found: list[Rung] = []
    why: OutOfDomain | None = None
    done = np.zeros(y0.shape, dtype=bool)
    for k in range(rungs):
        try:
            found.append(rung(line, y0, first / RATIO**k, eps=eps, rtol=rtol))
        except OutOfDomain as error:
            why = error
            continue
        done |= (found[-1].settled & ~found[-1].suspicious) | _stays(found)
        if len(found) > 1:
            done |= found[-2].settled & jump_falls(found[-2], found[-1])
        if done.all():
            break
    if not found and why is not None:
        raise why
    return found


def _stays(found: list[Rung]) -> Array:
    """Whether the last three rungs show the same jump, or one that grows from each to the next."""
    if len(found) < 3:
        return np.zeros(found[-1].jump.shape, dtype=bool)
    return same_jump(found[-3:]) | growing_jump(found[-3:])


def _clean(three: list[Rung]) -> Array:
    """Whether the slope jumps at every step, and both sides of the jump are straight."""
    clean = [r.suspicious & (r.bend <= BENT * np.abs(r.jump) + r.fuzz) for r in three]
    return np.asarray(np.logical_and.reduce(clean))


def same_jump(three: list[Rung]) -> Array:
    """Whether three rungs show one jump: a kink at t = 0."""
    seen = _clean(three)
    for a, b in pairwise(three):
        seen &= np.abs(b.jump - a.jump) <= 0.05 * np.abs(a.jump)
    return np.asarray(seen)


def growing_jump(three: list[Rung]) -> Array:
    """Whether the jump grows from rung to rung without limit: infinite slopes, or a value that jumps."""
    seen = _clean(three)
    for a, b in pairwise(three):
        seen &= (np.abs(b.jump) > 1.15 * np.abs(a.jump)) & (np.sign(a.jump) == np.sign(b.jump))
    return np.asarray(seen)


def jump_falls(a: Rung, b: Rung) -> Array:
    """Whether the jump falls from one step to the next at least 64-fold, up to rounding: the function is smooth."""
    return np.asarray(np.abs(b.jump) <= np.abs(a.jump) / 64 + b.fuzz)
