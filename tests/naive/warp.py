"""Loops for `l0ref.data.augment`."""

from __future__ import annotations

import math

from tests.naive import F64, table


def between(image: F64, y: float, x: float) -> float:
    """An image at a place between its pixels: the four around it by how near they are; outside, the border."""
    rows, cols = image.shape
    total = 0.0
    for h in range(math.floor(y), math.floor(y) + 2):
        for w in range(math.floor(x), math.floor(x) + 2):
            near = max(0.0, 1 - abs(y - h)) * max(0.0, 1 - abs(x - w))
            total += near * image[min(max(h, 0), rows - 1), min(max(w, 0), cols - 1)]
    return total


def warp(x: F64, affine: F64, field: F64) -> F64:
    _, _, rows, cols = x.shape
    grid = field.shape[2] - 1

    def seen(n: int, c: int, p: int, q: int) -> float:
        down, right = p - (rows - 1) / 2, q - (cols - 1) / 2
        at = [
            axis[0] * down + axis[1] * right + axis[2] + (size - 1) / 2
            for axis, size in zip(affine[n], (rows, cols), strict=True)
        ]
        place = (p * grid / (rows - 1) if rows > 1 else 0.0, q * grid / (cols - 1) if cols > 1 else 0.0)
        return between(x[n, c], *(at[i] + between(field[n, i], *place) for i in (0, 1)))

    return table(x.shape, seen)
