"""Loops for `l0ref.ops.elementwise`."""

from __future__ import annotations

import math
from typing import Any

from tests.naive import F64, common_shape, each, entry_of, table


def add(a: F64, b: F64) -> F64:
    return each(lambda p, q: p + q, a, b)


def sub(a: F64, b: F64) -> F64:
    return each(lambda p, q: p - q, a, b)


def mul(a: F64, b: F64) -> F64:
    return each(lambda p, q: p * q, a, b)


def div(a: F64, b: F64) -> F64:
    return each(lambda p, q: p / q, a, b)


def neg(x: F64) -> F64:
    return each(lambda p: -p, x)


def power(a: F64, b: F64) -> F64:
    return each(lambda p, q: math.pow(p, q), a, b)


def exp(x: F64) -> F64:
    return each(math.exp, x)


def log(x: F64) -> F64:
    return each(math.log, x)


def sqrt(x: F64) -> F64:
    return each(math.sqrt, x)


def absolute(x: F64) -> F64:
    return each(lambda p: p if p > 0 else -p, x)


def maximum(a: F64, b: F64) -> F64:
    return each(lambda p, q: p if p > q else q, a, b)


def minimum(a: F64, b: F64) -> F64:
    return each(lambda p, q: p if p < q else q, a, b)


def clip(x: F64, *, low: float, high: float) -> F64:
    return each(lambda p: low if p < low else high if p > high else p, x)


def where(a: F64, b: F64, *, condition: Any) -> F64:
    shape = common_shape(a.shape, b.shape, condition.shape)
    return table(shape, lambda *at: entry_of(a, at) if entry_of(condition, at) else entry_of(b, at))
