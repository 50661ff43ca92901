"""A chain of PyTorch layers as a Model: structure, arrays, masks, and a check that both compute the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from l0ref import nn
from l0ref.errors import ArgumentError, L0RefError, ShapeError
from l0ref.interop.extras import need_torch
from l0ref.interop.torch_arrays import Held, called, check_module, in_float64, numpy, parameters, statistics
from l0ref.interop.torch_layers import THEIRS, pairing_of, residual_class
from l0ref.nn import Layer, Model
from l0ref.nn.layer import Shape
from l0ref.nn.sequence import leaves, shapes
from l0ref.validate import Array, count

LARGEST_IMAGE = 512  # largest side of a square input that is tried
SAMPLES = 8  # in the comparison run: a ReLU that is not a layer may change nothing in a single sample
AGREE = 1e-9  # largest relative difference of two forward passes of the same function


def from_torch(module: Any, *, input_shape: Shape | None = None) -> Model:
    """Return the Model of a module that applies its layers one after another.

    module       nn.Sequential, nested ones, or any module whose children, in the order they are declared, form a
                 chain. Layers: Linear, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), BatchNorm1d, BatchNorm2d,
                 ReLU, LeakyReLU, Sigmoid, Tanh, Softplus, Dropout, Flatten, and the residual blocks of `to_torch`;
                 Identity is left out. Layers keep their names: "0", "features.3"
    input_shape  shape of one sample, without the batch axis. None: taken from the first layer if that is Linear or
                 BatchNorm1d, or the one square image that fits the network

    Arrays are copies of the same dtype. Masks of torch.nn.utils.prune become masks. AdaptiveAvgPool2d(1) drops the two
    axes of size 1, so that the Flatten after it has nothing to do. The module is run once, in float64 and evaluation
    mode, on random numbers, and refused if it does not compute its children in order, as with an `F.relu` in its
    forward.
    """
    check_module(module)
    if pairing_of(module):
        raise ArgumentError(f"module is a single {type(module).__name__}; put it in an nn.Sequential, which names it")
    layers = tuple(_read(module, ""))
    if not layers:
        raise ArgumentError(f"module is a {type(module).__name__} without layers; give it at least one")
    held = tuple(parameters(module))
    _check_unshared(held)
    shape = _infer(layers) if input_shape is None else tuple(count("input_shape", s, least=1) for s in input_shape)
    calls = _Calls(module, layers, shape)
    try:
        params, masks = _arrays(held)
        buffers = {name: numpy(name, b) for name, b in statistics(module).items()}
        model = Model(layers, shape, params, {}, buffers).replace(masks=masks)
    except ShapeError as error:
        raise (calls.fault() or error) from None
    _check_same(model, calls)
    return model


def _read(module: Any, name: str) -> list[Layer]:
    """Layers of a module and its children, in the order of declaration."""
    torch = need_torch()
    children = dict(module.named_children())
    prefix = f"{name}." if name else ""
    if pairing := pairing_of(module):
        return [pairing.read(name, module)]
    if type(module) is torch.nn.Identity:
        return []
    if type(module) is residual_class():
        body, shortcut, after = (
            [layer for child in part for layer in _read(children[child], prefix + child)] for part in module.chains
        )
        return [nn.Residual(name, tuple(body), tuple(shortcut)), *after]
    if not children or module._parameters:
        known = ", ".join(sorted(THEIRS))
        raise ArgumentError(
            f"module {name!r} is a {type(module).__name__}, which l0ref does not have; use layers of {known}"
        )
    found = [layer for child, part in module._modules.items() for layer in _read(part, prefix + child)]
    if list(children) == ["mean", "flatten"] and [type(layer) for layer in found] == [nn.GlobalAvgPool2d, nn.Flatten]:
        return [nn.GlobalAvgPool2d(name)]
    return found


def _arrays(held: Sequence[Held]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Parameters and masks by name; a mask on anything but weights must keep everything."""
    for h in held:
        if h.name.rpartition(".")[2] not in ("weight", "bias"):
            raise ArgumentError(
                f"module has {h.name!r}, a parameter that no layer of l0ref has; undo its source, such as weight_norm"
            )
    params = {h.name: numpy(h.name, h.effective) for h in held}
    masks = {h.name: keep for h in held if (keep := h.keep()) is not None}
    for key in [key for key in masks if not key.endswith(".weight") or params[key].ndim < 2]:
        if not masks.pop(key).all():
            raise ArgumentError(
                f"module has {key!r} pruned, and l0ref prunes weights only; make it permanent with prune.remove()"
            )
    return params, masks


def _check_unshared(held: Sequence[Held]) -> None:
    seen: dict[int, str] = {}
    for h in held:
        if id(h.parameter) in seen:
            raise ArgumentError(
                f"module shares {seen[id(h.parameter)]!r} with {h.name!r}, and l0ref has no shared "
                "parameters; give each layer its own"
            )
        seen[id(h.parameter)] = h.name


def _infer(layers: Sequence[Layer]) -> Shape:
    """Shape of one sample, from the layers alone."""
    first = next((layer for layer in leaves(layers) if hasattr(layer, "num_features") or layer.weights()), None)
    before = layers[: layers.index(first)] if first in layers else ()
    if isinstance(first, nn.Linear | nn.BatchNorm1d) and not any(isinstance(layer, nn.Flatten) for layer in before):
        return (first.in_features if isinstance(first, nn.Linear) else first.num_features,)
    fits: list[Shape] = []
    if isinstance(first, nn.Conv2d | nn.BatchNorm2d):
        channels = first.in_channels if isinstance(first, nn.Conv2d) else first.num_features
        fits = [s for size in range(1, LARGEST_IMAGE + 1) if _fits(layers, s := (channels, size, size))]
    if len(fits) == 1:
        return fits[0]
    found = f"; square images from {fits[0]} to {fits[-1]} fit" if fits else ""
    raise ArgumentError(
        f"input_shape=None cannot be determined from the layers{found}; pass it, as in input_shape=(1, 28, 28)"
    )


def _fits(layers: Sequence[Layer], shape: Shape) -> bool:
    try:
        shapes(layers, shape)
    except L0RefError:
        return False
    return True


class _Calls:
    """One run of a module on random numbers: the layers it called, and their inputs and outputs."""

    def __init__(self, module: Any, layers: Sequence[Layer], shape: Shape) -> None:
        torch = need_torch()
        self.declared = [layer.name for layer in leaves(layers)]
        self.names: list[str] = []
        self._ends: list[tuple[Any, Any]] = []
        self.x = np.random.default_rng(0).standard_normal((SAMPLES, *shape))
        copied = in_float64(module).eval()
        for name, part in copied.named_modules(remove_duplicate=False):
            if pairing_of(part):
                part.register_forward_hook(self._hook(name))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            self.y = self._run(copied, torch.from_numpy(self.x))

    def _hook(self, name: str) -> Any:
        known = name if name in self.declared else name.rpartition(".")[0]

        def note(_module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if known != name and self.names[-1:] == [known]:  # the Flatten of a GlobalAvgPool2d
                self._ends[-1] = (self._ends[-1][0], output)
            else:
                self.names.append(known)
                self._ends.append((inputs[0] if inputs else None, output))

        return note

    def _run(self, module: Any, x: Any) -> Array | ArgumentError:
        try:
            return numpy("its output", called(module, x))
        except ArgumentError as error:
            return error

    def fault(self) -> ArgumentError | None:
        """The first deviation of the module from the chain of its children, if one was found."""
        if self.names != self.declared and not (isinstance(self.y, ArgumentError) and self._began()):
            often = [name for name, times in Counter(self.names).items() if times > 1]
            if often:
                return ArgumentError(
                    f"module calls its layer {often[0]!r} more than once; declare one layer for each call"
                )
            return ArgumentError(
                f"module declares its layers as {_listed(self.declared)} and calls them as {_listed(self.names)}; "
                "declare them in the order they are called, and no others"
            )
        if isinstance(self.y, ArgumentError):
            return self.y
        for (a, b), ((_, out), (into, _)) in zip(pairwise(self.names), pairwise(self._ends), strict=False):
            if into is not out:
                return ArgumentError(
                    f"module computes something between {a!r} and {b!r}; write it as a layer, such as nn.ReLU() "
                    "or nn.Flatten()"
                )
        return None

    def _began(self) -> bool:
        return self.names == self.declared[: len(self.names)]


def _check_same(model: Model, calls: _Calls) -> None:
    """Refuse a module whose forward pass is not that of the model read from it."""
    fault = calls.fault()
    if fault is not None and calls.names != calls.declared:
        raise fault
    ours = model.astype(np.float64).logits(calls.x)
    theirs = calls.y
    if isinstance(theirs, ArgumentError):
        raise theirs
    if ours.shape != theirs.shape:
        raise fault or ArgumentError(
            f"module gives {theirs.shape} for {SAMPLES} samples, its layers {ours.shape}; end with nn.Flatten()"
        )
    off = float(np.abs(ours - theirs).max(initial=0.0))
    if not off <= AGREE * float(np.abs(theirs).max(initial=0.0)):
        raise fault or ArgumentError(
            f"module does not compute its layers in order (difference {off:.3g}); write every step as a layer"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
