"""`checkpoint`: the share of training time spent on keeping states."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator

from l0ref.bench.training import PENALTY, Training
from l0ref.bench.work import Claim, Plan, Suite
from l0ref.checkpoint.folder import keeping
from l0ref.nn import Model, lenet_5, lenet_300_100
from l0ref.optim import Adam
from l0ref.training import Recipe, Trainer, TrainingState
from l0ref.training.loop import Keeper

GOAL = 2.0  # per cent


class Clocked:
    """A keeper that measures its own time: differences between whole runs would be lost in noise."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper, self.seconds = keeper, 0.0

    def is_due(self) -> bool:
        """Whether the keeper is due; this test is not counted."""
        return self.keeper.is_due()

    def keep(self, trainer: Trainer, state: TrainingState) -> None:
        """Keep a state within an epoch."""
        begin = time.perf_counter()
        self.keeper.keep(trainer, state)
        self.seconds += time.perf_counter() - begin

    def close_epoch(self, trainer: Trainer, state: TrainingState) -> None:
        """Keep the state after an epoch if it is due."""
        begin = time.perf_counter()
        self.keeper.close_epoch(trainer, state)
        self.seconds += time.perf_counter() - begin


def share(model: Model, plan: Plan, *, epochs: int, every: float) -> float:
    """Return the percentage of the time of a training on 60,000 images spent on states, with checksums of the data."""
    task = Training(model, 128, 1000 if plan.quick else 60_000, seed=plan.seed)
    recipe = Recipe(epochs, optimizer=Adam(lr=1e-3), penalty=PENALTY)
    with tempfile.TemporaryDirectory() as folder, keeping(folder, every=every) as keeper:
        assert keeper is not None
        clocked = Clocked(keeper)
        trainer = Trainer(recipe, model, task.data(task.samples), plan.seed, keeper=clocked)
        begin = time.perf_counter()
        trainer.run(trainer.start())
        return 100 * clocked.seconds / (time.perf_counter() - begin)


def claims(plan: Plan) -> Iterator[Claim | str]:
    """Ten epochs of LeNet-300-100 and two of LeNet-5, with Adam, whose state is twice the size of the weights."""
    goal = None if plan.quick else GOAL
    for name, make, epochs in (("LeNet-300-100", lenet_300_100, 10), ("LeNet-5", lenet_5, 2)):
        for how, every, least in (("every 5 minutes, as by default", 5.0, goal), ("every epoch", 1, None)):
            found = share(make(seed=plan.seed), plan, epochs=epochs, every=every)
            yield Claim(f"{name}, {epochs} epochs, states {how}", found, least, "%")


SUITES = (Suite("checkpoint", "the share of a training that goes into keeping its states", claims=claims),)
