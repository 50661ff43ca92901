"""Differentiable operations: their contract, their registry, and the switch between backends.

An operation is a class with two static functions, side by side:

    forward(*xs, **options) -> (y, saved)    the value, and the data that `vjp` needs
    vjp(saved, y_bar) -> cotangents          one per input: x_bar = J(x)^T y_bar

In words: `y_bar` is the derivative of some scalar with respect to `y`, and `vjp` (vector-Jacobian
product) turns it into the derivatives of the same scalar with respect to each `x`.

The definition in the class is the *truth*: plain NumPy, written to be read. Where speed matters a
*twin* with the same two functions is named in `twins` and runs by default;
``with backend("numpy")`` runs the truth instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from l0ref.autodiff import twins
from l0ref.errors import ShapeError
from l0ref.validate import Array, choose

Saved = Any
Cotangent = Array | Callable[[], Array]


class Rule(NamedTuple):
    """The two functions of an operation: its truth, or a twin of it."""

    forward: Callable[..., tuple[Array, Saved]]
    vjp: Callable[[Saved, Array], Sequence[Cotangent]]


@cache
def twin(name: str) -> Rule:
    """Return the compiled twin of an operation, by the name of its class."""
    return Rule(*twins.operation(name))


OPS: dict[str, type[Op]] = {}
TWINS: dict[str, Callable[[], Rule]] = {name: partial(twin, name) for name in twins.OPERATIONS}

# Without Numba's compiler a twin is a loop in Python, a hundred times slower than the truth.
DEFAULT_BACKEND = "numba" if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0" else "numpy"
_backend: ContextVar[str] = ContextVar("l0ref_backend", default=DEFAULT_BACKEND)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run the operations inside the ``with`` block on "numpy" (the truth) or "numba" (twins where there are any).

    The choice is made when an operation is applied; its gradient uses the same rule afterwards. Outside of any such
    block it is "numba", or "numpy" where NUMBA_DISABLE_JIT switches Numba's compiler off.
    """
    token = _backend.set(choose("backend", name, ("numpy", "numba")))
    try:
        yield
    finally:
        _backend.reset(token)


def current_backend() -> str:
    """Return the name of the backend in force here: "numpy" or "numba"."""
    return _backend.get()


def compiled(name: str) -> Callable[..., Any] | None:
    """Return the compiled twin of the plain function `name`, or None where the backend asks for the truth."""
    return twins.function(name) if current_backend() == "numba" else None


class Op:
    """One differentiable operation; subclassing registers it under its class name.

    Inputs are float arrays of one dtype; whatever is not differentiable (labels, a condition, a
    stride) is an option, passed by keyword. A cotangent may be given as a function without
    arguments, which is called only if that cotangent is needed. `broadcasts = True` means that the
    inputs follow NumPy's broadcasting; `run_vjp` then sums each cotangent back to its input's shape.
    """

    broadcasts: ClassVar[bool] = False
    forward: ClassVar[Callable[..., tuple[Array, Saved]]]
    vjp: ClassVar[Callable[..., Sequence[Cotangent]]]

    def __init_subclass__(cls) -> None:
        name = cls.__name__
        if name in OPS:
            taken = OPS[name].__module__
            raise TypeError(f"op {name!r} is already registered by {taken}; choose another class name")
        OPS[name] = cls


def rules(op: type[Op]) -> Iterator[Rule]:
    """Yield the rules to try for `op`, best first: its twin if the backend allows one, then the truth."""
    if op.__name__ in TWINS and current_backend() == "numba":
        yield TWINS[op.__name__]()
    yield Rule(op.forward, op.vjp)


def run_forward(op: type[Op], xs: tuple[Array, ...], options: dict[str, Any]) -> tuple[Rule, Array, Saved]:
    """Evaluate `op`; return the rule that was used, the value, and the data that the rule saved.

    A twin declines a case it does not cover by returning NotImplemented.
    """
    if op.broadcasts:
        _check_broadcast(op, xs)
    for rule in rules(op):
        result = rule.forward(*xs, **options)
        if result is not NotImplemented:
            break
    y, saved = result
    return rule, np.asarray(y), saved


def run_vjp(
    op: type[Op], rule: Rule, saved: Saved, y_bar: Array, xs: tuple[Array, ...], wanted: Sequence[bool]
) -> list[Array | None]:
    """Return the cotangent of each wanted input, shaped and typed like that input, None for the others.

    A wanted cotangent is always a fresh array: never a view, `y_bar` itself, or something saved.
    """
    cotangents = rule.vjp(saved, y_bar)
    if len(cotangents) != len(xs):
        raise ShapeError(
            f"vjp of {op.__name__} returned {len(cotangents)} cotangents; it needs one per input, {len(xs)}"
        )
    out: list[Array | None] = []
    for i, (x, x_bar, is_wanted) in enumerate(zip(xs, cotangents, wanted, strict=True)):
        if not is_wanted:
            out.append(None)
            continue
        g = np.asarray(x_bar() if callable(x_bar) else x_bar)
        if op.broadcasts:
            g = unbroadcast(g, x.shape)
        if g.shape != x.shape or g.dtype != x.dtype:
            raise ShapeError(
                f"vjp of {op.__name__} returned {g.dtype} {g.shape} for input {i}; "
                f"it must match the input, {x.dtype} {x.shape}"
            )
        out.append(g.copy() if _is_shared(g, y_bar, saved, out) else g)
    return out


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum `g` back to `shape`: the transpose of NumPy's broadcasting.

    A broadcast repeats an entry; the derivative with respect to that entry is the sum over its copies.
    """
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    stretched = tuple(extra + axis for axis, size in enumerate(shape) if size == 1 and g.shape[extra + axis] != 1)
    return np.asarray(g.sum(axis=(*range(extra), *stretched), keepdims=True)).reshape(shape)


def reshaped(g: Array, shape: tuple[int, ...]) -> Array:
    """Return g in this shape: g itself if it has it, since `run_vjp` would copy a view of it needlessly."""
    return g if g.shape == shape else g.reshape(shape)


def _check_broadcast(op: type[Op], xs: tuple[Array, ...]) -> None:
    try:
        np.broadcast_shapes(*(x.shape for x in xs))
    except ValueError:
        shapes = " and ".join(str(x.shape) for x in xs)
        raise ShapeError(
            f"{op.__name__}: shapes {shapes} do not broadcast; from the right, sizes must be equal or 1"
        ) from None


def _is_shared(g: Array, y_bar: Array, saved: Saved, given: Sequence[Array | None]) -> bool:
    held = saved if isinstance(saved, tuple) else (saved,)
    return g.base is not None or g is y_bar or any(g is other for other in (*held, *given))
