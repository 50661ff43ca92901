"""Loops for `l0ref.ops.activation`."""

from __future__ import annotations

import math

from tests.naive import F64, each


def relu(x: F64) -> F64:
    return each(lambda p: p if p > 0 else 0.0, x)


def leaky_relu(x: F64, *, negative_slope: float) -> F64:
    return each(lambda p: p if p > 0 else negative_slope * p, x)


def sigmoid(x: F64) -> F64:
    return each(lambda p: 1 / (1 + math.exp(-p)), x)


def tanh(x: F64) -> F64:
    return each(lambda p: (math.exp(p) - math.exp(-p)) / (math.exp(p) + math.exp(-p)), x)


def softplus(x: F64, *, beta: float, threshold: float) -> F64:
    return each(lambda p: p if beta * p > threshold else math.log(1 + math.exp(beta * p)) / beta, x)
