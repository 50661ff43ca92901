"""Cases of `l0ref.ops.softmax` (logsumexp stands with the reductions)."""

from __future__ import annotations

from tests.cases.case import Case, normal
from tests.naive import softmax as naive

ALONG: list[tuple[str, tuple[int, ...], int]] = [
    ("rows", (4, 3), 1),
    ("columns", (4, 3), 0),
    ("last of three", (2, 3, 4), -1),
    ("middle of three", (2, 3, 4), 1),
    ("vector", (5,), 0),
]
STILL: list[tuple[str, tuple[int, ...], int]] = [("empty batch", (0, 3), 1), ("one class", (4, 1), 1)]

CASES = [
    Case(op, label, normal(shape), {"axis": axis}, call, torch, loops, moves=moves)
    for op, call, torch, loops in [
        (
            "Softmax",
            lambda ops, x, **o: ops.softmax(x, **o),
            lambda th, x, *, axis: th.softmax(x, axis),
            naive.softmax,
        ),
        (
            "LogSoftmax",
            lambda ops, x, **o: ops.log_softmax(x, **o),
            lambda th, x, *, axis: th.log_softmax(x, axis),
            naive.log_softmax,
        ),
    ]
    for rows, moves in [(ALONG, True), (STILL, False)]
    for label, shape, axis in rows
]
