"""Products of one matrix with many single samples: types, shapes and the method are determined once, beforehand.

``w @ x`` checks types and shapes, and chooses the method, at every call. For a small layer that takes as long as the
product.
"""

from __future__ import annotations

import numpy as np

from l0ref.autodiff.op import compiled
from l0ref.sparse.stored import Stored
from l0ref.validate import Array, flag

EVEN = 0.13  # share of the entries that a sparse product multiplies in the time of a dense product with all of them
CALL = 2_200  # entries that it multiplies in the time by which a sparse call has more overhead than a dense one
LARGEST = 500_000  # entries of a matrix that fits the second-level cache and that BLAS multiplies on one thread


class Plan:
    """A function of one sample: ``plan(w)(x)`` is ``w @ x`` for a vector x.

    w         the matrix
    is_dense  whether the product is dense: the zeros are then multiplied too, and the plan stores the dense matrix

    A sample that is not a vector of the dtype of w, or is not contiguous where the product is sparse, is passed to
    ``w @ x``, which refuses or converts it.

    Why it is fast: the method `dot` of the dense matrix is bound once, which saves, against ``dense @ x``, the time
    of the check of x. The check tests for the same dtype object, since comparing two dtypes takes 0.1 microseconds.
    """

    __slots__ = ("_dense_times", "_dtype", "_fill", "_rows", "_shape", "is_dense", "w")

    def __init__(self, w: Stored, *, is_dense: bool) -> None:
        quick = compiled("prepared")
        self.w, self.is_dense = w, is_dense
        self._rows, self._shape, self._dtype = w.shape[0], w.shape[1:], np.dtype(w.dtype.type)
        self._dense_times = w.to_dense().dot if is_dense else None
        self._fill = quick(w.pattern, w.values) if quick and not is_dense else None

    def __call__(self, x: Array) -> Array:
        """Return W x, (M,), as a fresh array."""
        y: Array
        if type(x) is np.ndarray and x.dtype is self._dtype and x.shape == self._shape:
            if self._dense_times is not None:
                y = self._dense_times(x)
                return y
            if self._fill is not None and x.flags.c_contiguous:
                y = np.empty(self._rows, self._dtype)
                self._fill(x, y)
                return y
        return self.w @ x

    def __repr__(self) -> str:
        return f"Plan({'dense' if self.is_dense else 'sparse'}, {self.w!r})"


def plan(w: Stored, *, dense: bool | None = None) -> Plan:
    """Return a function of single samples x that is faster than ``w @ x``, above all for small matrices.

    dense  whether BLAS multiplies the zeros too, which needs the memory of the dense matrix. None: if at least
           0.13 M D - 2,200 entries are stored and M D <= 500,000, so always if M D is less than 16,900

    >>> import numpy as np
    >>> from l0ref.sparse import CSR, plan
    >>> times_w = plan(CSR.from_dense(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])), dense=False)
    >>> times_w(np.array([1.0, 10.0, 100.0])).tolist()
    [20.0, 301.0]
    """
    if dense is None:
        size = w.shape[0] * w.shape[1]
        dense = size <= LARGEST and w.nnz >= EVEN * size - CALL
    return Plan(w, is_dense=flag("dense", dense))
