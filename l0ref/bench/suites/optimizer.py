"""`optimizer`: one step of an optimiser on the parameters of LeNet-300-100."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from l0ref.autodiff.op import backend
from l0ref.bench.peers import restart, torch_with
from l0ref.bench.traffic import moments
from l0ref.bench.training import LAPLACE, PENALTY
from l0ref.bench.work import OURS, Answers, Contender, Plan, Suite, Work, repeated
from l0ref.errors import ArgumentError
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
    """Parameters, their gradients (the same in every step), the optimiser and the penalty."""

    model: Model
    grads: Mapping[str, Array]
    optimizer: Optimizer
    penalty: Penalty

    def run(self, steps: int) -> Mapping[str, Array]:
        """The timed call: `optimizer.step` with the penalty's pull, each step from the result of the last one."""
        pull = self.penalty.pull(self.penalty.factors(self.model))
        params, state = self.model.params, self.optimizer.init(self.model.params)
        for _ in range(steps):
            params, state = self.optimizer.step(params, self.grads, state, pull=pull)
        return params

    def moved(self, params: Mapping[str, Array]) -> Answers:
        """The change of every array."""
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

    The gradients are the same in every step, and small enough for the comparison to resolve both terms of the penalty.
    A timed run takes as many steps as fit in 50 ms.
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


def steppers(step: Step, plan: Plan) -> list[Contender]:
    """Return the plan's peers for one optimiser."""
    found: list[Contender] = []
    if "torch" in plan.peers:
        found += torch_steppers(step, plan)
    if "limits" in plan.peers:
        found.append(_traffic(step.model.n_parameters))
    return found


def _traffic(size: int) -> Contender:
    """The memory traffic of Adam: weights, gradients and two moments in, weights and moments out."""
    arrays = [np.zeros(size, np.float32) for _ in range(7)]
    return Contender("memory traffic of Adam alone, Numba", repeated(partial(moments, *arrays)))


def torch_steppers(step: Step, plan: Plan) -> list[Contender]:
    """Return PyTorch's versions of the same step; none for the prox of Laplace, which PyTorch does not have."""
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
        """Restore the initial weights and an empty optimiser state."""
        restart(self.torch, self.optimizer, self.params, self.start)

    def run(self, steps: int) -> None:
        """The timed call."""
        for _ in range(steps):
            self.prepare()
            self.optimizer.step()
            if isinstance(self.step.optimizer, Proximal):
                self._soft_threshold()

    def answer(self, _: None) -> Answers:
        """The change of every parameter."""
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
        """price beta exp(-beta |w|) sign(w) + 2 l2 w, written by hand, without the tape."""
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
    raise ArgumentError(f"optimizer={ours!r} is not translated to PyTorch; add it to l0ref.bench.suites.optimizer")


SUITES = (Suite("optimizer", "one step of Adam, SGD, AdamW and proximal steps on the weights of LeNet-300-100", works),)
