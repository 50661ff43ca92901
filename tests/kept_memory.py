"""Memory that kernels keep between calls."""

from __future__ import annotations

import numpy as np

from l0ref.fast.machine import scratch


def spoil() -> None:
    """Fill all that is kept with NaN: no result may depend on what it holds."""
    for kept in scratch._kept.__dict__.values():
        for memory in kept if isinstance(kept, list) else [kept]:
            memory[:] = np.nan
