"""Convolution over images in the sense of deep learning: cross-correlation, the kernel is not flipped.

The axis letters n c f h w p q r s are those of `l0ref.ops.windows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.ops.inputs import as_tensor
from l0ref.ops.windows import Pair, Windows, check_images
from l0ref.validate import Array, count, pair


class Conv2d(Op):
    """y[n,f,p,q] = b[f] + sum_crs win[n,c,p,q,r,s] k[f,c,r,s].

    win[n,c,p,q,r,s] is the pixel of channel c under place (r, s) of window (p, q), and 0 outside the image; with
    stride 1, padding 0 and dilation 1 it is x[n,c,p+r,q+s]. With groups = G, channels and filters are cut into G equal
    blocks, and the filters of a block read the channels of the same block alone: G convolutions side by side.

    Shapes   x (N, C, H, W), k (F, C/G, R, S), b (F) or absent  ->  y (N, F, P, Q) with
             P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1, Q likewise
    VJP      win_bar[n,c,p,q,r,s] = sum_f y_bar[n,f,p,q] k[f,c,r,s]; x_bar adds up, for each pixel, the win_bar on it
             k_bar[f,c,r,s] = sum_npq y_bar[n,f,p,q] win[n,c,p,q,r,s]     b_bar[f] = sum_npq y_bar[n,f,p,q]
    Ref      LeCun et al., Neural Computation 1 (1989) 541
    """

    @staticmethod
    def forward(
        x: Array, k: Array, b: Array | None = None, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> tuple[Array, Saved]:
        windows = Windows(k.shape[2:], stride, padding, dilation)
        win = windows.of(x)  # nchw -> ncpqrs
        y = np.empty((x.shape[0], k.shape[0], *win.shape[2:4]), x.dtype)
        for c, f in _blocks(x, k, groups):
            np.einsum("ncpqrs,fcrs->nfpq", win[:, c], k[f], out=y[:, f], optimize=True)
        if b is not None:
            y += b[:, None, None]
        return y, (x, k, b is not None, windows, groups)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
        x, k, has_bias, windows, groups = saved

        def x_bar() -> Array:
            out: Array = np.empty_like(x)
            for c, f in _blocks(x, k, groups):
                win_bar = np.einsum("nfpq,fcrs->ncpqrs", y_bar[:, f], k[f], optimize=True)
                out[:, c] = windows.add_up(win_bar, x.shape[2:])
            return out

        def k_bar() -> Array:
            win = windows.of(x)
            out: Array = np.empty_like(k)
            for c, f in _blocks(x, k, groups):
                np.einsum("nfpq,ncpqrs->fcrs", y_bar[:, f], win[:, c], out=out[f], optimize=True)
            return out

        cotangents = (x_bar, k_bar, lambda: y_bar.sum(axis=(0, 2, 3)))
        return cotangents if has_bias else cotangents[:2]


def conv2d(
    input: Any, weight: Any, bias: Any = None, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Cross-correlate images (N, C, H, W) with kernels, giving (N, F, P, Q).

    weight                      (F, C/groups, R, S)
    bias                        (F), added to each filter's output, or None
    stride, padding, dilation   a whole number, or a pair (vertical, horizontal)
    groups                      divides both C and F; groups = C is a depthwise convolution

    >>> import numpy as np
    >>> image = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d(image, np.ones((1, 1, 2, 2))).data.tolist()
    [[[[8.0, 12.0], [20.0, 24.0]]]]
    """
    x, k = as_tensor("input", input), as_tensor("weight", weight)
    inputs = (x, k) if bias is None else (x, k, as_tensor("bias", bias))
    step, gap = pair("stride", stride, least=1), pair("dilation", dilation, least=1)
    edge = pair("padding", padding)
    groups = count("groups", groups, least=1)
    _check_shapes(*(t.shape for t in inputs), groups=groups)
    windows = Windows(k.data.shape[2:], step, edge, gap)
    windows.check_fit(f"weight of shape {k.shape} with dilation={dilation!r}", x.data.shape[2:])
    windows = windows.stepping(x.data.shape[2:])
    return apply(Conv2d, *inputs, stride=windows.stride, padding=edge, dilation=gap, groups=groups)


def _blocks(x: Array, k: Array, groups: int) -> list[tuple[slice, slice]]:
    """The channels of x and the filters of k that belong to each group."""
    c, f = x.shape[1] // groups, k.shape[0] // groups
    return [(slice(g * c, g * c + c), slice(g * f, g * f + f)) for g in range(groups)]


def _check_shapes(x: tuple[int, ...], k: tuple[int, ...], b: tuple[int, ...] | None = None, *, groups: int) -> None:
    check_images(x)
    if len(k) != 4 or min(k) < 1:
        raise ShapeError(f"weight has shape {k}, expected (F, C/groups, R, S); give it four axes, none of them empty")
    for size, whose in ((x[1], "channels of input"), (k[0], "filters of weight")):
        if size % groups:
            raise ArgumentError(f"groups={groups} does not divide the {size} {whose}; choose a divisor")
    if k[1] * groups != x[1]:
        raise ShapeError(
            f"weight has shape {k}, so with groups={groups} it reads {k[1] * groups} channels, but input of shape {x} "
            f"has {x[1]}; give weight the shape {(k[0], x[1] // groups, *k[2:])}"
        )
    if b is not None and b != k[:1]:
        raise ShapeError(f"bias has shape {b}, expected {k[:1]}: one number for each filter of weight")
