"""Where faults are planted: every registered operation and surrogate with its true derivative, at small inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from l0ref.autodiff.op import OPS, Rule, run_vjp
from l0ref.surrogates import Surrogate
from l0ref.testing.samples import KINKS, SAMPLES, SURROGATE_SAMPLES, Sample
from l0ref.validate import Array
from tests.faults.inputs import SMALL, SQUARE

Rng = np.random.Generator
SHIFT = 2.0**-7  # relative distance of the second point at which a gradient is looked at


@dataclass(frozen=True, eq=False)
class Pair:
    """A function and its derivative, as an operation has them: true ones, or with a fault.

    forward  *xs -> (y, saved)
    vjp      (saved, y_bar) -> one fresh cotangent per input
    """

    forward: Callable[..., tuple[Array, Any]]
    vjp: Callable[[Any, Array], list[Array]]


@dataclass(frozen=True, eq=False)
class Target:
    """A true pair and a point. A surrogate is a function of one array; its cotangent is ones unless somebody asks.

    name     of the operation or surrogate
    what     "op" or "surrogate"
    options  of the operation; the parameters of the surrogate
    at_kink  True if the point is one of `l0ref.testing.samples.KINKS`, or 0 in a surrogate
    """

    name: str
    what: str
    true: Pair
    xs: tuple[Array, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    surrogate: Surrogate | None = None
    at_kink: bool = False

    @cached_property
    def y(self) -> Array:
        """The value."""
        return self.true.forward(*self.copies)[0]

    @property
    def copies(self) -> list[Array]:
        """The inputs, fresh."""
        return [x.copy() for x in self.xs]

    @cached_property
    def near(self) -> list[Array]:
        """A second point, on the same side of every kink."""
        rng = np.random.default_rng(1)
        return [x * (1 + SHIFT * rng.uniform(0.5, 1.0, x.shape)) for x in self.xs]

    @cached_property
    def y_bar(self) -> Array:
        """A cotangent without symmetries; ones for a surrogate, whose gradient knows of none."""
        if self.what == "surrogate":
            return np.ones(self.y.shape)
        rng = np.random.default_rng(2)
        return np.asarray(rng.choice([-1.0, 1.0], self.y.shape) * rng.uniform(0.5, 1.5, self.y.shape))

    @cached_property
    def other_y_bar(self) -> Array:
        """A second cotangent; ones for a surrogate."""
        return np.asarray(np.flip(self.y_bar) * (0.5 if self.what == "op" else 1.0))

    @cached_property
    def cotangents(self) -> list[Array]:
        """What the true derivative makes of `y_bar`."""
        return self.true.vjp(self.true.forward(*self.copies)[1], self.y_bar.copy())


def op_pair(name: str, options: Mapping[str, Any]) -> Pair:
    """The operation's plain definition; what is saved are its inputs and what it saves itself."""
    op = OPS[name]
    rule = Rule(op.forward, op.vjp)

    def forward(*xs: Array) -> tuple[Array, Any]:
        y, inner = rule.forward(*xs, **options)
        return np.asarray(y), (xs, inner)

    def vjp(saved: Any, y_bar: Array) -> list[Array]:
        xs, inner = saved
        return [g for g in run_vjp(op, rule, inner, y_bar, xs, [True] * len(xs)) if g is not None]

    return Pair(forward, vjp)


def surrogate_pair(phi: Surrogate) -> Pair:
    """phi, entry by entry."""
    return Pair(lambda w: (phi.value(w), ((w,), w)), lambda saved, y_bar: [y_bar * phi.grad(saved[1])])


def smooth(seed: int) -> list[Target]:
    """Every operation and surrogate away from its kinks."""
    return [*_ops({**SAMPLES, **SMALL}, seed), *_surrogates((8,), seed)]


def square(seed: int) -> list[Target]:
    """The same with two axes of one size."""
    return [*_ops({**SAMPLES, **SMALL, **SQUARE}, seed), *_surrogates((3, 3), seed)]


def kinks() -> list[Target]:
    """The documented kinks of the operations; surrogates at 0, where they have one."""
    found = [
        Target(k.op, "op", op_pair(k.op, k.options), tuple(np.array(x) for x in k.inputs), k.options, at_kink=True)
        for k in KINKS
    ]
    for name, (phi, _) in SURROGATE_SAMPLES.items():
        if phi.slope_at_zero > 0:
            w = np.array([-0.3, 0.0, 0.2])
            found.append(Target(name, "surrogate", surrogate_pair(phi), (w,), vars(phi), phi, at_kink=True))
    return found


def _ops(samples: Mapping[str, Sample], seed: int) -> list[Target]:
    rng = np.random.default_rng(seed)
    return [Target(name, "op", op_pair(name, s.options), tuple(s.make(rng)), s.options) for name, s in samples.items()]


def _surrogates(shape: tuple[int, ...], seed: int) -> list[Target]:
    rng = np.random.default_rng(seed)
    found = []
    for name, (phi, corners) in SURROGATE_SAMPLES.items():
        w = surrogate_entries(corners, rng, n=int(np.prod(shape)))
        if name == "L0":
            w[0] = 0.0  # nothing else moves it, and a check in which nothing moves is refused
        found.append(Target(name, "surrogate", surrogate_pair(phi), (w.reshape(shape),), vars(phi), phi))
    return found


def surrogate_entries(corners: tuple[float, ...], rng: Rng, *, n: int) -> Array:
    """Entries of both signs on all sides of the corners, none near one or near 0."""
    edges = sorted(corners) or [0.5]
    low, high = np.array([0.1 * edges[0], *(1.3 * c for c in edges)]), np.array([*(0.8 * c for c in edges), 3.0])
    which = rng.permutation(n) % low.size
    return np.asarray(rng.choice([-1.0, 1.0], n) * rng.uniform(low[which], high[which]))
