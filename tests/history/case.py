"""What a case is, and its three forms.

A pair is (value, x, true, wrong): plain callables, x an array or a dict of arrays.
An operation is (forward, xs, true, wrong): forward(*xs) -> array, and both vjps (xs, y_bar) -> list of arrays.
A network is (model, x, y, penalty, wrong): wrong(true gradients, params) -> gradients, dicts by parameter.

Every call of `make` gives functions with memory of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.autodiff.tensor import Tensor, apply
from l0ref.penalty import Penalty
from l0ref.testing.networks import Objective
from tests.faults.points import Pair

FORMS = ("pair", "operation", "network")
Gradients = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """One fault.

    form     "pair", "operation" or "network"
    source   project#number
    kind     the module it is in: the way in which it goes wrong
    note     what is wrong
    says     what the report of its own checker must contain: the name of the fault; "" if it has none
    because  why that name is right, or why none would be
    """

    name: str
    form: str
    source: str
    kind: str
    note: str
    says: str
    because: str
    make: Callable[[], tuple[Any, ...]]


CASES: list[Case] = []


def _decorator(form: str) -> Callable[..., Any]:
    def outer(source: str, note: str, *, says: str = "", because: str) -> Callable[..., Any]:
        def add(make: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
            kind = make.__module__.rsplit(".", 1)[-1]
            CASES.append(Case(make.__name__, form, source, kind, note, says, because, make))
            return make

        return add

    return outer


pair, operation, network = (_decorator(form) for form in FORMS)


def plain(case: Case, *, wrong: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
    """Any form as (value, gradient, x) for `check_gradient`; an operation with a fixed cotangent."""
    made = case.make()
    if case.form == "pair":
        value, x, *gradients = made
        return value, gradients[wrong], x
    if case.form == "network":
        model, inputs, labels, penalty, spoil = made
        objective = objective_of(model, inputs, labels, penalty)
        params = {k: np.array(v, np.float64) for k, v in objective.model.params.items()}
        return objective.value, gradient_of(objective, spoil if wrong else None), params
    forward, xs, *vjps = made
    y_bar = cotangent(np.shape(forward(*xs)))
    return lambda p: (y_bar * forward(*p)).sum(), lambda p: vjps[wrong](list(p), y_bar.copy()), [x.copy() for x in xs]


def as_pair(case: Case, *, wrong: bool) -> tuple[Pair, list[np.ndarray]]:
    """Any form as forward and vjp, as an operation has them, and its inputs."""
    if case.form == "operation":
        forward, xs, *vjps = case.make()
        return Pair(lambda *xs: (forward(*xs), xs), lambda xs, y_bar: vjps[wrong](list(xs), y_bar)), list(xs)
    value, gradient, x = plain(case, wrong=wrong)
    keys = list(x) if isinstance(x, dict) else None

    def pack(xs: tuple[np.ndarray, ...]) -> Any:
        return xs[0] if keys is None else dict(zip(keys, xs, strict=True))

    def vjp(xs: tuple[np.ndarray, ...], y_bar: np.ndarray) -> list[np.ndarray]:
        found = gradient(pack(xs))
        return [y_bar * np.asarray(g, np.float64) for g in ([found] if keys is None else [found[k] for k in keys])]

    arrays = [np.asarray(x, np.float64)] if keys is None else [np.asarray(x[k], np.float64) for k in keys]
    return Pair(lambda *xs: (np.asarray(value(pack(xs)), np.float64), xs), vjp), arrays


def function(found: Pair, name: str) -> Callable[..., Tensor]:
    """Forward and vjp as a function of Tensors."""
    members = {"broadcasts": False, "forward": staticmethod(found.forward), "vjp": staticmethod(found.vjp)}
    op: Any = type("Shipped", (), members)

    def func(*xs: Tensor) -> Tensor:
        return apply(op, *xs)

    func.__name__ = name
    return func


def objective_of(model: Any, x: Any, y: Any, penalty: Penalty) -> Objective:
    """What training minimises."""
    return Objective(model.astype(np.float64), np.asarray(x, np.float64), y, penalty, True, 0.0, 0)


def gradient_of(objective: Objective, spoil: Callable[[Gradients, Gradients], Gradients] | None) -> Callable[..., Any]:
    """Its gradient, true or spoilt."""

    def gradient(params: Gradients) -> Gradients:
        true = {k: np.array(g) for k, g in objective.gradient(params).items()}
        return true if spoil is None else spoil(true, params)

    return gradient


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """A cotangent without symmetries."""
    rng = np.random.default_rng(2)
    return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape))


# --- what many cases use ----------------------------------------------------------------------------------------------


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entrywise(f: Any, true: Any, wrong: Any, x: np.ndarray) -> tuple[Any, ...]:
    """An operation of one array, entry by entry, from f and two derivatives."""
    return f, [x], lambda xs, y_bar: [y_bar * true(xs[0])], lambda xs, y_bar: [y_bar * wrong(xs[0])]
