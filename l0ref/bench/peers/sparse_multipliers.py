"""Everybody who multiplies with a matrix most of which is zero: dense in NumPy, and sparse in SciPy and PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from l0ref.bench.peers.multipliers import repeated
from l0ref.bench.peers.torch_setup import torch_with
from l0ref.bench.plan import Plan
from l0ref.bench.work import DENSE, Contender
from l0ref.interop.extras import need
from l0ref.interop.scipy import to_scipy
from l0ref.masks.blocks import grid
from l0ref.sparse import BCSR, CSR
from l0ref.validate import Array

if TYPE_CHECKING:
    from l0ref.bench.suites.sparse_products import Product


def sparse_multipliers(p: Product, plan: Plan) -> list[Contender]:
    """Return NumPy's dense product and the plan's peers; all arrays are in their formats beforehand.

    SciPy stores tiles where we do, PyTorch single entries always: its products with tiles want a GPU.
    """
    products: dict[str, Callable[[], Any]] = {f"{DENSE}, NumPy": lambda: p.w @ p.x}
    if "scipy" in plan.peers:
        stored = p.stored
        kind = "CSR" if isinstance(stored, CSR) else "BSR"
        products[f"SciPy {kind}"] = _scipy_csr(stored, p.x) if isinstance(stored, CSR) else _scipy_bsr(stored, p.x)
    if "torch" in plan.peers:
        products["torch CSR"] = _torch_csr(p, plan)
    return [Contender(name, repeated(product), answer=_named) for name, product in products.items()]


def _scipy_csr(w: CSR, x: Array) -> Callable[[], Any]:
    theirs = to_scipy(w)
    return lambda: theirs @ x


def _scipy_bsr(w: BCSR, x: Array) -> Callable[[], Any]:
    """SciPy's tiles must divide the matrix: it gets whole tiles, and what is beyond the edge is cut off."""
    rows, columns = (cells * size for cells, size in zip(grid(w.shape, w.blocksize), w.blocksize, strict=True))
    parts = w.values, w.pattern.indices.astype(np.int32), w.pattern.indptr
    theirs = need("scipy.sparse", extra="bench").bsr_array(parts, shape=(rows, columns))
    padded = np.zeros((columns, *x.shape[1:]), x.dtype)
    padded[: len(x)] = x
    return lambda: (theirs @ padded)[: w.shape[0]]


def _torch_csr(p: Product, plan: Plan) -> Callable[[], Any]:
    torch, w = torch_with(plan.threads), CSR.from_dense(p.w)
    parts = (torch.from_numpy(a.astype(np.int32)) for a in (w.indptr, w.indices))  # int32 is what its library reads
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        theirs = torch.sparse_csr_tensor(*parts, torch.from_numpy(w.values.copy()), size=w.shape, check_invariants=True)
    x = torch.from_numpy(p.x)
    return lambda: theirs @ x


def _named(product: Any) -> dict[str, Array]:
    return {"product": np.asarray(product)}
