"""`sparse-products`: a sparse weight matrix, stored by entries or by tiles, times activations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.bench.peers import torch_with
from l0ref.bench.work import DENSE, OURS, Answers, Contender, Plan, Suite, Work, named, repeated
from l0ref.interop.extras import need
from l0ref.interop.scipy import to_scipy
from l0ref.masks.tiles import grid
from l0ref.sparse import BCSR, CSR
from l0ref.validate import Array

LAYERS = ((784, 300), (300, 100), (800, 500), (4096, 4096))  # features in and out
TINY = ((26, 18),)
DENSITIES = (50, 20, 10, 5, 2, 1, 0.5)  # percent
BATCHES = (1, 16, 128, 1024)
ENTRIES, COLUMN, SQUARE = (1, 1), (16, 1), (4, 4)  # tiles; those of one entry are stored as CSR


@dataclass(frozen=True)
class Product:
    """W X: weights w (M, D), zero outside some of its tiles, and activations x, (D, N), or (D,) for a single sample.

    blocksize  (b_r, b_c) of the tiles; (1, 1) for single entries
    """

    w: Array
    x: Array
    blocksize: tuple[int, int]

    @cached_property
    def stored(self) -> CSR | BCSR:
        """The weights in l0ref's format."""
        return (
            CSR.from_dense(self.w) if self.blocksize == ENTRIES else BCSR.from_dense(self.w, blocksize=self.blocksize)
        )

    def truth(self) -> Answers:
        """The dense product in float64 on plain NumPy."""
        return {"product": self.w.astype(np.float64) @ self.x.astype(np.float64)}


def make(layer: tuple[int, int], n: int, *, density: float, blocksize: tuple[int, int], seed: int) -> Product:
    """Return a product of random float32 arrays. density: percentage of the tiles that are kept, chosen at random."""
    rng, (d, m) = np.random.default_rng(seed), layer
    w = rng.standard_normal((m, d), dtype=np.float32)
    w *= random_mask(w.shape, density=density, blocksize=blocksize, rng=rng)
    return Product(w, rng.standard_normal((d, n) if n > 1 else d, dtype=np.float32), blocksize)


def random_mask(
    shape: tuple[int, ...], *, density: float, blocksize: tuple[int, int] = ENTRIES, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a mask (M, D) that keeps `density` percent of the tiles, at least one, chosen at random."""
    rows, columns = grid((shape[0], shape[1]), blocksize)
    keep = np.zeros(rows * columns, np.bool_)
    keep[rng.choice(keep.size, size=max(1, round(keep.size * density / 100)), replace=False)] = True
    spread = keep.reshape(rows, columns).repeat(blocksize[0], axis=0).repeat(blocksize[1], axis=1)
    return spread[: shape[0], : shape[1]]


def work(layer: tuple[int, int], n: int, density: float, plan: Plan, *, blocksize: tuple[int, int] = ENTRIES) -> Work:
    """Return one product; its name makes the figure draw all densities as one curve."""
    p = make(layer, n, density=density, blocksize=blocksize, seed=plan.seed)
    tiles = "" if blocksize == ENTRIES else "{}x{} tiles, ".format(*blocksize)
    w = p.stored
    return Work(
        f"{layer[0]} x {layer[1]}, {tiles}n = {n}, density = {density:g} %",
        [Contender(OURS, repeated(lambda: w @ p.x), answer=named("product")), *sparse_multipliers(p, plan)],
        {"": p.truth},
        tolerance=1e-5,
        turn=0.02,
    )


def works(plan: Plan) -> Iterator[Work]:
    """Every layer, batch and density, stored as single entries, and as tiles of 16x1 (n = 1) and 4x4 (n = 128).

    A layer "784 x 300" has 784 features in and 300 out: W is (300, 784), and float32. Activations are features by
    samples, as SciPy, PyTorch's sparse matrices and BLAS expect; any change of layout by a library is timed.
    The kept entries or tiles are chosen at random. A timed run multiplies the same arrays for 20 ms.
    """
    layers, batches, densities = (TINY, (1, 16), (50, 5)) if plan.quick else (LAYERS, BATCHES, DENSITIES)
    tiled = ((1, COLUMN), (16 if plan.quick else 128, SQUARE))
    for layer in layers:
        for n in batches:
            yield from (work(layer, n, density, plan) for density in densities)
        for n, blocksize in tiled:
            yield from (work(layer, n, density, plan, blocksize=blocksize) for density in densities)


def sparse_multipliers(p: Product, plan: Plan) -> list[Contender]:
    """Return NumPy's dense product and the plan's peers; all arrays are converted before the clock starts.

    SciPy stores tiles where l0ref does. PyTorch always stores single entries: its products with tiles need a GPU.
    """
    products: dict[str, Callable[[], Any]] = {f"{DENSE}, NumPy": lambda: p.w @ p.x}
    if "scipy" in plan.peers:
        stored = p.stored
        kind = "CSR" if isinstance(stored, CSR) else "BSR"
        products[f"SciPy {kind}"] = _scipy_csr(stored, p.x) if isinstance(stored, CSR) else _scipy_bsr(stored, p.x)
    if "torch" in plan.peers:
        products["torch CSR"] = _torch_csr(p, plan)
    return [Contender(name, repeated(product), answer=named("product")) for name, product in products.items()]


def _scipy_csr(w: CSR, x: Array) -> Callable[[], Any]:
    theirs = to_scipy(w)
    return lambda: theirs @ x


def _scipy_bsr(w: BCSR, x: Array) -> Callable[[], Any]:
    """SciPy's tiles must divide the matrix: it gets whole tiles, and rows beyond the edge are cut off."""
    rows, columns = (cells * size for cells, size in zip(grid(w.shape, w.blocksize), w.blocksize, strict=True))
    parts = w.values, w.pattern.indices.astype(np.int32), w.pattern.indptr
    theirs = need("scipy.sparse", extra="bench").bsr_array(parts, shape=(rows, columns))
    padded = np.zeros((columns, *x.shape[1:]), x.dtype)
    padded[: len(x)] = x
    return lambda: (theirs @ padded)[: w.shape[0]]


def _torch_csr(p: Product, plan: Plan) -> Callable[[], Any]:
    torch, w = torch_with(plan.threads), CSR.from_dense(p.w)
    parts = (torch.from_numpy(a.astype(np.int32)) for a in (w.indptr, w.indices))  # its library reads int32
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        theirs = torch.sparse_csr_tensor(*parts, torch.from_numpy(w.values.copy()), size=w.shape, check_invariants=True)
    x = torch.from_numpy(p.x)
    return lambda: theirs @ x


SUITES = (
    Suite("sparse-products", "sparse weights times activations: every layer, density and batch; takes long", works),
)
