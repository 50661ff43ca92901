"""The tape: what `grad` returns on any graph, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, apply, grad
from l0ref.errors import ArgumentError, DTypeError, GradientError, ShapeError


def scalar(value: float) -> Tensor:
    return Tensor(np.asarray(value))


def slopes(y: Tensor, *wrt: Tensor) -> list[float]:
    return [float(g) for g in grad(y, list(wrt))]


# Graphs


def test_tensor_used_twice_receives_both_cotangents() -> None:
    x = scalar(3.0)
    assert slopes(x * x, x) == [6.0]
    assert slopes(x + x, x) == [2.0]
    assert slopes(x - x, x) == [0.0]
    assert slopes(x * x * x, x) == [27.0]


def test_x_to_the_x() -> None:
    x = scalar(1.7)
    assert slopes(x**x, x) == pytest.approx([1.7**1.7 * (math.log(1.7) + 1)], rel=1e-15)


def test_parents_wait_for_all_their_children() -> None:
    a = scalar(1.0)
    b = a + a
    c = b + b
    assert slopes(c, a, b, c) == [4.0, 2.0, 1.0]
    assert slopes(c + a, a, b) == [5.0, 2.0]
    assert slopes(a + c, a, b) == [5.0, 2.0]


def test_diamonds_in_a_row() -> None:
    x = y = scalar(1.0)
    for _ in range(50):
        y = y * 0.5 + y * 0.75
    assert slopes(y, x) == pytest.approx([1.25**50], rel=1e-14)


def test_long_chain_and_its_deletion() -> None:
    x = y = scalar(1.0)
    for _ in range(10_000):
        y = y + x
    assert slopes(y, x) == [10_001.0]
    del y
    assert slopes(x * 2.0, x) == [2.0]


def path_sum(edges: dict[int, list[tuple[int, float]]], node: int, leaf: int) -> float:
    """Sum over all paths from `node` down to `leaf` of the product of local derivatives on the way."""
    if node == leaf:
        return 1.0
    return math.fsum(slope * path_sum(edges, below, leaf) for below, slope in edges.get(node, []))


def depends(edges: dict[int, list[tuple[int, float]]], node: int, leaf: int) -> bool:
    """Whether any path leads from `node` down to `leaf`."""
    return node == leaf or any(depends(edges, below, leaf) for below, _ in edges.get(node, []))


STEPS: dict[str, tuple[int, Callable[..., Any], Callable[..., list[float]]]] = {
    "add": (2, ops.add, lambda *_: [1.0, 1.0]),
    "sub": (2, ops.sub, lambda *_: [1.0, -1.0]),
    "mul": (2, ops.mul, lambda a, b: [b, a]),
    "tanh": (1, ops.tanh, lambda a: [1 / math.cosh(a) ** 2]),
    "neg": (1, ops.neg, lambda *_: [-1.0]),
    "sigmoid": (1, ops.sigmoid, lambda a: [math.exp(-a) / (1 + math.exp(-a)) ** 2]),
}


@pytest.mark.parametrize("seed", range(25))
def test_random_graph_equals_sum_over_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    leaves = 3
    nodes = [scalar(float(v)) for v in rng.uniform(-1, 1, size=leaves)]
    edges: dict[int, list[tuple[int, float]]] = {}
    for _ in range(12):
        inputs, f, local = STEPS[str(rng.choice(sorted(STEPS)))]
        chosen = [int(i) for i in rng.integers(max(0, len(nodes) - 5), len(nodes), size=inputs)]
        values = [float(nodes[i]) for i in chosen]
        edges[len(nodes)] = list(zip(chosen, local(*values), strict=True))
        nodes.append(f(*(nodes[i] for i in chosen)))
    last, reached = len(nodes) - 1, 0
    sizes = {node: [(below, abs(slope)) for below, slope in down] for node, down in edges.items()}
    for i, node in enumerate(nodes):
        if not depends(edges, last, i):
            with pytest.raises(GradientError, match=r"^wrt\[0\] of shape \(\): y does not depend on it"):
                grad(nodes[last], [node])
            continue
        (got,) = slopes(nodes[last], node)
        assert abs(got - path_sum(edges, last, i)) <= 1e-13 * path_sum(sizes, last, i)
        reached += 1
    assert reached > 1


# Calls


def test_second_call_equals_the_first() -> None:
    x = Tensor(np.array([1.0, 2.0, 3.0]))
    y = ops.sum(x * x * x)
    (first,), (second,) = grad(y, [x]), grad(y, [x])
    np.testing.assert_array_equal(first, second)
    first[...] = 0
    np.testing.assert_array_equal(grad(y, [x])[0], [3.0, 12.0, 27.0])
    np.testing.assert_array_equal(second, [3.0, 12.0, 27.0])


def test_results_do_not_share_memory() -> None:
    a, b = Tensor(np.ones(3)), Tensor(np.ones(3))
    y = a + b
    y_bar = np.array([1.0, 2.0, 3.0])
    held = grad(y, [a, b, y, a], y_bar=y_bar)
    for i, g in enumerate(held):
        assert not np.shares_memory(g, y_bar)
        assert not any(np.shares_memory(g, other) for other in held[i + 1 :])
        np.testing.assert_array_equal(g, [1.0, 2.0, 3.0])


def test_result_may_be_written_to_even_when_it_is_broadcast() -> None:
    x = Tensor(np.ones((2, 3)))
    (g,) = grad(ops.sum(x), [x])
    g[0, 0] = 5
    assert g.tolist() == [[5, 1, 1], [1, 1, 1]]


def test_wrt_twice_and_y_itself() -> None:
    x = scalar(3.0)
    y = x * x
    assert slopes(y, x, y, x) == [6.0, 1.0, 6.0]
    assert slopes(x, x) == [1.0]
    assert grad(y, []) == []


def test_intermediate_tensor_gets_its_own_gradient() -> None:
    x = scalar(3.0)
    h = x * x
    y = h * h + x
    assert slopes(y, h, x) == [18.0, 109.0]


def test_y_bar_selects_a_row_of_the_jacobian() -> None:
    x = Tensor(np.array([1.0, 2.0]))
    y = x * x
    np.testing.assert_array_equal(grad(y, [x], y_bar=np.array([0.0, 1.0]))[0], [0.0, 4.0])
    np.testing.assert_array_equal(grad(y, [x], y_bar=[1.0, -1.0])[0], [2.0, -4.0])


def test_one_entry_in_any_shape_needs_no_y_bar() -> None:
    x = Tensor(np.full((1, 1), 3.0))
    assert grad(x * x, [x])[0].tolist() == [[6.0]]


def test_inputs_and_y_bar_are_not_written() -> None:
    data, y_bar = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    data.flags.writeable = y_bar.flags.writeable = False
    x = Tensor(data)
    assert x.data is data
    np.testing.assert_array_equal(grad(x * x + x, [x], y_bar=y_bar)[0], [3.0, 5.0])


WRONG_CALLS: list[tuple[str, Callable[[Tensor], Any], type[Exception], str]] = [
    ("not scalar", lambda x: grad(x * x, [x]), GradientError, r"y has shape \(2,\), expected one entry; reduce it"),
    ("y array", lambda x: grad(x.data, [x]), GradientError, "y is ndarray, expected a Tensor"),  # type: ignore[arg-type]
    ("bare wrt", lambda x: grad(ops.sum(x), x), GradientError, r"wrt is a single Tensor; put it in a list"),  # type: ignore[arg-type]
    ("wrt array", lambda x: grad(ops.sum(x), [x.data]), GradientError, r"wrt\[0\] is ndarray, expected a Tensor"),  # type: ignore[list-item]
    (
        "copy of x",
        lambda x: grad(ops.sum(x), [x, Tensor(x.data)]),
        GradientError,
        r"wrt\[1\] of shape \(2,\): y does not depend on it, and its gradient would be silently zero; remove it",
    ),
    ("child", lambda x: grad(x, [x * x]), GradientError, r"wrt\[0\] of shape \(2,\): y does not depend on it"),
    (
        "y_bar shape",
        lambda x: grad(x, [x], y_bar=np.ones(3)),
        ShapeError,
        r"y_bar is float64 \(3,\), expected that of y",
    ),
    (
        "y_bar scalar",
        lambda x: grad(x, [x], y_bar=1.0),
        ShapeError,
        r"y_bar is float64 \(\), expected that of y: float64",
    ),
    ("y_bar dtype", lambda x: grad(x, [x], y_bar=np.ones(2, np.float32)), ShapeError, r"y_bar is float32 \(2,\), exp"),
    ("y_bar integers", lambda x: grad(x, [x], y_bar=[1, 1]), DTypeError, "y_bar has dtype int64, expected float32 or"),
    ("ragged", lambda _: Tensor([[1.0], [1.0, 2.0]]), ShapeError, "data is a ragged list: its rows differ in length"),
    ("integers", lambda _: Tensor([1, 2]), DTypeError, "data has dtype int64, expected float32 or float64; convert it"),
    ("tensor", lambda x: Tensor(x), DTypeError, "data is a Tensor already; use it as it is, or pass data.data"),
    ("unknown op", lambda x: apply("Cosh", x), ArgumentError, "op='Cosh' is not registered; import l0ref.ops, or the"),
    ("mixed", lambda x: x + np.ones(2, np.float32), DTypeError, "Add: mixed dtypes float64, float32; convert all"),
    ("mixed left", lambda x: np.ones(2, np.float32) * x, DTypeError, "Mul: mixed dtypes float32, float64; convert"),
    ("bool", lambda x: x + True, DTypeError, "data has dtype bool, expected float32 or float64"),
    ("shapes", lambda x: x + np.ones(3), ShapeError, r"Add: shapes \(2,\) and \(3,\) do not broadcast; from the right"),
    (
        "backend",
        lambda _: backend("nunba").__enter__(),
        ArgumentError,
        "backend='nunba' is not .* did you mean 'numba'",
    ),
]


@pytest.mark.parametrize(("call", "error", "said"), [row[1:] for row in WRONG_CALLS], ids=[r[0] for r in WRONG_CALLS])
def test_wrong_call_gets_one_sentence(call: Callable[[Tensor], Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=f"^{said}"):
        call(Tensor(np.array([1.0, 2.0])))
