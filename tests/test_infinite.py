"""Infinite, NaN and subnormal numbers: as inputs and as cotangents, on the truth, on the twins and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from l0ref import nn, ops
from l0ref.autodiff.op import TWINS, backend
from l0ref.autodiff.tensor import Tensor, apply, grad
from l0ref.optim import State
from l0ref.sparse import Pattern
from l0ref.surrogates import MCP, Laplace
from l0ref.training.state import TrainingState
from l0ref.validate import Array
from tests.cases import CASES, Case

INF, NAN = np.inf, np.nan
NAMES = sorted({case.op for case in CASES})
Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is undefined comes out NaN; here that is no accident."""
    with np.errstate(all="ignore"):
        yield


def each_backend(op: str) -> list[str]:
    return ["numpy", "numba"] if op in TWINS else ["numpy"]


def cotangents(shape: tuple[int, ...]) -> Iterator[Array]:
    """Random ones, a third of whose entries is not finite; and one of infinities alone."""
    rng = np.random.default_rng(1)
    for value in (INF, -INF, NAN):
        yield np.where(rng.random(shape) < 1 / 3, value, rng.standard_normal(shape))
    yield np.full(shape, INF)


def backwards(case: Case, name: str) -> Iterator[tuple[Array, list[Array]]]:
    xs, options = case.draw(0)
    with backend(name):
        tensors = [Tensor(x) for x in xs]
        y = apply(case.op, *tensors, **options)
    for y_bar in cotangents(y.shape):
        yield y_bar, grad(y, tensors, y_bar=y_bar)


def assert_same(got: Array, want: Array, what: str) -> None:
    """The same NaN and infinities, the same numbers elsewhere."""
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12, err_msg=what)


@pytest.mark.parametrize("op", [op for op in NAMES if op in TWINS])
def test_twin_has_the_truths_infinities(op: str) -> None:
    for case in (case for case in CASES if case.op == op):
        for (y_bar, want), (_, got) in zip(backwards(case, "numpy"), backwards(case, "numba"), strict=True):
            for x_bar, expected in zip(got, want, strict=True):
                assert_same(x_bar, expected, f"{case.id} with the cotangent {y_bar}")


@pytest.mark.parametrize("op", [op for op in NAMES if op in TWINS])
def test_twin_has_the_truths_infinities_of_inputs(op: str) -> None:
    """One entry of one input is not finite."""
    rng = np.random.default_rng(2)
    for case in (case for case in CASES if case.op == op):
        for value in (INF, NAN):
            drawn, options = case.draw(0)
            xs = [np.array(x) for x in drawn]
            for x in (x for x in xs if x.size):
                place = rng.integers(x.size)
                kept, x.flat[place] = x.flat[place], value
                results = []
                for name in ("numpy", "numba"):
                    with backend(name):
                        tensors = [Tensor(x) for x in xs]
                        y = apply(case.op, *tensors, **options)
                        results.append([y.data, *grad(y, tensors, y_bar=np.ones(y.shape))])
                for want, got in zip(*results, strict=True):
                    assert_same(got, want, f"{case.id} with {value}")
                x.flat[place] = kept


@pytest.mark.crosscheck
@pytest.mark.parametrize("op", sorted({case.op for case in CASES if case.torch}))
def test_infinite_cotangents_as_in_torch(op: str) -> None:
    """Wherever PyTorch's cotangent is a number or an infinity, ours is the same.

    PyTorch's may be NaN where ours is not: its oracle of a sparse product, of the maximum and of dropout multiplies by
    the zeros of a dense matrix, and a cross-entropy of its own is two operations.
    """
    torch = pytest.importorskip("torch")
    for case in (case for case in CASES if case.op == op and case.torch):
        assert case.torch is not None
        xs, options = case.draw(0)
        theirs = [torch.tensor(x.copy(), requires_grad=True) for x in xs]
        y = case.torch(torch, *theirs, **options)
        for y_bar, got in backwards(case, "numpy"):
            want = torch.autograd.grad(y, theirs, torch.tensor(y_bar), retain_graph=True)
            for x_bar, expected in zip(got, (g.numpy() for g in want), strict=True):
                known = ~np.isnan(expected)
                assert_same(x_bar[known], expected[known], f"{case.id} with the cotangent {y_bar}")


# A closed gate lets nothing through


GATES: dict[str, tuple[Function, list[float], list[float]]] = {  # what is applied to x, and 0 where the gate is closed
    "relu": (ops.relu, [-1.0, -0.0, 0.0, 4.0], [0, 0, 0, 1]),
    "clip": (lambda x: ops.clip(x, -1.0, 1.0), [-2.0, -1.0, 3.0, 0.5], [0, 1, 0, 1]),
    "maximum": (lambda x: ops.maximum(x, 1.0), [0.0, 1.0, 2.0], [0, 0.5, 1]),
    "maximum, right": (lambda x: ops.maximum(1.0, x), [0.0, 1.0, 2.0], [0, 0.5, 1]),
    "minimum": (lambda x: ops.minimum(x, 1.0), [2.0, 1.0, 0.0], [0, 0.5, 1]),
    "minimum, right": (lambda x: ops.minimum(1.0, x), [2.0, 1.0, 0.0], [0, 0.5, 1]),
    "where": (lambda x: ops.where([True, False], x, 3.0), [1.0, 1.0], [1, 0]),
    "where, other": (lambda x: ops.where([True, False], 3.0, x), [1.0, 1.0], [0, 1]),
    "abs": (ops.abs, [-0.0, 0.0, -3.0, 2.0], [0, 0, -1, 1]),
    "pow": (lambda x: ops.pow(x, 0.0), [0.0, 2.0], [0, 0]),
    "exponent of 0": (lambda x: ops.pow(0.0, x), [0.0, 1.0, 2.5], [0, 0, 0]),
    "surrogate": (lambda x: ops.surrogate(x, Laplace(beta=5.0)), [0.0, -0.0], [0, 0]),
    "flat surrogate": (lambda x: ops.surrogate(x, MCP(lam=1.0, gamma=2.0)), [5.0, -5.0], [0, 0]),
    "dropout": (lambda x: ops.dropout(x, p=1.0, training=True, rng=np.random.default_rng(0)), [1.0, 2.0], [0, 0]),
    "max": (lambda x: ops.max(x, keepdims=True), [1.0, 3.0, 2.0], [0, 1, 0]),
    "max_pool2d": (
        lambda x: ops.max_pool2d(ops.reshape(x, (1, 1, 2, 3)), (2, 2), stride=1),
        [1.0, 9.0, 2.0, 3.0, 4.0, 5.0],
        [0, 2, 0, 0, 0, 0],
    ),
}


@pytest.mark.parametrize("bar", [1.0, INF, -INF, NAN])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("gate", GATES)
def test_a_closed_gate_is_zero_whatever_the_cotangent(gate: str, name: str, dtype: Any, bar: float) -> None:
    f, x, slopes = GATES[gate]
    with backend(name):
        t = Tensor(np.array(x, dtype))
        y = f(t)
        (x_bar,) = grad(y, [t], y_bar=np.full(y.shape, bar, dtype))
    assert x_bar.dtype == dtype
    expected = [slope * bar if slope else 0.0 for slope in slopes]
    np.testing.assert_array_equal(x_bar, expected)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_the_root_of_a_relu_has_a_gradient(name: str) -> None:
    with backend(name):
        x = Tensor(np.array([-1.0, 4.0]))
        (x_bar,) = grad(ops.sum(ops.sqrt(ops.relu(x))), [x])
    assert x_bar.tolist() == [0.0, 0.25]


def test_what_is_dropped_is_zero_even_where_it_is_infinite() -> None:
    y = ops.dropout(np.array([INF, NAN]), p=1.0, training=True, rng=np.random.default_rng(0))
    assert y.data.tolist() == [0.0, 0.0]


# Extreme inputs, beside PyTorch in float64

ROWS = [[-INF, -INF], [INF, 0.0], [INF, INF], [-INF, 1.0], [INF, -INF], [NAN, 0.0], [5e-324, -5e-324], [1e-310, 1e308]]
ON_ROWS: dict[str, tuple[Function, Function]] = {
    "logsumexp": (lambda x: ops.logsumexp(x, 0), lambda th, x: th.logsumexp(x, 0)),
    "softmax": (lambda x: ops.softmax(x, 0), lambda th, x: th.softmax(x, 0)),
    "log_softmax": (lambda x: ops.log_softmax(x, 0), lambda th, x: th.log_softmax(x, 0)),
    "sum": (ops.sum, lambda th, x: th.sum(x)),
    "mean": (ops.mean, lambda th, x: th.mean(x)),
    "max": (lambda x: ops.max(x, 0), lambda th, x: th.max(x, 0)[0]),
    "mse_loss": (
        lambda x: ops.mse_loss(x, np.zeros(2)),
        lambda th, x: th.nn.functional.mse_loss(x, th.zeros(2, dtype=x.dtype)),
    ),
    **{
        f"cross_entropy of {k}, smoothing {s}": (
            lambda x, k=k, s=s: ops.cross_entropy(ops.reshape(x, (1, 2)), [k], label_smoothing=s),
            lambda th, x, k=k, s=s: th.nn.functional.cross_entropy(x[None], th.tensor([k]), label_smoothing=s),
        )
        for k in (0, 1)
        for s in (0.0, 0.2)
    },
    "cross_entropy under weights": (
        lambda x: ops.cross_entropy(ops.reshape(x, (1, 2)), [1], weight=np.array([0.5, 3])),
        lambda th, x: th.nn.functional.cross_entropy(x[None], th.tensor([1]), weight=th.tensor([0.5, 3.0]).double()),
    ),
    "cross_entropy of probabilities": (
        lambda x: ops.cross_entropy(ops.reshape(x, (1, 2)), np.array([[0.25, 0.75]])),
        lambda th, x: th.nn.functional.cross_entropy(x[None], th.tensor([[0.25, 0.75]]).double()),
    ),
}


@pytest.mark.crosscheck
@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("function", ON_ROWS)
def test_extreme_inputs_as_in_torch(function: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = ON_ROWS[function]
    for row in ROWS:
        x, t = Tensor(np.array(row)), torch.tensor(row, dtype=torch.float64, requires_grad=True)
        with backend(name):
            y, other = ours(x), theirs(torch, t)
        np.testing.assert_allclose(y.data, other.detach().numpy(), rtol=1e-13, atol=0, err_msg=f"value at {row}")
        (want,) = torch.autograd.grad(other, t, torch.ones_like(other))
        (got,) = grad(y, [x], y_bar=np.ones(y.shape))
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-13, atol=1e-300, err_msg=f"slope at {row}")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("x", "value", "slope"),
    [
        ([-INF, -INF], -INF, [NAN, NAN]),
        ([INF, 0.0], INF, [NAN, 0]),
        ([INF, 1e4], INF, [NAN, 0]),
        ([-INF, 2.0], 2.0, [0, 1]),
        ([NAN, 0.0], NAN, [NAN, NAN]),
    ],
)
def test_logsumexp_of_infinities(x: list[float], value: float, slope: list[float], dtype: Any) -> None:
    t = Tensor(np.array(x, dtype))
    with np.errstate(all="raise"):  # nothing here is out of the ordinary
        y = ops.logsumexp(t)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.data, dtype(value))
    np.testing.assert_array_equal(grad(y, [t])[0], slope)


@pytest.mark.crosscheck
def test_powers_of_zero_as_in_torch() -> None:
    torch = pytest.importorskip("torch")
    for a, b in [(0.0, [0.0, 1.0, 2.0, -1.0, INF, -INF, NAN]), (INF, [0.0, 1.0, -1.0]), (2.0, [0.0, INF, -INF])]:
        t, x = torch.tensor(b, dtype=torch.float64, requires_grad=True), Tensor(np.array(b))
        other, y = torch.tensor(a, dtype=torch.float64) ** t, ops.pow(a, x)
        np.testing.assert_array_equal(y.data, other.detach().numpy())
        want = torch.autograd.grad(other, t, torch.ones_like(other))[0].numpy()
        np.testing.assert_array_equal(grad(y, [x], y_bar=np.ones(len(b)))[0], want, err_msg=f"{a} to the power of {b}")


# Masks select, too


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_a_mask_removes_is_plus_zero_whatever_it_was(dtype: Any) -> None:
    net = nn.mlp((3, 2), seed=0, dtype=dtype)
    keep = np.array([[True, False, False], [False, True, True]])
    wild = np.array([[1, INF, NAN], [-2, 3, 4]], dtype)
    params = {**net.params, "fc1.weight": wild}
    state = TrainingState(params, {}, {}, State(), 0, 1, 1).with_masks({"fc1.weight": keep})
    for model in (net.replace(params=params, masks={"fc1.weight": keep}), state.model(net)):
        w = model.params["fc1.weight"]
        assert w.tolist() == [[1, 0, 0], [0, 3, 4]]
        assert not np.signbit(w).any()


# Nothing of any type


def test_an_empty_list_is_a_list_of_whole_numbers() -> None:
    """NumPy makes float64 of []; nothing in it is no whole number."""
    pattern = Pattern([0, 0], [], (1, 3))  # type: ignore[arg-type]
    assert (pattern.nnz, pattern.indices.dtype) == (0, np.uint16)
    assert ops.cross_entropy(np.zeros((0, 3)), [], reduction="sum").data == 0
