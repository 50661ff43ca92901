"""`sparse-step`: the cost of a fine-tuning step in one fully connected layer: forward pass and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from l0ref import ops, sparse
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.bench.peers import torch_with
from l0ref.bench.suites.sparse_products import DENSITIES, random_mask
from l0ref.bench.work import DENSE, OURS, Answers, Contender, Plan, Suite, Work, repeated
from l0ref.sparse import CSR
from l0ref.validate import Array

LAYERS = ((784, 300), (300, 100), (800, 500))  # features in and out
TINY = ((24, 18),)
BATCH = 128


@dataclass(frozen=True)
class LayerStep:
    """Weights w (M, D), zero where mask is False; samples x (N, D); the cotangent y_bar (N, M) of the outputs."""

    w: Array
    mask: Array
    x: Array
    y_bar: Array

    @cached_property
    def stored(self) -> CSR:
        """The weights in l0ref's format."""
        return CSR.from_dense(self.w)

    def answer(self, y: Array, x_bar: Array, w_bar: Array) -> Answers:
        """Name the results; w_bar is either dense, and 0 where the mask is False, or the vector of stored entries."""
        if w_bar.ndim == 1:
            w_bar = self.stored.pattern.scatter(w_bar)
        return {"y": y, "x_bar": x_bar, "w_bar": w_bar}

    def truth(self) -> Answers:
        """The same in float64 on plain NumPy."""
        w, x, y_bar = (a.astype(np.float64) for a in (self.w, self.x, self.y_bar))
        return self.answer(x @ w.T, y_bar @ w, (y_bar.T @ x) * self.mask)


Results = tuple[Array, Array, Array]


def make(layer: tuple[int, int], batch: int, *, density: float, seed: int) -> LayerStep:
    """Return a layer of random float32 arrays. density: percentage of the weights that are kept, chosen at random."""
    rng, (d, m) = np.random.default_rng(seed), layer
    w, x, y_bar = (rng.standard_normal(s, dtype=np.float32) for s in ((m, d), (batch, d), (batch, m)))
    mask = random_mask(w.shape, density=density, rng=rng)
    return LayerStep(w * mask, mask, x, y_bar)


def compact_step(s: LayerStep) -> Results:
    """The timed call of our contender: `sparse_linear`, and by `grad` the gradients of samples and stored weights."""
    x, values = Tensor(s.x), Tensor(s.stored.values)
    y = sparse.sparse_linear(x, values, pattern=s.stored.pattern)
    x_bar, w_bar = grad(y, [x, values], y_bar=s.y_bar)
    return y.data, x_bar, w_bar


def masked_step(s: LayerStep) -> Results:
    """The same with dense weights: `linear`, its gradients by `grad`, the mask applied to that of the weights."""
    x, w = Tensor(s.x), Tensor(s.w)
    y = ops.linear(x, w)
    x_bar, w_bar = grad(y, [x, w], y_bar=s.y_bar)
    w_bar *= s.mask
    return y.data, x_bar, w_bar


def ours(s: LayerStep) -> list[Contender]:
    """Our contenders: stored weights alone, and dense weights under a mask."""
    steps = {OURS: compact_step, f"{DENSE}, l0ref": masked_step}
    return [
        Contender(name, repeated(partial(step, s)), answer=lambda done: s.answer(*done)) for name, step in steps.items()
    ]


def work(layer: tuple[int, int], density: float, plan: Plan) -> Work:
    """Return the step of one layer; its name makes the figure draw all densities as one curve."""
    batch = 8 if plan.quick else BATCH
    s = make(layer, batch, density=density, seed=plan.seed)
    return Work(
        f"step of {layer[0]} x {layer[1]}, batch {batch}, density = {density:g} %",
        [*ours(s), *sparse_steppers(s, plan)],
        {"": s.truth},
        tolerance=1e-5,
        unit="step",
        turn=0.02,
    )


def works(plan: Plan) -> Iterator[Work]:
    """y = x W^T, the cotangent of x, and that of W where the mask is True; batch 128, float32, samples by features.

    Dense contenders multiply by the zeros, and set the cotangent of W to 0 where the mask is False, as masked training
    does. Loss, bias, activation and optimiser are left out because they are the same for all contenders.
    """
    layers, densities = (TINY, (50, 5)) if plan.quick else (LAYERS, DENSITIES)
    for layer in layers:
        yield from (work(layer, density, plan) for density in densities)


def sparse_steppers(s: LayerStep, plan: Plan) -> list[Contender]:
    """Return NumPy, which computes the products and applies the mask, and the plan's peers."""
    found = [Contender(f"{DENSE}, NumPy", repeated(partial(_numpy, s)), answer=lambda done: s.answer(*done))]
    if "torch" in plan.peers:
        found.append(_torch(s, plan))
    return found


def _numpy(s: LayerStep) -> Results:
    y, x_bar, w_bar = s.x @ s.w.T, s.y_bar @ s.w, s.y_bar.T @ s.x
    w_bar *= s.mask
    return y, x_bar, w_bar


def _torch(s: LayerStep, plan: Plan) -> Contender:
    torch = torch_with(plan.threads)
    x, w, mask, y_bar = (torch.from_numpy(np.ascontiguousarray(a)) for a in (s.x, s.w, s.mask, s.y_bar))
    for t in (x, w):
        t.requires_grad_()

    def step() -> tuple[Any, Any, Any]:
        y = torch.nn.functional.linear(x, w)
        x_bar, w_bar = torch.autograd.grad(y, [x, w], y_bar)
        w_bar *= mask
        return y.detach(), x_bar, w_bar

    return Contender(f"{DENSE}, torch", repeated(step), answer=lambda done: s.answer(*(t.numpy() for t in done)))


SUITES = (Suite("sparse-step", "forward and gradients of a sparse layer, batch 128: every layer and density", works),)
