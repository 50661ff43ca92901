"""CSR: compressed sparse rows, a pattern and a value for each of its entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.sparse.checks import Pair, finite, frozen, is_pattern, kept_matrix
from l0ref.sparse.matmul import times
from l0ref.sparse.pattern import Pattern, check_values
from l0ref.validate import Array, float_array


@dataclass(frozen=True, eq=False, repr=False)
class CSR:
    """A sparse matrix of M rows and D columns in canonical form; immutable.

        pattern  which entries are stored
        values   (nnz,) float32 or float64, finite and not zero, in the order of the pattern

    The product with a dense vector or matrix is ``w @ x``.

    >>> import numpy as np
    >>> w = CSR.from_dense(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]))
    >>> w.values.tolist(), w.indices.tolist(), w.indptr.tolist(), w.nbytes  # 3 (8 + 2) + 3 x 4 bytes
    ([2.0, 1.0, 3.0], [1, 0, 2], [0, 1, 3], 42)
    """

    pattern: Pattern
    values: Array

    def __post_init__(self) -> None:
        is_pattern("pattern", self.pattern, Pattern, made_by="Pattern.from_mask(w != 0)")
        values = float_array("values", self.values)
        check_values(self.pattern, values)
        finite("values", values)
        zeros = values.size - int(np.count_nonzero(values))
        if zeros:
            raise ArgumentError(
                f"values has {zeros} zeros of {values.size}, and a canonical matrix stores none; leave them out with "
                "keep = values != 0: CSR(pattern.select(keep), values[keep])"
            )
        object.__setattr__(self, "values", frozen(values, values.dtype))

    @classmethod
    def from_dense(cls, w: Any, mask: Any = None) -> CSR:
        """Return the entries of a dense matrix that are not zero and, with a `mask` like it, where that is True."""
        dense = kept_matrix(w, mask)
        stored = dense != 0
        return cls(Pattern.from_mask(stored), dense[stored])

    def to_dense(self) -> Array:
        """Return the matrix as a dense array, (M, D)."""
        return self.pattern.scatter(self.values)

    def with_values(self, values: Array) -> CSR:
        """Return a matrix of the same pattern with other values."""
        return CSR(self.pattern, values)

    def transpose(self) -> CSR:
        """Return W^T; the order it is sorted by is kept in the pattern."""
        return CSR(self.pattern.transpose(), self.values[self.pattern.transpose_order])

    __array_ufunc__ = None  # so that `array @ w` is an error, not an array of objects

    def __matmul__(self, x: Array) -> Array:
        return times(self.pattern, self.values, x)

    @property
    def indptr(self) -> NDArray[Any]:
        """Where each row begins, and the end: (M + 1,)."""
        return self.pattern.indptr

    @property
    def indices(self) -> NDArray[Any]:
        """Column of each entry: (nnz,)."""
        return self.pattern.indices

    @property
    def shape(self) -> Pair:
        """Rows and columns."""
        return self.pattern.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.values.dtype

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return self.pattern.nnz

    @property
    def density(self) -> float:
        """Stored entries over all entries."""
        return self.pattern.density

    @property
    def nbytes(self) -> int:
        """Bytes of values, columns and row starts."""
        return self.values.nbytes + self.pattern.nbytes

    def __reduce__(self) -> Any:  # copies and what is unpickled are checked and read-only, too
        return CSR, (self.pattern, self.values)

    def __repr__(self) -> str:
        return f"CSR(shape={self.shape}, nnz={self.nnz}, density={self.density:.3g}, {self.dtype}, {self.nbytes} bytes)"
