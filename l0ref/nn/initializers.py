"""Initial weights: random, with a variance that keeps signals from growing or dying with depth.

`fan_in` is the number of inputs a unit sums over, `fan_out` the number of units an input feeds:
for a Linear layer (in, out), for a Conv2d layer (in/groups * kh * kw, out/groups * kh * kw).
Weights are drawn in float64 and rounded once, so a float32 and a float64 model start from the same draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.validate import Array


def he_normal(shape: tuple[int, ...], *, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:  # noqa: ARG001
    """w ~ N(0, 2 / fan_in): for layers followed by ReLU.    Ref  He, Zhang, Ren, Sun, ICCV 2015."""
    return rng.normal(0.0, np.sqrt(2.0 / max(fan_in, 1)), shape)


def he_uniform(shape: tuple[int, ...], *, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:  # noqa: ARG001
    """w ~ U(-a, a) with a = sqrt(6 / fan_in): the variance of `he_normal`."""
    bound = np.sqrt(6.0 / max(fan_in, 1))
    return rng.uniform(-bound, bound, shape)


def glorot_normal(shape: tuple[int, ...], *, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """w ~ N(0, 2 / (fan_in + fan_out)): for tanh and linear layers.    Ref  Glorot, Bengio, AISTATS 2010."""
    return rng.normal(0.0, np.sqrt(2.0 / max(fan_in + fan_out, 1)), shape)


def glorot_uniform(shape: tuple[int, ...], *, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
    """w ~ U(-a, a) with a = sqrt(6 / (fan_in + fan_out)): the variance of `glorot_normal`."""
    bound = np.sqrt(6.0 / max(fan_in + fan_out, 1))
    return rng.uniform(-bound, bound, shape)


INITIALIZERS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (he_normal, he_uniform, glorot_normal, glorot_uniform)
}
