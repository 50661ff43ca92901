"""Training in PyTorch: eager and fused Adam, channels_last, torch.compile; each with and without the penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l0ref.bench.peers import restart, torch_with
from l0ref.bench.training import LAPLACE, PENALISED, PENALTY, PLAIN, Training
from l0ref.bench.work import Answers, Contender, Plan
from l0ref.interop.torch import to_torch


@dataclass(frozen=True)
class Variant:
    """A way to write the same training in PyTorch."""

    name: str
    fused: bool = True
    penalised: bool = True
    channels_last: bool = False
    compiled: bool = False


def torch_trainers(task: Training, plan: Plan, *, convolutions: bool, thorough: bool) -> list[Contender]:
    """Return the variants that a plan requests."""
    variants: list[Variant] = []
    if "torch" in plan.peers:
        variants += [Variant("torch, Adam", fused=False), Variant("torch, fused Adam")]
        variants += [Variant("torch, fused Adam, channels_last", channels_last=True)] if convolutions else []
    if "compile" in plan.peers and thorough:
        variants += [Variant("torch.compile, fused Adam", compiled=True)]
    plain = [
        Variant(f"{v.name}, no penalty", v.fused, penalised=False, channels_last=v.channels_last, compiled=v.compiled)
        for v in variants
        if thorough
    ]
    return [TorchTrainer(task, variant, plan).contender() for variant in (*variants, *plain)]


class TorchTrainer:
    """A network, its optimiser and the loop over batches, as PyTorch's own examples write them."""

    def __init__(self, task: Training, variant: Variant, plan: Plan) -> None:
        torch = self.torch = torch_with(plan.threads)
        self.task, self.variant = task, variant
        self.tensors: dict[int, tuple[Any, Any]] = {}
        self.start = {key: torch.from_numpy(w) for key, w in task.model.params.items()}
        self.net = to_torch(task.model)
        if variant.channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.params = dict(self.net.named_parameters())
        self.prices = {k: c * PENALTY.alpha for k, c in PENALTY.factors(task.model).items()}
        self.losses = torch.compile(self._losses) if variant.compiled else self._losses
        self.optimizer = torch.optim.Adam(self.params.values(), lr=task.lr, fused=variant.fused)

    def contender(self) -> Contender:
        """The variant as a contender."""
        problem = PENALISED if self.variant.penalised else PLAIN
        return Contender(self.variant.name, self.run, reset=self.reset, answer=self.answer, problem=problem)

    def reset(self) -> None:
        """Restore the initial weights and an empty state of Adam."""
        restart(self.torch, self.optimizer, self.params, self.start)

    def run(self, steps: int) -> float:
        """The timed call; returns the mean data loss."""
        x_all, y_all = self._tensors(steps)
        total = 0.0
        for order in self.task.order(steps):
            rows = self.torch.from_numpy(order)
            x, y = x_all[rows], y_all[rows]
            if self.variant.channels_last:
                x = x.contiguous(memory_format=self.torch.channels_last)
            data_loss, loss = self.losses(x, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += data_loss.item() * len(rows)
        return total / len(y_all)

    def answer(self, mean_loss: float) -> Answers:
        """The change of the weights."""
        return self.task.moved({k: p.detach().numpy() for k, p in self.params.items()}, mean_loss)

    def _tensors(self, steps: int) -> tuple[Any, Any]:
        """Images and labels as tensors, made in the first, untimed run: a data set is read-only, a tensor never is."""
        if steps not in self.tensors:
            data = self.task.data(steps)
            self.tensors[steps] = self.torch.from_numpy(data.x.copy()), self.torch.from_numpy(data.y.copy())
        return self.tensors[steps]

    def _losses(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The data loss, and the loss to differentiate."""
        data_loss = self.torch.nn.functional.cross_entropy(self.net(x), y)
        return data_loss, data_loss + self._penalty() if self.variant.penalised else data_loss

    def _penalty(self) -> Any:
        total = 0.0
        for key, price in self.prices.items():
            w = self.params[key]
            total = total + price * (1 - self.torch.exp(-LAPLACE.beta * w.abs())).sum() + PENALTY.l2 * w.square().sum()
        return total
