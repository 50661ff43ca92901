"""The correspondence between PyTorch's layers and ours, field by field, and the options that ours do not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import inf, isinf
from typing import Any

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need_torch, single
from l0ref.nn import Layer


@dataclass(frozen=True)
class Pairing:
    """One kind of layer on both sides.

    ours, theirs  our class, and the name of theirs in torch.nn
    fields        fields with the same name and meaning on both sides
    fixed         options of theirs that ours lacks, each with the only value that can be read
    bias          whether the layer may have a bias
    """

    ours: type[Layer]
    theirs: str
    fields: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    bias: bool = False

    def read(self, name: str, module: Any) -> Layer:
        """Return our description of `module`; refuse an option ours lacks."""
        what = f"module {name!r} ({self.theirs})"
        for option, only in self.fixed.items():
            value = getattr(module, option)
            if single(value) != only:
                raise ArgumentError(
                    f"{what} has {option}={value!r}, which l0ref does not compute; build it with {option}={only!r}"
                )
        found = {f: single(getattr(module, f)) for f in self.fields} | self._bias(module)
        if isinstance(found.get("padding"), str):
            found["padding"] = _explicit_padding(what, module)
        if issubclass(self.ours, nn.MaxPool2d | nn.AvgPool2d) and found["stride"] == found["kernel_size"]:
            del found["stride"]
        try:
            return self.ours(name, **found)
        except ArgumentError as error:
            raise ArgumentError(f"{what} has {error}") from None

    def write(self, layer: Layer) -> Any:
        """Return their module for our `layer`; its arrays are filled in later."""
        options = {f: getattr(layer, f) for f in (*self.fields, *(("bias",) if self.bias else ()))}
        return getattr(need_torch().nn, self.theirs)(**options, **self.fixed)

    def _bias(self, module: Any) -> dict[str, bool]:
        return {"bias": module.bias is not None} if self.bias else {}


class Bounds(Pairing):
    """The pairing of `Clip`: our bound None is infinite in PyTorch. The slope at a bound is 1 here and 0 there."""

    def read(self, name: str, module: Any) -> Layer:
        return self.ours(name, *(None if isinf(b) else float(b) for b in (module.min_val, module.max_val)))

    def write(self, layer: Any) -> Any:
        low, high = -inf if layer.min is None else layer.min, inf if layer.max is None else layer.max
        if low == high:
            raise ArgumentError(f"architecture has {layer.name!r}, a Clip to {low} alone, which PyTorch refuses")
        return need_torch().nn.Hardtanh(low, high)


_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode")
_NORM = ("num_features", "momentum", "eps")
_NORM_FIXED = {"affine": True, "track_running_stats": True}

PAIRINGS = (
    Pairing(nn.Linear, "Linear", ("in_features", "out_features"), bias=True),
    Pairing(nn.Conv2d, "Conv2d", _CONV, {"padding_mode": "zeros"}, bias=True),
    Pairing(nn.MaxPool2d, "MaxPool2d", (*_POOL, "dilation"), {"return_indices": False}),
    Pairing(nn.AvgPool2d, "AvgPool2d", (*_POOL, "count_include_pad"), {"divisor_override": None}),
    Pairing(nn.GlobalAvgPool2d, "AdaptiveAvgPool2d", fixed={"output_size": 1}),
    Pairing(nn.BatchNorm1d, "BatchNorm1d", _NORM, _NORM_FIXED),
    Pairing(nn.BatchNorm2d, "BatchNorm2d", _NORM, _NORM_FIXED),
    Pairing(nn.ReLU, "ReLU"),
    Pairing(nn.LeakyReLU, "LeakyReLU", ("negative_slope",)),
    Pairing(nn.Sigmoid, "Sigmoid"),
    Pairing(nn.Tanh, "Tanh"),
    Pairing(nn.Softplus, "Softplus", fixed={"beta": 1.0, "threshold": 20.0}),
    Bounds(nn.Clip, "ReLU6"),  # only read, never written
    Bounds(nn.Clip, "Hardtanh"),
    Pairing(nn.Dropout, "Dropout", ("p",)),
    Pairing(nn.Flatten, "Flatten", fixed={"start_dim": 1, "end_dim": -1}),
)
OURS = {pairing.ours: pairing for pairing in PAIRINGS}
THEIRS = {pairing.theirs: pairing for pairing in PAIRINGS}


def pairing_of(module: Any) -> Pairing | None:
    """Return the pairing of a module of exactly one of the known classes; a subclass may compute something else."""
    kind = type(module)
    known = getattr(need_torch().nn, kind.__name__, None) is kind
    return THEIRS.get(kind.__name__) if known else None


@cache
def residual_class() -> Any:
    """Return the class of module that `to_torch` uses for a residual block, created when PyTorch is first needed."""
    torch = need_torch()

    class Residual(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        """after(body(x) + shortcut(x)); each of the three is a chain of children, and may be empty.

        The children of all three are direct children, so that every parameter keeps its name in l0ref.
        """

        def __init__(self, body: Mapping[str, Any], shortcut: Mapping[str, Any], after: Mapping[str, Any]) -> None:
            super().__init__()
            self.chains = (tuple(body), tuple(shortcut), tuple(after))  # names of children
            for name, child in (*body.items(), *shortcut.items(), *after.items()):
                self.add_module(name, child)

        def run(self, x: Any, names: tuple[str, ...]) -> Any:
            for name in names:
                x = self.get_submodule(name)(x)
            return x

        def forward(self, x: Any) -> Any:
            body, shortcut, after = self.chains
            return self.run(self.run(x, body) + self.run(x, shortcut), after)

    return Residual


def _explicit_padding(what: str, module: Any) -> Any:
    """The padding of a convolution that is given as "same" or "valid", as numbers."""
    if module.padding == "valid":
        return 0
    total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if any(t % 2 for t in total):
        raise ArgumentError(
            f"{what} has padding='same' around an even window, which needs more padding on one side; "
            "use an odd window or pad by a number"
        )
    return single(tuple(t // 2 for t in total))
