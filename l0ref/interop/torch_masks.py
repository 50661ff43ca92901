"""Two masks of one network: their differences, and whether a tie, a count or the order explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.interop.matching import matched
from l0ref.interop.torch_arrays import check_module, numpy, parameters
from l0ref.nn import Model
from l0ref.validate import Array

REASONS = {
    "equal": "equal",
    "tie": "a tie: the entries that differ have the same magnitude",
    "count": "another count: one prunes more entries than the other, smallest first; "
    "PyTorch rounds amount * n half to even, l0ref half up",
    "order": "another order: an entry was pruned although a smaller one was kept",
}


@dataclass(frozen=True)
class MaskRow:
    """The masks of one weight array.

    key           our name of the array
    size          number of entries
    ours, theirs  numbers of entries that each keeps
    only_ours     multi-indices of entries that only ours keeps, in scan order; at most 5
    only_theirs   the same for theirs
    differing     number of entries that only one of the two keeps
    """

    key: str
    size: int
    ours: int
    theirs: int
    only_ours: tuple[tuple[int, ...], ...]
    only_theirs: tuple[tuple[int, ...], ...]
    differing: int


@dataclass(frozen=True)
class MaskComparison:
    """Masks of a Model and a module, array by array; true if they are equal.

    reason  for the difference: "equal", "tie", "count" or "order", a key of `REASONS`
    """

    rows: tuple[MaskRow, ...]
    reason: str

    def __bool__(self) -> bool:
        return self.reason == "equal"

    def __str__(self) -> str:
        lines = [f"masks: {REASONS[self.reason]}"]
        for row in self.rows:
            line = f"{row.key}: of {row.size} entries l0ref keeps {row.ours}, PyTorch {row.theirs}"
            if row.differing:
                sides = (("l0ref", row.only_ours), ("PyTorch", row.only_theirs))
                kept = "; ".join(f"only {who} keeps {', '.join(map(str, at))}" for who, at in sides if at)
                line += f"; {row.differing} differ: {kept}"
            lines.append(line)
        return "\n".join(lines)


def compare_masks(model: Model, module: Any) -> MaskComparison:
    """Return the differences between the masks of `model` and those of torch.nn.utils.prune in `module`, with a reason.

    Magnitudes are those of the module's `weight_orig`, which still holds the pruned entries. The reason is

    "tie"    all entries that differ have the same |w|, and both keep equally many: either choice is right
    "count"  one keeps more than the other, by the entries of largest |w| among those the other prunes
    "order"  anything else: some entry was pruned while a smaller one was kept, as after an earlier pruning, with
             other scores, or where only one side pruned layer by layer

    Names are matched as in `compare`. A weight without a mask keeps all entries.
    """
    check_module(module)
    names = matched(model, module)
    held = {h.name: h for h in parameters(module)}
    ours = {key: model.mask(key) for key in model.weights}
    theirs: dict[str, Array] = {}
    size: dict[str, Array] = {}
    for key in model.weights:
        h = held[names[key]]
        size[key] = np.abs(numpy(h.name, h.parameter))
        keep = h.keep()
        theirs[key] = np.ones(size[key].shape, dtype=bool) if keep is None else keep
        if np.isnan(size[key]).any():
            raise ArgumentError(f"module has NaN in {h.name!r}, so its entries have no order; remove the NaN")
    rows = tuple(_row(key, ours[key], theirs[key]) for key in model.weights)
    return MaskComparison(rows, _reason(ours, theirs, size))


def _row(key: str, ours: Array, theirs: Array) -> MaskRow:
    def first(where: Array) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(int(i) for i in index) for index in np.argwhere(where)[:5])

    return MaskRow(
        key=key,
        size=ours.size,
        ours=int(ours.sum()),
        theirs=int(theirs.sum()),
        only_ours=first(ours & ~theirs),
        only_theirs=first(theirs & ~ours),
        differing=int((ours != theirs).sum()),
    )


def _reason(ours: Mapping[str, Array], theirs: Mapping[str, Array], size: Mapping[str, Array]) -> str:
    """The reason for the difference of two sets of masks, by layer; over all layers if their counts differ."""
    each = {_reason_of(ours[key], theirs[key], size[key]) for key in ours} - {"equal"}
    if "count" not in each or "order" in each:
        return max(each, key=list(REASONS).index, default="equal")
    together = _reason_of(*(np.concatenate([part[key].ravel() for key in ours]) for part in (ours, theirs, size)))
    more, fewer = (any((a[key] & ~b[key]).any() for key in ours) for a, b in ((ours, theirs), (theirs, ours)))
    return together if together == "tie" or (more and fewer) else "count"


def _reason_of(ours: Array, theirs: Array, size: Array) -> str:
    more, fewer = ours & ~theirs, theirs & ~ours
    differ = size[more | fewer]
    if not differ.size:
        return "equal"
    if more.sum() == fewer.sum():
        return "tie" if (differ == differ[0]).all() else "order"
    if more.any() and fewer.any():
        return "order"
    gone = ~ours & ~theirs
    return "count" if not gone.any() or size[gone].max() <= differ.min() else "order"
