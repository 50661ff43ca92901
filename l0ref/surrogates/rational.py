"""Surrogates that are a quotient of linear functions: Geman-McClure and transformed l1, one function in two scalings.

With g > 0 both are multiples of psi(u) = u / (u + g), psi'(u) = g / (u + g)^2. For step t the prox of psi is

    t <= g^2 / 2   convex: 0 up to a = t / g
    t >  g^2 / 2   0 up to a = sqrt(2 t) - g / 2, then a jump to sqrt(2 t) - g

and above its dead zone the largest root of (x - a) (x + g)^2 + t g = 0 (`roots.rational_root`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l0ref.surrogates.base import Surrogate
from l0ref.surrogates.roots import rational_root
from l0ref.surrogates.search import polish
from l0ref.validate import Array


@dataclass(frozen=True)
class GemanMcClure(Surrogate):
    """phi(w) = beta |w| / (1 + beta |w|).

    beta       > 0, in 1 / weight; g = 1 / beta is the other usual parameter, phi = |w| / (|w| + g)
    Gradient   beta / (1 + beta |w|)^2 sign(w)
    Kink       at w = 0 the slopes are -/+ beta; grad is 0 there
    Prox       above the dead zone the largest root of (x - |z|) (x + g)^2 + step g = 0, by its cosine formula and
               one Newton step, which restores the digits the formula loses where g is far above |z|
    Dead zone  step beta if step beta^2 <= 1/2, else sqrt(2 step) - 1 / (2 beta)
    Limit      the count of non-zeros as beta -> inf; beta |w| as beta -> 0
    Ref        Geman, McClure 1987; Geman, Yang, IEEE Trans. Image Processing 4 (1995): |w| / (|w| + g) as a penalty
    Departs    Geman and McClure's own function has w^2 in place of |w|; in adaptive filtering the name is used for
               this one
    """

    beta: float

    @property
    def slope_at_zero(self) -> float:
        return self.beta

    def phi(self, u: Array) -> Array:
        t = _finite(self.beta * u)
        return np.asarray(t / (1 + t))

    def slope(self, u: Array) -> Array:
        s = 1 + self.beta * u
        return np.asarray(self.beta / s / s)

    def shrink(self, a: Array, t: Array) -> Array:
        return _shrink(a, t, 1 / self.beta)

    def threshold(self, t: float) -> float:
        return float(_threshold(np.asarray(t), 1 / self.beta))


@dataclass(frozen=True)
class TransformedL1(Surrogate):
    """phi(w) = (a + 1) |w| / (a + |w|), which is 1 at |w| = 1 for every a.

    a          > 0, in units of a weight
    Gradient   a (a + 1) / (a + |w|)^2 sign(w)
    Kink       at w = 0 the slopes are -/+ (a + 1) / a; grad is 0 there
    Prox       above the dead zone the largest root of (x - |z|) (x + a)^2 + step a (a + 1) = 0, as for GemanMcClure
    Dead zone  step (a + 1) / a if step <= a^2 / (2 (a + 1)), else sqrt(2 step (a + 1)) - a / 2
    Limit      the count of non-zeros as a -> 0; |w| as a -> inf. a + 1 times GemanMcClure(1 / a)
    Ref        Nikolova 2000; Zhang, Xin, Communications in Mathematical Sciences 15 (2017): name and prox; the formula
               is restated from memory [I] and checked against a grid
    """

    a: float

    @property
    def slope_at_zero(self) -> float:
        return (self.a + 1) / self.a

    def phi(self, u: Array) -> Array:
        u = _finite(u)
        return np.asarray(u * ((self.a + 1) / (self.a + u)))

    def slope(self, u: Array) -> Array:
        s = self.a + u
        return np.asarray(self.a / s * ((self.a + 1) / s))

    def shrink(self, a: Array, t: Array) -> Array:
        return _shrink(a, t * (self.a + 1), self.a)

    def threshold(self, t: float) -> float:
        return float(_threshold(np.asarray(t * (self.a + 1)), self.a))


def _finite(u: Array) -> Array:
    """Return u with inf replaced by the largest float, where the quotient has reached its limit: inf / inf is NaN."""
    return np.asarray(np.minimum(u, np.finfo(u.dtype).max))


def _threshold(t: Array, g: float) -> Array:
    root = np.sqrt(2 * t)
    return np.where(root <= g, t / g, root - g / 2)


def _shrink(a: Array, t: Array, g: float) -> Array:
    x = polish(
        rational_root(a, t, g),
        a,
        t,
        slope=lambda x: (g / (x + g)) / (x + g),
        curvature=lambda x: -2 * ((g / (x + g)) / (x + g)) / (x + g),
    )
    return np.where(a > _threshold(t, g), x, 0.0)
