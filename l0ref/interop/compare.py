"""`compare`: a Model and a PyTorch module compared in float64, through loss, penalty, gradients and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from l0ref import nn, optim
from l0ref.errors import ArgumentError, ShapeError
from l0ref.interop.extras import need_torch
from l0ref.interop.penalty_side import PenaltySide
from l0ref.interop.result import Comparison, Row, compared, scalar
from l0ref.interop.torch_side import TorchSide, torch_optimizer_like
from l0ref.masks import masked
from l0ref.nn import Model
from l0ref.nn.loss import loss_and_gradient
from l0ref.nn.sequence import leaves, mapped
from l0ref.optim import Optimizer, Proximal
from l0ref.penalty import Penalty
from l0ref.validate import Array, as_array, count, float_array, labels, nonnegative, positive

NOISE = 1e-12  # share of the largest entry of a gradient below which an entry counts as rounding error


def compare(
    model: Model,
    module: Any,
    x: Any,
    y: Any,
    *,
    penalty: Penalty | None = None,
    penalty_fn: Callable[[Any], Any] | None = None,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    optimizer: str | Optimizer = "sgd",
    torch_optimizer: Callable[[Any], Any] | None = None,
    lr: float | None = None,
    steps: int = 3,
    training: bool = True,
    strength: float = 1.0,
    rtol: float = 1e-9,
) -> Comparison:
    """Compare `model` and `module`, both in float64, stage by stage and tensor by tensor; report the first difference.

    x, y             inputs (N, *input_shape) and class labels (N,)
    penalty          l0ref's penalty, added to the mean cross-entropy; none by default
    penalty_fn       your penalty: penalty_fn(module) -> a tensor with one number, computed from the parameters of
                     that module. None: l0ref's penalty is used on both sides and is not tested
    loss_fn          your loss without penalty: loss_fn(logits, y). None: torch.nn.functional.cross_entropy
    optimizer        "sgd", "adam", "adamw", or a gradient-based optimiser of l0ref.optim
    torch_optimizer  your optimiser: torch_optimizer(parameters). None: that of torch.optim with the same settings
    lr, steps        learning rate (None: the optimiser's own), and the number of steps
    training         batch statistics in loss, gradients and steps; logits are compared in evaluation mode too
    strength         factor of l0ref's l0 term, as in a warm-up
    rtol             largest difference allowed, relative to the largest entry of a tensor; see `Row`

    Stages: parameters, masks, statistics, forward, forward in training, loss, its gradient, penalty, its gradient, both
    again with random numbers added to all parameters (which shows whether a bias of 0 is penalised), step 1, ...
    Pruned weights count as 0 and have gradient 0. Parameters are matched by name, or by position where the names
    differ and all shapes agree. Dropout layers are skipped on both sides. A gradient entry that consists of
    rounding error, such as that of a bias before batch normalisation, counts as 0 in the steps. `module` is copied and
    never changed. If the penalties differ, the findings name the mistakes that explain the difference.
    """
    torch = need_torch()
    count("steps", steps)
    positive("rtol", rtol)
    nonnegative("strength", strength)
    if penalty is None and penalty_fn is not None:
        raise ArgumentError(f"penalty=None with penalty_fn={penalty_fn!r}: give the Penalty it should equal")
    ours = optim.by_name(optimizer, **({} if lr is None else {"lr": lr})) if isinstance(optimizer, str) else optimizer
    if isinstance(ours, Proximal) or not isinstance(ours, Optimizer):
        raise ArgumentError(f"optimizer={ours!r} does not follow the gradient alone; pass SGD, Adam or AdamW")
    rate = ours.lr if lr is None else positive("lr", lr)
    inputs = float_array("x", x).astype(np.float64)
    target = labels("y", as_array("y", y), shape=inputs.shape[:1], classes=model.classes)
    if not model.params:
        raise ArgumentError("model has no parameters to compare; give it a Linear or Conv2d layer")
    if not len(inputs):
        raise ShapeError("x is empty, so the loss is undefined; pass at least one sample")
    kept = mapped(model.architecture, lambda layer: replace(layer, p=0.0) if isinstance(layer, nn.Dropout) else layer)
    net = replace(model.astype(np.float64), architecture=kept)
    with torch.random.fork_rng(devices=[]):
        side = TorchSide.of(net, module, inputs, target, loss_fn=loss_fn, training=training)
        own = PenaltySide(penalty, penalty_fn, net, side, strength=strength, rtol=rtol)
        make = torch_optimizer or torch_optimizer_like(ours, rate)
        run = _Run(net, side, own, ours, rate, training, rtol)
        rows = [*run.start(), *run.forward(), *run.steps(steps, make, target)]
    notes = [*side.notes, *own.notes]
    if any(isinstance(layer, nn.Dropout) and layer.p for layer in leaves(model.architecture)):
        notes.append("dropout is random and was skipped on both sides")
    findings = [*own.findings, *_of_the_loss(rows, len(inputs))]
    return Comparison(tuple(rows), tuple(findings), tuple(notes), rtol)


def _of_the_loss(rows: list[Row], n: int) -> list[str]:
    """Report a loss that is the sum over the batch instead of its mean."""
    ratio = next((row.ratio for row in rows if row.stage == "loss"), None)
    summed = ratio is not None and n > 1 and abs(ratio - n) <= 1e-7 * n
    return [f"the loss is {n} times l0ref's: a sum over the batch; take the mean"] if summed else []


@dataclass(frozen=True)
class _Run:
    """The two sides of one comparison; every method returns the rows of its stages."""

    model: Model
    side: TorchSide
    penalty: PenaltySide
    optimizer: Optimizer
    lr: float
    training: bool
    rtol: float

    def rows(self, stage: str, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> list[Row]:
        """Rows of one stage."""
        return compared(stage, dict(ours), dict(theirs), self.rtol)

    def start(self) -> list[Row]:
        """Parameters, masks and statistics before the first computation."""
        masks = {key: self.model.mask(key).astype(np.float64) for key in self.model.weights}
        found = self.rows("parameters", {k: self.model.params[k] for k in self.side.names}, self.side.values())
        if self.model.masks or self.side.masked:
            found += self.rows("masks", masks, self.side.masks(list(masks)))
        return found + self.rows("statistics", self.model.buffers, self.side.statistics(self.model.buffers))

    def forward(self) -> list[Row]:
        """Logits in evaluation mode."""
        ours = self.model.forward(self.side.inputs)[0].data
        return self.rows("forward", {"logits": ours}, {"logits": self.side.logits(training=False)})

    def steps(self, steps: int, make: Callable[[Any], Any], target: Array) -> list[Row]:
        """Loss, gradient and penalty at the start, then parameters and statistics after every step."""
        found: list[Row] = []
        params, buffers = {k: self.model.params[k] for k in self.side.names}, dict(self.model.buffers)
        state, theirs, masks = self.optimizer.init(params), self.side.optimizer(make), self.model.masks
        left_out = 0
        for step in range(max(steps, 1)):
            logits, loss, grads, new = self.pass_through(params, buffers, target)
            result = self.side.backward(self.penalty.added)
            if step == 0:
                if self.training:
                    found += self.rows("forward in training", {"logits": logits}, {"logits": result.logits})
                found += self.rows("loss", {"cross-entropy": loss}, {"cross-entropy": scalar(result.loss)})
                found += self.rows("gradient of the loss", grads, result.gradients) + self.penalty.rows()
            if not steps:
                break
            pull = self.penalty.pull
            total = {**grads, **pull.added_to(grads, params)} if pull else grads
            noise = rounding(total, result.total)
            left_out = max(left_out, sum(int(n.sum()) for n in noise.values()))
            self.side.silence(noise)
            total = {k: np.where(noise[k], 0.0, g) for k, g in total.items()}
            params, state = self.optimizer.step(params, total, state, lr=self.lr, masks=masks)
            buffers = new
            theirs.step()
            found += self.rows(f"step {step + 1}", params, self.side.values())
            found += self.rows(f"step {step + 1}, statistics", buffers, self.side.statistics(buffers))
        if left_out:
            self.side.notes.append(f"{left_out} entries of the gradient were rounding errors; the steps used 0 instead")
        return found

    def pass_through(
        self, params: dict[str, Array], buffers: dict[str, Array], target: Array
    ) -> tuple[Array, Array, dict[str, Array], dict[str, Array]]:
        """Our logits, loss, gradient of the loss under masks, and new statistics."""
        rng = np.random.default_rng(0)  # a Dropout layer needs one even with p = 0
        logits, loss, grads, new = loss_and_gradient(
            self.model.architecture, params, buffers, self.side.inputs, target, training=self.training, rng=rng
        )
        return logits, loss, grads | {k: masked(grads[k], m) for k, m in self.model.masks.items()}, new


def rounding(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> dict[str, Array]:
    """Return masks of gradient entries that are rounding errors on both sides; Adam would make full steps of them.

    The gradient of a bias before batch normalisation is one: it is 0 in exact arithmetic. Entries that are exactly 0 on
    both sides are not included.
    """
    top = NOISE * max((float(np.abs(g).max(initial=0.0)) for g in ours.values()), default=0.0)
    worst = {k: np.maximum(np.abs(g), np.abs(theirs[k])) for k, g in ours.items()}
    return {k: (w > 0) & (w <= top) for k, w in worst.items()}
