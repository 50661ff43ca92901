"""`scaling`: how the cost of a training step grows with the width of the network and with the batch."""

from __future__ import annotations

from collections.abc import Iterator

from l0ref.bench.peers.trainers import trainers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.suites.train_mlp import BATCH, ours
from l0ref.bench.training import TOLERANCE, Training
from l0ref.bench.work import Work
from l0ref.nn import mlp

WIDTHS, BATCHES = (1, 2, 4, 8, 16), (1, 4, 16, 64, 256, 1024)


def works(plan: Plan) -> Iterator[Work]:
    """784-300w-100w-10 in batches of 128 for w = 1 ... 16, and LeNet-300-100 in batches of 1 ... 1024.

    Timed as in `train_mlp`. The names "width = 4" make the figure draw the times as a curve.
    """
    widths, batches = ((1, 2), (1, 16)) if plan.quick else (WIDTHS, BATCHES)
    for width in widths:
        yield step(f"width = {width}", width, BATCH, plan)
    for batch in batches:
        yield step(f"batch = {batch}", 1, batch, plan)


def step(name: str, width: int, batch: int, plan: Plan) -> Work:
    """Return the work of a training step. The fit that is timed has so many that its set-up weighs little."""
    steps = 8 if plan.quick else max(64, min(4096, 2**15 // batch) // width)
    model = mlp((784, 300 * width, 100 * width, 10), seed=plan.seed, input_shape=(1, 28, 28))
    task = Training(model, batch, steps * batch, seed=plan.seed)
    return Work(
        name,
        [ours(task), *trainers(task, plan, thorough=False)],
        task.expected(2),
        tolerance=TOLERANCE,
        unit="step",
        check_units=2,
        units=steps,
        turn=2.0,
    )


SUITE = Suite("scaling", "cost of a training step against width (x1 to x16) and batch (1 to 1024)", works)
