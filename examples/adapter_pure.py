"""An implementation in pure Python, held against the conformance vectors; an example of an adapter.

    cd examples && l0ref vectors run --adapter adapter_pure

It has the functions somebody may have who wrote pruning with nothing but the standard library. What it lacks
it does not mention, or raises NotImplementedError for; the report then says "not provided".
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

Matrix = list[list[float]]

# name -> phi and phi' at u > 0, written so that no digit is lost where u is tiny and nothing overflows
SURROGATES: dict[str, Any] = {
    "laplace": (lambda u, beta: -math.expm1(-beta * u), lambda u, beta: beta * math.exp(-beta * u)),
    "geman_mcclure": (lambda u, beta: u / (1 / beta + u), lambda u, beta: beta / (1 + beta * u) / (1 + beta * u)),
    "gaussian": (
        lambda u, sigma: -math.expm1(-0.5 * (u / sigma) * (u / sigma)),
        lambda u, sigma: u / sigma / sigma * math.exp(-0.5 * (u / sigma) * (u / sigma)) if u < 40 * sigma else 0.0,
    ),
    "log_sum": (lambda u, eps: math.log1p(u / eps), lambda u, eps: 1 / (u + eps)),
    "capped_l1": (lambda u, theta: min(u, theta), lambda u, theta: float(u < theta)),
    "l0": (lambda _: 1.0, lambda _: 0.0),
    "l1": (lambda u: u, lambda _: 1.0),
    "l2": (lambda u: u * u, lambda u: 2 * u),
}


def lambert_w(y: float) -> float:
    """The branch w >= -1 of w exp(w) = y for -1/e <= y <= 0, by Newton's iteration from the right."""
    w = 0.0
    for _ in range(100):
        slope = math.exp(w) * (1 + w)
        step = (w * math.exp(w) - y) / slope if slope > 0 else 0.0
        w = max(w - step, -1.0)
        if abs(step) <= 1e-17 * abs(w):
            break
    return w


def laplace_prox(a: float, t: float, beta: float) -> float:
    """argmin over x >= 0 of 1/2 (x - a)^2 + t (1 - exp(-beta x)), for a > 0."""
    pull = t * beta * beta * math.exp(-beta * a)
    if pull > math.exp(-1):
        return 0.0
    x = a + lambert_w(-pull) / beta
    return x if x > 0 and x / 2 - t * math.expm1(-beta * x) / x < a else 0.0


PROX: dict[str, Any] = {
    "laplace": laplace_prox,
    "l0": lambda a, t: a if a > math.sqrt(2 * t) else 0.0,
    "l1": lambda a, t: max(a - t, 0.0),
    "l2": lambda a, t: a / (1 + 2 * t),
}


def known(table: dict[str, Any], surrogate: str) -> Any:
    """What the table has for a surrogate; NotImplementedError tells the runner that this case is not provided."""
    if surrogate not in table:
        raise NotImplementedError(f"surrogate={surrogate!r} is not written here")
    return table[surrogate]


def prox(z: float, t: float, surrogate: str, parameters: dict[str, float]) -> float:
    """The proximal map of one number."""
    rule = known(PROX, surrogate)
    return math.copysign(rule(abs(z), t, **parameters), z) if z else 0.0


def slope(w: float, surrogate: str, parameters: dict[str, float]) -> float:
    """phi'(w), 0 at 0."""
    rule = known(SURROGATES, surrogate)[1]
    return math.copysign(rule(abs(w), **parameters), w) if w else 0.0


def zeros(*shape: int) -> Any:
    """Nested lists of zeros."""
    return [zeros(*shape[1:]) for _ in range(shape[0])] if shape else 0.0


def matmul(a: Matrix, b: Matrix) -> Matrix:
    """The matrix product."""
    return [[math.fsum(map(float.__mul__, row, column)) for column in zip(*b, strict=True)] for row in a]


class Momentum:
    """v <- momentum v + g,  w <- w - lr v."""

    def __init__(self, lr: float, momentum: float, nesterov: bool = False):
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov

    def __call__(self, w: float, g: float, v: float) -> tuple[float, float]:
        """Return the weight and the velocity after one step."""
        v = self.momentum * v + g
        return w - self.lr * (g + self.momentum * v if self.nesterov else v), v


def steps(rule: Momentum, params: Any, grads: Any, masks: Any, penalty: Any, *, proximal: bool) -> Any:
    """Parameters after one step for each row of grads; arrays arrive as NumPy's and leave as nested lists."""
    after = {}
    for key, array in params.items():
        factor = penalty["factors"].get(key) if penalty else None
        keep = masks[key].ravel().tolist() if masks and key in masks else [True] * array.size
        ws = [w if k else 0.0 for w, k in zip(array.ravel().tolist(), keep, strict=True)]
        vs = [0.0] * len(ws)
        for row in grads[key].reshape(len(grads[key]), -1).tolist():
            for i, g in enumerate(row):
                if keep[i]:
                    ws[i], vs[i] = one_step(rule, ws[i], g, vs[i], factor, penalty, proximal)
        after[key] = array.copy()
        after[key].flat[:] = ws
    return {"params": after}


def one_step(rule: Momentum, w: float, g: float, v: float, factor: Any, penalty: Any, proximal: bool) -> Any:
    """One weight: penalty into the gradient, step, and the prox of the l0 term where the method has one."""
    if factor is None:
        return rule(w, g, v)
    phi = penalty["surrogate"], penalty["parameters"]
    price = factor * penalty["alpha"]
    g += 2 * penalty["l2"] * w + (0.0 if proximal else price * slope(w, *phi))
    w, v = rule(w, g, v)
    return (prox(w, rule.lr / (1 - rule.momentum) * price, *phi) if proximal else w), v


class Adapter:
    """The functions above and below, under the names the vectors ask for."""

    def surrogate_value(self, surrogate: str, parameters: dict[str, float], w: Any) -> list[float]:
        """phi(|w|)."""
        phi = known(SURROGATES, surrogate)[0]
        return [phi(abs(v), **parameters) if v else 0.0 for v in w.tolist()]

    def surrogate_gradient(self, surrogate: str, parameters: dict[str, float], w: Any) -> list[float]:
        """phi'(w)."""
        return [slope(v, surrogate, parameters) for v in w.tolist()]

    def surrogate_prox(self, surrogate: str, parameters: dict[str, float], z: Any, step: float) -> list[float]:
        """The proximal map."""
        return [prox(v, step, surrogate, parameters) for v in z.tolist()]

    def linear(self, input: Any, weight: Any, bias: Any, grad_output: Any) -> dict[str, Any]:
        """A fully connected layer and its gradients."""
        x, w, g = input.tolist(), weight.tolist(), grad_output.tolist()
        b = bias.tolist() if bias is not None else [0.0] * len(w)
        return {
            "output": [[math.fsum(map(float.__mul__, row, ws)) + c for ws, c in zip(w, b, strict=True)] for row in x],
            "grad_input": matmul(g, w),
            "grad_weight": matmul(list(map(list, zip(*g, strict=True))), x),
            "grad_bias": [math.fsum(column) for column in zip(*g, strict=True)] if bias is not None else None,
        }

    def conv2d(
        self, input: Any, weight: Any, bias: Any, grad_output: Any,
        stride: list[int], padding: list[int], dilation: list[int], groups: int,
    ) -> dict[str, Any]:  # fmt: skip
        """A convolution by its definition: no unrolling, one product at a time."""
        x, k, g = input.tolist(), weight.tolist(), grad_output.tolist()
        y, gx, gk = (zeros(*a.shape) for a in (grad_output, input, weight))
        filters = weight.shape[0] // groups
        for n, f, p, q in product(*map(range, grad_output.shape)):
            for c, r, s in product(*map(range, weight.shape[1:])):
                channel = f // filters * weight.shape[1] + c
                i, j = p * stride[0] + r * dilation[0] - padding[0], q * stride[1] + s * dilation[1] - padding[1]
                if 0 <= i < input.shape[2] and 0 <= j < input.shape[3]:
                    y[n][f][p][q] += x[n][channel][i][j] * k[f][c][r][s]
                    gx[n][channel][i][j] += g[n][f][p][q] * k[f][c][r][s]
                    gk[f][c][r][s] += g[n][f][p][q] * x[n][channel][i][j]
            y[n][f][p][q] += bias[f] if bias is not None else 0.0
        sums = [math.fsum(v for image in g for row in image[f] for v in row) for f in range(len(k))]
        return {"output": y, "grad_input": gx, "grad_weight": gk, "grad_bias": None if bias is None else sums}

    def cross_entropy(self, input: Any, target: Any, label_smoothing: float) -> dict[str, Any]:
        """Mean cross entropy, shifted by the largest logit."""
        n, losses, grad = len(target), [], []
        for row, t in zip(input.tolist(), target.tolist(), strict=True):
            shifted = [v - max(row) for v in row]
            norm = math.log(math.fsum(map(math.exp, shifted)))
            q = [label_smoothing / len(row) + (1 - label_smoothing) * (c == t) for c in range(len(row))]
            losses.append(-math.fsum(a * (v - norm) for a, v in zip(q, shifted, strict=True) if a))
            grad.append([(math.exp(v - norm) - a) / n for a, v in zip(q, shifted, strict=True)])
        return {"loss": math.fsum(losses) / n, "grad_input": grad}

    def sgd_steps(self, params: Any, grads: Any, masks: Any, penalty: Any, **options: Any) -> Any:
        """SGD with momentum."""
        return steps(Momentum(**options), params, grads, masks, penalty, proximal=False)

    def proximal_sgd_steps(self, params: Any, grads: Any, masks: Any, penalty: Any, **options: Any) -> Any:
        """SGD with momentum, then the prox."""
        return steps(Momentum(**options), params, grads, masks, penalty, proximal=True)

    def keep_mask(self, scores: Any, amount: float, scope: str) -> dict[str, Any]:
        """Masks by sorting; Python's sort is stable, so the first of equals goes first."""
        flat = {key: s.ravel().tolist() for key, s in scores.items()}
        keep = {key: [True] * len(s) for key, s in flat.items()}
        for keys in [list(flat)] if scope == "global" else [[key] for key in flat]:
            places = [(key, i) for key in keys for i in range(len(flat[key]))]
            drop = amount if isinstance(amount, int) else math.floor(amount * len(places) + 0.5)
            for key, i in sorted(places, key=lambda at: flat[at[0]][at[1]])[:drop]:
                keep[key][i] = False
        return {key: reshaped(keep[key], s.shape) for key, s in scores.items()}

    def csr(self, dense: Any) -> dict[str, Any]:
        """Compressed sparse rows."""
        rows = [[(j, v) for j, v in enumerate(row) if v] for row in dense.tolist()]
        starts = [0]
        for row in rows:
            starts.append(starts[-1] + len(row))
        return {"data": [v for row in rows for _, v in row], "indices": [j for row in rows for j, _ in row],
                "indptr": starts}  # fmt: skip

    def csr_product(self, data: Any, indices: Any, indptr: Any, shape: list[int], input: Any) -> Any:
        """Rows times columns."""
        x = input.tolist()
        pairs = list(zip(data.tolist(), indices.tolist(), strict=True))
        rows = [pairs[a:b] for a, b in zip(indptr.tolist(), indptr.tolist()[1:], strict=False)]
        return [[math.fsum(v * x[j][c] for v, j in row) for c in range(len(x[0]))] for row in rows[: shape[0]]]


def reshaped(flat: list[Any], shape: tuple[int, ...]) -> Any:
    """A flat list as nested lists."""
    if len(shape) == 1:
        return flat
    size = len(flat) // shape[0]
    return [reshaped(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
