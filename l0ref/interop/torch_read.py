"""A module of PyTorch as a Model: structure, arrays, masks, and a check that both compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from l0ref import nn
from l0ref.errors import ArgumentError, L0RefError
from l0ref.interop.extras import need_torch
from l0ref.interop.torch_arrays import Held, called, check_module, in_float64, numpy, parameters, statistics
from l0ref.interop.torch_layers import pairing_of
from l0ref.interop.torch_sparse import is_sparse, with_zeros
from l0ref.interop.torch_trace import traced
from l0ref.nn import Layer, Model
from l0ref.nn.layer import Shape
from l0ref.nn.sequence import leaves, shapes
from l0ref.validate import Array, count

LARGEST_IMAGE = 512  # largest side of the square inputs that are tried
SAMPLES = 8  # in the comparison run: a ReLU that is not a layer may change nothing in a single sample
AGREE = 1e-9  # largest relative difference of two forward passes of the same function


def from_torch(module: Any, *, input_shape: Shape | None = None) -> Model:
    """Return the Model of a module whose forward pass is made of layers, functions that are layers, and sums.

    module       nn.Sequential, or any module that torch.fx can trace, nested and with residual blocks. Layers: Linear,
                 Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), BatchNorm1d, BatchNorm2d, ReLU, LeakyReLU,
                 Sigmoid, Tanh, Softplus, Hardtanh, ReLU6, Dropout, Flatten; padding by zeros before a pooling or a
                 convolution, by -inf before MaxPool2d; functions and methods of these names, x.view(len, -1),
                 x.mean((2, 3)) and +; the modules of `to_torch`; Identity is left out. Layers keep their names: "0",
                 "features.3"; F.relu in a module "block" is named "block.relu", a sum after its module
    input_shape  shape of one sample, without the batch axis. None: taken from the first layer if that is Linear or
                 BatchNorm1d, or the one square image that fits the network

    Arrays are copies of the same dtype. Masks of torch.nn.utils.prune become masks. AdaptiveAvgPool2d(1) drops the two
    axes of size 1, so that the Flatten after it has nothing to do. The module is run once, in float64 and evaluation
    mode, on random numbers, and refused if the Model does not compute the same.
    """
    check_module(module)
    if pairing_of(module) or is_sparse(module):
        raise ArgumentError(f"module is a single {type(module).__name__}; put it in an nn.Sequential, which names it")
    held = tuple(parameters(module))
    _check_unshared(held)
    copied = in_float64(module)
    layers = traced(copied)
    if not layers:
        raise ArgumentError(f"module is a {type(module).__name__} without layers; give it at least one")
    shape = _infer(layers) if input_shape is None else tuple(count("input_shape", s, least=1) for s in input_shape)
    params, masks = _arrays(module, held, layers)
    used = {layer.name for layer in leaves(layers)}
    x, y = _run(copied, shape)
    buffers = {name: numpy(name, b) for name, b in statistics(module).items() if name.rpartition(".")[0] in used}
    model = Model(layers, shape, params, {}, buffers).replace(masks=masks)
    _check_same(model, x, y)
    return model


def _arrays(module: Any, held: Sequence[Held], layers: Sequence[Layer]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Parameters and masks by name, of layers that are used; a mask on anything but weights must keep everything."""
    used = {layer.name for layer in leaves(layers)}
    params, masks = {}, {}
    for h in held:
        owner, _, what = h.name.rpartition(".")
        part = module.get_submodule(owner)
        if is_sparse(part) and what == "values":
            weight, kept = with_zeros(part)
            params[f"{owner}.weight"], masks[f"{owner}.weight"] = weight, kept
            continue
        if what not in ("weight", "bias") or (not pairing_of(part) and not is_sparse(part)):
            raise ArgumentError(
                f"module has {h.name!r}, a parameter that no layer of l0ref has; undo its source, such as weight_norm"
            )
        if owner not in used:
            raise ArgumentError(f"module has {h.name!r}, which its forward pass does not use; remove the layer")
        params[h.name] = numpy(h.name, h.effective)
        if (keep := h.keep()) is not None:
            masks[h.name] = keep
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


def _run(module: Any, shape: Shape) -> tuple[Array, Array]:
    """Random samples, and the output of a float64 module for them in evaluation mode."""
    torch = need_torch()
    x = np.random.default_rng(0).standard_normal((SAMPLES, *shape))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return x, numpy("its output", called(module.eval(), torch.from_numpy(x)))


def _check_same(model: Model, x: Array, theirs: Array) -> None:
    """Refuse a module whose forward pass is not that of the model read from it."""
    ours = model.astype(np.float64).logits(x)
    if ours.shape != theirs.shape:
        raise ArgumentError(
            f"module gives {theirs.shape} for {SAMPLES} samples, its layers {ours.shape}; end with nn.Flatten()"
        )
    off = float(np.abs(ours - theirs).max(initial=0.0))
    if not off <= AGREE * float(np.abs(theirs).max(initial=0.0)):
        raise ArgumentError(
            f"module does not compute what torch.fx traces (difference {off:.3g}); write every step as a layer, "
            "without hooks, and overwrite no value that is used again"
        )
