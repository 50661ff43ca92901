"""Everybody who takes an optimiser's step: the peers of the suite `optimizer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from l0ref.bench.plan import Plan
from l0ref.bench.traffic import moments
from l0ref.bench.work import Contender

if TYPE_CHECKING:
    from l0ref.bench.suites.optimizer import Step


def steppers(step: Step, plan: Plan) -> list[Contender]:
    """Return the plan's peers for one optimiser."""
    found: list[Contender] = []
    if "torch" in plan.peers:
        from l0ref.bench.peers.torch_steps import torch_steppers

        found += torch_steppers(step, plan)
    if "limits" in plan.peers:
        found.append(_traffic(step.model.n_parameters))
    return found


def _traffic(size: int) -> Contender:
    """The memory traffic of Adam: weights, gradients and two moments in, weights and moments out."""
    arrays = [np.zeros(size, np.float32) for _ in range(7)]

    def run(steps: int) -> None:
        for _ in range(steps):
            moments(*arrays)

    return Contender("memory traffic of Adam alone, Numba", run)
