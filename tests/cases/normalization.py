"""Cases of `l0ref.ops.normalization`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.cases.case import F64, Case, Rng
from tests.naive import normalization as naive

Shape = tuple[int, ...]


def inputs(shape: Shape) -> Callable[[Rng], list[F64]]:
    """x, weight, bias; every channel of x has its own mean and spread."""

    def make(rng: Rng) -> list[F64]:
        wide = (shape[1], *(1,) * (len(shape) - 2))
        mean, spread = rng.normal(size=wide), rng.uniform(0.5, 2.0, size=wide)
        return [mean + spread * rng.normal(size=shape), rng.normal(size=shape[1]), rng.normal(size=shape[1])]

    return make


def statistics(channels: int, eps: float) -> Callable[[Rng], Mapping[str, Any]]:
    """Running values, as drawn for evaluation."""
    return lambda rng: {"mean": rng.normal(size=channels), "var": rng.uniform(0.3, 3.0, size=channels), "eps": eps}


def training_call(ops: Any, x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    zeros, ones = np.zeros(weight.shape, weight.dtype), np.ones(weight.shape, weight.dtype)
    return ops.batch_norm(x, zeros, ones, weight, bias, training=True, eps=eps)[0]


def training_torch(th: Any, x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    return th.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def evaluation_call(ops: Any, x: Any, weight: Any, bias: Any, *, mean: F64, var: F64, eps: float) -> Any:
    return ops.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)[0]


def evaluation_torch(th: Any, x: Any, weight: Any, bias: Any, *, mean: F64, var: F64, eps: float) -> Any:
    return th.nn.functional.batch_norm(x, th.tensor(mean), th.tensor(var), weight, bias, training=False, eps=eps)


# A batch of two is normalised to almost exactly +-1 when eps is small: its gradient is then rounding error alone.
TRAINING: list[tuple[str, Shape, float]] = [
    ("vectors", (7, 3), 1e-5),
    ("images", (4, 3, 2, 5), 1e-5),
    ("one image", (1, 2, 3, 4), 1e-5),
    ("one channel", (5, 1), 1e-5),
    ("pixels", (6, 3, 1, 1), 1e-5),
    ("batch of two", (2, 4), 0.5),
    ("large eps", (3, 2, 2, 3), 2.0),
    ("empty batch", (0, 3), 1e-5),
    ("empty batch of images", (0, 3, 2, 4), 1e-5),
]
EVALUATION: list[tuple[str, Shape, float]] = [
    ("vectors", (5, 3), 1e-5),
    ("images", (2, 3, 4, 5), 1e-5),
    ("all sizes 1", (1, 1), 1e-3),
    ("one pixel", (1, 2, 1, 1), 0.5),
    ("empty batch", (0, 3), 1e-5),
    ("empty batch of images", (0, 3, 2, 4), 1e-5),
]

CASES = [
    *[
        Case(
            "BatchNormTraining",
            label,
            inputs(shape),
            {"eps": eps},
            training_call,
            training_torch,
            naive.batch_norm_training,
            moves=0 not in shape,
        )
        for label, shape, eps in TRAINING
    ],
    *[
        Case(
            "BatchNormEvaluation",
            label,
            inputs(shape),
            statistics(shape[1], eps),
            evaluation_call,
            evaluation_torch,
            naive.batch_norm_evaluation,
            moves=0 not in shape,
        )
        for label, shape, eps in EVALUATION
    ],
]
