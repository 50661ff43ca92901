"""Cases of `l0ref.ops.activation`."""

from __future__ import annotations

from typing import Any

from tests.cases.case import Case, normal, off, positive
from tests.naive import activation as naive

SHAPES: list[tuple[str, tuple[int, ...], bool]] = [
    ("matrix", (3, 5), True),
    ("image", (2, 1, 3, 2), True),
    ("empty", (0, 3), False),
]


def rows(op: str, make: Any, call: Any, torch: Any, loops: Any, label: str = "", **options: Any) -> list[Case]:
    return [
        Case(op, f"{name}{label}", make(shape), options, call, torch, loops, moves=moves)
        for name, shape, moves in SHAPES
    ]


def scaled(*shapes: tuple[int, ...]) -> Any:
    """Normal inputs, three times as wide."""
    return lambda rng: [3 * x for x in normal(*shapes)(rng)]


def leaky(slope: float) -> list[Case]:
    return rows(
        "LeakyRelu",
        off,
        lambda ops, x, **o: ops.leaky_relu(x, **o),
        lambda th, x, **o: th.nn.functional.leaky_relu(x, **o),
        naive.leaky_relu,
        f" slope {slope}",
        negative_slope=slope,
    )


def softplus(label: str, make: Any, beta: float, threshold: float) -> list[Case]:
    return rows(
        "Softplus",
        make,
        lambda ops, x, **o: ops.softplus(x, **o),
        lambda th, x, **o: th.nn.functional.softplus(x, **o),
        naive.softplus,
        label,
        beta=beta,
        threshold=threshold,
    )


CASES = [
    *rows("Relu", off, lambda ops, x: ops.relu(x), lambda th, x: th.relu(x), naive.relu),
    Case("Relu", "one entry", positive((1,)), {}, None, lambda th, x: th.relu(x), naive.relu),
    Case("Relu", "scalar", positive(()), {}, None, lambda th, x: th.relu(x), naive.relu),
    *leaky(0.01),
    *leaky(-0.5),
    *rows("Sigmoid", scaled, lambda ops, x: ops.sigmoid(x), lambda th, x: th.sigmoid(x), naive.sigmoid),
    Case("Sigmoid", "scalar", normal(()), {}, None, lambda th, x: th.sigmoid(x), naive.sigmoid),
    *rows("Tanh", scaled, lambda ops, x: ops.tanh(x), lambda th, x: th.tanh(x), naive.tanh),
    Case("Tanh", "scalar", normal(()), {}, None, lambda th, x: th.tanh(x), naive.tanh),
    *softplus("", scaled, 1.0, 20.0),
    *softplus(" steep", normal, 2.5, 20.0),
    *softplus(" above the threshold", lambda shape: positive(shape, low=2.5, high=4.0), 10.0, 20.0),
]
