"""Memory traffic with almost no arithmetic: the rate at which arrays can be read and written.

Each kernel cuts its arrays into one part per thread and calls a serial loop on each part, because Numba vectorises a
serial loop in a function of its own but not the body of a parallel loop. The kernels are compiled by Numba's decorator
and not by the policy of `l0ref.fast`, whose stamp on cached kernels covers the files of that package only.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from l0ref.validate import Array


@njit(cache=True, nogil=True, error_model="numpy")
def _triad_part(b, c, out):
    for i in range(out.size):
        out[i] = b[i] + out.dtype.type(3) * c[i]


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _triad(b, c, out, parts):
    for p in prange(parts):
        low, high = p * out.size // parts, (p + 1) * out.size // parts
        _triad_part(b[low:high], c[low:high], out[low:high])


@njit(cache=True, nogil=True, error_model="numpy")
def _read_part(words):
    total = words.dtype.type(0)
    for i in range(words.size):
        total += words[i]
    return total


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _read(words, totals):
    for p in prange(totals.size):
        low, high = p * words.size // totals.size, (p + 1) * words.size // totals.size
        totals[p] = _read_part(words[low:high])


@njit(cache=True, nogil=True, error_model="numpy")
def _moments_part(w, g, m, v, w_out, m_out, v_out):
    for i in range(w.size):
        w_out[i] = w[i] + g[i]
        m_out[i] = m[i] + g[i]
        v_out[i] = v[i] + g[i]


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _moments(w, g, m, v, w_out, m_out, v_out, parts):
    for p in prange(parts):
        low, high = p * w.size // parts, (p + 1) * w.size // parts
        part = slice(low, high)
        _moments_part(w[part], g[part], m[part], v[part], w_out[part], m_out[part], v_out[part])


def triad(b: Array, c: Array, out: Array) -> None:
    """out[i] = b[i] + 3 c[i], on all threads: two arrays read, one written."""
    _triad(b, c, out, numba.get_num_threads())


def read(words: NDArray[np.int64]) -> int:
    """Return the sum of whole numbers, on all threads: one array read, nothing written, one addition per vector."""
    totals = np.empty(numba.get_num_threads(), np.int64)
    _read(words, totals)
    return int(totals.sum())


def moments(w: Array, g: Array, m: Array, v: Array, w_out: Array, m_out: Array, v_out: Array) -> None:
    """Read four arrays and write three, as a step of Adam must: each output is a sum of two inputs."""
    _moments(w, g, m, v, w_out, m_out, v_out, numba.get_num_threads())
