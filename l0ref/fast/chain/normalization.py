"""Batch normalisation in a chain, with or without a ReLU: by the statistics of the batch, or of the past."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

import numpy as np

from l0ref.fast.chain import moments
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import MOVE, threads_for
from l0ref.fast.machine.scratch import room
from l0ref.validate import Array


class Norm(NamedTuple):
    """A batch normalisation: its name, the prefix of its arrays, and its two constants."""

    name: str
    momentum: float
    eps: float

    def line(self, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
        """Return factor and shift of each channel by the running statistics: y = factor x + shift.

        Rounding: the truth subtracts the mean first. Where |mean| is much larger than the spread, digits of the
        difference are lost: up to |mean| / sqrt(var) units in the last place.
        """
        names = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, var = (arrays[f"{self.name}.{part}"] for part in names)
        factor = weight * (1 / np.sqrt(var + self.eps))
        return factor, bias - mean * factor

    def moved(self, buffers: Mapping[str, Array], mean: Array, var: Array, m: int) -> dict[str, Array]:
        """Return the running statistics after a batch of m numbers a channel with this mean and biased variance."""
        keep, unbiased = 1 - self.momentum, var * (m / (m - 1))
        names = f"{self.name}.running_mean", f"{self.name}.running_var"
        new = (keep * buffers[k] + self.momentum * v for k, v in zip(names, (mean, unbiased), strict=True))
        return dict(zip(names, new, strict=True))


class NormalizationStage:
    """One layer in training; weight and bias are passed to every call.

    x, y   activations before and after; the cotangent of y is overwritten by `backward`
    found  mean, biased variance and 1 / sqrt(variance + eps) of each channel of the last batch
    """

    def __init__(self, x: Activation, norm: Norm, *, relu: bool) -> None:
        self.x, self.y, self.norm = x, x.like(), norm
        channels, height, width = x.shape
        self.pixels = height * width
        self.floor = np.array([0.0 if relu else -inf], x.dtype)
        self.consts = np.array([0.0, 1 / self.pixels, norm.eps], x.dtype)
        self.found = np.zeros(channels, x.dtype), np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples, and `found`."""
        x, y, self.count, self.given = self.x, self.y, count, (weight, bias, self.floor)
        moments.normalized(x.value, y.value, self.given, self.found, *self._run(0))

    def backward(self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int) -> None:
        """Fill the cotangents of weight and bias, and that of x if it is wanted, from that of y."""
        x, y = self.x, self.y
        x_bar = x.value if x.is_data else x.bar  # the values are not written
        bars = weight_bar, bias_bar
        moments.cotangents((x.value, y.bar, x_bar), self.given, self.found, bars, *self._run(int(not x.is_data)))

    def moved(self, buffers: Mapping[str, Array]) -> dict[str, Array]:
        """Return the running statistics after the last batch."""
        return self.norm.moved(buffers, *self.found[:2], self.count * self.pixels)

    def _run(self, wants_x: int) -> tuple[Any, ...]:
        x, threads = self.x, threads_for(MOVE * self.count * self.x.entries)
        memory = room("moments", threads * 2 * x.blocks * x.lanes, x.dtype)
        return self.consts, memory, x.geometry(self.y), (self.count, self.pixels, x.lanes, wants_x), threads


class AffineStage:
    """A factor for each channel times x, plus a shift: by the running statistics, if no product precedes it."""

    def __init__(self, x: Activation, *, relu: bool) -> None:
        self.x, self.y, self.floor = x, x.like(), 0.0 if relu else -inf

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples from factors and shifts."""
        blocks, channels = -(-count // self.x.lanes), self.x.shape[0]
        x, y = (a.inside(blocks) for a in (self.x, self.y))
        for f in range(channels):
            np.multiply(x[f::channels], weight[f], out=y[f::channels])
            y[f::channels] += bias[f]
        np.maximum(y, self.floor, out=y)
