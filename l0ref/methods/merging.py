"""Data-free merging: two units with nearly equal incoming weights become one, with the sum of their outgoing weights.

    s_ij = mean(a_j^2) ||f_i - f_j||^2       f incoming weights and bias, a outgoing weights to all readers

The pair of least s is merged: the outgoing weights of j are added to those of i, and j is removed. That changes a_i, so
s is computed again before the next merge. Merging two units with equal incoming weights changes no output.
Where a weight of i is masked, i cannot take over that of j, which is lost: there ||f_j||^2 stands for ||f_i - f_j||^2.

Ref      Srinivas, Babu 2015 (arXiv 1507.06149): the idea; the formula is general knowledge of the paper [I].
Departs  Filters are merged like neurons. Merges of all layers are ordered by s, made non-decreasing within a layer.
         Only units written by one layer and not normalised are merged: normalisation may scale equal units differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.methods.geometric_median import distances, unit_vectors
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Model
from l0ref.pruning.axes import Axes, coupled_axes
from l0ref.pruning.units import already_gone, free_axes, remove_in_order
from l0ref.validate import Array

Merge = tuple[float, str, int, int]  # saliency, axis, the unit that goes, the one that stays


@method(
    "data_free", paper="Srinivas, Babu 2015", kind="structured", reads=("weights",), grain="unit",
    records=("merges", "saliency"), marks="[I]",
)  # fmt: skip
def data_free(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
) -> Pruned:
    """Merge the most similar units; see the text of the module.

    record  merges: by layer, pairs (removed unit, unit that received its outgoing weights), in order;
            saliency: the largest s of its layer up to each merge, in the order of all merges
    """
    axes = coupled_axes(model)
    merges: list[Merge] = []
    for axis in _mergeable(model, axes):
        highest = 0.0
        for s, j, i in _path(model, axes, axis):
            highest = max(highest, s)  # a later merge of the layer never comes before an earlier one
            merges.append((highest, axis, j, i))
    merges.sort(key=lambda merge: merge[0])  # stable: among equals the layers in their order
    order = [(axis, j) for _, axis, j, _ in merges]
    _, units = remove_in_order(model, order, amount=amount, scope=scope, min_keep=min_keep)
    done = merges[: len(units)]
    summed = _summed(model, axes, done)
    pruned, _ = remove_in_order(summed, units, amount=amount, scope=scope, min_keep=min_keep)
    pairs: dict[str, list[tuple[int, int]]] = {axis: [] for axis in free_axes(model)}
    for _, axis, j, i in done:
        pairs[axis].append((j, i))
    return Pruned(pruned, {"merges": pairs, "saliency": [s for s, *_ in done]})


def _mergeable(model: Model, axes: Axes) -> list[str]:
    normed = {use.reads for use in axes.uses if not use.weighs}
    found = [a for a in free_axes(model) if len(axes.writers(a)) == 1 and a not in normed]
    found = [a for a in found if not any(use.weighs and use.reads == a == use.writes for use in axes.uses)]
    if not found:
        raise ArgumentError("model has no units that can be merged: all are normalised or added; use another method")
    return found


def _readers(axes: Axes, axis: str) -> list[str]:
    return [f"{name}.weight" for name in axes.readers(axis)]


def _outgoing(arrays: Mapping[str, Array], axes: Axes, axis: str) -> Array:
    """Return (units, outgoing weights) over all layers that read an axis, out of weights or masks."""
    size = axes.sizes[axis]
    parts = [arrays[key].reshape(len(arrays[key]), size, -1) for key in _readers(axes, axis)]
    return np.concatenate([np.moveaxis(w, 1, 0).reshape(size, -1) for w in parts], axis=1).astype(np.float64)


def _path(model: Model, axes: Axes, axis: str) -> Iterator[tuple[float, int, int]]:
    """Yield merges (saliency, j, i) of one layer, each time the best one, until a single unit is left."""
    vectors = unit_vectors(model, axis)
    apart, alone = np.square(distances(vectors)), np.square(vectors).sum(axis=1)
    out, takes = (_outgoing(a, axes, axis) for a in (model.params, {key: model.mask(key) for key in model.weights}))
    lost = (1 - takes) @ np.square(out).T / out.shape[1]  # of mean(a_j^2), what i cannot take over: lost[i, j]
    left = ~already_gone(model)[axis]
    for _ in range(int(left.sum()) - 1):
        pairs = left[:, None] & left & ~np.eye(len(left), dtype=bool)
        s = np.where(pairs, apart * (np.square(out).mean(axis=1) - lost) + alone * lost, np.inf)  # s[i, j]
        i, j = np.unravel_index(int(s.argmin()), s.shape)
        yield float(s[i, j]), int(j), int(i)
        out[i] += out[j] * takes[i]
        lost[:, i] = (1 - takes) @ np.square(out[i]) / out.shape[1]
        left[j] = False


def _summed(model: Model, axes: Axes, merges: list[Merge]) -> Model:
    """Return the model with the outgoing weights of merged units summed; masked weights stay 0."""
    params = {key: p.copy(order="C") for key, p in model.params.items()}
    for _, axis, j, i in merges:
        for key in _readers(axes, axis):
            columns = params[key].reshape(len(params[key]), axes.sizes[axis], -1)  # a view: the copy is in C order
            columns[:, i] += columns[:, j] * model.mask(key).reshape(columns.shape)[:, i]
    return model.replace(params=params)
