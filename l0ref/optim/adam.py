"""Adam: every entry moves by its mean gradient divided by the root of its mean squared gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l0ref.autodiff.op import compiled
from l0ref.errors import ArgumentError
from l0ref.optim.base import Elementwise, flushed, flushed_weights, memory_fraction, plain
from l0ref.validate import Array, nonnegative, positive


def adam_step(
    w: Array, g: Array, m: Array, v: Array, *, lr: float, beta1: float, beta2: float, eps: float, t: int
) -> tuple[Array, Array, Array]:
    """Return (w, m, v) after step number t = 1, 2, ...

    m <- beta1 m + (1 - beta1) g        m_hat = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) g^2      v_hat = v / (1 - beta2^t)
    w <- w - lr m_hat / (sqrt(v_hat) + eps)

    Finally `flushed_weights` is applied to w, `flushed` to m and v.

    The hyper-parameters are Python numbers, so 1 - beta2 is formed in double precision for float32
    arrays too; in float32 its relative error would be 1.3e-5 for beta2 = 0.999.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    m_hat = m / (1 - beta1**t)
    w = w - adam_metric(v, lr=lr, beta2=beta2, eps=eps, t=t) * m_hat
    return flushed_weights(w), flushed(m), flushed(v)


def adam_metric(v: Array, *, lr: float, beta2: float, eps: float, t: int) -> Array:
    """lr / (sqrt(v_hat) + eps): the step size Adam gives each entry at step t."""
    return lr / (np.sqrt(v / (1 - beta2**t)) + eps)


def adamw_step(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    t: int,
) -> tuple[Array, Array, Array]:
    """w <- (1 - lr weight_decay) w, then `adam_step` with the same gradient."""
    return adam_step(w * (1 - lr * weight_decay), g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, t=t)


@dataclass(frozen=True)
class Adam(Elementwise):
    """Adaptive moments.

    lr     learning rate, > 0: about how far an entry moves per step, whatever the scale of its gradient
    betas  (beta1, beta2), memory of the mean and of the mean square, each in [0, 1)
    eps    > 0, added to the root, not inside it

    A penalty in the gradient is rescaled like everything else: an entry without a data gradient moves
    towards 0 by about lr per step however small alpha is, and then hovers within about lr of 0.

    Ref   Kingma and Ba 2015; formulas and place of eps are those of torch.optim.Adam
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ArgumentError(f"betas={self.betas!r} must be two numbers, such as (0.9, 0.999)")
        betas = tuple(memory_fraction(f"betas[{i}]", beta) for i, beta in enumerate(self.betas))
        plain(self, lr=positive("lr", self.lr), betas=betas, eps=positive("eps", self.eps))

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def update(self, w: Array, g: Array, slots: tuple[Array, ...], *, lr: float, t: int) -> tuple[Array, ...]:
        beta1, beta2 = self.betas
        step = compiled("adam_step") or adam_step
        return step(w, g, *slots, lr=lr, beta1=beta1, beta2=beta2, eps=self.eps, t=t)

    def reach(self, lr: float) -> float:
        return lr

    def prox_step(self, slots: tuple[Array, ...], *, lr: float, t: int) -> float | Array:
        return adam_metric(slots[1], lr=lr, beta2=self.betas[1], eps=self.eps, t=t)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay beside the gradient instead of inside it.

    weight_decay  >= 0; each step first multiplies every entry by 1 - lr weight_decay

    As in PyTorch, the decay acts on all given parameters, biases and batch normalisation included. It
    is not the l2 term of `Penalty`, which is part of the gradient and acts on weights only.

    Ref   Loshchilov and Hutter 2019; formulas are those of torch.optim.AdamW
    """

    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self, weight_decay=nonnegative("weight_decay", self.weight_decay))

    def update(self, w: Array, g: Array, slots: tuple[Array, ...], *, lr: float, t: int) -> tuple[Array, ...]:
        beta1, beta2 = self.betas
        decay = self.weight_decay
        step = compiled("adamw_step") or adamw_step
        return step(w, g, *slots, lr=lr, beta1=beta1, beta2=beta2, eps=self.eps, weight_decay=decay, t=t)
