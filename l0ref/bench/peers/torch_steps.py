"""PyTorch takes an optimiser's step: eager and fused, the penalty by autograd, by its formula, or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from l0ref.bench.peers.torch_setup import restart, torch_with
from l0ref.bench.plan import Plan
from l0ref.bench.training import LAPLACE
from l0ref.bench.work import Answers, Contender
from l0ref.errors import ArgumentError
from l0ref.optim import SGD, Adam, AdamW, Optimizer, Proximal
from l0ref.surrogates import L1

if TYPE_CHECKING:
    from l0ref.bench.suites.optimizer import Step


def torch_steppers(step: Step, plan: Plan) -> list[Contender]:
    """Return PyTorch's ways of taking the same step; none for the prox of Laplace, which it does not have."""
    proximal = isinstance(step.optimizer, Proximal)
    if proximal and not isinstance(step.penalty.surrogate, L1):
        return []
    pull = "squares" if proximal else "autograd" if step.penalty.alpha else "none"
    ways = [("torch", False, pull), ("torch fused", True, pull)]
    if pull == "autograd":
        ways.append(("torch fused, penalty by its formula", True, "formula"))
    return [TorchStepper(step, plan, fused=fused, pull=pull).contender(name) for name, fused, pull in ways]


class TorchStepper:
    """Parameters, an optimiser of PyTorch, and a way to add the penalty's gradient.

    pull   "autograd", "formula", "squares" (the l2 term alone, for a proximal step) or "none"
    """

    def __init__(self, step: Step, plan: Plan, *, fused: bool, pull: str) -> None:
        torch = self.torch = torch_with(plan.threads)
        self.step = step
        self.start = {key: torch.from_numpy(w) for key, w in step.model.params.items()}
        self.params = {key: w.clone().requires_grad_() for key, w in self.start.items()}
        self.grads = {key: torch.from_numpy(g) for key, g in step.grads.items()}
        self.prices = {k: c * step.penalty.alpha for k, c in step.penalty.factors(step.model).items()}
        inner = step.optimizer.optimizer if isinstance(step.optimizer, Proximal) else step.optimizer
        self.optimizer = _optimizer(torch, inner, self.params.values(), fused=fused)
        pulls: dict[str, Callable[[], None]] = {
            "none": self._without,
            "autograd": self._by_autograd,
            "formula": self._by_formula,
            "squares": self._squares,
        }
        self.prepare = pulls[pull]

    def contender(self, name: str) -> Contender:
        """The stepper as a contender."""
        return Contender(name, self.run, reset=self.reset, answer=self.answer)

    def reset(self) -> None:
        """Bring back the first weights and an optimiser without memory."""
        restart(self.torch, self.optimizer, self.params, self.start)

    def run(self, steps: int) -> None:
        """What is timed."""
        for _ in range(steps):
            self.prepare()
            self.optimizer.step()
            if isinstance(self.step.optimizer, Proximal):
                self._soft_threshold()

    def answer(self, _: None) -> Answers:
        """How far the parameters have moved."""
        return self.step.moved({k: p.detach().numpy() for k, p in self.params.items()})

    def _without(self) -> None:
        for key, p in self.params.items():
            p.grad = self.grads[key]

    def _by_autograd(self) -> None:
        """The gradient of the penalty by reverse differentiation, added to that of the data loss."""
        beta, l2, total = LAPLACE.beta, self.step.penalty.l2, 0.0
        for key, price in self.prices.items():
            w = self.params[key]
            total = total + price * (1 - self.torch.exp(-beta * w.abs())).sum() + l2 * w.square().sum()
        weights = [self.params[key] for key in self.prices]
        pulls = dict(zip(self.prices, self.torch.autograd.grad(total, weights), strict=True))
        for key, p in self.params.items():
            p.grad = self.grads[key] + pulls[key] if key in pulls else self.grads[key]

    def _by_formula(self) -> None:
        """price beta exp(-beta |w|) sign(w) + 2 l2 w, written down by hand and without the tape."""
        beta, l2 = LAPLACE.beta, self.step.penalty.l2
        with self.torch.no_grad():
            for key, p in self.params.items():
                p.grad = self.grads[key]
                if key in self.prices:
                    slope = p.abs().mul_(-beta).exp_().mul_(p.sign()).mul_(self.prices[key] * beta)
                    p.grad = slope.add_(p, alpha=2 * l2).add_(self.grads[key])

    def _squares(self) -> None:
        """The gradient of the l2 term alone, for a proximal step."""
        with self.torch.no_grad():
            for key, p in self.params.items():
                g = self.grads[key]
                p.grad = g.add(p, alpha=2 * self.step.penalty.l2) if key in self.prices else g

    def _soft_threshold(self) -> None:
        reach = self.step.optimizer.optimizer.reach(self.step.optimizer.lr)  # type: ignore[attr-defined]
        with self.torch.no_grad():
            for key, price in self.prices.items():
                self.params[key].copy_(self.torch.nn.functional.softshrink(self.params[key], reach * price))


def _optimizer(torch: Any, ours: Optimizer, params: Any, *, fused: bool) -> Any:
    """PyTorch's optimiser with our settings."""
    match ours:
        case AdamW(lr=lr, betas=betas, eps=eps, weight_decay=decay):
            return torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=decay, fused=fused)
        case Adam(lr=lr, betas=betas, eps=eps):
            return torch.optim.Adam(params, lr=lr, betas=betas, eps=eps, fused=fused)
        case SGD(lr=lr, momentum=momentum):
            return torch.optim.SGD(params, lr=lr, momentum=momentum, fused=fused)
    raise ArgumentError(f"optimizer={ours!r} is not translated to PyTorch; add it to l0ref.bench.peers.torch_steps")
