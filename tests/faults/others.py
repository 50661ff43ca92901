"""PyTorch's `torch.autograd.gradcheck` and autograd's `check_grads`, run on a planted fault or on the truth.

Both are called as their documentation shows, with their own tolerances and steps, on the same NumPy code: the pair is
wrapped as a torch.autograd.Function, or as a primitive of autograd. Both libraries are in the extra `crosscheck`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.validate import Array
from tests.faults.points import Pair, Target

Check = Callable[[Pair, Target], bool]


def torch_slow(pair: Pair, target: Target) -> bool:
    """Whether torch.autograd.gradcheck accepts the pair."""
    return _torch(pair, target, fast_mode=False)


def torch_fast(pair: Pair, target: Target) -> bool:
    """Whether it accepts the pair with fast_mode=True."""
    return _torch(pair, target, fast_mode=True)


def _torch(pair: Pair, target: Target, *, fast_mode: bool) -> bool:
    import torch

    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *ts: Any) -> Any:
            y, ctx.kept = pair.forward(*(t.detach().numpy() for t in ts))
            return torch.from_numpy(np.array(y))

        @staticmethod
        def backward(ctx: Any, y_bar: Any) -> Any:
            return tuple(torch.from_numpy(g) for g in pair.vjp(ctx.kept, y_bar.detach().numpy()))

    xs = [torch.from_numpy(x).requires_grad_() for x in target.copies]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return bool(torch.autograd.gradcheck(Planted.apply, xs, fast_mode=fast_mode))
        except (RuntimeError, ValueError):  # GradcheckError is a RuntimeError
            return False


def autograd_grads(pair: Pair, target: Target) -> bool:
    """Whether autograd's check_grads accepts the pair, for first derivatives in reverse mode.

    Its directions come from NumPy's global random numbers, which are seeded here and put back.
    """
    from autograd.extend import defvjp_argnums, primitive
    from autograd.test_util import check_grads

    kept: list[Any] = []

    @primitive
    def planted(*xs: Array) -> Array:
        y, saved = pair.forward(*xs)
        kept[:] = [saved]
        return np.array(y)

    def maker(argnums: Any, _: Any, __: Any, ___: Any) -> Any:
        (saved,) = kept  # that of the call just made
        return lambda y_bar: tuple(pair.vjp(saved, np.asarray(y_bar))[i] for i in argnums)

    defvjp_argnums(planted, maker)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            check_grads(planted, tuple(range(len(target.xs))), modes=["rev"], order=1)(*target.copies)
        return True
    except AssertionError:
        return False
    finally:
        np.random.set_state(state)  # noqa: NPY002


OTHERS: dict[str, Check] = {"torch": torch_slow, "torch fast": torch_fast, "autograd": autograd_grads}
