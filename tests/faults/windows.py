"""Stride, padding, dilation and kernel: convolution, pooling and padding whose gradient uses other ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.ops.windows import Windows
from l0ref.validate import Array
from tests.faults.plant import Spot, of_pair, of_result, with_result
from tests.faults.points import Pair

IMAGES = ("Conv2d", "AvgPool2d", "MaxPool2d")


@dataclasses.dataclass(frozen=True)
class Cut(Windows):
    """Windows of which only those of the first P rows and Q columns are used, as many as the result has."""

    grid: tuple[int, int] = (0, 0)

    def of(self, x: Array, *, fill: float = 0.0) -> Array:
        p, q = self.grid
        return super().of(x, fill=fill)[:, :, :p, :q]


@of_pair("stride 1 in the gradient")
def stride_forgotten(s: Spot) -> Pair | None:
    return _other_windows(s, lambda _: {"stride": (1, 1)})


@of_pair("dilation 1 in the gradient")
def dilation_forgotten(s: Spot) -> Pair | None:
    return _other_windows(s, lambda _: {"dilation": (1, 1)})


@of_pair("padding off by one in the gradient")
def padding_off_by_one(s: Spot) -> Pair | None:
    if s.target.name == "Pad":
        return with_result(s, lambda _, call: call[1][tuple(slice(c.start + 1, c.stop + 1) for c in call[0][1][0])])
    return _other_windows(s, lambda w: {"padding": (w.padding[0] + 1, w.padding[1] + 1)})


def _other_windows(s: Spot, change: Callable[[Windows], dict[str, Any]]) -> Pair | None:
    """The true derivative with other windows; input 2 of a convolution, the bias, knows of none."""
    if s.target.name not in IMAGES or s.which == 2:
        return None
    true = s.target.true

    def wrong(_: Array, call: tuple[Any, Array]) -> Array:
        (xs, inner), y_bar = call
        cut = [_cut(part, change, y_bar) if isinstance(part, Windows) else part for part in inner]
        return true.vjp((xs, tuple(cut)), y_bar)[s.which]

    return with_result(s, wrong)


def _cut(windows: Windows, change: Callable[[Windows], dict[str, Any]], y_bar: Array) -> Cut:
    fields = dataclasses.asdict(windows) | change(windows)
    return Cut(**fields, grid=(y_bar.shape[2], y_bar.shape[3]))


@of_pair("the kernel is not flipped, or flipped once too often")
def kernel_flipped(s: Spot) -> Pair | None:
    return _other_kernel(s, lambda k: k[..., ::-1, ::-1])


@of_pair("the last place of the kernel is left out")
def kernel_place_left_out(s: Spot) -> Pair | None:
    def without_last(k: Array) -> Array:
        k = k.copy()
        k[..., -1, -1] = 0
        return k

    return _other_kernel(s, without_last)


def _other_kernel(s: Spot, change: Callable[[Array], Array]) -> Pair | None:
    if s.target.name != "Conv2d" or s.which == 2:
        return None
    true = s.target.true

    def wrong(g: Array, call: tuple[Any, Array]) -> Array:
        (xs, (x, k, *rest)), y_bar = call
        return true.vjp((xs, (x, change(k), *rest)), y_bar)[0] if s.which == 0 else change(g)

    return with_result(s, wrong)


@of_result("channels of the image exchanged: those of one group meet the filters of another")
def channels_exchanged(g: Array, s: Spot) -> Array | None:
    return np.flip(g, 1) if s.target.name in IMAGES and s.which == 0 and g.shape[1] > 1 else None
