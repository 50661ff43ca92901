"""Compiled steps of the optimisers, with the signatures of the plain ones in `l0ref.optim`.

Why they are fast: the plain Adam step makes a dozen arrays of the size of w, each in memory; here each entry is read
once, taken through the whole formula in registers, and written once, several entries at a time. The
arithmetic is that of the plain step, in the same order and rounded to the type of w after each operation, so that the
results are equal bit for bit. Hyper-parameters are passed in one small array of the type of w, for the same reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.fast.machine.policy import flat, kernel
from l0ref.validate import Array


@kernel
def flushed(x, least):
    """x, or 0 where |x| < least."""
    return np.float32(0) if abs(x) < least else x


@kernel
def adam_entry(w, g, m, v, rates):
    """One entry of `adam_all`: w, m and v after the step."""
    beta1, rest1, beta2, rest2 = rates[0], rates[1], rates[2], rates[3]
    correction1, correction2, lr, eps, shrink = rates[4], rates[5], rates[6], rates[7], rates[8]
    least, tiny = rates[9], rates[10]
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    step = lr / (np.sqrt(v / correction2) + eps)
    w = w * shrink - step * (m / correction1)
    return flushed(w, least), flushed(m, tiny), flushed(v, tiny)


@kernel
def adam_all(w, g, m, v, rates, w_out, m_out, v_out):
    """A step on every entry.

    rates  beta1, 1 - beta1, beta2, 1 - beta2, 1 - beta1^t, 1 - beta2^t, lr, eps, 1 - lr weight_decay, and `limits`
    """
    for i in range(w.size):
        w_out[i], m_out[i], v_out[i] = adam_entry(w[i], g[i], m[i], v[i], rates)


@kernel
def momentum_entry(w, g, v, rates, nesterov):
    """One entry of `momentum_all`: w and v after the step."""
    momentum, lr, least, tiny = rates[0], rates[1], rates[2], rates[3]
    v = momentum * v + g
    direction = g + momentum * v if nesterov else v
    return flushed(w - lr * direction, least), flushed(v, tiny)


@kernel
def momentum_all(w, g, v, rates, nesterov, w_out, v_out):
    """A step on every entry. rates: momentum, lr, and `limits`."""
    for i in range(w.size):
        w_out[i], v_out[i] = momentum_entry(w[i], g[i], v[i], rates, nesterov)


def adam_step(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    t: int,
) -> tuple[Array, Array, Array]:
    """As `l0ref.optim.adam_step`: return (w, m, v) after step number t = 1, 2, ..."""
    return adamw_step(w, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=0.0, t=t)


def adamw_step(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    t: int,
) -> tuple[Array, Array, Array]:
    """As `l0ref.optim.adamw_step`: the decay is applied to w, not added to the gradient."""
    rates = adam_rates(w.dtype, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, t=t)
    inputs = (*map(flat, (w, g, m, v)), rates)
    out = [np.empty(w.shape, w.dtype) for _ in range(3)]
    adam_all(*inputs, *(a.reshape(-1) for a in out))
    return out[0], out[1], out[2]


def momentum_step(
    w: Array, g: Array, v: Array, *, lr: float, momentum: float, nesterov: bool = False
) -> tuple[Array, Array]:
    """As `l0ref.optim.momentum_step`: return (w, v)."""
    inputs = (*map(flat, (w, g, v)), momentum_rates(w.dtype, lr=lr, momentum=momentum), bool(nesterov))
    out = [np.empty(w.shape, w.dtype) for _ in range(2)]
    momentum_all(*inputs, *(a.reshape(-1) for a in out))
    return out[0], out[1]


def adam_rates(dtype: Any, *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, t: int) -> Array:
    """Return the rates of `adam_all`."""
    averages = (beta1, 1 - beta1, beta2, 1 - beta2, 1 - beta1**t, 1 - beta2**t)
    return np.array((*averages, lr, eps, 1 - lr * weight_decay, *limits(dtype)), dtype)


def momentum_rates(dtype: Any, *, lr: float, momentum: float) -> Array:
    """Return the rates of `momentum_all`."""
    return np.array((momentum, lr, *limits(dtype)), dtype)


def limits(dtype: Any) -> tuple[float, float]:
    """Return the magnitudes below which weights and slots are 0 after a step: tiny / eps, a power of 2, and tiny."""
    tiny = float(np.finfo(dtype).tiny)
    return tiny / float(np.finfo(dtype).eps), tiny
