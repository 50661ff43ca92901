"""Dropout: random zeros while training."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError
from l0ref.ops.inputs import as_tensor
from l0ref.validate import Array, between, flag


class Dropout(Op):
    """y = x multiplier, entry by entry, where `multiplier` is drawn beforehand: 0, or 1 / (1 - p).

    Dropped entries are exactly 0, in y and in x_bar, even where x or y_bar is infinite or NaN.

    Shapes   x (...), multiplier like x, or () where nothing is dropped  ->  y like x
    VJP      x_bar = y_bar multiplier
    Ref      Srivastava et al., JMLR 15 (2014) 1929
    Departs  from the paper by scaling while training instead of scaling the weights afterwards ("inverted"), as is
             usual today: the mean of y is x, and evaluation is the identity. PyTorch multiplies infinities by 0
    """

    @staticmethod
    def forward(x: Array, *, multiplier: Array) -> tuple[Array, Saved]:
        return _kept(x, multiplier), (multiplier,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (multiplier,) = saved
        return (_kept(y_bar, multiplier),)


def _kept(x: Array, multiplier: Array) -> Array:
    return np.multiply(x, multiplier, out=np.zeros(x.shape, x.dtype), where=multiplier != 0)


def dropout(input: Any, *, p: float, training: bool, rng: np.random.Generator | None) -> Tensor:
    """Zero each entry with probability p and multiply the others by 1 / (1 - p); the identity unless `training`.

    rng  draws one number in [0, 1) for each entry, in C order, the same for float32 and float64; an entry is zeroed
         if its number is below p. Not read, and may be None, unless `training`.
    """
    x = as_tensor("input", input)
    between("p", p, 0.0, 1.0)
    if not flag("training", training):
        return apply(Dropout, x, multiplier=np.ones((), x.dtype))
    if not isinstance(rng, np.random.Generator):
        raise ArgumentError(
            f"rng={rng!r} must be a numpy Generator if training is True; pass np.random.default_rng(seed)"
        )
    scale = 1 / (1 - p) if p < 1 else 0.0
    return apply(Dropout, x, multiplier=((rng.random(x.shape) >= p) * scale).astype(x.dtype))
