"""Net-Trim: the sparsest weights, by the sum of |.|, that answer like the layer did.

    parallel   every layer on the signals of the trained network, V = 0, eps = g ||Y||
    cascade    from the second layer on the inputs are those of the network as trimmed so far, and the constraints give
               way so that the trained weights still fit: V = X^ W, eps^2 = gamma sum over O of ((X^ W) - Y)^2

The program of one layer is in `layerwise.trim`. Behind the last layer, and behind any that no ReLU follows, there is no
inequality: Y is the output before the activation, and all of it is fitted.

Ref      Aghasi, Abdi, Nguyen, Romberg 2017 and 2020; constants after the authors' code.
Departs  eps is bisected until about the wanted number of weights is left, and the count is then met exactly by |U|.
         Earlier masks are kept by leaving their weights out afterwards. The refit by least squares is ours: it cuts the
         error of the layer, as a sum of |.| shrinks what it keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.data import Splits
from l0ref.layerwise import Quadratic
from l0ref.layerwise.trim import trim
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.nn.activations import ReLU
from l0ref.pruning.layers import activation_behind, exact_mask, inputs_and_answers, magnitude_plan
from l0ref.validate import Array, choose, count, nonnegative, positive

ACTIVE = 1e-6  # an output above it counts as positive, as in the authors' code
FAR = 1e3  # the regularised form is bisected between lam / FAR and lam * FAR


@method(
    "net_trim", paper="Aghasi et al. 2017, 2020", kind="layerwise", reads=("weights", "activations"),
    records=("epsilon", "nonzeros", "residual", "error"), random=True,
)  # fmt: skip
def net_trim(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, scheme: str = "cascade", gamma: float = 1.1, rho: float = 100.0, iterations: int = 300,
    searches: int = 6, lam: float = 0.0, refit: bool = False, solver: str = "direct",
) -> Pruned:  # fmt: skip
    """Trim every layer to as many weights as magnitude pruning of the network leaves it; see the text of the module.

    samples     of the training set, drawn with `seed`
    scheme      "cascade" or "parallel"
    gamma       slack of the cascade's smallest eps, 1 or more
    rho, iterations, solver   of `layerwise.trim`
    searches    bisections of eps in each layer, between that of the trained weights and ||Y||
    lam         if above 0, the regularised form of 2017 with this weight, which is bisected instead of eps
    refit       least squares on the support afterwards
    record      by layer: epsilon (or lam), nonzeros of U before the count is met, the last residual of the splitting,
                and error, ||X U - Z|| / ||Z|| before the activation, as left
    """
    choose("scheme", scheme, ("cascade", "parallel"))
    few = calibration(model, data, samples=samples, seed=seed)
    plan = magnitude_plan(model, amount=amount, scope=scope, min_keep=min_keep)
    count("searches", searches, least=1)
    search: dict[str, Any] = {"gamma": positive("gamma", gamma), "lam": nonnegative("lam", lam), "searches": searches}
    search |= {"rho": rho, "iterations": iterations, "solver": solver}
    record: dict[str, dict[str, float]] = {name: {} for name in ("epsilon", "nonzeros", "residual", "error")}
    found = model
    for place, key in enumerate(model.weights):
        x, z = inputs_and_answers(found if scheme == "cascade" else model, model, key, few.x)
        layer = _Layer(model, key, x, z, slack=scheme == "cascade" and place > 0)
        u, record["epsilon"][key], record["residual"][key] = layer.searched(int(plan[key].sum()), **search)
        inner, bias = u[: x.shape[1]].T, u[x.shape[1] :].sum(axis=0)
        record["nonzeros"][key] = float(np.count_nonzero(inner))
        mask = exact_mask(inner, plan[key], model, key)
        inner = inner * mask.reshape(inner.shape)
        if refit:
            inner, bias = layer.refitted(mask.reshape(inner.shape), x, z)
        record["error"][key] = float(np.linalg.norm(x @ inner.T + bias - z)) / (float(np.linalg.norm(z)) or 1.0)
        params = {**found.params, key: inner.reshape(mask.shape).astype(model.dtype)}
        if layer.bias in params:
            params[layer.bias] = bias.astype(model.dtype)
        found = found.replace(params=params, masks={**found.masks, key: mask})
    return Pruned(found, record)


class _Layer:
    """One layer: x (P, N) with a column of ones if it has a bias, y (P, M) the wanted outputs."""

    def __init__(self, model: Model, key: str, x: Array, z: Array, *, slack: bool) -> None:
        self.bias = f"{key.removesuffix('weight')}bias"
        self.weights = model.params[key].reshape(len(model.params[key]), -1).astype(np.float64)
        has_bias, is_relu = self.bias in model.params, isinstance(activation_behind(model.architecture, key), ReLU)
        self.x = np.concatenate([x, np.ones((len(x), int(has_bias)))], axis=1)
        self.y = np.maximum(z, 0.0) if is_relu else z
        self.active = self.y > ACTIVE if is_relu else np.ones(z.shape, bool)
        now = x @ self.weights.T + (model.params[self.bias] if has_bias else 0.0)
        self.ceiling = now if slack else np.zeros(z.shape)
        self.least = float(np.linalg.norm(np.where(self.active, now - self.y, 0.0)))
        self.most = max(float(np.linalg.norm(np.where(self.active, self.y, 0.0))), self.least)

    def refitted(self, support: Array, x: Array, z: Array) -> tuple[Array, Array]:
        """Return weights and biases of least squares on a support; without a bias in the layer, biases of 0."""
        layer = Quadratic.from_samples(x, z, weights=self.weights)
        w = layer.refit(support)
        return w, layer.bias(w) if self.x.shape[1] > x.shape[1] else np.zeros(len(w))

    def searched(
        self, keep: int, *, gamma: float, lam: float, searches: int, **options: Any
    ) -> tuple[Array, float, float]:
        """Return, of all U that were tried, the one with about `keep` non-zeros, its eps or lam, its residual."""
        low, high = (lam / FAR, lam * FAR) if lam else (np.sqrt(gamma) * self.least, np.sqrt(gamma) * self.most)
        nothing = np.zeros((self.x.shape[1], self.y.shape[1]))
        best: tuple[float, Array, float, float] = (np.inf, nothing, 0.0, 0.0)
        for _ in range(searches):
            level = float(np.sqrt(low * high)) if lam else (low + high) / 2
            options |= {"lam": level} if lam else {"epsilon": level}
            found = trim(self.x, self.y, active=self.active, ceiling=self.ceiling, **options)
            left = int(np.count_nonzero(found.weights))
            if abs(left - keep) < best[0]:
                best = (abs(left - keep), found.weights, level, found.residuals[-1])
            low, high = (level, high) if left > keep else (low, level)
        return best[1:]
