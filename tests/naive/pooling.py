"""Loops for `l0ref.ops.pooling`: values and cotangents, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.naive import F64, Index, places

Pair = tuple[int, int]


def grid_shape(x: Index, size: Pair, stride: Pair, padding: Pair, dilation: Pair, beyond: Pair) -> Index:
    """Windows that lie on the image and its padding, `beyond` rows and columns of it more below and on the right."""
    grid = []
    for i in (0, 1):
        begin, end, count = -padding[i], x[2 + i] + padding[i] + beyond[i], 0
        while begin + dilation[i] * (size[i] - 1) < end:
            begin, count = begin + stride[i], count + 1
        grid.append(count)
    return (*x[:2], *grid)


def pixels(x: Index, at: Index, size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> list[Index]:
    """Indices into x of the pixels under the window `at`, in scan order, without padding."""
    n, c, p, q = at
    top, left = p * stride[0] - padding[0], q * stride[1] - padding[1]
    rows = [h for h in range(top, top + size[0] * dilation[0], dilation[0]) if 0 <= h < x[2]]
    cols = [w for w in range(left, left + size[1] * dilation[1], dilation[1]) if 0 <= w < x[3]]
    return [(n, c, h, w) for h in rows for w in cols]


def first_largest(x: F64, among: list[Index]) -> Index:
    best = among[0]
    for at in among[1:]:
        if x[at] > x[best]:
            best = at
    return best


def max_pool2d(
    x: F64, *, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), beyond: Pair = (0, 0)
) -> F64:
    y = np.empty(grid_shape(x.shape, kernel_size, stride, padding, dilation, beyond))
    for at in places(y.shape):
        y[at] = x[first_largest(x, pixels(x.shape, at, kernel_size, stride, padding, dilation))]
    return y


def max_pool2d_vjp(
    y_bar: F64, x: F64, *, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), **_: Pair
) -> list[F64]:
    x_bar = np.zeros(x.shape)
    for at in places(y_bar.shape):
        x_bar[first_largest(x, pixels(x.shape, at, kernel_size, stride, padding, dilation))] += y_bar[at]
    return [x_bar]


def divisor(
    x: Index, at: Index, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool,
    beyond: Pair = (0, 0), overhang: Pair = (0, 0),
) -> int:  # fmt: skip
    """Pixels under a window; with padding counted, places that are not in the last `overhang` rows and columns."""
    if not count_include_pad:
        return len(pixels(x, at, kernel_size, stride, padding))
    sides = []
    for i in (0, 1):
        begin, end = at[2 + i] * stride[i] - padding[i], x[2 + i] + padding[i] + beyond[i] - overhang[i]
        sides.append(sum(begin + k < end for k in range(kernel_size[i])))
    return sides[0] * sides[1]


def avg_pool2d(
    x: F64, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool, beyond: Pair = (0, 0),
    overhang: Pair = (0, 0),
) -> F64:  # fmt: skip
    y, (size, step, edge) = (
        np.empty(grid_shape(x.shape, kernel_size, stride, padding, (1, 1), beyond)),
        (kernel_size, stride, padding),
    )
    for at in places(y.shape):
        total = sum(float(x[pixel]) for pixel in pixels(x.shape, at, size, step, edge))
        y[at] = total / divisor(
            x.shape, at, kernel_size=size, stride=step, padding=edge, count_include_pad=count_include_pad,
            beyond=beyond, overhang=overhang,
        )  # fmt: skip
    return y


def avg_pool2d_vjp(y_bar: F64, x: F64, **options: Any) -> list[F64]:
    x_bar = np.zeros(x.shape)
    for at in places(y_bar.shape):
        for pixel in pixels(x.shape, at, options["kernel_size"], options["stride"], options["padding"]):
            x_bar[pixel] += y_bar[at] / divisor(x.shape, at, **options)
    return [x_bar]


def adaptive_avg_pool2d(x: F64) -> F64:
    size = (x.shape[2], x.shape[3])
    return avg_pool2d(x, kernel_size=size, stride=size, padding=(0, 0), count_include_pad=True)
