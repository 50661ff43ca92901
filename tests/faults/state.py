"""Memory that is kept, written or shared, and noise. The faulty pairs here remember earlier calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.validate import Array
from tests.faults.plant import Spot, of_pair, with_result
from tests.faults.points import Pair


@of_pair("what the first call saved is used for ever")
def stale_first_call(s: Spot) -> Pair:
    return _other_saved(s, lambda kept, new: kept.setdefault("saved", new))


@of_pair("one buffer for all calls: what was saved is overwritten by the next call")
def saved_overwritten(s: Spot) -> Pair | None:
    if not s.is_op:  # the gradient of a surrogate is one call: nothing is saved
        return None
    return _other_saved(s, lambda kept, new: kept.update(saved=new))


def _other_saved(s: Spot, keep: Any) -> Pair:
    """One cotangent comes from what is kept, the others from what their own call saved."""
    true = s.target.true
    kept: dict[str, Any] = {}

    def forward(*xs: Array) -> tuple[Array, Any]:
        y, saved = true.forward(*(x.copy() for x in xs))
        keep(kept, saved)
        return y, saved

    def vjp(saved: Any, y_bar: Array) -> list[Array]:
        gs = true.vjp(saved, y_bar)
        gs[s.which] = true.vjp(kept["saved"], y_bar)[s.which]
        return gs

    return Pair(forward, vjp)


@of_pair("the result is handed out in memory that the next call writes")
def result_shared(s: Spot) -> Pair:
    memory = np.empty(s.x.shape)

    def vjp(saved: Any, y_bar: Array) -> list[Array]:
        gs = s.target.true.vjp(saved, y_bar)
        memory[...] = gs[s.which]
        gs[s.which] = memory
        return gs

    return Pair(s.target.true.forward, vjp)


@of_pair("gradients add up: the sum is not set to 0 between calls")
def never_zeroed(s: Spot) -> Pair:
    total = np.zeros(s.x.shape)

    def add(g: Array, _: Any) -> Array:
        np.add(total, g, out=total)
        return total

    return with_result(s, add)


@of_pair("the backward pass writes into the cotangent it was given", said="cotangent")
def cotangent_written(s: Spot) -> Pair | None:
    if s.which or not s.is_op:
        return None
    true = s.target.true

    def vjp(saved: Any, y_bar: Array) -> list[Array]:
        gs = true.vjp(saved, y_bar)
        y_bar *= 0.5
        return gs

    return Pair(true.forward, vjp)


@of_pair("the backward pass writes into its input")
def input_written_backward(s: Spot) -> Pair:
    true = s.target.true

    def forward(*xs: Array) -> tuple[Array, Any]:
        y, saved = true.forward(*(x.copy() for x in xs))
        return y, (xs, saved)

    def vjp(saved: Any, y_bar: Array) -> list[Array]:
        (xs, inner) = saved
        gs = true.vjp(inner, y_bar)
        xs[s.which][...] = gs[s.which]
        return gs

    return Pair(forward, vjp)


@of_pair("the forward pass writes into its input")
def input_written_forward(s: Spot) -> Pair:
    true = s.target.true

    def forward(*xs: Array) -> tuple[Array, Any]:
        y, saved = true.forward(*(x.copy() for x in xs))
        xs[s.which][...] = 0.5
        return y, saved

    return Pair(forward, true.vjp)


@of_pair("noise of 1e-7 in the gradient")
def noisy_gradient(s: Spot) -> Pair:
    rng = np.random.default_rng(0)
    size = 1e-7 * (np.abs(s.g).max() or 1.0)
    return with_result(s, lambda g, _: g + size * rng.uniform(0.5, 1.0, g.shape))


@of_pair("noise of 1e-7 in the value: drawn anew at every call", said="two calls of the value")
def noisy_value(s: Spot) -> Pair | None:
    if s.which:
        return None
    true, rng = s.target.true, np.random.default_rng(0)

    def forward(*xs: Array) -> tuple[Array, Any]:
        y, saved = true.forward(*xs)
        return y + 1e-7 * np.abs(s.target.y).max() * rng.uniform(0.5, 1.0, y.shape), saved

    return Pair(forward, true.vjp)
