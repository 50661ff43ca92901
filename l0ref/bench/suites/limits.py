"""`limits`: what the machine can do at most, to judge the other suites by."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from l0ref.bench.peers.multipliers import multipliers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.traffic import triad
from l0ref.bench.work import Contender, Work


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

    def run(times: int) -> None:
        for _ in range(times):
            triad(x, y, out)

    yield Work(
        f"triad, 3 x {4 * size / 2**20:g} MB",
        [Contender("Numba", run, answer=lambda _: {"triad": out})],
        {"": lambda: {"triad": np.full(size, 4.0)}},
        rate=(12.0 * size, "GB/s"),
    )


SUITE = Suite("limits", "what the machine can do at most: a matrix product, and memory bandwidth", works)
