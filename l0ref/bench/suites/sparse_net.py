"""`sparse-net`: whole networks at 95 % zeros, compact and masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from l0ref.autodiff.op import backend
from l0ref.bench.peers import torch_with
from l0ref.bench.suites.training import train, work_of
from l0ref.bench.training import PENALISED, Training
from l0ref.bench.work import DENSE, OURS, Answers, Contender, Plan, Suite, Work, named
from l0ref.deploy.compact import compact
from l0ref.deploy.costs import known_costs
from l0ref.deploy.single import Single
from l0ref.interop.torch import to_torch
from l0ref.nn import Model, lenet_5, lenet_300_100, mlp
from l0ref.pruning.prune import prune
from l0ref.training import History
from l0ref.validate import Array

ZEROS = 0.95  # of each layer
BATCHES = (1, 16, 128, 1024)
BATCH = 128


@dataclass(frozen=True)
class Twins:
    """A masked network, its compact form, and images x (N, ...) to evaluate."""

    masked: Model
    small: Model
    x: Array

    def truth(self) -> Answers:
        """The outputs of the masked network in float64 on plain NumPy."""
        with backend("numpy"):
            return {"logits": self.masked.astype(np.float64).logits(self.x.astype(np.float64))}

    def ours(self) -> list[Contender]:
        """Our contenders: the outputs of the compact and the masked network; for one image also of `Single`."""
        models = {OURS: self.small, f"{DENSE}, l0ref": self.masked}
        runs: dict[str, Any] = {name: partial(_evaluate, m, self.x) for name, m in models.items()}
        if len(self.x) == 1:
            runs = {OURS: partial(_evaluate_one, Single(self.small), self.x), "l0ref, logits": runs.pop(OURS), **runs}
        return [Contender(name, run, answer=named("logits")) for name, run in runs.items()]


def make(model: Model, n: int, *, seed: int) -> Twins:
    """Return the twins of a network whose smallest weights, 95 % of each layer, are pruned."""
    masked = prune(model, amount=ZEROS, scope="layer")
    x = np.random.default_rng(seed).random((n, *model.input_shape), dtype=np.float32)
    return Twins(masked, compact(masked, costs=known_costs(), batch_size=n).model, x)


def work(name: str, model: Model, n: int, plan: Plan) -> Work:
    """Return the evaluation of n images; its name makes the figure draw all batches as one curve."""
    twins = make(model, n, seed=plan.seed)
    return Work(
        f"{name}, {100 * ZEROS:g} % zeros, {_chosen()}, batch = {n}",
        [*twins.ours(), *evaluators(twins, plan)],
        {"": twins.truth},
        tolerance=1e-4,
        turn=0.02,
    )


def tuning(name: str, model: Model, plan: Plan) -> Work:
    """Return the fine-tuning of both twins, timed like the steps of `train-mlp`."""
    batch, steps = (8, 2) if plan.quick else (BATCH, 64)
    twins = make(model, batch, seed=plan.seed)
    task = Training(twins.masked, batch, steps * batch, seed=plan.seed)
    small = replace(task, model=twins.small)

    def answer(done: tuple[Model, History]) -> Answers:
        tuned, history = done
        return task.moved(filled(tuned, twins.masked), history.rows[-1]["loss_data"])

    where = f"{name}, {100 * ZEROS:g} % zeros, {_chosen()}, fit in batches of {batch}"
    contenders = [
        Contender(OURS, partial(train, small), answer=answer, problem=PENALISED),
        Contender(f"{DENSE}, l0ref", partial(train, task), answer=answer, problem=PENALISED),
    ]
    return work_of(where, task, contenders, checked=2, units=steps, turn=0.2)


def filled(model: Model, like: Model) -> dict[str, Array]:
    """Return the parameters of a compact model in the dense shapes of its masked twin `like`, zeros included."""
    patterns = model.patterns
    return {
        key: patterns[key].scatter(p).reshape(like.params[key].shape) if key in patterns else p
        for key, p in model.params.items()
    }


def works(plan: Plan) -> Iterator[Work]:
    """LeNet-300-100 and LeNet-5 with 95 % of each layer pruned: outputs of 1 to 1024 images, fine-tuning.

    "l0ref" is the result of `compact`: for each layer the form that the cost model of `l0ref calibrate` predicts to be
    faster at this batch size ("calibrated") or, if that command was never run, the form with fewer bytes ("by bytes").
    Images are uniform in [0, 1).
    """
    nets = {"LeNet-300-100": lenet_300_100, "LeNet-5": lenet_5}
    makers = {"tiny": lambda seed: mlp((64, 48, 10), seed=seed)} if plan.quick else nets
    for name, make_model in makers.items():
        model = make_model(seed=plan.seed)
        yield from (work(name, model, n, plan) for n in ((1, 16) if plan.quick else BATCHES))
        yield tuning(name, model, plan)


def _chosen() -> str:
    return "by bytes" if known_costs() is None else "calibrated"


def _evaluate(model: Model, x: Array, times: int) -> Array:
    for _ in range(times):
        found = model.logits(x)
    return found


def _evaluate_one(outputs: Single, x: Array, times: int) -> Array:
    for _ in range(times):
        found = outputs(x[0])
    return found[None]


def evaluators(twins: Twins, plan: Plan) -> list[Contender]:
    """Return the plan's peers for the outputs of a network."""
    if "torch" not in plan.peers:
        return []
    torch = torch_with(plan.threads)
    plain = twins.masked.replace(masks={})  # the zeros stay; PyTorch would apply the masks again in each call
    net, x = to_torch(plain).eval(), torch.from_numpy(twins.x)

    def run(times: int) -> Any:
        with torch.inference_mode():
            for _ in range(times):
                found = net(x)
        return found

    return [Contender(f"{DENSE}, torch", run, answer=named("logits"))]


SUITES = (Suite("sparse-net", "LeNet-300-100 and LeNet-5 at 95 % zeros: compact and masked, batch 1 to 1024", works),)
