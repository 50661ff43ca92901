"""An ONNX graph as a Model: nodes become layers, sums become residual blocks, sparse initialisers become masks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, TypeVar

import numpy as np

from l0ref.archive.strict_json import read_file, read_json
from l0ref.data import Preparation
from l0ref.errors import ArgumentError, CheckpointError, DTypeError, L0RefError, ShapeError
from l0ref.interop.extras import need
from l0ref.interop.forms import LARGEST, finite
from l0ref.interop.graph import Graph, Step, fresh
from l0ref.interop.onnx_nodes import READERS, Node, folded, is_transposed, refusal
from l0ref.interop.onnx_wire import is_too_large
from l0ref.interop.onnx_write import PREPARATION
from l0ref.nn import Layer, Linear, Model
from l0ref.nn.layer import Shape
from l0ref.validate import Array

Result = TypeVar("Result")
MAX_NODES, MAX_SAMPLE = 2048, 2**24  # numbers of one sample, before or after any layer
MAX_FILE = 2**31 - 1  # limit of Protocol Buffers for a message


def from_onnx(source: Any) -> Model:
    """Return the Model of an ONNX file, given by its path or as an onnx.ModelProto.

    Operators: Conv, Gemm, MatMul with a constant, Add, BatchNormalization, MaxPool, AveragePool, GlobalAveragePool,
    Relu, LeakyRelu, Sigmoid, Tanh, Softplus, Clip, Flatten, Reshape to (N, -1), Dropout, Constant and Identity. There
    must be one input, with all sizes except the first stated, and one output. A Gemm's alpha and beta are multiplied
    into weight and bias. A sparse initialiser gives a mask that keeps its stored entries; a dense one gives none.
    Attributes are float32 in ONNX; each is read as its shortest decimal, 1e-5 and not 9.9999997e-6. Layers have the
    names of nodes. Sizes are checked before arrays are made; tensors in other files are refused. Extra: `interop`.
    """
    onnx = need("onnx", extra="interop")
    if isinstance(source, str | os.PathLike):
        return _opened(source, lambda proto: _Reader(onnx, proto).model())
    if not isinstance(source, onnx.ModelProto):
        raise ArgumentError(f"source is a {type(source).__name__}, expected a path or an onnx.ModelProto")
    return _Reader(onnx, source).model()


def onnx_preparation(path: str | os.PathLike[str]) -> Preparation | None:
    """Return the preparation of raw arrays that a file states for its network; None if it states none."""
    texts = _opened(path, lambda proto: [each.value for each in proto.metadata_props if each.key == PREPARATION])
    try:
        return Preparation.from_json(read_json(texts[0].encode())) if texts else None
    except CheckpointError as error:
        raise CheckpointError(f"path={os.fspath(path)!r} has unsound metadata {PREPARATION!r}: {error}") from None


def _opened(path: str | os.PathLike[str], read: Callable[[Any], Result]) -> Result:
    """Return `read` of the ModelProto in a file; errors name the file."""
    onnx, name = need("onnx", extra="interop"), f"path={os.fspath(path)!r}"
    data = read_file(path, name=name, max_bytes=MAX_FILE)
    if is_too_large(data):
        raise CheckpointError(f"{name} has over 2 MiB besides the data of initialisers; store weights in those")
    try:
        return read(onnx.load_model_from_string(data))
    except L0RefError as error:  # a file may hold names of any length
        told = str(error)
        raise type(error)(told if len(told) < 800 else f"{told[:400]} ... {told[-400:]}") from None
    except Exception as error:  # Protocol Buffers and NumPy raise many kinds on a damaged file
        what = " ".join(str(error).strip().splitlines()[:1])
        raise CheckpointError(f"{name} is not a sound ONNX file: {what[:200]}; export it again") from None


class _Reader:
    """The state of reading one graph: constants, shapes of values, and the steps found so far."""

    def __init__(self, onnx: Any, proto: Any) -> None:
        self.onnx, self.graph = onnx, proto.graph
        self.constants: dict[str, Array] = {}
        self.masks_of: dict[str, Array] = {}
        self.stored = self.unpacked = 0  # entries of sparse initialisers
        for tensor in self.graph.initializer:
            self.constants[tensor.name] = self.array(tensor.name, tensor)
        for tensor in self.graph.sparse_initializer:
            self.sparse(tensor)
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            found = f"{len(inputs)} inputs and {len(self.graph.output)} outputs"
            raise ArgumentError(f"ONNX graph has {found}, expected one of each; export the network alone")
        self.shape = self.input_shape(inputs[0])
        self.source = inputs[0].name
        self.steps = Graph(self.source, what="ONNX graph")
        self.shapes: dict[str, Shape] = {self.source: self.shape}
        self.alias: dict[str, str] = {}
        self.layers: dict[str, tuple[Layer, str]] = {}  # {value: its layer, and the operator it was read from}
        used = [name for node in self.graph.node for name in node.input] + [self.graph.output[0].name]
        self.once = {name for name, times in Counter(used).items() if times == 1}
        self.names: set[str] = set()  # of layers and blocks
        self.arrays: dict[str, Array] = {}
        self.masks: dict[str, Array] = {}

    def array(self, name: str, tensor: Any) -> Array:
        if tensor.external_data or tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            raise ArgumentError(f"ONNX initialiser {name!r} is kept in another file; save the model as one file")
        if any(size < 0 for size in tensor.dims) or prod(tensor.dims) > LARGEST:
            raise ShapeError(f"ONNX initialiser {name!r} has sizes {tuple(tensor.dims)[:8]}; up to {LARGEST} entries")
        return np.array(self.onnx.numpy_helper.to_array(tensor))  # compares sizes with the bytes there are

    def sparse(self, tensor: Any) -> None:
        """A sparse initialiser as a dense array and the mask of its stored entries."""
        name, dims = tensor.values.name, tuple(tensor.dims)
        values, at = self.array(name, tensor.values), self.array(name, tensor.indices)
        self.stored, self.unpacked = self.stored + values.size, self.unpacked + prod(dims)
        most = min(max(2**24, 10_000 * self.stored), LARGEST)
        if any(size < 0 for size in dims) or self.unpacked > most:
            raise ShapeError(
                f"ONNX initialiser {name!r} has sizes {dims[:8]}; with {self.stored} stored values up to {most} entries"
            )
        if at.ndim == 2 and at.shape == (values.size, len(dims)):
            inside = bool(((at >= 0) & (at < np.array(dims))).all())
            at = np.ravel_multi_index(tuple(at.T), dims) if inside and at.size else np.full(values.size, -1)
        flat = np.zeros(prod(dims), values.dtype)
        sound = at.shape == values.shape and bool(((at >= 0) & (at < flat.size)).all())
        mask = np.zeros(flat.shape, bool)
        mask[at if sound else ()] = True
        if not sound or mask.sum() != at.size:
            raise ArgumentError(f"ONNX initialiser {name!r} has indices that repeat or lie outside; export it again")
        flat[at] = values
        self.constants[name] = flat.reshape(dims)
        self.masks_of[name] = mask.reshape(dims)

    def input_shape(self, value: Any) -> Shape:
        """Sizes of the input except the first; they must be stated, and the input be float32 or float64."""
        kinds = self.onnx.TensorProto
        if (kind := value.type.tensor_type.elem_type) not in (kinds.FLOAT, kinds.DOUBLE):
            raise DTypeError(f"ONNX input {value.name!r} is in {kinds.DataType.Name(kind)}; export it in FLOAT")
        sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in value.type.tensor_type.shape.dim]
        if not sizes or min(sizes[1:], default=1) < 1 or prod(sizes[1:]) > MAX_SAMPLE:
            told = tuple(s or "?" for s in sizes)
            raise ArgumentError(
                f"ONNX input {value.name!r} has sizes {told}; state all but the first, up to {MAX_SAMPLE} together"
            )
        return tuple(sizes[1:])

    def model(self) -> Model:
        """Read the nodes in order and return the Model of the chain of layers and the arrays."""
        if len(self.graph.node) > MAX_NODES:
            raise ArgumentError(f"ONNX graph has {len(self.graph.node)} nodes, up to {MAX_NODES} are read; split it")
        for proto in self.graph.node:
            self.node(Node(self.onnx, proto))
        end = self.resolved(self.graph.output[0].name)
        if end not in self.steps:
            raise ArgumentError(f"ONNX output {end!r} does not depend on the input; export the network with its input")
        layers = self.steps.chain(end)
        parts = {what: dict(found) for what, found in self.split().items()}
        made = finite(Model(layers, self.shape, parts["params"], {}, parts["buffers"]))
        return made.replace(masks=self.masks) if self.masks else made

    def split(self) -> Mapping[str, Mapping[str, Array]]:
        """Parameters and statistics."""
        held = {key: key.endswith((".running_mean", ".running_var")) for key in self.arrays}
        return {
            "params": {key: v for key, v in self.arrays.items() if not held[key]},
            "buffers": {key: v for key, v in self.arrays.items() if held[key]},
        }

    def resolved(self, value: str) -> str:
        return self.alias.get(value, value)

    def node(self, node: Node) -> None:
        """Read one node; a constant becomes one of `constants`, an identity an alias."""
        inputs = [self.resolved(name) for name in node.inputs]
        data = [name for name in inputs if name and name not in self.constants]
        if any(node.output in known for known in (self.constants, self.steps, self.alias)):
            raise refusal(node, f"gives {node.output!r}, which another node gives", "give each value a name of its own")
        if node.kind == "Constant" and node.attribute("value") is not None:
            self.constants[node.output] = self.array(node.output, node.attribute("value"))
        elif node.kind == "Identity" or node.is_open():
            if inputs[0] in self.constants:
                self.constants[node.output] = self.constants[inputs[0]]
            self.alias[node.output] = inputs[0]
        elif missing := [name for name in data if name not in self.steps]:
            raise refusal(node, f"reads {missing[0]!r}, which no node before it gives", "sort the nodes")
        elif node.kind == "Add" and len(data) == 2:
            if self.shapes[data[0]] != self.shapes[data[1]]:
                raise refusal(node, f"adds {self.shapes[data[0]]} to {self.shapes[data[1]]}", "give both one shape")
            self.put(node, Step((data[0], data[1]), None, self.fresh(node)), self.shapes[data[0]])
        elif len(data) != 1:
            raise refusal(node, f"computes from {len(data)} values", "give it one value and constants")
        elif layer := self.folded(node, data[0]):
            self.fold(node, inputs, data[0], layer)
        else:
            self.apply(node, inputs, data[0])

    def folded(self, node: Node, value: str) -> Layer | None:
        """One layer that computes the layer before this node and the node itself; None if there is none."""
        layer, by = self.layers.get(value, (None, ""))
        return folded(node, layer, by, self.fresh(node)) if value in self.once else None

    def fold(self, node: Node, inputs: list[str], value: str, layer: Layer) -> None:
        """Replace the layer that computes `value` by one that computes this node too."""
        if isinstance(layer, Linear):
            constant = next(self.constants[name] for name in inputs if name in self.constants)
            self.arrays[f"{layer.name}.bias"] = node.bias(constant, layer.out_features)
        self.steps.replace(value, layer)
        self.layers.pop(value)
        self.shapes[value] = layer.output_shape(self.shapes[self.steps.steps[value].inputs[0]])
        self.alias[node.output] = value

    def apply(self, node: Node, inputs: list[str], value: str) -> None:
        """A node with one input as a layer and its arrays."""
        if node.kind == "Add":
            raise refusal(
                node, "adds a constant to a value that is not a product without bias", "put the constant into a bias"
            )
        if node.kind not in READERS:
            known = ", ".join(sorted({*READERS, "Add", "Identity", "Constant"}))
            raise refusal(node, "is an operator that l0ref does not read", f"build the network from {known}")
        constants = [self.constants.get(name) for name in inputs[1:]]
        name = self.fresh(node)
        try:
            layer, arrays = READERS[node.kind](node, name, self.shapes[value], constants)
            shape = layer.output_shape(self.shapes[value])
        except L0RefError as error:
            told = str(error)
            raise error if told.startswith("ONNX") else type(error)(f"ONNX node {node.name!r}, {told}") from None
        for what, array in arrays.items():
            self.arrays[f"{name}.{what}"] = array
        if len(inputs) > 1 and inputs[1] in self.masks_of and "weight" in arrays:
            mask = self.masks_of[inputs[1]]
            self.masks[f"{name}.weight"] = np.array(mask.T if is_transposed(node) else mask, order="C")
        self.layers[node.output] = layer, node.kind
        self.put(node, Step((value,), layer), shape)

    def put(self, node: Node, step: Step, shape: Shape) -> None:
        if prod(shape) > MAX_SAMPLE:
            raise refusal(node, f"gives {shape} for a sample", f"stay below {MAX_SAMPLE} numbers")
        self.names.add(step.layer.name if step.layer else step.name)
        self.steps.add(node.output, step)
        self.shapes[node.output] = shape

    def fresh(self, node: Node) -> str:
        return fresh(node.name or node.kind.lower(), self.names)
