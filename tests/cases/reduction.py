"""Cases of `l0ref.ops.reduction` and of logsumexp."""

from __future__ import annotations

from typing import Any

from tests.cases.case import Case, distinct, normal
from tests.naive import reduction as naive

Axis = int | tuple[int, ...] | None

# label, shape, axis, keepdims
REDUCED: list[tuple[str, tuple[int, ...], Axis, bool]] = [
    ("all", (2, 3, 4), None, False),
    ("all kept", (2, 3, 4), None, True),
    ("first", (4, 3), 0, False),
    ("last", (4, 3), -1, False),
    ("last kept", (4, 3), -1, True),
    ("middle", (2, 3, 4), 1, False),
    ("outer", (2, 3, 4), (0, -1), False),
    ("outer kept", (2, 3, 4), (2, 0), True),
    ("two of four", (2, 3, 2, 5), (1, 3), False),
    ("vector", (5,), 0, False),
    ("scalar", (), None, False),
    ("size 1", (1, 1), 1, False),
    ("size 1 among others", (3, 1, 2), 1, True),
]
# nothing in the result, but something to reduce for each entry of it
EMPTY: list[tuple[str, tuple[int, ...], Axis, bool]] = [
    ("empty batch", (0, 3), 1, False),
    ("empty batch kept", (2, 0, 3), (0, 2), True),
]


def over(x: Any, axis: Axis) -> Any:
    """The axes PyTorch wants: never None."""
    return tuple(range(x.ndim)) if axis is None else axis


def rows(op: str, make: Any, call: Any, torch: Any, loops: Any) -> list[Case]:
    table = [*((row, True) for row in REDUCED), *((row, False) for row in EMPTY)]
    return [
        Case(op, label, make(shape), {"axis": axis, "keepdims": keepdims}, call, torch, loops, moves=moves)
        for (label, shape, axis, keepdims), moves in table
    ]


CASES = [
    *rows(
        "Sum",
        normal,
        lambda ops, x, **o: ops.sum(x, **o),
        lambda th, x, *, axis, keepdims: th.sum(x, over(x, axis), keepdim=keepdims),
        naive.total,
    ),
    Case("Sum", "over nothing", normal((0, 3)), {"axis": 0, "keepdims": False}, None, None, naive.total, moves=False),
    *rows(
        "Mean",
        normal,
        lambda ops, x, **o: ops.mean(x, **o),
        lambda th, x, *, axis, keepdims: th.mean(x, over(x, axis), keepdim=keepdims),
        naive.mean,
    ),
    *rows(
        "Max",
        distinct,
        lambda ops, x, **o: ops.max(x, **o),
        lambda th, x, *, axis, keepdims: th.amax(x, over(x, axis), keepdim=keepdims),
        naive.largest,
    ),
    *rows(
        "Logsumexp",
        normal,
        lambda ops, x, **o: ops.logsumexp(x, **o),
        lambda th, x, *, axis, keepdims: th.logsumexp(x, over(x, axis), keepdim=keepdims),
        naive.logsumexp,
    ),
]
