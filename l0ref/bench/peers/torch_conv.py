"""PyTorch convolves: images in its usual layout, and in channels_last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from l0ref.bench.peers.torch_setup import torch_with
from l0ref.bench.plan import Plan
from l0ref.bench.work import Contender

if TYPE_CHECKING:
    from l0ref.bench.suites.conv import Convolution


def torch_convolvers(c: Convolution, plan: Plan, *, backward: bool) -> list[Contender]:
    """Return both layouts; all arrays are in the layout beforehand."""
    torch = torch_with(plan.threads)
    layouts = {"torch": torch.contiguous_format, "torch, channels_last": torch.channels_last}
    return [_contender(name, torch, c, layout, backward=backward) for name, layout in layouts.items()]


def _contender(name: str, torch: Any, c: Convolution, layout: Any, *, backward: bool) -> Contender:
    x, k, y_bar = (torch.from_numpy(a).contiguous(memory_format=layout) for a in (c.x, c.k, c.y_bar))
    b = torch.from_numpy(c.b)
    wanted = [k, b] if c.first else [x, k, b]
    for t in wanted if backward else []:
        t.requires_grad_()

    def run(n: int) -> tuple[Any, Any]:
        for _ in range(n):
            y = torch.nn.functional.conv2d(x, k, b, padding=c.padding)
            bars = torch.autograd.grad(y, wanted, y_bar) if backward else []
        return y, bars

    def answer(done: tuple[Any, Any]) -> Any:
        y, bars = done
        answers = c.answer(y.detach().numpy(), [bar.numpy() for bar in bars])
        return answers

    return Contender(name, run, answer=answer)
