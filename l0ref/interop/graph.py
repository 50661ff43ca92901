"""A graph of layers and sums as a chain of layers with residual blocks, for traces of PyTorch and graphs of ONNX.

The immediate dominator of a value is the last value that every path from the input to it passes. That of a layer's
result is its input; that of a sum is where its two branches part. A sum becomes a Residual of the two branches from
there; walking from the result to the input along dominators gives the chain.
Reference: Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm" (2001), here without cycles.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, count

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.nn import Layer


@dataclass(frozen=True)
class Step:
    """One value of a graph.

    inputs  the values from which it is computed: one for a layer, two for a sum
    layer   the layer applied, or None for a sum
    name    name of the residual block that a sum becomes
    """

    inputs: tuple[str, ...]
    layer: Layer | None = None
    name: str = ""


class Graph:
    """Values in the order in which they are computed, each by a layer or a sum of two others."""

    def __init__(self, source: str, *, what: str) -> None:
        self.source, self.what = source, what
        self.steps: dict[str, Step] = {}
        self._above: dict[str, str] = {}  # immediate dominators
        self._depth = {source: 0}

    def __contains__(self, value: str) -> bool:
        return value in self._depth

    def add(self, value: str, step: Step) -> None:
        """Add a value computed from values that are there already."""
        if step.layer is None and step.inputs[0] == step.inputs[1]:
            raise ArgumentError(f"{self.what} adds {step.inputs[0]!r} to itself at {step.name!r}; scale a weight by 2")
        above = step.inputs[0]
        for other in step.inputs[1:]:
            above = self._meet(above, other)
        self.steps[value] = step
        self._above[value] = above
        self._depth[value] = self._depth[above] + 1

    def replace(self, value: str, layer: Layer) -> None:
        """Replace the layer that computes `value`; its inputs stay the same."""
        self.steps[value] = Step(self.steps[value].inputs, layer)

    def chain(self, result: str) -> tuple[Layer, ...]:
        """Return the layers from the input to `result`; refuse branches that no nesting of blocks describes."""
        seen: set[str] = set()
        try:
            found = tuple(self._path(result, self.source, seen))
        except RecursionError:
            raise ArgumentError(f"{self.what} has sums nested too deeply; build it from fewer") from None
        if dropped := next((value for value in self.steps if value not in seen), None):
            told = self._name(dropped)
            raise ArgumentError(f"{self.what} computes {told!r}, which its result does not depend on; remove it")
        return found

    def _path(self, end: str, start: str, seen: set[str]) -> list[Layer]:
        found: list[Layer] = []
        while end != start:
            if end in seen:  # at once: overlapping branches can be walked in exponentially many ways
                raise ArgumentError(
                    f"{self.what} uses the result of {self._name(end)!r} in two sums that overlap; l0ref nests "
                    "residual blocks, so let branches fork and join in pairs"
                )
            seen.add(end)
            step = self.steps[end]
            if step.layer is not None:
                found.append(step.layer)
            else:
                fork = self._above[end]
                body, shortcut = (tuple(self._path(branch, fork, seen)) for branch in step.inputs)
                found.append(nn.Residual(step.name, body or shortcut, shortcut if body else ()))
            end = self._above[end]
        return found[::-1]

    def _name(self, value: str) -> str:
        step = self.steps[value]
        return step.layer.name if step.layer else step.name

    def _meet(self, a: str, b: str) -> str:
        while a != b:
            if self._depth[a] < self._depth[b]:
                a, b = b, a
            a = self._above[a]
        return a


def fresh(name: str, taken: Collection[str]) -> str:
    """Return `name` with the characters that a Model allows, and a number at the end if it is taken."""
    plain = re.sub(r"[^A-Za-z0-9_.]", "_", name).strip(".") or "layer"
    return next(n for n in chain((plain,), (f"{plain}_{i}" for i in count(1))) if n not in taken)
