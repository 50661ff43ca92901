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


def counted(
    n: int, classes: int, *, smoothing: float = 0.0, reduction: str = "mean", ignored: int | None = None
) -> Any:
    """Labels under class weights; the first and the last of them are `ignored`, if that is a label."""

    def options(rng: Rng) -> dict[str, Any]:
        target, weight = rng.integers(classes, size=n), rng.uniform(0.2, 2, size=classes)
        found = {"target": target, "label_smoothing": smoothing, "reduction": reduction, "weight": weight}
        if ignored is not None:
            target[[0, -1]] = ignored
            found["ignore_index"] = ignored
        return found

    return options


def spread(n: int, classes: int, *, weighted: bool, smoothing: float, reduction: str) -> Any:
    """Probabilities, one of them 0; the first row does not sum to 1."""

    def options(rng: Rng) -> dict[str, Any]:
        target = rng.dirichlet(np.ones(classes), size=n)
        target[0] *= 0.5
        target[1, 1] = 0
        weight = {"weight": rng.uniform(0.2, 2, size=classes)} if weighted else {}
        return {"target": target, "label_smoothing": smoothing, "reduction": reduction, **weight}

    return options


def cross_entropy_torch(th: Any, x: Any, *, target: Any, weight: Any = None, ignore_index: Any = None, **o: Any) -> Any:
    array = np.asarray(target)
    o |= {} if weight is None else {"weight": th.tensor(weight)}
    o |= {} if ignore_index is None else {"ignore_index": ignore_index}
    return th.nn.functional.cross_entropy(x, th.tensor(array if array.ndim == 2 else array.astype(np.int64)), **o)


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

# label, N, C, options, moves
WEIGHTED = [
    *[(f"weights {r}", 5, 3, counted(5, 3, reduction=r), True) for r in ("mean", "sum", "none")],
    ("weights smooth mean", 4, 6, counted(4, 6, smoothing=0.3), True),
    ("weights, label 1 ignored", 6, 3, counted(6, 3, ignored=1), True),
    ("weights smooth, -100 ignored", 6, 3, counted(6, 3, smoothing=0.2, ignored=-100), True),
    ("weights none, -1 ignored", 6, 3, counted(6, 3, reduction="none", ignored=-1), True),
    ("all ignored sum", 2, 3, counted(2, 3, reduction="sum", ignored=7), False),
    ("all ignored none", 2, 3, counted(2, 3, smoothing=0.1, reduction="none", ignored=2), False),
    *[
        (f"probabilities {r}", 4, 5, spread(4, 5, weighted=False, smoothing=0.0, reduction=r), True)
        for r in ("mean", "sum", "none")
    ],
    ("probabilities weights smooth mean", 4, 5, spread(4, 5, weighted=True, smoothing=0.2, reduction="mean"), True),
    ("empty weights sum", 0, 3, {**counted(1, 3, reduction="sum")(np.random.default_rng(0)), "target": []}, False),
    (
        "empty probabilities none",
        0,
        3,
        {"target": np.zeros((0, 3)), "label_smoothing": 0.0, "reduction": "none"},
        False,
    ),
]

CASES = [
    *[
        Case(
            "CrossEntropy",
            label,
            normal((n, classes)),
            options,
            lambda ops, x, **o: ops.cross_entropy(x, **o),
            cross_entropy_torch,
            naive.cross_entropy,
            moves=moves,
        )
        for label, n, classes, options, moves in [
            *((label, n, c, labelled(n, c, s, r), moves) for label, n, c, s, r, moves in SCORES),
            *WEIGHTED,
        ]
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
