"""The sums over samples that the quadratic of a layer needs, computed in chunks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from l0ref.errors import ArgumentError, ShapeError
from l0ref.validate import Array, float_array, same_dtype

LARGEST = 1e150  # sums of this many squares of larger numbers could be infinite: 10^8


class Sums:
    """Sums over chunks of samples minus the mean of the first chunk, which avoids cancellation of a large common mean.

    n         samples        single, dtype  whether y has one axis; the dtype of the samples
    x_mean    (P)            y_mean         (M), both 0 if not centred: then nothing is subtracted anywhere
    x_square  (P)            y_square       (M), sums of x^2 and of y^2
    """

    def __init__(self, chunks: Iterable[tuple[Array, Array]], *, centred: bool = True) -> None:
        self.n, self.is_centred = 0, centred
        for X, Y in chunks:
            x, y = _checked(X, Y)
            if not len(x):
                continue
            if not self.n:
                self._begin(x, y)
            if (x.shape[1], y.ndim) != (len(self.x), 1 if self.single else 2):
                raise ShapeError(f"X has shape {x.shape} in a later chunk, expected (N, {len(self.x)}) as in the first")
            self._add(x.astype(np.float64), y.reshape(len(y), -1).astype(np.float64))
        if not self.n:
            raise ArgumentError("X has 0 samples; pass at least one to calibrate with")
        self.x_mean, self.y_mean = self.x_pivot + self.x / self.n, self.y_pivot + self.y / self.n

    def _begin(self, x: Array, y: Array) -> None:
        self.single, self.dtype = y.ndim == 1, x.dtype
        pivots = (a.mean(axis=0, dtype=np.float64) * self.is_centred for a in (x, y.reshape(len(y), -1)))
        self.x_pivot, self.y_pivot = pivots
        p, m = len(self.x_pivot), len(self.y_pivot)
        self.x, self.x_square, self.xx = np.zeros(p), np.zeros(p), np.zeros((p, p))
        self.y, self.y_square, self.yy, self.xy = np.zeros(m), np.zeros(m), np.zeros(m), np.zeros((p, m))

    def _add(self, x: Array, y: Array) -> None:
        a, b = x - self.x_pivot, y - self.y_pivot
        self.n += len(a)
        self.x += a.sum(axis=0) * self.is_centred
        self.y += b.sum(axis=0) * self.is_centred
        self.xx += a.T @ a
        self.xy += a.T @ b
        self.yy += np.square(b).sum(axis=0)
        self.x_square += np.square(x).sum(axis=0)
        self.y_square += np.square(y).sum(axis=0)

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
        if (largest := float(np.abs(values).max(initial=0.0))) > LARGEST:
            raise ArgumentError(f"{name} has the value {largest:.1e}, too large to square; rescale the samples")
    return x, y
