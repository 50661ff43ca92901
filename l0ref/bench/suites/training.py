"""`train-mlp`, `train-cnn`, `epoch`, `scaling`: training LeNet-300-100, LeNet-5 and networks of other widths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from l0ref.bench.training import PENALISED, PENALTY, TOLERANCE, Training
from l0ref.bench.training_numpy import autograd_trainer, mygrad_trainer
from l0ref.bench.training_torch import torch_trainers
from l0ref.bench.work import OURS, Contender, Plan, Suite, Work
from l0ref.data import batch_count
from l0ref.nn import Conv2d, Model, lenet_5, lenet_300_100, mlp
from l0ref.nn.sequence import shapes
from l0ref.optim import Adam
from l0ref.training import History, fit
from l0ref.validate import Array

BATCH = 128


def train(task: Training, steps: int) -> tuple[Model, History]:
    """The timed call of our contender in every training suite: `fit` for one epoch of `steps` batches."""
    return fit(
        task.model,
        task.data(steps),
        epochs=1,
        seed=task.seed,
        batch_size=task.batch_size,
        optimizer=Adam(lr=task.lr),
        penalty=PENALTY,
        progress="none",
    )


def ours(task: Training) -> Contender:
    """Our contender in every training suite."""
    return Contender(OURS, partial(train, task), answer=task.fitted, problem=PENALISED)


def trainers(task: Training, plan: Plan, *, thorough: bool = True) -> list[Contender]:
    """Return the plan's peers for a training task; without `thorough` only PyTorch with the penalty and the limit."""
    found: list[Contender] = []
    convolutions = any(isinstance(layer, Conv2d) for layer in task.model.architecture)
    if "torch" in plan.peers or "compile" in plan.peers:
        found += torch_trainers(task, plan, convolutions=convolutions, thorough=thorough)
    if "autograd" in plan.peers and thorough and not convolutions:
        found.append(autograd_trainer(task))
    if "mygrad" in plan.peers and thorough:
        found.append(mygrad_trainer(task))
    if "limits" in plan.peers:
        products = Products(task.model, task.batch_size, seed=task.seed)
        found.append(Contender("matrix products alone, NumPy", products.run))
    return found


def work_of(
    name: str, task: Training, contenders: Sequence[Contender], *, checked: int, units: int, turn: float = 1.0
) -> Work:
    """Return the work of `units` training steps at most; `checked` of them are compared before anything is timed."""
    return Work(
        name,
        contenders,
        task.expected(checked),
        tolerance=TOLERANCE,
        unit="step",
        check_units=checked,
        units=units,
        turn=turn,
    )


def train_mlp(plan: Plan) -> Iterator[Work]:
    """784-300-100-10, batch 128, cross-entropy + Laplace penalty + l2, Adam, float32.

    The time of one `fit` is divided by its number of batches: 256, or fewer where these take more than a second. It
    includes making the batches, the set-up of `fit` and the row it adds to the history. Peers take the same rows of
    the same arrays in the same order, in a plain loop.
    """
    steps = 16 if plan.quick else 256
    task = Training(lenet_300_100(seed=plan.seed), BATCH, steps * BATCH, seed=plan.seed)
    yield work_of(f"LeNet-300-100, batch {BATCH}", task, [ours(task), *trainers(task, plan)], checked=8, units=steps)


def train_cnn(plan: Plan) -> Iterator[Work]:
    """20 and 50 filters 5x5 with max-pooling, 800-500-10, batch 128, Laplace penalty + l2, Adam, float32.

    Timed as `train-mlp` is: the time of one `fit` over its number of batches.
    """
    batch, steps = (16, 4) if plan.quick else (128, 256)
    task = Training(lenet_5(seed=plan.seed), batch, steps * batch, seed=plan.seed)
    yield work_of(f"LeNet-5, batch {batch}", task, [ours(task), *trainers(task, plan)], checked=4, units=steps)


def epoch(plan: Plan) -> Iterator[Work]:
    """60,000 images 28x28 in batches of 128, shuffled; LeNet-300-100 and LeNet-5 with the penalty, Adam, float32.

    A timed run is one `fit` of one epoch: 469 steps, the last on 96 images.
    """
    images = 1000 if plan.quick else 60_000
    steps = batch_count(images, batch_size=BATCH)
    for name, make in (("LeNet-300-100", lenet_300_100), ("LeNet-5", lenet_5)):
        task = Training(make(seed=plan.seed), BATCH, images, seed=plan.seed)
        contenders = [ours(task), *trainers(task, plan, thorough=False)]
        work = work_of(f"{name}, {images:,} images", task, contenders, checked=4, units=steps, turn=math.inf)
        yield replace(work, per=(steps, "epoch"))


WIDTHS, BATCHES = (1, 2, 4, 8, 16), (1, 4, 16, 64, 256, 1024)


def scaling(plan: Plan) -> Iterator[Work]:
    """784-300w-100w-10 in batches of 128 for w = 1 ... 16, and LeNet-300-100 in batches of 1 ... 1024.

    Timed as `train-mlp` is. Names such as "width = 4" make the figure draw the times as a curve.
    """
    widths, batches = ((1, 2), (1, 16)) if plan.quick else (WIDTHS, BATCHES)
    for width in widths:
        yield step(f"width = {width}", width, BATCH, plan)
    for batch in batches:
        yield step(f"batch = {batch}", 1, batch, plan)


def step(name: str, width: int, batch: int, plan: Plan) -> Work:
    """Return the work of a training step; a timed fit has so many steps that its set-up hardly counts."""
    steps = 8 if plan.quick else max(64, min(4096, 2**15 // batch) // width)
    model = mlp((784, 300 * width, 100 * width, 10), seed=plan.seed, input_shape=(1, 28, 28))
    task = Training(model, batch, steps * batch, seed=plan.seed)
    return work_of(name, task, [ours(task), *trainers(task, plan, thorough=False)], checked=2, units=steps, turn=2.0)


class Products:
    """The matrix products of a training step and nothing else, on arrays made beforehand: a lower limit of its cost.

    Three products for every layer with weights W (out, in), two in the first layer:

        y = x W^T      W_bar = y_bar^T x      x_bar = y_bar W, except in the first layer

    x has one row per sample; in a convolution, one per sample and position, which holds the window. Making
    these rows, biases, activations, loss, penalty and optimiser are not included.
    """

    def __init__(self, model: Model, batch_size: int, *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows_of: dict[str, int] = {}
        for layer, shape in zip(model.architecture, shapes(model.architecture, model.input_shape), strict=False):
            rows_of |= {key: batch_size * uses for key, uses in layer.positions(shape).items()}
        self.layers: list[tuple[Array, Array, Array, Array, Array, Array | None]] = []
        for key, rows in rows_of.items():
            w = np.ascontiguousarray(model.params[key].reshape(len(model.params[key]), -1))
            x, y = (rng.standard_normal((rows, size), dtype=w.dtype) for size in (w.shape[1], w.shape[0]))
            x_bar = np.empty_like(x) if self.layers else None
            self.layers.append((w, x, y, np.empty_like(y), np.empty_like(w), x_bar))

    def run(self, steps: int) -> None:
        """Compute the products of `steps` steps into existing arrays."""
        for _ in range(steps):
            for w, x, y_bar, y, w_bar, x_bar in self.layers:
                np.matmul(x, w.T, out=y)
                np.matmul(y_bar.T, x, out=w_bar)
                if x_bar is not None:
                    np.matmul(y_bar, w, out=x_bar)

    @property
    def flops(self) -> int:
        """Multiplications and additions of one step."""
        return sum(2 * x.shape[0] * w.size * (2 if x_bar is None else 3) for w, x, *_, x_bar in self.layers)


SUITES = (
    Suite("train-mlp", "a training step of LeNet-300-100, batch 128, l0 + l2 penalty, Adam", train_mlp),
    Suite("train-cnn", "a training step of LeNet-5 (20-50-500-10), batch 128, l0 + l2 penalty, Adam", train_cnn),
    Suite("epoch", "one epoch of 60,000 images 28x28: LeNet-300-100 and LeNet-5", epoch),
    Suite("scaling", "cost of a training step against width (x1 to x16) and batch (1 to 1024)", scaling),
)
