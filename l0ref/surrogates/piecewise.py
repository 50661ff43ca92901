"""Surrogates that are constant beyond a point: linearised Laplace, capped l1, SCAD and MCP."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.surrogates.base import Surrogate
from l0ref.surrogates.roots import firm
from l0ref.validate import Array


@dataclass(frozen=True)
class LinearizedLaplace(Surrogate):
    """phi(w) = beta |w| - beta^2 w^2 / 2 up to |w| = 1 / beta, then 1/2: the zero attractor of l0-LMS.

    Its slope is that of Laplace with exp(-beta |w|) replaced by its tangent at 0, max(0, 1 - beta |w|).

    beta       > 0, in 1 / weight
    Gradient   max(0, beta - beta^2 |w|) sign(w), continuous at |w| = 1 / beta
    Kink       at w = 0 the slopes are -/+ beta; grad is 0 there
    Identity   alpha phi is MCP(lam=alpha beta, gamma=1 / (alpha beta^2)), for every alpha > 0
    Prox       that of MCP(lam=beta, gamma=1 / beta^2); convex where step beta^2 < 1, a hard threshold beyond
    Dead zone  step beta if step beta^2 <= 1, else sqrt(step)
    Limit      half the count of non-zeros as beta -> inf: with price alpha a weight costs alpha / 2; beta |w| as
               beta -> 0
    Ref        Gu, Jin, Mei, IEEE Signal Processing Letters 16 (2009): l0-LMS. Their attractor has a factor 2,
               2 beta - 2 beta^2 |w|: a convention
    Departs    not in the published code of the l0 paper, but the root of its idea [I]
    """

    beta: float

    @property
    def slope_at_zero(self) -> float:
        return self.beta

    def phi(self, u: Array) -> Array:
        t = np.minimum(self.beta * u, 1.0)
        return np.asarray(t * (1 - t / 2))

    def slope(self, u: Array) -> Array:
        return np.asarray(self.beta * np.maximum(1 - self.beta * u, 0.0))

    def shrink(self, a: Array, t: Array) -> Array:
        return firm(a, t, self.beta, 1 / self.beta**2)

    def threshold(self, t: float) -> float:
        return min(t * self.beta, math.sqrt(t))


@dataclass(frozen=True)
class CappedL1(Surrogate):
    """phi(w) = min(|w|, theta).

    theta      > 0, in units of a weight
    Gradient   sign(w) for |w| < theta, else 0
    Kink       at w = 0 the slopes are -/+ 1, at |w| = theta they are 1 and 0; grad is 0 at both
    Prox       step <  2 theta: max(0, |z| - step) up to |z| = theta + step / 2, then z; it jumps there
               step >= 2 theta: a hard threshold at sqrt(2 step theta)
    Dead zone  min(step, sqrt(2 step theta))
    Limit      phi / theta is the count of non-zeros as theta -> 0; |w| as theta -> inf
    Ref        Zhang, Journal of Machine Learning Research 11 (2010); Gong et al. 2013 (prox as the better of
               max(theta, |z|) and min(theta, max(0, |z| - step)), of which the above is the closed form); both from
               memory [I]
    """

    theta: float

    @property
    def slope_at_zero(self) -> float:
        return 1.0

    def phi(self, u: Array) -> Array:
        return np.asarray(np.minimum(u, self.theta))

    def slope(self, u: Array) -> Array:
        return np.asarray(u < self.theta, dtype=u.dtype)

    def shrink(self, a: Array, t: Array) -> Array:
        switch = np.where(t < 2 * self.theta, self.theta + t / 2, np.sqrt(2 * t * self.theta))
        return np.where(a > switch, a, np.maximum(a - t, 0.0))

    def threshold(self, t: float) -> float:
        return min(t, math.sqrt(2 * t * self.theta))


@dataclass(frozen=True)
class SCAD(Surrogate):
    """Smoothly clipped absolute deviation.

    phi(w) = lam |w|                                               for |w| <= lam
             (2 a lam |w| - w^2 - lam^2) / (2 (a - 1))             for lam < |w| <= a lam
             (a + 1) lam^2 / 2                                     beyond

    lam        > 0, level, in units of a weight
    a          > 2; 3.7 is usual
    Gradient   lam, then (a lam - |w|) / (a - 1), then 0, times sign(w); continuous
    Kink       at w = 0 the slopes are -/+ lam; grad is 0 there
    Prox       step <  a - 1: max(0, |z| - step lam) up to |z| = (1 + step) lam; a straight line from there to
               (a lam, a lam); then z
               step >= a - 1: phi is too concave for a minimum in the middle piece, so the prox jumps from
               max(0, |z| - step lam) to z, at lam (a + 1 + step) / 2 if step < a + 1, else at lam sqrt(step (a + 1))
    Dead zone  min(step lam, lam sqrt(step (a + 1)))
    Limit      2 phi / ((a + 1) lam^2) is the count of non-zeros as lam -> 0; phi / lam is |w| as lam -> inf
    Ref        Fan, Li, Journal of the American Statistical Association 96 (2001). They give the prox for step 1, which
               is below a - 1; for larger steps it is ours [I]
    """

    lam: float
    a: float = 3.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.a <= 2:
            raise ArgumentError(f"a={self.a!r} must be greater than 2; 3.7 is usual")

    @property
    def slope_at_zero(self) -> float:
        return self.lam

    def phi(self, u: Array) -> Array:
        v = np.minimum(u, self.a * self.lam)
        straight = np.minimum(v, self.lam)
        return np.asarray(self.lam * straight + (v - straight) * ((self.lam + self.slope(v)) / 2))  # area under phi'

    def slope(self, u: Array) -> Array:
        return np.asarray(np.clip((self.a * self.lam - u) / (self.a - 1), 0.0, self.lam))

    def shrink(self, a: Array, t: Array) -> Array:
        lam, top, width = self.lam, self.a + 1, self.a - 1
        soft = np.maximum(a - t * lam, 0.0)
        line = np.minimum(lam + (a - lam * (1 + t)) * width / np.where(t < width, width - t, 1.0), a)
        convex = np.where(a <= lam * (1 + t), soft, line)
        switch = np.where(t < top, lam * (top + t) / 2, lam * np.sqrt(t * top))
        return np.where(t < width, convex, np.where(a > switch, a, soft))

    def threshold(self, t: float) -> float:
        return self.lam * min(t, math.sqrt(t * (self.a + 1)))


@dataclass(frozen=True)
class MCP(Surrogate):
    """Minimax concave penalty: phi(w) = lam |w| - w^2 / (2 gamma) up to |w| = gamma lam, then gamma lam^2 / 2.

    lam        > 0, level, in units of a weight
    gamma      > 0; the prox with step 1 is continuous if gamma > 1; 3 is usual
    Gradient   max(0, lam - |w| / gamma) sign(w)
    Kink       at w = 0 the slopes are -/+ lam; grad is 0 there
    Prox       step <  gamma: firm threshold, max(0, |z| - step lam) / (1 - step / gamma) up to |z| = gamma lam, then z
               step >= gamma: a hard threshold at lam sqrt(step gamma)
    Dead zone  min(step lam, lam sqrt(step gamma))
    Limit      2 phi / (gamma lam^2) is the count of non-zeros as lam -> 0; phi / lam is |w| as lam -> inf
    Ref        Zhang, Annals of Statistics 38 (2010), from memory [I], for step < gamma; for larger steps ours [I]
    """

    lam: float
    gamma: float = 3.0

    @property
    def slope_at_zero(self) -> float:
        return self.lam

    def phi(self, u: Array) -> Array:
        v = np.minimum(u, self.gamma * self.lam)
        return np.asarray(v * (self.lam - v / (2 * self.gamma)))

    def slope(self, u: Array) -> Array:
        return np.asarray(np.maximum(self.lam - u / self.gamma, 0.0))

    def shrink(self, a: Array, t: Array) -> Array:
        return firm(a, t, self.lam, self.gamma)

    def threshold(self, t: float) -> float:
        return self.lam * min(t, math.sqrt(t * self.gamma))
