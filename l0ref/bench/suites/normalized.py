"""`train-norm`: networks with batch normalisation and shortcuts, a training step and the logits of 512 images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from l0ref.autodiff.op import backend
from l0ref.bench.peers import torch_with
from l0ref.bench.suites.training import ours, work_of
from l0ref.bench.training import Training
from l0ref.bench.training_torch import torch_trainers
from l0ref.bench.work import OURS, Contender, Plan, Suite, Work, named, repeated
from l0ref.interop.torch import to_torch
from l0ref.nn import Model, resnet_small, vgg_small
from l0ref.validate import Array

# Normalisation makes some slopes so small that rounding decides their sign, which Adam's first steps follow: the wrong
# sign of one entry in 32 is a difference of 0.35. An unrelated direction is sqrt(2), no step at all is 1.
SIGNS = 0.5
NETWORKS: dict[str, Callable[..., Model]] = {"vgg_small": vgg_small, "resnet_small": resnet_small}


def works(plan: Plan) -> Iterator[Work]:
    """vgg_small and resnet_small on images 3x32x32: a step at batch 128, Laplace penalty + l2, Adam; 512 logits.

    Steps are timed as in `train-cnn`. Logits are those of one call in evaluation mode, of networks with random
    running statistics. `channels_last` is set in PyTorch in advance, for network and images.
    """
    (batch, steps, images), side = ((16, 2, 16), 8) if plan.quick else ((128, 256, 512), 32)
    for name, make in NETWORKS.items():
        model = make(seed=plan.seed, input_shape=(3, side, side))
        task = Training(model, batch, min(steps * batch, 8192), seed=plan.seed)
        peers = torch_trainers(task, plan, convolutions=True, thorough=True)
        work = work_of(f"{name} step, batch {batch}", task, [ours(task), *peers], checked=2, units=steps, turn=2.0)
        yield replace(work, tolerance=SIGNS)
        yield scoring(f"{name} logits, {images} images", moved(model, seed=plan.seed), plan, images=images)


def moved(model: Model, *, seed: int) -> Model:
    """Return the model with random statistics and parameters of batch normalisation."""
    rng = np.random.default_rng(seed)
    buffers = {key: rng.uniform(0.5, 1.5, v.shape).astype(v.dtype) for key, v in model.buffers.items()}
    norms = {key.removesuffix("running_mean") for key in buffers if key.endswith("running_mean")}
    own = {key: v for key, v in model.params.items() if key.rpartition(".")[0] + "." in norms}
    params = {key: rng.uniform(0.5, 1.5, v.shape).astype(v.dtype) for key, v in own.items()}
    return model.replace(params={**model.params, **params}, buffers=buffers)


def scoring(name: str, model: Model, plan: Plan, *, images: int) -> Work:
    """Return the work of computing the logits of random images."""
    x = np.random.default_rng(plan.seed).random((images, *model.input_shape), dtype=np.float32)
    contenders = [Contender(OURS, repeated(partial(model.logits, x)), answer=named("logits"))]
    if "torch" in plan.peers:
        contenders += [TorchScores(model, x, plan, channels_last=last).contender() for last in (False, True)]
    return Work(name, contenders, {"": partial(truth, model, x)}, tolerance=1e-4, turn=0.5)


def truth(model: Model, x: Array) -> dict[str, Array]:
    """The expected answer, in float64 on plain NumPy."""
    with backend("numpy"):
        return {"logits": model.astype(np.float64).logits(x.astype(np.float64), batch_size=64)}


@dataclass
class TorchScores:
    """The network in PyTorch's evaluation mode."""

    model: Model
    x: Array
    plan: Plan
    channels_last: bool

    def contender(self) -> Contender:
        """The network as a contender, all at once and without gradients."""
        torch = torch_with(self.plan.threads)
        net, images = to_torch(self.model).eval(), torch.from_numpy(self.x)
        if self.channels_last:
            net, images = (a.to(memory_format=torch.channels_last) for a in (net, images))

        def run() -> Any:
            with torch.inference_mode():
                return net(images).numpy()

        return Contender(f"torch{', channels_last' * self.channels_last}", repeated(run), answer=named("logits"))


SUITES = (
    Suite("train-norm", "vgg_small and resnet_small (batch norm, shortcuts): a step at batch 128, 512 logits", works),
)
