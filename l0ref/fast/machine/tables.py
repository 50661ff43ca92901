"""Tables of offsets, as the kernels of `products.contraction` read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]


def table(*rows: Any) -> Table:
    """Return offsets, (number of arrays they point into, number of offsets): one row for each array."""
    return np.stack([np.asarray(row, np.int64).reshape(-1) for row in np.broadcast_arrays(*rows)])
