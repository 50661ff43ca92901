"""The surrogates in mpmath at 50 digits: value and two derivatives at u = |w| > 0."""

from __future__ import annotations

from typing import Any

from tests.oracles_vectors.number import mp

Exact = tuple[Any, Any, Any]  # phi, phi', phi'' at u > 0; at a corner those of the piece on its left


def laplace(u: Any, beta: Any) -> Exact:
    e = mp.exp(-beta * u)
    return -mp.expm1(-beta * u), beta * e, -(beta**2) * e


def linearized_laplace(u: Any, beta: Any) -> Exact:
    if u > 1 / beta:
        return mp.mpf(1) / 2, mp.mpf(0), mp.mpf(0)
    return beta * u - (beta * u) ** 2 / 2, beta - beta**2 * u, -(beta**2)


def geman_mcclure(u: Any, beta: Any) -> Exact:
    s = 1 + beta * u
    return beta * u / s, beta / s**2, -2 * beta**2 / s**3


def gaussian(u: Any, sigma: Any) -> Exact:
    r = u / sigma
    e = mp.exp(-(r**2) / 2)
    return -mp.expm1(-(r**2) / 2), r / sigma * e, (1 - r**2) / sigma**2 * e


def log_sum(u: Any, eps: Any) -> Exact:
    return mp.log1p(u / eps), 1 / (u + eps), -1 / (u + eps) ** 2


def arctan(u: Any, beta: Any) -> Exact:
    c, d = 2 * beta / mp.pi, 1 + (beta * u) ** 2
    return 2 / mp.pi * mp.atan(beta * u), c / d, -2 * c * beta**2 * u / d**2


def tanh(u: Any, beta: Any) -> Exact:
    y, s = mp.tanh(beta * u), mp.sech(beta * u) ** 2
    return y, beta * s, -2 * beta**2 * y * s


def capped_l1(u: Any, theta: Any) -> Exact:
    return (u, mp.mpf(1), mp.mpf(0)) if u < theta else (theta, mp.mpf(0), mp.mpf(0))


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


def l0(_u: Any) -> Exact:
    return mp.mpf(1), mp.mpf(0), mp.mpf(0)


def l1(u: Any) -> Exact:
    return u, mp.mpf(1), mp.mpf(0)


def l2(u: Any) -> Exact:
    return u**2, 2 * u, mp.mpf(2)


FORMULAS: dict[str, Any] = {
    f.__name__: f
    for f in (
        laplace, linearized_laplace, geman_mcclure, gaussian, log_sum, arctan, tanh, capped_l1, scad, mcp, lp,
        transformed_l1, l0, l1, l2,
    )
}  # fmt: skip
