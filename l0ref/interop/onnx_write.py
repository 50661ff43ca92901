"""A Model as an ONNX graph: the layers as nodes with their names, the arrays as initialisers with theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from l0ref import nn
from l0ref.archive import json_bytes
from l0ref.data import Preparation
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need
from l0ref.nn import Layer, Model
from l0ref.sparse import Pattern
from l0ref.validate import Array, pair
from l0ref.version import __version__

OPSET, IR = 17, 8  # ONNX 1.12 of 2022: old enough for every runtime in use
INPUT, OUTPUT, PREPARATION = "x", "logits", "l0ref.preparation"
PLAIN = {nn.ReLU: "Relu", nn.Sigmoid: "Sigmoid", nn.Tanh: "Tanh", nn.Softplus: "Softplus"}  # without attributes


def to_onnx(model: Model, *, preparation: Preparation | None = None) -> Any:
    """Return an onnx.ModelProto of opset 17 that computes the logits of `model` in evaluation mode.

    The input "x" is (N, *input_shape), the output "logits"; N is free. Nodes have the names of layers, initialisers
    those of arrays. The weight of a sparse layer is a sparse initialiser, with the zeros left out. Masks are not
    written: pruned weights are zeros of a dense initialiser; see `formed` for other forms. `preparation`, what raw
    arrays go through before the input, stands as JSON in the metadata under "l0ref.preparation". The graph has passed
    onnx.checker, with shape inference. Extra: `interop`.
    """
    onnx = need("onnx", extra="interop")
    writer = _Writer(onnx)
    end = writer.chain(model, model.architecture, INPUT)
    writer.nodes.append(onnx.helper.make_node("Identity", [end], [OUTPUT]))
    writer.arrays(model)
    kind = onnx.helper.np_dtype_to_tensor_dtype(model.dtype)
    ends = [
        onnx.helper.make_tensor_value_info(name, kind, ["N", *shape])
        for name, shape in ((INPUT, model.input_shape), (OUTPUT, model.output_shape))
    ]
    graph = onnx.helper.make_graph(
        writer.nodes, "l0ref", ends[:1], ends[1:], writer.dense, sparse_initializer=writer.sparse
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    made = onnx.helper.make_model(
        graph, producer_name="l0ref", producer_version=__version__, opset_imports=[opset], ir_version=IR
    )
    if preparation is not None:
        onnx.helper.set_model_props(made, {PREPARATION: json_bytes(preparation.to_json()).decode("ascii")})
    onnx.checker.check_model(made, full_check=not writer.sparse)  # inference of shapes ignores sparse initialisers
    return made


class _Writer:
    """The nodes and initialisers of one graph."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.dense: list[Any] = []
        self.sparse: list[Any] = []

    def node(self, kind: str, layer: Layer, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [layer.name + ":y"], name=layer.name, **attributes))
        return layer.name + ":y"

    def chain(self, model: Model, layers: Sequence[Layer], value: str) -> str:
        """Write the layers after `value`; return the value they end with."""
        for layer in layers:
            value = self.layer(model, layer, value)
        return value

    def layer(self, model: Model, layer: Layer, x: str) -> str:
        bias = [f"{layer.name}.bias"] if f"{layer.name}.bias" in model.params else []
        inputs = [x, f"{layer.name}.weight", *bias]
        match layer:
            case nn.Residual():
                body, shortcut = (self.chain(model, part, x) for part in (layer.body, layer.shortcut))
                return self.node("Add", layer, [body, shortcut])
            case nn.Linear() | nn.SparseLinear():
                return self.node("Gemm", layer, inputs, transB=1)
            case nn.Conv2d() | nn.SparseConv2d():
                dilations = pair("dilation", layer.dilation)
                return self.node("Conv", layer, inputs, dilations=dilations, group=layer.groups, **_window(layer))
            case nn.MaxPool2d():
                return self.node("MaxPool", layer, [x], **_window(layer))
            case nn.AvgPool2d():
                return self.node("AveragePool", layer, [x], count_include_pad=1, **_window(layer))
            case nn.GlobalAvgPool2d():
                self.nodes.append(self.onnx.helper.make_node("GlobalAveragePool", [x], [layer.name + ":mean"]))
                return self.node("Flatten", layer, [layer.name + ":mean"], axis=1)
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                inputs += [f"{layer.name}.running_mean", f"{layer.name}.running_var"]
                return self.node("BatchNormalization", layer, inputs, epsilon=layer.eps, momentum=1 - layer.momentum)
            case nn.LeakyReLU():
                return self.node("LeakyRelu", layer, [x], alpha=layer.negative_slope)
            case nn.Dropout():
                self.dense.append(self.tensor(layer.name + ":p", np.array(layer.p, np.float32)))
                return self.node("Dropout", layer, [x, layer.name + ":p"])
            case nn.Flatten():
                return self.node("Flatten", layer, [x], axis=1)
        if type(layer) in PLAIN:
            return self.node(PLAIN[type(layer)], layer, [x])
        raise ArgumentError(f"architecture has {layer.name!r}, a {type(layer).__name__}, which ONNX export lacks; "
                            "replace it by a layer of l0ref.nn")  # fmt: skip

    def arrays(self, model: Model) -> None:
        """Write every parameter and statistic, that of a sparse layer without its zeros."""
        for layer in nn.sequence.leaves(model.architecture):
            key = f"{layer.name}.weight"
            if isinstance(layer, nn.SparseLinear | nn.SparseConv2d):
                shape = layer.kernel_shape if isinstance(layer, nn.SparseConv2d) else layer.pattern.shape
                self.sparse.append(self.without_zeros(key, layer.pattern, model.params[key], shape))
        whole = {**model.params, **model.buffers}
        self.dense += [self.tensor(key, v) for key, v in whole.items() if key not in model.patterns]

    def tensor(self, name: str, array: Array) -> Any:
        return self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)

    def without_zeros(self, name: str, pattern: Any, values: Array, shape: Sequence[int]) -> Any:
        """A sparse tensor of stored values and their flat indices, which ascend."""
        if not isinstance(pattern, Pattern):
            raise ArgumentError(f"model has {name!r} in tiles, which ONNX lacks; pass formed(model, 'sparse')")
        at = pattern.rows.astype(np.int64) * pattern.shape[1] + pattern.indices
        return self.onnx.helper.make_sparse_tensor(self.tensor(name, values), self.tensor(name + ":at", at), shape)


def _window(layer: Any) -> dict[str, Any]:
    """Kernel, stride and padding as ONNX has them: the padding of both sides."""
    stride = layer.kernel_size if layer.stride is None else layer.stride
    padding = pair("padding", layer.padding)
    return {
        "kernel_shape": pair("kernel_size", layer.kernel_size), "strides": pair("stride", stride), "pads": padding * 2,
    }  # fmt: skip
