"""Sparse matrices to and from SciPy, which comes with the extra `crosscheck`."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.interop.extras import need
from l0ref.sparse import CSR, Pattern


def to_scipy(w: CSR) -> Any:
    """Return the matrix as a scipy.sparse.csr_array with int32 indices and copies of the arrays."""
    if not isinstance(w, CSR):
        raise ArgumentError(f"w is {type(w).__name__}, expected l0ref.sparse.CSR; make one with CSR.from_dense(w)")
    found = need("scipy.sparse", extra="crosscheck").csr_array(
        (w.values.copy(), w.indices.astype(np.int32), w.indptr.copy()), shape=w.shape
    )
    found.has_canonical_format = True
    return found


def from_scipy(w: Any) -> CSR:
    """Return a SciPy matrix of compressed sparse rows, which must be canonical, as a CSR with copies of its arrays.

    SciPy allows unsorted rows, repeated entries and stored zeros, which a CSR does not. ``w.sum_duplicates()`` and
    ``w.eliminate_zeros()`` make such a matrix canonical.
    """
    if getattr(w, "format", None) != "csr":
        kind = getattr(w, "format", type(w).__name__)
        raise ArgumentError(f"w has the format {kind!r}, expected 'csr'; convert it with scipy.sparse.csr_array(w)")
    rows, columns = w.shape
    return CSR(Pattern(w.indptr, w.indices, (rows, columns)), w.data)
