"""A surrogate of the l0 norm as an operation on the tape."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.validate import Array


class Elementwise(Protocol):
    """What the operation needs of a surrogate: see `l0ref.surrogates` for the records that have it."""

    def value(self, w: Array) -> Array:
        """phi(w), entry by entry."""
        ...

    def grad(self, w: Array) -> Array:
        """Slope of phi at w, entry by entry; 0 at the kink w = 0."""
        ...


class Surrogate(Op):
    """y = phi(w) for every entry, with phi and its slope from the record given as an option.

    Shapes   w (...) -> y (...)
    VJP      w_bar = y_bar phi'(w)
    Kink     at w = 0 the slope is 0, as the records document it; where it is 0, w_bar is 0 whatever y_bar is
    """

    @staticmethod
    def forward(w: Array, *, surrogate: Elementwise) -> tuple[Array, Saved]:
        return surrogate.value(w), (w, surrogate)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        w, phi = saved
        slope = phi.grad(w)
        return (np.where(slope == 0, 0, y_bar * slope),)


def surrogate(input: Any, surrogate: Elementwise) -> Tensor:
    """phi(input), entry by entry, for a record of `l0ref.surrogates`; sum it to penalise a layer."""
    return apply(Surrogate, input, surrogate=surrogate)
