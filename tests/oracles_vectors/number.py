"""Numbers at 50 digits that know how much float64 arithmetic would lose on the way to them.

A `Num` is a value and a `size`: to first order, a straightforward evaluation in float64 is off by at most
2^-53 size. Every operation rounds once, which adds |result|, and passes the errors of its operands on,
multiplied by its derivatives (running error analysis, Higham 2002, section 3.3). Inputs are exact: size 0.
One exception: a sum of many terms counts as a single rounding of all |terms| together, in whatever order it is
made. Its worst case is larger and does not happen: rounding errors of long sums grow like the root of their number.

size / |value| is the condition of the way the value was made: 1 for one rounding, large after cancellation.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

mp: Any = mpmath.mp.clone()
mp.dps = 50

NONE = mp.mpf(0)


class Num:
    """A value at 50 digits, and the size of the numbers it was made of."""

    __slots__ = ("size", "value")

    def __init__(self, value: Any, size: Any = NONE):
        self.value = mp.mpf(value)
        self.size = mp.mpf(size)

    def __add__(self, other: Any) -> Num:
        b = num(other)
        y = self.value + b.value
        rounds = abs(y) if self.value and b.value else NONE
        return Num(y, self.size + b.size + rounds)

    def __sub__(self, other: Any) -> Num:
        return self + (-num(other))

    def __mul__(self, other: Any) -> Num:
        b = num(other)
        y = self.value * b.value
        return Num(y, abs(self.value) * b.size + abs(b.value) * self.size + abs(y))

    def __truediv__(self, other: Any) -> Num:
        b = num(other)
        y = self.value / b.value
        return Num(y, (self.size + abs(y) * b.size) / abs(b.value) + abs(y))

    def __neg__(self) -> Num:
        return Num(-self.value, self.size)

    def __radd__(self, other: Any) -> Num:
        return num(other) + self

    def __rsub__(self, other: Any) -> Num:
        return num(other) - self

    def __rmul__(self, other: Any) -> Num:
        return num(other) * self

    def __rtruediv__(self, other: Any) -> Num:
        return num(other) / self


def num(x: Any) -> Num:
    """An exact number, or the Num itself."""
    return x if isinstance(x, Num) else Num(x)


def function(x: Num, y: Any, slope: Any, extra: Any = NONE) -> Num:
    """f(x), given its value and derivative there; `extra` is what evaluating f loses beside its rounding."""
    return Num(y, abs(slope) * x.size + abs(y) + extra)


def exp(x: Num) -> Num:
    y = mp.exp(x.value)
    return function(x, y, y)


def log(x: Num) -> Num:
    return function(x, mp.log(x.value), 1 / x.value)


def sqrt(x: Num) -> Num:
    y = mp.sqrt(x.value)
    return function(x, y, 1 / (2 * y)) if y else Num(0)


def power(x: Num, n: int) -> Num:
    """x^n for a whole number n."""
    y = x.value**n
    return x if n == 1 else function(x, y, n * x.value ** (n - 1))


def absolute(x: Num) -> Num:
    return Num(abs(x.value), x.size)


def total(terms: Iterable[Any]) -> Num:
    """The sum, whose size does not depend on the order: one rounding of the sum of all |terms|."""
    numbers = [num(t) for t in terms]
    value = mp.fsum(n.value for n in numbers)
    loses = mp.fsum(abs(n.value) for n in numbers) if len(numbers) > 1 else NONE
    return Num(value, mp.fsum(n.size for n in numbers) + loses)


def nums(array: Any) -> Any:
    """The float64 array as an object array of exact Nums."""
    out = np.empty(np.shape(array), object)
    for place, entry in np.ndenumerate(np.asarray(array, np.float64)):
        out[place] = Num(float(entry))
    return out


def fraction(x: Any) -> Fraction:
    """An mpf as the rational number it is."""
    sign, mantissa, exponent, _ = x._mpf_
    whole = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -whole if sign else whole


def nearest(x: Any) -> float:
    """The float64 nearest to x, ties to even, rounded once also where it is subnormal."""
    return float(fraction(mp.mpf(x)))
