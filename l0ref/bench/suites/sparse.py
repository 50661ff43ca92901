"""`sparse`: where zeros save time and where they do not: products, a fine-tuning step, convolutions, networks."""

from __future__ import annotations

from collections.abc import Iterator

from l0ref.bench.suites import sparse_conv, sparse_net, sparse_products, sparse_step
from l0ref.bench.suites.sparse_products import COLUMN, DENSITIES, SQUARE
from l0ref.bench.work import Plan, Suite, Work

MOST, FEW = (50, 20, 10, 5, 1), (10, 5, 1)  # percent kept
FULLY_CONNECTED = ((784, 300), (300, 100), (800, 500))  # features in and out, of the LeNets
LARGE = (4096, 4096)


def works(plan: Plan) -> Iterator[Work]:
    """A selection from `sparse-products`, `sparse-step`, `sparse-conv`, and all of `sparse-net`: see docs/sparse.md.

    Products with 128 samples of 784 x 300 at every density, of 300 x 100 and 800 x 500 at most densities; everything
    else at 90, 95 and 99 % zeros.
    """
    if plan.quick:
        for suite in (sparse_products, sparse_step, sparse_conv, sparse_net):
            yield from suite.works(plan)
        return
    yield from _products(plan)
    for layer in FULLY_CONNECTED:
        yield from (sparse_step.work(layer, density, plan) for density in FEW)
    for size in sparse_conv.SIZES:
        yield from (sparse_conv.work(size, density, plan) for density in FEW)
    yield from sparse_net.works(plan)


def _products(plan: Plan) -> Iterator[Work]:
    work, (first, second, third) = sparse_products.work, FULLY_CONNECTED
    for layer, densities in ((first, DENSITIES), (second, MOST), (third, MOST), (LARGE, FEW)):
        yield from (work(layer, 128, density, plan) for density in densities)
    for layer in (*FULLY_CONNECTED, LARGE):
        yield from (work(layer, 1, density, plan) for density in FEW)
    for layer in (first, LARGE):
        yield from (work(layer, 1, density, plan, blocksize=COLUMN) for density in FEW)
    for layer in (first, third):
        yield from (work(layer, 128, density, plan, blocksize=SQUARE) for density in FEW)


SUITES = (Suite("sparse", "where zeros save time and where not: products, fine-tuning, convolutions, networks", works),)
