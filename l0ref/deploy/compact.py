"""`compact`: a pruned model without its zeros, in the layers where that is smaller and faster.

A masked network is as large and as slow as the dense network: its zeros are stored and multiplied. Here each weight
array is stored as compressed sparse rows instead, if that is smaller and predicted to be faster on this machine.
Otherwise the layer does not change, and the reason is recorded.

    bytes     values and indices of 2 or 4 bytes, compared with all entries
    seconds   from a cost model that `l0ref calibrate` fits on the machine at hand: `Costs`. Without one, only
              bytes decide, and the reason says so
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from l0ref.deploy.costs import Costs
from l0ref.errors import ArgumentError
from l0ref.nn import Conv2d, Layer, Linear, Model, SparseConv2d, SparseLinear
from l0ref.nn.compiled import FEW, chain_of, is_lean
from l0ref.nn.sequence import mapped
from l0ref.sparse import Pattern
from l0ref.tables import preformatted, screen
from l0ref.validate import Array, count


@dataclass(frozen=True)
class Choice:
    """The form chosen for one weight array.

    name             of the weight
    form             "dense" or "sparse"
    why              the reason, in words
    density          entries that the sparse form stores, over all entries
    bytes_dense, bytes_sparse   of the weight in each form
    seconds_dense, seconds_sparse   predicted for one batch; None without a cost model
    """

    name: str
    form: str
    why: str
    density: float
    bytes_dense: int
    bytes_sparse: int
    seconds_dense: float | None
    seconds_sparse: float | None


@dataclass(frozen=True, repr=False)
class CompactModel:
    """A model with sparse layers, and the choice for each weight array."""

    model: Model
    choices: tuple[Choice, ...]

    def __repr__(self) -> str:
        """Return the table of the model and a line for each choice, cut to one screen."""
        return screen("\n".join([repr(self.model), *(f"{c.name} {c.form}: {c.why}" for c in self.choices)]))

    def _repr_html_(self) -> str:
        return preformatted(self)


def compact(model: Model, *, costs: Costs | None = None, batch_size: int = 128) -> CompactModel:
    """Return the model with a sparse layer for each weight array that gains from it.

    model       pruned: entries that are masked or, without a mask, 0 are not stored. The sparse layers need no masks
    costs       the cost model of this machine; None: the smaller form is chosen
    batch_size  samples per batch in the predictions

    The outputs of the two models agree within rounding, since sums are taken in another order.
    """
    count("batch_size", batch_size, least=1)
    choices = tuple(_choose(model, key, costs, batch_size) for key in _chosen(model, None))
    if costs is not None and costs.few and batch_size < FEW:
        choices = _in_one_pass(model, choices, costs)
    return CompactModel(sparse_twin(model, only=[c.name for c in choices if c.form == "sparse"]), choices)


def sparse_twin(model: Model, *, only: Sequence[str] | None = None) -> Model:
    """Return the model with the weight arrays named by `only`, or all, in sparse layers, whether faster or not."""
    patterns = {key: _pattern(model, key) for key in _chosen(model, only)}
    params = {key: patterns[key].gather(_matrix(p)) if key in patterns else p for key, p in model.params.items()}
    masks = {key: m for key, m in model.masks.items() if key not in patterns}
    architecture = mapped(model.architecture, lambda layer: _in_sparse(layer, patterns))
    return Model(architecture, model.input_shape, params, masks, model.buffers)


def _chosen(model: Model, only: Sequence[str] | None) -> tuple[str, ...]:
    """Return the weight arrays named by `only`, or all of them; refuse names that are unknown or already sparse."""
    if not isinstance(model, Model):
        raise ArgumentError(f"model is {type(model).__name__}, expected Model; pass .model of what compact returned")
    names = model.weights if only is None else tuple(only)
    if unknown := [name for name in names if name not in model.weights]:
        known = ", ".join(model.weights)
        raise ArgumentError(f"only has {unknown[0]!r}, which is not a weight array; choose from {known}")
    if sparse := [name for name in names if name in model.patterns]:
        raise ArgumentError(f"model is compact already: {sparse[0]!r} is sparse; compact the masked model")
    return names


def _choose(model: Model, key: str, costs: Costs | None, batch_size: int) -> Choice:
    pattern, w = _pattern(model, key), model.params[key]
    dense, sparse = w.nbytes, pattern.nbytes + pattern.nnz * w.itemsize
    seconds = costs.predict(model, key, pattern, batch_size=batch_size) if costs is not None else None
    slow, fast = seconds if seconds is not None else (None, None)
    share = f"{pattern.density:.2%} kept"
    if sparse >= dense:
        form, why = "dense", f"{share}: {sparse:,} bytes as sparse rows are no fewer than {dense:,}"
    elif slow is None or fast is None:
        form, why = "sparse", f"{share}: {dense:,} bytes become {sparse:,}; speed not calibrated on this machine"
    elif fast >= slow:
        form, why = "dense", f"{share}: smaller, but {fast * 1e6:.3g} us as sparse rows against {slow * 1e6:.3g} us"
    else:
        form, why = "sparse", f"{share}: {dense:,} bytes become {sparse:,}, {slow * 1e6:.3g} us become {fast * 1e6:.3g}"
    return Choice(key, form, why, pattern.density, dense, sparse, slow, fast)


def _in_one_pass(model: Model, choices: tuple[Choice, ...], costs: Costs) -> tuple[Choice, ...]:
    """Make all layers sparse that become smaller, if they are faster together: a few samples run through one chain."""
    smaller = [c for c in choices if c.bytes_sparse < c.bytes_dense]
    twin = sparse_twin(model, only=[c.name for c in smaller])
    chain = chain_of(twin.architecture, twin.input_shape, capacity=1, dtype=twin.dtype)
    if not smaller or not is_lean(twin) or chain is None:
        return choices
    dense, sparse = ([float(getattr(c, name) or 0) for c in smaller] for name in ("seconds_dense", "seconds_sparse"))
    calls = [costs.few[model.kinds[c.name]].sparse[0] for c in smaller]
    together, apart = sum(sparse) - sum(calls) + max(calls), sum(map(min, dense, sparse))
    if together >= apart:
        return choices
    end = f"with all sparse layers in one pass {together * 1e6:.3g} us, each for itself at best {apart * 1e6:.3g}"
    why = {c.name: f"{c.density:.2%} kept: {c.bytes_dense:,} bytes become {c.bytes_sparse:,}; {end}" for c in smaller}
    return tuple(dataclasses.replace(c, form="sparse", why=why[c.name]) if c.name in why else c for c in choices)


def _matrix(w: Array) -> Array:
    """Return a weight array as a matrix (outputs, rest)."""
    return w.reshape(w.shape[0], w.size // w.shape[0] if w.shape[0] else 0)


def _pattern(model: Model, key: str) -> Pattern:
    """Return the pattern of the mask or, without a mask, of the entries that are not 0."""
    return Pattern.from_mask(_matrix(model.masks[key] if key in model.masks else np.asarray(model.params[key] != 0)))


def _in_sparse(layer: Layer, patterns: Mapping[str, Pattern]) -> Layer:
    pattern = patterns.get(f"{layer.name}.weight")
    if pattern is not None and isinstance(layer, Linear):
        return SparseLinear(layer.name, layer.in_features, layer.out_features, pattern, layer.bias)
    if pattern is not None and isinstance(layer, Conv2d):
        return SparseConv2d(
            layer.name, layer.in_channels, layer.out_channels, layer.kernel_size, pattern,
            layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias,
        )  # fmt: skip
    return layer
