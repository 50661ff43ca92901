"""Loops for `l0ref.ops.normalization`: values, running statistics and cotangents, channel by channel."""

from __future__ import annotations

import math

import numpy as np

from tests.naive import F64, Index, places


def channel(x: F64, c: int) -> list[float]:
    """All values of channel c."""
    return [float(x[at]) for at in places(x.shape) if at[1] == c]


def mean_of(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def squares_of(values: list[float]) -> float:
    """Sum of squared deviations from the mean."""
    mean = mean_of(values)
    return math.fsum((v - mean) ** 2 for v in values)


def batch_norm_evaluation(
    x: F64, weight: F64, bias: F64, *, mean: list[float] | F64, var: list[float] | F64, eps: float
) -> F64:
    y = np.empty(x.shape)
    for at in places(x.shape):
        c = at[1]
        y[at] = weight[c] * (x[at] - mean[c]) / math.sqrt(var[c] + eps) + bias[c]
    return y


def batch_norm_training(x: F64, weight: F64, bias: F64, *, eps: float) -> F64:
    columns = [channel(x, c) for c in range(x.shape[1])]
    mean = [mean_of(values) for values in columns]
    var = [squares_of(values) / len(values) if values else 0.0 for values in columns]
    return batch_norm_evaluation(x, weight, bias, mean=mean, var=var, eps=eps)


def running_statistics(x: F64, mean: F64, var: F64, momentum: float) -> tuple[list[float], list[float]]:
    new_mean, new_var = [], []
    for c in range(x.shape[1]):
        values = channel(x, c)
        new_mean.append((1 - momentum) * mean[c] + momentum * mean_of(values))
        new_var.append((1 - momentum) * var[c] + momentum * squares_of(values) / (len(values) - 1))
    return new_mean, new_var


def batch_norm_training_vjp(y_bar: F64, x: F64, weight: F64, bias: F64, *, eps: float) -> list[F64]:
    """With d x_hat_i / d x_j = ([i = j] - 1/m) / sd - (x_i - mean) (x_j - mean) / (m sd^3), the whole Jacobian."""
    x_bar, weight_bar, bias_bar = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(bias.shape)
    for c in range(x.shape[1]):
        mine: list[Index] = [at for at in places(x.shape) if at[1] == c]
        values, m = channel(x, c), len(mine)
        if m == 0:
            continue
        mean, sd = mean_of(values), math.sqrt(squares_of(values) / m + eps)
        for i in mine:
            weight_bar[c] += y_bar[i] * (x[i] - mean) / sd
            bias_bar[c] += y_bar[i]
            for j in mine:
                slope = ((i == j) - 1 / m) / sd - (x[i] - mean) * (x[j] - mean) / (m * sd**3)
                x_bar[j] += y_bar[i] * weight[c] * slope
    return [x_bar, weight_bar, bias_bar]


def batch_norm_evaluation_vjp(
    y_bar: F64, x: F64, weight: F64, bias: F64, *, mean: F64, var: F64, eps: float
) -> list[F64]:
    x_bar, weight_bar, bias_bar = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(bias.shape)
    for at in places(x.shape):
        c = at[1]
        sd = math.sqrt(var[c] + eps)
        x_bar[at] = y_bar[at] * weight[c] / sd
        weight_bar[c] += y_bar[at] * (x[at] - mean[c]) / sd
        bias_bar[c] += y_bar[at]
    return [x_bar, weight_bar, bias_bar]
