"""Coresets of neurons: keep a sample of the units of each hidden layer, and reweight their outgoing weights.

    s_i   = max_k |q_ki| |phi(beta ||p_i||)|     sensitivity of unit i: p_i its incoming weights and bias, q_ki the
                                                 weights that read it, phi the activation behind it, beta a bound of
                                                 ||(x, 1)||
    pr_i  = s_i / sum_j s_j
    draw units with replacement until as many distinct units are drawn as are to stay: c_i draws of unit i, m in all
    u_ki  = q_ki c_i / (m pr_i)                  new outgoing weights of a drawn unit; the other units go

Layers are processed from the last to the first, so that q holds the weights left after the layer above was pruned. Only
weights and beta are read.

Facts    For a fixed m the sum is unbiased for every input, E[sum_i u_ki phi_i] = sum_i q_ki phi_i = f_k, with variance
         (sum_i (q_ki phi_i)^2 / pr_i - f_k^2) / m; the error falls as m^-1/2. For ReLU pr does not depend on beta. The
         size of the network depends on the number of distinct units, not on m.
Ref      Mussay, Osadchy, Braverman, Zhou, Feldman, ICLR 2020 (arXiv 1907.04018), and the released code: draws until a
         number of distinct units is found; the baselines "uniform" and "norm".
Departs  Convolutions are ours [I]: p_i is the filter, and q_ki every weight that reads the channel. Batch normalisation
         between a layer and its activation is not seen: s_i is as if it changed nothing. At most 200 n draws are made
         for n units; if too few are drawn, the likeliest of the others stay. How the authors share a budget among
         layers is unknown [U]: here every layer loses the same share of its units.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from l0ref.autodiff.tensor import Tensor
from l0ref.data import Splits
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Model
from l0ref.nn.activations import ELEMENTWISE
from l0ref.nn.sequence import leaves
from l0ref.pruning.axes import Axes, coupled_axes
from l0ref.pruning.shrink import mask_units
from l0ref.pruning.units import already_gone, fits, free_axes
from l0ref.streams import stream
from l0ref.validate import Array, choose, positive

SAMPLING = ("coreset", "uniform", "norm")
PARTS = 1000  # how finely the common share of units is searched
DRAWS = 200  # at most, times the number of units


@method(
    "coreset", paper="Mussay et al. 2020", kind="structured", reads=("weights",), grain="unit",
    records=("probabilities", "counts", "draws", "units"), marks="[I][U]", random=True,
)  # fmt: skip
def coreset(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    radius: float = 1.0, sampling: str = "coreset",
) -> Pruned:  # fmt: skip
    """Keep a weighted sample of the units of every hidden layer.

    amount    of weights, at most, and with scope="layer" of the weights of every layer; either way all layers lose the
              same share of their units
    radius    beta, the bound of the norm of a layer's input with a 1 appended
    sampling  "coreset"; or the baselines "uniform" (any unit, no reweighting) and "norm" (the largest ||p_i||)
    record    by axis: probabilities pr_i, counts c_i, draws m; units {layer: indices of removed units}
    """
    choose("sampling", sampling, SAMPLING)
    positive("radius", radius)
    low, high = 0, PARTS
    while low < high:
        middle = (low + high + 1) // 2
        small, _ = sampled(model, middle / PARTS, seed=seed, radius=radius, sampling=sampling)
        low, high = (middle, high) if fits(model, small, amount, scope, min_keep) else (low, middle - 1)
    return Pruned(*sampled(model, low / PARTS, seed=seed, radius=radius, sampling=sampling))


def sampled(
    model: Model, share: float, *, seed: int, radius: float = 1.0, sampling: str = "coreset"
) -> tuple[Model, dict[str, Any]]:
    """Return the network without a share of the units of every hidden layer, and the record of `coreset`."""
    axes = coupled_axes(model)
    record: dict[str, Any] = {"probabilities": {}, "counts": {}, "draws": {}, "units": {}}
    for number, axis in reversed(list(enumerate(free_axes(model)))):
        n = axes.sizes[axis]
        gone = min(int(share * n), n - 1)
        pr = probabilities(model, axes, axis, radius=radius, sampling=sampling)
        if gone <= np.count_nonzero(pr == 0):  # at least as many units have no effect already
            continue
        rng = stream(seed, "prune", number)
        counts, draws = draw(pr, n - gone, rng) if sampling != "norm" else (largest(pr, n - gone), 0)
        if sampling == "coreset":
            model = reweighted(model, axes, axis, np.divide(counts, draws * pr, out=np.ones(n), where=pr > 0))
        units = {axes.writers(axis)[0]: np.flatnonzero(counts == 0).tolist()}
        model = mask_units(model, units)
        record["probabilities"][axis], record["counts"][axis], record["draws"][axis] = pr, counts, draws
        record["units"] |= units
    return model, record


def probabilities(model: Model, axes: Axes, axis: str, *, radius: float = 1.0, sampling: str = "coreset") -> Array:
    """Return pr_i of the units of an axis; all equal if every sensitivity is 0, 0 for "uniform" if it went before."""
    n, s = axes.sizes[axis], np.zeros(axes.sizes[axis])
    if sampling == "uniform":
        s = np.where(already_gone(model)[axis], 0.0, 1.0)
        return s / s.sum() if s.any() else np.full(n, 1 / n)
    for name in axes.writers(axis):
        w, bias = model.params[f"{name}.weight"], model.params.get(f"{name}.bias")
        rows = w.reshape(n, -1).astype(np.float64)
        size = np.sqrt((rows**2).sum(axis=1) + (0 if bias is None else bias.astype(np.float64) ** 2))
        s = s + (size if sampling == "norm" else np.abs(_phi(model, name, radius * size)))
    if sampling == "coreset":
        s = s * np.max(
            [np.abs(part).max(axis=(0, 2), initial=0.0) for part in _read(model, axes, axis).values()], axis=0
        )
    return s / s.sum() if s.sum() > 0 else np.full(n, 1 / n)


def draw(pr: Array, distinct: int, rng: np.random.Generator) -> tuple[Array, int]:
    """Draw with replacement until `distinct` units were seen; return the count of each unit and the number of draws."""
    order = rng.choice(pr.size, size=DRAWS * pr.size, p=pr)
    _, first = np.unique(order, return_index=True)
    if first.size < distinct:  # some units are too unlikely to be drawn: the likeliest of them stay, counted once
        counts = np.bincount(order, minlength=pr.size)
        rest = np.flatnonzero(counts == 0)
        counts[rest[np.argsort(-pr[rest], kind="stable")][: distinct - first.size]] = 1
        return counts, order.size
    draws = int(np.sort(first)[distinct - 1]) + 1
    return np.bincount(order[:draws], minlength=pr.size), draws


def largest(size: Array, distinct: int) -> Array:
    """Counts 1 for the `distinct` largest, the lower index first among equals, and 0 for the others."""
    counts = np.zeros(size.size, np.intp)
    counts[np.argsort(-size, kind="stable")[:distinct]] = 1
    return counts


def reweighted(model: Model, axes: Axes, axis: str, factor: Array) -> Model:
    """Return the network with every weight that reads unit i of the axis multiplied by factor[i]."""
    params = dict(model.params)
    for key, part in _read(model, axes, axis).items():
        params[key] = (part * factor[None, :, None]).reshape(params[key].shape).astype(params[key].dtype)
    return model.replace(params=params)


def _read(model: Model, axes: Axes, axis: str) -> Mapping[str, Array]:
    """Return the weights that read an axis, by array, as (outputs, units, weights per unit), in float64."""
    arrays = {f"{name}.weight": model.params[f"{name}.weight"] for name in axes.readers(axis)}
    n = axes.sizes[axis]
    return {key: w.astype(np.float64).reshape(len(w), n, prod(w.shape[1:]) // n) for key, w in arrays.items()}


def _phi(model: Model, name: str, x: Array) -> Array:
    """Return the activation behind a layer, at x; x itself if there is none before the next layer with weights."""
    layers = list(leaves(model.architecture))
    place = next(i for i, layer in enumerate(layers) if layer.name == name)
    for layer in layers[place + 1 :]:
        if isinstance(layer, ELEMENTWISE):
            return np.asarray(layer.forward(Tensor(x[None]), {}, {}, training=False, rng=None)[0].data[0])
        if layer.weights():
            break
    return x
