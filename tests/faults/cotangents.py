"""What is done with the cotangent that comes in. A surrogate gets none, so these are planted in operations."""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array
from tests.faults.plant import Spot, of_cotangent


@of_cotangent("the cotangent is ignored: ones are assumed")
def cotangent_ignored(y_bar: Array, _: Spot) -> Array:
    return np.ones_like(y_bar)


@of_cotangent("of the cotangent only the sign is used")
def cotangent_sign(y_bar: Array, _: Spot) -> Array:
    return np.sign(y_bar)


@of_cotangent("the cotangent is clipped to [-1, 1]")
def cotangent_clipped(y_bar: Array, _: Spot) -> Array:
    return np.clip(y_bar, -1, 1)


@of_cotangent("of the cotangent only the positive part is used")
def cotangent_positive(y_bar: Array, _: Spot) -> Array:
    return np.maximum(y_bar, 0)


@of_cotangent("the cotangent is averaged over the result: every entry gets the mean")
def cotangent_averaged(y_bar: Array, _: Spot) -> Array | None:
    return np.full_like(y_bar, y_bar.mean()) if y_bar.size > 1 else None


@of_cotangent("the cotangent transposed: the sum runs over the wrong axis", at="square")
def cotangent_transposed(y_bar: Array, _: Spot) -> Array | None:
    square = y_bar.ndim > 1 and y_bar.shape[-1] == y_bar.shape[-2] > 1
    return y_bar.swapaxes(-1, -2).copy() if square else None


@of_cotangent("the cotangent rounded to float16")
def cotangent_float16(y_bar: Array, _: Spot) -> Array:
    return y_bar.astype(np.float16).astype(np.float64)
