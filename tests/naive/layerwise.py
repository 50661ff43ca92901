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
