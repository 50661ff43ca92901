"""The right numbers in the wrong places: transposes, reversals, shifts, exchanged entries."""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array
from tests.faults.plant import Spot, of_pair, of_result
from tests.faults.points import Pair


@of_result("transposed: two axes of one size exchanged", at="square")
def transposed(g: Array, _: Spot) -> Array | None:
    pairs = [(i, j) for j in range(g.ndim) for i in range(j) if g.shape[i] == g.shape[j] > 1]
    return g.swapaxes(*pairs[-1]) if pairs else None


@of_result("the right shape, filled in the memory order of the transpose")
def memory_order(g: Array, _: Spot) -> Array | None:
    return g.T.reshape(g.shape) if g.ndim > 1 else None


@of_result("reversed along an axis")
def backwards(g: Array, s: Spot) -> Array | None:
    return None if s.axis is None else np.flip(g, s.axis)


@of_result("an index off by one: shifted by one entry along an axis")
def index_off_by_one(g: Array, s: Spot) -> Array | None:
    return None if s.axis is None else np.roll(g, 1, s.axis)


@of_result("two entries exchanged")
def two_exchanged(g: Array, s: Spot) -> Array | None:
    if g.size < 2:
        return None
    a, b = int(np.abs(s.g).argmax()), int(np.abs(s.g - s.g[s.largest]).argmax())
    g.flat[a], g.flat[b] = g.flat[b], g.flat[a]
    return g


@of_result("a loop that ends one early: the last slice of an axis stays 0")
def last_missing(g: Array, s: Spot) -> Array | None:
    if s.axis is None:
        return None
    np.moveaxis(g, s.axis, 0)[-1] = 0
    return g


@of_result("chunks that overlap: the first slice of an axis is counted twice")
def first_twice(g: Array, s: Spot) -> Array | None:
    if s.axis is None:
        return None
    np.moveaxis(g, s.axis, 0)[0] *= 2
    return g


@of_result("the wrong axis: averaged along one and repeated")
def averaged_along_axis(g: Array, s: Spot) -> Array | None:
    return None if s.axis is None else np.broadcast_to(g.mean(axis=s.axis, keepdims=True), g.shape)


@of_pair("the cotangents of two inputs of one shape are exchanged", at="square")
def inputs_exchanged(s: Spot) -> tuple[Pair, tuple[int, ...]] | None:
    xs, true = s.target.xs, s.target.true
    others = [j for j in range(s.which + 1, len(xs)) if xs[j].shape == s.x.shape]
    if not others:
        return None
    i, j = s.which, others[0]

    def vjp(saved: object, y_bar: Array) -> list[Array]:
        gs = true.vjp(saved, y_bar)
        gs[i], gs[j] = gs[j], gs[i]
        return gs

    return Pair(true.forward, vjp), (i, j)
