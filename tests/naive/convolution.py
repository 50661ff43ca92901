"""Loops for `l0ref.ops.convolution`: values and cotangents, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.naive import F64, Index, places

Pair = tuple[int, int]


def output_size(size: int, window: int, stride: int, padding: int, dilation: int) -> int:
    """Count the starts at which the whole window lies on the padded line."""
    last = dilation * (window - 1)
    return sum(1 for start in range(-padding, size + padding, stride) if start + last < size + padding)


def contacts(
    x: Index, k: Index, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Iterator[tuple[Index, Index, Index]]:
    """Yield (index into y, index into x, index into k) of every product x k that enters y."""
    grid = [output_size(x[2 + i], k[2 + i], stride[i], padding[i], dilation[i]) for i in (0, 1)]
    for n, f, p, q in places((x[0], k[0], *grid)):
        group = f // (k[0] // groups)
        for c, r, s in places(k[1:]):
            h = p * stride[0] + r * dilation[0] - padding[0]
            w = q * stride[1] + s * dilation[1] - padding[1]
            if 0 <= h < x[2] and 0 <= w < x[3]:
                yield (n, f, p, q), (n, group * k[1] + c, h, w), (f, c, r, s)


def conv2d(x: F64, k: F64, b: F64 | None = None, **options: Any) -> F64:
    y = np.zeros(output_shape(x, k, **options))
    for at_y, at_x, at_k in contacts(x.shape, k.shape, **options):
        y[at_y] += x[at_x] * k[at_k]
    if b is not None:
        for at_y in places(y.shape):
            y[at_y] += b[at_y[1]]
    return y


def conv2d_vjp(y_bar: F64, x: F64, k: F64, b: F64 | None = None, **options: Any) -> list[F64]:
    x_bar, k_bar, b_bar = np.zeros(x.shape), np.zeros(k.shape), np.zeros(k.shape[0])
    for at_y, at_x, at_k in contacts(x.shape, k.shape, **options):
        x_bar[at_x] += y_bar[at_y] * k[at_k]
        k_bar[at_k] += y_bar[at_y] * x[at_x]
    for at_y in places(y_bar.shape):
        b_bar[at_y[1]] += y_bar[at_y]
    return [x_bar, k_bar] if b is None else [x_bar, k_bar, b_bar]


def output_shape(x: F64, k: F64, *, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Index:
    assert x.shape[1] == k.shape[1] * groups
    grid = (output_size(x.shape[2 + i], k.shape[2 + i], stride[i], padding[i], dilation[i]) for i in (0, 1))
    return (x.shape[0], k.shape[0], *grid)
