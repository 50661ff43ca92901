"""`check_model`: the gradient of every parameter of a network, with loss, penalty and masks, against differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ArgumentError, GradientError
from l0ref.nn.loss import loss_and_gradient
from l0ref.nn.model import Model
from l0ref.optim.sgd import SGD
from l0ref.penalty import Penalty
from l0ref.testing.engine import check
from l0ref.testing.problem import Arrays, Hints, Problem, quote
from l0ref.testing.settings import Options, Settings
from l0ref.testing.verdict import GradcheckReport
from l0ref.validate import Array, float_array

Gradient = Callable[[dict[str, Array]], Mapping[str, Any]]
MOST = 20  # default of the number of entries compared per array


def check_model(
    model: Model,
    x: Any,
    y: Any,
    *,
    penalty: Penalty | None = None,
    gradient: Gradient | None = None,
    training: bool = True,
    label_smoothing: float = 0.0,
    **options: Unpack[Options],
) -> GradcheckReport:
    """Check the training gradient of a network with respect to every parameter, in float64.

        J(w) = mean cross-entropy of the batch (x, y) + penalty,   with w replaced by mask * w

    The gradient under test is the reference of training: the tape's gradient plus that of the penalty, masked, read
    from the momentum after one step of `optim.SGD`. Training itself runs compiled chains where it can, which the test
    suite compares with this gradient. Under a mask it must be exactly 0.

    model            converted to float64; its running statistics do not change
    x, y             a batch: inputs (N, ...) and class labels (N,)
    penalty          added to the loss; its layer weights are those of `model`
    gradient         your own gradient, to check instead: {name: array} -> {name: array}
    training         use batch statistics and dropout; `seed` gives the same dropout mask at every call
    label_smoothing  of the cross-entropy
    options          those of `gradcheck`. The default of `max_entries` is 20: the rest is covered by directions
                     through the whole array, and if one fails, a search finds the wrong entries

    A parameter that cannot change the loss, such as a bias before batch normalisation, must have a gradient of zero
    and is named in a note.

    >>> import numpy as np
    >>> from l0ref import nn
    >>> rng = np.random.default_rng(0)
    >>> net = nn.mlp((4, 3, 2), seed=0)
    >>> check_model(net, rng.normal(size=(5, 4)), rng.integers(2, size=5), penalty=Penalty(alpha=0.1)).passed
    True
    """
    options.setdefault("max_entries", MOST)
    settings = Settings.of(**options)
    problem = model_problem(
        model, x, y, penalty=penalty, gradient=gradient, training=training, label_smoothing=label_smoothing,
        seed=settings.seed,
    )  # fmt: skip
    return check(problem, settings)


def model_problem(
    model: Model,
    x: Any,
    y: Any,
    *,
    penalty: Penalty | None = None,
    gradient: Gradient | None = None,
    training: bool = True,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> Problem:
    """Return the problem of checking a network; see `check_model`."""
    if not isinstance(model, Model):
        raise ArgumentError(
            f"model is {type(model).__name__}, expected an l0ref Model; check others with check_gradient"
        )
    objective = Objective(
        model.astype(np.float64), float_array("x", x).astype(np.float64), y, penalty or Penalty(), training,
        label_smoothing, seed,
    )  # fmt: skip
    names = tuple(model.params)
    if not names:
        raise GradientError("model has no parameters; there is nothing to differentiate with respect to")

    def value(xs: Arrays) -> Array:
        return np.asarray(quote("the network", objective.value, dict(zip(names, xs, strict=True))))

    def slope(xs: Arrays, _: Array) -> list[Array]:
        found = quote("gradient", gradient or objective.gradient, dict(zip(names, xs, strict=True)))
        if not isinstance(found, Mapping) or (missing := [k for k in names if k not in found]):
            lacks = f"no {missing[0]!r}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
            raise GradientError(f"gradient returned {lacks}, expected a dict with an array for each parameter")
        return [np.asarray(found[k]) for k in names]

    m = objective.model
    return Problem(
        target=f"a network of {m.n_parameters:,} parameters",
        names=names,
        point=tuple(m.params[k] for k in names),
        value=value,
        gradient=slope,
        dtype=np.dtype(np.float64),
        cotangent=False,
        hints=objective.hints(),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """J as a function of the parameters, and the gradient of J that training uses."""

    model: Model
    x: Array
    y: Any
    penalty: Penalty
    training: bool
    label_smoothing: float
    seed: int

    def value(self, params: Mapping[str, Array]) -> float:
        """J at `params`, masks applied."""
        kept = self._masked(params)
        loss = self._loss({k: Tensor(w) for k, w in kept.items()})
        return float(loss) + self.penalty.terms(kept, self.penalty.factors(self.model)).total

    def gradient(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """The reference of the training gradient: the momentum after one step of SGD from zero momentum."""
        kept = self._masked(params)
        m, rng = self.model, np.random.default_rng(self.seed)
        grads = loss_and_gradient(
            m.architecture, kept, m.buffers, self.x, self.y, label_smoothing=self.label_smoothing,
            training=self.training, rng=rng,
        ).grads  # fmt: skip
        optimizer, pull = SGD(lr=1.0, momentum=0.5), self.penalty.pull(self.penalty.factors(self.model))
        _, state = optimizer.step(kept, grads, optimizer.init(kept), masks=self.model.masks, pull=pull)
        return dict(state.slots["v"])

    def hints(self) -> Hints:
        """Possible causes of a fault: masks, parameters of the surrogate, batch size, penalty terms."""
        fields = dataclasses.asdict(self.penalty.surrogate)
        factors = self.penalty.factors(self.model)
        params = self.model.params
        l0 = dataclasses.replace(self.penalty, l2=0.0).gradient(params, factors)
        l2 = dataclasses.replace(self.penalty, alpha=0.0).gradient(params, factors)
        return Hints(
            masks={k: m for k, m in self.model.masks.items() if not m.all()},
            scales={k: v for k, v in fields.items() if isinstance(v, float)},
            sizes={"batch size": len(self.x)},
            terms={"whole penalty": {k: l0[k] + l2[k] for k in l0}, "l0 penalty": l0, "l2 penalty": l2},
        )

    def _masked(self, params: Mapping[str, Array]) -> dict[str, Array]:
        return {k: w * self.model.masks[k] if k in self.model.masks else w for k, w in params.items()}

    def _loss(self, tensors: Mapping[str, Tensor]) -> Tensor:
        rng = np.random.default_rng(self.seed)
        logits, _ = self.model.forward(self.x, params=tensors, training=self.training, rng=rng)
        return ops.cross_entropy(logits, self.y, label_smoothing=self.label_smoothing)
