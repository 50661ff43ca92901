"""Pooling: one number for each window of an image, channel by channel.

The axis letters n c h w p q r s, and the grid of the windows, are those of `l0ref.ops.windows`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.ops.inputs import as_tensor
from l0ref.ops.reduction import mean
from l0ref.ops.windows import Pair, Windows, check_images
from l0ref.validate import Array, edges_of, flag, pair


class MaxPool2d(Op):
    """y[n,c,p,q] = max_rs win[n,c,p,q,r,s]; padding counts as minus infinity.

    Shapes   x (N, C, H, W) -> y (N, C, P, Q), P = floor((H + 2 padding + beyond - dilation (R - 1) - 1) / stride) + 1
    VJP      y_bar[n,c,p,q] goes to the winner of its window; a pixel that wins several windows gets their sum
    Kink     a tie goes to the first pixel in scan order (row by row), as in PyTorch; never to padding
    NaN      a window with a NaN has the maximum NaN, and a NaN gets y_bar; which one of several is not specified
    """

    @staticmethod
    def forward(
        x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), beyond: Pair = (0, 0)
    ) -> tuple[Array, Saved]:
        windows = Windows(kernel_size, stride, padding, dilation, beyond)
        win = windows.of(x, fill=-np.inf)  # nchw -> ncpqrs
        y: Array = win.max(axis=(4, 5))
        largest = ((win == y[..., None, None]) | np.isnan(win)) & windows.on_image(x.shape[2:])
        winner = largest.reshape(*y.shape, kernel_size[0] * kernel_size[1]).argmax(axis=4)  # the first True of rs
        return y, (winner, windows, x.shape[2:])

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any]:
        winner, image = saved[0], saved[2]
        windows: Windows = saved[1]

        def x_bar() -> Array:
            places = np.arange(windows.size[0] * windows.size[1]).reshape(windows.size)  # rs, counted in scan order
            win_bar = np.where(winner[..., None, None] == places, y_bar[..., None, None], 0)  # ncpq -> ncpqrs
            return windows.add_up(win_bar, image)

        return (x_bar,)


class AvgPool2d(Op):
    """y[n,c,p,q] = sum_rs win[n,c,p,q,r,s] / m[p,q]; padding counts as zero.

    m is R S, or, with count_include_pad=False, the number of places of the window that lie on the image. `overhang`,
    the part of `beyond` by which a window that ceil_mode adds reaches past the padding, is never counted.

    Shapes   x (N, C, H, W)  ->  y (N, C, P, Q) with P = floor((H + 2 padding + beyond - R) / stride) + 1, Q likewise
    VJP      x_bar adds up y_bar[n,c,p,q] / m[p,q] over the windows that cover a pixel
    """

    @staticmethod
    def forward(
        x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool,
        beyond: Pair = (0, 0), overhang: Pair = (0, 0),
    ) -> tuple[Array, Saved]:  # fmt: skip
        windows = Windows(kernel_size, stride, padding, beyond=beyond)
        height, width = windows.padded(x.shape[2:])
        whole = Windows(kernel_size, stride, (0, 0), beyond=overhang)
        inside = whole.on_image((height - overhang[0], width - overhang[1]))
        counted = inside if count_include_pad else windows.on_image(x.shape[2:])
        m = counted.sum(axis=(4, 5)).astype(x.dtype)  # 11pqrs -> 11pq
        y = windows.of(x).sum(axis=(4, 5)) / m
        return y, (m, windows, x.shape[2:])

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any]:
        m, image = saved[0], saved[2]
        windows: Windows = saved[1]

        def x_bar() -> Array:
            each = (y_bar / m)[..., None, None]  # ncpq -> ncpq11
            return windows.add_up(np.broadcast_to(each, (*y_bar.shape, *windows.size)), image)

        return (x_bar,)


def max_pool2d(
    input: Any, kernel_size: Any, *, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """Largest pixel of each window of (N, C, H, W); a tie's gradient goes to the first in scan order.

    kernel_size, stride, dilation   a whole number, or a pair (vertical, horizontal); stride=None means kernel_size
    padding                         the same, or ((top, bottom), (left, right))
    ceil_mode                       one more window where pixels are left over, unless it begins beyond the image

    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).data.tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    x = as_tensor("input", input)
    windows, _ = pool_windows(
        _image(x.shape), kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return apply(MaxPool2d, x, **_options(windows, dilation=windows.dilation, beyond=windows.beyond))


def avg_pool2d(
    input: Any, kernel_size: Any, *, stride: Any = None, padding: Any = 0, count_include_pad: bool = True,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """Mean of each window of (N, C, H, W); padding counts as zeros, or not at all with count_include_pad=False.

    kernel_size, stride, padding, ceil_mode   as in `max_pool2d`

    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).data.tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    x = as_tensor("input", input)
    windows, overhang = pool_windows(_image(x.shape), kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
    options = _options(windows, beyond=windows.beyond, overhang=overhang)
    return apply(AvgPool2d, x, **options, count_include_pad=flag("count_include_pad", count_include_pad))


def adaptive_avg_pool2d(input: Any, output_size: Any = 1) -> Tensor:
    """Mean over each whole image: (N, C, H, W) -> (N, C, 1, 1); only output_size=1 is supported."""
    if pair("output_size", output_size, least=1) != (1, 1):
        raise ArgumentError(
            f"output_size={output_size!r} must be 1; for a larger grid use avg_pool2d with a kernel_size"
        )
    x = as_tensor("input", input)
    check_images(x.shape)
    if 0 in x.shape[2:]:
        raise ShapeError(f"input has shape {x.shape}: an image without pixels has no mean; give it at least one pixel")
    return mean(x, axis=(2, 3), keepdims=True)


def _options(windows: Windows, **more: Pair) -> dict[str, Pair]:
    unusual = {key: value for key, value in more.items() if value != ((1, 1) if key == "dilation" else (0, 0))}
    return {"kernel_size": windows.size, "stride": windows.stride, "padding": windows.padding, **unusual}


def _image(shape: tuple[int, ...]) -> Pair:
    check_images(shape)
    return shape[2], shape[3]


def pool_windows(
    image: Pair, kernel_size: Any, *, stride: Any, padding: Any, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Windows, Pair]:
    """Return the windows of a pooling, and the rows and columns by which ceil_mode lets them reach past the padding."""
    if 0 in image:
        raise ShapeError(f"input has images of {image[0]} x {image[1]} pixels: no window holds one; give it a pixel")
    size = pair("kernel_size", kernel_size, least=1)
    step = size if stride is None else pair("stride", stride, least=1)
    (top, bottom), (left, right) = edges = edges_of(padding)
    windows = Windows(size, step, (top, left), pair("dilation", dilation, least=1), (bottom - top, right - left))
    (tall, wide), even = windows.span, windows.beyond == (0, 0)
    if even and (2 * top > tall or 2 * left > wide):
        raise ArgumentError(
            f"padding={padding!r} is more than half of kernel_size={kernel_size!r}, so a window could miss the image; "
            f"use at most {(tall // 2, wide // 2)}"
        )
    over = (0, 0)
    if flag("ceil_mode", ceil_mode):
        over = _over(image[0], edges[0], tall, step[0]), _over(image[1], edges[1], wide, step[1])
        windows = replace(windows, beyond=(windows.beyond[0] + over[0], windows.beyond[1] + over[1]))
    windows = windows.stepping(image)
    windows.check_fit(f"kernel_size={kernel_size!r}", image)
    if not (even and windows.dilation == (1, 1)) and windows.misses(image):
        raise ArgumentError(
            f"padding={padding!r} lets a window of kernel_size={kernel_size!r} miss the image; use less"
        )
    return windows, over


def _over(n: int, edge: Pair, span: int, stride: int) -> int:
    """Pixels by which the window that ceil_mode adds reaches past n pixels and their padding; 0 where none is added."""
    whole = n + edge[0] + edge[1]
    more = -((span - whole) // stride)  # windows after the first, rounded up
    more -= more * stride >= n + edge[0]
    return max(more * stride + span - whole, 0)
