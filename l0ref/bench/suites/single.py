"""`batch-one`: one sample, through a sparse matrix by a prepared product, and through a compact network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from l0ref.bench.suites.sparse_net import work as network_work
from l0ref.bench.suites.sparse_products import TINY, make, sparse_multipliers
from l0ref.bench.suites.sparse_products import work as product_work
from l0ref.bench.traffic import read
from l0ref.bench.work import OURS, Contender, Plan, Suite, Work, named, repeated
from l0ref.nn import lenet_300_100, mlp
from l0ref.sparse import plan as prepared

LAYERS = ((784, 300), (300, 100), (800, 500), (4096, 4096))  # features in and out
DENSITIES = (10, 5, 1)  # percent
BANDWIDTH = "as many bytes read"


def works(plan: Plan) -> Iterator[Work]:
    """W x for one x, float32: `sparse.plan(w)` beside `w @ x`, and the peers; then LeNet-300-100 at 95 % zeros.

    GB/s are the bytes of the stored matrix and of both vectors, which a product must touch once, over the time; for
    dense contenders they mean nothing. "as many bytes read" is the bandwidth to compare with, measured alternately: all
    threads add up as many bytes. Its time over ours is the share of the bandwidth that the product reaches.
    """
    for layer in TINY if plan.quick else LAYERS:
        for density in (10,) if plan.quick else DENSITIES:
            p = make(layer, 1, density=density, blocksize=(1, 1), seed=plan.seed)
            product = prepared(p.stored)
            contenders = [
                Contender(OURS, repeated(partial(product, p.x)), answer=named("product")),
                Contender("l0ref, w @ x", repeated(partial(p.stored.__matmul__, p.x)), answer=named("product")),
                *sparse_multipliers(p, plan),
            ]
            moved = p.stored.nbytes + p.x.nbytes + p.w.shape[0] * p.w.itemsize
            if "limits" in plan.peers:
                contenders.append(Contender(BANDWIDTH, repeated(partial(read, np.ones(moved // 8, np.int64)))))
            name = f"{layer[0]} x {layer[1]}, one sample, density = {density} %"
            rate = (float(moved), "GB/s")
            yield Work(name, contenders, {"": p.truth}, tolerance=1e-5, turn=0.02, rate=rate)
    model = mlp((64, 48, 10), seed=plan.seed) if plan.quick else lenet_300_100(seed=plan.seed)
    yield network_work("a small network" if plan.quick else "LeNet-300-100", model, 1, plan)


def many(plan: Plan) -> Iterator[Work]:
    """The same weights times 128 samples, by `w @ x`: see `sparse-products`."""
    for layer in TINY if plan.quick else LAYERS:
        for density in (10,) if plan.quick else DENSITIES:
            yield product_work(layer, 16 if plan.quick else 128, density, plan)


SUITES = (
    Suite("batch-one", "one sample: prepared sparse products, and a compact network", works),
    Suite("batch-many", "128 samples times sparse weights, from 784 x 300 to 4096 x 4096", many),
)
