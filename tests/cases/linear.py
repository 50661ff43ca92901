"""Cases of `l0ref.ops.linear`."""

from __future__ import annotations

from tests.cases.case import Case, normal
from tests.naive import linear as naive

Shape = tuple[int, ...]

PRODUCTS: list[tuple[str, Shape, Shape]] = [
    ("matrices", (2, 3), (3, 4)),
    ("vectors", (3,), (3,)),
    ("vector on the left", (3,), (3, 4)),
    ("vector on the right", (2, 3), (3,)),
    ("stacks", (5, 2, 3), (5, 3, 4)),
    ("stack and matrix", (5, 2, 3), (3, 4)),
    ("matrix and stack", (2, 3), (5, 3, 4)),
    ("stacks that broadcast", (5, 1, 2, 3), (6, 3, 4)),
    ("stack of one", (1, 2, 3), (5, 3, 4)),
    ("vector and stack", (3,), (5, 3, 4)),
    ("stack and vector", (5, 2, 3), (3,)),
    ("size 1", (1, 1), (1, 1)),
    ("no rows", (0, 3), (3, 4)),
    ("nothing to add", (2, 0), (0, 4)),
    ("no stack", (0, 2, 3), (3, 4)),
]
LAYERS: list[tuple[str, Shape, Shape]] = [
    ("batch", (5, 3), (4, 3)),
    ("one sample", (1, 3), (4, 3)),
    ("vector", (3,), (4, 3)),
    ("two leading axes", (2, 5, 3), (4, 3)),
    ("size 1", (1, 1), (1, 1)),
    ("empty batch", (0, 3), (4, 3)),
    ("no features", (2, 0), (4, 0)),
]

CASES = [
    *[
        Case(
            "Matmul",
            label,
            normal(a, b),
            {},
            lambda ops, a, b: ops.matmul(a, b),
            lambda th, a, b: th.matmul(a, b),
            naive.matmul,
            moves=0 not in (*a, *b),
        )
        for label, a, b in PRODUCTS
    ],
    *[
        Case(
            "Linear",
            label + (" with bias" if bias else ""),
            normal(x, w, *bias),
            {},
            lambda ops, *xs: ops.linear(*xs),
            lambda th, *xs: th.nn.functional.linear(*xs),
            naive.linear,
            moves=0 not in (*x, *w),
        )
        for label, x, w in LAYERS
        for bias in ([], [w[:1]])
    ],
]
