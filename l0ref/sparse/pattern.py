"""Which entries of a matrix are stored: compressed sparse rows (CSR) without the values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.sparse.checks import INT32_MAX, Pair, dense_matrix, frozen, mask_matrix, matrix_shape, whole_numbers
from l0ref.validate import Array, as_array

UINT16_COLUMNS = 2**16  # the most columns a uint16 can number


@dataclass(frozen=True, eq=False, repr=False)
class Pattern:
    """The stored entries of a matrix of M rows and D columns, row by row; immutable.

        indptr   (M + 1,)  int32; row i has the entries indptr[i] : indptr[i + 1]
        indices  (nnz,)    column of each entry, strictly rising within a row; uint16 if D <= 65,536, else int32
        shape    (M, D)

    The narrower index makes a float32 entry 6 bytes instead of 8. In measurements a product with one vector took 0.7
    of the time it takes with int32, a product with 128 vectors the same time.

    Given arrays of any whole numbers, construction checks every rule and keeps read-only copies, so that the indices
    of a Pattern may be used unchecked. The nnz values of the entries are not part of it: they change when a network
    trains, its pattern does not, and layers and matrices share one pattern.

    >>> import numpy as np
    >>> Pattern.from_mask(np.array([[True, False, True], [False, False, False]])).indices.tolist()
    [0, 2]
    """

    indptr: NDArray[Any]
    indices: NDArray[Any]
    shape: Pair

    def __post_init__(self) -> None:
        rows, columns = matrix_shape(self.shape)
        indptr, indices = whole_numbers("indptr", self.indptr), whole_numbers("indices", self.indices)
        _check_rows(indptr, indices.size, rows)
        _check_columns(indptr, indices, columns)
        object.__setattr__(self, "shape", (rows, columns))
        object.__setattr__(self, "indptr", frozen(indptr, np.int32))
        object.__setattr__(self, "indices", frozen(indices, np.uint16 if columns <= UINT16_COLUMNS else np.int32))

    @classmethod
    def from_mask(cls, mask: Any) -> Pattern:
        """Return the pattern of a boolean matrix: an entry for each True."""
        keep = mask_matrix("mask", mask)
        indptr = np.concatenate([[0], np.count_nonzero(keep, axis=1).cumsum(dtype=np.int64)])
        return cls(indptr, np.nonzero(keep)[1], (keep.shape[0], keep.shape[1]))

    def to_mask(self) -> NDArray[np.bool_]:
        """Return a boolean matrix, True where an entry is stored."""
        mask = np.zeros(self.shape, np.bool_)
        mask[self.rows, self.indices] = True
        return mask

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return int(self.indices.size)

    @property
    def density(self) -> float:
        """Stored entries over all entries; 1 for a matrix without entries."""
        return density(self.nnz, self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of `indptr` and `indices`; the transpose, made on first use, is not counted."""
        return self.indptr.nbytes + self.indices.nbytes

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Shape of the values that go with the pattern: (nnz,)."""
        return (self.nnz,)

    @property
    def rows(self) -> NDArray[np.int32]:
        """Row of each entry, (nnz,); a fresh array."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.indptr))

    def transpose(self) -> Pattern:
        """Return the pattern of the transposed matrix; the same object each time."""
        return self._transpose[0]

    @property
    def transpose_order(self) -> NDArray[np.int32]:
        """Order of the values in the transpose: those of W^T are ``values[pattern.transpose_order]``.

        Computed once and kept, so that new values are transposed by one gather.
        """
        return self._transpose[1]

    @cached_property
    def _transpose(self) -> tuple[Pattern, NDArray[np.int32]]:
        order = np.argsort(self.indices, kind="stable")  # by column; within a column by row, as stored
        counts = np.bincount(self.indices, minlength=self.shape[1])
        indptr = np.concatenate([[0], counts.cumsum(dtype=np.int64)])
        return Pattern(indptr, self.rows[order], self.shape[::-1]), frozen(order, np.int32)

    def select(self, keep: Any) -> Pattern:
        """Return the pattern of the entries where `keep`, bool (nnz,), is True; their values are ``values[keep]``."""
        chosen = as_array("keep", keep)
        if chosen.dtype != np.bool_:
            raise DTypeError(f"keep has dtype {chosen.dtype}, expected bool; compare the values, as in values != 0")
        if chosen.shape != self.indices.shape:
            raise ShapeError(f"keep has shape {chosen.shape}, expected {self.indices.shape}: one for each stored entry")
        before = np.concatenate([[0], chosen.cumsum(dtype=np.int64)])  # chosen entries before each entry
        return Pattern(before[self.indptr], self.indices[chosen], self.shape)

    def gather(self, w: Any) -> Array:
        """Return the stored entries of a dense matrix, (M, D) -> (nnz,), zeros included."""
        dense = dense_matrix("w", w)
        if dense.shape != self.shape:
            raise ShapeError(f"w has shape {dense.shape}, expected {self.shape}, that of the pattern")
        return np.asarray(dense[self.rows, self.indices])

    def scatter(self, values: Array) -> Array:
        """Return the dense matrix, (nnz,) -> (M, D), zero where nothing is stored."""
        stored = as_array("values", values)
        check_values(self, stored)
        dense = np.zeros(self.shape, stored.dtype)
        dense[self.rows, self.indices] = stored
        return dense

    def __reduce__(self) -> Any:  # copies and unpickled objects are checked and read-only, too
        return Pattern, (self.indptr, self.indices, self.shape)

    def __repr__(self) -> str:
        return f"Pattern(shape={self.shape}, nnz={self.nnz}, density={self.density:.3g})"


def density(nnz: int, shape: Pair) -> float:
    """Return stored entries over all entries of a matrix; 1 for a matrix without entries."""
    size = shape[0] * shape[1]
    return nnz / size if size else 1.0


def check_values(pattern: Any, values: Array) -> None:
    """Refuse values of another shape than the pattern's."""
    if values.shape != pattern.values_shape:
        raise ShapeError(
            f"values has shape {values.shape}, expected {pattern.values_shape}, the entries that the pattern stores; "
            "take them with pattern.gather(w)"
        )


def _check_rows(indptr: NDArray[np.int64], nnz: int, rows: int) -> None:
    if indptr.shape != (rows + 1,):
        raise ShapeError(
            f"indptr has shape {indptr.shape}, expected ({rows + 1},): where each of the {rows} rows begins and ends"
        )
    if max(int(indptr.max()), nnz) > INT32_MAX:
        raise ArgumentError(f"indptr ends at {int(indptr.max())}, beyond int32; split the matrix by rows")
    if (indptr[0], indptr[-1]) != (0, nnz):
        raise ArgumentError(
            f"indptr runs from {indptr[0]} to {indptr[-1]}, expected 0 to {nnz}, the length of indices; "
            "give every entry to a row"
        )
    falls = np.flatnonzero(np.diff(indptr) < 0)
    if falls.size:
        i = int(falls[0])
        raise ArgumentError(
            f"indptr falls from {indptr[i]} to {indptr[i + 1]} in row {i}; a row must end where the next one begins"
        )


def _check_columns(indptr: NDArray[np.int64], indices: NDArray[np.int64], columns: int) -> None:
    if not indices.size:
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= columns:
        raise ArgumentError(
            f"indices holds the column {low if low < 0 else high}, outside [0, {columns}); count columns from 0, "
            "or give the shape of the whole matrix"
        )
    rises = np.diff(indices) > 0
    starts = indptr[1:-1]
    rises[starts[(starts > 0) & (starts < indices.size)] - 1] = True  # a new row may begin anywhere
    stuck = np.flatnonzero(~rises)
    if stuck.size:
        i = int(np.searchsorted(indptr, stuck[0] + 1, side="right")) - 1
        raise ArgumentError(
            f"indices of row {i} do not rise strictly; sort every row by column and add up repeated entries "
            "(in SciPy: sum_duplicates)"
        )
