"""The surrogates once more, in mpmath at 50 digits, with two derivatives; and how far a float64 is from that.

Nothing is imported from the package under test. Parameters are the floats the package gets, read exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

mp: Any = pytest.importorskip("mpmath", reason="the 50 digits come from mpmath, of the extra crosscheck")

mp.mp.dps = 50

Exact = tuple[Any, Any, Any]  # phi, phi', phi'' at u > 0


def laplace(u: Any, beta: Any) -> Exact:
    e = mp.exp(-beta * u)
    return -mp.expm1(-beta * u), beta * e, -(beta**2) * e


def linearized_laplace(u: Any, beta: Any) -> Exact:
    if u >= 1 / beta:
        return mp.mpf(1) / 2, mp.mpf(0), mp.mpf(0)
    return beta * u - (beta * u) ** 2 / 2, beta - beta**2 * u, -(beta**2)


def geman_mcclure(u: Any, beta: Any) -> Exact:
    s = 1 + beta * u
    return beta * u / s, beta / s**2, -2 * beta**2 / s**3


def gaussian(u: Any, sigma: Any) -> Exact:
    v = sigma**2
    e = mp.exp(-(u**2) / (2 * v))
    return -mp.expm1(-(u**2) / (2 * v)), u / v * e, (1 / v - u**2 / v**2) * e


def log_sum(u: Any, eps: Any) -> Exact:
    return mp.log1p(u / eps), 1 / (u + eps), -1 / (u + eps) ** 2


def arctan(u: Any, beta: Any) -> Exact:
    d = 1 + (beta * u) ** 2
    return 2 * mp.atan(beta * u) / mp.pi, 2 * beta / mp.pi / d, -4 * beta**3 * u / mp.pi / d**2


def tanh(u: Any, beta: Any) -> Exact:
    s = mp.sech(beta * u) ** 2
    return mp.tanh(beta * u), beta * s, -2 * beta**2 * mp.tanh(beta * u) * s


def capped_l1(u: Any, theta: Any) -> Exact:
    return min(u, theta), mp.mpf(u < theta), mp.mpf(0)


def scad(u: Any, lam: Any, a: Any) -> Exact:
    if u <= lam:
        return lam * u, lam, mp.mpf(0)
    if u <= a * lam:
        return (2 * a * lam * u - u**2 - lam**2) / (2 * (a - 1)), (a * lam - u) / (a - 1), -1 / (a - 1)
    return (a + 1) * lam**2 / 2, mp.mpf(0), mp.mpf(0)


def mcp(u: Any, lam: Any, gamma: Any) -> Exact:
    if u <= gamma * lam:
        return lam * u - u**2 / (2 * gamma), lam - u / gamma, -1 / gamma
    return gamma * lam**2 / 2, mp.mpf(0), mp.mpf(0)


def lp(u: Any, p: Any) -> Exact:
    return u**p, p * u ** (p - 1), p * (p - 1) * u ** (p - 2)


def transformed_l1(u: Any, a: Any) -> Exact:
    return (a + 1) * u / (a + u), a * (a + 1) / (a + u) ** 2, -2 * a * (a + 1) / (a + u) ** 3


def l0(_: Any) -> Exact:
    return mp.mpf(1), mp.mpf(0), mp.mpf(0)


def l1(u: Any) -> Exact:
    return u, mp.mpf(1), mp.mpf(0)


def l2(u: Any) -> Exact:
    return u**2, 2 * u, mp.mpf(2)


EXACT: dict[str, Any] = {
    "Laplace": laplace,
    "LinearizedLaplace": linearized_laplace,
    "GemanMcClure": geman_mcclure,
    "Gaussian": gaussian,
    "LogSum": log_sum,
    "Arctan": arctan,
    "Tanh": tanh,
    "CappedL1": capped_l1,
    "SCAD": scad,
    "MCP": mcp,
    "Lp": lp,
    "TransformedL1": transformed_l1,
    "L0": l0,
    "L1": l1,
    "L2": l2,
}


def exact(name: str, u: float, parameters: dict[str, float]) -> Exact:
    """phi, phi' and phi'' at u > 0, to 50 digits."""
    return EXACT[name](mp.mpf(u), **{key: mp.mpf(value) for key, value in parameters.items()})


def ulp(x: Any) -> Any:
    """Distance of neighbouring float64 numbers at x = mantissa 2^exponent, 1/2 <= mantissa < 1: 2^(exponent - 53)."""
    exponent = mp.frexp(x)[1] if x else -2000
    return mp.mpf(2) ** max(int(exponent) - 53, -1074)


def ulps_off(got: float, true: Any) -> float:
    """How many units in the last place `got` is from `true`; inf is right where `true` rounds to it."""
    if abs(true) >= mp.mpf(2) ** 1024:
        return 0.0 if got == np.copysign(np.inf, float(mp.sign(true))) else np.inf
    return float(abs(mp.mpf(got) - true) / ulp(true))
