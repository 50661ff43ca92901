"""A model is a value: an architecture and the arrays that fill it.

    architecture   tuple of frozen layer descriptions, JSON-able
    params         weights and biases, by full name: "fc1.weight", "conv2.bias", ...
    masks          True where a weight is kept; a weight array without a mask is not pruned
    buffers        running statistics

Functions take a model and return a new one. The arrays of a model are never written by this package.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ArgumentError, ConfigError, DTypeError, ShapeError
from l0ref.masks import masked
from l0ref.nn.compiled import chain_is_faster, kept_chain
from l0ref.nn.layer import AnyPattern, Layer, Shape, from_json, to_json
from l0ref.nn.sequence import leaves, run, shapes
from l0ref.nn.sparse import SparseConv2d, SparseLinear
from l0ref.streams import stream
from l0ref.tables import preformatted, summary
from l0ref.validate import FLOATS, Array, count, fitting_masks, flag, float_array, float_type, mapping, plain_array

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")  # names of arrays that a model file can hold


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A network with its parameters; the docstring of the module describes the fields.

    Construction checks that names and shapes fit the architecture, that all float arrays share one
    dtype, and that masked weights are exactly zero.

    >>> from l0ref import nn
    >>> net = nn.digits_mlp(seed=0)
    >>> net.size, net.n_parameters
    (50200, 50610)
    """

    architecture: tuple[Layer, ...]
    input_shape: Shape
    params: Mapping[str, Array]
    masks: Mapping[str, Array] = field(default_factory=dict)
    buffers: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", _input_shape(self.input_shape))
        _check_names(self.architecture)
        shapes(self.architecture, self.input_shape)
        _check_arrays("params", self.params, self._shapes)
        _check_arrays("buffers", self.buffers, self._buffer_shapes)
        _check_one_dtype({"params": self.params, "buffers": self.buffers})
        _check_masks(self.masks, self.params, self.weights)

    @classmethod
    def init(cls, architecture: Sequence[Layer], *, input_shape: Shape, seed: int, dtype: Any = np.float32) -> Model:
        """Return a model with freshly drawn parameters; the same seed gives the same bits."""
        dtype = float_type(dtype)
        shape, rng = _input_shape(input_shape), stream(seed, "init")
        params = {k: v for layer in architecture for k, v in layer.parameters(rng=rng, dtype=dtype).items()}
        buffers = {k: v for layer in architecture for k, v in layer.buffers(dtype=dtype).items()}
        return cls(tuple(architecture), shape, params, {}, buffers)

    def __repr__(self) -> str:
        return summary(self, shapes(self.architecture, self.input_shape))

    def _repr_html_(self) -> str:
        return preformatted(self)

    def replace(self, **changes: Any) -> Model:
        """Return a copy with other `params`, `masks` or `buffers`; weights are set to zero where masks say so."""
        masks = changes.get("masks", self.masks)
        params = dict(mapping("params", changes.get("params", self.params)))
        fitting_masks({k: m for k, m in mapping("masks", masks).items() if k in params}, params)
        changes["params"] = params | {k: masked(params[k], m) for k, m in masks.items() if k in params}
        return dataclasses.replace(self, **changes)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of each weight array, "linear" or "conv", in the order of the layers."""
        return {k: w.kind for layer in self.architecture for k, w in layer.weights().items()}

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the arrays that are penalised, pruned and counted: no biases, no batch normalisation."""
        return tuple(self.kinds)

    @cached_property
    def positions(self) -> dict[str, int]:
        """How often each weight is used in one forward pass of one sample, by weight array."""
        found: dict[str, int] = {}
        for layer, shape in zip(self.architecture, shapes(self.architecture, self.input_shape), strict=False):
            found |= layer.positions(shape)
        return found

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of weights of each weight array, pruned ones and those a sparse layer does not store included."""
        return {k: w.size for layer in self.architecture for k, w in layer.weights().items()}

    @cached_property
    def patterns(self) -> dict[str, AnyPattern]:
        """Pattern of the stored entries of each weight array of a sparse layer."""
        sparse = (layer for layer in leaves(self.architecture) if isinstance(layer, SparseLinear | SparseConv2d))
        return {f"{layer.name}.weight": layer.pattern for layer in sparse}

    @property
    def size(self) -> int:
        """Number of weights; biases are not counted."""
        return sum(self.sizes.values())

    @property
    def n_parameters(self) -> int:
        """Number of all parameters, biases and batch normalisation included."""
        return sum(p.size for p in self.params.values())

    @property
    def output_shape(self) -> Shape:
        """Shape of the outputs for one sample."""
        return shapes(self.architecture, self.input_shape)[-1]

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.output_shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of all parameters."""
        return next((p.dtype for p in self.params.values()), np.dtype(np.float32))

    def mask(self, key: str) -> Array:
        """Return the mask of one weight array; all True if it was never pruned."""
        return self.masks[key] if key in self.masks else np.ones(self.params[key].shape, dtype=bool)

    def astype(self, dtype: Any) -> Model:
        """Return the same model in float32 or float64."""
        dtype = float_type(dtype)
        params = {k: v.astype(dtype) for k, v in self.params.items()}
        buffers = {k: v.astype(dtype) for k, v in self.buffers.items()}
        return dataclasses.replace(self, params=params, buffers=buffers)

    def forward(
        self,
        x: Any,
        *,
        params: Mapping[str, Tensor] | None = None,
        training: bool = False,
        rng: np.random.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Array]]:
        """Return the logits of a batch on the tape, and all buffers after the pass.

        params    tensors to use instead of the model's own arrays, to differentiate with respect to them
        training  use batch statistics and dropout
        rng       drives dropout; required if the network has a Dropout layer and `training` is set
        """
        batch = x if isinstance(x, Tensor) else Tensor(x)
        self.check_input("x", batch)
        values = params if params is not None else {k: Tensor(v) for k, v in self.params.items()}
        y, changed = run(self.architecture, batch, values, self.buffers, training=flag("training", training), rng=rng)
        return y, {**self.buffers, **changed}

    def check_input(self, name: str, x: Array | Tensor) -> None:
        """Refuse samples whose shape is not `input_shape`."""
        if x.shape[1:] != self.input_shape:
            expected = ", ".join(("N", *map(str, self.input_shape)))
            sizes = ", ".join(map(str, (-1, *self.input_shape)))
            remedy = f"; use .reshape({sizes})" if x.ndim and x.size == len(x) * prod(self.input_shape) else ""
            remedy = f"; give one sample as {name}[None]" if x.shape == self.input_shape else remedy
            raise ShapeError(f"{name} has shape {x.shape}, expected ({expected}) with N samples{remedy}")

    def logits(self, x: Array, *, batch_size: int = 256) -> Array:
        """Return the outputs for all rows of `x` in evaluation mode, computed `batch_size` rows at a time."""
        x = float_array("x", x)
        self.check_input("x", x)
        rows = min(count("batch_size", batch_size, least=1), max(len(x), 1))
        if chain_is_faster(self, x, rows=rows):
            _check_arrays("params", self.params, self._shapes)  # kernels do not check, and a dict may have changed
            _check_arrays("buffers", self.buffers, self._buffer_shapes)
            _check_one_dtype({"params": self.params} | ({"buffers": self.buffers} if self.buffers else {}))
            with kept_chain(self, capacity=rows) as chain:
                if chain is not None:
                    orders = (np.arange(i, min(i + rows, len(x))) for i in range(0, len(x), rows))
                    return np.concatenate([chain.logits({**self.params, **self.buffers}, x, order) for order in orders])
        values = {k: Tensor(v) for k, v in self.params.items()}
        starts = range(0, max(len(x), 1), rows)
        return np.concatenate([self.forward(x[i : i + rows], params=values)[0].data for i in starts])

    @cached_property
    def _shapes(self) -> Mapping[str, Shape]:
        """Shapes of the parameters, by name."""
        return _array_shapes(self.architecture, "parameters")

    @cached_property
    def _buffer_shapes(self) -> Mapping[str, Shape]:
        """Shapes of the buffers, by name."""
        return _array_shapes(self.architecture, "buffers")

    def predict(self, x: Array, *, batch_size: int = 256) -> Array:
        """Return the class with the largest output for each row of `x`; among equals the lowest class."""
        return np.asarray(self.logits(x, batch_size=batch_size).argmax(axis=1))

    def architecture_json(self) -> dict[str, Any]:
        """Return architecture and input shape as JSON-able values; `architecture_from_json` reads them back."""
        return {"input_shape": list(self.input_shape), "layers": [to_json(layer) for layer in self.architecture]}


def architecture_from_json(
    description: Mapping[str, Any], *, patterns: Mapping[str, AnyPattern] | None = None
) -> tuple[tuple[Layer, ...], Shape]:
    """Return (architecture, input_shape) from the output of `Model.architecture_json` and `Model.patterns`."""
    try:
        layers = tuple(from_json(layer, patterns=patterns) for layer in description["layers"])
        return layers, tuple(count("input_shape", size) for size in description["input_shape"])
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"architecture is not the description of a model: {error}; write it with architecture_json()"
        ) from None


def _array_shapes(architecture: tuple[Layer, ...], what: str) -> Mapping[str, Shape]:
    """Names and shapes of the arrays the layers need; cached, since every epoch makes a model of the same layers."""
    try:
        return _drawn_shapes(architecture, what)
    except TypeError:  # a layer of a class that cannot be hashed
        return _drawn_shapes.__wrapped__(architecture, what)


@lru_cache(maxsize=16)
def _drawn_shapes(architecture: tuple[Layer, ...], what: str) -> Mapping[str, Shape]:
    """The same, from arrays that are drawn once and discarded."""
    rng = np.random.default_rng(0)
    found: dict[str, Shape] = {}
    for layer in leaves(architecture):
        arrays = (
            layer.parameters(rng=rng, dtype=np.float32) if what == "parameters" else layer.buffers(dtype=np.float32)
        )
        found |= {k: v.shape for k, v in arrays.items()}
    return found


def _input_shape(value: Any) -> Shape:
    if not isinstance(value, tuple | list):
        raise ArgumentError(
            f"input_shape={value!r} must be a tuple, without the batch axis: (D,) for vectors, (C, H, W) for images"
        )
    return tuple(value)


def _check_names(architecture: Sequence[Layer]) -> None:
    names = [layer.name for layer in leaves(architecture)]
    if odd := [name for name in names if not NAME.fullmatch(name)]:
        raise ArgumentError(
            f"architecture has a layer named {odd[0]!r}; use letters, digits, '_' and '.', as in 'block1.fc'"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError(f"architecture has two layers named {twice[0]!r}; give every layer its own name")


def _check_arrays(what: str, arrays: Mapping[str, Array], expected: Mapping[str, Shape]) -> None:
    if missing := sorted(set(expected) - set(mapping(what, arrays))):
        raise ArgumentError(f"{what} lacks {missing[0]!r}, which the architecture needs; add it")
    if extra := sorted(set(arrays) - set(expected)):
        raise ArgumentError(f"{what} has {extra[0]!r}, which no layer of the architecture uses; remove it")
    for key, shape in expected.items():
        if plain_array(f"{what}[{key!r}]", arrays[key]).shape != shape:
            raise ShapeError(f"{what}[{key!r}] has shape {arrays[key].shape}, expected {shape}")


def _check_one_dtype(parts: Mapping[str, Mapping[str, Array]]) -> None:
    dtypes = {a.dtype for arrays in parts.values() for a in arrays.values()}
    if len(dtypes) > 1 or not dtypes <= set(FLOATS):
        found = ", ".join(sorted(map(str, dtypes)))
        raise DTypeError(f"{' and '.join(parts)} have arrays of {found}; use one type, float32 or float64, for all")


def _check_masks(masks: Mapping[str, Array], params: Mapping[str, Array], weights: Sequence[str]) -> None:
    fitting_masks(masks, params)
    for key, mask in masks.items():
        if key not in weights:
            raise ArgumentError(f"masks has {key!r}, which is not a weight array; prunable are {', '.join(weights)}")
        if params[key][~mask].any():
            raise ArgumentError(f"params[{key!r}] is not 0 everywhere its mask is False; use model.replace(masks=...)")
