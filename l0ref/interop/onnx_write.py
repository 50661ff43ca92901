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
from l0ref.interop.forms import finite
from l0ref.interop.onnx_nodes import PLAIN
from l0ref.nn import Layer, Model
from l0ref.nn.layer import Shape
from l0ref.nn.sequence import shapes
from l0ref.sparse import Pattern
from l0ref.validate import Array, edges_of, pair
from l0ref.version import __version__

OPSET, IR = 17, 8  # ONNX 1.12 of 2022: old enough for every runtime in use
INPUT, OUTPUT, PREPARATION = "x", "logits", "l0ref.preparation"


def to_onnx(model: Model, *, preparation: Preparation | None = None) -> Any:
    """Return an onnx.ModelProto of opset 17 that computes the logits of `model` in evaluation mode.

    The input "x" is (N, *input_shape), the output "logits"; N is free. Nodes have the names of layers, initialisers
    those of arrays. The weight of a sparse layer is a sparse initialiser, with the zeros left out. Masks are not
    written: pruned weights are zeros of a dense initialiser; see `formed` for other forms. `preparation`, applied to
    raw arrays before the input, is written as JSON to the metadata under "l0ref.preparation". The graph has passed
    onnx.checker, with shape inference unless it has sparse initialisers. Extra: `interop`.
    """
    onnx = need("onnx", extra="interop")
    writer = _Writer(onnx)
    end = writer.chain(finite(model), model.architecture, INPUT, model.input_shape)
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
    onnx.checker.check_model(made, full_check=not writer.sparse)  # shape inference ignores sparse initialisers
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

    def chain(self, model: Model, layers: Sequence[Layer], value: str, shape: Shape) -> str:
        """Write the layers after `value`; return the value of the last one."""
        for layer, inner in zip(layers, shapes(layers, shape), strict=False):
            value = self.layer(model, layer, value, inner)
        return value

    def layer(self, model: Model, layer: Layer, x: str, shape: Shape) -> str:
        bias = [f"{layer.name}.bias"] if f"{layer.name}.bias" in model.params else []
        inputs = [x, f"{layer.name}.weight", *bias]
        match layer:
            case nn.Residual():
                body, shortcut = (self.chain(model, part, x, shape) for part in (layer.body, layer.shortcut))
                return self.node("Add", layer, [body, shortcut])
            case nn.Linear() | nn.SparseLinear():
                return self.node("Gemm", layer, inputs, transB=1)
            case nn.Conv2d() | nn.SparseConv2d():
                return self.node("Conv", layer, inputs, group=layer.groups, **_window(layer))
            case nn.MaxPool2d():
                return self.node("MaxPool", layer, [x], **_pool(layer, shape))
            case nn.AvgPool2d():
                return self.node("AveragePool", layer, [x], **_pool(layer, shape))
            case nn.GlobalAvgPool2d():
                self.nodes.append(self.onnx.helper.make_node("GlobalAveragePool", [x], [layer.name + ":mean"]))
                return self.node("Flatten", layer, [layer.name + ":mean"], axis=1)
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                inputs += [f"{layer.name}.running_mean", f"{layer.name}.running_var"]
                return self.node("BatchNormalization", layer, inputs, epsilon=layer.eps, momentum=1 - layer.momentum)
            case nn.LeakyReLU():
                return self.node("LeakyRelu", layer, [x], alpha=layer.negative_slope)
            case nn.Clip():
                bounds = {"min": layer.min, "max": layer.max}
                ends = {key: f"{layer.name}:{key}" for key, bound in bounds.items() if bound is not None}
                self.dense += [self.tensor(end, np.array(bounds[key], model.dtype)) for key, end in ends.items()]
                return self.node("Clip", layer, [x, ends.get("min", ""), *([ends["max"]] if "max" in ends else [])])
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
        """Write every parameter and statistic; weights of sparse layers without their zeros."""
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
    """Kernel, stride, dilation and padding as ONNX attributes: the padding before both axes, then after both."""
    stride = layer.kernel_size if layer.stride is None else layer.stride
    found = {"kernel_shape": pair("kernel_size", layer.kernel_size), "strides": pair("stride", stride)}
    found |= {"dilations": pair("dilation", layer.dilation)} if hasattr(layer, "dilation") else {}
    return {**found, "pads": [edge[side] for side in (0, 1) for edge in edges_of(layer.padding)]}


def _pool(layer: nn.MaxPool2d | nn.AvgPool2d, shape: Shape) -> dict[str, Any]:
    """Window and options of a pooling over (C, H, W).

    ONNX's shape inference, and with it onnxruntime, counts a last window of ceil_mode that begins beyond the image,
    which l0ref and PyTorch leave out. In this case the padding that windows reach is written, without ceil_mode.
    """
    found, image, windows = _window(layer), (shape[1], shape[2]), layer.windows(shape)
    if isinstance(layer, nn.AvgPool2d):
        found["count_include_pad"] = int(layer.count_include_pad)
    if layer.ceil_mode:
        sizes = zip(image, edges_of(layer.padding), windows.span, windows.stride, strict=True)
        inferred = tuple(1 - (span - n - sum(edge)) // stride for n, edge, span, stride in sizes)
        found["ceil_mode"] = int(inferred == windows.grid(image))
        (top, left), (below, beside) = windows.padding, windows.beyond
        if not found["ceil_mode"] and found["pads"] != (reached := [top, left, top + below, left + beside]):
            if found.get("count_include_pad") and any(found["pads"]):
                told = "ceil_mode beside padding that is counted, and windows that begin beyond the image"
                raise ArgumentError(f"architecture has {layer.name!r}, with {told}, which ONNX lacks; pad evenly")
            found |= {"pads": reached, **({"count_include_pad": 0} if isinstance(layer, nn.AvgPool2d) else {})}
    return found
