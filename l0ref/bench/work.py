"""A piece of work, and the contenders that do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l0ref.validate import Array

Answers = Mapping[str, Array]
OURS = "l0ref"  # the name of our contender in every table
DENSE = "dense"  # the names of contenders that multiply by the zeros begin with it: "dense, NumPy"


def nothing() -> None:
    """Do nothing: a contender that starts over by itself."""


@dataclass(frozen=True)
class Contender:
    """One way of doing a work.

    name     as it stands in the tables; ours is "l0ref"
    run      run(n) does n units of work; nothing else is timed
    reset    brings back the start before each run, untimed
    answer   turns what `run` returned into {name: array}, untimed; None for a limit, which does less on purpose
    problem  which of the work's answers it must give: a key of `Work.expected`
    """

    name: str
    run: Callable[[int], Any]
    reset: Callable[[], None] = nothing
    answer: Callable[[Any], Answers] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Work:
    """What is timed.

    name         with the sizes in it; works named "width = 2", "width = 4", or "conv1, density = 5 %", are drawn as
                 one curve
    contenders   in the order of the table; ours first, where it takes part
    expected     {problem: its answers after `check_units` units, from plain NumPy in float64}
    tolerance    largest difference from them, ||a - e|| / ||e|| for each array
    unit         what one unit is called: "step", "call", "process"
    check_units  units done for the comparison, and in each run of a warm-up
    turn         seconds a timed run lasts, about
    units        units in a timed run at most; as many as `turn` asks for if None
    per          (units, name) to report the time of, such as (469, "epoch"); one unit if None
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
