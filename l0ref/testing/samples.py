"""Inputs for every registered operation and surrogate: away from their kinks, and exactly on them.

The keys of SAMPLES and SURROGATE_SAMPLES are those of the registries, which a test checks. The axes of each array have
different sizes, except those of the convolution kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0ref import surrogates
from l0ref.sparse import BlockPattern, Pattern
from l0ref.surrogates import Surrogate
from l0ref.validate import Array

Rng = np.random.Generator
GAP = 0.1  # least distance of a drawn entry from a kink, and of two entries that must not tie


@dataclass(frozen=True)
class Sample:
    """Inputs of one operation.

    make     rng -> float64 inputs
    options  keyword arguments of the operation
    """

    make: Callable[[Rng], list[Array]]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AtKink:
    """Inputs exactly on a kink, and the documented cotangents of all inputs for a cotangent of ones."""

    op: str
    inputs: tuple[Any, ...]
    expected: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def normal(*shapes: tuple[int, ...]) -> Callable[[Rng], list[Array]]:
    """Standard normal inputs."""
    return lambda rng: [rng.normal(size=shape) for shape in shapes]


def positive(*shapes: tuple[int, ...]) -> Callable[[Rng], list[Array]]:
    """Inputs between 0.3 and 2."""
    return lambda rng: [rng.uniform(0.3, 2.0, size=shape) for shape in shapes]


def apart(*shapes: tuple[int, ...]) -> Callable[[Rng], list[Array]]:
    """Inputs whose entries differ by at least GAP from each other and GAP / 2 from 0: nothing is tied."""

    def make(rng: Rng) -> list[Array]:
        sizes = [int(np.prod(shape)) for shape in shapes]
        values = (rng.permutation(sum(sizes)) - sum(sizes) // 2 + 0.5) * GAP
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    return make


def off(*points: float, shape: tuple[int, ...] = (3, 4)) -> Callable[[Rng], list[Array]]:
    """Inputs at least GAP away from the given points, some in every interval between and beside them."""

    def make(rng: Rng) -> list[Array]:
        edges = np.array(sorted(points))
        low, high = np.append(edges[0] - 2, edges) + GAP, np.append(edges, edges[-1] + 2) - GAP
        which = rng.permutation(int(np.prod(shape))) % low.size
        return [rng.uniform(low[which], high[which]).reshape(shape)]

    return make


def after(first: Callable[[Rng], list[Array]], *rest: Callable[[Rng], list[Array]]) -> Callable[[Rng], list[Array]]:
    """The inputs of several makers, one after another."""
    return lambda rng: [x for make in (first, *rest) for x in make(rng)]


WINDOW = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}
CONV = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
MULTIPLIER = np.array([[0.0, 2.0, 2.0, 0.0], [2.0, 0.0, 2.0, 2.0], [2.0, 2.0, 0.0, 2.0]])
LABELS = np.array([2, 0, 3])
SPARSE = Pattern.from_mask(MULTIPLIER > 0)  # 3 x 4, 8 of 12 entries
TILED = BlockPattern.from_mask(MULTIPLIER == 0, blocksize=(2, 3))  # 3 of 4 tiles; those at the edges overhang
KERNEL = Pattern.from_mask(np.arange(6 * 12).reshape(6, 12) % 5 == 1)  # 6 filters of 2 channels, 3 x 2

SAMPLES: dict[str, Sample] = {
    "Abs": Sample(off(0.0)),
    "Add": Sample(normal((2, 3, 1), (3, 4))),
    "AvgPool2d": Sample(normal((2, 3, 5, 4)), {**WINDOW, "count_include_pad": False}),
    "BatchNormEvaluation": Sample(
        normal((4, 3, 2, 5), (3,), (3,)),
        {"mean": np.array([0.3, -1.0, 0.1]), "var": np.array([0.5, 1.5, 3.0]), "eps": 1e-5},
    ),
    "BatchNormTraining": Sample(normal((4, 3, 2, 5), (3,), (3,)), {"eps": 1e-5}),
    "BlockSparseLinear": Sample(normal((5, 4), TILED.values_shape, (3,)), {"pattern": TILED}),
    "Clip": Sample(off(-0.5, 0.75), {"low": -0.5, "high": 0.75}),
    "Concatenate": Sample(normal((2, 3), (2, 1), (2, 4)), {"axis": 1}),
    "Conv2d": Sample(normal((2, 4, 6, 7), (6, 2, 3, 2), (6,)), CONV),
    "CrossEntropy": Sample(normal((3, 5)), {"target": LABELS, "label_smoothing": 0.1, "reduction": "mean"}),
    "Div": Sample(after(normal((3, 1)), positive((1, 4)))),
    "Dropout": Sample(normal((3, 4)), {"multiplier": MULTIPLIER}),
    "Exp": Sample(normal((3, 4))),
    "Flatten": Sample(normal((2, 3, 4)), {"start_dim": 1, "end_dim": -1}),
    "LeakyRelu": Sample(off(0.0), {"negative_slope": 0.01}),
    "Linear": Sample(normal((5, 3), (4, 3), (4,))),
    "Log": Sample(positive((3, 4))),
    "LogSoftmax": Sample(normal((3, 5)), {"axis": 1}),
    "Logsumexp": Sample(normal((3, 5)), {"axis": 1, "keepdims": False}),
    "Matmul": Sample(normal((5, 1, 2, 3), (2, 3, 4))),
    "Max": Sample(apart((3, 5)), {"axis": 0, "keepdims": False}),
    "MaxPool2d": Sample(apart((2, 3, 5, 4)), WINDOW),
    "Maximum": Sample(apart((3, 4), (3, 4))),
    "Mean": Sample(normal((2, 3, 4)), {"axis": (0, 2), "keepdims": True}),
    "Minimum": Sample(apart((3, 4), (3, 4))),
    "MseLoss": Sample(normal((3, 4), (3, 4)), {"reduction": "mean"}),
    "Mul": Sample(normal((2, 3, 1), (3, 4))),
    "Neg": Sample(normal((3, 4))),
    "Pad": Sample(normal((2, 3)), {"pad": (1, 2, 0, 1), "value": 0.5}),
    "Permute": Sample(normal((2, 3, 4)), {"dims": (1, 2, 0)}),
    "Pow": Sample(after(positive((3, 1)), normal((1, 4)))),
    "Relu": Sample(off(0.0)),
    "Reshape": Sample(normal((2, 6)), {"shape": (3, 4)}),
    "SDDMM": Sample(normal((3, 5), (4, 5)), {"pattern": SPARSE}),
    "Sigmoid": Sample(normal((3, 4))),
    "Softmax": Sample(normal((3, 5)), {"axis": 1}),
    "Softplus": Sample(normal((3, 4)), {"beta": 1.5, "threshold": 20.0}),
    "SpMM": Sample(normal(SPARSE.values_shape, (4, 5)), {"pattern": SPARSE, "transposed": False}),
    "SpMV": Sample(normal(SPARSE.values_shape, (3,)), {"pattern": SPARSE, "transposed": True}),
    "SparseConv2d": Sample(
        normal((2, 4, 6, 7), KERNEL.values_shape, (6,)), {**CONV, "pattern": KERNEL, "kernel_shape": (6, 2, 3, 2)}
    ),
    "SparseLinear": Sample(normal((5, 4), SPARSE.values_shape, (3,)), {"pattern": SPARSE}),
    "Sqrt": Sample(positive((3, 4))),
    "Sub": Sample(normal((2, 3, 1), (3, 4))),
    "Sum": Sample(normal((2, 3, 4)), {"axis": (0, 2), "keepdims": True}),
    "Surrogate": Sample(off(0.0), {"surrogate": surrogates.Laplace(beta=5.0)}),
    "Tanh": Sample(normal((3, 4))),
    "Transpose": Sample(normal((2, 3, 4)), {"dim0": 0, "dim1": -1}),
    "Where": Sample(normal((3, 4), (3, 1)), {"condition": MULTIPLIER > 0}),
}

POOL = {"kernel_size": (1, 2), "stride": (1, 2), "padding": (0, 0)}
KINKS: tuple[AtKink, ...] = (
    AtKink("Abs", ([-1.0, 0.0, 2.0],), ([-1.0, 0.0, 1.0],)),
    AtKink("Relu", ([-1.0, 0.0, 2.0],), ([0.0, 0.0, 1.0],)),
    AtKink("LeakyRelu", ([-1.0, 0.0, 2.0],), ([0.25, 0.25, 1.0],), {"negative_slope": 0.25}),
    AtKink("Clip", ([-0.5, 0.0, 0.75],), ([1.0, 1.0, 1.0],), {"low": -0.5, "high": 0.75}),
    AtKink("Maximum", ([1.0, 2.0], [1.0, 0.0]), ([0.5, 1.0], [0.5, 0.0])),
    AtKink("Minimum", ([1.0, 2.0], [1.0, 0.0]), ([0.5, 0.0], [0.5, 1.0])),
    AtKink("Max", ([[3.0, 1.0, 3.0], [0.0, 2.0, 2.0]],), ([[1.0, 0, 0], [0, 1.0, 0]],), {"axis": 1, "keepdims": False}),
    AtKink("MaxPool2d", ([[[[5.0, 5.0, 1.0, 2.0]]]],), ([[[[1.0, 0.0, 0.0, 1.0]]]],), POOL),
    AtKink("Surrogate", ([0.0, 0.5],), ([0.0, 5 * np.exp(-2.5)],), {"surrogate": surrogates.Laplace(beta=5.0)}),
)

# Each surrogate at ordinary parameters; the tuple holds the |w| of its corners other than 0.
SURROGATE_SAMPLES: dict[str, tuple[Surrogate, tuple[float, ...]]] = {
    "Arctan": (surrogates.Arctan(beta=5.0), ()),
    "CappedL1": (surrogates.CappedL1(theta=0.5), (0.5,)),
    "Gaussian": (surrogates.Gaussian(sigma=0.5), ()),
    "GemanMcClure": (surrogates.GemanMcClure(beta=5.0), ()),
    "L0": (surrogates.L0(), ()),
    "L1": (surrogates.L1(), ()),
    "L2": (surrogates.L2(), ()),
    "Laplace": (surrogates.Laplace(beta=5.0), ()),
    "LinearizedLaplace": (surrogates.LinearizedLaplace(beta=2.0), ()),
    "LogSum": (surrogates.LogSum(eps=0.1), ()),
    "Lp": (surrogates.Lp(p=0.5), ()),
    "MCP": (surrogates.MCP(lam=0.5, gamma=3.0), ()),
    "SCAD": (surrogates.SCAD(lam=0.25, a=3.7), ()),
    "Tanh": (surrogates.Tanh(beta=5.0), ()),
    "TransformedL1": (surrogates.TransformedL1(a=0.5), ()),
}


def surrogate_points(name: str, rng: Rng, *, n: int = 16) -> Array:
    """Return entries to check a surrogate at: random ones of both signs, 0, and its corners."""
    corners = SURROGATE_SAMPLES[name][1]
    spread = rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-2, 0.5, n)
    return np.concatenate([spread, [0.0], [side * c for c in corners for side in (-1.0, 1.0)]])
