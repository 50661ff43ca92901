"""What a fault is, how one is planted in a true derivative, and when it counts as planted.

A kind of fault is a function with one of three decorators:

    @of_result(says)      fault(g, spot)      the cotangent of one input, spoilt after it was computed
    @of_cotangent(says)   fault(y_bar, spot)  the incoming cotangent, spoilt before that of one input is computed
    @of_pair(says)        fault(spot)         anything else: the whole faulty pair, made anew for every check

Each returns None where the kind does not apply. What it returns counts as a fault only if it can be told from the
truth: see `is_real`.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.validate import Array
from tests.faults.points import Pair, Target, kinks, smooth, square

DIFFERENT = 2e-8  # relative error that makes a fault; the checker promises to see errors beyond 1e-8


@dataclass(frozen=True, eq=False)
class Spot:
    """One input of one target: the place of a fault."""

    target: Target
    which: int

    @property
    def x(self) -> Array:
        """The input."""
        return self.target.xs[self.which]

    @property
    def g(self) -> Array:
        """Its true cotangent for the target's y_bar."""
        return self.target.cotangents[self.which]

    @property
    def y_bar(self) -> Array:
        return self.target.y_bar

    @property
    def largest(self) -> tuple[Any, ...]:
        """Index of the entry with the largest |g|."""
        return np.unravel_index(int(np.abs(self.g).argmax()), self.g.shape)

    @property
    def axis(self) -> int | None:
        """The longest axis of the input; None if no axis has two entries."""
        return int(np.argmax(self.x.shape)) if self.x.ndim and max(self.x.shape) > 1 else None

    @property
    def is_op(self) -> bool:
        return self.target.what == "op"

    def rng(self) -> np.random.Generator:
        """Random numbers that are the same for every call at this spot."""
        return np.random.default_rng([zlib.crc32(self.target.name.encode()), self.which])


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of fault.

    name   short name, that of its function
    says   what is wrong, for the table
    at     where it is planted: "smooth", "square" or "kink"
    said   what the message of a checker must contain; None: the name of the input with the fault
    seen   False for a fault that no check at one point can see; see `tests.faults.limits`
    family the module it is defined in
    make   spot -> (faulty pair, inputs with a wrong cotangent), or None
    """

    name: str
    says: str
    at: str
    said: str | None
    seen: bool
    family: str
    make: Callable[[Spot], tuple[Pair, tuple[int, ...]] | None]


@dataclass(frozen=True, eq=False)
class Planted:
    """One fault in one place."""

    kind: Kind
    target: Target
    which: int

    @property
    def id(self) -> str:
        return f"{self.kind.name}-{self.target.name}-{self.which}"

    @property
    def blamed(self) -> tuple[int, ...]:
        """The inputs whose cotangent is wrong."""
        return self._made()[1]

    def pair(self) -> Pair:
        """The faulty pair, with memory of its own."""
        return self._made()[0]

    def _made(self) -> tuple[Pair, tuple[int, ...]]:
        made = self.kind.make(Spot(self.target, self.which))
        assert made is not None
        return made


KINDS: dict[str, Kind] = {}
Result = Callable[[Array, Spot], Array | None]
Whole = Callable[[Spot], Pair | tuple[Pair, tuple[int, ...]] | None]


def of_result(says: str, *, at: str = "smooth", seen: bool = True) -> Callable[[Result], Result]:
    """Register a fault of a finished cotangent."""

    def register(fault: Result) -> Result:
        def make(spot: Spot) -> Pair | None:
            if fault(spot.g.copy(), spot) is None:
                return None
            return with_result(spot, lambda g, _: fault(g, spot))

        _register(fault, make, says, at, seen=seen)
        return fault

    return register


def of_cotangent(says: str, *, at: str = "smooth") -> Callable[[Result], Result]:
    """Register a fault of the cotangent that comes in; a surrogate gets none."""

    def register(fault: Result) -> Result:
        def make(spot: Spot) -> Pair | None:
            if not spot.is_op or fault(spot.y_bar.copy(), spot) is None:
                return None
            true = spot.target.true.vjp
            return with_result(spot, lambda _, call: true(call[0], fault(call[1].copy(), spot))[spot.which])

        _register(fault, make, says, at)
        return fault

    return register


def of_pair(says: str, *, at: str = "smooth", said: str | None = None, seen: bool = True) -> Callable[[Whole], Whole]:
    """Register a fault of another sort: the function returns the faulty pair, and the wrong inputs if others."""

    def register(fault: Whole) -> Whole:
        _register(fault, fault, says, at, said=said, seen=seen)
        return fault

    return register


def with_result(spot: Spot, wrong: Callable[[Array, tuple[Any, Array]], Array]) -> Pair:
    """The true pair but for one cotangent, replaced by wrong(it, (saved, y_bar))."""
    true = spot.target.true

    def vjp(saved: Any, y_bar: Array) -> list[Array]:
        gs = true.vjp(saved, y_bar)
        gs[spot.which] = np.array(wrong(gs[spot.which], (saved, y_bar)), dtype=np.float64)
        return gs

    return Pair(true.forward, vjp)


def _register(fault: Any, make: Whole, says: str, at: str, *, said: str | None = None, seen: bool = True) -> None:
    name = fault.__name__
    assert name not in KINDS, f"two kinds are called {name}"

    def whole(spot: Spot) -> tuple[Pair, tuple[int, ...]] | None:
        made = make(spot)
        return (made, (spot.which,)) if isinstance(made, Pair) else made

    KINDS[name] = Kind(name, says, at, said, seen, fault.__module__.rsplit(".", 1)[-1], whole)


@functools.cache
def targets(at: str, seed: int) -> tuple[Target, ...]:
    """The targets of one sort; those at kinks are the same for every seed."""
    return tuple({"smooth": smooth, "square": square}[at](seed) if at != "kink" else kinks())


def plant(kind: Kind, seed: int) -> Iterator[Planted]:
    """Yield a kind in every input of every target where it is a fault."""
    for target in targets(kind.at, seed):
        for which in range(len(target.xs)):
            made = kind.make(Spot(target, which))
            if made is not None and (not kind.seen or is_real(made[0], target, kind)):
                yield Planted(kind, target, which)


def is_real(pair: Pair, target: Target, kind: Kind) -> bool:
    """Whether a cotangent really is wrong; in pairs that remember, whether any use shows a difference, some day."""
    if kind.family == "state":
        return any(differs(a, b) for a, b in zip(behaviour(pair, target), behaviour(target.true, target), strict=True))
    found = pair.vjp(pair.forward(*target.copies)[1], target.y_bar.copy())
    return any(differs(a, b) for a, b in zip(found, target.cotangents, strict=True))


def differs(a: Array, b: Array) -> bool:
    """Whether two arrays differ in some entry, beyond rounding; a NaN differs from everything."""
    if a.shape != b.shape:
        return True
    allowed = DIFFERENT * np.abs(b) + 1e-12 * np.abs(b).max(initial=0.0)
    return not bool((np.abs(a - b) <= allowed).all())


def behaviour(pair: Pair, target: Target) -> list[Array]:
    """Everything that can be seen of a pair: values, cotangents, and what became of the arrays afterwards.

    Called at two points, with two cotangents, once after the other and once interleaved.
    """
    xs, near = target.copies, [x.copy() for x in target.near]
    y_bar, other = target.y_bar.copy(), target.other_y_bar.copy()
    y, saved = pair.forward(*xs)
    held = pair.vjp(saved, y_bar)
    seen = [np.array(a) for a in (y, *held, *pair.vjp(saved, y_bar))]
    y, second = pair.forward(*near)
    seen += [np.array(a) for a in (y, *pair.vjp(saved, y_bar), *pair.vjp(second, other))]
    seen += [pair.forward(*target.copies)[0]]
    return [*seen, *held, *xs, y_bar]
