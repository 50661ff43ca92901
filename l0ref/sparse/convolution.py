"""Convolution with a sparse kernel: each stored weight adds one shifted image, times the weight, to one output.

The axis letters n c f h w p q r s are those of `l0ref.ops.windows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.ops.inputs import as_tensor
from l0ref.ops.windows import Pair, Windows, check_images
from l0ref.sparse.checks import is_pattern
from l0ref.sparse.pattern import Pattern, check_values
from l0ref.validate import Array, count, pair

Shape = tuple[int, ...]


class SparseConv2d(Op):
    """y[n,f,p,q] = b[f] + sum over stored (f,c,r,s) of win[n,c,p,q,r,s] k[f,c,r,s]: `Conv2d` without the zeros.

    The pattern is that of the kernel as a matrix, (F, C/G R S) in C order: entry (f, (c R + r) S + s) is k[f,c,r,s].
    For one stored weight and all n, p, q the pixels win[n,c,p,q,r,s] are one slice of the padded images.

    Shapes   x (N, C, H, W), values (nnz,), b (F) or absent -> y (N, F, P, Q), with P and Q as for `Conv2d`
    VJP      x_bar: each weight adds y_bar[:,f] times itself to its slice
             k_bar[f,c,r,s] = sum_npq y_bar[n,f,p,q] win[n,c,p,q,r,s] for stored weights    b_bar[f] = sum_npq y_bar
    """

    @staticmethod
    def forward(
        x: Array, values: Array, b: Array | None = None, *, pattern: Pattern, kernel_shape: Shape, stride: Pair,
        padding: Pair, dilation: Pair, groups: int,
    ) -> tuple[Array, Saved]:  # fmt: skip
        windows = Windows((kernel_shape[2], kernel_shape[3]), stride, padding, dilation)
        check_conv2d(x, values, b, pattern=pattern, kernel_shape=kernel_shape, windows=windows, groups=groups)
        kernel = _Kernel(pattern, kernel_shape, windows.stepping((x.shape[2], x.shape[3])), groups)
        padded = _padded(x, padding)
        y = np.zeros((x.shape[0], kernel_shape[0], *kernel.grid(padded.shape)), x.dtype)
        if b is not None:
            y += b[:, None, None]
        for i, f, pixels in kernel.slices(padded.shape):
            y[:, f] += values[i] * padded[pixels]
        return y, (x, values, b is not None, kernel)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
        x, values, has_bias, kernel = saved
        padding = kernel.windows.padding

        def x_bar() -> Array:
            padded = np.zeros_like(_padded(x, padding))
            for i, f, pixels in kernel.slices(padded.shape):
                padded[pixels] += values[i] * y_bar[:, f]
            (top, left), (height, width) = padding, x.shape[2:]
            return np.ascontiguousarray(padded[:, :, top : top + height, left : left + width])

        def values_bar() -> Array:
            padded = _padded(x, padding)
            out: Array = np.empty_like(values)
            for i, f, pixels in kernel.slices(padded.shape):
                out[i] = np.vdot(padded[pixels], y_bar[:, f])
            return out

        cotangents = (x_bar, values_bar, lambda: y_bar.sum(axis=(0, 2, 3)))
        return cotangents if has_bias else cotangents[:2]


@dataclass(frozen=True)
class _Kernel:
    """The stored weights of a kernel, and the pixels that each of them multiplies."""

    pattern: Pattern
    shape: Shape
    windows: Windows
    groups: int

    def grid(self, padded: Shape) -> Pair:
        """Rows P and columns Q of windows on padded images."""
        (tall, wide), (down, right) = self.windows.span, self.windows.stride
        return (padded[2] - tall) // down + 1, (padded[3] - wide) // right + 1

    def slices(self, padded: Shape) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
        """For each stored weight: its number, its filter, and the pixels (N, P, Q) of padded images it multiplies."""
        (p, q), (down, right) = self.grid(padded), self.windows.stride
        entries = weight_positions(self.pattern, self.shape, self.windows, self.groups)
        for i, (f, channel, h, w) in enumerate(zip(*entries, strict=True)):
            yield i, f, (slice(None), channel, slice(h, h + p * down, down), slice(w, w + q * right, right))


def weight_positions(
    pattern: Pattern, kernel_shape: Shape, windows: Windows, groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return filter, channel of x, row and column in the window of each stored weight; the last two in pixels."""
    f, (c, r, s) = pattern.rows.astype(np.int64), np.unravel_index(pattern.indices, kernel_shape[1:])
    channel = c + f // (kernel_shape[0] // groups) * kernel_shape[1]  # from channel of the group to channel of x
    return f, channel, r * windows.dilation[0], s * windows.dilation[1]


def _padded(x: Array, padding: Pair) -> Array:
    (top, left) = padding
    return np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))


def sparse_conv2d(
    input: Any, values: Any, bias: Any = None, *, pattern: Pattern, kernel_shape: Any, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Cross-correlate images (N, C, H, W) with a sparse kernel, giving (N, F, P, Q); `ops.conv2d` without the zeros.

    values        (nnz,) stored weights, in the order of the pattern
    pattern       of the kernel as a matrix, ``Pattern.from_mask(kernel.reshape(F, -1) != 0)``
    kernel_shape  (F, C/groups, R, S), the shape of the dense kernel
    bias          (F), added to each filter's output, or None
    stride, padding, dilation, groups   as in `ops.conv2d`

    >>> import numpy as np
    >>> image, kernel = np.arange(9.0).reshape(1, 1, 3, 3), np.array([[1.0, 0.0, 0.0, 1.0]])
    >>> pattern = Pattern.from_mask(kernel != 0)
    >>> sparse_conv2d(image, pattern.gather(kernel), pattern=pattern, kernel_shape=(1, 1, 2, 2)).data.tolist()
    [[[[4.0, 6.0], [10.0, 12.0]]]]
    """
    x, v = as_tensor("input", input), as_tensor("values", values)
    inputs = (x, v) if bias is None else (x, v, as_tensor("bias", bias))
    return apply(
        SparseConv2d, *inputs, pattern=pattern, kernel_shape=_kernel_shape(kernel_shape),
        stride=pair("stride", stride, least=1), padding=pair("padding", padding),
        dilation=pair("dilation", dilation, least=1), groups=count("groups", groups, least=1),
    )  # fmt: skip


def check_conv2d(
    x: Array, values: Array, bias: Array | None, *, pattern: Pattern, kernel_shape: Shape, windows: Windows, groups: int
) -> None:
    """Refuse inputs that do not fit each other; twins, whose kernels do not check shapes, call this too."""
    check_images(x.shape)
    is_pattern("pattern", pattern, Pattern, made_by="Pattern.from_mask(kernel.reshape(F, -1) != 0)")
    check_values(pattern, values)
    matrix = (kernel_shape[0], prod(kernel_shape[1:]))
    if pattern.shape != matrix:
        raise ShapeError(
            f"pattern has shape {pattern.shape}, expected {matrix}: that of a kernel {kernel_shape} as a matrix; "
            "make it from kernel.reshape(F, -1)"
        )
    for size, whose in ((x.shape[1], "channels of input"), (kernel_shape[0], "filters of kernel_shape")):
        if size % groups:
            raise ArgumentError(f"groups={groups} does not divide the {size} {whose}; choose a divisor")
    if kernel_shape[1] * groups != x.shape[1]:
        raise ShapeError(
            f"kernel_shape={kernel_shape} with groups={groups} reads {kernel_shape[1] * groups} channels, but input of "
            f"shape {x.shape} has {x.shape[1]}; give it {x.shape[1] // groups} channels"
        )
    if bias is not None and bias.shape != kernel_shape[:1]:
        raise ShapeError(f"bias has shape {bias.shape}, expected {kernel_shape[:1]}: one number for each filter")
    windows.check_fit(f"kernel_shape={kernel_shape} with dilation={windows.dilation}", (x.shape[2], x.shape[3]))


def _kernel_shape(value: Any) -> Shape:
    if not isinstance(value, tuple | list) or len(value) != 4:
        raise ShapeError(f"kernel_shape={value!r} must have four sizes, (F, C/groups, R, S), those of the dense kernel")
    return tuple(count(f"kernel_shape[{i}]", size, least=1) for i, size in enumerate(value))
