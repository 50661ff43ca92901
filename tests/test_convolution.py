"""What is special about convolution: cotangents in loops, equivalences, the transposed map, refusals."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from l0ref import nn, ops, sparse
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.ops.windows import Windows
from tests.cases.case import Case
from tests.cases.convolution import CASES
from tests.naive.convolution import conv2d_vjp
from tests.test_ops import assert_close, both, evaluate


@pytest.mark.parametrize(("case", "name"), both(CASES))
def test_conv2d_cotangents_equal_loops(case: Case, name: str) -> None:
    xs, options = case.draw(3)
    with backend(name):
        _, y_bar, x_bars = evaluate(case, xs, options, 3)
    for i, (x_bar, want) in enumerate(zip(x_bars, conv2d_vjp(y_bar, *xs, **options), strict=True)):
        assert_close(x_bar, want, 1e-12, f"cotangent of input {i}")


WINDOWED: dict[str, Any] = {
    "conv2d": lambda x, stride: ops.conv2d(x, np.arange(18.0).reshape(2, 1, 3, 3), stride=stride, padding=1),
    "sparse_conv2d": lambda x, stride: sparse.sparse_conv2d(
        x, np.arange(1.0, 10.0), pattern=sparse.Pattern.from_mask(np.arange(18).reshape(2, 9) % 2 == 0),
        kernel_shape=(2, 1, 3, 3), stride=stride, padding=1,
    ),
    "max_pool2d": lambda x, stride: ops.max_pool2d(x, 3, stride=stride, padding=1),
}  # fmt: skip


@pytest.mark.parametrize("stride", [10**9, 2**70, (1, 2**40)])
@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("op", WINDOWED)
def test_a_stride_beyond_the_image_leaves_the_first_windows(op: str, name: str, stride: Any) -> None:
    x = Tensor(np.arange(25.0).reshape(1, 1, 5, 5))
    with backend(name):
        y, every = WINDOWED[op](x, stride), WINDOWED[op](x, 1)
        x_bar = grad(ops.sum(y), [x])[0]
    down, right = stride if isinstance(stride, tuple) else (5, 5)
    np.testing.assert_array_equal(y.data, every.data[:, :, ::down, : 1 if right > 1 else None])
    assert x_bar.any()


@pytest.mark.parametrize("op", ["conv2d", "sparse_conv2d"])
def test_padding_beyond_reason_is_refused(op: str) -> None:
    run = {
        "conv2d": lambda padding: ops.conv2d(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)), padding=padding),
        "sparse_conv2d": lambda padding: sparse.sparse_conv2d(
            np.ones((1, 1, 5, 5)), np.ones(9), pattern=sparse.Pattern.from_mask(np.ones((1, 9), bool)),
            kernel_shape=(1, 1, 3, 3), padding=padding,
        ),
    }[op]  # fmt: skip
    for padding in (10**6, (10**12, 0)):
        with pytest.raises(ShapeError, match=r"^padding=\(1000.* pixels, more than 2,147,483,647; use less$"):
            run(padding)


def test_conv2d_by_hand() -> None:
    image = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    kernel = np.array([[[[1.0, 10.0]]]])  # not flipped: 1 goes with the left pixel, 10 with the right one
    y = ops.conv2d(image, kernel, np.array([100.0]), padding=(0, 1), stride=(1, 2))
    np.testing.assert_array_equal(y.data, [[[[110.0, 132.0], [140.0, 165.0]]]])


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_one_by_one_conv2d_is_linear_on_pixels(name: str, rng: np.random.Generator) -> None:
    x, w, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 3)), rng.normal(size=6)
    with backend(name):
        y = ops.conv2d(x, w[:, :, None, None], b).data
    want = ops.linear(x.transpose(0, 2, 3, 1), w, b).data.transpose(0, 3, 1, 2)
    assert_close(y, want, 1e-14, "value")


def test_conv2d_with_a_kernel_as_large_as_the_image_is_linear_on_flat_images(rng: np.random.Generator) -> None:
    x, w, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 3, 4, 5)), rng.normal(size=6)
    want = ops.linear(x.reshape(2, 60), w.reshape(6, 60), b).data
    assert_close(ops.conv2d(x, w, b).data[:, :, 0, 0], want, 1e-13, "value")


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_grouped_conv2d_is_convolutions_side_by_side(groups: int, rng: np.random.Generator) -> None:
    x, w, b = rng.normal(size=(2, 6, 5, 4)), rng.normal(size=(12, 6 // groups, 3, 2)), rng.normal(size=12)
    parts = zip(np.split(x, groups, axis=1), np.split(w, groups), np.split(b, groups), strict=True)
    want = np.concatenate([ops.conv2d(*part, stride=(2, 1)).data for part in parts], axis=1)
    assert_close(ops.conv2d(x, w, b, stride=(2, 1), groups=groups).data, want, 1e-14, "value")


def test_padding_conv2d_is_padding_the_image(rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(4, 3, 3, 2))
    want = ops.conv2d(np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2))), w, stride=2).data
    assert_close(ops.conv2d(x, w, padding=(1, 2), stride=2).data, want, 1e-14, "value")


def test_dilating_conv2d_is_a_kernel_with_zeros_between(rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(2, 3, 7, 8)), rng.normal(size=(4, 3, 3, 2))
    wide = np.zeros((4, 3, 5, 4))
    wide[:, :, ::2, ::3] = w
    assert_close(ops.conv2d(x, w, dilation=(2, 3)).data, ops.conv2d(x, wide).data, 1e-13, "value")


@pytest.mark.parametrize("case", [case for case in CASES if case.moves], ids=lambda case: case.id)
def test_conv2d_cotangents_are_adjoint_maps(case: Case) -> None:
    """conv2d without bias is linear in x and in k: <y_bar, y> = <x_bar, x> = <k_bar, k>, exactly."""
    xs, options = case.draw(4)
    x, k = xs[:2]
    value, y_bar, (x_bar, k_bar) = evaluate(case, [x, k], options, 4)
    scale = np.linalg.norm(value) * np.linalg.norm(y_bar)
    for bar, at in ((x_bar, x), (k_bar, k)):
        assert abs(np.vdot(bar, at) - np.vdot(y_bar, value)) <= 1e-13 * scale


@pytest.mark.parametrize(
    "windows",
    [
        Windows((3, 2), (1, 1), (0, 0)),
        Windows((2, 3), (3, 2), (1, 2), (2, 1)),
        Windows((1, 1), (2, 3), (0, 1)),
        Windows((4, 5), (1, 1), (2, 2)),
    ],
    ids=str,
)
def test_adding_windows_up_is_the_transpose_of_reading_them(windows: Windows, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 6, 7))
    read = windows.of(x)
    win = rng.normal(size=read.shape)
    left, right = np.vdot(win, read), np.vdot(windows.add_up(win, (6, 7)), x)
    assert abs(left - right) <= 1e-14 * np.linalg.norm(win) * np.linalg.norm(read)


def test_conv2d_computes_only_the_wanted_cotangent(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the image's cotangent was computed")

    k = Tensor(rng.normal(size=(4, 2, 3, 3)))
    monkeypatch.setattr(Windows, "add_up", refuse)
    with backend("numpy"):
        y = ops.conv2d(rng.normal(size=(2, 2, 5, 5)), k)
        (k_bar,) = grad(y, [k], y_bar=np.ones(y.shape))
    assert k_bar.shape == k.shape


def test_conv2d_takes_whole_numbers_pairs_and_lists(rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(1, 2, 8, 8)), rng.normal(size=(3, 2, 2, 2))
    want = ops.conv2d(x, w, stride=(2, 2), padding=(1, 1), dilation=(3, 3)).data
    np.testing.assert_array_equal(ops.conv2d(x, w, stride=2, padding=1, dilation=3).data, want)
    np.testing.assert_array_equal(ops.conv2d(x, w, stride=[2, 2], padding=[1, 1], dilation=np.int64(3)).data, want)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_small_numpy_integers_are_whole_numbers(name: str) -> None:
    """int8 holds no product of theirs."""
    one, many = np.int8(2), np.uint8(200)
    x = np.ones((1, 300, 5, 5))
    with backend(name):
        assert ops.conv2d(x, np.ones((2, 150, 1, 1)), groups=one).data.ravel().tolist() == [150.0] * 50
        layers = [nn.Conv2d("c", 300, many, 1, groups=one), nn.BatchNorm2d("n", many), nn.Flatten("f")]
        net = nn.Model.init([*layers, nn.Linear("l", 5000, many)], input_shape=(300, 5, 5), seed=0)
        assert net.logits(x.astype(np.float32)).shape == (1, 200)


X, W, B = np.zeros((2, 4, 5, 6)), np.zeros((6, 4, 3, 2)), np.zeros(6)
REFUSED: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((X[0], W), {}, ShapeError, "input has shape (4, 5, 6), expected (N, C, H, W); give one image (C, H, W) as input["),
    ((X.astype(int), W), {}, DTypeError, "input has dtype int64, expected float32 or float64; convert it with"),
    ((X, W.astype(int)), {}, DTypeError, "weight has dtype int64, expected float32 or float64; convert it with"),
    ((X, W, B.astype(bool)), {}, DTypeError, "bias has dtype bool, expected float32 or float64; convert it with"),
    (([[1.0], [1.0, 2.0]], W), {}, ShapeError, "input is a ragged list: its rows differ in length; give every row"),
    ((X, W.astype(np.float32)), {}, DTypeError, "Conv2d: mixed dtypes float64, float32; convert all inputs to one"),
    ((X, W[0]), {}, ShapeError, "weight has shape (4, 3, 2), expected (F, C/groups, R, S); give it four axes"),
    ((X, W[:0]), {}, ShapeError, "weight has shape (0, 4, 3, 2), expected (F, C/groups, R, S); give it four axes"),
    ((X, W[..., :0]), {}, ShapeError, "weight has shape (6, 4, 3, 0), expected (F, C/groups, R, S); give it four axes"),
    (
        (X, W[:, :3]),
        {},
        ShapeError,
        "weight has shape (6, 3, 3, 2), so with groups=1 it reads 3 channels, but input of shape (2, 4, 5, 6) has 4; "
        "give weight the shape (6, 4, 3, 2)",
    ),
    ((X, W), {"groups": 2}, ShapeError, "weight has shape (6, 4, 3, 2), so with groups=2 it reads 8 channels, but inp"),
    ((X, W), {"groups": 3}, ArgumentError, "groups=3 does not divide the 4 channels of input; choose a divisor"),
    ((X, W[:, :1]), {"groups": 4}, ArgumentError, "groups=4 does not divide the 6 filters of weight; choose a divisor"),
    ((X, W), {"groups": 0}, ArgumentError, "groups=0 must be at least 1"),
    ((X, W), {"groups": 1.0}, ArgumentError, "groups=1.0 must be a whole number, not float"),
    ((X, W, B[:4]), {}, ShapeError, "bias has shape (4,), expected (6,): one number for each filter of weight"),
    ((X, W, B[None]), {}, ShapeError, "bias has shape (1, 6), expected (6,): one number for each filter of weight"),
    ((X, W), {"stride": 0}, ArgumentError, "stride=0 must be at least 1"),
    ((X, W), {"padding": (0, -1)}, ArgumentError, "padding=-1 must be at least 0"),
    ((X, W), {"padding": "same"}, ArgumentError, "padding='same' must be a whole number, not str"),
    ((X, W), {"dilation": (1, 2, 3)}, ArgumentError, "dilation=(1, 2, 3) must be a whole number or a pair of them"),
    ((X, W), {"dilation": (1, 0)}, ArgumentError, "dilation=0 must be at least 1"),
    (
        (X[:, :, :2], W),
        {},
        ShapeError,
        "weight of shape (6, 4, 3, 2) with dilation=1 spans 3 x 2 pixels, but the padded image has 2 x 6; "
        "use a smaller kernel or more padding",
    ),
    (
        (X, W),
        {"dilation": (1, 8), "padding": (0, 1)},
        ShapeError,
        "weight of shape (6, 4, 3, 2) with dilation=(1, 8) spans 3 x 9 pixels, but the padded image has 5 x 8; use a s",
    ),
]


@pytest.mark.parametrize(("args", "options", "error", "said"), REFUSED, ids=[row[3][:40] for row in REFUSED])
def test_conv2d_refuses(args: tuple[Any, ...], options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match="^" + re.escape(said)):
        ops.conv2d(*args, **options)
