"""Everybody who multiplies matrices: NumPy, PyTorch and SciPy, each with a BLAS of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.bench.peers.torch_setup import torch_with
from l0ref.bench.plan import Plan
from l0ref.bench.work import Contender
from l0ref.interop.extras import need
from l0ref.validate import Array


def multipliers(a: Array, b: Array, plan: Plan) -> list[Contender]:
    """Return NumPy and the plan's peers for the product of two float32 matrices."""
    products: dict[str, Callable[[], Any]] = {"NumPy": lambda: a @ b}
    if "torch" in plan.peers:
        torch = torch_with(plan.threads)
        s, t = torch.from_numpy(a), torch.from_numpy(b)
        products["torch"] = lambda: torch.mm(s, t)
    if "scipy" in plan.peers:
        sgemm = need("scipy.linalg.blas", extra="bench").sgemm
        products["SciPy"] = lambda: sgemm(1.0, b.T, a.T).T  # (b^T a^T)^T: BLAS wants columns one after another
    return [Contender(name, repeated(product), answer=_named) for name, product in products.items()]


def repeated(product: Callable[[], Any]) -> Callable[[int], Any]:
    """Return a function of n that calls `product` n times, and returns the last result."""

    def run(times: int) -> Any:
        for _ in range(times):
            found = product()
        return found

    return run


def _named(product: Any) -> dict[str, Array]:
    return {"product": np.asarray(product)}
