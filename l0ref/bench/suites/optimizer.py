"""`optimizer`: one step of an optimiser on the parameters of LeNet-300-100."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from l0ref.autodiff.op import backend
from l0ref.bench.peers.steppers import steppers
from l0ref.bench.plan import Plan
from l0ref.bench.suites import Suite
from l0ref.bench.training import PENALTY
from l0ref.bench.work import OURS, Answers, Contender, Work
from l0ref.nn import Model, lenet_300_100, mlp
from l0ref.optim import SGD, Adam, AdamW, Optimizer, Proximal
from l0ref.penalty import Penalty
from l0ref.surrogates import L1
from l0ref.validate import Array

RULES: dict[str, tuple[Optimizer, Penalty]] = {
    "Adam + penalty": (Adam(lr=1e-3), PENALTY),
    "SGD with momentum + penalty": (SGD(lr=0.01, momentum=0.9), PENALTY),
    "AdamW, no penalty": (AdamW(lr=1e-3, weight_decay=0.1), Penalty()),
    "proximal SGD with momentum, l1 + l2": (Proximal(SGD(lr=0.01, momentum=0.9)), Penalty(L1(), alpha=1e-4, l2=1e-4)),
    "proximal Adam, Laplace + l2": (Proximal(Adam(lr=1e-3)), PENALTY),
}


@dataclass(frozen=True)
class Step:
    """Parameters, the gradients they get in every step, the optimiser and the penalty."""

    model: Model
    grads: Mapping[str, Array]
    optimizer: Optimizer
    penalty: Penalty

    def run(self, steps: int) -> Mapping[str, Array]:
        """What is timed: `optimizer.step` with the penalty's pull, each step from where the last one led."""
        pull = self.penalty.pull(self.penalty.factors(self.model))
        params, state = self.model.params, self.optimizer.init(self.model.params)
        for _ in range(steps):
            params, state = self.optimizer.step(params, self.grads, state, pull=pull)
        return params

    def moved(self, params: Mapping[str, Array]) -> Answers:
        """How far every array has moved."""
        start = self.model.params
        return {k: np.asarray(w, np.float64) - np.asarray(start[k], np.float64) for k, w in params.items()}

    def expected(self, steps: int) -> Answers:
        """The same in float64 on plain NumPy."""
        grads = {k: g.astype(np.float64) for k, g in self.grads.items()}
        with backend("numpy"):
            wide = Step(self.model.astype(np.float64), grads, self.optimizer, self.penalty)
            return wide.moved(wide.run(steps))


def works(plan: Plan) -> Iterator[Work]:
    """266,610 parameters in six float32 arrays, gradients given; all but AdamW with a penalty on the 266,200 weights.

    The gradients are the same in every step, and so small that the comparison sees both terms of the penalty. A timed
    run makes as many steps as fill 50 ms.
    """
    rng = np.random.default_rng(plan.seed)
    model = mlp((20, 10, 5), seed=plan.seed) if plan.quick else lenet_300_100(seed=plan.seed)
    grads = {k: 1e-3 * rng.standard_normal(w.shape, dtype=np.float32) for k, w in model.params.items()}
    for name, (optimizer, penalty) in RULES.items():
        step = Step(model, grads, optimizer, penalty)
        yield Work(
            f"{name}, {model.n_parameters:,} parameters",
            [Contender(OURS, step.run, answer=step.moved), *steppers(step, plan)],
            {"": partial(step.expected, 3)},
            unit="step",
            check_units=3,
        )


SUITE = Suite("optimizer", "one step of Adam, SGD, AdamW and proximal steps on the weights of LeNet-300-100", works)
