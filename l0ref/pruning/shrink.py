"""Surgery: remove units and filters physically, or reorder them.

    shrink(model, {"conv1": [0, 3]})       the arrays become smaller; logits as if the outputs of those units were 0
    shrink(model)                          removes the units that the masks have made useless; logits are equal
    permute(model, {"fc1": order})         new unit j is old unit order[j]; logits are equal

Every array that an axis runs through is cut at the same indices, see `l0ref.pruning.axes`: weight rows and columns,
biases, scales, shifts and running statistics of batch normalisation, masks, and the optimiser's slots.

    removed unit    its incoming weights and bias are removed, and the weights that read it. The output of a unit whose
                    incoming weights are all pruned is a constant: its effect is first folded into the bias of the next
                    layer, where that is exact (see `sweep`)
    groups          every group left in a grouped convolution keeps the same number of inputs and of outputs; a whole
                    group may be removed
    residual sums   outputs that are added share one axis: naming one of its layers decides for all of them
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, LayerCollapse, ShapeError
from l0ref.nn import Conv2d, Layer, Linear, Model
from l0ref.nn.sequence import mapped
from l0ref.pruning.axes import NORMS, Axes, Use, coupled_axes
from l0ref.pruning.sweep import fold_constants, sweep
from l0ref.validate import Array, raw_array

Units = NDArray[np.intp]
Indices = Sequence[int] | Array


@dataclass(frozen=True, eq=False)
class Surgery:
    """A reordering of a network's units, of which some may be left out: for each axis, old indices in the new order.

    >>> from l0ref import nn
    >>> surgery(nn.digits_mlp(seed=0), {"fc1": range(200)}).model.params["fc2.weight"].shape
    (100, 100)
    """

    before: Model
    axes: Axes
    order: Mapping[str, Units]

    @cached_property
    def model(self) -> Model:
        """Return the new network."""
        old = self.before
        uses = {use.layer.name: use for use in self.axes.uses}
        architecture = mapped(old.architecture, lambda x: self._layer(uses[x.name]) if x.name in uses else x)
        params, masks, buffers = (self.arrays(part) for part in (old.params, old.masks, old.buffers))
        return Model(architecture, old.input_shape, params, masks, buffers)

    def arrays(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Cut arrays named and shaped like those of the network: parameters, masks, buffers, an optimiser's slot."""
        done = dict(arrays)
        for use in self.axes.uses:
            rows = self._features(use.writes, use.spread if isinstance(use.layer, NORMS) else 1)
            for end in ("weight", "bias", "running_mean", "running_var"):
                if (key := f"{use.layer.name}.{end}") in arrays:
                    done[key] = self._weight(use, arrays[key]) if end == "weight" and use.weighs else arrays[key][rows]
        return done

    def _weight(self, use: Use, w: Array) -> Array:
        """Return the new rows and columns of a weight; in a grouped convolution a row has columns of its own group."""
        rows, columns = self._features(use.writes, 1), self._features(use.reads, use.spread)
        groups = _groups(use.layer)
        if groups == 1:
            return np.ascontiguousarray(w[np.ix_(rows, columns)])
        part = w.shape[1]  # inputs of a group
        blocks = _blocks(use.layer.name, columns // part, rows // (w.shape[0] // groups))
        taken = [w[np.ix_(rows[out], columns[inside] % part)] for inside, out in blocks]
        return np.concatenate(taken) if taken else w[:0]

    def _features(self, axis: str, spread: int) -> Units:
        return np.asarray((self.order[axis][:, None] * spread + np.arange(spread)).ravel())

    def _layer(self, use: Use) -> Layer:
        layer, inputs, outputs = use.layer, self.order[use.reads].size * use.spread, self.order[use.writes].size
        if isinstance(layer, Linear):
            return dataclasses.replace(layer, in_features=inputs, out_features=outputs)
        if not isinstance(layer, Conv2d):
            return dataclasses.replace(layer, num_features=inputs)
        part = layer.in_channels // layer.groups
        groups = 1 if layer.groups == 1 else np.unique(self.order[use.reads] // part).size
        return dataclasses.replace(layer, in_channels=inputs, out_channels=outputs, groups=groups)


def shrink(model: Model, units: Mapping[str, Indices] | None = None) -> Model:
    """Return the model without the units named, as smaller arrays.

    units   {layer: indices of the units to remove}; None removes the useless ones, see `dead_units`
    """
    if units is None:
        model = sweep(model).model
        units = dead_units(model)
    return surgery(model, units).model


def permute(model: Model, perms: Mapping[str, Indices]) -> Model:
    """Return the model with hidden units and filters in another order: new unit j is unit perms[layer][j].

    Logits are equal up to the order of summation.
    """
    axes = coupled_axes(model)
    order = {axis: np.arange(size) for axis, size in axes.sizes.items()}
    for axis, perm in _by_axis(axes, {name: _indices(name, perm) for name, perm in perms.items()}, "perms").items():
        if not np.array_equal(np.sort(perm), order[axis]):
            raise ArgumentError(
                f"perms[{axis!r}] has {perm.size} entries, expected each of 0 to {axes.sizes[axis] - 1} once"
            )
        order[axis] = perm
    return Surgery(model, axes, order).model


def surgery(model: Model, units: Mapping[str, Indices]) -> Surgery:
    """Return the surgery that removes these units from every array; see `shrink`."""
    axes = coupled_axes(model)
    gone = _by_axis(axes, {name: np.unique(_indices(name, ids)) for name, ids in units.items()}, "units")
    order = {}
    for axis, size in axes.sizes.items():
        removed = gone.get(axis, np.empty(0, np.intp))
        if removed.size and not (removed[0] >= 0 and removed[-1] < size):
            bad = removed[0] if removed[0] < 0 else removed[-1]
            raise ArgumentError(f"units[{axis!r}] has {bad}, which is not a unit: there are 0 to {size - 1}")
        if size and removed.size == size:
            raise LayerCollapse(f"units[{axis!r}] has all {size} units of the layer; leave at least one")
        order[axis] = np.delete(np.arange(size), removed)
    folded = fold_constants(model, {name: gone[axes.of(name)] for name in units})
    return Surgery(folded, axes, order)


def mask_units(model: Model, units: Mapping[str, Indices]) -> Model:
    """Return the masked twin of `shrink(model, units)`: the same function, with the weights of those units set to 0.

    Incoming and outgoing weights are masked, and biases set to 0.
    """
    cut = surgery(model, units)
    keep = {axis: np.isin(np.arange(size), cut.order[axis]) for axis, size in cut.axes.sizes.items()}
    masks, params = {key: cut.before.mask(key) for key in cut.before.weights}, dict(cut.before.params)
    for use in (use for use in cut.axes.uses if use.weighs):
        key, bias, groups = f"{use.layer.name}.weight", f"{use.layer.name}.bias", _groups(use.layer)
        rows, columns = keep[use.writes], np.repeat(keep[use.reads], use.spread)
        own = np.repeat(columns.reshape(groups, -1), rows.size // groups, axis=0)  # the columns of each row
        masks[key] = masks[key] & (rows[:, None] & own).reshape(*own.shape, *[1] * (masks[key].ndim - 2))
        if bias in params:
            params[bias] = np.where(rows, params[bias], 0).astype(params[bias].dtype)
    return cut.before.replace(params=params, masks=masks)


def dead_units(model: Model) -> dict[str, list[int]]:
    """Return {layer: units that no weight reads}, one entry for each axis that can be cut and has such units.

    A layer that would vanish keeps its first unit; axes of grouped and depthwise convolutions are left out.
    """
    axes = coupled_axes(model)
    found = {}
    for axis, size in axes.sizes.items():
        readers = [use for use in axes.uses if use.weighs and use.reads == axis]
        if axis in axes.fixed or any(_groups(use.layer) > 1 for use in axes.uses if axis in (use.reads, use.writes)):
            continue
        read = np.zeros(size, bool)
        for use in readers:
            mask = model.mask(f"{use.layer.name}.weight")
            read |= mask.reshape(mask.shape[0], size, -1).any(axis=(0, 2)) if mask.size else False
        dead = np.flatnonzero(~read)
        if dead.size and axes.writers(axis):
            found[axes.writers(axis)[0]] = [int(i) for i in dead[dead.size == size :]]
    return {name: dead for name, dead in found.items() if dead}


def _by_axis(axes: Axes, units: Mapping[str, Units], what: str) -> dict[str, Units]:
    """Return the choices for layers by axis; layers of one axis must agree, and a fixed axis cannot change."""
    found: dict[str, tuple[str, Units]] = {}
    for name, ids in units.items():
        axis = axes.of(name)
        if ids.size and axis in axes.fixed:
            raise ArgumentError(f"{what} has {name!r}, whose units cannot change: {axes.fixed[axis]}; leave it out")
        first, others = found.setdefault(axis, (name, ids))
        if not np.array_equal(others, ids):
            raise ArgumentError(
                f"{what}[{first!r}] and {what}[{name!r}] differ, but their outputs are added and share one "
                "axis; give both the same units, or name only one"
            )
    return {axis: ids for axis, (_, ids) in found.items()}


def _indices(name: str, ids: Any) -> Units:
    found = raw_array(f"units[{name!r}]", ids if isinstance(ids, np.ndarray) else list(ids))
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ArgumentError(f"units[{name!r}]={ids!r} must be indices of units in a row, as in [0, 3]")
    return found.astype(np.intp)


def _groups(layer: Layer) -> int:
    return layer.groups if isinstance(layer, Conv2d) else 1


def _blocks(name: str, inputs: Units, outputs: Units) -> list[tuple[Units, Units]]:
    """Return positions of the inputs and the outputs of each group left, from the group number of each of them."""
    left = list(dict.fromkeys(inputs.tolist()))
    sides = [[np.flatnonzero(side == group) for group in left] for side in (inputs, outputs)]
    for side, what, given in zip(sides, ("inputs", "outputs"), (inputs, outputs), strict=True):
        counts = sorted({places.size for places in side})
        in_a_row = given.size == sum(p.size for p in side) and np.array_equal(
            np.concatenate([*side]), np.arange(given.size)
        )
        if len(counts) > 1 or not in_a_row or counts == [0]:
            raise ShapeError(
                f"groups of convolution {name!r} would have different {what}; remove as many {what} from every group, "
                "or all inputs and outputs of a group, and keep the members of a group together"
            )
    return list(zip(*sides, strict=True))
