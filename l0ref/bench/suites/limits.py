"""`limits`: the peak arithmetic and bandwidth of the machine, with which the other suites can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from l0ref.bench.peers import torch_with
from l0ref.bench.traffic import triad
from l0ref.bench.work import Contender, Plan, Suite, Work, named, repeated
from l0ref.interop.extras import need
from l0ref.validate import Array


def works(plan: Plan) -> Iterator[Work]:
    """A product of two float32 matrices 2048 x 2048, and a[i] = b[i] + 3 c[i] over 3 x 64 MB: arithmetic and memory.

    `GF/s` counts a multiplication and an addition as two, `GB/s` two arrays read and one written.
    """
    n = 64 if plan.quick else 2048
    rng = np.random.default_rng(plan.seed)
    a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    yield Work(
        f"matrix product, {n} x {n}",
        multipliers(a, b, plan),
        {"": lambda: {"product": a.astype(np.float64) @ b.astype(np.float64)}},
        tolerance=1e-4,
        rate=(2.0 * n**3, "GF/s"),
    )
    size = 4096 if plan.quick else 2**24
    x, y, out = np.ones(size, np.float32), np.ones(size, np.float32), np.empty(size, np.float32)
    yield Work(
        f"triad, 3 x {4 * size / 2**20:g} MB",
        [Contender("Numba", repeated(partial(triad, x, y, out)), answer=lambda _: {"triad": out})],
        {"": lambda: {"triad": np.full(size, 4.0)}},
        rate=(12.0 * size, "GB/s"),
    )


def multipliers(a: Array, b: Array, plan: Plan) -> list[Contender]:
    """Return NumPy and the plan's peers for the product of two float32 matrices."""
    products: dict[str, Callable[[], Any]] = {"NumPy": lambda: a @ b}
    if "torch" in plan.peers:
        torch = torch_with(plan.threads)
        s, t = torch.from_numpy(a), torch.from_numpy(b)
        products["torch"] = lambda: torch.mm(s, t)
    if "scipy" in plan.peers:
        sgemm = need("scipy.linalg.blas", extra="bench").sgemm
        products["SciPy"] = lambda: sgemm(1.0, b.T, a.T).T  # (b^T a^T)^T: BLAS expects column-major arrays
    return [Contender(name, repeated(product), answer=named("product")) for name, product in products.items()]


SUITES = (Suite("limits", "limits of the machine: a matrix product, and memory bandwidth", works),)
