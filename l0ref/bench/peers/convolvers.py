"""Everybody who convolves: the peers of the suite `conv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from l0ref.bench.plan import Plan
from l0ref.bench.work import Contender

if TYPE_CHECKING:
    from l0ref.bench.suites.conv import Convolution


def convolvers(c: Convolution, plan: Plan, *, backward: bool) -> list[Contender]:
    """Return the plan's peers for one convolution."""
    found: list[Contender] = []
    if "torch" in plan.peers:
        from l0ref.bench.peers.torch_conv import torch_convolvers

        found += torch_convolvers(c, plan, backward=backward)
    if "mygrad" in plan.peers:
        from l0ref.bench.peers.mygrad_conv import mygrad_convolver

        found.append(mygrad_convolver(c, backward=backward))
    return found
