"""The common base of the sparse matrices: a pattern, and a value for each of its stored entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from l0ref.sparse.checks import Pair, finite, frozen
from l0ref.sparse.matmul import times
from l0ref.sparse.pattern import check_values
from l0ref.validate import Array, float_array


@dataclass(frozen=True, eq=False, repr=False)
class Stored:
    """Base of `CSR` and `BCSR`; immutable. The product with a dense vector or matrix is ``w @ x``."""

    pattern: Any
    values: Array

    def checked_values(self) -> Array:
        """Return the values, which must have the shape of the pattern and be finite."""
        values = float_array("values", self.values)
        check_values(self.pattern, values)
        finite("values", values)
        return values

    def freeze(self, values: Array) -> None:
        """Hold a read-only copy of checked values."""
        object.__setattr__(self, "values", frozen(values, values.dtype))

    def to_dense(self) -> Array:
        """Return the matrix as a dense array, (M, D)."""
        return np.asarray(self.pattern.scatter(self.values))

    def with_values(self, values: Array) -> Self:
        """Return a matrix of the same pattern with other values."""
        return type(self)(self.pattern, values)

    __array_ufunc__ = None  # so that `array @ w` is an error and not an array of objects

    def __matmul__(self, x: Array) -> Array:
        return times(self.pattern, self.values, x)

    @property
    def shape(self) -> Pair:
        """Rows and columns."""
        shape: Pair = self.pattern.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.values.dtype

    @property
    def nnz(self) -> int:
        """Number of stored entries, including zeros within the tiles, without padding."""
        return int(self.pattern.nnz)

    @property
    def density(self) -> float:
        """Stored entries over all entries."""
        return float(self.pattern.density)

    @property
    def nbytes(self) -> int:
        """Bytes of values, columns and row starts."""
        return int(self.values.nbytes + self.pattern.nbytes)

    def __reduce__(self) -> Any:  # copies and unpickled objects are checked and read-only, too
        return type(self), (self.pattern, self.values)
