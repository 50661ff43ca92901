"""From scores to masks: which entries stay, with exact counts and a rule for ties.

A mask is a boolean array shaped like its weight; True keeps the entry. Words used here and everywhere:

    n           number of entries considered: of all layers, or of one layer when scope="layer"
    amount      how much is removed: a float in [0, 1] is a fraction of n, an int is a count of entries
    drop        number of entries removed, floor(amount * n + 0.5), including those pruned before

The lowest score goes first; among equal scores the lowest position (layer order, then flat index in
C order). Pruned entries stay pruned. Nothing here looks at weights or losses: magnitude pruning is
``keep_mask({name: abs(w)}, ...)``.

    keep_mask    single entries
    block_mask   tiles of b_r x b_c entries, by their norm; n, amount and drop count tiles
    nm_mask      N of every M entries along the input axis, 2:4 for instance
    masked       an array under a mask
    removed      how many entries masks remove
"""

from l0ref.masks.amounts import amount_for_compression, kept_count_for_compression, largest_amount
from l0ref.masks.applied import masked, removed
from l0ref.masks.nm import nm_mask
from l0ref.masks.ranking import Mask, keep_mask
from l0ref.masks.tiles import block_mask

__all__ = [
    "Mask",
    "amount_for_compression",
    "block_mask",
    "keep_mask",
    "kept_count_for_compression",
    "largest_amount",
    "masked",
    "nm_mask",
    "removed",
]
