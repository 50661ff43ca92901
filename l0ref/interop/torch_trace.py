"""The forward pass of a PyTorch module, traced by torch.fx, as a chain of layers with residual blocks.

A module of torch.nn becomes a layer under its own name, a function such as F.relu the layer that computes the same,
named after the module that calls it, and a sum a residual block. Nothing is computed: torch.fx runs the Python code of
`forward` with stand-ins for tensors, so that loops over layers unroll, and branches on values are refused.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need, need_torch
from l0ref.interop.graph import Graph, Step, fresh
from l0ref.interop.torch_arrays import described
from l0ref.interop.torch_functions import layer_of
from l0ref.interop.torch_layers import THEIRS, pairing_of
from l0ref.interop.torch_sparse import is_sparse
from l0ref.nn import Layer


def traced(module: Any) -> tuple[Layer, ...]:
    """Return the layers of `module`, a copy that may be put into either mode; refuse calls that cannot be read."""
    modes = [_trace(module.train(mode)) for mode in (True, False)]
    nodes = modes[1]
    training, evaluation = ([(n.op, str(n.target)) for n in mode if n.op != "get_attr"] for mode in modes)
    if training != evaluation:
        raise ArgumentError(
            "module computes differently in training and in evaluation; write dropout as nn.Dropout and do "
            "not use self.training"
        )
    return _Reader(module, nodes).chain(nodes)


@cache
def _tracer() -> Any:
    fx = need("torch.fx", extra="crosscheck")

    class Tracer(fx.Tracer):  # type: ignore[misc, name-defined, unused-ignore]
        """Stops at every layer, subclasses of PyTorch's layers included, which may compute something else."""

        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            known = tuple(getattr(need_torch().nn, name) for name in THEIRS)
            return is_sparse(m) or isinstance(m, known) or bool(super().is_leaf_module(m, module_qualified_name))

    return Tracer


def _trace(module: Any) -> list[Any]:
    """The nodes of `forward`; an exception becomes one sentence that names the module it was raised in."""
    options = inspect.signature(module.forward).parameters.values()
    fixed = {p.name: p.default for p in options if p.default is not p.empty}
    tracer = _tracer()()
    try:
        return list(tracer.trace(module, concrete_args=fixed).nodes)
    except Exception as error:  # the module is user code
        where = next(reversed(getattr(tracer, "module_stack", {})), "") or type(module).__name__
        raise ArgumentError(
            f"module {where!r} cannot be traced by torch.fx ({described(error)[:200]}); write its forward without "
            "branches and loops over values, or as nn.Sequential"
        ) from None


class _Reader:
    """The state of reading one trace: values, aliases of values, and results that are not values of the network."""

    def __init__(self, module: Any, nodes: Sequence[Any]) -> None:
        self.modules = dict(module.named_modules())
        inputs = [n.name for n in nodes if n.op == "placeholder"]
        if not inputs:
            raise ArgumentError(f"module {type(module).__name__!r} takes no input; let forward take a batch of samples")
        self.graph = Graph(inputs[0], what="module")
        self.alias: dict[str, str] = {}
        self.pads: dict[str, tuple[tuple[tuple[int, int], ...], float]] = {}  # {padded value: padding, fill}
        self.batch: set[str] = set()  # numbers of samples
        self.aside = set(inputs[1:])  # optional arguments (at their defaults), shapes, and results computed from them
        self.names: set[str] = set()

    def chain(self, nodes: Sequence[Any]) -> tuple[Layer, ...]:
        """The layers from input to result."""
        for n in nodes:
            if n.op == "output":
                if type(result := n.args[0]) is not type(n):
                    kind = type(result).__name__.removeprefix("immutable_")
                    raise ArgumentError(f"module returns a {kind}, expected one tensor of logits; return that alone")
                return self.graph.chain(self.value(n, result))
            if n.op not in ("placeholder", "get_attr"):
                self.node(n)
        raise AssertionError("a trace ends with its output")

    def node(self, n: Any) -> None:
        """Read one node."""
        what, sources = self.function(n), n.all_input_nodes
        if sources and all(s.name in self.aside for s in sources) and n.op != "call_module":
            self.aside.add(n.name)
            whole = what == "getitem" and n.args[1] == 0 and self.function(sources[0]) in ("size", "getattr")
            self.batch |= {n.name} if whole else set()
        elif what == "size" or (what == "getattr" and n.args[1] == "shape"):
            self.aside.add(n.name)
            self.batch |= {n.name} if (*n.args[1:], *n.kwargs.values()) == (0,) else set()
        elif n.op == "call_module":
            self.layer(n)
        elif what in ("add", "iadd"):
            self.sum(n)
        elif what == "pad":
            given = dict(zip(("pad", "mode", "value"), n.args[1:], strict=False)) | dict(n.kwargs)
            if given.get("mode", "constant") != "constant":
                raise self.refusal(n, f"pads by {given['mode']}", "pad by a number")
            self.pad(n, given["pad"], given.get("value") or 0.0)
        elif what == "contiguous":
            self.alias[n.name] = self.value(n, n.args[0])
        else:
            self.put(n, self.layer_of_function(n, what), sources[0] if sources else None)

    def function(self, n: Any) -> str:
        """Name of the function or method that a node calls, without the "_" of in-place variants."""
        named = n.target if n.op == "call_method" else re.sub(r"_\d+$", "", n.name)
        return str(getattr(n.target, "__name__", named) if n.target in (getattr, operator.getitem) else named).rstrip(
            "_"
        )

    def layer(self, n: Any) -> None:
        """A module of torch.nn."""
        part = self.modules[n.target]
        if len(n.args) != 1 or n.kwargs:
            raise self.refusal(n, "gets more than its input", "call it with one tensor")
        if type(part) is need_torch().nn.Identity:
            self.alias[n.name] = self.value(n, n.args[0])
            return
        if type(part) in (need_torch().nn.ConstantPad2d, need_torch().nn.ZeroPad2d):
            self.pad(n, part.padding, part.value)
            return
        if n.target in self.names and any(True for _ in part.parameters()):
            raise ArgumentError(f"module calls its layer {n.target!r} more than once; declare one layer for each call")
        name = n.target if n.target not in self.names else self.fresh(n.target)
        if is_sparse(part):
            layer = part.layer
        elif (pairing := pairing_of(part)) is None:
            known = ", ".join(sorted(THEIRS))
            raise ArgumentError(
                f"module {n.target!r} is a {type(part).__name__}, which l0ref does not have; use layers of {known}"
            )
        else:
            layer = pairing.read(name, part)
        self.put(n, layer, n.args[0])

    def layer_of_function(self, n: Any, what: str) -> Layer:
        """The layer that computes the same as a function; its options are those of a module of torch.nn."""
        name = self.fresh(f"{_scope(n)}.{what}".lstrip("."))
        if what in ("view", "reshape"):
            self.check_flat(n)
            return nn.Flatten(name)
        if what == "mean":
            given = dict(zip(("dim", "keepdim"), n.args[1:], strict=False)) | dict(n.kwargs)
            dims = given.get("dim")
            if dims not in ((2, 3), (3, 2), (-1, -2), (-2, -1), [2, 3], [3, 2], [-1, -2], [-2, -1]):
                raise self.refusal(n, f"takes the mean over dim={dims!r}", "average over height and width, dim=(2, 3)")
            return nn.GlobalAvgPool2d(name)
        return layer_of(n, what, name, self.refusal)

    def check_flat(self, n: Any) -> None:
        """Refuse a view without two axes, the first of them -1 or the number of samples."""
        to = (*n.args[1:], *(n.kwargs[key] for key in n.kwargs if key != "input"))
        to = tuple(to[0]) if to and isinstance(to[0], tuple | list) else to
        if len(to) != 2 or not (to[0] == -1 or getattr(to[0], "name", "") in self.batch):
            raise self.refusal(n, f"makes the shape {to}", "flatten each sample with torch.flatten(x, 1)")

    def sum(self, n: Any) -> None:
        """A sum of two values, named after the module that adds."""
        factor = n.kwargs.get("alpha", 1)
        if factor != 1 or not all(isinstance(a, type(n)) for a in n.args) or len(n.args) != 2:
            raise self.refusal(
                n,
                f"adds {n.args[-1]}{'' if factor == 1 else f' times {factor}'}",
                "add two results of layers, without a factor",
            )
        scope = _scope(n)
        name = scope if scope and scope not in self.names else self.fresh(f"{scope}.add".lstrip("."))
        self.add(n, Step((self.value(n, n.args[0]), self.value(n, n.args[1])), None, name), name)

    def pad(self, n: Any, sizes: Sequence[int], fill: float) -> None:
        """Record padding (left, right, top, bottom) for the pooling or convolution that reads the padded value."""
        if len(sizes) != 4 or min(sizes) < 0:
            raise self.refusal(n, f"pads by {tuple(sizes)}", "pad height and width, by counts from 0 up")
        self.alias[n.name] = self.value(n, n.args[0])
        self.pads[n.name] = ((sizes[2], sizes[3]), (sizes[0], sizes[1])), float(fill)

    def padded(self, n: Any, layer: Layer, source: Any) -> Layer:
        """The layer, with the padding of its input as its own option."""
        edges, fill = self.pads[source.name]
        wanted = -inf if isinstance(layer, nn.MaxPool2d) else 0.0
        even = tuple(before for before, after in edges if before == after)
        is_window = isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and layer.padding == 0
        if not is_window or fill != wanted or (isinstance(layer, nn.Conv2d) and len(even) < 2):
            raise self.refusal(n, f"reads an input padded by {fill}", f"let {layer.name!r} pad, both sides alike")
        if getattr(layer, "ceil_mode", False):
            raise self.refusal(n, "has ceil_mode over an input that is padded before", f"let {layer.name!r} pad")
        whole = layer.name.removesuffix(".pool")
        changes: dict[str, Any] = {"name": whole} if source.target == f"{whole}.pad" else {}
        changes |= {"count_include_pad": True} if isinstance(layer, nn.AvgPool2d) else {}
        return replace(layer, padding=edges if len(even) < 2 else even, **changes)  # type: ignore[call-arg]

    def put(self, n: Any, layer: Layer, source: Any) -> None:
        """Add a layer; the mean over an image and the Flatten that `to_torch` puts after it become one layer."""
        if getattr(source, "name", "") in self.pads:
            layer = self.padded(n, layer, source)
            return self.add(n, Step((self.alias[source.name],), layer), layer.name)
        value = self.value(n, source)
        before = self.graph.steps.get(value)
        if isinstance(layer, nn.Flatten) and before and isinstance(before.layer, nn.GlobalAvgPool2d):
            whole = layer.name.removesuffix(".flatten")
            if before.layer.name == f"{whole}.mean" and len(source.users) == 1:
                self.graph.replace(value, nn.GlobalAvgPool2d(whole))
                self.alias[n.name] = value
                return
        self.add(n, Step((value,), layer), layer.name)

    def add(self, n: Any, step: Step, name: str) -> None:
        self.names.add(name)
        self.graph.add(n.name, step)

    def value(self, n: Any, source: Any) -> str:
        """The name of the value of an argument, aliases resolved."""
        name = getattr(source, "name", "")
        found = self.alias.get(name, name)
        if found not in self.graph or name in self.pads:
            told = getattr(source, "target", source)
            raise self.refusal(n, f"computes from {told!r}", "let layers compute from results of layers alone")
        return found

    def fresh(self, name: str) -> str:
        return fresh(name, self.names | set(self.modules))

    def refusal(self, n: Any, what: str, remedy: str) -> ArgumentError:
        """The error of a call that cannot be read, with the module that calls."""
        where = f"in {_scope(n)!r} " if _scope(n) else ""
        name = n.target if n.op == "call_module" else self.function(n)
        return ArgumentError(f"module calls {name!r}, which {where}{what}; {remedy}")


def _scope(n: Any) -> str:
    """The module that calls; "" for the outermost."""
    return str(next(reversed(n.meta.get("nn_module_stack") or {"": None})))
