"""The log-sum surrogate; its minimisation by majorisation is reweighted l1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from l0ref.surrogates.base import Surrogate
from l0ref.surrogates.search import or_zero, search_threshold
from l0ref.validate import Array


@dataclass(frozen=True)
class LogSum(Surrogate):
    """phi(w) = log(1 + |w| / eps).

    eps        > 0, in units of a weight
    Gradient   sign(w) / (|w| + eps)
    Kink       at w = 0 the slopes are -/+ 1 / eps; grad is 0 there
    Prox       with D = (|z| + eps)^2 - 4 step: 0 if D < 0; else x = (|z| - eps + sqrt(D)) / 2, the larger root of
               (x - |z|) (x + eps) + step = 0, kept if it is positive and better than 0
    Dead zone  step / eps if step <= eps^2. Otherwise between 2 sqrt(step) - eps and step / eps, found by search
    Limit      phi / log(1 + 1 / eps) is the count of non-zeros as eps -> 0, slowly; eps phi -> |w| as eps -> inf.
               Not bounded: large weights are still pulled, by about 1 / |w|
    Ref        Candes, Wakin, Boyd, Journal of Fourier Analysis and Applications 14 (2008), from memory [I];
               Prater-Bennette, Shen, Tripp 2021 (prox)
    """

    eps: float

    @property
    def slope_at_zero(self) -> float:
        return 1 / self.eps

    def phi(self, u: Array) -> Array:
        y = np.asarray(np.log1p(u / self.eps))
        over = np.isinf(y)
        y[over] = np.log(u[over]) - math.log(self.eps)
        return y

    def slope(self, u: Array) -> Array:
        return np.asarray(1 / (u + self.eps))

    def shrink(self, a: Array, t: Array) -> Array:
        e, r = self.eps, 2 * np.sqrt(t)
        root = np.sqrt(np.maximum(a + e - r, 0.0)) * np.sqrt(a + e + r)  # sqrt(D), factored so that nothing overflows
        # The two roots have sum a - e and product t - a e; for a < e a subtraction would lose digits of the larger one.
        by_product = 2 * np.maximum(a * e - t, 0.0) / np.where(a < e, e - a + root, 1.0)
        x = np.where(a < e, by_product, (a - e + root) / 2)
        return or_zero(self.phi, np.where(a + e < r, 0.0, np.minimum(x, a)), a, t)

    def threshold(self, t: float) -> float:
        if t <= self.eps * self.eps:
            return t / self.eps
        return search_threshold(self.phi, t, slope_at_zero=1 / self.eps, scale=self.eps)
