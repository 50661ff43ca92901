"""Functions of PyTorch as layers: F.relu, x.tanh(), torch.clamp ..., each with the options of a module of torch.nn."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need_torch
from l0ref.interop.torch_arrays import described
from l0ref.interop.torch_layers import THEIRS
from l0ref.nn import Layer

POOL = ("kernel_size", "stride", "padding")
FUNCTIONS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {  # module, arguments after the input, defaults
    "relu": ("ReLU", ("inplace",), {}),
    "leaky_relu": ("LeakyReLU", ("negative_slope", "inplace"), {}),
    "sigmoid": ("Sigmoid", (), {}),
    "tanh": ("Tanh", (), {}),
    "softplus": ("Softplus", ("beta", "threshold"), {}),
    "dropout": ("Dropout", ("p", "training", "inplace"), {}),
    "flatten": ("Flatten", ("start_dim", "end_dim"), {"start_dim": 0}),
    "max_pool2d": ("MaxPool2d", (*POOL, "dilation", "ceil_mode", "return_indices"), {}),
    "avg_pool2d": ("AvgPool2d", (*POOL, "ceil_mode", "count_include_pad", "divisor_override"), {}),
    "adaptive_avg_pool2d": ("AdaptiveAvgPool2d", ("output_size",), {}),
    "relu6": ("ReLU6", ("inplace",), {}),
    "hardtanh": ("Hardtanh", ("min_val", "max_val", "inplace"), {}),
    **dict.fromkeys(("clamp", "clip"), ("Hardtanh", ("min", "max"), {"min": None, "max": None})),
    "clamp_min": ("Hardtanh", ("min",), {"max": None}),
    "clamp_max": ("Hardtanh", ("max",), {"min": None}),
}
REMEDY = {
    "softmax": "return the logits, to which the loss applies it",
    "log_softmax": "return the logits, to which the loss applies it",
    "batch_norm": "use the layer nn.BatchNorm1d or nn.BatchNorm2d",
    "linear": "use the layer nn.Linear",
    "conv2d": "use the layer nn.Conv2d",
}


def layer_of(n: Any, what: str, name: str, refusal: Callable[[Any, str, str], ArgumentError]) -> Layer:
    """Return the layer that computes the same as the function or method `what` that a node of torch.fx calls."""
    real = what if n.op == "call_method" else next((w for w in FUNCTIONS if n.target in _functions(w)), "")
    if real not in FUNCTIONS:
        layers = ", ".join(sorted(THEIRS))
        raise refusal(n, "is not a layer of l0ref", REMEDY.get(what, f"use layers of {layers}"))
    kind, order, defaults = FUNCTIONS[real]
    options = {**defaults, **dict(zip(order, n.args[1:], strict=False)), **n.kwargs}
    if options.pop("training", options.pop("train", False)):
        raise refusal(n, "drops in evaluation too", "pass training=self.training")
    known = {key: value for key, value in options.items() if key in order}
    if odd := next((key for key, value in known.items() if "fx.node" in type(value).__module__), None):
        raise refusal(n, f"computes its {odd}", "give it as a number")
    if "min" in options:
        return nn.Clip(name, known.get("min"), known.get("max"))
    try:
        same = getattr(need_torch().nn, kind)(**known)
    except (TypeError, ValueError) as error:
        raise refusal(n, f"has options nn.{kind} does not take ({described(error)})", "correct them") from None
    return THEIRS[kind].read(name, same)


@cache
def _functions(name: str) -> tuple[Any, ...]:
    """PyTorch's functions of this name, including those that write in place."""
    torch = need_torch()
    rooms = (torch, torch.nn.functional)
    return tuple(f for room in rooms for mark in ("", "_") if (f := getattr(room, name + mark, None)) is not None)
