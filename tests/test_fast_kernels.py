"""The kernels of convolution, pooling, activation and loss, called directly and at their edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref.autodiff.op import OPS, backend
from l0ref.autodiff.tensor import Tensor, apply, grad
from l0ref.fast.dense import activation, loss, pooling, unrolled
from l0ref.fast.machine.policy import fixed
from l0ref.validate import Array
from tests.naive import convolution as naive_convolution
from tests.naive import places
from tests.naive import pooling as naive_pooling
from tests.test_ops import assert_close

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]

# channels, kernel, images, grid, stride, dilation
UNROLLED = [
    (1, (1, 1), 1, (1, 1), (1, 1), (1, 1)),
    (3, (2, 3), 0, (4, 5), (1, 1), (1, 1)),
    (0, (2, 3), 2, (4, 5), (1, 1), (1, 1)),
    (2, (3, 2), 3, (4, 1), (1, 1), (1, 1)),
    (2, (2, 3), 2, (3, 17), (2, 1), (1, 2)),
    (3, (2, 3), 2, (4, 5), (1, 2), (3, 1)),
    (1, (1, 4), 1, (2, 3), (3, 4), (2, 3)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "kernel", "n", "grid", "stride", "dilation"), UNROLLED)
def test_unroll_and_its_transpose(
    channels: int, kernel: Any, n: int, grid: Any, stride: Any, dilation: Any, dtype: Any, rng: np.random.Generator
) -> None:
    size = [(grid[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 + i for i in (0, 1)]  # one column too wide
    images = rng.integers(-99, 99, size=(n, channels, *size)).astype(dtype)
    columns = np.full((channels, *kernel, n, *grid), np.nan, dtype)
    unrolled.unroll(images, stride, dilation, columns)
    back, want = np.full_like(images, np.nan), np.zeros_like(images)
    unrolled.roll_up(columns, stride, dilation, back)
    for c, r, s, i, p, q in places(columns.shape):
        at = (i, c, p * stride[0] + r * dilation[0], q * stride[1] + s * dilation[1])
        assert columns[c, r, s, i, p, q] == images[at]
        want[at] += columns[c, r, s, i, p, q]
    np.testing.assert_array_equal(back, want)


@pytest.mark.parametrize("block", [1, 200, 450, 10**6])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_does_not_depend_on_the_blocks(
    groups: int, dtype: Any, block: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(unrolled, "BLOCK", block)
    x, k, b = (rng.normal(size=shape) for shape in ((5, 4, 4, 3), (6, 4 // groups, 3, 2), (6,)))
    options = {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 2), "groups": groups}
    y, saved = unrolled.conv2d_forward(*(a.astype(dtype) for a in (x, k, b)), **options)
    y_bar = rng.normal(size=y.shape)
    bars = [np.asarray(bar()) for bar in unrolled.conv2d_vjp(saved, y_bar.astype(dtype))]
    rtol = 1e-13 if dtype == np.float64 else 3e-6
    assert_close(y, naive_convolution.conv2d(x, k, b, **options), rtol, "value")
    for bar, want in zip(bars, naive_convolution.conv2d_vjp(y_bar, x, k, b, **options), strict=True):
        assert bar.dtype == dtype
        assert_close(bar, want, rtol, "cotangent")


def test_blocks_cover_the_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (*_, blocks) = unrolled.conv2d_forward(
        np.ones((5, 1, 4, 4)), np.ones((2, 1, 3, 3)), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1
    )
    for block, most in ((1, 1), (44, 1), (88, 2), (132, 3), (219, 4), (220, 5), (10**6, 5)):  # 4 windows x (9 + 2)
        monkeypatch.setattr(unrolled, "BLOCK", block)
        assert blocks.most == most
        covered = [i for part in blocks for i in range(5)[part]]
        assert covered == list(range(5))
        assert {len(range(5)[part]) for part in list(blocks)[:-1]} <= {most}


def test_convolution_of_a_batch_of_zeros_and_ones_is_exact() -> None:
    x = np.zeros((3, 1, 5, 5), np.float32)
    x[1, 0, 2, 3] = 1
    k = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    y, _ = unrolled.conv2d_forward(x, k, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    want = np.zeros_like(y)
    want[1, 0, 1:4, 2:5] = k[0, 0, ::-1, ::-1]
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 1, 1), (2, 3, 1), (3, 1, 17), (4, 5, 8)])
def test_both_pooling_kernels_agree(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> None:
    n, p, q = shape
    planes = rng.integers(0, 3, size=(n, 2 * p + 1, 2 * q + 1)).astype(dtype)  # ties, and a row and a column left over
    results = []
    for kernel, geometry in (
        (pooling.largest_of_four, ()),
        (pooling.largest_of_window, ((2, 2), (2, 2), (0, 0), (1, 1))),
    ):
        y, winner = np.full(shape, np.nan, dtype), np.full(shape, 99, np.uint8)
        kernel(fixed(planes), *geometry, y, winner)
        results.append((y, winner))
    for i, p_, q_ in places(shape):
        window = planes[i, 2 * p_ : 2 * p_ + 2, 2 * q_ : 2 * q_ + 2].ravel()
        assert [y[i, p_, q_] for y, _ in results] == [window.max()] * 2
        assert [int(winner[i, p_, q_]) for _, winner in results] == [int(window.argmax())] * 2


@pytest.mark.parametrize("place", range(4))
def test_nan_wins_wherever_it_stands(place: int) -> None:
    planes = np.full((1, 2, 2), np.inf)
    planes.reshape(-1)[place] = np.nan
    for kernel, geometry in (
        (pooling.largest_of_four, ()),
        (pooling.largest_of_window, ((2, 2), (2, 2), (0, 0), (1, 1))),
    ):
        y, winner = np.zeros((1, 1, 1)), np.zeros((1, 1, 1), np.uint8)
        kernel(fixed(planes), *geometry, y, winner)
        assert np.isnan(y).all()
        assert winner.item() == place


@pytest.mark.parametrize(("side", "dtype"), [(16, np.uint8), (17, np.intp)])
def test_places_in_a_large_window_are_counted_far_enough(side: int, dtype: Any) -> None:
    x = np.zeros((1, 1, side, side))
    x[0, 0, -1, -1] = 1.0
    y, saved = pooling.max_pool2d_forward(x, kernel_size=(side, side), stride=(1, 1), padding=(0, 0))
    (x_bar,) = pooling.max_pool2d_vjp(saved, np.full((1, 1, 1, 1), 3.0))
    assert saved[0].dtype == dtype
    assert y.item() == 1.0
    np.testing.assert_array_equal(x_bar(), 3 * x)


def test_pooling_of_odd_images_leaves_the_rest_without_cotangent(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 5, 7))
    options = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    y, saved = pooling.max_pool2d_forward(x, **options)
    y_bar = rng.normal(size=y.shape)
    np.testing.assert_array_equal(y, naive_pooling.max_pool2d(x, **options))
    np.testing.assert_array_equal(
        pooling.max_pool2d_vjp(saved, y_bar)[0](), naive_pooling.max_pool2d_vjp(y_bar, x, **options)[0]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (), (17,), (3, 5), (2, 3, 1, 33)])
def test_relu_equals_truth_exactly(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> None:
    x, y_bar = (np.asarray(rng.normal(size=shape), dtype) for _ in range(2))
    y, saved = activation.relu_forward(x)
    want, theirs = OPS["Relu"].forward(x)
    np.testing.assert_array_equal(y, want)
    (x_bar,) = activation.relu_vjp(saved, y_bar)
    np.testing.assert_array_equal(x_bar, OPS["Relu"].vjp(theirs, y_bar)[0])
    assert (y.shape, y.dtype, x_bar.shape, x_bar.dtype) == (shape, dtype, shape, dtype)


def test_relu_at_its_kink_and_extremes() -> None:
    x = np.array([-np.inf, -5e-324, -0.0, 0.0, 5e-324, np.inf, np.nan])
    y, saved = activation.relu_forward(x)
    np.testing.assert_array_equal(y, [0, 0, 0, 0, 5e-324, np.inf, np.nan])
    np.testing.assert_array_equal(activation.relu_vjp(saved, np.full(7, 2.0))[0], [0, 0, 0, 0, 2, 2, 0])


def loss_and_slope(row: list[float], hit: int, smoothing: float) -> tuple[float, list[float]]:
    """Cross entropy of one row by exact sums."""
    top = max(row)
    log_z = math.log(math.fsum(math.exp(x - top) for x in row))
    log_p = [x - top - log_z for x in row]
    q = [(1 - smoothing) * (c == hit) + smoothing / len(row) for c in range(len(row))]
    total = -math.fsum(b * a for a, b in zip(log_p, q, strict=True) if b)
    return total, [math.exp(a) - b for a, b in zip(log_p, q, strict=True)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("classes", [1, 2, 10, 17])
@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
def test_cross_entropy_row_by_row(scale: float, classes: int, smoothing: float, rng: np.random.Generator) -> None:
    x, target = rng.normal(size=(5, classes)) * scale, rng.integers(classes, size=5)
    for dtype, rtol in ((np.float64, 4e-16), (np.float32, 2e-7)):
        scores = x.astype(dtype)
        losses, slope = np.full(5, np.nan, dtype), np.full(scores.shape, np.nan, dtype)
        loss.cross_entropy_rows(fixed(scores), fixed(target), smoothing, losses, slope)
        for n in range(5):
            want, slopes = loss_and_slope(scores[n].astype(float).tolist(), int(target[n]), smoothing)
            size = max(1.0, float(np.ptp(scores[n])))  # what is rounded: a difference of scores
            assert abs(losses[n] - want) <= 4 * rtol * size
            np.testing.assert_allclose(slope[n], slopes, rtol=0, atol=4 * rtol)


def test_cross_entropy_of_no_samples_and_of_impossible_classes() -> None:
    y, saved = loss.cross_entropy_forward(
        np.ones((0, 3)), target=np.zeros(0, int), label_smoothing=0.1, reduction="none"
    )
    assert y.shape == (0,)
    assert loss.cross_entropy_vjp(saved, y)[0].shape == (0, 3)
    x = np.array([[0.0, -np.inf, 0.0]])
    y, saved = loss.cross_entropy_forward(x, target=np.array([2]), label_smoothing=0.0, reduction="sum")
    np.testing.assert_allclose(y, math.log(2), rtol=1e-15)
    np.testing.assert_array_equal(loss.cross_entropy_vjp(saved, np.asarray(3.0))[0], [[1.5, 0, -1.5]])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_in_float32_stays_there(reduction: str, rng: np.random.Generator) -> None:
    x, target = rng.normal(size=(7, 4)).astype(np.float32), rng.integers(4, size=7)
    y, saved = loss.cross_entropy_forward(x, target=target, label_smoothing=0.2, reduction=reduction)
    (x_bar,) = loss.cross_entropy_vjp(saved, np.full(y.shape, 2, np.float32))
    want, theirs = OPS["CrossEntropy"].forward(x, target=target, label_smoothing=0.2, reduction=reduction)
    assert y.dtype == x_bar.dtype == np.float32
    assert_close(y, want, 1e-6, "value")
    assert_close(x_bar, OPS["CrossEntropy"].vjp(theirs, np.full(y.shape, 2, np.float32))[0], 1e-6, "cotangent")


def test_a_whole_network_is_the_same_on_both_backends(rng: np.random.Generator) -> None:
    """Layers in the order of LeNet-5, small enough for kernels that are not compiled."""
    arrays = [rng.normal(size=s) for s in ((6, 1, 12, 12), (3, 1, 3, 3), (3,), (4, 3, 2, 2), (4,), (5, 16))]
    target = rng.integers(5, size=6)

    def losses_and_slopes() -> list[Array]:
        x, k1, b1, k2, b2, w = tensors = [Tensor(a) for a in arrays]
        options = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
        pool = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        h = apply("MaxPool2d", apply("Relu", apply("Conv2d", x, k1, b1, **options)), **pool)
        h = apply("MaxPool2d", apply("Relu", apply("Conv2d", h, k2, b2, **options)), **pool)
        scores = apply("Linear", apply("Reshape", h, shape=(6, 16)), w)
        y = apply("CrossEntropy", scores, target=target, label_smoothing=0.0, reduction="mean")
        return [y.data, *grad(y, tensors)]

    with backend("numpy"):
        want = losses_and_slopes()
    for got, expected in zip(losses_and_slopes(), want, strict=True):
        assert_close(got, expected, 1e-13, "network")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1.0, 3000.0])
def test_cross_entropy_under_weights_row_by_row(scale: float, dtype: Any, rng: np.random.Generator) -> None:
    """Rows of v that do not sum to 1, one of them empty, and a class of probability 0 that nobody asks for."""
    x, v = (rng.normal(size=(5, 4)) * scale).astype(dtype), rng.uniform(size=(5, 4)).astype(dtype)
    v[1], v[2, 3], x[2, 3] = 0, 0, -np.inf
    losses, slope = np.full(5, np.nan, dtype), np.full(x.shape, np.nan, dtype)
    loss.weighted_rows(fixed(x), fixed(v), losses, slope)
    p, rtol = [loss_and_slope(row, 0, 1.0)[1] for row in x.astype(float).tolist()], 4 * np.finfo(dtype).eps
    want = np.array([math.fsum(row) for row in v.tolist()])[:, None] * (np.array(p) + 0.25) - v
    np.testing.assert_allclose(slope, want, rtol=0, atol=4 * rtol)
    for n, row in enumerate(x.astype(float)):
        log_z = math.log(math.fsum(np.exp(row - row.max()))) + row.max()
        exact = math.fsum(b * (log_z - a) for a, b in zip(row, v[n].astype(float), strict=True) if b)
        assert abs(losses[n] - exact) <= rtol * max(1.0, abs(exact))
    assert losses[1] == 0
    assert not slope[1].any()
