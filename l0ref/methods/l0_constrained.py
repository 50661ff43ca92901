"""Layer-wise pruning under an l0 constraint, in the spirit of Phan, Nguyen, Nguyen, Kalagnanam (ICDM 2020).

    min over W, b of   1/2n ||sigma(X W' + b) - Y||_F^2     subject to at most k non-zeros in W, or in each row of W

X is the input of the layer, Y its output in the trained network. The paper has two models, known
from its abstract alone [U]:

    any activation    the support from the linear problem, ||X W' + b - Z||, Z before the activation, by
                      `layerwise.solve`; then Gauss-Newton steps through sigma on that support
    ReLU              samples with y > 0 are fitted; at those with y = 0 the pre-activation must not exceed 0 ("hard")
                      or is penalised above 0 ("soft"); by branch and bound, or by cutting planes for few inputs

Objectives, constraints, cuts and budgets of the paper are unknown [U]; those here are ours [I], and so are the ridge
and the driver (cascade: inputs from the pruned network, target outputs from the trained one).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Splits
from l0ref.layerwise import Certificate, Quadratic, solve
from l0ref.layerwise.cuts import cutting_planes
from l0ref.layerwise.neuron import FORMS, Neuron
from l0ref.layerwise.operator import groups_of, layer_of
from l0ref.layerwise.relu import prove
from l0ref.methods.budgets import budget_plan
from l0ref.methods.layer_by_layer import activation_behind, exact_mask, inputs_and_answers, with_layer
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.methods.shares import Budget
from l0ref.nn import Layer, Model
from l0ref.nn.activations import ReLU
from l0ref.validate import Array, choose, count, nonnegative

GAIN = 1e-10  # of the error: a Gauss-Newton step that lowers it by less is not taken, and ends the steps
SAMPLES = 8192  # rows at a time in a Gauss-Newton step: one image of a convolution gives hundreds
STIFF = 1e6  # gamma of the ReLU forms times the mean over inputs of sum x^2: the ridge 1 / gamma is small beside that


@method(
    "l0_constrained", paper="Phan et al. 2020", kind="layerwise", reads=("weights", "activations"),
    records=("error", "activated", "gap"), marks="[I][U]", random=True,
)  # fmt: skip
def l0_constrained(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 3000, ridge: float = 1e-3, scheme: str = "cascade", newton: int = 5, form: str = "linear",
    budget: Budget = "magnitude", proof: str = "bounds", nodes: int = 500,
) -> Pruned:  # fmt: skip
    """Keep in each layer the weights that best reproduce the layer's outputs; see the text of the module.

    budget   how the weights that stay are divided among layers, with scope="global": see `methods.budgets`
    samples  of the training set, drawn with `seed`
    ridge    of the linear problem, towards the trained weights, see `Quadratic`
    scheme   "cascade", or "parallel": every layer sees the inputs of the trained network
    newton   Gauss-Newton steps at most, each taken only if it lowers the error behind the activation
    form     "linear" for every activation, or "soft" and "hard" in layers followed by a ReLU: neuron by neuron, each
             with as many weights as magnitude pruning of the layer leaves it
    proof    of "soft" and "hard": "bounds", branch and bound, or "cuts", cutting planes (<= 16 inputs)
    nodes    of branch and bound for each neuron, at most; then the best support found is taken
    record   gap: by layer with a ReLU form, the largest (upper - lower) / upper of its neurons
             error: by layer, ||X W' + b - Z|| / ||Z||; activated: ||sigma(X W' + b) - Y|| / ||Y||
    """
    choose("scheme", scheme, ("cascade", "parallel"))
    choose("form", form, FORMS)
    choose("proof", proof, ("bounds", "cuts"))
    search = cutting_planes if proof == "cuts" else partial(prove, time_limit=1e9, nodes=count("nodes", nodes))
    few = calibration(model, data, samples=samples, seed=seed)
    plan = budget_plan(model, few.x, amount=amount, scope=scope, min_keep=min_keep, budget=budget)
    found, error, activated = model, {}, {}
    gap: dict[str, float] = {}
    for key in model.weights:
        layer, now, parts, misses = layer_of(model, key), (found if scheme == "cascade" else model), [], []
        for group, rows in groups_of(layer):
            x, z = inputs_and_answers(now, model, key, few.x, group=group)
            task = _Task(model, key, rows, x, z, activation_behind(model.architecture, key))
            if form != "linear" and isinstance(task.activation, ReLU):
                w, b, apart = task.proven(plan[key][rows], form, search)
                gap[key] = max(gap.get(key, 0.0), apart)
            else:
                w = task.solved(plan[key][rows], ridge=nonnegative("ridge", ridge), seed=seed)
                w, b = task.refined(w, count("newton", newton))
            parts.append((w.reshape(len(w), -1), b))
            misses.append(task.misses(*parts[-1]))
        w, b = (np.concatenate(part) for part in zip(*parts, strict=True))
        mask = exact_mask(w, plan[key], model, key)
        missed, size, missed_behind, size_behind = np.sqrt(np.sum(misses, axis=0))
        error[key], activated[key] = float(missed / (size or 1.0)), float(missed_behind / (size_behind or 1.0))
        found = with_layer(found, key, w, b, mask)
    return Pruned(found, {"error": error, "activated": activated, "gap": gap})


@dataclasses.dataclass(frozen=True)
class _Task:
    """A layer, or one group of its rows: inputs x (N, P), target pre-activations z (N, M), the activation behind it."""

    model: Model
    key: str
    rows: slice
    x: Array
    z: Array
    activation: Layer | None

    @property
    def trained(self) -> Array:
        w = self.model.params[self.key][self.rows]
        return w.reshape(len(w), -1).astype(np.float64)

    @property
    def has_bias(self) -> bool:
        return self.key.removesuffix("weight") + "bias" in self.model.params

    def solved(self, plan: Array, *, ridge: float, seed: int) -> Array:
        """Return weights of the linear problem: for the whole layer, or row by row if some were removed before."""
        before = self.model.mask(self.key)[self.rows].reshape(len(plan), -1)
        layer = Quadratic.from_samples(self.x, self.z, ridge=ridge, weights=self.trained, centred=self.has_bias)
        if before.all():
            return solve(layer, int(plan.sum()), scope="layer", seed=seed).weights
        each = plan.reshape(len(plan), -1).sum(axis=1)
        return np.stack([solve(layer.row(i).within(before[i]), int(k), seed=seed).weights for i, k in enumerate(each)])

    def proven(self, plan: Array, form: str, search: Callable[..., Certificate]) -> tuple[Array, Array, float]:
        """Return weights and biases of all neurons, and the largest gap; the bias is an input in every support."""
        apart, w, b = 0.0, np.zeros(self.trained.shape), np.zeros(len(self.trained))
        keep, always = plan.reshape(len(plan), -1), int(self.has_bias)
        before = self.model.mask(self.key)[self.rows].reshape(keep.shape)
        for i, y in enumerate(np.maximum(self.z, 0.0).T):
            live = np.flatnonzero(before[i])
            inputs = np.concatenate([self.x[:, live], np.ones((len(self.x), always))], axis=1)
            gamma = STIFF / max(float(np.square(inputs).sum(axis=0).mean()), np.finfo(float).tiny)
            neuron, k = Neuron.of(inputs, y, gamma=gamma, form=form), int(keep[i].sum())
            found = search(neuron, k, always=always)
            weights = found.record["weights"]
            w[i, live], b[i] = weights[: len(live)], weights[-1] if always else 0.0
            apart = max(apart, (found.upper - found.lower) / found.upper if found.upper > 0 else 0.0)
        return w, b, apart

    def act(self, z: Array) -> tuple[Array, Array]:
        """Return sigma(z) and sigma'(z)."""
        if self.activation is None:
            return z, np.ones_like(z)
        t = Tensor(z)
        y, _ = self.activation.forward(t, {}, {}, training=False, rng=None)
        return y.data, grad(y, [t], y_bar=np.ones_like(z))[0]

    def misses(self, w: Array, b: Array) -> list[float]:
        """Return ||X W' + b - Z||^2, ||Z||^2, and both behind the activation."""
        z = self.x @ w.reshape(self.trained.shape).T + b
        behind, wanted = self.act(z)[0], self.act(self.z)[0]
        return [float(np.square(a).sum()) for a in (z - self.z, self.z, behind - wanted, wanted)]

    def refined(self, w: Array, steps: int) -> tuple[Array, Array]:
        """Return weights and biases after Gauss-Newton steps through sigma on the support of w."""
        w = w.reshape(self.trained.shape).astype(np.float64)
        b = (self.z - self.x @ w.T).mean(axis=0) * self.has_bias
        for i in range(len(w) if self.activation is not None else 0):
            w[i], b[i] = self._newton(i, w[i], b[i], steps)
        return w, b

    def _newton(self, i: int, w: Array, b: Any, steps: int) -> tuple[Array, float]:
        s = np.flatnonzero(w)
        v = np.append(w[s], b) if self.has_bias else w[s]
        best, curvature, slope = self._squares(i, s, v)
        for _ in range(steps if len(v) else 0):
            step = np.linalg.lstsq(curvature, slope, rcond=1e-13)[0]
            for damping in (1.0, 0.5, 0.25, 0.125):
                after = self._squares(i, s, v + damping * step)
                if after[0] < (1 - GAIN) * best:
                    break
            else:
                break
            v, (best, curvature, slope) = v + damping * step, after
        w[s] = v[: len(s)]
        return w, float(v[-1]) if self.has_bias else 0.0

    def _squares(self, i: int, s: Array, v: Array) -> tuple[float, Array, Array]:
        """Return ||r||^2, J'J and J'r of neuron i, for weights v of its support s and, last, the bias."""
        missed, curvature, slope = 0.0, np.zeros((len(v), len(v))), np.zeros(len(v))
        for start in range(0, len(self.x), SAMPLES):
            x, z = self.x[start : start + SAMPLES, s], self.z[start : start + SAMPLES, i]
            x = np.concatenate([x, np.ones((len(x), int(self.has_bias)))], axis=1)
            y, sigma = self.act(x @ v)
            r, jacobian = self.act(z)[0] - y, x * sigma[:, None]
            missed += float(r @ r)
            curvature, slope = curvature + jacobian.T @ jacobian, slope + jacobian.T @ r
        return missed, curvature, slope
