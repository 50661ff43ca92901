"""Everybody who takes the step of a masked layer by dense products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from l0ref.bench.peers.torch_setup import torch_with
from l0ref.bench.plan import Plan
from l0ref.bench.work import DENSE, Contender

if TYPE_CHECKING:
    from l0ref.bench.suites.sparse_step import LayerStep, Results


def sparse_steppers(s: LayerStep, plan: Plan) -> list[Contender]:
    """Return NumPy, whose products are all that is timed, and the plan's peers."""
    found = [Contender(f"{DENSE}, NumPy", lambda n: _numpy(s, n), answer=lambda done: s.answer(*done))]
    if "torch" in plan.peers:
        found.append(_torch(s, plan))
    return found


def _numpy(s: LayerStep, times: int) -> Results:
    for _ in range(times):
        y, x_bar, w_bar = s.x @ s.w.T, s.y_bar @ s.w, s.y_bar.T @ s.x
        w_bar *= s.mask
    return y, x_bar, w_bar


def _torch(s: LayerStep, plan: Plan) -> Contender:
    torch = torch_with(plan.threads)
    x, w, mask, y_bar = (torch.from_numpy(np.ascontiguousarray(a)) for a in (s.x, s.w, s.mask, s.y_bar))
    for t in (x, w):
        t.requires_grad_()

    def run(times: int) -> Any:
        for _ in range(times):
            y = torch.nn.functional.linear(x, w)
            x_bar, w_bar = torch.autograd.grad(y, [x, w], y_bar)
            w_bar *= mask
        return y.detach(), x_bar, w_bar

    return Contender(f"{DENSE}, torch", run, answer=lambda done: s.answer(*(t.numpy() for t in done)))
