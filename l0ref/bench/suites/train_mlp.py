"""`train-mlp`: a training step of LeNet-300-100 with the l0 penalty."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from l0ref.bench.peers.trainers import trainers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.training import PENALISED, PENALTY, TOLERANCE, Training
from l0ref.bench.work import OURS, Contender, Work
from l0ref.nn import Model, lenet_300_100
from l0ref.optim import Adam
from l0ref.training import History, fit

BATCH = 128


def train(task: Training, steps: int) -> tuple[Model, History]:
    """What is timed of ours, in every training suite: one `fit` of one epoch that has `steps` batches."""
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


def works(plan: Plan) -> Iterator[Work]:
    """784-300-100-10, batch 128, cross-entropy + Laplace penalty + l2, Adam, float32.

    The time of one `fit` is divided by its number of batches: at most 256, fewer where they take more than a second.
    So the making of a batch, the set-up of `fit` and the row it adds to the history are in it. Peers take the same
    rows of the same arrays in the same order, in a plain loop.
    """
    steps = 16 if plan.quick else 256
    task = Training(lenet_300_100(seed=plan.seed), BATCH, steps * BATCH, seed=plan.seed)
    yield Work(
        f"LeNet-300-100, batch {BATCH}",
        [ours(task), *trainers(task, plan)],
        task.expected(8),
        tolerance=TOLERANCE,
        unit="step",
        check_units=8,
        units=steps,
        turn=1.0,
    )


SUITE = Suite("train-mlp", "a training step of LeNet-300-100, batch 128, l0 + l2 penalty, Adam", works)
