"""Every number a report shows, each with one definition.

The word list:

    size                 weights of Linear and Conv2d layers; no biases, no batch normalisation
    size_nz              weights that are not exactly 0
    sparsity             (size - size_nz) / size
    compression_ratio    size / size_nz
    flops                multiply-adds of one sample: sum over weights of how often each is used
    flops_nz             the same over non-zero weights
    theoretical_speedup  flops / flops_nz: what a machine that skips every zero for free would gain
    measured_speedup     seconds of the dense network / seconds of this one, both measured
    bytes_dense          all parameters as plain arrays
    bytes_csr            weights as compressed sparse rows (value, 4-byte column, 4-byte row pointers),
                         the other parameters as plain arrays
    bytes_stored         the arrays of this model as they are: parameters, buffers and patterns of sparse layers
    acc1                 samples classified correctly / samples; NaN for a regression
    r2                   1 - sum (y - y')^2 / sum (y - mean y)^2 of a regression, the mean of each output over the
                         samples; 0 predicts the mean. NaN for classes, and where the targets do not vary
    loss                 mean cross-entropy, natural logarithm, or mean squared error of a regression; without penalty

A worked example, small enough to check by hand. A 2x3 layer with 2 of its 6 weights kept: size 6,
size_nz 2, sparsity 4/6, compression 3; used once per sample, so flops 6, flops_nz 2, speed-up 3. In
float32 the 6 weights and 2 biases take 32 bytes; as CSR 2 (4 + 4) + (2 + 1) 4 + 2 4 = 36 bytes: a
layer this small does not get smaller.

>>> import numpy as np
>>> from l0ref import metrics, nn
>>> fc = nn.Linear("fc", 3, 2)
>>> w = np.array([[1, 0, 0], [0, 0, -2]], np.float32)
>>> net = nn.Model((fc,), (3,), {"fc.weight": w, "fc.bias": np.zeros(2, np.float32)})
>>> {name: round(value, 3) for name, value in metrics.of(net).items()}  # doctest: +NORMALIZE_WHITESPACE
{'size': 6, 'size_nz': 2, 'sparsity': 0.667, 'compression_ratio': 3.0, 'flops': 6, 'flops_nz': 2,
 'theoretical_speedup': 3.0, 'bytes_dense': 32, 'bytes_csr': 36}
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from l0ref.data import Dataset
from l0ref.errors import ArgumentError, DTypeError
from l0ref.masks import removed
from l0ref.nn import Model
from l0ref.ops import cross_entropy
from l0ref.validate import Array

INDEX_BYTES = 4


class Score(NamedTuple):
    """Quality of a model on a data set: mean loss, share of correct answers, samples, share of variance explained."""

    loss: float
    acc1: float
    n: int
    r2: float = math.nan

    @property
    def quality(self) -> float:
        """acc1, or r2 of a regression: 1 is perfect."""
        return self.r2 if math.isnan(self.acc1) else self.acc1

    @property
    def rmse(self) -> float:
        """Root of the mean squared error of a regression, in units of the target."""
        return math.sqrt(self.loss)


def evaluate(model: Model, data: Dataset, *, batch_size: int = 256) -> Score:
    """Return loss and accuracy (R^2 of a regression) over all samples; sums are divided once, at the end."""
    if not isinstance(data, Dataset):
        raise ArgumentError(f"data is {type(data).__name__}, expected Dataset(x, y, classes, name)")
    check_type("data.x", model, data.x)
    n = len(data)
    if not n:
        return Score(math.nan, math.nan, 0)
    logits = model.logits(data.x, batch_size=batch_size)
    if not data.classes:
        loss = float(np.square(logits - data.y).mean(dtype=np.float64))
        variance = float(np.var(data.y, axis=0, dtype=np.float64).mean())
        return Score(loss, math.nan, n, 1 - loss / variance if variance else math.nan)
    losses = cross_entropy(logits, data.y, reduction="none").data
    return Score(float(losses.sum(dtype=np.float64)) / n, int((logits.argmax(axis=1) == data.y).sum()) / n, n)


def check_type(name: str, model: Model, x: Array) -> None:
    """Refuse samples of another floating-point type than the network's."""
    if model.params and x.dtype != model.dtype:
        raise DTypeError(
            f"{name} has dtype {x.dtype}, the network {model.dtype}; use model.astype({x.dtype.name!r}), or pass "
            f"dtype={model.dtype.name!r} to data.load or data.from_arrays"
        )


def of(model: Model) -> dict[str, Any]:
    """Return the metrics that follow from the arrays of a model alone, by name."""
    return _totals(layers(model)) | {"bytes_dense": bytes_dense(model), "bytes_csr": bytes_csr(model)}


def layers(model: Model) -> list[dict[str, Any]]:
    """Return one row per weight array: name, kind, shape and the metrics that make sense for a single layer."""
    rows = []
    for key in model.weights:
        w = model.params[key]
        size, size_nz, uses = model.sizes[key], int(np.count_nonzero(w)), model.positions[key]
        row = {"name": key, "kind": model.kinds[key], "shape": list(w.shape)}
        rows.append(row | _ratios(size, size_nz, size * uses, size_nz * uses))
    return rows


def pruned_count(model: Model) -> int:
    """Return how many weights the masks of a model remove."""
    return removed(model.masks)


def bytes_dense(model: Model) -> int:
    """Bytes of all parameters as plain arrays."""
    return sum(model.sizes.get(key, p.size) * p.itemsize for key, p in model.params.items())


def bytes_csr(model: Model) -> int:
    """Bytes of the parameters with every weight array as CSR of shape (outputs, rest), 4-byte indices."""
    total = 0
    for key, p in model.params.items():
        if key in model.kinds:
            rows = model.patterns[key].shape[0] if key in model.patterns else p.shape[0]
            total += int(np.count_nonzero(p)) * (p.itemsize + INDEX_BYTES) + (rows + 1) * INDEX_BYTES
        else:
            total += p.nbytes
    return total


def bytes_stored(model: Model) -> int:
    """Bytes of all arrays a forward pass reads: parameters as they are, buffers, and the patterns of sparse layers."""
    arrays = (*model.params.values(), *model.buffers.values(), *model.patterns.values())
    return sum(a.nbytes for a in arrays)


def share_below(weights: Mapping[str, Array], sizes: Mapping[str, int], threshold: float) -> float:
    """Share of weights with |w| < threshold; weights that a sparse layer does not store are 0. 0 without weights.

    weights  arrays by key        sizes  number of weights of each, stored or not
    """
    n = sum(sizes[key] for key in weights)
    return 1 - sum(int((np.abs(w) >= threshold).sum()) for w in weights.values()) / n if n else 0.0


def sparsity(weights: Mapping[str, Array], sizes: Mapping[str, int]) -> float:
    """Share of exact zeros among weights; arguments as in `share_below`."""
    n = sum(sizes[key] for key in weights)
    return 1 - sum(int(np.count_nonzero(w)) for w in weights.values()) / n if n else 0.0


def latencies(models: Sequence[Model], x: Array, *, rounds: int = 15) -> list[float]:
    """Return for each model the median seconds of a forward pass over `x`; see `lap_seconds`."""
    return [statistics.median(found) for found in lap_seconds(models, x, rounds=rounds)]


def lap_seconds(models: Sequence[Model], x: Array, *, rounds: int = 15) -> list[list[float]]:
    """Return for each model the seconds of a forward pass over `x` in each of `rounds` rounds.

    Each model runs once in every round, so that a machine that slows down affects all of them; every second round runs
    in reverse order. The first round, in which kernels may be compiled, is not counted.
    """
    seconds: list[list[float]] = [[] for _ in models]
    for turn in range(rounds + 1):
        pairs = list(zip(models, seconds, strict=True))
        for model, found in pairs if turn % 2 else reversed(pairs):
            start = time.perf_counter()
            model.logits(x, batch_size=max(len(x), 1))
            if turn:
                found.append(time.perf_counter() - start)
    return seconds


def _totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return _ratios(*(sum(row[name] for row in rows) for name in ("size", "size_nz", "flops", "flops_nz")))


def _ratios(size: int, size_nz: int, flops: int, flops_nz: int) -> dict[str, Any]:
    return {
        "size": size,
        "size_nz": size_nz,
        "sparsity": (size - size_nz) / size if size else 0.0,
        "compression_ratio": _ratio(size, size_nz),
        "flops": flops,
        "flops_nz": flops_nz,
        "theoretical_speedup": _ratio(flops, flops_nz),
    }


def _ratio(whole: int, part: int) -> float:
    if part:
        return whole / part
    return math.inf if whole else 1.0
