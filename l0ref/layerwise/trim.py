"""Net-Trim's convex program for one layer, by alternating directions.

    minimise sum |U|   subject to   sum over O of ((X U)_pm - Y_pm)^2 <= eps^2,   (X U)_pm <= V_pm outside of O

X (P, N) inputs, with a last column of ones if there is a bias, or a convolution as the operator U -> X U; Y (P, M)
target outputs, O = {Y > 0} behind a ReLU, or all entries in a last layer. One eps couples the M neurons. The unknown
has three copies: W1 = X W3 carries the constraints, W2 = W3 the l1 norm, W3 links them; U1, U2 are scaled multipliers,
and everything starts at 0.

    W1  in O: Y + min(1, eps / ||(Z - Y)_O||) (Z - Y),  outside: min(Z, V),   with Z = X W3 - U1
    W2  soft(W3 - U2, 1 / rho)
    W3  (X'X + I)^-1 [X'(W1 + U1) + W2 + U2]
    U1 += W1 - X W3,  U2 += W2 - W3

X, Y, V and eps are divided by 0.3 sqrt(max X'X) first. W2 is returned: it is exactly sparse. The regularised form of
2017 replaces the ball by (1 / lam) sum over O of ((X U) - Y)^2: then W1 in O is (Z + t Y) / (1 + t), t = 2 / (lam rho).
With over-relaxation a, the updates of W3 and of the multipliers use a W1 + (1 - a) X W3 and a W2 + (1 - a) W3 in place
of W1 and W2, with W3 of the step before.

Ref      Aghasi, Abdi, Nguyen, Romberg 2017 and 2020; steps, scaling and constants after the authors' code.
Departs  The regularised form uses the same three copies, for all neurons at once; the authors solve a general quadratic
         program for each neuron.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.layerwise.operator import Operator
from l0ref.validate import Array, choose, count, positive

Mask = NDArray[np.bool_]
SOLVERS = ("direct", "cg")
BLOCK = 2048  # rows at a time
STEPS = 10  # of conjugate gradients, as in the authors' solver for convolutions


@dataclass(frozen=True)
class Trimmed:
    """U (N, M), exactly sparse, and (||W1 - X W3|| + ||W2 - W3||) / ||Y|| after each iteration, as scaled above."""

    weights: Array
    residuals: tuple[float, ...]


def trim(
    X: Array | Operator, Y: Array, *, active: Mask, ceiling: Array, epsilon: float | None = None,
    lam: float | None = None, rho: float = 100.0, relaxation: float = 1.0, iterations: int = 500,
    tolerance: float = 5e-9, solver: str = "direct",
) -> Trimmed:  # fmt: skip
    """Return the sparse U; see the text of the module.

    active, ceiling     O (P, M), and V (P, M), read outside of O
    epsilon, lam        the radius of the ball, or the weight of the regularised form: one of the two
    rho, iterations     the authors use rho = 100 (dense) or 1 (LeNet), and recommend 300 to 500 iterations
    relaxation          a, 1 to below 2; 1.8 in the authors' code of 2017, with rho = 5 and lam = 4
    tolerance           stop when W3 moves less than this, times its size N M
    solver              of W3: "direct", or "cg", ten steps of conjugate gradients that need no X'X; always "cg" for a
                        convolution as an operator, which has no bias: subtract it from Y and V before
    """
    a = _Matrix(X) if isinstance(X, np.ndarray) else X
    squares = a.squares()
    scale = 0.3 * float(np.sqrt(squares.max(initial=0.0))) or 1.0
    y, on, v = Y / scale, active.astype(float), np.where(active, np.inf, ceiling / scale)
    radius, t = (epsilon or 0.0) / scale, 2 * scale**2 / (lam * rho) if lam else 0.0
    if not 1 <= relaxation < 2:
        raise ArgumentError(f"relaxation={relaxation!r} must lie in [1, 2): 1 is none, 1.8 the authors' choice of 2017")
    solve = _solver(a, scale, choose("solver", solver, SOLVERS))
    w3 = w2 = u2 = np.zeros((len(squares), y.shape[1]))
    xw, u1, w1 = (np.zeros(y.shape) for _ in range(3))
    blocks = [slice(n, n + BLOCK) for n in range(0, len(y), BLOCK)]  # temporaries that stay in the cache
    size, residuals = max(float(np.linalg.norm(y)), 1e-300), []
    for _ in range(count("iterations", iterations, least=1)):
        pull = t / (1 + t) if lam else _beyond(radius, _norm(on[b] * (xw[b] - u1[b] - y[b]) for b in blocks))
        for b in blocks:
            z = xw[b] - u1[b]
            w1[b] = np.minimum(z - pull * on[b] * (z - y[b]), v[b])
            u1[b] += relaxation * w1[b] + (1 - relaxation) * xw[b]
        w2 = _soft(w3 - u2, 1 / positive("rho", rho))
        u2 = u2 + relaxation * w2 + (1 - relaxation) * w3
        before, w3 = w3, solve(a.adjoint(u1) / scale + u2)
        xw = a(w3 / scale)
        u1 -= xw
        u2 = u2 - w3
        residuals.append((_norm(w1[b] - xw[b] for b in blocks) + float(np.linalg.norm(w2 - w3))) / size)
        if np.linalg.norm(w3 - before) < tolerance * w3.size:
            break
    return Trimmed(w2, tuple(residuals))


class _Matrix:
    """X as a map; columns of zeros are left out of the products, and contribute 0."""

    def __init__(self, X: Array) -> None:
        self.live, self.n = np.flatnonzero(X.any(axis=0)), X.shape[1]
        self.x = X if self.live.size == self.n else np.ascontiguousarray(X[:, self.live])

    def __call__(self, u: Array) -> Array:
        return np.asarray(self.x @ u[self.live])

    def adjoint(self, z: Array) -> Array:
        out = np.zeros((self.n, z.shape[1]))
        out[self.live] = self.x.T @ z
        return out

    def squares(self) -> Array:
        out = np.zeros((self.n, 1))
        out[self.live, 0] = np.square(self.x).sum(axis=0)
        return out


def _soft(z: Array, t: float) -> Array:
    return np.sign(z) * np.maximum(np.abs(z) - t, 0.0)


def _norm(parts: Iterable[Array]) -> float:
    return math.sqrt(sum(float(np.vdot(part, part)) for part in parts))


def _beyond(radius: float, length: float) -> float:
    """Return the share of a vector of this length that lies outside the ball."""
    return 1 - radius / length if length > radius else 0.0


def _solver(a: _Matrix | Operator, scale: float, name: str) -> Callable[[Array], Array]:
    """Return the solver of (X'X / scale^2 + I) W = R: an inverse, or conjugate gradients if X is an operator."""
    if name == "direct" and isinstance(a, _Matrix):
        inverse, live = np.linalg.inv(a.x.T @ a.x / scale**2 + np.eye(a.live.size)), a.live

        def direct(r: Array) -> Array:
            w = r.copy()
            w[live] = inverse @ r[live]
            return w

        return direct

    def conjugate_gradients(r: Array) -> Array:
        w, left, way = np.zeros_like(r), r.copy(), r.copy()
        size = float(np.square(left).sum())
        for _ in range(STEPS):
            if size == 0.0:
                break
            ahead = a(way) / scale
            step = size / (float(np.square(ahead).sum()) + float(np.square(way).sum()))
            w, left = w + step * way, left - step * (a.adjoint(ahead) / scale + way)
            after = float(np.square(left).sum())
            way, size = left + after / size * way, after
        return w

    return conjugate_gradients
