"""Net-Trim: the weights of least l1 norm whose outputs stay close to those of the trained layer.

    parallel   every layer on the signals of the trained network, V = 0, eps = g ||Y||
    cascade    from the second layer on the inputs X^ come from the network trimmed so far, and the constraints are
               relaxed so that the trained weights stay feasible: V = X^ W, eps^2 = gamma sum over O of ((X^ W) - Y)^2

The program of one layer is in `layerwise.trim`. For the last layer, and any layer that no ReLU follows, there is no
inequality: Y is the output before the activation, and all of it is fitted.

Ref      Aghasi, Abdi, Nguyen, Romberg 2017 and 2020; constants after the authors' code. Data, training and rule of what
         counts as zero of their experiments are unknown [U].
Departs  eps is bisected until about the wanted number of weights is left, and the count is then met exactly by |U|.
         Weights masked before are masked again afterwards. The refit by least squares is ours: it lowers the error of a
         layer by a factor of 1.5 to 2.5 (measured, LeNet-300-100), because the l1 norm shrinks the weights it keeps.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from l0ref.data import Splits
from l0ref.layerwise import Quadratic
from l0ref.layerwise.operator import Operator, groups_of, layer_of
from l0ref.layerwise.trim import SOLVERS, trim
from l0ref.methods.budgets import budget_plan
from l0ref.methods.layer_by_layer import activation_behind, exact_mask, inputs_and_answers, with_layer
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.methods.shares import Budget
from l0ref.nn import Conv2d, Model
from l0ref.nn.activations import ReLU
from l0ref.pruning.trace import trace
from l0ref.validate import Array, between, choose, count, nonnegative, positive

ACTIVE = 1e-6  # an output above it counts as positive, as in the authors' code
NEAR = 0.01  # of the wanted number of weights: a bisection that comes this close ends
FAR = 1e3  # the regularised form is bisected between lam / FAR and lam * FAR


@method(
    "net_trim", paper="Aghasi et al. 2017, 2020", kind="layerwise", reads=("weights", "activations"),
    records=("epsilon", "nonzeros", "residual", "error"), marks="[U]", random=True,
)  # fmt: skip
def net_trim(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, scheme: str = "cascade", gamma: float = 1.1, rho: float = 100.0, iterations: int = 300,
    searches: int = 6, lam: float = 0.0, relaxation: float = 1.0, risk: float = 1.0, refit: bool = False,
    solver: str = "direct", budget: Budget = "magnitude",
) -> Pruned:  # fmt: skip
    """Trim every layer to as many weights as `budget` leaves it; see the text of the module.

    budget      "magnitude", "proportional", "equal_change", or numbers by layer: see `methods.budgets`
    samples     of the training set, drawn with `seed`
    scheme      "cascade" or "parallel"
    gamma       slack: eps^2 is searched from gamma times the squared error of the trained weights; 1 or more
    risk        multiplies the smallest eps of the last layer in a cascade; below 1 the trained weights may be
                infeasible. The authors use 0.35 for their spirals
    rho, iterations, relaxation, solver   of `layerwise.trim`; "cg" treats a convolution as an operator and keeps its
                bias
    searches    bisections of eps in each layer at most, between sqrt(gamma) times the error of the trained weights and
                sqrt(gamma) ||Y||. The smallest is tried first, and is taken if it leaves fewer weights than wanted;
                bisection ends within 1 % of the wanted number
    lam         if above 0, the regularised form of 2017 with this lam, bisected from lam / 1000 to 1000 lam
    refit       least squares on the support afterwards
    record      by layer: epsilon (or lam), nonzeros of U before the count is met, the last residual of the splitting,
                and error, ||X U - Z|| / ||Z|| before the activation, of the final weights
    """
    choose("scheme", scheme, ("cascade", "parallel"))
    few = calibration(model, data, samples=samples, seed=seed)
    plan = budget_plan(model, few.x, amount=amount, scope=scope, min_keep=min_keep, budget=budget)
    count("searches", searches, least=1)
    search: dict[str, Any] = {
        "gamma": between("gamma", gamma, 1.0, math.inf),
        "lam": nonnegative("lam", lam),
        "searches": searches,
    }
    search |= {"rho": rho, "iterations": iterations, "relaxation": relaxation, "solver": solver}
    last = model.weights[-1] if positive("risk", risk) and scheme == "cascade" else ""
    record: dict[str, dict[str, float]] = {name: {} for name in ("epsilon", "nonzeros", "residual", "error")}
    found = model
    for place, key in enumerate(model.weights):
        now, slack = (found if scheme == "cascade" else model), scheme == "cascade" and place > 0
        layers = [_Layer(model, now, key, few.x, group, slack=slack) for group, _ in groups_of(layer_of(model, key))]
        trimmed = [
            layer.searched(int(plan[key][layer.rows].sum()), risk=risk if key == last else 1.0, **search)
            for layer in layers
        ]
        record["epsilon"][key] = float(np.linalg.norm([epsilon for _, epsilon, _ in trimmed]))
        record["residual"][key] = max(residual for _, _, residual in trimmed)
        inner = np.concatenate([u[: layer.x.shape[1]].T for layer, (u, _, _) in zip(layers, trimmed, strict=True)])
        biases = [u[layer.x.shape[1] :].sum(axis=0) for layer, (u, _, _) in zip(layers, trimmed, strict=True)]
        record["nonzeros"][key] = float(np.count_nonzero(inner))
        mask = exact_mask(inner, plan[key], model, key)
        w, keep = inner * mask.reshape(inner.shape), mask.reshape(inner.shape)
        if refit:
            parts = [layer.refitted(keep[layer.rows]) for layer in layers]
            w, biases = np.concatenate([part for part, _ in parts]), [bias for _, bias in parts]
        left = [layer.x @ w[layer.rows].T + bias - layer.z for layer, bias in zip(layers, biases, strict=True)]
        size = float(np.linalg.norm([np.linalg.norm(layer.z) for layer in layers])) or 1.0
        record["error"][key] = float(np.linalg.norm([np.linalg.norm(part) for part in left])) / size
        found = with_layer(found, key, w, np.concatenate(biases), mask)
    return Pruned(found, record)


class _Layer:
    """One layer, or one group of its rows: x (P, N) its inputs in `now`, z (P, M) its pre-activations in `model`.

    With a bias, the program has a column of ones next to x. A convolution as an operator has none and keeps its bias.
    """

    def __init__(self, model: Model, now: Model, key: str, images: Array, group: int | None, *, slack: bool) -> None:
        self.x, self.z = inputs_and_answers(now, model, key, images, group=group)
        self.bias, self.place = f"{key.removesuffix('weight')}bias", (now, key, images, group)
        self.rows = dict(groups_of(layer_of(model, key)))[group]
        self.weights = model.params[key][self.rows].reshape(self.z.shape[1], -1).astype(np.float64)
        self.has_bias = self.bias in model.params
        self.trained = model.params[self.bias][self.rows].astype(np.float64) if self.has_bias else np.zeros(1)
        is_relu = isinstance(activation_behind(model.architecture, key), ReLU)
        self.y = np.maximum(self.z, 0.0) if is_relu else self.z
        self.active = self.y > ACTIVE if is_relu else np.ones(self.z.shape, bool)
        answers = self.x @ self.weights.T + self.trained
        self.ceiling = answers if slack else np.zeros(self.z.shape)
        self.least = float(np.linalg.norm(np.where(self.active, answers - self.y, 0.0)))
        self.most = max(float(np.linalg.norm(np.where(self.active, self.y, 0.0))), self.least)

    def refitted(self, support: Array) -> tuple[Array, Array]:
        """Return the least-squares weights and biases on a support; biases of 0 if the layer has none."""
        layer = Quadratic.from_samples(self.x, self.z, weights=self.weights, centred=self.has_bias)
        w = layer.refit(support)
        return w, layer.bias(w)

    def program(self, solver: str) -> tuple[Array | Operator, Array]:
        """Return the matrix or operator of the program, and the fixed bias: of a convolution solved by "cg", else 0."""
        layer = layer_of(self.place[0], self.place[1])
        if solver == "direct" or not isinstance(layer, Conv2d):
            return np.concatenate([self.x, np.ones((len(self.x), int(self.has_bias)))], axis=1), np.zeros(1)
        now, _, images, group = self.place
        inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        first = (group or 0) * inputs
        one = dataclasses.replace(layer, in_channels=inputs, out_channels=outputs, groups=1)
        entering = [s.entering[layer.name].data[:, first : first + inputs] for s in trace(now, images)]
        return Operator(one, np.concatenate(entering).astype(np.float64)), self.trained

    def searched(
        self, keep: int, *, gamma: float, risk: float, lam: float, searches: int, solver: str, **options: Any
    ) -> tuple[Array, float, float]:
        """Return the tried U whose number of weights is closest to `keep` by ratio, its eps or lam, and its residual.

        By difference, a U of zeros would be closer than one of more than twice as many weights. The last row of U is
        the bias, if the layer has one; it is not counted.
        """
        a, offset = self.program(choose("solver", solver, SOLVERS))
        root = np.sqrt(gamma)
        low, high = (lam / FAR, lam * FAR) if lam else (root * risk * self.least, root * self.most)
        shape = (self.x.shape[1] + int(self.has_bias), self.z.shape[1])
        best: tuple[float, Array, float, float] = (np.inf, np.zeros(shape), 0.0, 0.0)
        options |= {"active": self.active, "ceiling": self.ceiling - offset, "solver": solver}
        for n in range(1 + searches):
            level = low if n == 0 else float(np.sqrt(low * high)) if lam else (low + high) / 2
            options |= {"lam": level} if lam else {"epsilon": level}
            found = trim(a, self.y - offset, **options)
            u = found.weights
            if isinstance(a, Operator) and self.has_bias:
                u = np.concatenate([u, offset[None]])
            left = int(np.count_nonzero(u[: self.x.shape[1]]))
            if (far := abs(math.log((left + 1) / (keep + 1)))) < best[0]:
                best = (far, u, level, found.residuals[-1])
            if abs(left - keep) <= NEAR * keep or (n == 0 and left < keep):
                break
            low, high = (level, high) if left > keep else (low, level)
        return best[1:]
