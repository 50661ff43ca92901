"""Surrogates made of a sigmoid curve: arctangent and hyperbolic tangent, linear near 0 and saturating at 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from l0ref.surrogates.base import Surrogate
from l0ref.surrogates.search import prox_by_newton, search_threshold
from l0ref.validate import Array


@dataclass(frozen=True)
class Arctan(Surrogate):
    """phi(w) = (2 / pi) arctan(beta |w|).

    beta       > 0, in 1 / weight
    Gradient   (2 beta / pi) / (1 + beta^2 w^2) sign(w)
    Kink       at w = 0 the slopes are -/+ 2 beta / pi; grad is 0 there
    Prox       the best of 0 and the positive real roots of
               beta^2 x^3 - |z| beta^2 x^2 + x + 2 step beta / pi - |z| = 0, of which there are up to three. The
               outer two, the only ones that can be minima, are found by monotone Newton runs (see `search`); the
               radicals of a cubic lose their digits where beta is small. The dip of phi'' is at 1 / (sqrt(3) beta)
    Dead zone  2 step beta / pi for small step beta^2; for larger ones below that, found by search
    Limit      the count of non-zeros as beta -> inf, slowly: 1 - phi ~ 2 / (pi beta |w|); 2 beta |w| / pi as beta -> 0
    Ref        Selesnick, Bayram, IEEE Trans. Signal Processing 62 (2014), arXiv 1302.5729: log, rational and arctangent
               penalties; the cubic is ours [I]
    """

    beta: float

    @property
    def slope_at_zero(self) -> float:
        return 2 / math.pi * self.beta

    def phi(self, u: Array) -> Array:
        return np.asarray(2 / math.pi * np.arctan(self.beta * u))

    def slope(self, u: Array) -> Array:
        h = np.hypot(1, self.beta * u)  # h * h may overflow, the quotient must not
        return np.asarray(self.slope_at_zero / h / h)

    def curvature(self, u: Array) -> Array:
        """phi''(u) = -(4 beta^2 / pi) t / (1 + t^2)^2, t = beta u."""
        t = np.minimum(self.beta * u, 1e150)
        h = np.hypot(1, t)
        return np.asarray(-2 * self.beta * self.slope_at_zero * (t / h) / h / h / h)

    def shrink(self, a: Array, t: Array) -> Array:
        return prox_by_newton(self.phi, self.slope, self.curvature, a, t)

    def threshold(self, t: float) -> float:
        return search_threshold(self.phi, t, slope_at_zero=self.slope_at_zero, scale=1 / self.beta)


@dataclass(frozen=True)
class Tanh(Surrogate):
    """phi(w) = tanh(beta |w|).

    beta       > 0, in 1 / weight
    Gradient   beta / cosh(beta w)^2 sign(w)
    Kink       at w = 0 the slopes are -/+ beta; grad is 0 there
    Prox       no closed form: the better of two Newton runs, which are monotone, see `search`. The dip of phi'' is at
               artanh(1 / sqrt(3)) / beta
    Dead zone  step beta for small step beta^2; for larger ones below that, found by search
    Limit      the count of non-zeros as beta -> inf; beta |w| as beta -> 0
    Ref        no single source known for tanh in place of the l0 norm [U]; the prox is ours [I]
    """

    beta: float

    @property
    def slope_at_zero(self) -> float:
        return self.beta

    def phi(self, u: Array) -> Array:
        return np.asarray(np.tanh(self.beta * u))

    def slope(self, u: Array) -> Array:
        c = np.cosh(self.beta * u)
        return np.asarray(self.beta / c / c)

    def curvature(self, u: Array) -> Array:
        """phi''(u) = -2 beta^2 tanh(beta u) / cosh(beta u)^2."""
        return np.asarray(-2 * self.beta * self.phi(u) * self.slope(u))

    def shrink(self, a: Array, t: Array) -> Array:
        return prox_by_newton(self.phi, self.slope, self.curvature, a, t)

    def threshold(self, t: float) -> float:
        return search_threshold(self.phi, t, slope_at_zero=self.beta, scale=1 / self.beta)
