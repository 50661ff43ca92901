"""Batch normalisation: shift and scale every channel to mean 0 and variance 1, then to a learnt mean and spread.

Axis letters: n batch, c channel, h w image. The statistics of channel c run over n, or over n, h and w: over m values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.ops.inputs import as_tensor
from l0ref.validate import Array, between, flag, float_array, positive, same_dtype


class BatchNormTraining(Op):
    """y = weight x_hat + bias with x_hat = (x - mean) / sqrt(var + eps), mean and var those of the batch itself.

    Shapes   x (N, C) or (N, C, H, W), weight (C), bias (C)  ->  y like x
    Here     mean = sum_nhw x / m,  var = sum_nhw (x - mean)^2 / m (the biased one),  m = N or N H W
    VJP      bias_bar = sum_nhw y_bar     weight_bar = sum_nhw y_bar x_hat
             x_bar = weight / sqrt(var + eps) (y_bar - bias_bar / m - x_hat weight_bar / m)
             The two subtracted terms are the paths through mean and var: x_bar sums to 0 over each channel.
    Ref      Ioffe, Szegedy, arXiv:1502.03167, algorithm 1 and the formulas of section 3
    """

    @staticmethod
    def forward(x: Array, weight: Array, bias: Array, *, eps: float) -> tuple[Array, Saved]:
        mean, var = batch_statistics(x)
        scale = 1 / np.sqrt(var + eps)
        x_hat = (x - _wide(mean, x)) * _wide(scale, x)
        return x_hat * _wide(weight, x) + _wide(bias, x), (x_hat, weight, scale)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
        x_hat, weight, scale = saved
        bias_bar = _channel_sum(y_bar)
        weight_bar = _channel_sum(y_bar * x_hat)

        def x_bar() -> Array:
            m = max(_values_per_channel(x_hat), 1)
            through_statistics = _wide(bias_bar / m, x_hat) + x_hat * _wide(weight_bar / m, x_hat)
            return np.asarray((y_bar - through_statistics) * _wide(weight * scale, x_hat))

        return x_bar, weight_bar, bias_bar


class BatchNormEvaluation(Op):
    """y = weight x_hat + bias with x_hat = (x - mean) / sqrt(var + eps), mean and var given constants.

    Shapes   x (N, C) or (N, C, H, W), weight (C), bias (C), mean (C), var (C)  ->  y like x
    VJP      x_bar = y_bar weight / sqrt(var + eps)     weight_bar = sum_nhw y_bar x_hat     bias_bar = sum_nhw y_bar
    """

    @staticmethod
    def forward(x: Array, weight: Array, bias: Array, *, mean: Array, var: Array, eps: float) -> tuple[Array, Saved]:
        scale = 1 / np.sqrt(var + eps)
        x_hat = (x - _wide(mean, x)) * _wide(scale, x)
        return x_hat * _wide(weight, x) + _wide(bias, x), (x_hat, weight, scale)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
        x_hat, weight, scale = saved
        return (
            lambda: y_bar * _wide(weight * scale, x_hat),
            lambda: _channel_sum(y_bar * x_hat),
            lambda: _channel_sum(y_bar),
        )


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Array, Array]:
    """Normalise each channel of (N, C) or (N, C, H, W); return the result and the running mean and variance after it.

    training=True   uses the statistics of this batch. The running values move towards them,
                    running = (1 - momentum) running + momentum batch, where the variance is the unbiased one,
                    sum (x - mean)^2 / (m - 1), although the biased one normalises; an empty batch moves nothing.
    training=False  uses the running values as constants and returns them unchanged.

    weight, bias    (C), or None for 1 and 0
    running values  arrays (C); they are never written to, and the returned arrays are fresh
    """
    x = as_tensor("input", input)
    if x.ndim not in (2, 4):
        raise ShapeError(f"input has shape {x.shape}, expected (N, C) or (N, C, H, W); reshape it to one of these")
    channels = x.shape[1]
    w = as_tensor("weight", np.ones(channels, x.dtype) if weight is None else weight)
    b = as_tensor("bias", np.zeros(channels, x.dtype) if bias is None else bias)
    mean, var = float_array("running_mean", running_mean), float_array("running_var", running_var)
    per_channel = {"running_mean": mean, "running_var": var, "weight": w.data, "bias": b.data}
    for name, v in per_channel.items():
        if v.shape != (channels,):
            raise ShapeError(
                f"{name} has shape {v.shape}, expected ({channels},): one number for each channel of input"
            )
    same_dtype(input=x.data, **per_channel)
    if (var < 0).any():
        raise ArgumentError(f"running_var holds {var.min()}, which no variance can be; start from ones")
    positive("eps", eps)
    if flag("training", training):
        mean, var = _moved(x.data, mean, var, between("momentum", momentum, 0.0, 1.0))
        return apply(BatchNormTraining, x, w, b, eps=eps), mean, var
    return apply(BatchNormEvaluation, x, w, b, mean=mean, var=var, eps=eps), mean.copy(), var.copy()


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Return mean and biased variance of each channel, (C) and (C); both 0 for an empty batch."""
    m = max(_values_per_channel(x), 1)
    mean = _channel_sum(x) / m
    return mean, _channel_sum((x - _wide(mean, x)) ** 2) / m


def _moved(x: Array, mean: Array, var: Array, momentum: float) -> tuple[Array, Array]:
    """Return the running values after the batch x."""
    m = _values_per_channel(x)
    if m == 1:
        raise ShapeError(
            f"input has shape {x.shape}, one value per channel, whose variance is undefined; "
            "train on a larger batch, or pass training=False; fit with drop_last=True leaves out a last batch of one"
        )
    if m == 0:
        return mean.copy(), var.copy()
    batch_mean, batch_var = batch_statistics(x)
    unbiased = batch_var * (m / (m - 1))
    return (1 - momentum) * mean + momentum * batch_mean, (1 - momentum) * var + momentum * unbiased


def _values_per_channel(x: Array) -> int:
    return x.size // x.shape[1] if x.shape[1] else 0


def _channel_sum(x: Array) -> Array:
    """nc -> c, or nchw -> c."""
    return np.asarray(x.sum(axis=(0, 2, 3) if x.ndim == 4 else 0))


def _wide(v: Array, x: Array) -> Array:
    """c -> c, or c11: so that it broadcasts along the channels of x."""
    return v[:, None, None] if x.ndim == 4 else v
