"""Sets about single surrogates: value, gradient, prox and dead zone at ordinary, tiny, huge and special places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.oracles_vectors.form import Case, vector_set
from tests.oracles_vectors.number import Num, nearest
from tests.oracles_vectors.surrogates import Exactly

# ordinary parameters, extreme ones, and dyadic ones whose corners and thresholds are exact
PARAMETERS: dict[str, list[dict[str, float]]] = {
    "laplace": [{"beta": 5.0}, {"beta": 0.25}, {"beta": 2e4}],
    "linearized_laplace": [{"beta": 5.0}, {"beta": 0.25}],
    "geman_mcclure": [{"beta": 5.0}, {"beta": 0.3}],
    "gaussian": [{"sigma": 0.1}, {"sigma": 3.0}],
    "log_sum": [{"eps": 0.1}, {"eps": 2.0}],
    "arctan": [{"beta": 5.0}, {"beta": 0.3}],
    "tanh": [{"beta": 5.0}, {"beta": 0.3}],
    "capped_l1": [{"theta": 0.5}, {"theta": 0.07}],
    "scad": [{"lam": 0.5, "a": 3.0}, {"lam": 0.1, "a": 3.7}],
    "mcp": [{"lam": 0.5, "gamma": 4.0}, {"lam": 0.1, "gamma": 3.0}],
    "lp": [{"p": 0.5}, {"p": 2 / 3}, {"p": 0.3}],
    "transformed_l1": [{"a": 1.0}, {"a": 0.03}],
    "l0": [{}],
    "l1": [{}],
    "l2": [{}],
}

MAGNITUDES = [
    *(1e-300, 1e-100, 1e-20, 1e-8, 1e-3, 0.01, 0.03, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 7.0, 20.0),
    *(100.0, 1e4, 1e8, 1e100, 1e300),
]  # fmt: skip
STEPS = [0.02, 0.3, 3.0]

# surrogate, parameters, step, |z|: two minimisers tie, and the smaller one is the answer
TIES: list[tuple[str, dict[str, float], float, float]] = [
    ("l0", {}, 0.5, 1.0),
    ("l0", {}, 2.0, 2.0),
    ("l1", {}, 0.5, 0.5),
    ("capped_l1", {"theta": 0.5}, 0.5, 0.75),
    ("capped_l1", {"theta": 0.5}, 4.0, 2.0),
    ("mcp", {"lam": 0.5, "gamma": 4.0}, 16.0, 4.0),
    ("linearized_laplace", {"beta": 0.25}, 64.0, 8.0),
    ("scad", {"lam": 0.5, "a": 3.0}, 16.0, 4.0),
]

# places where the formula changes
SPECIAL: dict[str, Any] = {
    "linearized_laplace": lambda beta: [1 / beta],
    "capped_l1": lambda theta: [theta],
    "scad": lambda lam, a: [lam, a * lam],
    "mcp": lambda lam, gamma: [gamma * lam],
}


def label(name: str, parameters: dict[str, float]) -> str:
    return "-".join([name, *(f"{key}={value:.6g}" for key, value in sorted(parameters.items()))])


def every() -> Iterator[tuple[str, dict[str, float], Exactly]]:
    for name, choices in PARAMETERS.items():
        for parameters in choices:
            yield name, parameters, Exactly(name, parameters)


def writable(y: Num) -> bool:
    """Whether the result is 0 or an ordinary float64: overflow and gradual underflow are left out."""
    size = abs(y.value)
    return not size or size < 1e-400 or 1e-290 < size < 1e300


def places(name: str, parameters: dict[str, float]) -> list[float]:
    """0, magnitudes of alternating sign, and each corner with its two neighbours, on both sides of 0."""
    signed = [u if i % 3 else -u for i, u in enumerate(MAGNITUDES)]
    corners = SPECIAL[name](**parameters) if name in SPECIAL else []
    around = [sign * v for c in corners for sign in (1, -1) for v in (math.nextafter(c, 0), c, math.nextafter(c, 9e9))]
    return [0.0, *signed, *around]


def pointwise(what: str, result: str) -> list[Case]:
    cases = []
    for name, parameters, phi in every():
        rule = getattr(phi, what)
        kept = [(w, y) for w in places(name, parameters) if writable(y := rule(Num(w)))]
        ws, ys = zip(*kept, strict=True)
        inputs = {"surrogate": name, "parameters": parameters, "w": np.array(ws)}
        cases.append((label(name, parameters), inputs, {result: np.array(ys, object)}))
    return cases


def value() -> bytes:
    return vector_set(
        "surrogate_value", "phi(|w|), entry by entry",
        arguments=["surrogate", "parameters", "w"], outputs=["value"], tolerance=4,
        cases=pointwise("value", "value"),
    )  # fmt: skip


def gradient() -> bytes:
    return vector_set(
        "surrogate_gradient", "d phi(|w|) / d w, entry by entry; 0 at w = 0 and at the corner of the capped l1",
        arguments=["surrogate", "parameters", "w"], outputs=["gradient"], tolerance=4,
        cases=pointwise("gradient", "gradient"),
    )  # fmt: skip


def arguments_of_prox(zone: float) -> list[float]:
    """z at 0, inside the dead zone, just inside, just outside, beyond, tiny and huge, of both signs."""
    unit = zone or 1.0
    edges = [zone * (1 - 2**-20), -zone * (1 + 2**-20)] if zone else []
    beyond = [unit * f for f in (0.3, -0.9, 1.05, -1.2, 1.6, -2.5, 6.0, 40.0)]
    return [0.0, -0.0, 1e-300, -1e-12, *beyond, *edges, 1e6, -1e100]


def prox() -> bytes:
    cases: list[Case] = []
    for name, parameters, phi in every():
        for step in STEPS:
            zone = nearest(phi.dead_zone(Num(step)).value)
            zs = arguments_of_prox(zone)
            xs = [phi.prox(Num(z), Num(step)) for z in zs]
            cases.append(prox_case(f"{label(name, parameters)}-step={step:g}", name, parameters, step, zs, xs))
    for name, parameters, step, z in TIES:
        phi = Exactly(name, parameters)
        zs = [z, -z, math.nextafter(z, 0)]
        xs = [phi.prox(Num(v), Num(step)) for v in zs]
        cases.append(prox_case(f"tie-{label(name, parameters)}-step={step:g}", name, parameters, step, zs, xs))
    return vector_set(
        "surrogate_prox", "argmin_x 1/2 (x - z)^2 + step phi(|x|), entry by entry; of two minimisers the smaller",
        arguments=["surrogate", "parameters", "z", "step"], outputs=["x"], tolerance=4, cases=cases,
    )  # fmt: skip


def prox_case(
    name: str, surrogate: str, parameters: dict[str, float], step: float, zs: list[float], xs: list[Num]
) -> Case:
    inputs = {"surrogate": surrogate, "parameters": parameters, "z": np.array(zs), "step": step}
    return name, inputs, {"x": np.array(xs, object)}


def dead_zone() -> bytes:
    cases: list[Case] = []
    for name, parameters, phi in every():
        for step in STEPS:
            inputs = {"surrogate": name, "parameters": parameters, "step": step}
            cases.append((f"{label(name, parameters)}-step={step:g}", inputs, {"dead_zone": phi.dead_zone(Num(step))}))
    return vector_set(
        "surrogate_dead_zone", "the largest |z| with prox(z, step) = 0",
        arguments=["surrogate", "parameters", "step"], outputs=["dead_zone"], tolerance=4, cases=cases,
    )  # fmt: skip
