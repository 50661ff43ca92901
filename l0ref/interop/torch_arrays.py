"""The arrays of a PyTorch module under the names l0ref gives them, masks of torch.nn.utils.prune applied."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, DTypeError
from l0ref.interop.extras import kept, need_torch
from l0ref.validate import Array

_ORIG = "_orig"


@dataclass(frozen=True)
class Held:
    """One parameter of a module.

    name       as if it were not pruned: "fc1.weight", not "fc1.weight_orig"
    parameter  the tensor that an optimiser updates
    mask       the mask of torch.nn.utils.prune, or None
    """

    name: str
    parameter: Any
    mask: Any

    @property
    def effective(self) -> Any:
        """The tensor the layer computes with: the parameter, zero where it is pruned."""
        return self.parameter if self.mask is None else self.parameter * self.mask.to(self.parameter.dtype)

    def keep(self) -> Array | None:
        """The mask as bool, True keeps; None where nothing is pruned."""
        name = f"{self.name}_mask"
        return None if self.mask is None else kept(f"module has a mask {name!r}", numpy(name, self.mask.double()))


def parameters(module: Any) -> Iterator[Held]:
    """Yield every parameter of `module`, weight before bias; a shared one is yielded once for each of its names."""
    for owner_name, owner in module.named_modules(remove_duplicate=False):
        own = owner.named_parameters(recurse=False, remove_duplicate=False)
        for name, parameter in sorted(own, key=lambda item: item[0].startswith("bias")):  # pruning puts a weight last
            base = name.removesuffix(_ORIG)
            mask = getattr(owner, base + "_mask", None) if name.endswith(_ORIG) else None
            full = name if mask is None else base
            yield Held(f"{owner_name}.{full}" if owner_name else full, parameter, mask)


def statistics(module: Any) -> dict[str, Any]:
    """Return the buffers of `module` that l0ref has too: all except masks, CSR indices and the count of batches."""
    other = ("_mask", "num_batches_tracked", "crow_indices", "col_indices")
    return {name: b for name, b in module.named_buffers() if not name.endswith(other)}


def numpy(name: str, tensor: Any) -> Array:
    """Return a copy of a float32 or float64 tensor; refuse every other type instead of converting."""
    torch = need_torch()
    if tensor.dtype not in (torch.float32, torch.float64):
        raise DTypeError(f"module has {name!r} in {tensor.dtype}; convert it with module.float() or module.double()")
    return np.array(tensor.detach().cpu().numpy())


def check_module(module: Any) -> None:
    """Refuse a value that is not a module."""
    if not isinstance(module, need_torch().nn.Module):
        raise ArgumentError(f"module is a {type(module).__name__}, expected a torch.nn.Module; pass the network itself")


def in_float64(module: Any) -> Any:
    """Return a copy of `module` in float64, on the CPU.

    A pruned layer holds a computed tensor, its `weight`, which PyTorch by itself refuses to copy.
    """
    check_module(module)
    torch = need_torch()
    computed = [
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    ]
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in computed}).double().cpu()


def called(module: Any, x: Any) -> Any:
    """Return module(x), a tensor; an exception of the module becomes one sentence."""
    try:
        y = module(x)
    except Exception as error:  # the module is user code
        where = f"for an input of shape {tuple(x.shape)} in float64"
        raise ArgumentError(f"module raised {described(error)} {where}; check that it runs by itself") from error
    if not isinstance(y, need_torch().Tensor):
        raise ArgumentError(f"module returns a {type(y).__name__}, expected one tensor of logits; return that alone")
    return y


def described(error: Exception) -> str:
    """Return class and first line of an exception raised by user code."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''}"


def refresh(module: Any) -> None:
    """Recompute the pruned weights of `module` from `weight_orig` and `weight_mask`, as each forward pass does."""
    pruning = need_torch().nn.utils.prune.BasePruningMethod
    for part in module.modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, pruning):
                hook(part, None)
