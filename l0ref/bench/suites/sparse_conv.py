"""`sparse-conv`: the forward pass of a convolution with mostly zero weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from l0ref import sparse
from l0ref.bench.suites.conv import Convolution, convolvers, truth
from l0ref.bench.suites.conv import make as make_dense
from l0ref.bench.suites.conv import ours as ours_dense
from l0ref.bench.suites.sparse_products import DENSITIES, random_mask
from l0ref.bench.work import DENSE, OURS, Contender, Plan, Suite, Work, repeated
from l0ref.sparse import CSR
from l0ref.validate import Array

# name, batch, channels, filters, kernel, image, padding
Size = tuple[str, int, int, int, int, int, int]
SIZES: tuple[Size, ...] = (
    ("LeNet-5 conv1", 128, 1, 20, 5, 28, 0),
    ("LeNet-5 conv2", 128, 20, 50, 5, 12, 0),
    ("VGG", 64, 64, 64, 3, 32, 1),
    ("VGG", 64, 128, 128, 3, 16, 1),
)
TINY: tuple[Size, ...] = (("tiny", 3, 2, 5, 3, 6, 1),)


def make(size: Size, *, density: float, seed: int) -> Convolution:
    """Return a convolution of random float32 arrays; `density` is the percentage of kernel weights that are kept."""
    _, batch, channels, filters, kernel, image, padding = size
    c = make_dense(batch, channels, filters, kernel, image, padding=padding, seed=seed)
    mask = random_mask((filters, c.k[0].size), density=density, rng=np.random.default_rng(seed))
    return replace(c, k=c.k * mask.reshape(c.k.shape))


def forward(c: Convolution, w: CSR) -> Array:
    """The timed call of our contender: `sparse_conv2d`; the change of memory layout and back is part of it."""
    y = sparse.sparse_conv2d(c.x, w.values, c.b, pattern=w.pattern, kernel_shape=c.k.shape, padding=c.padding)
    return y.data


def ours(c: Convolution) -> Contender:
    """Our contender."""
    w = CSR.from_dense(c.k.reshape(len(c.k), -1))
    return Contender(OURS, repeated(partial(forward, c, w)), answer=lambda y: c.answer(y, []))


def work(size: Size, density: float, plan: Plan) -> Work:
    """Return one convolution; its name makes the figure draw all densities as one curve."""
    name, batch, channels, filters, kernel, image, _ = size
    c = make(size, density=density, seed=plan.seed)
    dense = [ours_dense(c, backward=False), *convolvers(c, _only_torch(plan), backward=False)]
    where = f"{name} {channels} -> {filters}, {kernel}x{kernel}, {image}x{image}, batch {batch}"
    return Work(
        f"{where}, density = {density:g} %",
        [ours(c), *(replace(contender, name=f"{DENSE}, {contender.name}") for contender in dense)],
        {"": partial(truth, c, backward=False)},
        tolerance=1e-4,
        turn=0.02,
    )


def works(plan: Plan) -> Iterator[Work]:
    """The two convolutions of LeNet-5, batch 128, and two of VGG, batch 64; stride 1, float32.

    Ours reads and writes images (N, C, H, W); changing their layout is part of its time. Dense contenders multiply
    by the zeros. PyTorch's arrays are converted to the layout of its contender before the clock starts.
    """
    sizes, densities = (TINY, (50, 5)) if plan.quick else (SIZES, DENSITIES)
    for size in sizes:
        yield from (work(size, density, plan) for density in densities)


def _only_torch(plan: Plan) -> Plan:
    """Return the plan without the peers whose convolutions are slower by an order of magnitude."""
    return replace(plan, peers=tuple(peer for peer in plan.peers if peer == "torch"))


SUITES = (Suite("sparse-conv", "a sparse convolution, forward: LeNet-5 and VGG, every density", works),)
