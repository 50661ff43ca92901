"""Sums, means, broadcasting, and terms of the chain rule that were forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.autodiff.op import OPS, unbroadcast
from l0ref.validate import Array
from tests.faults.plant import Spot, of_cotangent, of_pair, of_result, with_result
from tests.faults.points import Pair, op_pair

Inner = Any  # what the operation saved


@of_result("1/N of a mean is missing")
def missing_mean(g: Array, s: Spot) -> Array | None:
    n = MEANS.get(s.target.name, lambda _: None)(s)
    return None if n is None else n * g


MEANS: dict[str, Callable[[Spot], float]] = {
    "Mean": lambda s: s.x.size / s.target.y.size,
    "MseLoss": lambda s: s.x.size,
    "CrossEntropy": lambda s: s.x.shape[0],
    "AvgPool2d": lambda s: math.prod(s.target.options["kernel_size"]),
}


@of_result("a mean where a sum belongs")
def mean_of_sum(g: Array, s: Spot) -> Array | None:
    n = s.x.size if not s.is_op else summed(s)
    return g / n if n > 1 else None


def summed(s: Spot) -> float:
    """How many contributions each entry of the input's cotangent is the sum of, by its shape."""
    if s.target.name == "Sum":
        return s.x.size / s.target.y.size
    axis = repeated_axis(s)
    return 1 if axis is None else s.target.y.shape[axis]


@of_cotangent("a forgotten broadcast sum: only the first copy counts")
def first_copy_only(y_bar: Array, s: Spot) -> Array | None:
    axis = repeated_axis(s)
    if axis is None:
        return None
    np.moveaxis(y_bar, axis, 0)[1:] = 0
    return y_bar


def repeated_axis(s: Spot) -> int | None:
    """An axis of y along which the input is used over and over again."""
    y, x, name = s.target.y, s.x, s.target.name
    if name in ("Linear", "Conv2d", "BatchNormTraining", "BatchNormEvaluation"):
        return 0 if s.which else None
    if not OPS[name].broadcasts and name != "Matmul":
        return None
    wide = (1,) * (y.ndim - x.ndim) + x.shape
    leading = range(y.ndim - 2 if name == "Matmul" else y.ndim)
    return next((axis for axis in leading if wide[axis] == 1 < y.shape[axis]), None)


@of_cotangent("only the first sample of a batch counts")
def first_sample_only(y_bar: Array, _: Spot) -> Array | None:
    if not y_bar.ndim or y_bar.shape[0] < 2:
        return None
    y_bar[1:] = 0
    return y_bar


@of_cotangent("one entry of the result contributes nothing")
def one_output_dropped(y_bar: Array, _: Spot) -> Array | None:
    if y_bar.size < 2:
        return None
    y_bar.flat[-1] = 0
    return y_bar


@of_pair("the inner derivative is forgotten: the cotangent is passed on as it is")
def straight_through(s: Spot) -> Pair | None:
    try:
        wide = np.broadcast_shapes(s.x.shape, s.y_bar.shape)
    except ValueError:
        return None
    if wide != s.y_bar.shape:
        return None
    return with_result(s, lambda _, call: unbroadcast(call[1], s.x.shape))


@of_pair("the derivative at another point: x is 0.1 % too large")
def wrong_point(s: Spot) -> Pair:
    true = s.target.true

    def wrong(_: Array, call: tuple[Any, Array]) -> Array:
        (xs, *_), y_bar = call
        return true.vjp(true.forward(*(1.001 * x for x in xs))[1], y_bar)[s.which]

    return with_result(s, wrong)


@of_pair("the derivative at y instead of x: the wrong one was saved")
def output_saved_for_input(s: Spot) -> Pair | None:
    true, y = s.target.true, s.target.y
    if len(s.target.xs) > 1 or y.shape != s.x.shape or (s.target.name in POSITIVE and (y <= 0).any()):
        return None
    return with_result(s, lambda _, call: true.vjp(true.forward(true.forward(*call[0][0])[0])[1], call[1])[0])


POSITIVE = ("Log", "Sqrt")


@of_pair("a normaliser is taken for a constant: detached statistics, detached sum of exponentials")
def detached_statistics(s: Spot) -> Pair | None:
    rule = DETACHED.get(s.target.name)
    return None if rule is None or s.which else with_result(s, lambda _, call: rule(call[0][1], call[1]))


def _per_channel(v: Array, x: Array) -> Array:
    return v[:, None, None] if x.ndim == 4 else v


def _batch_norm(inner: Inner, y_bar: Array) -> Array:
    x_hat, weight, scale = inner
    return np.asarray(y_bar * _per_channel(weight * scale, x_hat))


def _cross_entropy(inner: Inner, y_bar: Array) -> Array:
    _, v, divisor, _ = inner
    return np.asarray(-v * y_bar / divisor)


DETACHED: dict[str, Callable[[Inner, Array], Array]] = {
    "BatchNormTraining": _batch_norm,
    "CrossEntropy": _cross_entropy,
    "LogSoftmax": lambda _, y_bar: y_bar,
    "Softmax": lambda inner, y_bar: inner[0] * y_bar,
}


@of_pair("batch normalisation without the path through the batch mean")
def batch_mean_term(s: Spot) -> Pair | None:
    return _without_statistic(s, np.ones_like)


@of_pair("batch normalisation without the path through the batch variance")
def batch_variance_term(s: Spot) -> Pair | None:
    return _without_statistic(s, lambda x_hat: x_hat)


def _without_statistic(s: Spot, direction: Callable[[Array], Array]) -> Pair | None:
    """The true x_bar plus the part of it that goes along `direction`, channel by channel."""
    if s.target.name != "BatchNormTraining" or s.which:
        return None

    def wrong(g: Array, call: tuple[Any, Array]) -> Array:
        (x_hat, weight, scale), y_bar = call[0][1], call[1]
        d = direction(x_hat)
        axes = (0, 2, 3) if x_hat.ndim == 4 else (0,)
        share = (y_bar * d).mean(axis=axes, keepdims=True)
        return np.asarray(g + d * share * _per_channel(weight * scale, x_hat))

    return with_result(s, wrong)


@of_pair("an option of the function is forgotten in its gradient: label smoothing, eps")
def option_forgotten(s: Spot) -> Pair | None:
    changed = {k: v for k, v in FORGOTTEN.items() if k in s.target.options}
    if not s.is_op or not changed:
        return None
    other = op_pair(s.target.name, {**s.target.options, **changed})
    return with_result(s, lambda _, call: other.vjp(other.forward(*call[0][0])[1], call[1])[s.which])


FORGOTTEN = {"label_smoothing": 0.0, "eps": 0.0, "beta": 1.0, "negative_slope": 0.0}
