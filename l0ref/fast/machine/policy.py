"""The compilation options of kernels and their number of threads: one policy for all of them.

cache=True            a kernel is compiled when it is first called, for 0.1 to 3 seconds, and kept on disk
nogil=True            other Python threads run meanwhile
error_model="numpy"   x / 0 is infinite, as in NumPy; Python's check for it would prevent vectorised loops
fastmath=False        sums keep their order, NaN stays NaN: fast mathematics may assume there is none
no_cfunc_wrapper      no wrapper for calls from C, which no kernel needs

Two traps follow from the cache. A kernel loaded from it runs without bounds checks even under NUMBA_BOUNDSCHECK=1, so
every such mode needs a NUMBA_CACHE_DIR of its own. And Numba checks only the file that contains a kernel: it does not
notice a change of a called kernel in another file. So kernels call only kernels of this package, and each carries the
stamp of all files of the package. `machine.storage` describes how files are checked, and what happens where none can be
written.

Threads that wait for each other spin for a moment and then sleep (GOMP_SPINCOUNT, unless it is set). By default GNU's
OpenMP lets them spin for milliseconds, and where another program uses one of the processors, they keep the other from
the thread they wait for: a training step of 2 ms then took 20 ms. The setting affects Numba's threads only. Waking a
sleeping thread takes 24 microseconds (measured), which is what it saves in a job of twice that length: see
`threads_for_call`.

A literal number in a call, f(x, 0), has a type of its own in Numba, for which f is compiled once more, at full cost. So
kernels call f(x, np.int64(0)) where others pass a variable.

A parallel kernel is a loop over threads around a serial one, never the loop itself: inside `prange` the compiler does
not vectorise. It is compiled twice, and a single thread does not use the pool: many small jobs are shorter than waking
it. `machine.teams` says which processes and threads may not use the pool at all. BLAS gets no product for which
it would start several threads, see `products.matmul`, so that Numba's pool of threads is the only one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from time import perf_counter
from types import FunctionType
from typing import Any

import numba
from numba import njit

from l0ref.fast.machine.notice import announce_compilation
from l0ref.fast.machine.storage import NO_FOLDER, has_folder, keep_checked
from l0ref.fast.machine.teams import has_pool, run_on_pool
from l0ref.validate import Array

SPINS = 1500  # iterations for which a waiting thread spins before it sleeps: about 30 microseconds
SERIAL = 700_000  # multiply-adds that one thread does in 12 microseconds: below, a second thread does not help
WAKING = 2_000_000  # and in 35 microseconds, of which a second thread saves as much as waking it costs
MOVE = 10  # multiply-adds that take as long as moving a number
LOADED = 3  # and as a multiply-add whose vector comes from the second cache, as with sparse weights
AWAKE = 30e-6  # seconds for which threads stay awake after a kernel: somewhat less than SPINS iterations

_last = 0.0  # time at which a job that was worth several threads last ended
_was_worth = False  # whether the last job was worth several threads
_followed = 0  # number of such jobs that followed one another directly
_work = 0  # multiply-adds of all jobs


def load_openmp() -> None:
    """Load GNU's OpenMP, if it is there, with SPINS in the environment, which it reads once, when it is loaded.

    Numba then uses the loaded one. OpenMP libraries of other packages keep their own settings.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:  # another system, another library
        pass
    finally:
        del os.environ["GOMP_SPINCOUNT"]


NOTICE = announce_compilation()
load_openmp()


def stamp_of(package: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, time of the last change and size of every file of a package, subpackages included."""
    files = ((file.relative_to(package).as_posix(), file.stat()) for file in package.rglob("*.py"))
    return tuple(sorted((name, status.st_mtime_ns, status.st_size) for name, status in files))


STAMP = stamp_of(Path(__file__).parents[1])


def kernel(function: Callable[..., Any], *, parallel: bool = False) -> Any:
    """Compile a function by the policy when it is first called."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False, "parallel": parallel}
    options["no_cfunc_wrapper"] = True
    try:
        compiled = njit(cache=has_folder(), **options)(function)
    except RuntimeError as error:
        if NO_FOLDER not in str(error):
            raise
        compiled = njit(**options)(function)
    keep_checked(compiled, STAMP)
    return compiled


class OnThreads:
    """A parallel kernel: compiled once for Numba's threads, once for the thread that calls it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self.alone = kernel(function)
        code, name = function.__code__, f"{function.__name__}_on_threads"
        copy = FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
        copy.__qualname__ = name  # names its file in the cache, so that the two differ
        self.together = kernel(copy, parallel=True)

    def __call__(self, *args: Any) -> Any:
        global _last
        result = run_on_pool(self.together, args) if args[-1] > 1 and has_pool() else self.alone(*args)
        if args[-1] > 1 or _was_worth:
            _last = perf_counter()
        return result


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over threads, whose number is its last argument, on the first call with one, and with several."""
    settings: Any = numba.config
    return function if settings.DISABLE_JIT else OnThreads(function)


def threads_for(work: int) -> int:
    """Return one thread for few multiply-adds, else all that Numba may use: for a job among others."""
    global _was_worth, _work
    _work += work
    _was_worth = work > SERIAL and has_pool()
    return numba.get_num_threads() if _was_worth else 1


def threads_for_call(work: int) -> int:
    """Return the same for a call that stands alone; no result depends on it.

    A job of medium size gets several threads if at least two others came directly before it: then the threads are
    awake, or worth waking.
    """
    global _followed
    threads = threads_for(work)
    if threads > 1:
        _followed = _followed + 1 if perf_counter() - _last <= AWAKE else 0
    return threads if work > WAKING or _followed >= 2 else 1


def work_so_far() -> int:
    """Return the multiply-adds of all jobs that threads were asked for."""
    return _work


def flat(x: Array) -> Array:
    """Return x as one read-only axis, as kernels get inputs: for writable ones they would be compiled once more."""
    view = x.ravel()
    view.setflags(write=False)
    return view


def fixed(x: Array) -> Array:
    """Return the same with all axes, contiguous."""
    return flat(x).reshape(x.shape)
