"""Removing whole units within a budget of weights.

Removing a unit removes its incoming weights and those that read it. Two units of neighbouring layers share the weight
between them, so the weights removed with a set of units are counted for the whole set. Units are removed in a given
order, as many as the budget allows: one more would remove too many weights.

    axis   units of coupled layers, see `pruning.axes`; named after its first layer
    free   an axis that may be cut: not the input, the output, or one of a grouped convolution that is not depthwise
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.masks.ranking import drop_count
from l0ref.nn import Conv2d, Model
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.shrink import mask_units
from l0ref.validate import Array, choose

Unit = tuple[str, int]


def free_axes(model: Model) -> dict[str, int]:
    """Return the axes that may be cut, with their numbers of units; refuse a network that has none."""
    axes, found = coupled_axes(model), {}
    for axis, size in axes.sizes.items():
        uses = [use for use in axes.uses if use.mixes and axis in (use.reads, use.writes)]
        grouped = any(isinstance(use.layer, Conv2d) and use.layer.groups > 1 for use in uses)
        if size and axis not in axes.fixed and axes.writers(axis) and not grouped:
            found[axis] = size
    if not found:
        raise ArgumentError(
            "model has no hidden units that can be removed: none, or all next to grouped convolutions; "
            "use a method of single weights"
        )
    return found


def prune_units(
    model: Model, scores: Mapping[str, Array], *, amount: float, scope: str = "global", min_keep: int = 0
) -> Model:
    """Return the model without its least important units, which hold at most `amount` of its weights.

    scores  a number for each unit of each axis; the lowest are removed first, among equals the first
    amount, scope, min_keep   as in `prune`, of weights; with scope="layer" no layer loses more than its own amount
    """
    return remove_in_order(model, ranked_units(scores), amount=amount, scope=scope, min_keep=min_keep)[0]


def ranked_units(scores: Mapping[str, Array]) -> list[Unit]:
    """Return all units, the one of lowest score first."""
    flat = [(float(value), place) for place, value in enumerate(v for score in scores.values() for v in score)]
    units = [(axis, i) for axis, score in scores.items() for i in range(len(score))]
    if not all(math.isfinite(value) for value, _ in flat):
        raise ArgumentError("scores of units have NaN or infinite entries: no order exists; repair the scores first")
    return [units[place] for _, place in sorted(flat)]


def remove_in_order(
    model: Model, order: Sequence[Unit], *, amount: float, scope: str = "global", min_keep: int = 0
) -> tuple[Model, list[Unit]]:
    """Return the model without the first units of an order, as many as `amount` allows, and the units removed.

    Every axis keeps a unit, and every layer max(1, min_keep) weights, if it has as many.
    """
    choose("scope", scope, ("global", "layer"))
    sizes = free_axes(model)
    gone = already_gone(model)
    left = {axis: size - int(gone[axis].sum()) for axis, size in sizes.items()}
    units = []
    for axis, i in order:
        if not gone[axis][i] and left[axis] > 1:
            units.append((axis, i))
            left[axis] -= 1
    low, high = 0, len(units)
    while low < high:
        middle = (low + high + 1) // 2
        enough = fits(model, _without(model, units[:middle]), amount, scope, min_keep)
        low, high = (middle, high) if enough else (low, middle - 1)
    return _without(model, units[:low]), units[:low]


def already_gone(model: Model) -> dict[str, NDArray[np.bool_]]:
    """Return which units of each free axis have no incoming weight left."""
    axes, found = coupled_axes(model), {}
    for axis, size in free_axes(model).items():
        alive = np.zeros(size, np.bool_)
        for name in axes.writers(axis):
            alive |= model.mask(f"{name}.weight").reshape(size, -1).any(axis=1)
        found[axis] = ~alive
    return found


def by_layer(units: Sequence[Unit]) -> dict[str, list[int]]:
    """Return {axis: its units, in increasing order}, as `shrink` takes them."""
    named: dict[str, list[int]] = {}
    for axis, i in sorted(units):
        named.setdefault(axis, []).append(i)
    return named


def places(scores: Mapping[str, Array]) -> dict[str, Array]:
    """Return scores as ranks within their axis, from 0 to below 1: every axis then loses the same fraction."""
    ranks = {axis: np.argsort(np.argsort(score, kind="stable"), kind="stable") for axis, score in scores.items()}
    return {axis: (rank + 0.5) / max(rank.size, 1) for axis, rank in ranks.items()}


def _without(model: Model, units: Sequence[Unit]) -> Model:
    masks = {key: model.mask(key) for key in model.weights}
    return mask_units(model, by_layer(units)) if units else model.replace(masks=masks)


def fits(before: Model, after: Model, amount: float, scope: str, min_keep: int) -> bool:
    """Return whether at most `amount` of the weights, or no new ones, are gone and each layer keeps enough."""
    keys = list(before.weights)
    for part in [keys] if scope == "global" else [[key] for key in keys]:
        asked = drop_count(amount, sum(before.sizes[key] for key in part), "entries", "")
        gone, had = (sum(int((~m.mask(key)).sum()) for key in part) for m in (after, before))
        if gone > max(asked, had):
            return False
    return all(int(after.mask(key).sum()) >= min(max(1, min_keep), before.mask(key).sum()) for key in keys)
