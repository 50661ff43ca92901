"""The values of a benchmark: the plan of a run, its suites, the works of a suite, the contenders of a work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from l0ref.validate import Array

Answers = Mapping[str, Array]
OURS = "l0ref"  # the name of our contender in every table
DENSE = "dense"  # the names of contenders that multiply by the zeros begin with it: "dense, NumPy"


def nothing() -> None:
    """Do nothing: the `reset` of a contender that keeps no state."""


@dataclass(frozen=True)
class Contender:
    """One way to do a work.

    name     in the tables; ours is "l0ref"
    run      run(n) does n units of work; nothing else is timed
    reset    restores the initial state before each run, untimed
    answer   turns what `run` returned into {name: array}, untimed; None for a limit, which does only part of the work
    problem  key of `Work.expected` whose answers it must give
    """

    name: str
    run: Callable[[int], Any]
    reset: Callable[[], None] = nothing
    answer: Callable[[Any], Answers] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Work:
    """A piece of work that is timed.

    name         with the sizes in it; works named "width = 2", "width = 4", or "conv1, density = 5 %", are drawn as
                 one curve
    contenders   in the order of the table; ours first, if it takes part
    expected     {problem: its answers after `check_units` units, from plain NumPy in float64}
    tolerance    largest difference from them, ||a - e|| / ||e|| for each array
    unit         noun for one unit: "step", "call", "process"
    check_units  units done for the comparison, and in each run of a warm-up
    turn         approximate length of a timed run in seconds
    units        largest number of units in a timed run; None: as many as fit in `turn`
    per          (units, name) of the reported time, such as (469, "epoch"); None: one unit
    pinned       pin threads to processors
    rate         (amount, name): an amount in a unit of work, such as (2e9, "GF/s"), shown per second over 1e9
    """

    name: str
    contenders: Sequence[Contender]
    expected: Mapping[str, Callable[[], Answers]] = field(default_factory=dict)
    tolerance: float = 1e-3
    unit: str = "call"
    check_units: int = 1
    turn: float = 0.05
    units: int | None = None
    per: tuple[int, str] | None = None
    pinned: bool = True
    rate: tuple[float, str] | None = None

    @property
    def checked(self) -> str:
        """The units of the comparison in words, such as "8 steps"."""
        return f"{self.check_units} {self.unit}{'s' if self.check_units > 1 else ''}"


def repeated(call: Callable[[], Any]) -> Callable[[int], Any]:
    """Return a function of n that calls `call` n times and returns the last result."""

    def run(times: int) -> Any:
        for _ in range(times):
            found = call()
        return found

    return run


def named(name: str) -> Callable[[Any], Answers]:
    """Return the function that gives a contender's result the name of its only answer."""
    return lambda result: {name: np.asarray(result)}


@dataclass(frozen=True)
class Plan:
    """The settings of one run of the benchmark.

    suites   names of suites, in the order they run
    rounds   turns of each contender
    threads  of every library alike
    peers    names from `l0ref.bench.peers.PEERS`
    quick    small sizes and short turns, to check that everything runs; the times mean little
    seed     of weights, images and labels
    goals    only works and contenders that a goal of `l0ref.bench.summary` reads
    """

    suites: tuple[str, ...]
    rounds: int
    threads: int
    peers: tuple[str, ...]
    quick: bool = False
    seed: int = 0
    goals: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return {**asdict(self), "suites": list(self.suites), "peers": list(self.peers)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Return the plan that `to_json` described."""
        return cls(**{**value, "suites": tuple(value["suites"]), "peers": tuple(value["peers"])})


@dataclass(frozen=True)
class Claim:
    """A number and its goal, the largest acceptable value; without a goal it has no verdict.

    complete  whether its computation was finished; if not, the goal is missed at any value
    """

    name: str
    value: float
    goal: float | None = None
    unit: str = ""
    complete: bool = True

    @property
    def verdict(self) -> str:
        """Return "reached" or "missed", "-" without a goal."""
        return "-" if self.goal is None else "reached" if self.complete and self.value <= self.goal else "missed"

    def without_goal(self) -> Claim:
        """Return the number alone."""
        return replace(self, goal=None)


def no_works(plan: Plan) -> Iterator[Work]:
    """The works of a suite that only makes claims."""
    del plan
    return iter(())


@dataclass(frozen=True)
class Suite:
    """Works that are measured together, or claims.

    name    on the command line
    about   one line for `l0ref bench --list`
    works   yields the works one after another, so that only one of them is in memory
    claims  yields numbers beside their goals, and lines of text about them
    """

    name: str
    about: str
    works: Callable[[Plan], Iterator[Work]] = no_works
    claims: Callable[[Plan], Iterator[Claim | str]] | None = None
