"""Hard concrete gates: the expected number of open gates is a smooth function that training can lower.

    u ~ uniform (0, 1)                                  one for each gate and step
    s = sigmoid((log u - log(1 - u) + log_alpha) / beta)
    z = min(1, max(0, s (zeta - gamma) + gamma))        the gate; a layer computes with w z, a gated unit with b z, too
    P(z != 0) = sigmoid(log_alpha - beta log(-gamma / zeta))
    penalty   lam sum over gates of (weights left that the gate multiplies) P(z != 0)
    in use    z = min(1, max(0, sigmoid(log_alpha) (zeta - gamma) + gamma))

gamma < 0 < 1 < zeta stretch s beyond [0, 1], so that z is 0 or 1 with positive probability.

Ref      Louizos, Welling, Kingma, ICLR 2018 (arXiv 1712.01312) and the authors' code: beta = 2/3, gamma = -0.1,
         zeta = 1.1, initial drop rate 0.5 with noise of 0.01. The text was not read again for this file [I].
Departs  Gates of units multiply outputs before activation and normalisation, the authors' the inputs of linear layers
         and the feature maps of convolutions. So a closed unit outputs what the layers behind it make of 0: after batch
         normalisation a constant, which goes with the unit and is not folded; and in training the statistics of a
         batch undo a gate between 0 and 1. log_alpha is not clipped. The penalty is not divided by the number of
         samples; lam is per weight. At the end gates are ranked by log_alpha and masks remove an exact amount, so that
         runs are comparable; `open` counts the weights whose gate is not 0 before that. What stays becomes w z (and
         b z), exactly 0 where gates are closed beyond the amount.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.data import Splits
from l0ref.methods.registry import NO_FEED, Feed, Pruned, method
from l0ref.methods.reparameterised import Priced, Reparameterised, unwrapped, wrapped
from l0ref.nn import Conv2d, Linear, Model
from l0ref.nn.sequence import leaves
from l0ref.optim import Adam
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.prune import prune_by
from l0ref.pruning.units import free_axes, places, prune_units
from l0ref.streams import stream
from l0ref.training import fit
from l0ref.validate import Array, between, count, nonnegative

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
SHIFT = BETA * math.log(-GAMMA / ZETA)
Arrays = Mapping[str, Array]
NOISE = 0.01  # standard deviation of log_alpha before training
EDGE = 1e-6  # uniform numbers stay this far inside (0, 1)


def gate(log_alpha: Tensor, u: Array | None) -> Tensor:
    """Return z for uniform numbers u; for None the z in use, without noise."""
    noise = 0.0 if u is None else (np.log(u) - np.log1p(-u)).astype(log_alpha.dtype)
    s = ops.sigmoid((log_alpha + noise) / BETA if u is not None else log_alpha)
    return ops.clip(s * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)


def open_probability(log_alpha: Tensor) -> Tensor:
    """Return P(z != 0)."""
    return ops.sigmoid(log_alpha - SHIFT)


@dataclass(frozen=True)
class Gated(Reparameterised):
    """A layer that computes with w z; `<name>.log_alpha` has one entry for each weight, or for each output."""

    by_unit: bool = False
    drop_rate: float = 0.5

    def extra(self, *, dtype: Any) -> dict[str, Array]:
        """Return log_alpha = log((1 - d) / d), d the drop rate."""
        weight = self.inner.parameters(rng=stream(0, "init"), dtype=dtype)[self.key]
        shape = (weight.shape[0], *[1] * (weight.ndim - 1)) if self.by_unit else weight.shape
        return {
            f"{self.name}.log_alpha": np.full(shape, math.log(1 - self.drop_rate) - math.log(self.drop_rate), dtype)
        }

    def effective(self, params: Mapping[str, Tensor], *, rng: np.random.Generator | None) -> dict[str, Tensor]:
        """Return w z, and with gates of units b z, with fresh noise while training."""
        log_alpha, bias = params[f"{self.name}.log_alpha"], f"{self.name}.bias"
        u = None if rng is None else np.clip(rng.random(log_alpha.shape), EDGE, 1 - EDGE)
        z = gate(log_alpha, u)
        found = {self.key: params[self.key] * z}
        return found | {bias: params[bias] * ops.reshape(z, (-1,))} if self.by_unit and bias in params else found


def expected_l0(tensors: Mapping[str, Tensor], *, lam: float, behind: Arrays) -> Tensor:
    """Return lam sum over gates of n P(z != 0), n = `behind`: how many weights that are left each gate multiplies."""
    total = Tensor(np.zeros((), next(iter(tensors.values())).dtype))
    for key, log_alpha in tensors.items():
        total = total + ops.sum(open_probability(log_alpha) * behind[key]) * lam
    return total


def gated(
    model: Model, data: Splits, *, seed: int, by_unit: bool, epochs: int, lr: float, lam: float, drop_rate: float,
    feed: Feed,
) -> tuple[Model, dict[str, Array], dict[str, Any]]:  # fmt: skip
    """Train with gates; return the network as they leave it, log_alpha by weight array, and the record."""
    between("drop_rate", drop_rate, 0.01, 0.99)
    soft = wrapped(model, partial(_made, by_unit=by_unit, drop_rate=drop_rate))
    keys, rng = {key: key.removesuffix("weight") + "log_alpha" for key in model.weights}, stream(seed, "prune")
    first = {k: soft.params[k] + NOISE * rng.standard_normal(soft.params[k].shape) for k in keys.values()}
    soft = soft.replace(params={**soft.params, **{k: v.astype(model.dtype) for k, v in first.items()}})
    left = {k: model.mask(key).astype(model.dtype) for key, k in keys.items()}
    behind = {k: m.sum(axis=tuple(range(1, m.ndim)), keepdims=True) if by_unit else m for k, m in left.items()}
    value = partial(expected_l0, lam=nonnegative("lam", lam), behind=behind)
    penalty = Priced(value_of=value, keys=tuple(behind))
    trained, _ = fit(
        soft, data.train, epochs=count("epochs", epochs), seed=seed, optimizer=Adam(lr=lr), penalty=penalty,
        progress="none", phase="prune", **feed,
    )  # fmt: skip
    tensors = {key: Tensor(p) for key, p in trained.params.items()}
    gates = [layer for layer in leaves(trained.architecture) if isinstance(layer, Gated)]
    used = {key: v.data for layer in gates for key, v in layer.effective(tensors, rng=None).items()}
    still = sum(int(behind[k][gate(tensors[k], None).data != 0].sum()) for k in behind)
    expected = sum(float((behind[k] * open_probability(tensors[k]).data).sum(dtype=np.float64)) for k in behind)
    logs = {key: trained.params[k] for key, k in keys.items()}
    return unwrapped(model, trained, used), logs, {"open": still, "expected": expected, "log_alpha": logs}


def _made(layer: Linear | Conv2d, **settings: Any) -> Gated:
    return Gated(layer.name, layer, **settings)


RECORDS = ("open", "expected", "log_alpha")


@method(
    "hard_concrete", paper="Louizos et al. 2018", kind="training", reads=("weights", "gradients", "training"),
    records=RECORDS, marks="[I]", random=True,
)  # fmt: skip
def hard_concrete(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    epochs: int = 10, lr: float = 1e-3, lam: float = 1e-5, drop_rate: float = 0.5, feed: Feed = NO_FEED,
) -> Pruned:  # fmt: skip
    """Train with a gate on every weight, then remove the weights with the smallest log_alpha.

    epochs, lr  of Adam
    lam         penalty per weight of an open gate, in units of the loss; drop_rate: d of the first log((1 - d) / d)
    record      open: weights left whose gate is not 0 in use; expected: the expected number of them; log_alpha
    """
    found, logs, record = gated(
        model, data, seed=seed, by_unit=False, epochs=epochs, lr=lr, lam=lam, drop_rate=drop_rate, feed=feed
    )
    return Pruned(prune_by(found, logs, amount=amount, scope=scope, min_keep=min_keep), record, epochs=epochs)


@method(
    "hard_concrete_units", paper="Louizos et al. 2018", kind="training", reads=("weights", "gradients", "training"),
    grain="unit", records=RECORDS, marks="[I]", random=True,
)  # fmt: skip
def hard_concrete_units(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    epochs: int = 10, lr: float = 1e-3, lam: float = 1e-5, drop_rate: float = 0.5, feed: Feed = NO_FEED,
) -> Pruned:  # fmt: skip
    """Train with a gate on every unit, then remove whole units, those with the smallest log_alpha.

    Options and record as in `hard_concrete`; layers that write one axis are ranked by the mean of their log_alpha.
    """
    found, logs, record = gated(
        model, data, seed=seed, by_unit=True, epochs=epochs, lr=lr, lam=lam, drop_rate=drop_rate, feed=feed
    )
    axes = coupled_axes(model)
    scores = {
        axis: np.mean([logs[f"{name}.weight"].reshape(size).astype(np.float64) for name in axes.writers(axis)], axis=0)
        for axis, size in free_axes(model).items()
    }
    order = places(scores) if scope == "layer" else scores
    return Pruned(prune_units(found, order, amount=amount, scope=scope, min_keep=min_keep), record, epochs=epochs)
