"""Compiled twin of `SparseConv2d`.

Where maps are small and images many, a block of as many images as a vector has lanes is convolved at a time, each pixel
a vector; otherwise one image after another, each vector a part of a row of pixels: see `pixel_size`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Saved
from l0ref.fast.machine.policy import flat, threads_for
from l0ref.fast.machine.scratch import room
from l0ref.fast.machine.target import lanes
from l0ref.fast.sparse import planes as sparse_planes
from l0ref.fast.sparse.geometry import Geometry, Pass, passes
from l0ref.fast.sparse.operands import no_floor
from l0ref.fast.sparse.vector import reordered
from l0ref.ops.windows import Pair, Windows
from l0ref.sparse.convolution import Shape, SparseConv2d, check_conv2d
from l0ref.sparse.pattern import Pattern
from l0ref.validate import Array

WIDE = 20  # columns of windows from which images are taken one by one
MEMORY = 2**18  # numbers of planes laid out at a time for the cotangent of the weights: a megabyte of float32


def sparse_conv2d_forward(
    x: Array, values: Array, b: Array | None = None, *, pattern: Pattern, kernel_shape: Shape, stride: Pair,
    padding: Pair, dilation: Pair, groups: int,
) -> Any:  # fmt: skip
    """Value of `l0ref.sparse.convolution.SparseConv2d`; an infinite weight or a NaN is left to that."""
    if not np.isfinite(values).all():
        return NotImplemented  # the cotangent of x multiplies weights by the zeros around that of y
    options = {"pattern": pattern, "kernel_shape": kernel_shape, "stride": stride, "padding": padding}
    options |= {"dilation": dilation, "groups": groups}
    windows = Windows((kernel_shape[2], kernel_shape[3]), stride, padding, dilation)
    check_conv2d(x, values, b, pattern=pattern, kernel_shape=kernel_shape, windows=windows, groups=groups)
    windows = windows.stepping((x.shape[2], x.shape[3]))
    geometry = Geometry(pattern, kernel_shape, windows, x.shape[1:], groups, lanes(x.dtype))
    forward, backward = passes(geometry, pixel_size(geometry, len(x)))
    y = _convolve(forward, x, values, np.zeros(kernel_shape[0], x.dtype) if b is None else b)
    return y, (x, values, b is not None, forward, backward, options)


def sparse_conv2d_vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    """Cotangents of `l0ref.sparse.convolution.SparseConv2d`."""
    x, values, has_bias, forward, backward, options = saved

    def x_bar() -> Array:
        weights = np.empty_like(values)
        reordered(flat(values), backward.order, weights)
        return _convolve(backward, y_bar, weights, np.zeros(backward.target.planes, x.dtype))

    def values_bar() -> Array:
        if np.isfinite(x).all():
            return _sample(forward, x, y_bar)
        found: Array = SparseConv2d.vjp(SparseConv2d.forward(x, values, **options)[1], y_bar)[1]()
        return found  # x times the zeros between the windows' cotangents is NaN in the kernel

    cotangents = (x_bar, values_bar, lambda: y_bar.sum(axis=(0, 2, 3)))
    return cotangents if has_bias else cotangents[:2]


def pixel_size(geometry: Geometry, images: int) -> int:
    """Return the number of values of a pixel: the lanes of a vector, for blocks of images, or 1, for single images.

    A block fills its vectors for any size of map and costs two layouts; it does not pay when half of it is empty.
    A single image wastes the lanes between two rows of windows, and its vectors lie across cache lines.
    Measured at 90, 95 and 99 % zeros, a block took 0.5, 0.5 and 0.4 times as long for 20 maps of 12 x 12 and 50 filters
    of 5 x 5; 0.6, 0.7 and 0.7 for 64 of 8 x 8 by 3 x 3; 1.2, 1.5 and 1.6 for 64 of 32 x 32.
    """
    return geometry.lanes if geometry.windows_on[1] < WIDE and 2 * images > geometry.lanes else 1


def _convolve(step: Pass, x: Array, values: Array, bias: Array) -> Array:
    y, units = np.empty((len(x), *step.target.image), x.dtype), step.units(len(x))
    threads = max(1, min(threads_for(step.work(len(x))), units))
    planes, out, block = step.room
    layout = step.layout(planes, planes + out, planes + out + block, planes + out + 2 * block)
    memory, w = room("planes", threads * (planes + out + 2 * block), x.dtype), (flat(values), step.indptr, step.places)
    numbers, images = tuple(range(step.lanes)), y.reshape(-1)
    biases = flat(bias), no_floor(x.dtype)
    sparse_planes.convolve(flat(x), w, biases, images, memory, step.tables, numbers, layout, units, threads)
    return y


def _sample(step: Pass, x: Array, y_bar: Array) -> Array:
    g, units, width = np.zeros(step.places.size, x.dtype), step.units(len(x)), step.lanes
    threads = threads_for(step.work(len(x)))
    planes, out, block = step.room
    most = max(threads, min(units, MEMORY // (planes + out)))
    sizes = most * planes, most * out, threads * 2 * block, (g.size + (1 + width) * threads) * width
    memory = tuple(room(name, size, x.dtype) for name, size in zip(("x", "y", "spare", "sums"), sizes, strict=True))
    layout, w = step.layout(planes, out, block, 2 * block), (step.indptr, step.places)
    numbers, at_once = tuple(range(width)), (units, most)
    sparse_planes.sample(flat(x), flat(y_bar), w, g, memory, step.tables, numbers, layout, at_once, threads)
    return g
