"""What is special about pooling: ties, padding, overlapping windows, refusals."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.ops.windows import Windows
from l0ref.validate import Array
from tests.cases.case import Case
from tests.cases.pooling import CASES
from tests.naive import pooling as naive
from tests.test_ops import assert_close, both, evaluate

VJPS = {"MaxPool2d": naive.max_pool2d_vjp, "AvgPool2d": naive.avg_pool2d_vjp}
TIED: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((3, 2, 5, 6), {"kernel_size": (3, 2), "stride": (1, 1), "padding": (0, 0)}),
    ((3, 2, 5, 6), {"kernel_size": (2, 4), "stride": (2, 1), "padding": (1, 2)}),
    ((3, 2, 5, 6), {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
]


def pooled(x: Any, y_bar: Any = None, **options: Any) -> tuple[Array, Array]:
    """Value of max_pool2d and its input's cotangent, for y_bar = 1 unless given."""
    t = Tensor(x)
    y = ops.max_pool2d(t, options.pop("kernel_size"), **options)
    (x_bar,) = grad(y, [t], y_bar=np.ones(y.shape, y.dtype) if y_bar is None else y_bar)
    return y.data, x_bar


@pytest.mark.parametrize(("case", "name"), both([case for case in CASES if case.op in VJPS]))
def test_pooling_cotangents_equal_loops(case: Case, name: str) -> None:
    xs, options = case.draw(3)
    with backend(name):
        _, y_bar, (x_bar,) = evaluate(case, xs, options, 3)
    assert_close(x_bar, VJPS[case.op](y_bar, *xs, **options)[0], 1e-13, "cotangent")


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_max_pool2d_tie_goes_to_the_first_in_scan_order(name: str) -> None:
    x = np.array([[[[0.0, 7.0], [7.0, 7.0]]], [[[0.0, 0.0], [7.0, 7.0]]]])
    with backend(name):
        y, x_bar = pooled(x, kernel_size=2)
    np.testing.assert_array_equal(y.ravel(), [7.0, 7.0])
    np.testing.assert_array_equal(x_bar, [[[[0.0, 1.0], [0.0, 0.0]]], [[[0.0, 0.0], [1.0, 0.0]]]])


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize(("shape", "options"), TIED)
def test_max_pool2d_with_many_ties_equals_loops(
    shape: tuple[int, ...], options: dict[str, Any], name: str, rng: np.random.Generator
) -> None:
    x = rng.integers(-1, 1, size=shape) * 1.0
    y_bar = rng.normal(size=naive.max_pool2d(x, **options).shape)
    with backend(name):
        y, x_bar = pooled(x, y_bar, **options)
    np.testing.assert_array_equal(y, naive.max_pool2d(x, **options))
    assert_close(x_bar, naive.max_pool2d_vjp(y_bar, x, **options)[0], 1e-14, "cotangent")


@pytest.mark.crosscheck
@pytest.mark.parametrize(("shape", "options"), TIED)
def test_max_pool2d_with_many_ties_agrees_with_torch(
    shape: tuple[int, ...], options: dict[str, Any], rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    x = rng.integers(-1, 1, size=shape) * 1.0
    theirs = torch.tensor(x, requires_grad=True)
    value = torch.nn.functional.max_pool2d(theirs, **options)
    y_bar = rng.normal(size=tuple(value.shape))
    value.backward(torch.tensor(y_bar))
    y, x_bar = pooled(x, y_bar, **options)
    np.testing.assert_array_equal(y, value.detach().numpy())
    assert_close(x_bar, theirs.grad.numpy(), 1e-14, "cotangent")


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_max_pool2d_padding_never_wins(name: str) -> None:
    for entry in (-3.0, -np.inf):
        with backend(name):
            y, x_bar = pooled(np.full((1, 1, 3, 3), entry), kernel_size=3, stride=2, padding=1)
        np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), entry))
        np.testing.assert_array_equal(x_bar, [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]])


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_max_pool2d_cotangents_of_overlapping_windows_add_up(name: str) -> None:
    x = np.array([[[[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]]])
    y_bar = np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
    with backend(name):
        _, x_bar = pooled(x, y_bar, kernel_size=2, stride=1)
    np.testing.assert_array_equal(x_bar, np.where(x == 9, 1111.0, 0.0))


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("padding", [0, 1])
def test_max_pool2d_keeps_nan_visible_and_gives_it_the_gradient(name: str, padding: int) -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 1, 2] = x[0, 0, 0, 0] = np.nan
    with backend(name):
        y, x_bar = pooled(x, kernel_size=2, padding=padding)
    grids = [[np.nan, np.nan], [13, 15]], [[np.nan, 2, 3], [8, np.nan, 11], [12, 14, 15]]
    np.testing.assert_array_equal(y, [[grids[padding]]])
    np.testing.assert_array_equal(x_bar[np.isnan(x)], [1.0, 1.0])


def test_avg_pool2d_divisors_by_hand() -> None:
    x = np.array([[[[6.0, 12.0, 18.0]]]])
    counted = ops.avg_pool2d(x, (2, 3), stride=1, padding=1).data
    np.testing.assert_array_equal(counted, [[[[3.0, 6.0, 5.0], [3.0, 6.0, 5.0]]]])
    not_counted = ops.avg_pool2d(x, (2, 3), stride=1, padding=1, count_include_pad=False).data
    np.testing.assert_array_equal(not_counted, [[[[9.0, 12.0, 15.0], [9.0, 12.0, 15.0]]]])


def test_avg_pool2d_is_a_depthwise_convolution(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 7, 6))
    y = ops.avg_pool2d(x, (3, 2), stride=(2, 1), padding=1).data
    kernel = np.full((3, 1, 3, 2), 1 / 6)
    assert_close(y, ops.conv2d(x, kernel, stride=(2, 1), padding=1, groups=3).data, 1e-14, "value")


def test_pooling_stride_is_the_kernel_unless_given(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 2, 6, 6))
    for pool in (ops.max_pool2d, ops.avg_pool2d):
        np.testing.assert_array_equal(pool(x, (2, 3)).data, pool(x, [2, 3], stride=(2, 3)).data)
        assert pool(x, 3, stride=1).shape == (1, 2, 4, 4)


def test_adaptive_avg_pool2d_is_one_window(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    want = ops.avg_pool2d(x, (4, 5)).data
    for size in (1, (1, 1), [1, 1]):
        assert_close(ops.adaptive_avg_pool2d(x, size).data, want, 1e-14, "value")


X = np.zeros((2, 3, 4, 5))
REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (
        "",
        (X[0], 2),
        {},
        ShapeError,
        "input has shape (3, 4, 5), expected (N, C, H, W); give one image (C, H, W) as inp",
    ),
    ("", (X[:, :, :0], 2), {"padding": 1}, ShapeError, "input has images of 0 x 5 pixels: no window holds one; give"),
    (
        "",
        (X[..., :0], 2),
        {"ceil_mode": True},
        ShapeError,
        "input has images of 4 x 0 pixels: no window holds one;",
    ),
    ("", (X.astype(int), 2), {}, DTypeError, "input has dtype int64, expected float32 or float64; convert it with"),
    ("", (X, 0), {}, ArgumentError, "kernel_size=0 must be at least 1"),
    ("", (X, 2.0), {}, ArgumentError, "kernel_size=2.0 must be a whole number, not float"),
    ("", (X, (2, 2, 2)), {}, ArgumentError, "kernel_size=(2, 2, 2) must be a whole number or a pair of them, got 3"),
    ("", (X, 2), {"stride": 0}, ArgumentError, "stride=0 must be at least 1"),
    ("", (X, 2), {"padding": -1}, ArgumentError, "padding=-1 must be at least 0"),
    (
        "",
        (X, 5),
        {},
        ShapeError,
        "kernel_size=5 spans 5 x 5 pixels, but the padded image has 4 x 5; use a smaller kernel or more padding",
    ),
    (
        "",
        (X, (4, 8)),
        {"padding": (0, 1)},
        ShapeError,
        "kernel_size=(4, 8) spans 4 x 8 pixels, but the padded image has",
    ),
    (
        "",
        (X, 3),
        {"padding": 2},
        ArgumentError,
        "padding=2 is more than half of kernel_size=3, so a window could miss the image; use at most (1, 1)",
    ),
    (
        "",
        (X, (4, 2)),
        {"padding": (1, 2)},
        ArgumentError,
        "padding=(1, 2) is more than half of kernel_size=(4, 2), so a",
    ),
    (
        "",
        (X, (2, 4)),
        {"padding": (2, 1)},
        ArgumentError,
        "padding=(2, 1) is more than half of kernel_size=(2, 4), so a",
    ),
    (
        "adaptive_avg_pool2d",
        (X, 2),
        {},
        ArgumentError,
        "output_size=2 must be 1; for a larger grid use avg_pool2d with a kernel_size",
    ),
    ("adaptive_avg_pool2d", (X, (1, 2)), {}, ArgumentError, "output_size=(1, 2) must be 1; for a larger"),
    (
        "adaptive_avg_pool2d",
        (X[0],),
        {},
        ShapeError,
        "input has shape (3, 4, 5), expected (N, C, H, W); give one image",
    ),
    (
        "adaptive_avg_pool2d",
        (X[:, :, :0],),
        {},
        ShapeError,
        "input has shape (2, 3, 0, 5): an image without pixels has",
    ),
    (
        "adaptive_avg_pool2d",
        (X.astype(int),),
        {},
        DTypeError,
        "input has dtype int64, expected float32 or float64; conv",
    ),
]
CALLS = [(f, *row) for which, *row in REFUSED for f in ([which] if which else ["max_pool2d", "avg_pool2d"])]


@pytest.mark.parametrize(("function", "args", "options", "error", "said"), CALLS)
def test_pooling_refuses(
    function: str, args: tuple[Any, ...], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match="^" + re.escape(said)):
        getattr(ops, function)(*args, **options)


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_a_window_misses_the_image_if_all_its_places_do(dilation: int, stride: int) -> None:
    """Beside loops, for one axis; the other is one pixel under windows of one place."""
    for size, before, more, n in itertools.product((1, 2, 3), range(4), (-1, 0, 3), (1, 2, 5)):
        windows = Windows((size, 1), (stride, 1), (before, 0), (dilation, 1), (more, 0))
        count = windows.grid((n, 1))[0]
        places = [[p * stride + r * dilation - before for r in range(size)] for p in range(count)]
        want = any(not any(0 <= h < n for h in window) for window in places)
        assert count < 1 or windows.misses((n, 1)) == want


def test_padding_of_a_billion_pixels_is_refused_at_once() -> None:
    with pytest.raises(ArgumentError, match="lets a window of kernel_size=1 miss the image; use less"):
        ops.max_pool2d(np.zeros((1, 1, 1, 1)), 1, padding=((0, 1), (0, 10**9)))


def test_four_edges_that_let_a_window_miss_the_image_are_refused() -> None:
    x = np.ones((1, 1, 3, 3))
    with pytest.raises(ArgumentError, match=r"padding=\(\(3, 0\), \(0, 0\)\) lets a window of kernel_size=2 miss the"):
        ops.max_pool2d(x, 2, stride=1, padding=((3, 0), (0, 0)))
    with pytest.raises(ArgumentError, match="ceil_mode=1 must be True or False"):
        ops.avg_pool2d(x, 2, ceil_mode=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_clip_by_one_limit(name: str) -> None:
    x = Tensor(np.array([-2.0, -1, 0, 1, 2]))
    with backend(name):
        low, high = ops.clip(x, min=-1), ops.clip(x, max=1)
        assert (low.data.tolist(), high.data.tolist()) == ([-1, -1, 0, 1, 2], [-2, -1, 0, 1, 1])
        assert grad(low, [x], y_bar=np.ones(5))[0].tolist() == [0, 1, 1, 1, 1]
        assert grad(high, [x], y_bar=np.ones(5))[0].tolist() == [1, 1, 1, 1, 0]
    with pytest.raises(ArgumentError, match="min=None and max=None limit nothing; give at least one of them"):
        ops.clip(x)
