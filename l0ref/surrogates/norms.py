"""The norms that the surrogates are compared with: l0 (the count itself), l1 and l2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from l0ref.surrogates.base import Surrogate
from l0ref.surrogates.roots import hard
from l0ref.validate import Array


@dataclass(frozen=True)
class L0(Surrogate):
    """phi(w) = 1 if w != 0, else 0: the count of non-zeros itself.

    Gradient   0 everywhere: it has no effect on a gradient step, only on a prox
    Kink       phi jumps at w = 0; grad is 0 there, slope_at_zero is inf
    Prox       hard threshold: z where |z| > sqrt(2 step), else 0
    Dead zone  sqrt(2 step)
    Limit      none: it is the count of non-zeros itself, and has no parameter
    Ref        Blumensath, Davies, Journal of Fourier Analysis and Applications 14 (2008): iterative hard thresholding
    """

    @property
    def slope_at_zero(self) -> float:
        return math.inf

    def phi(self, u: Array) -> Array:
        return np.asarray(u > 0, dtype=u.dtype)

    def slope(self, u: Array) -> Array:
        return np.zeros_like(u)

    def shrink(self, a: Array, t: Array) -> Array:
        return hard(a, np.sqrt(2 * t))

    def threshold(self, t: float) -> float:
        return math.sqrt(2 * t)


@dataclass(frozen=True)
class L1(Surrogate):
    """phi(w) = |w|.

    Gradient   sign(w): the same pull on all weights, which biases the large ones
    Kink       at w = 0 the slopes are -/+ 1; grad is 0 there
    Prox       soft threshold: max(0, |z| - step) sign(z)
    Dead zone  step
    Limit      none: it is |w| itself, and has no parameter
    Ref        Tibshirani, Journal of the Royal Statistical Society B 58 (1996): lasso
    """

    @property
    def slope_at_zero(self) -> float:
        return 1.0

    def phi(self, u: Array) -> Array:
        return u.copy()

    def slope(self, u: Array) -> Array:
        return np.ones_like(u)

    def shrink(self, a: Array, t: Array) -> Array:
        return np.asarray(np.maximum(a - t, 0.0))

    def threshold(self, t: float) -> float:
        return t


@dataclass(frozen=True)
class L2(Surrogate):
    """phi(w) = w^2, without 1/2, as in Keras and the code of the l0 paper's authors.

    Gradient   2 w: the pull vanishes at 0, so no weight becomes exactly 0
    Kink       none
    Prox       z / (1 + 2 step)
    Dead zone  0: only z = 0 goes to 0
    Limit      none: it is w^2 itself, and has no parameter
    Ref        Hoerl, Kennard, Technometrics 12 (1970): ridge regression; Krogh, Hertz 1991 (weight decay)
    """

    @property
    def slope_at_zero(self) -> float:
        return 0.0

    def phi(self, u: Array) -> Array:
        return np.asarray(np.square(u))

    def slope(self, u: Array) -> Array:
        return np.asarray(2 * u)

    def shrink(self, a: Array, t: Array) -> Array:
        return np.asarray(a / (1 + 2 * t))

    def threshold(self, t: float) -> float:
        return 0.0
