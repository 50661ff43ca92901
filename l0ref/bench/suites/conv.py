"""`conv`: one convolution, forward and forward with all gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from l0ref import ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.bench.peers import torch_with
from l0ref.bench.work import OURS, Answers, Contender, Plan, Suite, Work, repeated
from l0ref.interop.extras import need
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

    first   whether this is a network's first layer, whose input needs no gradient
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
    """The timed call: `conv2d`."""
    return ops.conv2d(c.x, c.k, c.b, padding=c.padding).data


def forward_and_backward(c: Convolution) -> tuple[Array, list[Array]]:
    """The timed call: `conv2d`, and by `grad` the gradients of its inputs, except the images of a first layer."""
    x, k, b = Tensor(c.x), Tensor(c.k), Tensor(c.b)
    y = ops.conv2d(x, k, b, padding=c.padding)
    return y.data, grad(y, [k, b] if c.first else [x, k, b], y_bar=c.y_bar)


def works(plan: Plan) -> Iterator[Work]:
    """64 -> 64 channels, 3x3, on images 32x32 with padding 1, batch 64; the two of LeNet-5, 5x5, batch 128; float32.

    A timed run calls the operation repeatedly on the same arrays. `GF/s` counts a multiplication and an addition
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

    def call() -> tuple[Array, list[Array]]:
        return forward_and_backward(c) if backward else (forward(c), [])

    return Contender(OURS, repeated(call), answer=lambda done: c.answer(*done))


def truth(c: Convolution, *, backward: bool) -> Answers:
    """The same in float64 on plain NumPy."""
    wide = c.widened()
    with backend("numpy"):
        return c.answer(*(forward_and_backward(wide) if backward else (forward(wide), [])))


def convolvers(c: Convolution, plan: Plan, *, backward: bool) -> list[Contender]:
    """Return the plan's peers for one convolution."""
    found: list[Contender] = []
    if "torch" in plan.peers:
        found += torch_convolvers(c, plan, backward=backward)
    if "mygrad" in plan.peers:
        found.append(mygrad_convolver(c, backward=backward))
    return found


def torch_convolvers(c: Convolution, plan: Plan, *, backward: bool) -> list[Contender]:
    """Return one contender for each layout; all arrays are converted before the clock starts."""
    torch = torch_with(plan.threads)
    layouts = {"torch": torch.contiguous_format, "torch, channels_last": torch.channels_last}
    return [_contender(name, torch, c, layout, backward=backward) for name, layout in layouts.items()]


def _contender(name: str, torch: Any, c: Convolution, layout: Any, *, backward: bool) -> Contender:
    x, k, y_bar = (torch.from_numpy(a).contiguous(memory_format=layout) for a in (c.x, c.k, c.y_bar))
    b = torch.from_numpy(c.b)
    wanted = [k, b] if c.first else [x, k, b]
    for t in wanted if backward else []:
        t.requires_grad_()

    def call() -> tuple[Any, Any]:
        y = torch.nn.functional.conv2d(x, k, b, padding=c.padding)
        return y, torch.autograd.grad(y, wanted, y_bar) if backward else []

    def answer(done: tuple[Any, Any]) -> Answers:
        y, bars = done
        return c.answer(y.detach().numpy(), [bar.numpy() for bar in bars])

    return Contender(name, repeated(call), answer=answer)


def mygrad_convolver(c: Convolution, *, backward: bool) -> Contender:
    """Return a contender that uses MyGrad's `conv_nd`."""
    mg, layers = need("mygrad", extra="bench"), need("mygrad.nnet.layers", extra="bench")

    def call() -> tuple[Any, list[Any]]:
        x = mg.tensor(c.x, constant=c.first or not backward)
        k, b = mg.tensor(c.k, constant=not backward), mg.tensor(c.b, constant=not backward)
        y = layers.conv_nd(x, k, stride=1, padding=c.padding) + b.reshape(1, -1, 1, 1)
        if backward:
            y.backward(c.y_bar)
        return y, [k, b] if c.first else [x, k, b]

    def answer(done: tuple[Any, list[Any]]) -> Answers:
        y, inputs = done
        return c.answer(y.data, [t.grad for t in inputs] if backward else [])

    return Contender("MyGrad", repeated(call), answer=answer)


SUITES = (Suite("conv", "one convolution: 64 -> 64 3x3, and the two of LeNet-5; forward, forward + backward", works),)
