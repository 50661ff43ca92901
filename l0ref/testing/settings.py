"""The options all gradient checks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.testing.compare import Rules
from l0ref.validate import choose, count, nonnegative, positive

RTOL = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-4}
KINKS = ("report", "skip", "fail")


@dataclass(frozen=True)
class Settings:
    """The options all checks share; see `l0ref.testing.gradcheck` for their meaning."""

    eps: float | None = None
    atol: float | None = None
    rtol: float | None = None
    fast_mode: bool = False
    nondet_tol: float = 0.0
    kinks: str = "report"
    seed: int = 0
    max_entries: int | None = None

    def __post_init__(self) -> None:
        if self.eps is not None:
            positive("eps", self.eps)
        for name in ("atol", "rtol", "nondet_tol"):
            if getattr(self, name) is not None:
                nonnegative(name, getattr(self, name))
        if self.rtol is not None and self.rtol >= 1:
            raise ArgumentError(f"rtol={self.rtol!r} must be below 1, or a gradient of zero would pass")
        choose("kinks", self.kinks, KINKS)
        count("seed", self.seed)
        if self.max_entries is not None:
            count("max_entries", self.max_entries, least=1)

    def rules(self, dtype: np.dtype[Any]) -> Rules:
        """The rules of comparison for a gradient of type `dtype`."""
        rtol = RTOL[np.dtype(dtype)] if self.rtol is None else float(self.rtol)
        return Rules(rtol, float(self.atol or 0.0), self.kinks, self.eps, np.dtype(dtype))
