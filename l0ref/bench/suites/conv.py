"""`conv`: one convolution, forward and forward with all gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from l0ref import ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.bench.peers.convolvers import convolvers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.work import OURS, Answers, Contender, Work
from l0ref.validate import Array

# name, batch, channels, filters, kernel, image, padding
SIZES = (
    ("", 64, 64, 64, 3, 32, 1),
    ("LeNet-5 conv1, ", 128, 1, 20, 5, 28, 0),
    ("LeNet-5 conv2, ", 128, 20, 50, 5, 12, 0),
)


@dataclass(frozen=True)
class Convolution:
    """Arrays of a convolution with stride 1: images x, kernels k, bias b, and the cotangent y_bar of the output.

    first   a network's first layer, whose input wants no gradient
    """

    x: Array
    k: Array
    b: Array
    y_bar: Array
    padding: int
    first: bool

    def answer(self, y: Array, bars: list[Array]) -> Answers:
        """Name the output and the gradients, which come in the order (x,) k, b."""
        names = ["k_bar", "b_bar"] if self.first else ["x_bar", "k_bar", "b_bar"]
        return {"y": y, **dict(zip(names, bars, strict=False))}

    def widened(self) -> Convolution:
        """The same problem in float64."""
        wide = {name: getattr(self, name).astype(np.float64) for name in ("x", "k", "b", "y_bar")}
        return replace(self, **wide)


def make(batch: int, channels: int, filters: int, kernel: int, image: int, *, padding: int, seed: int) -> Convolution:
    """Return a convolution of random float32 arrays; one channel makes it a first layer."""
    rng = np.random.default_rng(seed)
    out = image + 2 * padding - kernel + 1

    def drawn(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    x, k = drawn(batch, channels, image, image), drawn(filters, channels, kernel, kernel)
    b, y_bar = drawn(filters), drawn(batch, filters, out, out)
    return Convolution(x, k, b, y_bar, padding, first=channels == 1)


def forward(c: Convolution) -> Array:
    """What is timed: `conv2d`."""
    return ops.conv2d(c.x, c.k, c.b, padding=c.padding).data


def forward_and_backward(c: Convolution) -> tuple[Array, list[Array]]:
    """What is timed: `conv2d`, and the gradients of all its inputs by `grad`, or all but the images'."""
    x, k, b = Tensor(c.x), Tensor(c.k), Tensor(c.b)
    y = ops.conv2d(x, k, b, padding=c.padding)
    return y.data, grad(y, [k, b] if c.first else [x, k, b], y_bar=c.y_bar)


def works(plan: Plan) -> Iterator[Work]:
    """64 -> 64 channels, 3x3, on images 32x32 with padding 1, batch 64; the two of LeNet-5, 5x5, batch 128; float32.

    A timed run calls the operation again and again on the same arrays. `GF/s` counts a multiplication and an addition
    as two.
    """
    for name, batch, channels, filters, kernel, image, padding in SIZES:
        size = 4 if plan.quick else batch
        c = make(size, channels, filters, kernel, image, padding=padding, seed=plan.seed)
        where = f"{name}{channels} -> {filters}, {kernel}x{kernel}, {image}x{image}, batch {size}"
        products = 2.0 * c.y_bar.size * c.k[0].size
        for backward in (False, True):
            yield Work(
                f"{where}, {'forward + backward' if backward else 'forward'}",
                [ours(c, backward=backward), *convolvers(c, plan, backward=backward)],
                {"": partial(truth, c, backward=backward)},
                tolerance=1e-4,
                rate=(products * ((2 if c.first else 3) if backward else 1), "GF/s"),
            )


def ours(c: Convolution, *, backward: bool) -> Contender:
    """Our contender."""

    def run(n: int) -> tuple[Array, list[Array]]:
        for _ in range(n):
            y, bars = forward_and_backward(c) if backward else (forward(c), [])
        return y, bars

    return Contender(OURS, run, answer=lambda done: c.answer(*done))


def truth(c: Convolution, *, backward: bool) -> Answers:
    """The same in float64 on plain NumPy."""
    wide = c.widened()
    with backend("numpy"):
        return c.answer(*(forward_and_backward(wide) if backward else (forward(wide), [])))


SUITE = Suite("conv", "one convolution: 64 -> 64 3x3, and the two of LeNet-5; forward, forward + backward", works)
