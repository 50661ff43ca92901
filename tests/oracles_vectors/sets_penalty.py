"""The penalty of a small network: layer weights, the terms of every layer, the total, the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracles_vectors.form import Case, draw, vector_set
from tests.oracles_vectors.number import Num, nums, sqrt, total
from tests.oracles_vectors.surrogates import Exactly

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (3, 2, 2, 2),
    "conv1.bias": (3,),
    "fc1.weight": (5, 4),
    "fc1.bias": (5,),
    "fc2.weight": (2, 5),
    "fc2.bias": (2,),
}
KINDS = {"conv1.weight": "conv", "fc1.weight": "linear", "fc2.weight": "linear"}

# layer weights, groups, surrogate, parameters, alpha, l2
PENALTIES: dict[str, Any] = {
    "sqrt-size-joint-laplace": ("sqrt_size", "joint", "laplace", {"beta": 5.0}, 4e-5, 0.0),
    "sqrt-size-kind-laplace-l2": ("sqrt_size", "kind", "laplace", {"beta": 5.0}, 0.01, 1e-4),
    "inverse-size-joint-laplace-l2": ("inverse_size", "joint", "laplace", {"beta": 20.0}, 0.3, 0.05),
    "inverse-size-kind-arctan": ("inverse_size", "kind", "arctan", {"beta": 3.0}, 0.3, 0.0),
    "none-mcp-l2": ("none", "joint", "mcp", {"lam": 0.5, "gamma": 3.0}, 0.1, 0.2),
    "none-l2-alone": ("none", "joint", "laplace", {"beta": 5.0}, 0.0, 0.3),
    "sqrt-size-joint-l1": ("sqrt_size", "joint", "l1", {}, 0.7, 0.0),
}


def parameters_of_network(seed: int) -> dict[str, Any]:
    """Weights of mixed size, a fifth of them exactly 0 and some tiny."""
    params = {key: draw(seed + i, *shape) for i, (key, shape) in enumerate(SHAPES.items())}
    for w in params.values():
        flat = w.reshape(-1)
        flat[1::5] = 0.0
        flat[3::7] *= 1e-6
    return params


def factor(n: int, group: list[int], scheme: str) -> Num:
    if scheme == "sqrt_size":
        return sqrt(Num(n) / max(group))
    return Num(sum(group)) / (len(group) * n) if scheme == "inverse_size" else Num(1)


def factors(sizes: dict[str, int], kinds: dict[str, str], scheme: str, groups: str) -> dict[str, Num]:
    """C_l from the numbers of weights."""
    rivals = {
        key: [n for other, n in sizes.items() if groups == "joint" or kinds[other] == kinds[key]] for key in sizes
    }
    return {key: factor(n, rivals[key], scheme) for key, n in sizes.items()}


def slopes(w: Any, phi: Exactly, price: Num, l2: float) -> Any:
    """price phi'(w) + 2 l2 w, entry by entry."""
    out = np.empty(w.shape, object)
    for place, entry in np.ndenumerate(w):
        out[place] = price * phi.gradient(entry) + 2 * l2 * entry
    return out


def penalty() -> bytes:
    cases: list[Case] = []
    for i, (name, (scheme, groups, surrogate, parameters, alpha, l2)) in enumerate(PENALTIES.items()):
        params, phi = parameters_of_network(600 + 10 * i), Exactly(surrogate, parameters)
        weights = {key: nums(params[key]) for key in KINDS}
        cs = factors({key: w.size for key, w in weights.items()}, KINDS, scheme, groups)
        prices = {key: c * alpha for key, c in cs.items()}
        results: dict[str, Any] = {
            "factors": cs,
            "l0": {key: prices[key] * total(phi.value(e) for e in w.ravel()) for key, w in weights.items()},
            "l2": {key: l2 * total(e * e for e in w.ravel()) for key, w in weights.items()},
            "gradient": {key: slopes(w, phi, prices[key], l2) for key, w in weights.items()},
        }
        results["total"] = total([*results["l0"].values(), *results["l2"].values()])
        options = {"surrogate": surrogate, "parameters": parameters, "alpha": alpha, "l2": l2}
        inputs = {"params": params, "kinds": KINDS, **options, "layer_weights": scheme, "groups": groups}
        cases.append((name, inputs, results))
    return vector_set(
        "penalty", "sum_l C_l alpha sum phi(w) + l2 sum w^2 over weights, not biases: factors C_l, terms, gradient",
        arguments=["params", "kinds", "surrogate", "parameters", "alpha", "l2", "layer_weights", "groups"],
        outputs=["factors", "l0", "l2", "total", "gradient"], tolerance=4, cases=cases,
    )  # fmt: skip
