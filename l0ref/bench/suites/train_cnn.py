"""`train-cnn`: a training step of LeNet-5 with the l0 penalty."""

from __future__ import annotations

from collections.abc import Iterator

from l0ref.bench.peers.trainers import trainers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.suites.train_mlp import ours
from l0ref.bench.training import TOLERANCE, Training
from l0ref.bench.work import Work
from l0ref.nn import lenet_5


def works(plan: Plan) -> Iterator[Work]:
    """20 and 50 filters 5x5 with max-pooling, 800-500-10, batch 128, Laplace penalty + l2, Adam, float32.

    Timed as in `train_mlp`: the time of one `fit` over its number of batches.
    """
    batch, steps = (16, 4) if plan.quick else (128, 256)
    task = Training(lenet_5(seed=plan.seed), batch, steps * batch, seed=plan.seed)
    yield Work(
        f"LeNet-5, batch {batch}",
        [ours(task), *trainers(task, plan)],
        task.expected(4),
        tolerance=TOLERANCE,
        unit="step",
        check_units=4,
        units=steps,
        turn=1.0,
    )


SUITE = Suite("train-cnn", "a training step of LeNet-5 (20-50-500-10), batch 128, l0 + l2 penalty, Adam", works)
