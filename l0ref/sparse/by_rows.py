"""The three products of which every sparse operation is made, in NumPy, row by row: read these first.

    product                  y[m, n] = sum_d w[m, d] x[d, n]        SpMM           forward
    transposed_product       x[d, n] = sum_m w[m, d] y[m, n]        SpMM with W^T  gradient of the input
    sampled_product          w[m, d] = sum_n y[m, n] x[d, n]        SDDMM          gradient of the stored entries

The sums run over stored entries, and the last product is computed at these alone. Axis letters: m features out, d
features in, n samples. W is given by a pattern and its values; with a BlockPattern, m and d are split into a tile and a
place in it, and values beyond the edge of the matrix count as 0, whatever they are. No dense W is ever made: besides
inputs and result, memory is needed for the rows of x that one row of W reads, with tiles for a copy of all inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from l0ref.sparse.block_pattern import BlockPattern
from l0ref.sparse.pattern import Pattern
from l0ref.validate import Array

AnyPattern = Pattern | BlockPattern


def product(pattern: AnyPattern, values: Array, x: Array) -> Array:
    """Return W X for X (D, N): (M, N)."""
    if isinstance(pattern, BlockPattern):
        return _block_product(pattern, _inside(pattern, values), x)
    y = np.zeros((pattern.shape[0], x.shape[1]), x.dtype)
    for m, row in _rows(pattern):
        y[m] = values[row] @ x[pattern.indices[row]]
    return y


def transposed_product(pattern: AnyPattern, values: Array, y: Array) -> Array:
    """Return W^T Y for Y (M, N): (D, N)."""
    if isinstance(pattern, BlockPattern):
        return _block_transposed_product(pattern, _inside(pattern, values), y)
    x = np.zeros((pattern.shape[1], y.shape[1]), y.dtype)
    for m, row in _rows(pattern):
        x[pattern.indices[row]] += values[row, None] * y[m]  # no column occurs twice in a row
    return x


def sampled_product(pattern: AnyPattern, y: Array, x: Array) -> Array:
    """Return the stored entries of Y X^T for Y (M, N) and X (D, N), shaped like the pattern's values."""
    if isinstance(pattern, BlockPattern):
        return _block_sampled_product(pattern, y, x)
    w = np.empty(pattern.values_shape, y.dtype)
    for m, row in _rows(pattern):
        w[row] = x[pattern.indices[row]] @ y[m]
    return w


def _rows(pattern: Pattern) -> Iterator[tuple[int, slice]]:
    """Each row, and where its entries are stored."""
    for m, (start, end) in enumerate(zip(pattern.indptr[:-1], pattern.indptr[1:], strict=True)):
        yield m, slice(start, end)


# The same with tiles: r is a place in m's tile, c one in d's, and a row of tiles is a sum of small matrix products.


def _block_product(pattern: BlockPattern, values: Array, x: Array) -> Array:
    x_tiles = _cut(x, pattern.grid[1], pattern.blocksize[1])  # dn -> jcn
    y_tiles = np.zeros((pattern.grid[0], pattern.blocksize[0], x.shape[1]), x.dtype)  # irn
    for i, row in _rows(pattern.tiles):
        y_tiles[i] = np.tensordot(values[row], x_tiles[pattern.indices[row]], axes=((0, 2), (0, 1)))  # prc, pcn -> rn
    return _join(y_tiles, pattern.shape[0])


def _block_transposed_product(pattern: BlockPattern, values: Array, y: Array) -> Array:
    y_tiles = _cut(y, pattern.grid[0], pattern.blocksize[0])
    x_tiles = np.zeros((pattern.grid[1], pattern.blocksize[1], y.shape[1]), y.dtype)
    for i, row in _rows(pattern.tiles):
        x_tiles[pattern.indices[row]] += values[row].swapaxes(1, 2) @ y_tiles[i]  # pcr, rn -> pcn
    return _join(x_tiles, pattern.shape[1])


def _block_sampled_product(pattern: BlockPattern, y: Array, x: Array) -> Array:
    x_tiles = _cut(x, pattern.grid[1], pattern.blocksize[1])
    y_tiles = _cut(y, pattern.grid[0], pattern.blocksize[0])
    w = np.empty(pattern.values_shape, y.dtype)
    for i, row in _rows(pattern.tiles):
        w[row] = y_tiles[i] @ x_tiles[pattern.indices[row]].swapaxes(1, 2)  # rn, pnc -> prc
    return _inside(pattern, w)  # beyond the edge 0 may have been multiplied by infinity


def _inside(pattern: BlockPattern, values: Array) -> Array:
    return np.where(pattern.padding(), values.dtype.type(0), values)


def _cut(x: Array, tiles: int, size: int) -> Array:
    """The rows of x (D, N) in tiles, (tiles, size, N), with zeros beyond the last."""
    whole = np.zeros((tiles * size, x.shape[1]), x.dtype)
    whole[: len(x)] = x
    return whole.reshape(tiles, size, x.shape[1])


def _join(tiles: Array, rows: int) -> Array:
    """The rows of all tiles, without those beyond the edge."""
    count, size, n = tiles.shape
    return np.ascontiguousarray(tiles.reshape(count * size, n)[:rows])
