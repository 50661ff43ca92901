"""A surrogate of the l0 norm as an operation on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError
from l0ref.surrogates import Surrogate as Record
from l0ref.validate import Array, shown


class Surrogate(Op):
    """y = phi(w) for every entry, with phi and its slope from the record given as an option.

    Shapes   w (...) -> y (...)
    VJP      w_bar = y_bar phi'(w)
    Kink     at w = 0 the slope is 0, as the records document it; where it is 0, w_bar is 0 whatever y_bar is
    """

    @staticmethod
    def forward(w: Array, *, surrogate: Record) -> tuple[Array, Saved]:
        return surrogate.value(w), (w, surrogate)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        w, phi = saved
        slope = phi.grad(w)
        return (np.where(slope == 0, 0, y_bar * slope),)


def surrogate(input: Any, surrogate: Record) -> Tensor:
    """phi(input), entry by entry, for a record of `l0ref.surrogates`; sum it to penalise a layer."""
    if not all(callable(getattr(surrogate, name, None)) for name in ("value", "grad")):
        raise ArgumentError(f"surrogate={shown(surrogate)} must have value(w) and grad(w), as Laplace(beta=5) has")
    return apply(Surrogate, input, surrogate=surrogate)
