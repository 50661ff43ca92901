"""`epoch`: one epoch over as many images as MNIST has."""

from __future__ import annotations

import math
from collections.abc import Iterator

from l0ref.bench.peers.trainers import trainers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.suites.train_mlp import BATCH, ours
from l0ref.bench.training import TOLERANCE, Training
from l0ref.bench.work import Work
from l0ref.data import batch_count
from l0ref.nn import lenet_5, lenet_300_100


def works(plan: Plan) -> Iterator[Work]:
    """60,000 images 28x28 in batches of 128, shuffled; LeNet-300-100 and LeNet-5 with the penalty, Adam, float32.

    A timed run is one `fit` of one epoch: 469 steps, the last on 96 images.
    """
    images = 1000 if plan.quick else 60_000
    steps = batch_count(images, batch_size=BATCH)
    for name, make in (("LeNet-300-100", lenet_300_100), ("LeNet-5", lenet_5)):
        task = Training(make(seed=plan.seed), BATCH, images, seed=plan.seed)
        yield Work(
            f"{name}, {images:,} images",
            [ours(task), *trainers(task, plan, thorough=False)],
            task.expected(4),
            tolerance=TOLERANCE,
            unit="step",
            check_units=4,
            units=steps,
            turn=math.inf,
            per=(steps, "epoch"),
        )


SUITE = Suite("epoch", "one epoch of 60,000 images 28x28: LeNet-300-100 and LeNet-5", works)
