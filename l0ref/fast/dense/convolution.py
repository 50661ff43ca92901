"""Compiled twin of `Conv2d`: chooses between three algorithms, each in a file of its own.

    winograd   3 x 3 at stride 1, with many channels and filters: fewer products
    direct     other sizes, strides and dilations
    unrolled   a few images, which would leave most lanes of a block empty, and more than one group of channels

Why it is fast: see those files. Where stride is 1 the cotangent of x is itself a convolution, of y_bar with the weights
rotated by 180 degrees, and uses the same algorithms: gathering writes each pixel once, scattering once for each window.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

from l0ref.autodiff.op import Saved
from l0ref.fast.dense import unrolled, winograd
from l0ref.fast.dense.direct import Direct
from l0ref.fast.dense.winograd import Winograd
from l0ref.fast.machine.target import lanes
from l0ref.ops.windows import Pair, Windows
from l0ref.validate import Array

WASTE = 1.3  # pixels for each window up to which gathering x_bar is faster than scattering it


def conv2d_forward(
    x: Array, k: Array, b: Array | None = None, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """Value of `l0ref.ops.convolution.Conv2d`."""
    if groups != 1 or 2 * len(x) < lanes(x.dtype):
        y, saved = unrolled.conv2d_forward(x, k, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return y, (unrolled.conv2d_vjp, saved)
    windows = Windows((k.shape[2], k.shape[3]), stride, padding, dilation)
    return way(x.shape, k.shape, windows, x.dtype).forward(x, k, b), (_vjp, (x, k, b is not None, windows))


def conv2d_vjp(saved: Saved, y_bar: Array) -> Any:
    """Cotangents of `l0ref.ops.convolution.Conv2d`."""
    vjp, rest = saved
    return vjp(rest, y_bar)


def _vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    x, k, has_bias, windows = saved

    def x_bar() -> Array:
        if not gathers(x.shape, y_bar.shape, windows):
            return direct(x.shape, len(k), windows, x.dtype).input_cotangent(k, y_bar)
        turned = k[:, :, ::-1, ::-1].swapaxes(0, 1)
        border = tuple(windows.span[i] - 1 - windows.padding[i] for i in (0, 1))
        back = Windows(windows.size, (1, 1), (border[0], border[1]), windows.dilation)
        return way(y_bar.shape, turned.shape, back, x.dtype).forward(y_bar, turned, None)

    def k_bar() -> Array:
        found = way(x.shape, k.shape, windows, x.dtype)
        if isinstance(found, Winograd) and not found.has_many_tiles:
            found = direct(x.shape, len(k), windows, x.dtype)
        return found.weight_cotangent(x, y_bar)

    cotangents = (x_bar, k_bar, lambda: y_bar.sum(axis=(0, 2, 3)))
    return cotangents if has_bias else cotangents[:2]


def way(x: tuple[int, ...], k: tuple[int, ...], windows: Windows, dtype: Any) -> Direct | Winograd:
    """Return the faster algorithm of one convolution."""
    return filtered(x, k[0], windows, dtype) if winograd.pays(x, k, windows) else direct(x, k[0], windows, dtype)


def gathers(x: tuple[int, ...], y: tuple[int, ...], windows: Windows) -> bool:
    """Whether x_bar is better gathered, pixel by pixel, from the windows that reach it, than scattered.

    Gathering writes each pixel once, but also computes windows that reach beyond y, where all is 0.
    """
    inside = all(windows.padding[i] < windows.span[i] for i in (0, 1))
    return inside and windows.stride == (1, 1) and 0 < prod(x[2:]) <= WASTE * prod(y[2:])


direct = lru_cache(maxsize=64)(Direct)  # tables take as long to make as a small convolution
filtered = lru_cache(maxsize=64)(Winograd)
