"""Masks, saturation, and what happens exactly on a kink or a tie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.validate import Array
from tests.faults.plant import Spot, of_pair, of_result, with_result
from tests.faults.points import Pair


@of_result("the wrong mask: a random third of the entries is 0")
def masked(g: Array, s: Spot) -> Array | None:
    keep = s.rng().permutation(g.size).reshape(g.shape) >= math.ceil(g.size / 3)
    return g * keep


@of_result("a dead zone that is not there: 0 where |x| is below its median")
def dead_zone(g: Array, s: Spot) -> Array:
    return g * (np.abs(s.x) >= np.median(np.abs(s.x)))


@of_pair("the mask inverted: the cotangent goes where it does not belong")
def mask_inverted(s: Spot) -> Pair | None:
    if s.y_bar.shape != s.g.shape or (s.g != 0).all():
        return None
    return with_result(s, lambda g, call: call[1] * (g == 0))


@of_pair("the wrong branch: the sides of a bend exchanged, a bound or a threshold not respected")
def wrong_branch(s: Spot) -> Pair | None:
    if s.target.surrogate is not None:
        return _unsaturated(s)
    rule = BRANCHES.get(s.target.name)
    return None if rule is None else with_result(s, lambda _, call: rule(s, call[0][1], call[1]))


BRANCHES: dict[str, Callable[[Spot, Any, Array], Array]] = {
    "Relu": lambda _, saved, y_bar: y_bar * np.where(saved[0] > 0, 1, 0.01),
    "LeakyRelu": lambda _, saved, y_bar: y_bar * np.where(saved[0] > 0, saved[1], 1),
    "Clip": lambda s, _, y_bar: y_bar * (s.x >= s.target.options["low"]),
    "Softplus": lambda _, saved, y_bar: y_bar * np.where(saved[0] > 1, 1, 1 / (1 + np.exp(-saved[0]))),
}


def _unsaturated(s: Spot) -> Pair | None:
    """A slope that goes on where the surrogate has become constant."""
    phi = s.target.surrogate
    if phi is None or s.target.name == "L0" or not (s.g == 0).any():
        return None
    inside = np.abs(s.x[s.g != 0]).min()
    return with_result(s, lambda g, call: np.where(g == 0, phi.grad(np.copysign(inside, call[0][1])), g))


# --- exactly on a kink ------------------------------------------------------------------------------------------------


@of_pair("a tie goes to the last of the equal entries", at="kink")
def tie_to_last(s: Spot) -> Pair | None:
    if s.target.name not in ("Max", "MaxPool2d"):
        return None
    true = s.target.true

    def wrong(_: Array, call: tuple[Any, Array]) -> Array:
        ((x,), _), y_bar = call
        turned = y_bar[..., ::-1] if y_bar.ndim == x.ndim else y_bar
        return true.vjp(true.forward(x[..., ::-1].copy())[1], turned)[0][..., ::-1]

    return with_result(s, wrong)


@of_pair("every one of several equal entries gets the whole cotangent", at="kink")
def tie_to_all(s: Spot) -> Pair | None:
    rule = WINNERS.get(s.target.name)
    return None if rule is None else with_result(s, lambda _, call: rule(call[0][0], call[1], s.which))


def _pooled(xs: tuple[Array, ...], y_bar: Array, _: int) -> Array:
    (x,) = xs
    rows = x.reshape(-1, 2)  # the windows of the documented kink
    return np.asarray((rows == rows.max(axis=1, keepdims=True)).reshape(x.shape) * y_bar.repeat(2, axis=-1))


WINNERS: dict[str, Callable[[tuple[Array, ...], Array, int], Array]] = {
    "Max": lambda xs, y_bar, _: (xs[0] == xs[0].max(axis=1, keepdims=True)) * y_bar[:, None],
    "MaxPool2d": _pooled,
    "Maximum": lambda xs, y_bar, i: y_bar * (xs[i] >= xs[1 - i]),
    "Minimum": lambda xs, y_bar, i: y_bar * (xs[i] <= xs[1 - i]),
}


@of_pair("the other one-sided slope at a kink", at="kink")
def other_side(s: Spot) -> Pair | None:
    name, phi = s.target.name, s.target.surrogate
    if phi is not None:
        right = min(phi.slope_at_zero, 1e6)
        return with_result(s, lambda g, call: np.where(call[0][1] == 0, right * call[1], g))
    rule = SIDES.get(name)
    return None if rule is None else with_result(s, lambda _, call: rule(call[0][0], call[1], s.which))


SIDES: dict[str, Callable[[tuple[Array, ...], Array, int], Array]] = {
    "Abs": lambda xs, y_bar, _: y_bar * np.where(xs[0] >= 0, 1, -1),
    "Clip": lambda xs, y_bar, _: y_bar * ((xs[0] > -0.5) & (xs[0] < 0.75)),
    "LeakyRelu": lambda xs, y_bar, _: y_bar * np.where(xs[0] >= 0, 1, 0.25),
    "Maximum": lambda xs, y_bar, i: y_bar * (xs[i] >= xs[1 - i] if i == 0 else xs[i] > xs[1 - i]),
    "Minimum": lambda xs, y_bar, i: y_bar * (xs[i] <= xs[1 - i] if i == 0 else xs[i] < xs[1 - i]),
    "Relu": lambda xs, y_bar, _: y_bar * (xs[0] >= 0),
    "Surrogate": lambda xs, y_bar, _: y_bar * 5 * np.exp(-5 * np.abs(xs[0])) * np.where(xs[0] >= 0, 1, -1),
}
