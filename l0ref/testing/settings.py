"""The options that all gradient checks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.testing.agreement import Rules
from l0ref.validate import choose, count, nonnegative, positive

RTOL = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-4}
KINKS = ("report", "accept", "skip", "fail")


class Options(TypedDict, total=False):
    """The options of every gradient check, as keyword arguments; defaults are those of `Settings`."""

    eps: float | None
    atol: float | None
    rtol: float | None
    fast_mode: bool
    nondet_tol: float
    kinks: str
    seed: int
    max_entries: int | None
    raise_exception: bool


@dataclass(frozen=True)
class Settings:
    """The options of a gradient check.

    eps              step of the differences; None: chosen for each entry, at most 2^-10 of its scale
    atol             absolute tolerance; None: 0, so a small gradient is checked as strictly as a large one
    rtol             relative tolerance; None: 1e-8 in float64, 1e-4 in float32. The estimated error of the
                     differences is allowed in addition
    fast_mode        zero-mean random directions and cotangents instead of every entry; an input they cannot settle
                     (a fault, a kink) is checked entry by entry
    nondet_tol       how far two calls at the same inputs may differ
    kinks            "report": name kinks and accept their documented value, 0 between opposite slopes, else
                     anything between the slopes; "accept": the same, and a check whose entries are all at
                     kinks passes too; "skip": leave kinks out; "fail": a kink fails the check
    seed             of the cotangent, the directions and the sampled entries
    max_entries      compare at most this many entries per input, drawn at random, besides directions through all
                     of them, and where these fail as many again, to find the wrong ones; None: all
    raise_exception  raise GradcheckFailure with the report's text, instead of returning the failed report
    """

    eps: float | None = None
    atol: float | None = None
    rtol: float | None = None
    fast_mode: bool = False
    nondet_tol: float = 0.0
    kinks: str = "report"
    seed: int = 0
    max_entries: int | None = None
    raise_exception: bool = True

    @classmethod
    def of(cls, **options: Unpack[Options]) -> Settings:
        """Return the settings given as keyword arguments; an unknown one is refused by name."""
        known = Options.__annotations__
        if unknown := [name for name in options if name not in known]:
            raise TypeError(f"{unknown[0]!r} is not an option of a gradient check; the options are {', '.join(known)}")
        return cls(**options)

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
