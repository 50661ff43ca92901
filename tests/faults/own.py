"""l0ref's checker, run on a planted fault or on the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.tensor import Tensor, apply
from l0ref.testing import check_gradient, gradcheck
from l0ref.testing.samples import KINKS
from l0ref.testing.suites import check_kink
from l0ref.testing.verdict import GradcheckReport
from l0ref.validate import Array
from tests.faults.points import Pair, Target


def full(pair: Pair, target: Target) -> bool:
    """Whether the checker accepts the pair, entry by entry."""
    return bool(run(pair, target, fast_mode=False))


def fast(pair: Pair, target: Target) -> bool:
    """Whether it accepts the pair in fast mode."""
    return bool(run(pair, target, fast_mode=True))


def undocumented(pair: Pair, target: Target) -> bool:
    """Whether it accepts the pair without knowing which value is documented at a kink."""
    return bool(run(pair, target, fast_mode=False, documented=False))


def run(pair: Pair, target: Target, *, fast_mode: bool, seed: int = 0, documented: bool = True) -> GradcheckReport:
    """Check a pair as its users would: an operation with `gradcheck`, a surrogate with `check_gradient`.

    documented  at a kink compare with the documented value too, as `l0ref gradcheck ops` does
    """
    if target.what == "surrogate":
        return _surrogate(pair, target, fast_mode=fast_mode, seed=seed)
    func = as_function(pair, target.name)
    if target.at_kink and documented:
        (kink,) = (k for k in KINKS if k.op == target.name)
        return check_kink(kink, func=func, fast_mode=fast_mode, seed=seed)
    return gradcheck(func, target.copies, fast_mode=fast_mode, seed=seed, raise_exception=False)


def as_function(pair: Pair, name: str) -> Any:
    """The pair as a function of Tensors; its operation is not registered."""
    members = {"broadcasts": False, "forward": staticmethod(pair.forward), "vjp": staticmethod(pair.vjp)}
    op: Any = type("Planted", (), members)  # a name of its own, so that no compiled twin steps in

    def func(*xs: Tensor) -> Tensor:
        return apply(op, *xs)

    func.__name__ = name
    return func


def _surrogate(pair: Pair, target: Target, *, fast_mode: bool, seed: int) -> GradcheckReport:
    """Entry by entry in full mode; as the sum over a layer in fast mode, where entries have to move together."""

    def value(w: Array) -> Any:
        y = pair.forward(w)[0]
        return y.sum() if fast_mode else y

    def gradient(w: Array) -> Array:
        return pair.vjp(pair.forward(w)[1], np.ones(w.shape))[0]

    (w,) = target.copies
    return check_gradient(
        value, gradient, w, elementwise=not fast_mode, fast_mode=fast_mode, seed=seed, raise_exception=False
    )
