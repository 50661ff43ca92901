"""BCSR: block compressed sparse rows, a pattern of tiles and the entries of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.masks.tiles import tiled
from l0ref.sparse.block_pattern import BlockPattern
from l0ref.sparse.checks import Pair, is_pattern, kept_matrix
from l0ref.sparse.pattern import Pattern
from l0ref.sparse.stored import Stored
from l0ref.validate import Array, pair


@dataclass(frozen=True, eq=False, repr=False)
class BCSR(Stored):
    """A sparse matrix of M rows and D columns, stored in tiles of b_r x b_c entries, in canonical form; immutable.

        pattern  which tiles are stored
        values   (tiles, b_r, b_c) float32 or float64, finite; every tile has a non-zero entry, the padding of a
                 tile at the edge is 0

    One index serves b_r b_c entries, and a product reads them contiguously. Single zeros within a tile are stored.
    The product with a dense vector or matrix is ``w @ x``.

    >>> import numpy as np
    >>> w = BCSR.from_dense(np.array([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 3.0, 0.0]]), blocksize=2)
    >>> w.values.tolist(), w.pattern.indices.tolist(), (w @ np.ones(4)).tolist()
    ([[[1.0, 2.0], [3.0, 0.0]]], [1], [3.0, 3.0])
    """

    pattern: BlockPattern
    values: Array

    def __post_init__(self) -> None:
        is_pattern("pattern", self.pattern, BlockPattern, made_by="BlockPattern.from_mask(w != 0, blocksize=...)")
        values = self.checked_values()
        beyond = int(np.count_nonzero(values[self.pattern.padding()]))
        if beyond:
            raise ArgumentError(
                f"values has {beyond} non-zeros beyond the edge of the matrix, of shape {self.pattern.shape}; "
                "set the padding to 0"
            )
        empty = len(values) - int(np.count_nonzero(values.any(axis=(1, 2))))
        if empty:
            raise ArgumentError(
                f"values has {empty} zero tiles of {len(values)}, and a canonical matrix stores none; "
                "leave them out with BCSR.from_dense"
            )
        self.freeze(values)

    @classmethod
    def from_dense(cls, w: Any, mask: Any = None, *, blocksize: int | Pair) -> BCSR:
        """Return a dense matrix as the tiles of it that have a non-zero entry.

        mask       bool, like `w`; an entry where it is False counts as zero
        blocksize  (b_r, b_c), or one number for both
        """
        dense, size = kept_matrix(w, mask), pair("blocksize", blocksize, least=1)
        every = tiled(dense, size)
        stored = (every != 0).any(axis=(2, 3))
        pattern = BlockPattern(Pattern.from_mask(stored), (dense.shape[0], dense.shape[1]), size)
        return cls(pattern, every[stored])

    def transpose(self) -> BCSR:
        """Return W^T, in tiles of b_c x b_r."""
        return BCSR(self.pattern.transpose(), self.values[self.pattern.transpose_order].swapaxes(1, 2))

    @property
    def blocksize(self) -> Pair:
        """Rows and columns of a tile."""
        return self.pattern.blocksize

    def __repr__(self) -> str:
        return (
            f"BCSR(shape={self.shape}, blocksize={self.blocksize}, tiles={len(self.values)}, "
            f"density={self.density:.3g}, {self.dtype}, {self.nbytes} bytes)"
        )
