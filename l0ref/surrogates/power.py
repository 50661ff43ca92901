"""The power surrogate |w|^p between the count of non-zeros and |w|."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.surrogates.base import Surrogate
from l0ref.surrogates.search import descend, polish
from l0ref.validate import Array


@dataclass(frozen=True)
class Lp(Surrogate):
    """phi(w) = |w|^p for 0 < p < 1.

    p          between 0 and 1, both excluded
    Gradient   p |w|^(p - 1) sign(w); beyond the largest float it is inf
    Kink       at w = 0 the slopes are -/+ inf; grad is 0 there
    Prox       0 up to the dead zone. Above it the larger root of x - |z| + step p x^(p - 1) = 0:
               p = 1/2  2/3 |z| (1 + cos(2/3 arccos(-(3^1.5 / 4) step |z|^-1.5)))
               p = 2/3  x = y^3, y the larger root of y^4 - |z| y + c, c = 2/3 step: with R the real root of the
                        resolvent R^3 - 4 c R - z^2 = 0 it is y = (sqrt(R) + sqrt(2 |z| / sqrt(R) - R)) / 2
               other p  Newton's iteration from |z| downward, which is monotone since x^(p - 1) is convex
    Dead zone  (2 - p) / (2 (1 - p)) x0, x0 = (2 step (1 - p))^(1 / (2 - p)), where the prox jumps to x0;
               for p = 1/2 that is 3/2 step^(2/3), for p = 2/3 it is 2 (2/3 step)^(3/4)
    Limit      the count of non-zeros as p -> 0; |w| as p -> 1
    Ref        Xu, Chang, Xu, Zhang, IEEE Trans. Neural Networks and Learning Systems 23 (2012) for p = 1/2; Cao, Sun,
               Xu 2013 for p = 2/3; both from memory [I], the prox is checked against a grid
    """

    p: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p >= 1:
            raise ArgumentError(f"p={self.p!r} must be less than 1; use L1() for p = 1 and L2() for p = 2")

    @property
    def slope_at_zero(self) -> float:
        return float("inf")

    def phi(self, u: Array) -> Array:
        return _power(u, self.p)

    def slope(self, u: Array) -> Array:
        u = np.where(u == 0, 1, u).astype(u.dtype)
        if self.p < 0.5:  # p - 1 would be rounded, an error that a tiny u magnifies
            return np.asarray(self.p * _power(np.minimum(u, np.finfo(u.dtype).max), self.p) / u)
        return np.asarray(self.p * _power(u, self.p - 1))

    def curvature(self, u: Array) -> Array:
        """phi''(u) = -p (1 - p) u^(p - 2) for u > 0."""
        return np.asarray(-(1 - self.p) * self.slope(u) / u)

    def shrink(self, a: Array, t: Array) -> Array:
        x = np.zeros_like(a)
        moves = a > self._zone(t)
        a, t = a[moves], t[moves]
        if self.p == 0.5:
            root = _half(a, t)
        elif self.p == 2 / 3:
            root = polish(_two_thirds(a, t), a, t, self.slope, self.curvature)
        else:
            root = descend(a, t, self.slope, self.curvature)
        x[moves] = root
        return x

    def threshold(self, t: float) -> float:
        return float(self._zone(np.asarray(t)))

    def _zone(self, t: Array) -> Array:
        rest = 1 - self.p
        return np.asarray((2 - self.p) / (2 * rest) * np.power(2 * rest * t, 1 / (2 - self.p)))


def _power(u: Array, p: float) -> Array:
    """u^p, computed in float64: p rounded to float32 would be another exponent."""
    return np.power(u, p, dtype=np.float64).astype(u.dtype)


def _half(a: Array, t: Array) -> Array:
    angle = np.arccos(np.maximum(-(3**1.5 / 4) * (t / a / np.sqrt(a)), -1.0))
    return np.asarray(2 / 3 * a * (1 + np.cos(2 / 3 * angle)))


def _two_thirds(a: Array, t: Array) -> Array:
    """In units where c = 1: a = c^(3/4) b, y = c^(1/4) eta, R = c^(1/2) r, and b >= 2 above the dead zone."""
    c = 2 / 3 * t
    b = np.minimum(a / c**0.75, 1e100)  # farther out the pull has vanished, and x = a
    angle = np.arccosh(3**1.5 / 16 * b**2)
    r = 4 / 3**0.5 * np.cosh(angle / 3)
    s = np.sqrt(r)
    eta = (s + np.sqrt(2 * b / s - r)) / 2
    return np.where(b < 1e100, c**0.75 * eta**3, a)
