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
from l0ref.nn.sequence import leaves
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES
from l0ref.pruning.trace import answers, layer_of, patches, trace
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
    plan = prune_by(model, SCORES["magnitude"](model, None), amount=amount, scope=scope, min_keep=min_keep)
    options: dict[str, Any] = {"rho": rho, "iterations": count("iterations", iterations, least=1), "solver": solver}
    search: dict[str, Any] = {
        "gamma": positive("gamma", gamma), "lam": nonnegative("lam", lam),
        "searches": count("searches", searches, least=1),
    }  # fmt: skip
    record: dict[str, dict[str, float]] = {name: {} for name in ("epsilon", "nonzeros", "residual", "error")}
    found = model
    for key in model.weights:
        x = _stacked(found if scheme == "cascade" else model, key, few.x, "inputs")
        z = _stacked(model, key, few.x, "preactivations")
        w = model.params[key].reshape(len(model.params[key]), -1).astype(np.float64)
        name = key.removesuffix("weight") + "bias"
        ones = np.ones((len(x), int(name in model.params)))
        start = np.concatenate([w, model.params[name][:, None]], axis=1) if name in model.params else w
        slack = scheme == "cascade" and key != model.weights[0]
        both = np.concatenate([x, ones], axis=1)
        layer = _Layer(both, z, start.T.astype(np.float64), is_relu=_is_relu(model, key), slack=slack)
        keep = int(plan.masks[key].sum())
        u, level, residual = layer.searched(keep, **search, **options)
        inner = u[: w.shape[1]].T
        record["epsilon"][key], record["nonzeros"][key] = level, float(np.count_nonzero(inner))
        mask = _exact(inner, plan.masks[key], model.params[key], model.mask(key))
        bias = u[-1] if name in model.params else np.zeros(len(w))
        inner = inner * mask.reshape(inner.shape)
        if refit:
            quadratic = Quadratic.from_samples(x, z, weights=w)
            inner = quadratic.refit(mask.reshape(inner.shape))
            bias = quadratic.bias(inner) if name in model.params else bias
        record["residual"][key] = residual
        record["error"][key] = float(np.linalg.norm(x @ inner.T + bias - z)) / (float(np.linalg.norm(z)) or 1.0)
        params = {**found.params, key: inner.reshape(mask.shape).astype(model.dtype)}
        if name in params:
            params[name] = bias.astype(model.dtype)
        found = found.replace(params=params, masks={**found.masks, key: mask})
    return Pruned(found, record)


def _stacked(model: Model, key: str, x: Array, what: str) -> Array:
    layer = layer_of(model, key)
    read = patches if what == "inputs" else answers
    return np.concatenate([read(layer, getattr(s[key], what)) for s in trace(model, x, keys=[key])]).astype(np.float64)


def _is_relu(model: Model, key: str) -> bool:
    layers = list(leaves(model.architecture))
    place = next(i for i, layer in enumerate(layers) if key in layer.kinds())
    return place + 1 < len(layers) and isinstance(layers[place + 1], ReLU)


class _Layer:
    """One layer: x (P, N) with a column of ones, z (P, M) before the activation, start (N, M) the trained weights."""

    def __init__(self, x: Array, z: Array, start: Array, *, is_relu: bool, slack: bool) -> None:
        self.x, self.y = x, np.maximum(z, 0.0) if is_relu else z
        self.active = self.y > ACTIVE if is_relu else np.ones(z.shape, bool)
        now = x @ start
        self.ceiling = now if slack else np.zeros(z.shape)
        self.least = float(np.linalg.norm(np.where(self.active, now - self.y, 0.0)))
        self.most = max(float(np.linalg.norm(np.where(self.active, self.y, 0.0))), self.least)

    def searched(
        self, keep: int, *, gamma: float, lam: float, searches: int, **options: Any
    ) -> tuple[Array, float, float]:
        """Return the U whose non-zeros are nearest to `keep` in number, of those tried, its eps or lam, its residual."""
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


def _exact(u: Array, plan: Array, trained: Array, alive: Array) -> Array:
    """A mask of exactly as many weights as the plan: the largest |U|, then, where U has too few, the largest trained."""
    order = np.lexsort((-np.abs(trained).ravel(), -np.abs(u).ravel(), ~alive.ravel()))
    mask = np.zeros(plan.size, bool)
    mask[order[: int(plan.sum())]] = True
    return mask.reshape(plan.shape)
