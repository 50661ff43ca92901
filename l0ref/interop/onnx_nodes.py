"""The operators of ONNX that are read, each as a layer and its arrays; options that layers lack are refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref import nn
from l0ref.errors import ArgumentError, DTypeError
from l0ref.interop.extras import single
from l0ref.nn import Layer
from l0ref.nn.layer import Shape
from l0ref.validate import Array

PLAIN = {nn.ReLU: "Relu", nn.Sigmoid: "Sigmoid", nn.Tanh: "Tanh", nn.Softplus: "Softplus"}  # without attributes
LARGEST_FLOAT = float(str(np.finfo(np.float32).max))  # a bound of this size limits nothing
Constants = list[Array | None]
Read = tuple[Layer, dict[str, Array]]


class Node:
    """A node: operator, name, inputs, its one output, attributes as Python values."""

    def __init__(self, onnx: Any, proto: Any) -> None:
        self.kind, self.name = re.sub(r"\W", "_", proto.op_type)[:60], str(proto.name)[:100]
        self.inputs = [str(name) for name in proto.input]
        self._given = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        outputs = [str(name) for name in proto.output if name]
        if len(outputs) != 1:
            raise refusal(self, f"gives {len(outputs)} results", "keep one")
        if proto.domain not in ("", "ai.onnx"):
            raise refusal(self, f"is of the domain {proto.domain!r}", "use operators of ONNX itself")
        self.output = outputs[0]

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute; a float is the shortest decimal number that float32 rounds to it."""
        value = self._given.get(name, default)
        if isinstance(value, float):
            return float(str(np.float32(value)))
        return value.decode() if isinstance(value, bytes) else value

    def only(self, name: str, value: Any, default: Any) -> None:
        """Refuse an attribute with another value than the one that l0ref computes."""
        if (found := self.attribute(name, default)) != value:
            raise refusal(self, f"has {name}={found!r}, which l0ref does not compute", f"export it with {name}={value}")

    def is_open(self) -> bool:
        """Return whether it is a Clip without bounds, which does nothing."""
        return self.kind == "Clip" and not any(self.inputs[1:]) and not {"min", "max"} & set(self._given)

    def bias(self, constant: Array, out: int) -> Array:
        """A constant added to rows of `out` numbers, as a vector (out,); other shapes are refused."""
        if constant.size not in (1, out) or (constant.ndim and constant.shape[-1] != constant.size):
            told = f"adds a constant of shape {constant.shape}, which is not a bias of {out} units"
            raise refusal(self, told, f"use ({out},)")
        return np.array(np.broadcast_to(constant.reshape(-1), (out,)))


def is_transposed(node: Node) -> bool:
    """Return whether the weight of a product has the shape (in, out)."""
    return node.kind == "MatMul" or (node.kind == "Gemm" and not node.attribute("transB", 0))


def refusal(node: Any, what: str, remedy: str) -> ArgumentError:
    """Return the error of a node that cannot be read."""
    return ArgumentError(f"ONNX node {node.name!r} ({node.kind}) {what}; {remedy}")


def _weights(node: Node, constants: Constants, *names: str) -> dict[str, Array]:
    """Constant inputs by name, each float32 or float64; all except the first may be missing."""
    found = {}
    for name, array in zip(names, constants, strict=False):
        if array is not None:
            if array.dtype not in (np.float32, np.float64):
                raise DTypeError(f"ONNX node {node.name!r} has {name!r} in {array.dtype}; export it in float32")
            found[name] = array
    if names[0] not in found:
        raise refusal(node, f"has no constant {names[0]!r}", "make it an initialiser")
    return found


def _gemm(node: Node, name: str, _shape: Shape, constants: Constants) -> Read:
    node.only("transA", 0, 0)
    arrays = _weights(node, constants, "weight", "bias")
    weight = arrays["weight"].T if is_transposed(node) else arrays["weight"]
    arrays["weight"] = np.array(weight * np.asarray(node.attribute("alpha", 1.0), weight.dtype), order="C")
    out, into = arrays["weight"].shape
    if "bias" in arrays:
        scale = np.asarray(node.attribute("beta", 1.0), weight.dtype)
        arrays["bias"] = node.bias(arrays["bias"] * scale, out)
    return nn.Linear(name, into, out, bias="bias" in arrays), arrays


def _matmul(node: Node, name: str, _shape: Shape, constants: Constants) -> Read:
    weight = _weights(node, constants, "weight")["weight"]
    if weight.ndim != 2:
        raise refusal(node, f"multiplies by a constant of {weight.ndim} axes", "use a matrix on the right")
    into, out = weight.shape
    return nn.Linear(name, into, out, bias=False), {"weight": np.array(weight.T, order="C")}


def _conv(node: Node, name: str, shape: Shape, constants: Constants) -> Read:
    arrays = _weights(node, constants, "weight", "bias")
    weight = arrays["weight"]
    if weight.ndim != 4 or len(shape) != 3:
        raise refusal(node, f"convolves along {weight.ndim - 2} axes", "use two, height and width")
    dilation = tuple(node.attribute("dilations", (1, 1)))
    stride = tuple(node.attribute("strides", (1, 1)))
    edges = _edges(node, shape, weight.shape[2:], stride, dilation)
    if any(before != after for before, after in edges):
        raise refusal(node, f"pads by {edges}, more on one side", "pad both sides alike")
    padding = single(tuple(before for before, _ in edges))
    groups = int(node.attribute("group", 1))
    sizes = (weight.shape[1] * groups, weight.shape[0], single(weight.shape[2:]))
    options = (single(stride), padding, single(dilation), groups)
    return nn.Conv2d(name, *sizes, *options, bias="bias" in arrays), arrays


def _pool(kind: type[nn.MaxPool2d | nn.AvgPool2d]) -> Callable[..., Read]:
    def read(node: Node, name: str, shape: Shape, _constants: Constants) -> Read:
        kernel = tuple(node.attribute("kernel_shape", ()))
        if len(kernel) != 2 or len(shape) != 3:
            raise refusal(node, f"pools along {len(kernel)} axes", "use two, height and width")
        node.only("storage_order", 0, 0)
        stride, dilation = (tuple(node.attribute(key, (1, 1))) for key in ("strides", "dilations"))
        edges = _edges(node, shape, kernel, stride, dilation)
        options: dict[str, Any] = {
            "stride": None if stride == kernel else single(stride), "ceil_mode": bool(node.attribute("ceil_mode", 0)),
            "padding": edges if any(a != b for a, b in edges) else single(tuple(a for a, _ in edges)),
        }  # fmt: skip
        if kind is nn.MaxPool2d:
            options["dilation"] = single(dilation)
        elif max(dilation) > 1:
            raise refusal(node, "has dilations, which l0ref does not compute", "export it without")
        else:
            options["count_include_pad"] = bool(node.attribute("count_include_pad", 0)) or not any(sum(edges, ()))
        return kind(name, single(kernel), **options), {}

    return read


def _global(node: Node, name: str, shape: Shape, _constants: Constants) -> Read:
    """A window of the whole image; a Flatten after it makes it a GlobalAvgPool2d: `folded`."""
    if len(shape) != 3:
        raise refusal(node, f"averages over {len(shape) - 1} axes", "use two, height and width")
    return nn.AvgPool2d(name, single(shape[1:])), {}


def _norm(node: Node, name: str, shape: Shape, constants: Constants) -> Read:
    node.only("training_mode", 0, 0)
    arrays = _weights(node, constants, "weight", "bias", "running_mean", "running_var")
    if len(arrays) != 4 or len(shape) not in (1, 3):
        raise refusal(node, "is not over vectors or images with four constants", "make them initialisers")
    kind = nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d
    momentum = round(1 - node.attribute("momentum", 0.9), 7)
    return kind(name, shape[0], momentum=momentum, eps=node.attribute("epsilon", 1e-5)), arrays


def _flatten(node: Node, name: str, shape: Shape, constants: Constants) -> Read:
    axis = node.attribute("axis", 1)
    if node.kind == "Flatten" and axis not in (1, -len(shape)):
        node.only("axis", 1, 1)
    if node.kind == "Reshape":
        to = constants[0].tolist() if constants and constants[0] is not None else None
        if not (to and len(to) == 2 and (to[0] in (0, -1) and to[1] in (-1, int(np.prod(shape))))) or to == [-1, -1]:
            raise refusal(node, f"reshapes to {to}", "reshape to (0, -1), which flattens each sample")
    return nn.Flatten(name), {}


def _dropout(node: Node, name: str, _shape: Shape, constants: Constants) -> Read:
    if len(constants) > 1 and constants[1] is not None and bool(constants[1]):
        raise refusal(node, "is in training mode", "export the network in evaluation mode")
    ratio = constants[0] if constants else node.attribute("ratio", 0.5)
    return nn.Dropout(name, 0.5 if ratio is None else float(str(np.float32(ratio)))), {}


def _leaky(node: Node, name: str, _shape: Shape, _constants: Constants) -> Read:
    return nn.LeakyReLU(name, node.attribute("alpha", 0.01)), {}


def _clip(node: Node, name: str, _shape: Shape, constants: Constants) -> Read:
    """Bounds are inputs since opset 11, attributes before; float32 is read as its shortest decimal."""
    held = [constants[i] if i < len(constants) else None for i in (0, 1)]
    bounds = [node.attribute(key) if c is None else float(str(c)) for key, c in zip(("min", "max"), held, strict=True)]
    return nn.Clip(name, *(None if b is None or abs(b) >= LARGEST_FLOAT else b for b in bounds)), {}


def _plain(kind: type[Layer]) -> Callable[..., Read]:
    return lambda _node, name, _shape, _constants: (kind(name), {})


READERS: dict[str, Callable[[Node, str, Shape, Constants], Read]] = {
    "Gemm": _gemm, "MatMul": _matmul, "Conv": _conv, "MaxPool": _pool(nn.MaxPool2d), "AveragePool": _pool(nn.AvgPool2d),
    "GlobalAveragePool": _global, "BatchNormalization": _norm, "Flatten": _flatten, "Reshape": _flatten,
    "Dropout": _dropout, "LeakyRelu": _leaky, "Clip": _clip, **{name: _plain(kind) for kind, name in PLAIN.items()},
}  # fmt: skip


def folded(node: Node, layer: Layer | None, by: str, name: str) -> Layer | None:
    """Return one layer that computes `layer`, read from the operator `by`, and `node` after it; None if there is none.

    These are the Add of a constant after a product without bias, and the Flatten after a mean over the image.
    """
    if node.kind == "Add" and isinstance(layer, nn.Linear) and not layer.bias:
        return nn.Linear(layer.name, layer.in_features, layer.out_features)
    if node.kind == "Flatten" and by == "GlobalAveragePool" and node.attribute("axis", 1) == 1:
        return nn.GlobalAvgPool2d(name)
    return None


def _edges(node: Node, shape: Shape, kernel: Any, stride: Any, dilation: Any) -> tuple[tuple[int, int], ...]:
    """The padding before and after, of both axes."""
    how = node.attribute("auto_pad", "NOTSET")
    pads = list(node.attribute("pads", (0, 0, 0, 0))) if how == "NOTSET" else [0, 0, 0, 0]
    if how in ("SAME_UPPER", "SAME_LOWER"):
        sizes = zip(shape[1:], kernel, stride, dilation, strict=True)
        total = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in sizes]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
        pads = pads if how == "SAME_UPPER" else pads[2:] + pads[:2]
    if len(pads) != 4:
        raise refusal(node, f"pads by {pads}", "give two numbers for each of two axes")
    return (pads[0], pads[2]), (pads[1], pads[3])
