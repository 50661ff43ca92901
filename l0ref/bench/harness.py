"""Measure contenders alternately: in every round each of them runs once, after a warm-up."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from l0ref.bench.statistics import Times
from l0ref.bench.work import Contender, Work, nothing
from l0ref.validate import count

WARM_UP = 0.045  # seconds: a BLAS or OpenMP thread of the previous contender spins for up to 30 ms and slows this one


def measure(
    work: Work,
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: float = WARM_UP,
    settle: Callable[[], None] = nothing,
) -> dict[str, Times]:
    """Return the times of all contenders, by name, in the order of `work.contenders`.

    In each round every contender has one turn; every second round runs in reverse order, so that no contender always
    follows the same one. A turn collects garbage, runs untimed until `warm_up` seconds have passed, and then runs once
    under the clock. `settle` is called after the first untimed run, which may have started the threads that it pins.
    The number of units in a timed run is fixed in a contender's first turn; see `Work`.

    clock   seconds from any origin; tests pass a simulated clock
    """
    count("rounds", rounds, least=1)
    seconds: dict[str, list[float]] = {contender.name: [] for contender in work.contenders}
    units: dict[str, int] = {}
    per = 1 if work.per is None else work.per[0]
    with _old_objects_left_alone():
        for number in range(rounds):
            for contender in work.contenders if number % 2 == 0 else reversed(work.contenders):
                gc.collect()
                per_unit = _warm_up(contender, work.check_units, clock=clock, least=warm_up, settle=settle)
                n = units.setdefault(contender.name, _units(work, per_unit))
                seconds[contender.name].append(_timed(contender, n, clock) / n * per)
    return {name: Times(tuple(values)) for name, values in seconds.items()}


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Collect garbage once, then exclude the objects that remain from later collections until the end.

    With PyTorch, Numba and SciPy loaded a full collection took 0.1 s, longer than the rest of a turn.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _warm_up(
    contender: Contender, n: int, *, clock: Callable[[], float], least: float, settle: Callable[[], None]
) -> float:
    """Run untimed for `least` seconds; return the seconds per unit of the last run."""
    begin = clock()
    took = _timed(contender, n, clock)
    settle()
    while clock() - begin < least:
        took = _timed(contender, n, clock)
    return took / n


def _units(work: Work, per_unit: float) -> int:
    """Units in a timed run: as many as fit in `work.turn` seconds, at most `work.units`."""
    wanted = math.inf if per_unit <= 0 else work.turn / per_unit
    if work.units is not None:
        wanted = min(wanted, work.units)
    return max(1, math.ceil(wanted)) if math.isfinite(wanted) else 1


def _timed(contender: Contender, n: int, clock: Callable[[], float]) -> float:
    contender.reset()
    begin = clock()
    contender.run(n)
    return clock() - begin
