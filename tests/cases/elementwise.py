"""Cases of `l0ref.ops.elementwise`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.cases.case import F64, Case, Rng, distinct, normal, off, positive
from tests.naive import elementwise as naive

# two inputs: label, shapes
PAIRS: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
    ("same", (2, 3), (2, 3)),
    ("row", (4, 3), (3,)),
    ("column and row", (4, 1), (1, 3)),
    ("scalar left", (), (2, 3)),
    ("scalars", (), ()),
    ("size 1", (1, 1), (1,)),
    ("more axes", (2, 1, 4), (3, 1)),
]
EMPTY = ("empty batch", (0, 3), (3,))
SINGLE = [("matrix", (2, 3)), ("scalar", ()), ("size 1", (1,)), ("five axes", (1, 2, 1, 3, 2))]


def contest(a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[Rng], list[F64]]:
    """Two inputs no two entries of which lie closer than 0.1, each the larger one somewhere."""

    def make(rng: Rng) -> list[F64]:
        while True:
            xs = distinct(a, b)(rng)
            larger = xs[0] > xs[1]
            if larger.size < 2 or (larger.any() and not larger.all()):
                return xs

    return make


def pairs(op: str, make: Any, call: Any, torch: Any, loops: Any, *, one_sided: bool = False) -> list[Case]:
    """`one_sided`: of two single entries only one carries the result, so the other does not move."""
    rows = [
        Case(op, label, make(a, b), {}, call, torch, loops, moves=not (one_sided and label in ("scalars", "size 1")))
        for label, a, b in PAIRS
    ]
    label, a, b = EMPTY
    return [*rows, Case(op, label, make(a, b), {}, call, torch, loops, moves=False)]


def singles(op: str, make: Any, call: Any, torch: Any, loops: Any) -> list[Case]:
    rows = [Case(op, label, make(shape), {}, call, torch, loops) for label, shape in SINGLE]
    return [*rows, Case(op, "empty", make((0, 3)), {}, call, torch, loops, moves=False)]


def quotient(a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[Rng], list[F64]]:
    return lambda rng: [*normal(a)(rng), *off(b, gap=0.5)(rng)]


def power_inputs(a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[Rng], list[F64]]:
    return lambda rng: [rng.uniform(0.3, 2.0, size=a), rng.normal(size=b)]


def choice(shape: tuple[int, ...]) -> Callable[[Rng], dict[str, Any]]:
    """A condition in which both answers occur."""

    def options(rng: Rng) -> dict[str, Any]:
        size = int(np.prod(shape))
        return {"condition": (rng.permutation(size) % 2 == 0).reshape(shape)}

    return options


def where_torch(th: Any, a: Any, b: Any, *, condition: Any) -> Any:
    return th.where(th.tensor(condition), a, b)


def where_call(ops: Any, a: Any, b: Any, *, condition: Any) -> Any:
    return ops.where(condition, a, b)


WHERE = [
    Case("Where", label, normal(*shapes), choice(c), where_call, where_torch, naive.where)
    for label, shapes, c in [
        ("same", ((2, 3), (2, 3)), (2, 3)),
        ("condition is widest", ((3,), (1, 1)), (4, 3)),
        ("condition is narrow", ((4, 3), (4, 1)), (3,)),
        ("condition has size 2", ((2, 1), (1, 3)), (2, 1)),
    ]
]
CLIP = {"low": -0.5, "high": 0.75}

CASES = [
    *pairs("Add", normal, lambda ops, a, b: ops.add(a, b), lambda th, a, b: th.add(a, b), naive.add),
    *pairs("Sub", normal, lambda ops, a, b: ops.sub(a, b), lambda th, a, b: th.sub(a, b), naive.sub),
    *pairs("Mul", normal, lambda ops, a, b: ops.mul(a, b), lambda th, a, b: th.mul(a, b), naive.mul),
    *pairs("Div", quotient, lambda ops, a, b: ops.div(a, b), lambda th, a, b: th.div(a, b), naive.div),
    *pairs("Pow", power_inputs, lambda ops, a, b: ops.pow(a, b), lambda th, a, b: th.pow(a, b), naive.power),
    *pairs(
        "Maximum",
        contest,
        lambda ops, a, b: ops.maximum(a, b),
        lambda th, a, b: th.maximum(a, b),
        naive.maximum,
        one_sided=True,
    ),
    *pairs(
        "Minimum",
        contest,
        lambda ops, a, b: ops.minimum(a, b),
        lambda th, a, b: th.minimum(a, b),
        naive.minimum,
        one_sided=True,
    ),
    *singles("Neg", normal, lambda ops, x: ops.neg(x), lambda th, x: th.neg(x), naive.neg),
    *singles("Exp", normal, lambda ops, x: ops.exp(x), lambda th, x: th.exp(x), naive.exp),
    *singles("Log", positive, lambda ops, x: ops.log(x), lambda th, x: th.log(x), naive.log),
    *singles("Sqrt", positive, lambda ops, x: ops.sqrt(x), lambda th, x: th.sqrt(x), naive.sqrt),
    *singles("Abs", off, lambda ops, x: ops.abs(x), lambda th, x: th.abs(x), naive.absolute),
    *WHERE,
    *[
        Case(
            "Clip",
            label,
            make,
            CLIP,
            lambda ops, x, *, low, high: ops.clip(x, low, high),
            lambda th, x, *, low, high: th.clip(x, low, high),
            naive.clip,
            moves=moves,
        )
        for label, make, moves in [
            ("matrix", off((5, 4), kinks=(-0.5, 0.75)), True),
            ("one entry", positive((1,), low=-0.3, high=0.6), True),
            ("all outside", positive((2, 3), low=0.9, high=2.0), False),
            ("empty", normal((0, 3)), False),
        ]
    ],
]
