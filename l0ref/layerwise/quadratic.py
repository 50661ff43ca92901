"""The l0-constrained problem of one layer as a quadratic, which replaces the samples.

    min over W, b of   sum_i ||y_i - X w_i - b_i||^2 + lam ||w_i - v_i||^2      with few non-zeros in W

    X (N, P)  inputs of the layer         y_i (N)  target outputs of neuron i, before its activation
    w_i (P)   row i of W, (M, P)          v_i      its trained weights, or 0

For any W the best bias is b_i = mean(y_i) - w_i' mean(X), so that with centred X and y only W remains:

    f_i(w) = w'G w - 2 q_i'w + e_i      G = Xc'Xc + lam I,  q_i = Xc'yc_i + lam v_i,  e_i = ||yc_i||^2 + lam ||v_i||^2

A layer without a bias has b = 0, and X and y are not centred: Xc = X, yc = y.

G is shared by all neurons and all methods, and nothing of size N is kept. On a support S the best weights are
w_S = G_SS^-1 q_S, and f_i = e_i - q_S'w_S.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.layerwise.sums import Sums
from l0ref.validate import Array, as_array, count, flag, float_array, nonnegative

CONSTANT = 1e-9  # an input (output) with at most this fraction of the largest input (output) variance is constant
ROUNDING = 8  # so is one whose standard deviation is at most this times the rounding error of its root mean square
DEPENDENT = 1e-11  # an input is dependent on others if at most this fraction of its square is not explained by them


@dataclass(frozen=True)
class Quadratic:
    """The quadratic of one layer; see the text of the module. Make it with `from_samples` or `from_chunks`.

    gram     (p, p) G over the p live inputs, float64 whatever the samples are
    moments  (M, p) q          energy  (M) e          trained  (M, p) v, zero if no weights were given
    live     (p) indices of the inputs that vary; a constant input adds nothing to the bias. Without a bias: not all 0
    lam      the ridge: `ridge` times the mean of the diagonal of Xc'Xc over the live inputs
    x_mean (P), y_mean (M)   means of the samples, 0 without a bias        y_square  (M) sums of y^2
    varies   (M) which outputs vary; a constant output is left to the bias, with q = v = e = 0
    single   y had one axis; then weights and supports have one axis, too
    dtype    of the samples, and of weights that are returned

    Inputs and outputs are constant if their variance is at most `CONSTANT` times the largest one, or their deviation at
    most `ROUNDING` times the rounding error of their values and of sums over them. Methods take and return weights of
    all P inputs; `narrow` and `widen` convert to the live inputs and back.

    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    >>> layer = Quadratic.from_samples(X, 2 * X[:, 0] + 5, ridge=0.0)
    >>> w = layer.refit(np.array([True, False]))
    >>> w.tolist(), layer.objective(w), layer.bias(w)
    ([2.0, 0.0], 0.0, 5.0)
    """

    gram: Array
    moments: Array
    energy: Array
    trained: Array
    live: NDArray[np.intp]
    lam: float
    x_mean: Array
    y_mean: Array
    y_square: Array
    varies: NDArray[np.bool_]
    single: bool
    dtype: np.dtype[Any]

    @classmethod
    def from_samples(
        cls, X: Array, y: Array, *, ridge: float = 1e-3, weights: Array | None = None, centred: bool = True
    ) -> Self:
        """Return the quadratic of samples X (N, P) and target outputs y (N, M) or (N).

        ridge    lam over the mean of the diagonal of Xc'Xc. With ridge=0, inputs that hardly vary get huge weights
        weights  (M, P) or (P), towards which the ridge pulls; None: 0
        centred  whether the layer has a bias, which is then the best one; False: none
        """
        return cls.from_chunks([(X, y)], ridge=ridge, weights=weights, centred=centred)

    @classmethod
    def from_chunks(
        cls, chunks: Iterable[tuple[Array, Array]], *, ridge: float = 1e-3, weights: Array | None = None,
        centred: bool = True,
    ) -> Self:  # fmt: skip
        """Return the same from pairs (X, y), a few samples at a time; only sums over them are kept."""
        nonnegative("ridge", ridge)
        sums = Sums(chunks, centred=flag("centred", centred))
        xx, xy, yy = sums.centred()
        variance = np.diag(xx)
        live = np.flatnonzero(_varies(variance, sums.x_square, sums))
        varies = _varies(yy, sums.y_square, sums)
        gram = np.ascontiguousarray(xx[np.ix_(live, live)])
        lam = float(ridge) * float(variance[live].mean()) if live.size else 0.0
        if not isfinite(lam):
            raise ArgumentError(f"ridge={ridge!r} times the mean square of the inputs is infinite; use less")
        gram[np.diag_indices_from(gram)] += lam
        trained = _trained(weights, len(yy), len(xx), sums.single)[:, live] * varies[:, None]
        moments = xy[live].T * varies[:, None] + lam * trained
        energy = yy * varies + lam * np.square(trained).sum(axis=1)
        means = sums.x_mean, sums.y_mean, sums.y_square
        return cls(gram, moments, energy, trained, live, lam, *means, varies, sums.single, sums.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of outputs and inputs, the constant ones included: the shape of W."""
        return len(self.moments), len(self.x_mean)

    def row(self, i: int) -> Self:
        """Return the problem of neuron i alone."""
        one = slice(i, i + 1)
        names = ("moments", "energy", "trained", "y_mean", "y_square", "varies")
        return replace(self, **{name: getattr(self, name)[one] for name in names}, single=True)

    def within(self, allowed: NDArray[np.bool_]) -> Self:
        """Return the problem in which only inputs in the mask `allowed` (P) may get a weight."""
        s = allowed[self.live]
        gram = np.ascontiguousarray(self.gram[np.ix_(s, s)])
        energy = self.energy - self.lam * np.square(self.trained[:, ~s]).sum(axis=1)
        moments, trained = self.moments[:, s], self.trained[:, s]
        return replace(self, gram=gram, moments=moments, energy=energy, trained=trained, live=self.live[s])

    def narrow(self, weights: Array) -> Array:
        """Return weights, a support or scores of all inputs, (M, P) or (P), restricted to the live inputs, (M, p)."""
        rows = _real(weights)
        expected = self.shape[1:] if self.single else self.shape
        if rows.shape != expected:
            raise ShapeError(f"weights have shape {rows.shape}, expected {expected}: one number for each input")
        return rows.reshape(self.shape)[:, self.live]

    def widen(self, rows: Array) -> Array:
        """Return an array of the live inputs, (M, p), extended to all inputs by 0 or False."""
        full = np.zeros(self.shape, bool if rows.dtype == np.bool_ else self.dtype)
        full[:, self.live] = rows
        return full[0] if self.single else full

    def objective(self, weights: Array) -> Any:
        """Return f of every neuron, (M), or a number for a single one: squared error and ridge."""
        return self._shaped(self._squares(self.narrow(weights)))

    def error(self, weights: Array) -> Any:
        """Return the squared error of every neuron with its best bias, without the ridge."""
        w = self.narrow(weights).astype(np.float64)
        return self._shaped(np.maximum(self._squares(w) - self.lam * np.square(w - self.trained).sum(axis=1), 0.0))

    def relative_error(self, weights: Array) -> float:
        """Return ||Y - XW' - b||_F / ||Y||_F, Y not centred; 0 if Y is 0."""
        error, size = float(np.sum(self.error(weights))), float(self.y_square.sum())
        return float(np.sqrt(error / size)) if size else 0.0

    def bias(self, weights: Array) -> Any:
        """Return the best bias of every neuron for these weights."""
        full = np.reshape(_real(weights), self.shape).astype(np.float64)
        return self._shaped((self.y_mean - full @ self.x_mean).astype(self.dtype))

    def refit(self, support: Array) -> Array:
        """Return the weights that minimise f where `support` is True, 0 elsewhere; constant inputs get 0.

        If the columns of a support are linearly dependent, it is the minimiser of least norm.
        """
        return self.widen(self.refit_live(self.narrow(support)))

    def refit_live(self, support: Array) -> Array:
        """Return the same for the live inputs, (M, p) to (M, p), in float64."""
        w = np.zeros(support.shape)
        for i, mask in enumerate(support):
            s = np.flatnonzero(mask)
            w[i, s] = least_squares(self.gram[np.ix_(s, s)], self.moments[i, s])
        return w

    def _squares(self, w: Array) -> Array:
        w = w.astype(np.float64)
        found: Array = self.energy - 2 * (self.moments * w).sum(axis=1) + ((w @ self.gram) * w).sum(axis=1)
        return np.maximum(found, 0.0)

    def _shaped(self, values: Array) -> Any:
        return values[0].item() if self.single else values


def budget(name: str, k: int, most: int, of: str) -> int:
    """Return k, a number of weights to keep; refuse one that is not whole or exceeds `most`, the inputs of `of`."""
    if count(name, k) > most:
        raise ArgumentError(f"{name}={k} is more than the {most} inputs of {of}; keep at most {most}")
    return int(k)


def least_squares(gram: Array, q: Array) -> Array:
    """Return argmin w'G w - 2 q'w for G (k, k); if G is singular, the minimiser of least norm."""
    if not q.size:
        return q.copy()
    if is_independent(gram):
        return np.asarray(np.linalg.solve(gram, q))
    return np.asarray(np.linalg.lstsq(gram, q, rcond=DEPENDENT)[0])


def is_independent(gram: Array) -> bool:
    """Return whether each column has a share, above `DEPENDENT`, that the columns before it do not explain."""
    try:
        pivots = np.square(np.diag(np.linalg.cholesky(gram)))
    except np.linalg.LinAlgError:
        return False
    return bool((pivots > DEPENDENT * np.diag(gram)).all())


def _real(weights: Any) -> Array:
    """Return weights, a support or scores as an array; refuse complex numbers."""
    found = as_array("weights", weights)
    if found.dtype.kind == "c":
        raise DTypeError(f"weights have dtype {found.dtype}, expected real numbers; pass their real part")
    return found


def _varies(variance: Array, square: Array, sums: Sums) -> NDArray[np.bool_]:
    rounding = ROUNDING * (np.finfo(sums.dtype).eps + sums.n * np.finfo(np.float64).eps)
    return np.asarray(variance > np.maximum(CONSTANT * variance.max(initial=0.0), rounding**2 * square))


def _trained(weights: Array | None, m: int, p: int, single: bool) -> Array:
    if weights is None:
        return np.zeros((m, p))
    w = float_array("weights", weights)
    if w.shape not in ((m, p), (p,) if single else (m, p)):
        raise ShapeError(f"weights have shape {w.shape}, expected {(m, p)}: one row for each output")
    if not np.isfinite(w).all():
        raise ArgumentError("weights have values that are NaN or infinite; begin from a network that was trained")
    return w.reshape(m, p).astype(np.float64)
