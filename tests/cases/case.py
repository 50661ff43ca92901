"""One row of the table of cases, and the helpers that draw inputs away from the kinks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Rng = np.random.Generator

PIECEWISE_LINEAR = {"Abs", "Clip", "LeakyRelu", "Max", "MaxPool2d", "Maximum", "Minimum", "Relu"}


@dataclass(frozen=True)
class Case:
    """Inputs of one operation, and what to compare its value and cotangents with.

    op       registered name of the operation
    label    what is special about these inputs; (op, label) is unique
    make     rng -> list of float64 inputs, away from kinks: five-point steps reach about 0.02
    options  keyword arguments of the operation, or rng -> those
    call     the public function: (ops, *inputs, **options) -> Tensor; must equal apply(op, ...)
    torch    the same in PyTorch: (torch, *tensors, **options) -> tensor; None when it has no counterpart
    naive    the same in loops: (*arrays, **options) -> array or nested list
    moves    False when an input is empty or the value constant: finite differences would prove nothing
    """

    op: str
    label: str
    make: Callable[[Rng], list[F64]]
    options: Mapping[str, Any] | Callable[[Rng], Mapping[str, Any]] = field(default_factory=dict)
    call: Callable[..., Any] | None = None
    torch: Callable[..., Any] | None = None
    naive: Callable[..., Any] | None = None
    moves: bool = True

    @property
    def step(self) -> float:
        """Step of the finite differences: a small one where pieces are linear, so that none is left on the way."""
        return 1e-5 if self.op in PIECEWISE_LINEAR else 1e-3

    @property
    def id(self) -> str:
        """Name of the case in test reports."""
        return f"{self.op}-{self.label}"

    def draw(self, seed: int) -> tuple[list[F64], dict[str, Any]]:
        """Draw inputs and options, others when L0REF_SEED changes; an input is read-only: writing to it is an error."""
        rng = np.random.default_rng([seed, int(os.environ.get("L0REF_SEED", "0"))])
        xs = [np.array(x, dtype=np.float64) for x in self.make(rng)]
        for x in xs:
            x.flags.writeable = False
        return xs, dict(self.options(rng) if callable(self.options) else self.options)


def normal(*shapes: tuple[int, ...]) -> Callable[[Rng], list[F64]]:
    """Standard normal inputs of the given shapes."""
    return lambda rng: [rng.normal(size=shape) for shape in shapes]


def off(*shapes: tuple[int, ...], kinks: tuple[float, ...] = (0.0,), gap: float = 0.1) -> Callable[[Rng], list[F64]]:
    """Normal inputs of the given shapes, each entry at least `gap` from every kink (kinks must lie 2 gap apart)."""

    def make(rng: Rng) -> list[F64]:
        return [_push(rng.normal(size=shape), kinks, gap) for shape in shapes]

    return make


def positive(*shapes: tuple[int, ...], low: float = 0.2, high: float = 2.0) -> Callable[[Rng], list[F64]]:
    """Uniform inputs in [low, high]."""
    return lambda rng: [rng.uniform(low, high, size=shape) for shape in shapes]


def distinct(*shapes: tuple[int, ...], gap: float = 0.1) -> Callable[[Rng], list[F64]]:
    """Inputs whose entries all differ by at least `gap`, in random order: no maximum is tied."""

    def make(rng: Rng) -> list[F64]:
        sizes = [int(np.prod(shape)) for shape in shapes]
        ladder = rng.permutation(sum(sizes)) * gap
        ladder = ladder - ladder.mean() if ladder.size else ladder
        return [
            part.reshape(shape) for part, shape in zip(np.split(ladder, np.cumsum(sizes)[:-1]), shapes, strict=True)
        ]

    return make


def _push(x: F64, kinks: tuple[float, ...], gap: float) -> F64:
    for kink in kinks:
        near = np.abs(x - kink) < gap
        x = np.where(near, kink + np.where(x < kink, -gap, gap) * 1.5, x)
    return np.asarray(x)
