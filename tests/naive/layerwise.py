"""One layer with few weights, by loops and by trying every support."""

from __future__ import annotations

from itertools import combinations

import numpy as np


def ridge(X, ridge, *, floor=1e-9):
    """lam: `ridge` times the mean square of the centred inputs that vary."""
    squares = [sum((x - col.mean()) ** 2 for x in col) for col in X.T]
    live = [s for s in squares if s > floor * max(squares)]
    return ridge * sum(live) / len(live) if live else 0.0


def objective(X, y, w, *, lam=0.0, v=None, has_bias=True):
    """Squared error with the best bias, if there is one, and the ridge, sample by sample."""
    answers = [sum(a * b for a, b in zip(row, w, strict=True)) for row in X]
    bias = sum(t - a for t, a in zip(y, answers, strict=True)) / len(y) * has_bias
    fit = sum((t - a - bias) ** 2 for t, a in zip(y, answers, strict=True))
    return fit + lam * sum((a - b) ** 2 for a, b in zip(w, np.zeros(len(w)) if v is None else v, strict=True))


def refit(X, y, support, *, lam=0.0, v=None, has_bias=True):
    """Weights on the support from an augmented least-squares problem with a column for the bias; no Gram matrix."""
    n, p = X.shape
    S = list(support)
    v = np.zeros(p) if v is None else np.asarray(v)
    rows = np.sqrt(lam) * np.eye(len(S))
    A = np.vstack([np.hstack([X[:, S], np.full((n, 1), float(has_bias))]), np.hstack([rows, np.zeros((len(S), 1))])])
    b = np.concatenate([y, np.sqrt(lam) * v[S]])
    w = np.zeros(p)
    w[S] = np.linalg.lstsq(A, b, rcond=None)[0][:-1]
    return w


def best_of_all(X, y, k, *, lam=0.0, v=None):
    """The smallest objective of all supports of k inputs, and its support."""
    supports = list(combinations(range(X.shape[1]), k))
    values = [objective(X, y, refit(X, y, S, lam=lam, v=v), lam=lam, v=v) for S in supports]
    return min(values), supports[int(np.argmin(values))]


def neuron_minimum(A, y, B, gamma, form):
    """The least objective of a neuron with these inputs, see `layerwise.neuron`; its optimality is checked here."""
    p = A.shape[1]
    F, b = np.vstack([A, np.eye(p) / np.sqrt(gamma)]), np.concatenate([y, np.zeros(p)])
    if form == "hard" and len(B) and p:
        return _constrained(F, b, B)
    w = np.linalg.lstsq(F, b, rcond=None)[0]
    for _ in range(500 if form == "soft" else 0):
        slope = _slope(F, b, B, w)
        over = B[B @ w > 0]
        step = -np.linalg.solve(F.T @ F + over.T @ over, slope)
        if slope @ step > -1e-13 * _squared(F, b, B, w):
            break
        t = 1.0
        while _squared(F, b, B, w + t * step) > _squared(F, b, B, w) + t * (slope @ step) / 4:
            t /= 2
        w = w + t * step
    found = _squared(F, b, B if form == "soft" else B[:0], w)
    slope = _slope(F, b, B if form == "soft" else B[:0], w)
    assert gamma / 2 * slope @ slope <= 1e-7 * found, "strongly convex: so far at most from the minimum"
    return found


def _squared(F, b, B, w):
    return float((((b - F @ w) ** 2).sum() + (np.maximum(B @ w, 0.0) ** 2).sum()) / 2)


def _slope(F, b, B, w):
    return B.T @ np.maximum(B @ w, 0.0) - F.T @ (b - F @ w)


def _constrained(F, b, B):
    """min 1/2 ||b - F w||^2 with B w <= 0: with F = QR and u = R w the nearest point of a cone, by SciPy."""
    from scipy.optimize import nnls

    Q, R = np.linalg.qr(F)
    C, u = np.linalg.solve(R.T, B.T), Q.T @ b
    nearest = u - C @ nnls(C, u, maxiter=10_000)[0]
    assert (C.T @ nearest).max() <= 1e-9 * np.abs(C).sum() * np.linalg.norm(u)
    assert abs((u - nearest) @ nearest) <= 1e-9 * (u @ u)
    return float(((b - Q @ u) ** 2).sum() + ((u - nearest) ** 2).sum()) / 2
