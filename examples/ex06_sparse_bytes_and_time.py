"""What a pruned layer takes in bytes and in time, by density, on your machine.

A weight of 300 x 784 is stored as compressed sparse rows and multiplied by 128 samples, dense and sparse by turns.

    bytes   known beforehand: 4 for a value, 2 for its column, 4 for a row start. Fewer than dense below 2/3 kept
    time    to be measured: the dense one does not depend on the density, the sparse one does; sparsity begins to
            pay where they meet

The times are medians of a few rounds, good for a first look. ``l0ref bench sparse`` measures with care, beside SciPy
and PyTorch; docs/sparse.md explains what is measured.

Run it with ``python examples/ex06_sparse_bytes_and_time.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from l0ref import sparse
from l0ref.masks import keep_mask

PERCENT = (100, 50, 20, 10, 5, 2, 1, 0.5)


def main(*, fast: bool = False) -> dict[str, float]:
    """Print bytes and microseconds by density; return the bytes, and the largest error of a product."""
    rows, columns, samples, rounds = (30, 78, 16, 1) if fast else (300, 784, 128, 50)
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((rows, columns), dtype=np.float32)
    x = rng.standard_normal((columns, samples), dtype=np.float32)
    print(f"{rows} x {columns} weights, {samples} samples\n")
    print("density      bytes  of dense    dense us   sparse us  dense/sparse")
    found = {"dense_bytes": float(dense.nbytes), "largest_error": 0.0}
    for percent in PERCENT:
        masked = dense * keep_mask({"w": np.abs(dense)}, amount=1 - percent / 100)["w"]
        w = sparse.CSR.from_dense(masked)
        right = masked.astype(np.float64) @ x
        error = float(np.abs(w @ x - right).max() / np.abs(right).max())
        slow, quick = medians([lambda m=masked: m @ x, lambda w=w: w @ x], rounds)
        print(
            f"{percent:5g} % {w.nbytes:11,d} {w.nbytes / dense.nbytes:9.3f} {1e6 * slow:11.1f} {1e6 * quick:11.1f} "
            f"{slow / quick:13.2f}"
        )
        found[f"bytes_{percent:g}"] = float(w.nbytes)
        found["largest_error"] = max(found["largest_error"], error)
    print("\nThe last column is above 1 where the sparse product is the faster one.")
    return found


def medians(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of each function; they take turns, after one call that is not counted."""
    seconds: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds + 1):
        for function, times in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            if turn:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


if __name__ == "__main__":
    main()
