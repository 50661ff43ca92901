"""Stochastic gradient descent, with momentum or Nesterov's look-ahead."""

from __future__ import annotations

from dataclasses import dataclass

from l0ref.autodiff.op import compiled
from l0ref.errors import ArgumentError
from l0ref.optim.base import Elementwise, flushed, flushed_weights, memory_fraction, plain
from l0ref.validate import Array, flag, positive


def sgd_step(w: Array, g: Array, *, lr: float) -> Array:
    """w <- w - lr g, then `flushed_weights`."""
    return flushed_weights(w - lr * g)


def momentum_step(
    w: Array, g: Array, v: Array, *, lr: float, momentum: float, nesterov: bool = False
) -> tuple[Array, Array]:
    """v <- momentum v + g,   w <- w - lr d   with d = v, or d = g + momentum v under Nesterov.

    Finally `flushed_weights` is applied to w and `flushed` to v.

    PyTorch's convention: v holds gradients, not displacements, so a new learning rate acts at once,
    and a constant gradient g moves w by lr g / (1 - momentum) per step in the long run.
    """
    v = momentum * v + g
    d = g + momentum * v if nesterov else v
    return flushed_weights(w - lr * d), flushed(v)


@dataclass(frozen=True)
class SGD(Elementwise):
    """Gradient descent on batches.

    lr        learning rate, > 0
    momentum  share of the velocity that is kept, in [0, 1); 0: plain gradient descent without a slot
    nesterov  look ahead along the velocity; needs a momentum above 0

    Ref   Polyak 1964 (momentum); Nesterov 1983, in the form of Sutskever, Martens, Dahl, Hinton 2013.
          Formulas and convention are those of torch.optim.SGD with dampening 0
    """

    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        plain(self, lr=positive("lr", self.lr), momentum=memory_fraction("momentum", self.momentum))
        if flag("nesterov", self.nesterov) and not self.momentum:
            raise ArgumentError(f"nesterov=True with momentum={self.momentum!r} changes nothing; set momentum=0.9")

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("v",) if self.momentum else ()

    def update(self, w: Array, g: Array, slots: tuple[Array, ...], *, lr: float, t: int) -> tuple[Array, ...]:
        if not slots:
            return (sgd_step(w, g, lr=lr),)
        step = compiled("momentum_step") or momentum_step
        return step(w, g, *slots, lr=lr, momentum=self.momentum, nesterov=self.nesterov)

    def reach(self, lr: float) -> float:
        return lr / (1 - self.momentum)
