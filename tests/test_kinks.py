"""What operations do exactly at their kinks, at ties and at extreme numbers, as their docstrings say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from l0ref import ops, surrogates
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad

Function = Callable[..., Tensor]
FLOATS = [np.float64, np.float32]


@pytest.fixture(autouse=True, params=["numpy", "numba"])
def either_backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test of this file on the truth and on the twins."""
    with backend(request.param):
        yield


def slope(f: Function, x: Any, dtype: Any = np.float64) -> list[Any]:
    """Gradient of sum f(x)."""
    t = Tensor(np.asarray(x, dtype=dtype))
    (g,) = grad(ops.sum(f(t)), [t])
    assert g.dtype == dtype
    values: list[Any] = g.tolist()
    return values


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("f", "x", "want"),
    [
        (ops.relu, [-1.0, -0.0, 0.0, 5e-324, 1.0], [0, 0, 0, None, 1]),
        (lambda x: ops.leaky_relu(x, 0.25), [-1.0, -0.0, 0.0, 1.0], [0.25, 0.25, 0.25, 1]),
        (ops.abs, [-2.0, -0.0, 0.0, 2.0], [-1, 0, 0, 1]),
        (lambda x: ops.clip(x, -1.0, 2.0), [-1.5, -1.0, 0.0, 2.0, 2.5], [0, 1, 1, 1, 0]),
        (lambda x: ops.clip(x, 1.0, 1.0), [0.5, 1.0, 1.5], [0, 1, 0]),
        (lambda x: x**0, [0.0, 2.0], [0, 0]),
        (lambda x: x**1, [0.0, -2.0], [1, 1]),
        (lambda x: x**2, [0.0, -2.0], [0, -4]),
        (lambda x: 0.0**x, [1.0, 2.0, 0.0], [0, 0, 0]),
        (lambda x: ops.maximum(x, 1.0), [0.0, 1.0, 2.0], [0, 0.5, 1]),
        (lambda x: ops.maximum(1.0, x), [0.0, 1.0, 2.0], [0, 0.5, 1]),
        (lambda x: ops.minimum(x, 1.0), [0.0, 1.0, 2.0], [1, 0.5, 0]),
        (lambda x: ops.minimum(1.0, x), [0.0, 1.0, 2.0], [1, 0.5, 0]),
        (lambda x: ops.maximum(x, x), [3.0], [1]),
        (lambda x: ops.surrogate(x, surrogates.Laplace(beta=5.0)), [-0.0, 0.0], [0, 0]),
        (lambda x: ops.softplus(x, beta=2.0), [0.0, 10.0 + 1e-5], [0.5, 1]),
    ],
)
def test_slope_at_kink(f: Function, x: list[float], want: list[float | None], dtype: Any) -> None:
    if dtype == np.float32:
        x, want = [a for a in x if a != 5e-324], [w for w in want if w is not None]
    got = slope(f, x, dtype)
    assert got == [1 if w is None else w for w in want]


@pytest.mark.parametrize(
    ("axis", "want"),
    [
        (None, [[0, 1, 0], [0, 0, 0]]),
        (0, [[0, 1, 1], [1, 0, 0]]),
        (1, [[0, 1, 0], [1, 0, 0]]),
        ((0, 1), [[0, 1, 0], [0, 0, 0]]),
    ],
)
def test_first_of_tied_maxima_carries_the_gradient(axis: Any, want: list[list[float]]) -> None:
    assert slope(lambda x: ops.max(x, axis), [[1.0, 7.0, 7.0], [7.0, 7.0, 7.0]]) == want


def test_tied_maxima_over_outer_axes_follow_scan_order() -> None:
    x = [[[0.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [2.0, 2.0]]]
    for axis in [(0, 2), (2, 0)]:
        got = slope(lambda t, axis=axis: ops.max(t, axis), x)
        assert got == [[[0, 1], [0, 0]], [[0, 0], [1, 0]]]


def test_maximum_of_nan_is_nan() -> None:
    value = ops.max(np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]]), 1).data
    np.testing.assert_array_equal(value, [np.nan, 3.0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("f", "x", "want"),
    [
        (ops.sigmoid, [-1e4, 0.0, 1e4], [0, 0.5, 1]),
        (ops.tanh, [-1e4, 0.0, 1e4], [-1, 0, 1]),
        (ops.softplus, [-1e4, 0.0, 1e4], [0, math.log(2), 1e4]),
        (lambda x: ops.softplus(x, threshold=math.inf), [1e4], [1e4]),
        (lambda x: ops.softmax(x, 0), [-1e4, 1e4], [0, 1]),
        (lambda x: ops.log_softmax(x, 0), [-1e4, 1e4], [-2e4, 0]),
        (lambda x: ops.logsumexp(x, keepdims=True), [1e4, 1e4], [1e4 + math.log(2)]),
        (lambda x: ops.logsumexp(x, keepdims=True), [-np.inf, -1e4], [-1e4]),
        (lambda x: ops.cross_entropy(ops.reshape(x, (1, 2)), [0], reduction="none"), [-1e4, 1e4], [2e4]),
        (lambda x: ops.cross_entropy(ops.reshape(x, (1, 2)), [1], reduction="none"), [-np.inf, 1e4], [0]),
    ],
)
def test_extremes_stay_finite(f: Function, x: list[float], want: list[float], dtype: Any) -> None:
    value = f(Tensor(np.array(x, dtype=dtype))).data
    assert value.dtype == dtype
    np.testing.assert_allclose(value, want, rtol=4 * np.finfo(dtype).eps)
    assert np.isfinite(slope(f, x, dtype)).all()


@pytest.mark.parametrize("x", [-700.0, -40.0, -1.0, 0.0, 1e-9, 1.0, 20.0, 40.0, 300.0])
def test_slopes_keep_their_digits_where_the_value_rounds(x: float) -> None:
    t = math.exp(-abs(x))
    assert slope(ops.sigmoid, [x]) == pytest.approx([t / (1 + t) ** 2], rel=1e-15, abs=0)
    half = math.exp(-abs(x) / 2)  # tanh(x / 2) = 2 sigmoid(x) - 1
    assert slope(ops.tanh, [x / 2]) == pytest.approx([4 * half**2 / (1 + half**2) ** 2], rel=1e-15, abs=0)


@pytest.mark.parametrize("x", [-40.0, -20.0, -1e-3, 0.0, 3.0, 19.9])
def test_softplus_keeps_its_digits(x: float) -> None:
    value = ops.softplus(np.array([x])).data
    np.testing.assert_allclose(value, [max(x, 0.0) + math.log1p(math.exp(-abs(x)))], rtol=1e-15)


def test_softplus_takes_the_shortcut_above_the_threshold_only() -> None:
    got = ops.softplus(np.array([20.0, 20.000001]), threshold=20.0).data
    assert got[0] > 20.0
    assert got[1] == 20.000001
    assert ops.softplus(np.array([21.0]), threshold=math.inf).data[0] > 21.0


def test_mean_of_float32_divides_by_the_whole_count() -> None:
    x = np.ones((3, 5, 7), dtype=np.float32)
    assert ops.mean(x).data == np.float32(1)
    np.testing.assert_allclose(slope(ops.mean, x, np.float32), np.full(x.shape, 1 / 105), rtol=1e-7)


def test_label_smoothing_by_hand() -> None:
    x = np.log(np.array([[0.5, 0.25, 0.25]]))
    loss = ops.cross_entropy(x, [1], label_smoothing=0.3).data
    np.testing.assert_allclose(loss, -(0.1 * math.log(0.5) + 0.8 * math.log(0.25) + 0.1 * math.log(0.25)), rtol=1e-15)


def test_labels_may_be_any_integers() -> None:
    x = np.array([[1.0, 2.0, 4.0], [0.5, 0.0, -1.0]])
    want = ops.cross_entropy(x, [2, 0]).data
    for dtype in (np.int64, np.int32, np.uint8, np.intp):
        np.testing.assert_array_equal(ops.cross_entropy(x, np.array([2, 0], dtype=dtype)).data, want)
