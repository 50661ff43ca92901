"""Structured pruning by pivoting: reorder units so that large weights gather in tiles, then prune whole tiles.

    energy   sum of w^2 over the tiles that stay, over all layers
    repeat   keep the tiles of largest norm, as many as the budget allows
             for each hidden axis: swap the two units whose exchange raises the energy most, until no swap raises it
    prune    the other tiles

The best order found is taken, so the energy is never below that of tiles without pivoting. A hidden axis is the rows of
one weight and the columns of the next: the order of a layer's inputs is absorbed by the layer before, and costs nothing
at inference. The columns of the first weight and the rows of the last are not reordered.

Ref      Sredojevic, Cheng, Supic, Naous, Stojanovic 2017 (arXiv 1712.01084): pivoting rows and columns so that
         dense blocks survive, in single layers and in the network as a whole. Its text was not read.
Departs  Pivot rule, sizes of blocks and numbers of the paper are unknown [U]; the alternation and its swaps are ours
         [I]. Tiles lie on the matrix (out, in), of a convolution (F, C R S); where a unit owns several columns they
         move together.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from l0ref.data import Splits
from l0ref.masks import block_mask
from l0ref.masks.ranking import Mask, drop_count
from l0ref.masks.tiles import grid, tiled
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Model
from l0ref.pruning.axes import Axes, coupled_axes
from l0ref.pruning.shrink import permute
from l0ref.pruning.units import free_axes
from l0ref.validate import Array, count, pair

Masks = Mapping[str, Mask]


@method(
    "matrix_pivoting", paper="Sredojevic et al. 2017", kind="structured", reads=("weights",), grain="unit",
    records=("orders", "energy", "bound"), marks="[I][U]",
)  # fmt: skip
def matrix_pivoting(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    blocksize: int | tuple[int, int] = 4, turns: int = 10,
) -> Pruned:  # fmt: skip
    """Mask whole tiles of the network in the best order found; the result has the original order of units.

    `permute(result, record["orders"])` is the same function with the kept weights in whole tiles, ready to be stored.

    amount     of weights, at most: whole tiles go
    scope      "global" compares tiles over the network; "layer" within each layer
    blocksize  (rows, columns) of a tile, or one number for both
    turns      repetitions of choosing tiles and swapping units, at most; 0 prunes without pivoting
    record     orders {layer: new order of its units}; energy: share of all w^2 that stays, for 0, 1, ... turns;
               bound: the share that as many single weights could keep
    """
    tile, axes = pair("blocksize", blocksize, least=1), coupled_axes(model)
    how: dict[str, Any] = {"amount": amount, "scope": scope, "min_keep": min_keep, "blocksize": tile}
    orders = {axis: np.arange(size) for axis, size in free_axes(model).items()}
    now, best = model, (model, dict(orders), tile_masks(model, **how))
    energy = [kept_energy(model, best[2])]
    for _ in range(count("turns", turns)):
        stay = tile_masks(now, **how)
        for axis in orders:
            perm = better_order(now, axes, axis, stay)
            now, orders[axis] = permute(now, {axes.writers(axis)[0]: perm}), orders[axis][perm]
        masks = tile_masks(now, **how)
        energy.append(kept_energy(now, masks))
        if energy[-1] <= max(energy[:-1]):
            break
        best = now, dict(orders), masks
    moved, found, masks = best
    named = {axes.writers(axis)[0]: order for axis, order in found.items()}
    back = permute(moved.replace(masks=masks), {name: np.argsort(order) for name, order in named.items()})
    return Pruned(back, {"orders": named, "energy": energy, "bound": bound(model, masks)})


def tile_masks(
    model: Model, *, amount: float, scope: str, min_keep: int, blocksize: tuple[int, int]
) -> dict[str, Mask]:
    """Return the masks after the tiles of least norm went, as many as the amount of weights allows."""
    masks = {key: model.mask(key) for key in model.weights}
    for keys in [list(masks)] if scope == "global" else [[key] for key in masks]:
        asked = drop_count(amount, sum(model.sizes[key] for key in keys), "entries", "")
        masks |= _fewest(model, keys, asked, min_keep, blocksize)
    return masks


def _fewest(model: Model, keys: list[str], asked: int, min_keep: int, blocksize: tuple[int, int]) -> dict[str, Mask]:
    """Return the masks of some layers, by bisection over the number of tiles that go."""
    scores, alive = {k: model.params[k] for k in keys}, {k: model.mask(k) for k in keys}
    tiles = [grid((w.shape[0], w.size // max(w.shape[0], 1)), blocksize) for w in scores.values()]
    gone = [_gone_tiles(alive[k], blocksize) for k in keys]
    least = max(1, -(-min_keep // (blocksize[0] * blocksize[1])))

    def masks(tiles_gone: int) -> dict[str, Mask]:
        return block_mask(scores, blocksize=blocksize, amount=tiles_gone, min_keep=least, current=alive)

    def fits(tiles_gone: int) -> bool:
        found = masks(tiles_gone)
        enough = all(
            int(m.sum()) >= min(min_keep, int(alive[k].sum())) for k, m in found.items()
        )  # edge tiles hold less
        return enough and sum(int((~m).sum()) for m in found.values()) <= asked

    low, high = sum(gone), max(sum(gone), sum(max(0, a * b - least) for a, b in tiles))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return masks(low)


def better_order(model: Model, axes: Axes, axis: str, stay: Masks) -> Array:
    """Return an order of the units of an axis that keeps at least as much energy in the tiles of `stay`, by best swaps.

    gain[i, p] is the energy that unit i keeps at place p; swapping unit i at place p with unit j at place q raises the
    energy by gain[i, q] + gain[j, p] - gain[i, p] - gain[j, q].
    """
    n = axes.sizes[axis]
    gain = np.zeros((n, n))
    for use in (use for use in axes.uses if use.weighs and axis in (use.reads, use.writes)):
        key = f"{use.layer.name}.weight"
        squares = model.params[key].astype(np.float64).reshape(len(stay[key]), prod(stay[key].shape[1:])) ** 2
        keep = stay[key].reshape(squares.shape).astype(np.float64)
        if use.writes == axis:
            gain += squares @ keep.T
        if use.mixes and use.reads == axis:
            parts = squares.shape[1] // n
            gain += np.einsum("rit,rpt->ip", *(a.reshape(-1, n, parts) for a in (squares, keep)), optimize=True)
    order = np.arange(n)
    for _ in range(4 * n):
        at = gain[order]  # at[p, q]: the energy that the unit now at place p keeps at q
        here = np.diagonal(at)
        rise = at + at.T - here[:, None] - here[None, :]
        p, q = divmod(int(rise.argmax()), n) if n else (0, 0)
        if n == 0 or rise[p, q] <= 1e-12 * max(gain.max(), 1e-300):
            break
        order[[p, q]] = order[[q, p]]
    return order


def kept_energy(model: Model, masks: Masks) -> float:
    """Return the share of the squared weights that masks keep."""
    squares = {k: model.params[k].astype(np.float64) ** 2 for k in masks}
    whole = sum(float(s.sum()) for s in squares.values())
    return sum(float(s[masks[k]].sum()) for k, s in squares.items()) / whole if whole else 1.0


def bound(model: Model, masks: Masks) -> float:
    """Return the share of the squared weights that as many single weights can keep, wherever they are."""
    squares = np.sort(np.concatenate([model.params[k].astype(np.float64).ravel() ** 2 for k in masks] or [np.zeros(0)]))
    kept = sum(int(m.sum()) for m in masks.values())
    return float(squares[squares.size - kept :].sum() / squares.sum()) if squares.any() else 1.0


def _gone_tiles(mask: Mask, blocksize: tuple[int, int]) -> int:
    return int((~tiled(mask.reshape(len(mask), prod(mask.shape[1:])), blocksize).any(axis=(2, 3))).sum())
