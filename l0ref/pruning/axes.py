"""Coupled axes: which layers must lose, or reorder, the same units together.

A unit is a neuron of a Linear layer or a channel of a convolution. It has one index on an axis, and that axis runs
through several arrays: the rows of the weight that writes it, the bias, every batch normalisation behind it, and the
columns of each weight that reads it. A residual sum makes the axes of its two terms one:

    conv1 -> norm1 -> relu -> conv2      rows of conv1.weight, norm1, columns of conv2.weight: one axis, "conv1"
    y = body(x) + x                      the axis of x and the axis that the body ends on are one
    conv -> flatten -> fc                column c h w + i of fc.weight belongs to channel c: a spread of h w
    depthwise convolution                its output channel i comes from input channel i alone: one axis

All axes are derived from the architecture. Activations, pooling and dropout act on each unit separately and have no
arrays, so they do not appear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from l0ref.errors import ArgumentError, ConfigError
from l0ref.nn import BatchNorm1d, BatchNorm2d, Conv2d, Linear, Model, Residual
from l0ref.nn.activations import ELEMENTWISE
from l0ref.nn.layer import Layer, Shape
from l0ref.nn.layers import AvgPool2d, Dropout, Flatten, GlobalAvgPool2d, MaxPool2d

INPUT = "input"
NORMS = (BatchNorm1d, BatchNorm2d)
PER_UNIT = (*ELEMENTWISE, AvgPool2d, MaxPool2d, GlobalAvgPool2d, Dropout)


@dataclass(frozen=True)
class Use:
    """A layer with arrays, and the axes that it connects.

    reads, spread  axis of its input, and the number of input features of one unit
    writes         axis of its output; equal to `reads` for batch normalisation and depthwise convolutions
    """

    layer: Linear | Conv2d | BatchNorm1d | BatchNorm2d
    reads: str
    spread: int
    writes: str

    @property
    def weighs(self) -> bool:
        """Whether it has weights, not only scales and shifts."""
        return not isinstance(self.layer, NORMS)

    @property
    def mixes(self) -> bool:
        """Whether each of its outputs combines several units; a depthwise convolution does not."""
        return self.weighs and not _is_depthwise(self.layer)


@dataclass(frozen=True)
class Axes:
    """The axes of a network; `print` shows them as a table.

    uses   layers with arrays, in order
    sizes  number of units of each axis; an axis is named after the first layer that writes it, or "input"
    fixed  reasons why an axis cannot be cut, for those that cannot
    """

    uses: tuple[Use, ...]
    sizes: Mapping[str, int]
    fixed: Mapping[str, str]

    def of(self, name: str) -> str:
        """Return the axis that the layer `name` writes; refuse a name that is not a layer with units."""
        found = {use.layer.name: use.writes for use in self.uses if use.weighs}
        if name not in found:
            raise ArgumentError(f"units has {name!r}, which is not a layer with units; choose from {', '.join(found)}")
        return found[name]

    def writers(self, axis: str) -> tuple[str, ...]:
        """Names of the layers with weights whose outputs are this axis."""
        return tuple(use.layer.name for use in self.uses if use.weighs and use.writes == axis)

    def readers(self, axis: str) -> tuple[str, ...]:
        """Names of the layers with weights that mix the units of this axis into others."""
        return tuple(use.layer.name for use in self.uses if use.mixes and use.reads == axis)

    def __str__(self) -> str:
        rows = [("axis", "units", "written by", "read by", "")]
        for axis, size in self.sizes.items():
            writers, readers = (", ".join(names) or "-" for names in (self.writers(axis), self.readers(axis)))
            rows.append((axis, str(size), writers, readers, self.fixed.get(axis, "")))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def coupled_axes(model: Model) -> Axes:
    """Return the axes of a network, derived from its architecture.

    >>> from l0ref import nn
    >>> print(coupled_axes(nn.digits_cnn(seed=0)))
    axis   units  written by  read by
    input  1      -           conv1    input of the network
    conv1  16     conv1       fc1
    fc1    100    fc1         fc2
    fc2    10     fc2         -        output of the network
    """
    walk = _Walk({INPUT: model.input_shape[0]})
    end = walk.through(model.architecture, _Here(INPUT, 1, model.input_shape))
    fixed = {INPUT: "input of the network"} | walk.fixed | {end.axis: "output of the network"}
    uses = tuple(Use(u.layer, walk.root(u.reads), u.spread, walk.root(u.writes)) for u in walk.uses)
    sizes = {axis: size for axis, size in walk.sizes.items() if walk.root(axis) == axis}
    return Axes(uses, sizes, {walk.root(axis): why for axis, why in fixed.items()})


def _is_depthwise(layer: Layer) -> bool:
    return isinstance(layer, Conv2d) and layer.groups == layer.in_channels == layer.out_channels


@dataclass(frozen=True)
class _Here:
    """Position of the walk: the axis of the activation, its features per unit, and its shape."""

    axis: str
    spread: int
    shape: Shape


@dataclass
class _Walk:
    """Walks through the layers in order; `same` maps an axis to the older axis that a residual sum joins it with."""

    sizes: dict[str, int]
    uses: list[Use] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)

    def root(self, axis: str) -> str:
        """Return the oldest name of an axis."""
        while axis in self.same:
            axis = self.same[axis]
        return axis

    def through(self, layers: Sequence[Layer], here: _Here) -> _Here:
        """Walk through a sequence of layers."""
        for layer in layers:
            here = self.step(layer, here)
        return here

    def step(self, layer: Layer, here: _Here) -> _Here:
        """Walk through one layer."""
        after = layer.output_shape(here.shape)
        if isinstance(layer, Residual):
            ends = [self.through(part, here) for part in (layer.body, layer.shortcut)]
            return self.joined(layer.name, ends[0], ends[1])
        if isinstance(layer, Flatten):
            return _Here(here.axis, here.spread * prod(here.shape[1:]), after)
        if isinstance(layer, NORMS):
            self.uses.append(Use(layer, here.axis, here.spread, here.axis))
        elif isinstance(layer, Linear | Conv2d):
            writes = here.axis if _is_depthwise(layer) else layer.name
            self.uses.append(Use(layer, here.axis, here.spread, writes))
            self.sizes.setdefault(writes, after[0])
            return _Here(writes, 1, after)
        elif not isinstance(layer, PER_UNIT):
            raise ConfigError(
                f"layer {layer.name!r} ({type(layer).__name__}) has unknown units; "
                "shrink or permute before making it compact, or leave it out"
            )
        return _Here(here.axis, here.spread, after)

    def joined(self, name: str, main: _Here, side: _Here) -> _Here:
        """Join the two axes that a residual sum adds, under the older name."""
        ends = list(dict.fromkeys(self.root(end.axis) for end in (main, side)))
        if main.spread != side.spread:  # one of them was flattened from channels, so that their units do not match
            self.fixed |= dict.fromkeys(ends, f"added in {name} to units of another shape")
            return main
        first, *others = sorted(ends, key=list(self.sizes).index)
        self.same |= dict.fromkeys(others, first)
        return _Here(first, main.spread, main.shape)
