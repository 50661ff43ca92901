"""Surrogates that tend to 1 exponentially: Laplace (the l0 paper's) and Gaussian (smoothed l0)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l0ref.surrogates.base import Surrogate
from l0ref.surrogates.roots import lambert_w0
from l0ref.surrogates.search import or_zero, prox_by_newton, search_threshold
from l0ref.validate import Array


@dataclass(frozen=True)
class Laplace(Surrogate):
    """phi(w) = 1 - exp(-beta |w|), the surrogate of the l0 paper.

    beta       > 0, in 1 / weight; the authors' code uses 5
    Gradient   beta exp(-beta |w|) sign(w): largest at 0, halved every ln 2 / beta, below 1 % beyond ln 100 / beta
    Kink       at w = 0 the slopes are -/+ beta; grad is 0 there, their midpoint
    Prox       with tau = step beta^2 exp(-beta |z|): 0 if tau > 1/e; else x = |z| + W0(-tau) / beta, W0 the
               principal branch of Lambert's W, kept if it is better than 0
    Dead zone  step beta if step beta^2 <= 1. Otherwise above (1 + ln(step beta^2)) / beta and below
               sqrt(2 step), to which it tends as beta -> inf; found by search
    Limit      the count of non-zeros as beta -> inf; beta |w| as beta -> 0
    Ref        Bradley, Mangasarian 1998 (the function; from memory [I]); Oliveira, Batista, Seara, Neural
               Networks 171 (2024), doi 10.1016/j.neunet.2023.12.019 (as a penalty of networks); arXiv 2306.13425
               (the prox; it reports that an earlier published form missed a case)
    Departs    not in value and gradient, which are those of the authors' code; that code has no prox
    """

    beta: float

    @property
    def slope_at_zero(self) -> float:
        return self.beta

    def phi(self, u: Array) -> Array:
        return np.asarray(-np.expm1(-self.beta * u))  # 1 - exp(-t) loses every digit of a t below 1e-16

    def slope(self, u: Array) -> Array:
        half = np.exp(-0.5 * self.beta * u)  # halved, since exp(-t) alone has few digits where it is subnormal
        return np.asarray(self.beta * half * half)

    def shrink(self, a: Array, t: Array) -> Array:
        tau = np.minimum(t * self.beta * self.beta, 1e300) * np.exp(-self.beta * a)
        x = a + lambert_w0(-tau) / self.beta  # for tau > 1/e some x with h'(x) > 0, which is worse than 0
        return or_zero(self.phi, np.maximum(x, 0.0), a, t)

    def threshold(self, t: float) -> float:
        if t * self.beta * self.beta <= 1:
            return t * self.beta
        return search_threshold(self.phi, t, slope_at_zero=self.beta, scale=1 / self.beta)


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """phi(w) = 1 - exp(-w^2 / (2 sigma^2)), the surrogate of smoothed l0 (SL0).

    sigma      > 0, in units of a weight
    Gradient   w / sigma^2 exp(-w^2 / (2 sigma^2)): largest at |w| = sigma
    Kink       none: phi is smooth, with slope 0 at w = 0
    Prox       no closed form: the better of two Newton runs, which are monotone, see `search`. The dip of phi''
               is at sqrt(3) sigma
    Dead zone  0: since phi'(0) = 0, only z = 0 goes to 0. Weights come close to 0 and need a threshold
    Limit      the count of non-zeros as sigma -> 0; w^2 / (2 sigma^2) as sigma -> inf
    Ref        Mohimani, Babaie-Zadeh, Jutten, IEEE Trans. Signal Processing 57 (2009): the formula from memory [I]
    Departs    SL0 maximises the sum of exp(-w^2 / (2 sigma^2)) under constraints while sigma shrinks, by gradient
               steps; it has no prox. Value and gradient are the same up to the sign
    """

    sigma: float

    @property
    def slope_at_zero(self) -> float:
        return 0.0

    def phi(self, u: Array) -> Array:
        r = u / self.sigma
        return np.asarray(-np.expm1(-0.5 * r * r))

    def slope(self, u: Array) -> Array:
        v = self._near(u)
        r = v / self.sigma
        half = np.exp(-0.25 * r * r)  # halved for the digits of subnormal results, as in Laplace
        return np.asarray(v / self.sigma**2 * half * half)

    def curvature(self, u: Array) -> Array:
        """phi''(u) = (1 - r^2) exp(-r^2 / 2) / sigma^2, r = u / sigma."""
        r = self._near(u) / self.sigma
        return np.asarray((1 - r * r) * np.exp(-0.5 * r * r) / self.sigma**2)

    def shrink(self, a: Array, t: Array) -> Array:
        return prox_by_newton(self.phi, self.slope, self.curvature, a, t)

    def threshold(self, t: float) -> float:
        return 0.0

    def _near(self, u: Array) -> Array:
        return np.asarray(np.minimum(u, 60 * self.sigma))  # exp(-60^2 / 2) is 0 in either type
