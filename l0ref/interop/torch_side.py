"""PyTorch's side of a comparison: a private copy of the module in float64 that returns arrays under our names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, ShapeError
from l0ref.interop.extras import need_torch
from l0ref.interop.matching import buffers_matched, matched
from l0ref.interop.torch_arrays import Held, called, described, in_float64, numpy, parameters, statistics
from l0ref.nn import Model
from l0ref.optim import SGD, Adam, AdamW, Optimizer
from l0ref.validate import Array

SAME = 1e-9  # relative difference of two runs of one deterministic module


@dataclass(frozen=True)
class Backward:
    """Logits, loss without penalty, its gradient with respect to every parameter, and the gradient with penalty."""

    logits: Array
    loss: float
    gradients: dict[str, Array]
    total: dict[str, Array]


@dataclass
class TorchSide:
    """A copy of a module, its inputs as tensors, and {our name: theirs} of its parameters."""

    module: Any
    names: dict[str, str]
    inputs: Array
    x: Any
    y: Any
    loss_fn: Callable[[Any, Any], Any]
    training: bool
    classes: int
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        model: Model,
        module: Any,
        x: Array,
        y: Array,
        *,
        loss_fn: Callable[[Any, Any], Any] | None,
        training: bool,
    ) -> TorchSide:
        """Copy `module`, match its parameters with those of `model`, and check that it is deterministic."""
        torch = need_torch()
        copied = in_float64(module)
        for part in copied.modules():
            if isinstance(part, torch.nn.modules.dropout._DropoutNd):
                part.p = 0.0
        loss = loss_fn or torch.nn.functional.cross_entropy
        names = matched(model, copied)
        tensors = torch.from_numpy(x.copy()), torch.from_numpy(y.astype(np.int64))
        side = cls(copied, names, x, *tensors, loss, training, model.classes)
        if list(names) != list(names.values()):
            side.notes.append("parameters have other names in the module and were matched by position")
        side.check_deterministic()
        return side

    def check_deterministic(self) -> None:
        """Refuse a module that gives different results for the same input."""
        spare = in_float64(self.module)
        first, second = (numpy("its output", called(spare.train(self.training), self.x)) for _ in range(2))
        if not np.allclose(
            first, second, rtol=0, atol=SAME * np.abs(np.nan_to_num(first)).max(initial=0.0), equal_nan=True
        ):
            raise ArgumentError(
                "module gives two results for the same x; write dropout as nn.Dropout, which is skipped here, and "
                "draw no other random numbers"
            )

    def held(self) -> dict[str, Held]:
        """The parameters of the copy by our names."""
        found = {h.name: h for h in parameters(self.module)}
        return {ours: found[theirs] for ours, theirs in self.names.items()}

    @property
    def masked(self) -> bool:
        """Whether anything is pruned."""
        return any(h.mask is not None for h in self.held().values())

    def values(self) -> dict[str, Array]:
        """Effective parameters, by our names."""
        return {key: numpy(h.name, h.effective) for key, h in self.held().items()}

    def masks(self, keys: Iterable[str]) -> dict[str, Array]:
        """Masks as numbers, by our names; 1 where nothing is pruned."""
        held = self.held()
        return {
            key: np.ones(tuple(held[key].parameter.shape)) if (m := held[key].keep()) is None else m.astype(np.float64)
            for key in keys
        }

    def statistics(self, like: Mapping[str, Array]) -> dict[str, Array]:
        """Running statistics, by our names."""
        layers, found = buffers_matched(self.names), statistics(self.module)
        theirs = {key: f"{layers[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in like}
        if lost := next((name for name in theirs.values() if name not in found), None):
            raise ArgumentError(f"module lacks the buffer {lost!r}; build the layer with track_running_stats=True")
        return {key: numpy(name, found[name]) for key, name in theirs.items()}

    def logits(self, *, training: bool) -> Array:
        """Output of the module, whose mode is restored."""
        was = self.module.training
        with need_torch().no_grad():
            y = self._called(self.module.train(training))
        self.module.train(was)
        return numpy("its output", y)

    def optimizer(self, make: Callable[[Any], Any]) -> Any:
        """The user's optimiser, over the parameters of the copy."""
        found = make([h.parameter for h in self.held().values()])
        if not isinstance(found, need_torch().optim.Optimizer):
            raise ArgumentError(f"torch_optimizer returns a {type(found).__name__}, expected a torch.optim.Optimizer")
        return found

    def backward(self, added: Callable[[Any], Any] | None) -> Backward:
        """Leave the gradient of loss + penalty in the parameters, for a step; return logits, loss and its gradient."""
        self.module.train(self.training)
        y = self._called(self.module)
        loss = self._loss(y)
        held = self.held()
        wanted = [h.parameter for h in held.values()]
        gradients = self.gradients(loss, wanted)
        extra = self.gradients(added(self.module), wanted) if added else [None] * len(wanted)
        for parameter, g, more in zip(wanted, gradients, extra, strict=True):
            parameter.grad = more if g is None else g if more is None else g + more
        arrays = {key: self.array(g, p) for key, g, p in zip(held, gradients, wanted, strict=True)}
        total = {key: self.array(h.parameter.grad, h.parameter) for key, h in held.items()}
        return Backward(numpy("its output", y), float(loss.detach()), arrays, total)

    def silence(self, where: Mapping[str, Array]) -> None:
        """Set entries of the gradient stored for the next step to 0."""
        for key, h in self.held().items():
            if where[key].any():
                h.parameter.grad[need_torch().from_numpy(where[key])] = 0.0

    def gradients(self, value: Any, wanted: list[Any]) -> list[Any]:
        """Gradient with respect to each parameter; None where `value` does not depend on it."""
        live = [p for p in wanted if p.requires_grad]
        if not live or not value.requires_grad:
            return [None] * len(wanted)
        found = iter(need_torch().autograd.grad(value, live, retain_graph=True, allow_unused=True))
        return [next(found) if p.requires_grad else None for p in wanted]

    def array(self, gradient: Any, parameter: Any) -> Array:
        """A gradient as an array; zeros for None."""
        return np.zeros(tuple(parameter.shape)) if gradient is None else numpy("its gradient", gradient)

    def _called(self, module: Any) -> Any:
        y = called(module, self.x)
        expected = (len(self.inputs), self.classes)
        if tuple(y.shape) != expected:
            raise ShapeError(
                f"module gives an output of shape {tuple(y.shape)}, expected {expected}, one row per sample"
            )
        return y

    def _loss(self, logits: Any) -> Any:
        return one_number("loss_fn", self.loss_fn, logits, self.y)


def one_number(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Return the result of `function`, a tensor with one number, in float64; refuse any other result."""
    torch = need_torch()
    try:
        value = function(*args)
    except Exception as error:  # the function is user code
        raise ArgumentError(f"{name} raised {described(error)}; check that it runs by itself") from error
    if not isinstance(value, torch.Tensor):
        raise ArgumentError(
            f"{name} returns a {type(value).__name__}, expected a tensor; do not use .item() or float()"
        )
    if value.numel() != 1:
        raise ShapeError(f"{name} returns a tensor of shape {tuple(value.shape)}, expected one number; sum it")
    return value.reshape(()).double()


# The optimisers, whose classes have the same name on both sides, and their settings except lr; subclasses come first.
SETTINGS: dict[type[Any], tuple[str, ...]] = {
    SGD: ("momentum", "nesterov"), AdamW: ("betas", "eps", "weight_decay"), Adam: ("betas", "eps"),
}  # fmt: skip


def torch_optimizer_like(optimizer: Optimizer, lr: float) -> Callable[[Any], Any]:
    """Return a function that makes the optimiser of torch.optim with the settings of ours."""
    for kind, names in SETTINGS.items():
        if isinstance(optimizer, kind):
            make = getattr(need_torch().optim, kind.__name__)
            return partial(make, lr=lr, **{name: getattr(optimizer, name) for name in names})
    raise ArgumentError(f"optimizer={optimizer!r} has no counterpart in torch.optim; pass torch_optimizer")
