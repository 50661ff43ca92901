"""Cases of `l0ref.ops.dropout`: the multiplier is drawn beforehand, so the operation is a plain function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.cases.case import F64, Case, normal
from tests.naive import dropout as naive

SEED = 20


def fixed(shape: tuple[int, ...], p: float) -> F64:
    """What `dropout` must draw from a generator of this seed."""
    keep = np.random.default_rng(SEED).random(shape) >= p
    return np.where(keep, 1 / (1 - p), 0.0)


def call(p: float, training: bool) -> Callable[..., Any]:
    def run(ops: Any, x: Any, **_: Any) -> Any:
        return ops.dropout(x, p=p, training=training, rng=np.random.default_rng(SEED))

    return run


def dropout_torch(th: Any, x: Any, *, multiplier: F64) -> Any:
    return x * th.tensor(multiplier)


# label, input, p
ROWS: list[tuple[str, tuple[int, ...], float]] = [
    ("matrix", (6, 5), 0.5),
    ("images", (2, 3, 4, 5), 0.2),
    ("mostly dropped", (7, 8), 0.9),
    ("nothing dropped", (3, 4), 0.0),
    ("one entry", (1,), 0.3),
    ("no axes", (), 0.3),
    ("empty batch", (0, 3), 0.5),
]

CASES = [
    *[
        Case(
            "Dropout",
            label,
            normal(shape),
            {"multiplier": fixed(shape, p)},
            call(p, True),
            dropout_torch,
            naive.dropout,
            moves=bool(fixed(shape, p).any()),
        )
        for label, shape, p in ROWS
    ],
    Case(
        "Dropout",
        "evaluation",
        normal((3, 4)),
        {"multiplier": np.ones(())},
        call(0.5, False),
        dropout_torch,
        naive.dropout,
    ),
]
