"""What the quadratic of a layer needs of its samples, added up a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, ShapeError
from l0ref.validate import Array, float_array, same_dtype


@dataclass
class Sums:
    """Sums over chunks, of samples less the mean of the first chunk: what is large in all of them cancels early."""

    n: int
    x_pivot: Array
    y_pivot: Array
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: Array
    x_square: Array
    y_square: Array
    single: bool
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, chunks: Iterable[tuple[Array, Array]]) -> Sums:
        """Add up all chunks."""
        sums = None
        for X, Y in chunks:
            x, y = _checked(X, Y)
            if not len(x):
                continue
            sums = sums or cls._empty(x, y)
            if (x.shape[1], y.ndim) != (len(sums.x), 1 if sums.single else 2):
                raise ShapeError(f"X has shape {x.shape} in a later chunk, expected (N, {len(sums.x)}) as in the first")
            sums._add(x, y.reshape(len(y), -1))
        if sums is None:
            raise ArgumentError("X has 0 samples; pass at least one to calibrate with")
        return sums

    @classmethod
    def _empty(cls, x: Array, y: Array) -> Sums:
        rows = y.reshape(len(y), -1)
        p, m = x.shape[1], rows.shape[1]
        room = [np.zeros(shape) for shape in (p, m, (p, p), (p, m), m, p, m)]
        x_pivot, y_pivot = x.mean(axis=0, dtype=np.float64), rows.mean(axis=0, dtype=np.float64)
        parts: Any = (x_pivot, y_pivot, *room, y.ndim == 1, x.dtype)
        return cls(0, *parts)

    def _add(self, x: Array, y: Array) -> None:
        a, b = x.astype(np.float64) - self.x_pivot, y.astype(np.float64) - self.y_pivot
        self.n += len(a)
        self.x += a.sum(axis=0)
        self.y += b.sum(axis=0)
        self.xx += a.T @ a
        self.xy += a.T @ b
        self.yy += np.square(b).sum(axis=0)
        self.x_square += np.square(x, dtype=np.float64).sum(axis=0)
        self.y_square += np.square(y, dtype=np.float64).sum(axis=0)

    @property
    def x_mean(self) -> Array:
        """Mean of every input."""
        return self.x_pivot + self.x / self.n

    @property
    def y_mean(self) -> Array:
        """Mean of every output."""
        return self.y_pivot + self.y / self.n

    def centred(self) -> tuple[Array, Array, Array]:
        """Return Xc'Xc (P, P), Xc'Yc (P, M) and the sums of yc^2 (M)."""
        x, y = self.x / self.n, self.y / self.n
        squares = np.maximum(self.yy - self.n * y * y, 0.0)
        return self.xx - self.n * np.outer(x, x), self.xy - self.n * np.outer(x, y), squares


def _checked(X: Array, Y: Array) -> tuple[Array, Array]:
    x, y = float_array("X", X), float_array("y", Y)
    same_dtype(X=x, y=y)
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise ShapeError(f"X has shape {x.shape} and y {y.shape}, expected (N, P), and (N, M) or (N)")
    for name, values in (("X", x), ("y", y)):
        if bad := int((~np.isfinite(values)).sum()):
            raise ArgumentError(f"{name} has {bad} of {values.size} values NaN or infinite; drop those samples")
    return x, y
