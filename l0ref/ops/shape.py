"""Changes of shape: every entry of the result is an entry of an input, or a constant.

Every VJP undoes the change. Results are copies, never views of an input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.ops.axes import one_axis
from l0ref.validate import Array, count, listed, real


class Reshape(Op):
    """y has the entries of x in scan order and another shape.    VJP  x_bar is y_bar in the shape of x.

    Shapes   x (...) -> y `shape`; one of its sizes may be -1 and follows from the others
    """

    @staticmethod
    def forward(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, Saved]:
        try:
            y = x.reshape(shape)
        except ValueError:
            raise ShapeError(
                f"shape={shape} does not hold the {x.size} entries of an input of shape {x.shape}; "
                "sizes must multiply to that number, and at most one may be -1"
            ) from None
        return y.copy(), (x.shape,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (shape,) = saved
        return (y_bar.reshape(shape),)


class Flatten(Op):
    """y = x with the axes start_dim to end_dim, both included, merged.    VJP  x_bar is y_bar in the shape of x.

    Shapes   x (A, B, C, D) -> y (A, B*C, D) for start_dim = 1, end_dim = 2; a scalar becomes (1,)
    """

    @staticmethod
    def forward(x: Array, *, start_dim: int, end_dim: int) -> tuple[Array, Saved]:
        full = x.shape or (1,)
        start, end = one_axis("start_dim", start_dim, len(full)), one_axis("end_dim", end_dim, len(full))
        if start > end:
            raise ArgumentError(f"start_dim={start_dim} comes after end_dim={end_dim} in shape {x.shape}; swap them")
        merged = int(np.prod(full[start : end + 1]))
        return x.reshape(*full[:start], merged, *full[end + 1 :]).copy(), (x.shape,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (shape,) = saved
        return (y_bar.reshape(shape),)


class Transpose(Op):
    """y = x with the axes dim0 and dim1 swapped.    VJP  x_bar = y_bar with them swapped back."""

    @staticmethod
    def forward(x: Array, *, dim0: int, dim1: int) -> tuple[Array, Saved]:
        swap = one_axis("dim0", dim0, x.ndim), one_axis("dim1", dim1, x.ndim)
        return x.swapaxes(*swap).copy(), swap

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        return (y_bar.swapaxes(*saved),)


class Permute(Op):
    """Axis i of y is axis dims[i] of x.    VJP  axis dims[i] of x_bar is axis i of y_bar."""

    @staticmethod
    def forward(x: Array, *, dims: tuple[int, ...]) -> tuple[Array, Saved]:
        order = tuple(one_axis("dims", dim, x.ndim) for dim in dims)
        if sorted(order) != list(range(x.ndim)):
            raise ArgumentError(f"dims={dims} must name each of the {x.ndim} axes of shape {x.shape} once")
        return x.transpose(order).copy(), (order,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (order,) = saved
        return (y_bar.transpose(np.argsort(order)),)


class Concatenate(Op):
    """y = the inputs one after the other along `axis`.    VJP  each input's cotangent is its part of y_bar.

    Shapes   (..., A, ...), (..., B, ...) -> (..., A + B, ...), equal except along `axis`
    """

    @staticmethod
    def forward(*xs: Array, axis: int) -> tuple[Array, Saved]:
        place = one_axis("axis", axis, xs[0].ndim)
        others = {x.shape[:place] + x.shape[place + 1 :] for x in xs}
        if len(others) > 1 or len({x.ndim for x in xs}) > 1:
            shapes = ", ".join(str(x.shape) for x in xs)
            raise ShapeError(f"tensors have shapes {shapes}; they must be equal but for the size along axis {axis}")
        return np.concatenate(xs, axis=place), (place, np.cumsum([x.shape[place] for x in xs])[:-1])

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> list[Array]:
        axis, cuts = saved
        return np.split(y_bar, cuts, axis=axis)


class Pad(Op):
    """y = x with `value` around it.    VJP  x_bar = the inner part of y_bar.

    pad      (before, after) for the last axis, then for the one before it, and so on; counts of entries
    """

    @staticmethod
    def forward(x: Array, *, pad: tuple[int, ...], value: float) -> tuple[Array, Saved]:
        if len(pad) % 2 or len(pad) > 2 * x.ndim:
            raise ArgumentError(
                f"pad={pad} must hold two counts for each padded axis, last axis first, and at most {2 * x.ndim} "
                f"for shape {x.shape}"
            )
        pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[-2::-2], pad[-1::-2], strict=True))
        inner = tuple(slice(before, before + size) for (before, _), size in zip(pairs, x.shape, strict=True))
        return np.pad(x, pairs, constant_values=value), (inner,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (inner,) = saved
        return (y_bar[inner],)


def reshape(input: Any, shape: tuple[int, ...]) -> Tensor:
    """The entries of `input` in another shape; one size may be -1."""
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    return apply(Reshape, input, shape=tuple(count("shape", size, least=-1) for size in sizes))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the axes from `start_dim` to `end_dim`, both included, into one."""
    return apply(Flatten, input, start_dim=start_dim, end_dim=end_dim)


def transpose(input: Any, dim0: int, dim1: int) -> Tensor:
    """Swap two axes."""
    return apply(Transpose, input, dim0=dim0, dim1=dim1)


def permute(input: Any, dims: tuple[int, ...]) -> Tensor:
    """Put the axes in another order: axis i of the result is axis dims[i] of `input`."""
    return apply(Permute, input, dims=listed("dims", dims))


def concatenate(tensors: Any, axis: int = 0) -> Tensor:
    """Join a list of tensors along `axis`; all other sizes must be equal."""
    if not isinstance(tensors, tuple | list) or not tensors:
        found = "empty" if isinstance(tensors, tuple | list) else type(tensors).__name__
        raise ArgumentError(f"tensors is {found}; pass a list with at least one tensor")
    return apply(Concatenate, *tensors, axis=axis)


def pad(input: Any, pad: tuple[int, ...], *, value: float = 0.0) -> Tensor:
    """Surround `input` with `value`; `pad` = (before, after) of the last axis, then of the one before it, ..."""
    sizes = tuple(count(f"pad[{i}]", size) for i, size in enumerate(listed("pad", pad)))
    return apply(Pad, input, pad=sizes, value=real("value", value))
