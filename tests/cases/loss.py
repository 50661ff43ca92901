"""Cases of `l0ref.ops.loss`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.cases.case import Case, Rng, normal
from tests.naive import softmax as naive


def labelled(n: int, classes: int, smoothing: float, reduction: str) -> Any:
    def options(rng: Rng) -> dict[str, Any]:
        target = rng.integers(classes, size=n)
        return {"target": target, "label_smoothing": smoothing, "reduction": reduction}

    return options


def cross_entropy_torch(th: Any, x: Any, *, target: Any, **options: Any) -> Any:
    return th.nn.functional.cross_entropy(x, th.tensor(np.asarray(target, dtype=np.int64)), **options)


def squared_torch(th: Any, a: Any, b: Any, *, reduction: str) -> Any:
    return th.nn.functional.mse_loss(a, b, reduction=reduction)


# label, N, C, smoothing, reduction, moves
SCORES = [
    ("mean", 5, 3, 0.0, "mean", True),
    ("sum", 5, 3, 0.0, "sum", True),
    ("none", 5, 3, 0.0, "none", True),
    ("smooth mean", 4, 6, 0.1, "mean", True),
    ("smooth none", 4, 6, 0.3, "none", True),
    ("all smooth", 4, 3, 1.0, "sum", True),
    ("one sample", 1, 4, 0.0, "mean", True),
    ("one class", 4, 1, 0.0, "none", False),
    ("empty batch sum", 0, 3, 0.0, "sum", False),
    ("empty batch none", 0, 3, 0.1, "none", False),
]

CASES = [
    *[
        Case(
            "CrossEntropy",
            label,
            normal((n, classes)),
            labelled(n, classes, smoothing, reduction),
            lambda ops, x, **o: ops.cross_entropy(x, **o),
            cross_entropy_torch,
            naive.cross_entropy,
            moves=moves,
        )
        for label, n, classes, smoothing, reduction, moves in SCORES
    ],
    *[
        Case(
            "MseLoss",
            f"{label} {reduction}",
            normal(shape, shape),
            {"reduction": reduction},
            lambda ops, a, b, **o: ops.mse_loss(a, b, **o),
            squared_torch,
            naive.mse_loss,
            moves=0 not in shape,
        )
        for label, shape in [("matrix", (4, 3)), ("scalar", ()), ("image", (2, 1, 3, 2)), ("empty", (0, 3))]
        for reduction in ("mean", "sum", "none")
        if (label, reduction) != ("empty", "mean")
    ],
]
