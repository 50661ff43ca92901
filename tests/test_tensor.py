"""Tensors: the dtype of a result, the operators on either side, and what a tensor says of itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.autodiff.tensor import Tensor, grad


def scalar(value: float) -> Tensor:
    return Tensor(np.asarray(value))


def slopes(y: Tensor, *wrt: Tensor) -> list[float]:
    return [float(g) for g in grad(y, list(wrt))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_take_on_the_dtype(dtype: Any) -> None:
    x = Tensor(np.array([0.5, 2.0], dtype=dtype))
    results = [x + 1, 1 + x, x - 0.1, 0.1 - x, x * 3, 3 * x, x / 7, 7 / x, x**2, 2**x, x**0.5, -x, abs(x)]
    assert {y.dtype for y in results} == {np.dtype(dtype)}
    assert {grad(ops.sum(y), [x])[0].dtype for y in results} == {np.dtype(dtype)}
    assert ops.add(1.0, 2).dtype == np.float64


def test_long_sum_of_float32_stays_float32() -> None:
    x = y = Tensor(np.array([1.0], dtype=np.float32))
    for _ in range(5):
        y = y * 1.1 + ops.mean(x) / 3
    assert y.dtype == np.float32
    assert grad(y, [x])[0].dtype == np.float32


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "matmul": lambda a, b: a @ b,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_with_an_array_on_either_side(name: str) -> None:
    f = OPERATORS[name]
    a = np.array([[0.5, 2.0], [1.5, 3.0]])
    b = np.array([[2.0, 1.0], [0.5, 4.0]])
    want = f(a, b)
    for left, right in [(Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (a.tolist(), Tensor(b))]:
        y = f(left, right)
        assert isinstance(y, Tensor)
        np.testing.assert_array_equal(y.data, want)
        np.testing.assert_array_equal(y.data, getattr(ops, name)(left, right).data)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "matmul"])
def test_operator_with_a_number_on_either_side(name: str) -> None:
    f, x = OPERATORS[name], np.array([0.5, 2.0])
    np.testing.assert_array_equal(f(Tensor(x), 3).data, f(x, 3))
    np.testing.assert_array_equal(f(3, Tensor(x)).data, f(3, x))
    np.testing.assert_array_equal(f(np.float64(3), Tensor(x)).data, f(3, x))


def test_gradient_of_reflected_operators() -> None:
    x = scalar(2.0)
    assert slopes(5 - x, x) == [-1.0]
    assert slopes(5 / x, x) == [-1.25]
    assert slopes(3**x, x) == pytest.approx([9 * math.log(3)], rel=1e-15)
    assert slopes(ops.sum(np.array([[1.0], [2.0]]) @ ops.reshape(x, (1, 1))), x) == [3.0]


def test_tensor_says_what_it_is() -> None:
    x = Tensor(np.array([[1.0, 2.0, 3.0]], dtype=np.float32))
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((1, 3), 2, 3, np.float32, 1)
    assert repr(x) == "Tensor([[1. 2. 3.]], shape=(1, 3), dtype=float32)"
    assert float(ops.sum(x)) == 6.0
