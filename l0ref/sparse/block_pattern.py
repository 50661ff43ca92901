"""Which tiles of a matrix are stored: block compressed sparse rows (BCSR) without the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ShapeError
from l0ref.masks.tiles import grid, tiled, untiled
from l0ref.sparse.checks import Pair, dense_matrix, is_pattern, mask_matrix, matrix_shape
from l0ref.sparse.pattern import Pattern, check_values, density
from l0ref.validate import Array, as_array, pair


@dataclass(frozen=True, eq=False, repr=False)
class BlockPattern:
    """The stored tiles of a matrix of M rows and D columns, b_r x b_c entries each; immutable.

        tiles      the pattern of the ceil(M / b_r) x ceil(D / b_c) grid of tiles: a CSR whose entries are tiles
        shape      (M, D)
        blocksize  (b_r, b_c)

    Tiles begin at the upper left corner. Where b_r does not divide M, or b_c not D, the tiles at the lower or right
    edge reach beyond the matrix. Values are whole tiles, (tiles, b_r, b_c), and their entries beyond the edge are
    padding: 0, read by no product, with gradient exactly 0, so that training leaves them 0.

    >>> import numpy as np
    >>> mask = np.zeros((5, 6), bool)
    >>> mask[4, 5] = mask[0, 1] = True
    >>> p = BlockPattern.from_mask(mask, blocksize=(2, 4))
    >>> p.grid, p.indptr.tolist(), p.indices.tolist(), p.nnz  # the second tile has 1 x 2 entries inside
    ((3, 2), [0, 1, 1, 2], [0, 1], 10)
    """

    tiles: Pattern
    shape: Pair
    blocksize: Pair

    def __post_init__(self) -> None:
        is_pattern("tiles", self.tiles, Pattern, made_by="BlockPattern.from_mask(w != 0, blocksize=...)")
        object.__setattr__(self, "shape", matrix_shape(self.shape))
        object.__setattr__(self, "blocksize", pair("blocksize", self.blocksize, least=1))
        if self.tiles.shape != self.grid:
            raise ShapeError(
                f"tiles has shape {self.tiles.shape}, expected {self.grid}: the grid of {self.blocksize} tiles that "
                f"covers a matrix of shape {self.shape}"
            )

    @classmethod
    def from_mask(cls, mask: Any, *, blocksize: int | Pair) -> BlockPattern:
        """Return the pattern of the tiles that contain a True."""
        keep, size = mask_matrix("mask", mask), pair("blocksize", blocksize, least=1)
        return cls(Pattern.from_mask(tiled(keep, size).any(axis=(2, 3))), (keep.shape[0], keep.shape[1]), size)

    def to_mask(self) -> NDArray[np.bool_]:
        """Return a boolean matrix, True in every stored tile."""
        return self._spread(np.ones(self.values_shape, np.bool_))

    @property
    def grid(self) -> Pair:
        """Rows and columns of tiles."""
        return grid(self.shape, self.blocksize)

    @property
    def indptr(self) -> NDArray[Any]:
        """Where each row of tiles begins, and the end."""
        return self.tiles.indptr

    @property
    def indices(self) -> NDArray[Any]:
        """Column of each tile, in tiles."""
        return self.tiles.indices

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Shape of the values that go with the pattern: (tiles, b_r, b_c)."""
        return (self.tiles.nnz, *self.blocksize)

    @property
    def nnz(self) -> int:
        """Number of stored entries, including zeros within the tiles, without padding."""
        return int((self._tile_rows() * self._tile_columns()).sum())

    @property
    def density(self) -> float:
        """Stored entries over all entries; 1 for a matrix without entries."""
        return density(self.nnz, self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of `indptr` and `indices`."""
        return self.tiles.nbytes

    def transpose(self) -> BlockPattern:
        """Return the pattern of the transposed matrix, with tiles of b_c x b_r."""
        return BlockPattern(self.tiles.transpose(), self.shape[::-1], self.blocksize[::-1])

    @property
    def transpose_order(self) -> NDArray[np.int32]:
        """Order of the tiles in the transpose, whose values are ``values[pattern.transpose_order].swapaxes(1, 2)``."""
        return self.tiles.transpose_order

    def padding(self) -> NDArray[np.bool_]:
        """Return where values lie beyond the edge of the matrix: bool, (tiles, b_r, b_c)."""
        rows, columns = (np.arange(size) for size in self.blocksize)
        inside_row = rows < self._tile_rows()[:, None]
        inside_column = columns < self._tile_columns()[:, None]
        return ~(inside_row[:, :, None] & inside_column[:, None, :])

    def gather(self, w: Any) -> Array:
        """Return the stored tiles of a dense matrix, (M, D) -> (tiles, b_r, b_c), the padding 0."""
        dense = dense_matrix("w", w)
        if dense.shape != self.shape:
            raise ShapeError(f"w has shape {dense.shape}, expected {self.shape}, that of the pattern")
        return np.asarray(tiled(dense, self.blocksize)[self.tiles.rows, self.indices])

    def scatter(self, values: Array) -> Array:
        """Return the dense matrix, (tiles, b_r, b_c) -> (M, D), zero where nothing is stored."""
        stored = as_array("values", values)
        check_values(self, stored)
        return self._spread(stored)

    def _spread(self, values: Array) -> Array:
        every = np.zeros((*self.grid, *self.blocksize), values.dtype)
        every[self.tiles.rows, self.indices] = values
        return untiled(every, self.shape)

    def _tile_rows(self) -> NDArray[np.int64]:
        """Rows of each tile inside the matrix."""
        return np.minimum(self.blocksize[0], self.shape[0] - self.tiles.rows.astype(np.int64) * self.blocksize[0])

    def _tile_columns(self) -> NDArray[np.int64]:
        """Columns of each tile inside the matrix."""
        return np.minimum(self.blocksize[1], self.shape[1] - self.indices.astype(np.int64) * self.blocksize[1])

    def __repr__(self) -> str:
        return (
            f"BlockPattern(shape={self.shape}, blocksize={self.blocksize}, tiles={self.tiles.nnz}, "
            f"density={self.density:.3g})"
        )
