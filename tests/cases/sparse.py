"""Cases of `l0ref.sparse`: patterns with empty rows and columns, none, one and all entries, tiles that overhang."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref import sparse
from l0ref.sparse import BlockPattern, Pattern
from tests.cases.case import Case, normal
from tests.naive import sparse as naive

Mask = NDArray[np.bool_]
Shape = tuple[int, ...]


def some(rows: int, columns: int, density: float = 0.4) -> Mask:
    """The same mask each time, with at least one entry; others for other sizes."""
    mask: Mask = np.random.default_rng([rows, columns]).random((rows, columns)) < density
    mask[rows // 2, columns // 2] = True
    return mask


def with_gaps() -> Mask:
    """Rows 0, 3 and 6 and columns 0, 2 and 4 of 7 x 5 are empty: at both ends and within."""
    mask = np.ones((7, 5), bool)
    mask[::3] = mask[:, ::2] = False
    return mask


MASKS: list[tuple[str, Mask]] = [
    ("a few entries", some(4, 6)),
    ("wide", some(3, 11, 0.2)),
    ("gaps", with_gaps()),
    ("full", np.ones((3, 5), bool)),
    ("size 1", np.ones((1, 1), bool)),
    ("one row", some(1, 6)),
    ("one column", some(6, 1)),
    ("one entry", np.eye(4, 5, 3, dtype=bool)),
    ("all zero", np.zeros((3, 4), bool)),
    ("no rows", np.ones((0, 3), bool)),
    ("no columns", np.ones((3, 0), bool)),
    ("nothing", np.ones((0, 0), bool)),
]
BLOCKS: list[tuple[str, Mask, tuple[int, int]]] = [
    ("tiles fit", some(6, 8, 0.1), (2, 4)),
    ("tiles overhang", some(5, 7, 0.1), (2, 3)),
    ("tall tiles", some(9, 3, 0.1), (4, 1)),
    ("tile wider than matrix", some(3, 2), (2, 5)),
    ("tile larger than matrix", some(2, 3), (4, 5)),
    ("tiles of 1", some(3, 4), (1, 1)),
    ("tiles, gaps", with_gaps(), (3, 1)),
    ("all tiles", np.ones((5, 6), bool), (3, 4)),
    ("tile, size 1", np.ones((1, 1), bool), (1, 1)),
    ("no tiles", np.zeros((3, 4), bool), (2, 2)),
    ("tiles, no rows", np.ones((0, 3), bool), (2, 2)),
    ("tiles, no columns", np.ones((3, 0), bool), (2, 2)),
]
ROWS = [(label, Pattern.from_mask(mask)) for label, mask in MASKS]
TILES = [(label, BlockPattern.from_mask(mask, blocksize=size)) for label, mask, size in BLOCKS]
PATTERNS: list[tuple[str, Any]] = [*ROWS, *TILES]


def dense(th: Any, values: Any, pattern: Any) -> Any:
    """The matrix, dense, as a differentiable function of its values."""
    found = list(naive.stored(pattern))
    w = th.zeros(pattern.shape, dtype=values.dtype)
    at, m, d = ([entry[i] for entry in found] for i in range(3))
    if found:
        w[m, d] = values[tuple(th.tensor(axis) for axis in zip(*at, strict=True))]
    return w + 0 * values.sum()  # depends on the values even where nothing is stored


def sampled(th: Any, a: Any, b: Any, *, pattern: Any) -> Any:
    """The stored entries of the dense product."""
    found, every = list(naive.stored(pattern)), a @ b.T
    out = th.zeros(pattern.values_shape, dtype=a.dtype) + 0 * every.sum()
    for at, m, d in found:
        out[at] = every[m, d]
    return out


def product(th: Any, values: Any, x: Any, *, pattern: Any, transposed: bool) -> Any:
    w = dense(th, values, pattern)
    return (w.T if transposed else w) @ x


def affine(th: Any, x: Any, values: Any, bias: Any = None, *, pattern: Any) -> Any:
    return th.nn.functional.linear(x, dense(th, values, pattern), bias)


def moves(pattern: Any, *sizes: int) -> bool:
    return pattern.nnz > 0 and 0 not in sizes


CLOSELY = ("a few entries", "tiles overhang")  # patterns that meet every number of samples


def samples(label: str) -> tuple[int, ...]:
    return (0, 1, 3) if label in CLOSELY else (2,)


def reads(pattern: Any, transposed: bool) -> int:
    """How many features the product reads."""
    size: int = pattern.shape[0 if transposed else 1]
    return size


PRODUCTS = [
    Case(
        "SpMM",
        f"{label}{', transposed' * transposed}, n={n}",
        normal(pattern.values_shape, (reads(pattern, transposed), n)),
        {"pattern": pattern, "transposed": transposed},
        lambda _ops, *xs, **options: sparse.spmm(*xs, **options),
        product,
        naive.spmm,
        moves=moves(pattern, n),
    )
    for label, pattern in PATTERNS
    for transposed in (False, True)
    for n in samples(label)
]
VECTORS = [
    Case(
        "SpMV",
        f"{label}{', transposed' * transposed}",
        normal(pattern.values_shape, (reads(pattern, transposed),)),
        {"pattern": pattern, "transposed": transposed},
        lambda _ops, *xs, **options: sparse.spmv(*xs, **options),
        product,
        naive.spmv,
        moves=moves(pattern),
    )
    for label, pattern in PATTERNS
    for transposed in (False, True)
]
SAMPLED = [
    Case(
        "SDDMM",
        f"{label}, n={n}",
        normal((pattern.shape[0], n), (pattern.shape[1], n)),
        {"pattern": pattern},
        lambda _ops, *xs, **options: sparse.sddmm(*xs, **options),
        sampled,
        naive.sddmm,
        moves=moves(pattern, n),
    )
    for label, pattern in PATTERNS
    for n in samples(label)
]
BATCHES: list[Shape] = [(5,), (1,), (0,), (), (2, 3)]
LAYERS = [
    Case(
        name,
        f"{label}, batch {'x'.join(map(str, lead)) or 'vector'}{' with bias' if bias else ''}",
        normal((*lead, pattern.shape[1]), pattern.values_shape, *[pattern.shape[:1]] * bias),
        {"pattern": pattern},
        lambda _ops, *xs, _call=call, **options: _call(*xs, **options),
        affine,
        naive.linear,
        moves=moves(pattern, *lead),
    )
    for name, patterns, call in (
        ("SparseLinear", ROWS, sparse.sparse_linear),
        ("BlockSparseLinear", TILES, sparse.block_sparse_linear),
    )
    for label, pattern in patterns
    for lead in (BATCHES if label in CLOSELY else [(4,)])
    for bias in (0, 1)
]

# label, input, kernel, density, what is not the default
IMAGES: list[tuple[str, Shape, Shape, float, dict[str, Any]]] = [
    ("plain", (2, 3, 6, 5), (4, 3, 3, 2), 0.3, {}),
    ("full", (2, 3, 5, 6), (4, 3, 2, 3), 1.0, {}),
    ("strided", (2, 3, 8, 9), (4, 3, 3, 2), 0.3, {"stride": (2, 3)}),
    ("stride leaves a remainder", (1, 2, 7, 8), (3, 2, 2, 3), 0.5, {"stride": (3, 2)}),
    ("padded", (2, 3, 4, 5), (2, 3, 3, 3), 0.3, {"padding": (1, 2)}),
    ("padding wider than kernel", (1, 2, 3, 2), (3, 2, 2, 1), 0.5, {"padding": (3, 1)}),
    ("dilated", (2, 3, 8, 9), (4, 3, 3, 2), 0.3, {"dilation": (2, 3)}),
    ("grouped", (2, 6, 5, 4), (9, 2, 3, 2), 0.3, {"groups": 3}),
    ("depthwise", (2, 3, 5, 6), (3, 1, 2, 3), 0.5, {"groups": 3}),
    (
        "everything",
        (2, 4, 9, 8),
        (6, 2, 3, 2),
        0.4,
        {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 3), "groups": 2},
    ),
    ("kernel as large as image", (2, 3, 4, 5), (6, 3, 4, 5), 0.2, {}),
    ("all sizes 1", (1, 1, 1, 1), (1, 1, 1, 1), 1.0, {}),
    ("one weight", (2, 3, 5, 4), (4, 3, 2, 3), 0.0, {}),
    ("empty batch", (0, 3, 5, 4), (2, 3, 3, 2), 0.4, {}),
    ("image of padding only", (2, 3, 0, 2), (4, 3, 2, 2), 0.4, {"padding": (1, 0)}),
]
DEFAULTS = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}


def conv2d_torch(
    th: Any, x: Any, values: Any, b: Any = None, *, pattern: Any, kernel_shape: Any, **options: Any
) -> Any:
    return th.nn.functional.conv2d(x, dense(th, values, pattern).reshape(kernel_shape), b, **options)


KERNELS: list[tuple[str, Shape, Shape, Mask, dict[str, Any]]] = [
    *((label, x, k, some(k[0], k[1] * k[2] * k[3], density), options) for label, x, k, density, options in IMAGES),
    ("all zero", (2, 3, 4, 5), (2, 3, 2, 2), np.zeros((2, 12), bool), {}),
]
CONVOLUTIONS = [
    Case(
        "SparseConv2d",
        f"{label}{' with bias' if bias else ''}",
        normal(x, pattern.values_shape, *[kernel[:1]] * bias),
        {**DEFAULTS, **options, "pattern": pattern, "kernel_shape": kernel},
        lambda _ops, *xs, **options: sparse.sparse_conv2d(*xs, **options),
        conv2d_torch if 0 not in x[2:] else None,  # PyTorch refuses an image without pixels
        naive.conv2d,
        moves=0 not in x and pattern.nnz > 0,
    )
    for label, x, kernel, mask, options in KERNELS
    for pattern in [Pattern.from_mask(mask)]
    for bias in (0, 1)
]

CASES = [*PRODUCTS, *VECTORS, *SAMPLED, *LAYERS, *CONVOLUTIONS]
