"""CSR: compressed sparse rows, a pattern and a value for each of its entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.sparse.checks import is_pattern, kept_matrix
from l0ref.sparse.pattern import Pattern
from l0ref.sparse.stored import Stored
from l0ref.validate import Array


@dataclass(frozen=True, eq=False, repr=False)
class CSR(Stored):
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
        values = self.checked_values()
        zeros = values.size - int(np.count_nonzero(values))
        if zeros:
            raise ArgumentError(
                f"values has {zeros} zeros of {values.size}, and a canonical matrix stores none; leave them out with "
                "keep = values != 0: CSR(pattern.select(keep), values[keep])"
            )
        self.freeze(values)

    @classmethod
    def from_dense(cls, w: Any, mask: Any = None) -> CSR:
        """Return a dense matrix as its non-zero entries; with a `mask` of its shape, as those where that is True."""
        dense = kept_matrix(w, mask)
        stored = dense != 0
        return cls(Pattern.from_mask(stored), dense[stored])

    def transpose(self) -> CSR:
        """Return W^T; the pattern keeps the order of its values, so that they are sorted once."""
        return CSR(self.pattern.transpose(), self.values[self.pattern.transpose_order])

    @property
    def indptr(self) -> NDArray[Any]:
        """Where each row begins, and the end: (M + 1,)."""
        return self.pattern.indptr

    @property
    def indices(self) -> NDArray[Any]:
        """Column of each entry: (nnz,)."""
        return self.pattern.indices

    def __repr__(self) -> str:
        return f"CSR(shape={self.shape}, nnz={self.nnz}, density={self.density:.3g}, {self.dtype}, {self.nbytes} bytes)"
