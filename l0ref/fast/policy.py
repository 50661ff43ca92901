"""How kernels are compiled: one policy for all of them.

cache=True            a kernel is compiled when it is first called, for 0.1 to 3 seconds, and kept on disk
nogil=True            other Python threads run meanwhile
error_model="numpy"   x / 0 is infinite, as in NumPy; the check Python's rule needs keeps loops from being vectorised
fastmath=False        sums keep their order, NaN stays NaN: fast mathematics may assume there is none

Two traps follow from the cache. A kernel does not notice when one that it calls changes in another file, so a
kernel and all it calls stand in one file. A kernel found in the cache runs without bounds checks even under
NUMBA_BOUNDSCHECK=1, so every such mode needs a NUMBA_CACHE_DIR of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

kernel: Callable[[Callable[..., Any]], Any] = njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
