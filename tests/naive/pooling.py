"""Loops for `l0ref.ops.pooling`: values and cotangents, window by window."""

from __future__ import annotations

import numpy as np

from tests.naive import F64, Index, places
from tests.naive.convolution import output_size

Pair = tuple[int, int]


def grid_shape(x: Index, size: Pair, stride: Pair, padding: Pair) -> Index:
    return (*x[:2], *(output_size(x[2 + i], size[i], stride[i], padding[i], 1) for i in (0, 1)))


def pixels(x: Index, at: Index, size: Pair, stride: Pair, padding: Pair) -> list[Index]:
    """Indices into x of the pixels under the window `at`, in scan order, without padding."""
    n, c, p, q = at
    top, left = p * stride[0] - padding[0], q * stride[1] - padding[1]
    rows = [h for h in range(top, top + size[0]) if 0 <= h < x[2]]
    return [(n, c, h, w) for h in rows for w in range(left, left + size[1]) if 0 <= w < x[3]]


def first_largest(x: F64, among: list[Index]) -> Index:
    best = among[0]
    for at in among[1:]:
        if x[at] > x[best]:
            best = at
    return best


def max_pool2d(x: F64, *, kernel_size: Pair, stride: Pair, padding: Pair) -> F64:
    y = np.empty(grid_shape(x.shape, kernel_size, stride, padding))
    for at in places(y.shape):
        y[at] = x[first_largest(x, pixels(x.shape, at, kernel_size, stride, padding))]
    return y


def max_pool2d_vjp(y_bar: F64, x: F64, *, kernel_size: Pair, stride: Pair, padding: Pair) -> list[F64]:
    x_bar = np.zeros(x.shape)
    for at in places(y_bar.shape):
        x_bar[first_largest(x, pixels(x.shape, at, kernel_size, stride, padding))] += y_bar[at]
    return [x_bar]


def divisor(under: list[Index], size: Pair, count_include_pad: bool) -> int:
    return size[0] * size[1] if count_include_pad else len(under)


def avg_pool2d(x: F64, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> F64:
    y = np.empty(grid_shape(x.shape, kernel_size, stride, padding))
    for at in places(y.shape):
        under = pixels(x.shape, at, kernel_size, stride, padding)
        y[at] = sum(float(x[pixel]) for pixel in under) / divisor(under, kernel_size, count_include_pad)
    return y


def avg_pool2d_vjp(
    y_bar: F64, x: F64, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> list[F64]:
    x_bar = np.zeros(x.shape)
    for at in places(y_bar.shape):
        under = pixels(x.shape, at, kernel_size, stride, padding)
        for pixel in under:
            x_bar[pixel] += y_bar[at] / divisor(under, kernel_size, count_include_pad)
    return [x_bar]


def adaptive_avg_pool2d(x: F64) -> F64:
    size = (x.shape[2], x.shape[3])
    return avg_pool2d(x, kernel_size=size, stride=size, padding=(0, 0), count_include_pad=True)
