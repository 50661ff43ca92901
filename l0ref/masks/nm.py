"""N:M masks: of every M neighbours along the input axis, N stay. 2:4 is the pattern of NVIDIA's sparse tensor cores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from l0ref.errors import ArgumentError, ShapeError
from l0ref.masks.ranking import Mask, checked_masks, checked_scores
from l0ref.validate import Array, count


def nm_mask(
    scores: Mapping[str, Array], *, n: int, m: int, current: Mapping[str, Mask] | None = None
) -> dict[str, Mask]:
    """Return a mask per layer, shaped like its scores, that keeps `n` of each `m` entries along axis 1.

    scores   float arrays of one dtype with at least two axes; a higher score is worth more, so magnitudes, not
             weights. Axis 1 is the input: of a Linear weight (out, in) the features, of a convolution
             (F, C, R, S) the channels, for each filter and place by itself
    n, m     1 <= n <= m. Groups begin at input 0. Where m does not divide the axis, the last group has the
             k = size mod m entries that remain, and min(n, k) of them stay
    current  masks so far; entries that are False in them are False in the result. A group with fewer than n entries
             left keeps those

    The lowest score of a group goes first, among equals the first one.

    Ref  Mishra et al., "Accelerating sparse deep neural networks", arXiv 2104.08378 (2021): 2:4
    Departs from the paper: an axis that m does not divide is pruned too, instead of left dense.

    >>> import numpy as np
    >>> score = np.array([[0.3, 0.1, 0.2, 0.4, 0.9, 0.8, 0.7]])
    >>> nm_mask({"fc1": score}, n=2, m=4)["fc1"].astype(int).tolist()  # groups of 4 and 3
    [[1, 0, 0, 1, 1, 1, 0]]
    """
    kept, size = count("n", n, least=1), count("m", m, least=1)
    if kept > size:
        raise ArgumentError(f"n={n!r} exceeds m={m!r}: n of every m entries stay; swap the two or lower n")
    found = checked_scores(scores)
    for name, score in found.items():
        if score.ndim < 2:
            raise ShapeError(
                f"scores[{name!r}] has shape {score.shape}, expected (out, in) or (F, C, R, S): groups lie along "
                "axis 1; leave biases out"
            )
    alive = checked_masks(current, found)
    return {name: _best_of_groups(score, alive[name], kept, size) for name, score in found.items()}


def _best_of_groups(score: Array, alive: Mask, n: int, m: int) -> Mask:
    """The `n` best of each `m` along axis 1. Places beyond the end count as removed; removed entries rank lowest."""
    inputs = score.shape[1]
    m = max(min(m, inputs), 1)
    n, groups = min(n, m), -(-inputs // m)
    fill = [(0, groups * m - inputs) if axis == score.ndim - 1 else (0, 0) for axis in range(score.ndim)]
    last = np.pad(np.moveaxis(score, 1, -1), fill)  # (F, R, S, C): the input axis last
    there = np.pad(np.moveaxis(alive, 1, -1), fill)
    shape = (*last.shape[:-1], groups, m)
    order = np.lexsort((last.reshape(shape), there.reshape(shape)), axis=-1)  # gone first, then by score, then by place
    keep = np.zeros(shape, np.bool_)
    np.put_along_axis(keep, order[..., m - n :], True, axis=-1)
    entries = (keep & there.reshape(shape)).reshape(last.shape)[..., :inputs]
    return np.ascontiguousarray(np.moveaxis(entries, -1, 1))
