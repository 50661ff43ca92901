"""How many entries to remove: from a compression ratio, or by bisection from a limit on the loss."""

from __future__ import annotations

import math
from collections.abc import Callable

from l0ref.errors import ArgumentError, LayerCollapse
from l0ref.validate import count, real


def amount_for_compression(n: int, ratio: float) -> int:
    """Return how many of `n` entries must go so that floor(n / ratio) are kept.

    ratio  compression, all entries over kept entries, from 1 up; n / ratio is rounded to float64 first

    >>> amount_for_compression(266_200, 60.0)  # 4,436 stay
    261764
    """
    return n - kept_count_for_compression(n, ratio)


def kept_count_for_compression(n: int, ratio: float) -> int:
    """Return floor(n / ratio), how many of `n` entries a compression by `ratio` keeps: at least one."""
    count("n", n, least=1)
    if not 1.0 <= real("ratio", ratio) <= n:
        raise ArgumentError(
            f"ratio={ratio!r} must lie in [1, {n}], so that between one and all of the n={n} entries stay"
        )
    return math.floor(n / ratio)


def largest_amount(
    loss_after: Callable[[int], float], *, n: int, limit: float, start: int = 0, resolution: int = 1
) -> int:
    """Return the largest count of removed entries whose loss stays within `limit`, found by bisection.

    loss_after  count -> validation loss of the network with that many entries removed; NaN, or raising
                LayerCollapse, says that the count is too large
    n           largest count to consider
    limit       largest loss accepted, for instance 1.01 times the loss before pruning
    start       count removed already; its loss must be within the limit
    resolution  stop when the answer is known to this many entries

    `loss_after` is called at most 2 + ceil(log2((n - start) / resolution)) times. The loss is assumed, not
    guaranteed, to grow with the count: if it does, the result is less than `resolution` below the largest
    possible count; if not, a larger one may exist. In both cases the loss at the returned count was measured
    and is within the limit.

    Ref  Barth, von Petersenn, arXiv 2505.17469: "TAMADE", a bisection for the largest magnitude threshold.
    Departs from the paper: the count is bisected, not the threshold, so the search ends after finitely many steps.
    """
    low, high = count("start", start), count("n", n)
    bound, step = real("limit", limit), count("resolution", resolution, least=1)
    if low > high:
        raise ArgumentError(f"start={start} exceeds n={n}; start is the count removed already, out of n")
    before = float(loss_after(low))
    if not before <= bound:
        raise ArgumentError(f"limit={limit!r} is below the loss {before:.6g} at start={start}; raise the limit")
    if _within(loss_after, high, bound):
        return high
    while high - low > step:
        middle = (low + high) // 2
        if _within(loss_after, middle, bound):
            low = middle
        else:
            high = middle
    return low


def _within(loss_after: Callable[[int], float], removed: int, bound: float) -> bool:
    try:
        return float(loss_after(removed)) <= bound
    except LayerCollapse:
        return False
