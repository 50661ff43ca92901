"""Everybody who trains: the peers of the training suites."""

from __future__ import annotations

from l0ref.bench.peers.products import Products
from l0ref.bench.plan import Plan
from l0ref.bench.training import Training
from l0ref.bench.work import Contender
from l0ref.nn import Conv2d


def trainers(task: Training, plan: Plan, *, thorough: bool = True) -> list[Contender]:
    """Return the plan's peers for a training task; without `thorough` only PyTorch with the penalty, and the limit."""
    found: list[Contender] = []
    convolutions = any(isinstance(layer, Conv2d) for layer in task.model.architecture)
    if "torch" in plan.peers or "compile" in plan.peers:
        from l0ref.bench.peers.torch_trainer import torch_trainers

        found += torch_trainers(task, plan, convolutions=convolutions, thorough=thorough)
    if "autograd" in plan.peers and thorough and not convolutions:
        from l0ref.bench.peers.autograd_trainer import autograd_trainer

        found.append(autograd_trainer(task))
    if "mygrad" in plan.peers and thorough:
        from l0ref.bench.peers.mygrad_trainer import mygrad_trainer

        found.append(mygrad_trainer(task))
    if "limits" in plan.peers:
        products = Products(task.model, task.batch_size, seed=task.seed)
        found.append(Contender("matrix products alone, NumPy", products.run))
    return found
