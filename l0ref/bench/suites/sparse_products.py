"""`sparse-products`: a sparse matrix of weights times activations, single entries stored or tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from l0ref.bench.peers.multipliers import repeated
from l0ref.bench.peers.sparse_multipliers import sparse_multipliers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.work import OURS, Answers, Contender, Work
from l0ref.masks.blocks import grid
from l0ref.sparse import BCSR, CSR
from l0ref.validate import Array

LAYERS = ((784, 300), (300, 100), (800, 500), (4096, 4096))  # features in and out
TINY = ((26, 18),)
DENSITIES = (50, 20, 10, 5, 2, 1, 0.5)  # percent
BATCHES = (1, 16, 128, 1024)
ENTRIES, COLUMN, SQUARE = (1, 1), (16, 1), (4, 4)  # tiles; those of one entry are stored as CSR


@dataclass(frozen=True)
class Product:
    """W X: weights w (M, D), zero but for some of its tiles, and activations x, (D, N), or (D,) of a single sample.

    blocksize  (b_r, b_c) of the tiles; (1, 1) for single entries
    """

    w: Array
    x: Array
    blocksize: tuple[int, int]

    @cached_property
    def stored(self) -> CSR | BCSR:
        """The weights as they are stored by us."""
        return (
            CSR.from_dense(self.w) if self.blocksize == ENTRIES else BCSR.from_dense(self.w, blocksize=self.blocksize)
        )

    def truth(self) -> Answers:
        """The product in float64 on plain NumPy, zeros and all."""
        return {"product": self.w.astype(np.float64) @ self.x.astype(np.float64)}


def make(layer: tuple[int, int], n: int, *, density: float, blocksize: tuple[int, int], seed: int) -> Product:
    """Return a product of random float32 arrays. density: percent of the tiles that are kept; which, is random."""
    rng, (d, m) = np.random.default_rng(seed), layer
    w = rng.standard_normal((m, d), dtype=np.float32)
    w *= random_mask(w.shape, density=density, blocksize=blocksize, rng=rng)
    return Product(w, rng.standard_normal((d, n) if n > 1 else d, dtype=np.float32), blocksize)


def random_mask(
    shape: tuple[int, ...], *, density: float, blocksize: tuple[int, int] = ENTRIES, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a mask (M, D) that keeps this many percent of the tiles, at least one; which, is random."""
    rows, columns = grid((shape[0], shape[1]), blocksize)
    keep = np.zeros(rows * columns, np.bool_)
    keep[rng.choice(keep.size, size=max(1, round(keep.size * density / 100)), replace=False)] = True
    spread = keep.reshape(rows, columns).repeat(blocksize[0], axis=0).repeat(blocksize[1], axis=1)
    return spread[: shape[0], : shape[1]]


def work(layer: tuple[int, int], n: int, density: float, plan: Plan, *, blocksize: tuple[int, int] = ENTRIES) -> Work:
    """Return one product; named so that the figure draws all densities as one curve."""
    p = make(layer, n, density=density, blocksize=blocksize, seed=plan.seed)
    tiles = "" if blocksize == ENTRIES else "{}x{} tiles, ".format(*blocksize)
    w = p.stored
    return Work(
        f"{layer[0]} x {layer[1]}, {tiles}n = {n}, density = {density:g} %",
        [Contender(OURS, repeated(lambda: w @ p.x), answer=_named), *sparse_multipliers(p, plan)],
        {"": p.truth},
        tolerance=1e-5,
        turn=0.02,
    )


def works(plan: Plan) -> Iterator[Work]:
    """Every layer, batch and density, stored as single entries, and as tiles of 16x1 (n = 1) and 4x4 (n = 128).

    A layer "784 x 300" has 784 features in and 300 out: W is (300, 784), and float32. Activations are features by
    samples, as SciPy, PyTorch's sparse matrices and BLAS take them; what a library does to lay them out anew is timed.
    Which entries, or tiles, are kept is random. A timed run multiplies the same arrays for 20 ms.
    """
    layers, batches, densities = (TINY, (1, 16), (50, 5)) if plan.quick else (LAYERS, BATCHES, DENSITIES)
    tiled = ((1, COLUMN), (16 if plan.quick else 128, SQUARE))
    for layer in layers:
        for n in batches:
            yield from (work(layer, n, density, plan) for density in densities)
        for n, blocksize in tiled:
            yield from (work(layer, n, density, plan, blocksize=blocksize) for density in densities)


def _named(product: Array) -> Answers:
    return {"product": product}


SUITE = Suite("sparse-products", "sparse weights times activations: every layer, density and batch; takes long", works)
