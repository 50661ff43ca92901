"""The 50 digits of the surrogate classes, and how far a float64 is from them.

Nothing is imported from the package under test. Parameters are the floats the package gets, read exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("mpmath", reason="the 50 digits come from mpmath, of the extra crosscheck")

from tests.oracles_vectors.formulas import FORMULAS, Exact
from tests.oracles_vectors.number import mp

FORMULA: dict[str, str] = {  # of each class
    "Laplace": "laplace", "LinearizedLaplace": "linearized_laplace", "GemanMcClure": "geman_mcclure",
    "Gaussian": "gaussian", "LogSum": "log_sum", "Arctan": "arctan", "Tanh": "tanh", "CappedL1": "capped_l1",
    "SCAD": "scad", "MCP": "mcp", "Lp": "lp", "TransformedL1": "transformed_l1", "L0": "l0", "L1": "l1", "L2": "l2",
}  # fmt: skip


def exact(name: str, u: float, parameters: dict[str, float]) -> Exact:
    """phi, phi' and phi'' at u > 0, to 50 digits."""
    return FORMULAS[FORMULA[name]](mp.mpf(u), **{key: mp.mpf(value) for key, value in parameters.items()})


def ulp(x: Any) -> Any:
    """Distance of neighbouring float64 numbers at x = mantissa 2^exponent, 1/2 <= mantissa < 1: 2^(exponent - 53)."""
    exponent = mp.frexp(x)[1] if x else -2000
    return mp.mpf(2) ** max(int(exponent) - 53, -1074)


def ulps_off(got: float, true: Any) -> float:
    """How many units in the last place `got` is from `true`; inf is right where `true` rounds to it."""
    if abs(true) >= mp.mpf(2) ** 1024:
        return 0.0 if got == np.copysign(np.inf, float(mp.sign(true))) else np.inf
    return float(abs(mp.mpf(got) - true) / ulp(true))
