"""Cases of `l0ref.ops.surrogate`; the surrogates themselves have tests of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.cases.case import F64, Case, normal, off
from tests.naive import each


@dataclass(frozen=True)
class Decay:
    """phi(w) = 1 - e^(-beta |w|), written for this test."""

    beta: float

    def value(self, w: F64) -> Any:
        return 1 - np.exp(-self.beta * np.abs(w))

    def grad(self, w: F64) -> Any:
        return self.beta * np.sign(w) * np.exp(-self.beta * np.abs(w))


def loops(w: F64, *, surrogate: Decay) -> F64:
    return each(lambda p: 1 - math.exp(-surrogate.beta * (p if p > 0 else -p)), w)


CASES = [
    Case(
        "Surrogate",
        label,
        make,
        {"surrogate": Decay(beta)},
        lambda ops, w, **o: ops.surrogate(w, **o),
        lambda th, w, *, surrogate: 1 - th.exp(-surrogate.beta * th.abs(w)),
        loops,
        moves=moves,
    )
    for label, make, beta, moves in [
        ("matrix", off((4, 5)), 5.0, True),
        ("kernel", off((2, 1, 3, 2)), 0.5, True),
        ("scalar", off(()), 1.0, True),
        ("empty", normal((0, 3)), 1.0, False),
    ]
]
