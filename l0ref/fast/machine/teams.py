"""Which processes and threads may use Numba's pool of threads; where that is not safe, a single thread computes.

fork       A process that was forked after its parent had started the pool has none of its threads. GNU's OpenMP ends
           it when it uses the pool (and a `multiprocessing.Pool` then waits for ever), so it computes on its own
           thread, with the same results. Processes that are spawned have pools of their own.
workqueue  Numba's own pool, used where there is no OpenMP, as on macOS, ends the process when two threads use it at
           once. So they take turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import Any

from numba.np.ufunc import parallel

UNSHARED = "workqueue"  # the pool that serves one thread at a time

_pool = Lock()
_is_lost = False


def _forked() -> None:
    """Record, in a forked process, whether the pool was lost."""
    global _is_lost, _pool
    _is_lost = _is_lost or parallel._is_initialized
    _pool = Lock()  # a thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def has_pool() -> bool:
    """Whether this process has the pool, or can start it."""
    return not _is_lost


def run_on_pool(kernel: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a kernel that uses the pool."""
    if parallel._threading_layer != UNSHARED:
        return kernel(*args)
    with _pool:
        return kernel(*args)
