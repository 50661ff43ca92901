"""`sparse-pivot`: layers cut to tiles by `matrix_pivoting`: the same weights stored by tiles and by single entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from l0ref.bench.suites.sparse_products import SQUARE, Product, sparse_multipliers
from l0ref.bench.work import OURS, Contender, Plan, Suite, Work, named, repeated
from l0ref.methods import METHODS
from l0ref.nn import Model, lenet_300_100, mlp
from l0ref.pruning import permute
from l0ref.sparse import CSR
from l0ref.validate import Array

AMOUNTS, BATCHES = (0.8, 0.9, 0.95), (1, 128)
CSR_OURS = "l0ref CSR"


def work(name: str, w: Array, n: int, plan: Plan) -> Work:
    """Return the product of a layer with n samples: the same weights as tiles, as single entries, and dense."""
    x = np.random.default_rng(plan.seed).standard_normal((w.shape[1], n) if n > 1 else w.shape[1], dtype=np.float32)
    p, entries = Product(w, x, SQUARE), CSR.from_dense(w)
    tiles = p.stored
    return Work(
        name,
        [
            Contender(OURS, repeated(lambda: tiles @ x), answer=named("product")),
            Contender(CSR_OURS, repeated(lambda: entries @ x), answer=named("product")),
            *sparse_multipliers(p, plan),
        ],
        {"": p.truth},
        tolerance=1e-5,
        turn=0.02,
    )


def pivoted(net: Model, amount: float) -> Model:
    """Return the network in the order that `matrix_pivoting` found, whole tiles of it masked."""
    no_data: Any = None  # the method reads weights alone
    found = METHODS["matrix_pivoting"].run(
        net, no_data, amount=amount, seed=0, scope="layer", blocksize=SQUARE, turns=2
    )
    return permute(found.model, found.record["orders"])


def works(plan: Plan) -> Iterator[Work]:
    """The first two layers of LeNet-300-100 with random weights, 80 to 95 % of each cut, with 1 and 128 samples."""
    net: Model = mlp((24, 16, 8, 4), seed=plan.seed) if plan.quick else lenet_300_100(seed=plan.seed)
    for amount in AMOUNTS[:1] if plan.quick else AMOUNTS:
        tiled = pivoted(net, amount)
        for layer in ("fc1", "fc2"):
            w = tiled.params[f"{layer}.weight"]
            for n in BATCHES:
                density = 100 * np.count_nonzero(w) / w.size
                yield work(f"{layer} in 4x4 tiles, {density:.1f} % kept, batch {n}", w, n, plan)


SUITES = (Suite("sparse-pivot", "a network cut to tiles by matrix_pivoting: tiles against single entries", works),)
