"""The kernels for sparse matrices of single entries and of tiles, as two classes with the same methods.

    multiply   y = W x + b for one sample            contract   the same for blocks of samples
    outer      g = d x^T at the entries           sample     the same, added up over blocks of samples
    rows       contract for samples in rows, laid out group by group
    columns    contract for samples in columns, copied group by group: only of single entries
    turned     the values of the transposed matrix   loads      how often a feature is loaded, on average
                                                     work       of a number of samples, in multiply-adds
                                                     group      blocks that are multiplied by at a time

Activations are flat arrays, or blocks of `sparse.batch`. `blocks` holds their number and the distances between
them in x and in y (or d), `steps` the distances between features in x and in y (or d).
The caller chooses the number of threads, from `work` and the other work around this product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf, prod
from typing import Any

import numpy as np

from l0ref.fast.machine.policy import LOADED, WAKING, flat, threads_for, threads_for_call
from l0ref.fast.machine.scratch import room
from l0ref.fast.machine.target import GATHERS, lanes
from l0ref.fast.products.layout import steps_of
from l0ref.fast.sparse import columns as sparse_columns
from l0ref.fast.sparse import entries as sparse_contraction
from l0ref.fast.sparse import rows as sparse_rows
from l0ref.fast.sparse import tiles as sparse_tiles
from l0ref.fast.sparse import vector as sparse_vector
from l0ref.fast.sparse.batch import Rows
from l0ref.fast.sparse.entries import EIGHT, PAIR, chunk_room
from l0ref.fast.sparse.tiles import ROWS
from l0ref.sparse.block_pattern import BlockPattern
from l0ref.sparse.pattern import Pattern
from l0ref.validate import Array

TIMES_VECTOR = sparse_vector.multiply_gathered if GATHERS else sparse_vector.multiply
ALONE = 16  # multiply-adds in blocks of samples that take as long as one with a single sample

Blocks = tuple[int, int, int]
Pair = tuple[int, int]


class Entries:
    """A matrix of single entries."""

    __slots__ = ("pattern",)
    group = PAIR

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern

    @property
    def loads(self) -> float:
        """Entries of a column."""
        return self.pattern.nnz / max(self.pattern.shape[1], 1)

    def work(self, samples: int) -> int:
        """Cost of the products, in multiply-adds."""
        return LOADED * self.pattern.nnz * samples

    def multiply(self, values: Array, x: Array, b: Array, y: Array) -> None:
        """Fill y, (M,)."""
        w = flat(values), self.pattern.indptr, self.pattern.indices
        TIMES_VECTOR(w, x, b, y, threads_for_call(ALONE * values.size))

    def prepared(self, values: Array, b: Array) -> Callable[[Array, Array], None]:
        """Return `multiply` of x and y alone."""
        w, work = (flat(values), self.pattern.indptr, self.pattern.indices), ALONE * values.size
        if work <= WAKING:
            alone = getattr(TIMES_VECTOR, "alone", TIMES_VECTOR)
            return lambda x, y: alone(w, x, b, y, 1)
        return lambda x, y: TIMES_VECTOR(w, x, b, y, threads_for(work))

    def contract(
        self, values: Array, x: Array, b: Array, floor: Array, y: Array, blocks: Blocks, steps: Pair, *, threads: int
    ) -> None:
        """Fill the blocks of y; floor is 0 for a ReLU, -inf for none."""
        w = flat(values), self.pattern.indptr, self.pattern.indices
        together = EIGHT if blocks[1] == lanes(x.dtype) else PAIR
        sparse_contraction.contract(x, w, b, floor, y, (*blocks, together), steps, threads)

    def columns(self, values: Array, b: Array, x: Array, y: Array, *, count: int, threads: int) -> None:
        """Fill y, (M, count): see `sparse.columns`."""
        w, width = (flat(values), self.pattern.indptr, self.pattern.indices), lanes(x.dtype)
        group = min(sparse_columns.GROUP, -(-count // (width * threads)))
        laid = room("columns", threads * group * width * self.pattern.shape[1], x.dtype)
        sparse_columns.multiply_columns(x, w, b, no_floor(b.dtype), y, laid, (count, group, width), threads)

    def rows(self, values: Array, b: Array, rows: Rows, threads: int) -> None:
        """Fill y: see `sparse.rows`."""
        w = flat(values), self.pattern.indptr, self.pattern.indices
        batch, *places = rows
        sparse_rows.multiply_entries(batch, w, b, no_floor(b.dtype), *places, threads)

    def outer(self, d: Array, x: Array, g: Array) -> None:
        """Fill g, (nnz,)."""
        sparse_vector.outer_at((self.pattern.indptr, self.pattern.indices), d, x, g)

    def sample(self, d: Array, x: Array, g: Array, blocks: Blocks, steps: Pair, *, threads: int) -> None:
        """Fill g, (nnz,)."""
        w, width = (self.pattern.indptr, self.pattern.indices), lanes(x.dtype)
        sums, (_, lane_steps) = room("sums", threads * chunk_room(width), x.dtype), steps_of(1, width)
        sparse_contraction.sample(x, d, w, sums, g, lane_steps, (*blocks, EIGHT), (*steps, width), threads)

    def turned(self, values: Array) -> Array:
        """Return the values in the order of the transposed pattern."""
        out = room("turned", values.size, values.dtype)
        sparse_vector.reordered(flat(values), self.pattern.transpose_order, out)
        return out


class Tiles:
    """A matrix of tiles."""

    __slots__ = ("pattern",)
    group = sparse_tiles.GROUP

    def __init__(self, pattern: BlockPattern) -> None:
        self.pattern = pattern

    @property
    def loads(self) -> float:
        """Entries of a column / rows of a tile, as one load serves all rows of a tile."""
        return prod(self.pattern.values_shape) / (self.pattern.blocksize[0] * max(self.pattern.shape[1], 1))

    def work(self, samples: int) -> int:
        """Number of multiply-adds."""
        return prod(self.pattern.values_shape) * samples

    def multiply(self, values: Array, x: Array, b: Array, y: Array) -> None:
        """Fill y, (M,)."""
        w, sizes = (flat(values), self.pattern.indptr, self.pattern.indices), self._sizes
        sparse_tiles.multiply(w, x, b, y, sizes, lanes(x.dtype), threads_for_call(ALONE * values.size))

    def prepared(self, values: Array, b: Array) -> Callable[[Array, Array], None]:
        """Return `multiply` of x and y alone."""
        return lambda x, y: self.multiply(values, flat(x), b, y)

    def contract(
        self, values: Array, x: Array, b: Array, floor: Array, y: Array, blocks: Blocks, steps: Pair, *, threads: int
    ) -> None:
        """Fill the blocks of y; floor is 0 for a ReLU, -inf for none."""
        w = flat(values), self.pattern.indptr, self.pattern.indices
        sparse_tiles.contract(x, w, b, floor, y, blocks, (*self._sizes, *steps), threads)

    def rows(self, values: Array, b: Array, rows: Rows, threads: int) -> None:
        """Fill y: see `sparse.rows`."""
        w = flat(values), self.pattern.indptr, self.pattern.indices
        batch, *places, sizes = rows
        both = (*sizes, *self.pattern.blocksize)
        sparse_rows.multiply_tiles(batch, w, b, no_floor(b.dtype), *places, both, threads)

    def outer(self, d: Array, x: Array, g: Array) -> None:
        """Fill g, (tiles, b_r, b_c), flat and zero before; the padding of tiles is not written."""
        sparse_tiles.outer_at((self.pattern.indptr, self.pattern.indices), d, x, g, self.pattern.blocksize)

    def sample(self, d: Array, x: Array, g: Array, blocks: Blocks, steps: Pair, *, threads: int) -> None:
        """Fill g, (tiles, b_r, b_c), flat and zero before; the padding of tiles is not written."""
        w, width = (self.pattern.indptr, self.pattern.indices), lanes(x.dtype)
        columns = np.empty(threads * self.pattern.grid[1] * self.pattern.blocksize[1], np.int64)
        own = room("sums", threads * (ROWS**2 + width), x.dtype), columns
        parts = tuple(range(width, width + ROWS**2, width))
        sparse_tiles.sample(x, d, w, own, g, parts, blocks, (*self._sizes, *steps), threads)

    def turned(self, values: Array) -> Array:
        """Return the tiles transposed, in the order of the transposed pattern."""
        out = room("turned", values.size, values.dtype)
        sparse_tiles.turned(flat(values), self.pattern.transpose_order, out, *self.pattern.blocksize)
        return out

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        return (*self.pattern.shape, *self.pattern.blocksize)


@cache
def no_floor(dtype: Any) -> Array:
    """Return the floor of a product without a ReLU."""
    return np.array([-inf], dtype)


def operand(pattern: Pattern | BlockPattern) -> Entries | Tiles:
    """Return the kernels that fit a pattern."""
    return Entries(pattern) if isinstance(pattern, Pattern) else Tiles(pattern)
