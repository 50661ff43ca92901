"""Masks applied to arrays, and the number of entries they remove."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from l0ref.validate import Array


def masked(a: Array, keep: Array | None) -> Array:
    """Return `a` where `keep` is True and exactly +0 elsewhere, even where `a` is infinite or NaN; None keeps all.

    A product with the mask would turn non-finite entries into NaN and negative ones into -0.

    >>> import numpy as np
    >>> masked(np.array([1.0, np.inf, -2.0]), np.array([True, False, False])).tolist()
    [1.0, 0.0, 0.0]
    """
    return a if keep is None else np.where(keep, a, a.dtype.type(0))


def removed(masks: Mapping[str, Array]) -> int:
    """Return the number of entries that all masks together remove.

    >>> import numpy as np
    >>> removed({"fc1.weight": np.array([True, False]), "fc2.weight": np.array([False])})
    2
    """
    return sum(mask.size - int(np.count_nonzero(mask)) for mask in masks.values())
