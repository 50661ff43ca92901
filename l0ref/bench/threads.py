"""One number of threads for every library, and threads pinned to processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from l0ref.bench.work import nothing

COUNTS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
KEPT = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30))  # bytes
TASKS = "/proc/self/task"


def processors() -> list[int]:
    """Return the numbers of the processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def variables(threads: int) -> dict[str, str]:
    """Return the environment in which every library has `threads` threads.

    The libraries read it when they are imported, so it must be set before the process starts. It also lets an idle
    OpenBLAS thread spin for 2^18 cycles instead of 2^26, so that it sleeps before the next contender's turn, and lets
    GNU's C library keep freed memory. Otherwise a fresh output of more than 128 KB costs new pages at each call in some
    processes and not in others: 784 x 300 at 1 % with 128 samples took 14 or 62 microseconds.
    """
    return {**dict.fromkeys(COUNTS, str(threads)), "OPENBLAS_THREAD_TIMEOUT": "18", **KEPT}


def places(threads: int) -> tuple[int, list[int]] | None:
    """Return the processor of the main thread and those of all others; None where threads cannot be pinned."""
    cpus = processors()
    if not hasattr(os, "sched_setaffinity") or not os.path.isdir(TASKS) or len(cpus) < 2:
        return None
    return cpus[0], cpus[1 : max(threads, 2)]


@contextmanager
def pinned(threads: int) -> Iterator[Callable[[], None]]:
    """Yield a function that pins all threads that exist when it is called; unpin them all at the end.

    The main thread goes to the first processor, the others share the next `threads` - 1. Unpinned, a virtual machine
    may leave both threads of a pool on one processor. Where the system cannot pin threads the function does nothing.
    """
    place = places(threads)
    if place is None:
        yield nothing
        return
    free = set(processors())
    main, others = {place[0]}, set(place[1])

    try:
        yield lambda: _place(main, others)
    finally:
        _place(free, free)


def _place(main: set[int], others: set[int]) -> None:
    me = str(os.getpid())  # the main thread has the id of the process
    for task in os.listdir(TASKS):
        with suppress(ProcessLookupError):  # a thread that has ended since
            os.sched_setaffinity(int(task), main if task == me else others)
