"""Compiled twin of `Relu`.

Why it is fast: one pass over memory for the value, where NumPy's maximum takes as long as four because it handles NaN,
and one for the cotangent, where the truth makes a mask and selects by it. The value tells which inputs were positive,
so the input itself need not be kept alive.
"""

from __future__ import annotations

import numpy as np

from l0ref.autodiff.op import Saved
from l0ref.fast.machine.policy import flat, kernel
from l0ref.validate import Array


@kernel
def positive_part(x, y):
    """y = max(x, 0); NaN stays NaN, as no comparison with it holds."""
    for i in range(y.size):
        y[i] = np.float32(0) if x[i] <= 0 else x[i]


@kernel
def where_positive(y_bar, y, x_bar):
    """x_bar = y_bar where y > 0, else 0."""
    for i in range(x_bar.size):
        x_bar[i] = y_bar[i] if y[i] > 0 else np.float32(0)


def relu_forward(x: Array) -> tuple[Array, Saved]:
    """Value of `l0ref.ops.activation.Relu`."""
    y = np.empty(x.shape, x.dtype)
    positive_part(flat(x), y.reshape(-1))
    return y, (y,)


def relu_vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
    """Cotangent of `l0ref.ops.activation.Relu`."""
    (y,) = saved
    x_bar = np.empty(y.shape, y.dtype)
    where_positive(flat(y_bar), flat(y), x_bar.reshape(-1))
    return (x_bar,)
