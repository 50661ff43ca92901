"""From scores to masks: which entries stay, with exact counts and a rule for ties.

A mask is a boolean array shaped like its weight; True keeps the entry. Words used here and everywhere:

    n           number of entries in question: of all layers, or of one layer when scope="layer"
    amount      how much goes: a float in [0, 1] is a fraction of n, an int is a count of entries
    drop        the count that goes, floor(amount * n + 0.5); entries pruned before count among them

The lowest score goes first; among equal scores the lowest position does (layer order, then flat index
in C order). Pruned stays pruned. Nothing here looks at weights or losses: magnitude pruning is
``keep_mask({name: abs(w)}, ...)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, DTypeError, LayerCollapse, ShapeError
from l0ref.validate import Array, choose, count, float_array, real, same_dtype

Mask = NDArray[np.bool_]


def keep_mask(
    scores: Mapping[str, Array],
    *,
    amount: float | None = None,
    threshold: float | None = None,
    scope: str = "global",
    min_keep: int = 0,
    current: Mapping[str, Mask] | None = None,
) -> dict[str, Mask]:
    """Return a mask per layer, shaped like its scores, True where the entry stays. Give `amount` or `threshold`.

    scores     float arrays of one dtype, in layer order; a higher score is worth more, +-inf is allowed
    amount     float: this fraction goes; int: this many entries go (so 1.0 is all of them and 1 is one);
               exactly floor(amount * n + 0.5) entries of the result are False, whatever the ties
    threshold  entries with score < threshold go, score >= threshold stay; compared in float64
    scope      "global": one ranking over all layers; "layer": the same amount, fraction or count, from each
               layer by itself. A threshold is the same for every layer, with either scope
    min_keep   every layer keeps at least this many of its best entries (all that are left, if fewer);
               a global `amount` is then met from the other layers
    current    masks so far; a layer without one is unpruned. What is False in them is False in the result

    A layer of size 0 has an empty mask. Any other layer left without an entry raises LayerCollapse.

    >>> import numpy as np
    >>> score = np.array([1.0, 0.0, 1.0, 1.0, 2.0])
    >>> keep_mask({"fc1": score}, amount=0.5)["fc1"].tolist()  # floor(0.5 * 5 + 0.5) = 3 go
    [False, False, False, True, True]
    """
    choose("scope", scope, ("global", "layer"))
    least = count("min_keep", min_keep)
    if (amount is None) == (threshold is None):
        raise ArgumentError(f"amount={amount!r}, threshold={threshold!r}: give exactly one of the two")
    flat = _flat_scores(scores)
    alive = _flat_alive(flat, scores, current)
    safe = {name: _best(flat[name], alive[name], least) for name in flat}
    if threshold is not None:
        cut = real("threshold", threshold)
        keep = {name: safe[name] | (alive[name] & (flat[name].astype(np.float64) >= cut)) for name in flat}
    elif scope == "layer":
        keep = {}
        for name in flat:
            keep |= _drop_lowest(flat, alive, safe, names=[name], amount=amount, where=f" in layer {name!r}")
    else:
        keep = _drop_lowest(flat, alive, safe, names=list(flat), amount=amount, where="")
    asked = f"amount={amount!r}" if threshold is None else f"threshold={threshold!r}"
    for name, mask in keep.items():
        if mask.size and not mask.any():
            raise LayerCollapse(
                f"{asked} leaves layer {name!r} none of its {mask.size} entries; prune less or pass min_keep=1"
            )
    return {name: mask.reshape(np.shape(scores[name])) for name, mask in keep.items()}


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
    guaranteed, to grow with the count: where it does, the result is the largest count there is; where it
    does not, a larger one may exist. Either way the loss at the returned count was measured and is within
    the limit.

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


def _flat_scores(scores: Mapping[str, Array]) -> dict[str, Array]:
    flat = {name: float_array(f"scores[{name!r}]", score).ravel() for name, score in scores.items()}
    if flat:
        same_dtype(**flat)
    for name, score in flat.items():
        bad = int(np.isnan(score).sum())
        if bad:
            raise ArgumentError(
                f"scores[{name!r}] has {bad} NaN of {score.size}: no order exists; mend the scores first"
            )
    return flat


def _flat_alive(
    flat: Mapping[str, Array], scores: Mapping[str, Array], current: Mapping[str, Mask] | None
) -> dict[str, Mask]:
    """The entries not pruned so far, flat."""
    given = current or {}
    for name, mask in given.items():
        if name not in scores:
            raise ArgumentError(
                f"current[{name!r}] has no scores; its layers must be among {', '.join(map(repr, scores))}"
            )
        if getattr(mask, "dtype", None) != np.bool_:
            raise DTypeError(f"current[{name!r}] must be an array of bool, True = keep; compare the weights with != 0")
        if mask.shape != np.shape(scores[name]):
            raise ShapeError(
                f"current[{name!r}] has shape {mask.shape}, expected that of its scores, {np.shape(scores[name])}"
            )
        if mask.size and not mask.any():
            raise LayerCollapse(
                f"current[{name!r}] has none of {mask.size} entries left, and pruned stays so; begin from earlier masks"
            )
    return {name: given[name].ravel() if name in given else np.ones(s.size, np.bool_) for name, s in flat.items()}


def _first_to_go(score: Array, candidates: NDArray[np.intp], k: int) -> NDArray[np.intp]:
    """The `k` candidates of lowest score; among equals those listed first. Linear time: no full sort."""
    if k <= 0 or k >= candidates.size:
        return candidates[: max(k, 0)]
    ours = score[candidates]
    cut = np.partition(ours, k - 1)[k - 1]
    below = ours < cut
    ties = np.flatnonzero(ours == cut)[: k - np.count_nonzero(below)]
    return np.concatenate([candidates[below], candidates[ties]])


def _best(score: Array, alive: Mask, least: int) -> Mask:
    """The `least` entries of one layer that would go last."""
    if least == 0:
        return np.zeros_like(alive)
    survivors = np.flatnonzero(alive)
    safe = alive.copy()
    safe[_first_to_go(score, survivors, survivors.size - least)] = False
    return safe


def _drop_lowest(
    flat: Mapping[str, Array],
    alive: Mapping[str, Mask],
    safe: Mapping[str, Mask],
    *,
    names: list[str],
    amount: Any,
    where: str,
) -> dict[str, Mask]:
    """Rank the layers `names` together and drop down to the amount asked for."""
    if not names:
        _drop_count(amount, 0, where)
        return {}
    score, keep, kept_safe = (np.concatenate([part[name] for name in names]) for part in (flat, alive, safe))
    n = keep.size
    drop = _drop_count(amount, n, where)
    already = n - int(np.count_nonzero(keep))
    if drop < already:
        raise ArgumentError(
            f"amount={amount!r} asks for {drop} of {n} entries to go{where}, but {already} are pruned already "
            f"and stay so; ask for at least {already}"
        )
    candidates = np.flatnonzero(keep & ~kept_safe)
    if drop - already > candidates.size:
        raise ArgumentError(
            f"amount={amount!r} asks for {drop} of {n} entries to go{where}, but at most {already + candidates.size} "
            "can when every layer keeps min_keep entries; lower one of the two"
        )
    keep[_first_to_go(score, candidates, drop - already)] = False
    ends = np.cumsum([flat[name].size for name in names])
    return dict(zip(names, np.split(keep, ends[:-1]), strict=True))


def _drop_count(amount: Any, n: int, where: str) -> int:
    """Read `amount` as the number of entries, out of `n`, that are to be False."""
    if isinstance(amount, float | np.floating):
        if not 0.0 <= amount <= 1.0:
            raise ArgumentError(
                f"amount={amount!r} must lie in [0, 1]: a float is a fraction, not a percentage; an int is a count"
            )
        return math.floor(float(amount) * n + 0.5)
    if count("amount", amount) > n:
        raise ArgumentError(f"amount={amount!r} exceeds the {n} entries there are{where}; a float would be a fraction")
    return int(amount)
