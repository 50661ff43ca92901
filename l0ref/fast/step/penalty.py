"""Gradient of the Laplace penalty of one weight array, in one pass over the weights.

    g_i + price beta e^(-beta |w_i|) sign(w_i) + 2 l2 w_i,  exactly g_i where w_i = 0

Why it is fast: the exponential is a polynomial that the compiler evaluates for many weights at once. The C library's
exponential, called from a kernel, takes about five times as long. With t = beta |w| = k log 2 - r, k an integer and
|r| <= log(2) / 2, and p = e^r - 1,

    e^-t = 2^-k + 2^-k p

within 1.5 units in the last place.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial, log
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from l0ref.fast.machine.policy import flat, kernel
from l0ref.validate import Array

FAR = 708  # float64: e^-t is taken at t = 708 for all t beyond, 3.3e-308, just inside the range of the type
FAR32 = 104  # float32: e^-104 rounds to 0
LOG2 = Fraction("0.6931471805599453094172321214581765680755")
TERMS = 13  # powers of r in e^r - 1: the next one is below 2e-17 of it; with 7, as for float32, below 2e-8


@kernel
def decay64(t, series):
    """`decay` in float64."""
    near = t if t < FAR else np.float64(FAR)
    k = np.floor(near * series[0] + series[3])
    r = (k * series[1] - (near if t == t else t)) + k * series[2]
    p = series[13] + r * series[14]
    p = series[11] + r * (series[12] + r * p)
    p = series[9] + r * (series[10] + r * p)
    p = series[7] + r * (series[8] + r * p)
    p = series[5] + r * (series[6] + r * p)
    p = r + r * r * (series[3] + r * (series[4] + r * p))
    scale = np.int64((1023 - np.int64(k)) << 52).view(np.float64)  # 2^-k, assembled from its bits
    return scale + scale * p


@kernel
def decay32(t, series):
    """`decay` in float32: a shorter series, and 2^-k as a product of two, since it may be below the normal numbers."""
    near = t if t < np.float32(FAR32) else np.float32(FAR32)
    k = np.floor(near * series[0] + series[3])
    r = (k * series[1] - (near if t == t else t)) + k * series[2]
    p = series[7] + r * series[8]
    p = series[5] + r * (series[6] + r * p)
    p = r + r * r * (series[3] + r * (series[4] + r * p))
    whole = np.int32(k)
    half = np.int32(whole >> np.int32(1))
    scale = np.int32((np.int32(127) - half) << np.int32(23)).view(np.float32)
    scale *= np.int32((np.int32(127) - np.int32(whole - half)) << np.int32(23)).view(np.float32)
    return scale + scale * p


def decay(t: Any, series: Any) -> Any:
    """e^-t, for t >= 0 or NaN. series: 1/log 2, log 2 in two parts, 1/2!, 1/3!, ... 1/13!."""
    return (decay32 if series.dtype == np.float32 else decay64)(t, series)


@overload(decay)
def _decay_of_type(t, series):  # noqa: ARG001
    if series.dtype == types.float32:
        return lambda t, series: decay32(t, series)
    return lambda t, series: decay64(t, series)


@kernel
def pull_entry(w, e, rates):
    """price beta e sign(w) + 2 l2 w, 0 where w = 0. rates: beta, price beta, 2 l2."""
    price_beta, twice_l2 = rates[1], rates[2]
    slope = price_beta * e
    slope = -slope if w < 0 else slope
    return (w if w == 0 else slope) + twice_l2 * w


@kernel
def laplace_slopes(w, g, rates, series, out):
    """out = g + pull."""
    beta = rates[0]
    for i in range(w.size):
        e = decay(beta * abs(w[i]), series)
        out[i] = g[i] + pull_entry(w[i], e, rates)


def laplace_gradient(w: Array, g: Array, *, beta: float, price: float, l2: float = 0.0) -> Array:
    """Return g + price phi'(w) + 2 l2 w as a fresh array, shaped and typed like w."""
    out = np.empty(w.shape, w.dtype)
    laplace_slopes(flat(w), flat(g), *_numbers(w, beta, price, l2), out.reshape(-1))
    return out


def series_of(dtype: Any) -> Array:
    """Constants of `decay`."""
    high = 0.693145751953125 if dtype == np.float32 else 0.6931471803691238  # few enough bits: k high is exact
    parts = [1 / log(2), high, float(LOG2 - Fraction(high))]
    return np.array(parts + [1 / factorial(j) for j in range(2, TERMS + 1)], dtype)


def _numbers(w: Array, beta: float, price: float, l2: float) -> tuple[Array, Array]:
    """The rates and the series of the kernels, typed like w."""
    return np.array([beta, price * beta, 2 * l2], w.dtype), series_of(w.dtype)
