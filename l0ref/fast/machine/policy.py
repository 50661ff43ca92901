"""How kernels are compiled, and on how many threads they run: one policy for all of them.

cache=True            a kernel is compiled when it is first called, for 0.1 to 3 seconds, and kept on disk
nogil=True            other Python threads run meanwhile
error_model="numpy"   x / 0 is infinite, as in NumPy; the check Python's rule needs keeps loops from being vectorised
fastmath=False        sums keep their order, NaN stays NaN: fast mathematics may assume there is none
no_cfunc_wrapper      no kernel is called from C, and the code for that is not compiled

Two traps follow from the cache. A kernel loaded from it runs without bounds checks even under NUMBA_BOUNDSCHECK=1, so
every such mode needs a NUMBA_CACHE_DIR of its own. And Numba looks only at the file a kernel stands in: it would not
notice when another kernel, called from there, changes elsewhere. So kernels call only kernels of this package, and each
carries the stamp of all files of the package. How files are checked, and what happens where none can be written, stands
in `machine.storage`.

Threads that wait for each other spin for a moment and then sleep (GOMP_SPINCOUNT, unless it is set). By default GNU's
OpenMP lets them spin for milliseconds, and where another program uses one of the processors, they take the other from
the thread they wait for: a training step of 2 ms then took 20 ms. The setting is for Numba's threads only. Waking a
sleeping thread takes 24 microseconds (measured), which is what it saves in a job of twice that: see `threads_for_call`.

A number written in a call, f(x, 0), is a type of its own to Numba, for which f is compiled once more, and that takes as
long as for any other: kernels call f(x, np.int64(0)) where others pass a variable.

A parallel kernel is a loop over threads around a serial one, never the loop itself: inside `prange` the compiler does
not vectorise. It is compiled twice, and a single thread does not use the pool: waking the pool takes longer than many
small jobs. `machine.teams` says which processes and threads may not use the pool at all. BLAS gets no product for which
it would start several threads, see `products.matmul`, so that there is one pool of threads, Numba's.
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
SERIAL = 700_000  # multiply-adds that one thread does in 12 microseconds: below, a second one does not help
WAKING = 2_000_000  # and those in 35 microseconds, of which it saves as much as it costs to wake it
MOVE = 10  # multiply-adds that take as long as to move a number
LOADED = 3  # and as one whose vector comes from the second cache, as where weights are sparse
AWAKE = 30e-6  # seconds that threads are awake after a kernel: somewhat less than SPINS take

_last = 0.0  # when a job that was worth several threads last ended
_was_worth = False  # whether the last job asked for was
_followed = 0  # how many of them have followed one another at once
_work = 0  # multiply-adds of all jobs


def load_openmp() -> None:
    """Load GNU's OpenMP, if it is there, with SPINS in the environment: it looks there once, when it is loaded.

    Numba finds it loaded. Other libraries bring their own, which are left with their settings.
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
        copy.__qualname__ = name  # names its file in the cache, which could not tell one from the other
        self.together = kernel(copy, parallel=True)

    def __call__(self, *args: Any) -> Any:
        global _last
        result = run_on_pool(self.together, args) if args[-1] > 1 and has_pool() else self.alone(*args)
        if args[-1] > 1 or _was_worth:
            _last = perf_counter()
        return result


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over as many threads as its last argument says, when it is first called with one or with more."""
    settings: Any = numba.config
    return function if settings.DISABLE_JIT else OnThreads(function)


def threads_for(work: int) -> int:
    """Return one thread for few multiply-adds, else all that Numba may use: for a job with others around it."""
    global _was_worth, _work
    _work += work
    _was_worth = work > SERIAL and has_pool()
    return numba.get_num_threads() if _was_worth else 1


def threads_for_call(work: int) -> int:
    """Return the same for a call that stands alone; no result depends on it.

    A job of medium size gets several threads if at least two others came directly before it: the threads are then
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
    """Return x as one read-only axis, so that a kernel is compiled once for all inputs."""
    view = x.ravel()
    view.setflags(write=False)
    return view
