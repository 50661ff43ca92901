"""The surrogates once more, as one-line NumPy formulas; searches for prox and dead zone; the parameters to try.

Nothing is imported from the package under test.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# class name -> parameters to try: ordinary ones, small and large ones, and dyadic ones whose corners are exact
CASES: dict[str, list[dict[str, float]]] = {
    "Laplace": [{"beta": b} for b in (5.0, 0.3, 1e-3, 2e4)],
    "LinearizedLaplace": [{"beta": b} for b in (5.0, 0.25, 1e-3, 2e4)],
    "GemanMcClure": [{"beta": b} for b in (5.0, 0.3, 1e-3, 2e4)],
    "Gaussian": [{"sigma": s} for s in (0.1, 1.0, 3e3, 7e-5)],
    "LogSum": [{"eps": e} for e in (0.1, 2.0, 1e3, 1e-10)],
    "Arctan": [{"beta": b} for b in (5.0, 0.3, 1e-3, 2e4)],
    "Tanh": [{"beta": b} for b in (5.0, 0.3, 1e-3, 2e4)],
    "CappedL1": [{"theta": t} for t in (0.5, 0.07, 1e3)],
    "SCAD": [{"lam": lam, "a": a} for lam, a in ((0.5, 3.0), (0.1, 3.7), (2.0, 2.001), (1e-3, 100.0))],
    "MCP": [{"lam": lam, "gamma": g} for lam, g in ((0.5, 4.0), (0.1, 3.0), (2.0, 0.3), (1e-3, 100.0))],
    "Lp": [{"p": p} for p in (0.5, 2 / 3, 0.3, 0.97, 0.01)],
    "TransformedL1": [{"a": a} for a in (1.0, 0.03, 1e3, 1e-6)],
    "L0": [{}],
    "L1": [{}],
    "L2": [{}],
}

PLAIN: dict[str, Any] = {
    "Laplace": lambda u, beta: -np.expm1(-beta * u),
    "LinearizedLaplace": lambda u, beta: np.where(u < 1 / beta, beta * u - (beta * u) ** 2 / 2, 0.5),
    "GemanMcClure": lambda u, beta: u / (u + 1 / beta),
    "Gaussian": lambda u, sigma: -np.expm1(-(u**2) / 2 / sigma**2),
    "LogSum": lambda u, eps: np.log1p(u / eps),
    "Arctan": lambda u, beta: np.arctan(beta * u) / (np.pi / 2),
    "Tanh": lambda u, beta: -np.expm1(-2 * beta * u) / (np.exp(-2 * beta * u) + 1),
    "CappedL1": lambda u, theta: np.where(u < theta, u, theta),
    "SCAD": lambda u, lam, a: np.select(
        [u <= lam, u <= a * lam],
        [lam * u, (2 * a * lam * u - u**2 - lam**2) / (2 * (a - 1))],
        (a + 1) * lam**2 / 2,
    ),
    "MCP": lambda u, lam, gamma: np.where(u <= gamma * lam, lam * u - u**2 / (2 * gamma), gamma * lam**2 / 2),
    "Lp": lambda u, p: u**p,
    "TransformedL1": lambda u, a: (a + 1) * u / (a + u),
    "L0": lambda u: np.where(u != 0, 1.0, 0.0),
    "L1": lambda u: u,
    "L2": lambda u: u * u,
}


def least(name: str, a: Any, t: float, parameters: dict[str, float]) -> Any:
    """For each entry of a, the least 1/2 (x - a)^2 + t phi(x) on a grid, refined four times around three points."""

    def energy(x: Any) -> Any:
        return (x - a.reshape(-1, *[1] * (x.ndim - 1))) ** 2 / 2 + t * PLAIN[name](x, **parameters)

    steps = np.concatenate((np.linspace(0.0, 1.25, 626), np.geomspace(1e-6, 1, 100)))  # 0 and a itself among them
    x = a[:, None] * steps
    h = energy(x)
    best = h.min(axis=1)
    middle = np.take_along_axis(x, np.argsort(h, axis=1)[:, :3], axis=1)[:, :, None]
    reach = a[:, None, None] / 250
    for _ in range(4):
        near = np.maximum(middle + reach * np.linspace(-1, 1, 61), 0.0)
        h = energy(near)
        middle = np.take_along_axis(near, h.argmin(axis=2)[:, :, None], axis=2)
        best, reach = np.minimum(best, h.min(axis=(1, 2))), reach / 20
    return best


def zone(name: str, t: float, parameters: dict[str, float]) -> float:
    """inf over x > 0 of x / 2 + t phi(x) / x, on a grid from 1e-10 to 1e3 with neighbours 0.15 % apart."""
    x = np.geomspace(1e-10, 1e3, 20_001)
    return float((x / 2 + t * PLAIN[name](x, **parameters) / x).min())
