"""PyTorch evaluates a pruned network, zeros and all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from l0ref.bench.peers.torch_setup import torch_with
from l0ref.bench.plan import Plan
from l0ref.bench.work import DENSE, Contender
from l0ref.interop.torch import to_torch

if TYPE_CHECKING:
    from l0ref.bench.suites.sparse_net import Twins


def evaluators(twins: Twins, plan: Plan) -> list[Contender]:
    """Return the plan's peers for the outputs of a network."""
    if "torch" not in plan.peers:
        return []
    torch = torch_with(plan.threads)
    plain = twins.masked.replace(masks={})  # the zeros stay; PyTorch would apply masks anew in each call
    net, x = to_torch(plain).eval(), torch.from_numpy(twins.x)

    def run(times: int) -> Any:
        with torch.inference_mode():
            for _ in range(times):
                found = net(x)
        return found

    return [Contender(f"{DENSE}, torch", run, answer=lambda logits: {"logits": logits.numpy()})]
