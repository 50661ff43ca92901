"""All kinds of fault, by family, and the corpus made of them."""

from __future__ import annotations

import functools

from tests.faults import branches, cotangents, limits, numbers, places, state, sums, windows
from tests.faults.plant import KINDS, Kind, Planted, plant

FAMILIES = {
    "numbers": numbers,
    "places": places,
    "sums": sums,
    "branches": branches,
    "windows": windows,
    "cotangents": cotangents,
    "state": state,
    "limits": limits,
}
assert {kind.family for kind in KINDS.values()} == set(FAMILIES)


@functools.cache
def corpus(seed: int = 0) -> tuple[Planted, ...]:
    """Every kind that can be seen, in every input of every target where it is a fault."""
    return tuple(p for kind in KINDS.values() if kind.seen for p in plant(kind, seed))


@functools.cache
def unseen(seed: int = 0) -> tuple[Planted, ...]:
    """The kinds that cannot be seen."""
    return tuple(p for kind in KINDS.values() if not kind.seen for p in plant(kind, seed))


def of_family(family: str) -> list[Kind]:
    """The kinds of one family, in the order they are written in."""
    return [kind for kind in KINDS.values() if kind.family == family]
