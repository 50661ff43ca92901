"""Optimiser steps with penalty and masks, for given gradients and in the fine-tuning of a small network.

An entry near 0 may step to either side by rounding alone, and the slope of the penalty jumps there; so no weight
may come close to 0 without being exactly 0, nor close to the edge of a dead zone. `clear` and `clear_of_zone`
refuse a draw that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.oracles_vectors.form import Case, draw, vector_set, whole
from tests.oracles_vectors.number import Num, mp, nums, power, sqrt
from tests.oracles_vectors.sets_layers import cross_entropy_rule, filled, linear_rule
from tests.oracles_vectors.surrogates import Exactly

Arrays = dict[str, Any]
SHAPES: dict[str, tuple[int, ...]] = {"fc1.weight": (3, 4), "fc1.bias": (3,), "fc2.weight": (2, 3)}
FACTORS = {"fc1.weight": 1.0, "fc2.weight": 0.7071067811865476}
LAPLACE = {"surrogate": "laplace", "parameters": {"beta": 5.0}}
MARGIN = 1e-6


def clear(w: Num) -> Num:
    if 0 < abs(w.value) < MARGIN:
        raise ValueError(f"a weight of {mp.nstr(w.value, 3)} is near the kink at 0; draw others")
    return w


def clear_of_zone(phi: Exactly, z: Num, t: Num) -> Num:
    if z.value and phi.undecided(abs(z.value), t.value, MARGIN):
        raise ValueError(f"a weight of {mp.nstr(z.value, 9)} is at the edge of the dead zone; draw others")
    return phi.prox(z, t)


# --- the steps of one array -------------------------------------------------------------------------------------------


class Sgd:
    """v <- momentum v + g,  w <- w - lr v, or w - lr (g + momentum v)."""

    def __init__(self, *, lr: float, momentum: float, nesterov: bool):
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov

    def start(self, _: Num) -> Any:
        return (Num(0),)

    def step(self, w: Num, g: Num, slots: Any, _t: int) -> tuple[Num, Any]:
        v = self.momentum * slots[0] + g
        d = g + self.momentum * v if self.nesterov else v
        return w - self.lr * d, (v,)

    def reach(self, _slots: Any, _t: int) -> Num:
        return Num(self.lr) / (1 - Num(self.momentum))


class Adam:
    """m, v <- running means of g and g^2;  w <- w - lr m_hat / (sqrt(v_hat) + eps)."""

    def __init__(self, *, lr: float, beta1: float, beta2: float, eps: float):
        self.lr, self.beta1, self.beta2, self.eps = lr, Num(beta1), Num(beta2), eps

    def start(self, _: Num) -> Any:
        return Num(0), Num(0)

    def step(self, w: Num, g: Num, slots: Any, t: int) -> tuple[Num, Any]:
        m = self.beta1 * slots[0] + (1 - self.beta1) * g
        v = self.beta2 * slots[1] + (1 - self.beta2) * (g * g)
        return w - self.reach((m, v), t) * (m / (1 - power(self.beta1, t))), (m, v)

    def reach(self, slots: Any, t: int) -> Num:
        return self.lr / (sqrt(slots[1] / (1 - power(self.beta2, t))) + self.eps)


def run(
    rule: Any, params: Arrays, gradients: Callable[[Arrays, int], Arrays], *, steps: int, masks: Any, penalty: Any,
    proximal: bool = False,
) -> Arrays:  # fmt: skip
    """Parameters after the given number of steps; what a mask removes is 0 from the start and takes no step."""
    keep = {key: masks[key] if masks and key in masks else np.ones(w.shape, bool) for key, w in params.items()}
    phi = Exactly(penalty["surrogate"], penalty["parameters"]) if penalty else None
    now = {key: filled(w.shape, lambda *p, k=key: params[k][p] if keep[k][p] else Num(0)) for key, w in params.items()}
    slots = {key: filled(w.shape, lambda *p, k=key: rule.start(now[k][p])) for key, w in params.items()}
    for t in range(1, steps + 1):
        grads, new = gradients(now, t), {key: w.copy() for key, w in now.items()}
        for key, w in now.items():
            for place in (place for place in np.ndindex(*w.shape) if keep[key][place]):
                x, g = clear(w[place]), grads[key][place]
                priced = penalty is not None and key in penalty["factors"]
                price = Num(penalty["factors"][key]) * penalty["alpha"] if priced else Num(0)
                if priced and not proximal:
                    g = g + (price * phi.gradient(x) + 2 * penalty["l2"] * x)
                elif priced:
                    g = g + 2 * penalty["l2"] * x
                x, slots[key][place] = rule.step(x, g, slots[key][place], t)
                if proximal and priced:
                    x = clear_of_zone(phi, x, rule.reach(slots[key][place], t) * price)
                new[key][place] = x
        now = new
    return now


# --- sets for given gradients -----------------------------------------------------------------------------------------

SGD_OPTIONS: dict[str, Any] = {
    "momentum": {"lr": 0.1, "momentum": 0.9, "nesterov": False},
    "plain": {"lr": 0.05, "momentum": 0.0, "nesterov": False},
    "nesterov": {"lr": 0.02, "momentum": 0.8, "nesterov": True},
}
ADAM_OPTIONS: dict[str, Any] = {
    "usual": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "short-memory": {"lr": 0.05, "beta1": 0.5, "beta2": 0.75, "eps": 1e-3},
}
PROXIMAL_SGD_OPTIONS = {name: {k: o[k] for k in ("lr", "momentum")} for name, o in list(SGD_OPTIONS.items())[:2]}
MILD = LAPLACE | {"alpha": 0.01, "l2": 1e-3, "factors": FACTORS}
STRONG = LAPLACE | {"alpha": 0.08, "l2": 1e-3, "factors": FACTORS}


def network(seed: int) -> tuple[Arrays, Arrays]:
    params = {key: draw(seed + i, *shape) for i, (key, shape) in enumerate(SHAPES.items())}
    params["fc1.weight"][0, 1] = 0.0
    masks = {key: whole(seed + 5 + i, *SHAPES[key], below=3) > 0 for i, key in enumerate(FACTORS)}
    return params, masks


def given_gradients(
    name: str, about: str, make: Any, options: dict[str, Any], penalty: Any, *, seed: int, proximal: bool = False
) -> bytes:
    cases: list[Case] = []
    bare, under = ([], []) if proximal else ([("no-penalty", None, False)], [("masks", None, True)])
    kinds = [*bare, ("penalty", penalty, False), ("penalty-masks", penalty, True), *under]
    for i, (label, chosen) in enumerate(options.items()):
        for j, (what, pull, masked) in enumerate(kinds):
            for steps in (1, 10):
                params, masks = network(seed + 100 * i + 20 * j)
                grads = {key: draw(seed + 7 + k, steps, *w.shape) for k, (key, w) in enumerate(params.items())}
                grads["fc1.weight"][:, 0, :2] = 0.0  # neither gradient nor, for one of the two, weight
                after = run(
                    make(**({"nesterov": False} if proximal and make is Sgd else {}), **chosen),
                    {key: nums(w) for key, w in params.items()},
                    lambda _, t, grads=grads: {key: nums(g[t - 1]) for key, g in grads.items()},
                    steps=steps, masks=masks if masked else None, penalty=pull, proximal=proximal,
                )  # fmt: skip
                inputs = {"params": params, "grads": grads, "masks": masks if masked else None, "penalty": pull}
                cases.append((f"{label}-{what}-{steps}", inputs | chosen, {"params": after}))
    return vector_set(
        name, about, arguments=["params", "grads", "masks", "penalty", *next(iter(options.values()))],
        outputs=["params"], tolerance=4, cases=cases,
    )  # fmt: skip


def sgd_steps() -> bytes:
    about = "parameters after steps of SGD with momentum, penalty in the gradient, pruned weights at 0"
    return given_gradients("sgd_steps", about, Sgd, SGD_OPTIONS, MILD, seed=700)


def adam_steps() -> bytes:
    about = "parameters after steps of Adam, penalty in the gradient, pruned weights at 0"
    return given_gradients("adam_steps", about, Adam, ADAM_OPTIONS, MILD, seed=1500)


def proximal_sgd_steps() -> bytes:
    about = "SGD on loss and l2, then the prox of the l0 term with step lr / (1 - momentum) C_l alpha"
    return given_gradients("proximal_sgd_steps", about, Sgd, PROXIMAL_SGD_OPTIONS, STRONG, seed=2500, proximal=True)


def proximal_adam_steps() -> bytes:
    about = "Adam on loss and l2, then the prox of the l0 term with step lr / (sqrt(v_hat) + eps) C_l alpha"
    return given_gradients("proximal_adam_steps", about, Adam, ADAM_OPTIONS, STRONG, seed=3500, proximal=True)


# --- fine-tuning a masked network -------------------------------------------------------------------------------------


def finetune_steps() -> bytes:
    cases: list[Case] = []
    for i, (label, pull, steps) in enumerate([("bare", None, 1), ("penalty", MILD, 1), ("penalty", MILD, 5)]):
        shapes = {"fc1.weight": (5, 4), "fc1.bias": (5,), "fc2.weight": (3, 5), "fc2.bias": (3,)}
        params = {key: draw(4500 + 10 * i + j, *shape) for j, (key, shape) in enumerate(shapes.items())}
        masks = {key: whole(4550 + 10 * i + j, *shapes[key], below=3) > 0 for j, key in enumerate(FACTORS)}
        x, y = draw(4580 + i, 6, 4), whole(4590 + i, 6, below=3)
        losses: list[Num] = []
        options = {"lr": 0.1, "momentum": 0.9}
        after = run(
            Sgd(nesterov=False, **options), {key: nums(w) for key, w in params.items()},
            lambda now, _, x=x, y=y, losses=losses: backward(now, nums(x), y.tolist(), losses),
            steps=steps, masks=masks, penalty=pull,
        )  # fmt: skip
        inputs: Mapping[str, Any] = {"params": params, "masks": masks, "x": x, "y": y, "steps": steps, "penalty": pull}
        cases.append((f"{label}-{steps}", {**inputs, **options}, {"params": after, "losses": np.array(losses, object)}))
    return vector_set(
        "finetune_steps",
        "relu network, mean cross entropy of the whole batch, penalty, SGD with momentum under masks; losses before "
        "each step, without penalty",
        arguments=["params", "masks", "x", "y", "steps", "penalty", "lr", "momentum"],
        outputs=["params", "losses"], tolerance=4, cases=cases,
    )  # fmt: skip


def backward(now: Arrays, x: Any, y: list[int], losses: list[Num]) -> Arrays:
    """Gradients of the mean cross entropy of y = W2 relu(W1 x + b1) + b2; the loss is noted."""
    nothing = filled((len(y), now["fc1.bias"].size), lambda *_: Num(0))
    a = linear_rule(x, now["fc1.weight"], now["fc1.bias"], nothing)["output"]
    on = filled(a.shape, lambda *p: clear(a[p]).value > 0)
    h = filled(a.shape, lambda *p: a[p] if on[p] else Num(0))
    blank = filled((len(y), now["fc2.bias"].size), lambda *_: Num(0))
    logits = linear_rule(h, now["fc2.weight"], now["fc2.bias"], blank)["output"]
    loss, g = cross_entropy_rule(logits, y, 0.0)
    losses.append(loss)
    top = linear_rule(h, now["fc2.weight"], now["fc2.bias"], g)
    low_g = filled(a.shape, lambda *p: top["grad_input"][p] if on[p] else Num(0))
    low = linear_rule(x, now["fc1.weight"], now["fc1.bias"], low_g)
    return {
        "fc1.weight": low["grad_weight"], "fc1.bias": low["grad_bias"],
        "fc2.weight": top["grad_weight"], "fc2.bias": top["grad_bias"],
    }  # fmt: skip
