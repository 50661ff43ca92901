"""The contract of schedules: a frozen record of options, called with the step.

    schedule(step, steps=T, history=h) -> float

    step     updates made so far: 0 before the first, T after the last; beyond T the end value stays
    steps    T, updates in the whole run, at least 1
    history  validation values so far, oldest first, one per epoch; only ReduceOnPlateau reads it

A schedule remembers nothing: the same arguments give the same value, wherever training starts from. A
time option given as a float is a fraction of T; given as an int, a number of steps.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import ClassVar

from l0ref.errors import ArgumentError
from l0ref.validate import between, choose, count, portion

SCHEDULES: dict[str, type[Schedule]] = {}


class Schedule:
    """A function of the step; subclassing registers it under its class name.

    gives  "factor": the multiplier of a base value (learning rate, penalty strength), 1 for the base value itself;
           "sparsity": the fraction of entries that are to be pruned, for ``masks.keep_mask(amount=...)``
    """

    gives: ClassVar[str] = "factor"

    def __init_subclass__(cls) -> None:
        name = cls.__name__
        if name in SCHEDULES:
            taken = SCHEDULES[name].__module__
            raise TypeError(f"schedule {name!r} is already registered by {taken}; choose another class name")
        SCHEDULES[name] = cls

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        """Return the value at `step` of `steps`."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


def by_name(name: str, **options: float | str) -> Schedule:
    """Return the schedule called `name`, its class name in snake case, with its options.

    >>> by_name("step_decay", every=30)
    StepDecay(every=30, factor=0.1)
    """
    classes = _classes()
    cls = classes[choose("name", name, classes)]
    allowed = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # subclasses are dataclasses
    for option, value in options.items():
        if option not in allowed:
            known = ", ".join(allowed) or "none"
            raise ArgumentError(f"{option}={value!r} is not an option of schedule {name!r}, which has: {known}")
    return cls(**options)


def names(gives: str = "factor") -> tuple[str, ...]:
    """Return the names that `by_name` accepts, of schedules that give a "factor" or of those that give a "sparsity"."""
    return tuple(name for name, cls in _classes().items() if cls.gives == gives)


def _classes() -> dict[str, type[Schedule]]:
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower(): cls for key, cls in SCHEDULES.items()}


def position(step: int, steps: int) -> tuple[int, int]:
    """Check `step` and `steps` and return them, the step no later than the end."""
    total = count("steps", steps, least=1)
    return min(count("step", step), total), total


def check_time(name: str, value: float) -> None:
    """Refuse a time option that is neither a whole number of steps nor a fraction in [0, 1]."""
    if isinstance(value, float):
        between(name, value, 0.0, 1.0)
    else:
        count(name, value)


def in_steps(value: float, steps: int) -> int:
    """Return a time option in steps: an int as it is, a float as a fraction of the run, floor(value * steps + 0.5)."""
    return portion(value, steps) if isinstance(value, float) else int(value)
