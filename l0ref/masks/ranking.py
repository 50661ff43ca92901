"""Masks from a ranking of single entries, in one layer or over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, DTypeError, LayerCollapse, ShapeError
from l0ref.validate import Array, choose, count, float_array, mapping, plain_array, portion, real, same_dtype

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
    current    masks so far; a layer without one is unpruned. Entries that are False in them stay False

    A layer of size 0 has an empty mask. Any other layer left without an entry raises LayerCollapse.

    >>> import numpy as np
    >>> score = np.array([1.0, 0.0, 1.0, 1.0, 2.0])
    >>> keep_mask({"fc1": score}, amount=0.5)["fc1"].tolist()  # floor(0.5 * 5 + 0.5) = 3 go
    [False, False, False, True, True]
    """
    found = checked_scores(scores)
    alive = checked_masks(current, found)
    return ranked(found, alive, amount=amount, threshold=threshold, scope=scope, min_keep=min_keep, unit="entries")


def ranked(
    scores: Mapping[str, Array],
    alive: Mapping[str, Mask],
    *,
    amount: float | None,
    threshold: float | None,
    scope: str,
    min_keep: int,
    unit: str,
) -> dict[str, Mask]:
    """Return the masks of checked scores by the rule of `keep_mask`; messages call the ranked items `unit`, a plural.

    alive   a mask for every layer; entries that are False in it were removed earlier
    """
    choose("scope", scope, ("global", "layer"))
    least = count("min_keep", min_keep)
    if (amount is None) == (threshold is None):
        raise ArgumentError(f"amount={amount!r}, threshold={threshold!r}: give exactly one of the two")
    flat = {name: score.ravel() for name, score in scores.items()}
    left = {name: mask.ravel() for name, mask in alive.items()}
    safe = {name: _best(flat[name], left[name], least) for name in flat}
    if threshold is not None:
        cut = real("threshold", threshold)
        keep = {name: safe[name] | (left[name] & (flat[name].astype(np.float64) >= cut)) for name in flat}
    elif scope == "layer":
        keep = {}
        for name in flat:
            keep |= _drop_lowest(flat, left, safe, names=[name], amount=amount, unit=unit, where=f" in layer {name!r}")
    else:
        keep = _drop_lowest(flat, left, safe, names=list(flat), amount=amount, unit=unit, where="")
    asked = f"amount={amount!r}" if threshold is None else f"threshold={threshold!r}"
    for name, mask in keep.items():
        if mask.size and not mask.any():
            raise LayerCollapse(
                f"{asked} leaves layer {name!r} none of its {mask.size} {unit}; prune less or pass min_keep=1"
            )
    return {name: mask.reshape(scores[name].shape) for name, mask in keep.items()}


def checked_scores(scores: Mapping[str, Array]) -> dict[str, Array]:
    """Return the scores as float arrays of one dtype, without NaN."""
    arrays = {name: float_array(f"scores[{name!r}]", score) for name, score in mapping("scores", scores).items()}
    if arrays:
        same_dtype(**arrays)
    for name, score in arrays.items():
        bad = int(np.isnan(score).sum())
        if bad:
            raise ArgumentError(
                f"scores[{name!r}] has {bad} NaN of {score.size}: no order exists; repair the scores first"
            )
    return arrays


def checked_masks(current: Mapping[str, Mask] | None, scores: Mapping[str, Array]) -> dict[str, Mask]:
    """Return a mask for every layer: the one in `current`, of the shape of its scores, or all True."""
    given = {} if current is None else mapping("current", current)
    for name, mask in given.items():
        if name not in scores:
            raise ArgumentError(
                f"current[{name!r}] has no scores; its layers must be among {', '.join(map(repr, scores))}"
            )
        if getattr(mask, "dtype", None) != np.bool_:
            raise DTypeError(f"current[{name!r}] must be an array of bool, True = keep; compare the weights with != 0")
        if plain_array(f"current[{name!r}]", mask).shape != scores[name].shape:
            raise ShapeError(
                f"current[{name!r}] has shape {mask.shape}, expected that of its scores, {scores[name].shape}"
            )
        if mask.size and not mask.any():
            raise LayerCollapse(
                f"current[{name!r}] has none of {mask.size} entries left, and none comes back; begin from earlier masks"
            )
    return {name: given[name] if name in given else np.ones(score.shape, np.bool_) for name, score in scores.items()}


def first_to_go(score: Array, candidates: NDArray[np.intp], k: int) -> NDArray[np.intp]:
    """Return the `k` candidates with the lowest scores; among equals those listed first. Linear time: no full sort."""
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
    safe[first_to_go(score, survivors, survivors.size - least)] = False
    return safe


def _drop_lowest(
    flat: Mapping[str, Array],
    alive: Mapping[str, Mask],
    safe: Mapping[str, Mask],
    *,
    names: list[str],
    amount: Any,
    unit: str,
    where: str,
) -> dict[str, Mask]:
    """Rank the layers `names` together and drop entries until the requested amount is reached."""
    if not names:
        drop_count(amount, 0, unit, where)
        return {}
    score, keep, kept_safe = (np.concatenate([part[name] for name in names]) for part in (flat, alive, safe))
    n = keep.size
    drop = drop_count(amount, n, unit, where)
    already = n - int(np.count_nonzero(keep))
    if drop < already:
        raise ArgumentError(
            f"amount={amount!r} asks for {drop} of {n} {unit} to go{where}, but {already} are pruned already "
            f"and stay pruned; ask for at least {already}"
        )
    candidates = np.flatnonzero(keep & ~kept_safe)
    if drop - already > candidates.size:
        raise ArgumentError(
            f"amount={amount!r} asks for {drop} of {n} {unit} to go{where}, but at most {already + candidates.size} "
            f"can when every layer keeps min_keep {unit}; lower one of the two"
        )
    keep[first_to_go(score, candidates, drop - already)] = False
    ends = np.cumsum([flat[name].size for name in names])
    return dict(zip(names, np.split(keep, ends[:-1]), strict=True))


def drop_count(amount: Any, n: int, unit: str, where: str) -> int:
    """Return `amount` as the number of units, out of `n`, that are to be False: floor(amount n + 0.5) of a fraction.

    unit, where   for messages: the counted items, in the plural, and " in layer 'fc1.weight'" or ""
    """
    if isinstance(amount, float | np.floating):
        if not 0.0 <= amount <= 1.0:
            raise ArgumentError(
                f"amount={amount!r} must lie in [0, 1]: a float is a fraction, not a percentage; an int is a count"
            )
        return portion(float(amount), n)
    if count("amount", amount) > n:
        raise ArgumentError(f"amount={amount!r} exceeds the {n} {unit} there are{where}; a float would be a fraction")
    return int(amount)
