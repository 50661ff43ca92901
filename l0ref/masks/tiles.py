"""Masks of whole tiles, so that the kept weights can be stored and multiplied tile by tile.

A weight is read as a matrix, (out, in) or, of a convolution, (F, C R S), and cut into tiles of b_r x b_c entries from
the upper left corner. Where the tiles do not divide the matrix, those at the lower and right edges are smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from l0ref.errors import ShapeError
from l0ref.masks.ranking import Mask, checked_masks, checked_scores, ranked
from l0ref.validate import Array, choose, pair

Pair = tuple[int, int]
NORMS = ("l1", "l2", "max")
BEYOND = 4096  # a tile may be this tall or wide, however small the matrix


def block_mask(
    scores: Mapping[str, Array],
    *,
    blocksize: int | Pair,
    amount: float | None = None,
    threshold: float | None = None,
    scope: str = "global",
    norm: str = "l2",
    min_keep: int = 0,
    current: Mapping[str, Mask] | None = None,
) -> dict[str, Mask]:
    """Return a mask per layer, shaped like its scores, that keeps or drops whole tiles. Give `amount` or `threshold`.

    scores     weights or scores of weights, float arrays of one dtype with at least two axes, in layer order; the
               score of a tile is the norm of its entries, so their signs have no influence
    blocksize  (b_r, b_c) rows and columns of a tile, or one number for both
    amount     float: this fraction of the tiles goes; int: this many tiles go; exactly floor(amount * n + 0.5)
               of the n tiles, including those removed before. A tile at the edge counts like any other
    threshold  tiles whose norm is below it go
    scope      "global": one ranking over the tiles of all layers; "layer": the same amount from each layer
    norm       "l1" sum of |score|, "l2" root of the sum of squares, "max" largest |score|; computed in float64
    min_keep   every layer keeps at least this many of its best tiles
    current    masks so far, of single entries; an entry that is False in them is False in the result, and does not
               count towards the norm. A tile counts as removed when it has no entry left

    Ties as in `keep_mask`: the first layer, then the first tile, row of tiles by row, goes first.

    >>> import numpy as np
    >>> w = np.array([[3.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    >>> block_mask({"fc1": w}, blocksize=2, amount=0.5)["fc1"].astype(int).tolist()  # norms 3 and 2
    [[1, 1, 0, 0], [1, 1, 0, 0]]
    """
    size = pair("blocksize", blocksize, least=1)
    choose("norm", norm, NORMS)
    found = checked_scores(scores)
    for name, score in found.items():
        if score.ndim < 2:
            raise ShapeError(
                f"scores[{name!r}] has shape {score.shape}, expected (out, in) or (F, C, R, S): a tile has two axes; "
                "leave biases out"
            )
    alive = checked_masks(current, found)
    tiles = {name: tiled(_matrix(np.where(alive[name], score, 0)), size) for name, score in found.items()}
    left = {name: np.asarray(tiled(_matrix(mask), size).any(axis=(2, 3))) for name, mask in alive.items()}
    worth = {name: _norms(tile, norm) for name, tile in tiles.items()}
    keep = ranked(worth, left, amount=amount, threshold=threshold, scope=scope, min_keep=min_keep, unit="tiles")
    return {name: alive[name] & _spread(keep[name], size, score.shape) for name, score in found.items()}


def grid(shape: Pair, blocksize: Pair) -> Pair:
    """Return how many rows and columns of tiles cover a matrix of this shape; refuse tiles far beyond its edges."""
    if any(size > max(side, BEYOND) for size, side in zip(blocksize, shape, strict=True)):
        raise ShapeError(f"blocksize={blocksize} goes far beyond a matrix of shape {shape}; use smaller tiles")
    return -(-shape[0] // blocksize[0]), -(-shape[1] // blocksize[1])


def tiled(w: Array, blocksize: Pair) -> Array:
    """Return t[i,j,r,c] = w[i b_r + r, j b_c + c], and 0 beyond the edges of w; a fresh array."""
    (rows, columns), (b_r, b_c) = grid((w.shape[0], w.shape[1]), blocksize), blocksize
    whole = np.zeros((rows * b_r, columns * b_c), w.dtype)
    whole[: w.shape[0], : w.shape[1]] = w
    return np.ascontiguousarray(whole.reshape(rows, b_r, columns, b_c).swapaxes(1, 2))


def untiled(t: Array, shape: Pair) -> Array:
    """Return w (M, D) from t[i,j,r,c]: the inverse of `tiled`."""
    rows, columns, b_r, b_c = t.shape
    return np.ascontiguousarray(t.swapaxes(1, 2).reshape(rows * b_r, columns * b_c)[: shape[0], : shape[1]])


def _matrix(w: Array) -> Array:
    return w.reshape(w.shape[0], prod(w.shape[1:]))


def _norms(tiles: Array, norm: str) -> Array:
    """The norm of every tile. One axis is summed, in the same order for each, so that equal tiles tie."""
    size = np.abs(tiles.astype(np.float64)).reshape(*tiles.shape[:2], tiles.shape[2] * tiles.shape[3])
    if norm == "max":
        return np.asarray(size.max(axis=2))
    return np.asarray(size.sum(axis=2) if norm == "l1" else np.sqrt((size * size).sum(axis=2)))


def _spread(keep: Mask, blocksize: Pair, shape: tuple[int, ...]) -> Mask:
    """The decision for every tile, repeated for each of its entries."""
    entries = np.broadcast_to(keep[:, :, None, None], (*keep.shape, *blocksize))
    return untiled(entries, (shape[0], prod(shape[1:]))).reshape(shape)
