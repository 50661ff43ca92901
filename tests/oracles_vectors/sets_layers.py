"""Sets about layers: forward values and the gradients that come back for a given gradient of the output."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tests.oracles_vectors.form import Case, draw, vector_set, whole
from tests.oracles_vectors.number import Num, exp, log, mp, num, nums, sqrt, total


def filled(shape: Any, entry: Any) -> Any:
    """The object array whose entry at (i, j, ...) is entry(i, j, ...)."""
    out = np.empty(shape, object)
    for place in np.ndindex(*out.shape):
        out[place] = entry(*place)
    return out


# --- linear -----------------------------------------------------------------------------------------------------------


def linear_rule(x: Any, w: Any, b: Any, g: Any) -> dict[str, Any]:
    """y[n,m] = sum_d x[n,d] w[m,d] + b[m], and the three gradients."""
    n, m, d = x.shape[0], w.shape[0], w.shape[1]
    plus = (lambda j: [b[j]]) if b is not None else lambda _: []
    results = {
        "output": filled((n, m), lambda i, j: total([*(x[i, k] * w[j, k] for k in range(d)), *plus(j)])),
        "grad_input": filled((n, d), lambda i, k: total(g[i, j] * w[j, k] for j in range(m))),
        "grad_weight": filled((m, d), lambda j, k: total(g[i, j] * x[i, k] for i in range(n))),
    }
    results["grad_bias"] = filled((m,), lambda j: total(g[i, j] for i in range(n))) if b is not None else None
    return results


def linear() -> bytes:
    cases: list[Case] = []
    for i, (n, d, m, has_bias) in enumerate([(3, 5, 4, True), (1, 7, 2, False), (4, 1, 1, True), (2, 40, 3, True)]):
        x, w, g = draw(100 + i, n, d), draw(120 + i, m, d), draw(140 + i, n, m)
        b = draw(160 + i, m) if has_bias else None
        inputs = {"input": x, "weight": w, "bias": b, "grad_output": g}
        results = linear_rule(*(nums(a) if a is not None else None for a in (x, w, b, g)))
        cases.append((f"{n}x{d}-to-{m}" + ("" if has_bias else "-no-bias"), inputs, results))
    return vector_set(
        "linear", "output = input weight^T + bias, and the gradients for grad_output",
        arguments=["input", "weight", "bias", "grad_output"],
        outputs=["output", "grad_input", "grad_weight", "grad_bias"], tolerance=4, cases=cases,
    )  # fmt: skip


# --- convolution ------------------------------------------------------------------------------------------------------

# images (n, c, h, w), kernels (f, c / groups, r, s), stride, padding, dilation, groups, bias
CONVOLUTIONS: dict[str, Any] = {
    "plain": ((2, 3, 5, 6), (4, 3, 3, 2), (1, 1), (0, 0), (1, 1), 1, True),
    "stride-padding": ((1, 2, 6, 5), (3, 2, 3, 3), (2, 3), (1, 2), (1, 1), 1, True),
    "dilation": ((1, 2, 7, 6), (2, 2, 3, 2), (1, 2), (2, 0), (2, 3), 1, False),
    "groups": ((2, 4, 4, 5), (6, 2, 2, 3), (1, 1), (0, 1), (1, 1), 2, True),
    "depthwise": ((1, 3, 5, 4), (3, 1, 3, 3), (2, 1), (1, 1), (1, 1), 3, True),
    "one-by-one": ((2, 3, 3, 2), (2, 3, 1, 1), (1, 1), (0, 0), (1, 1), 1, True),
    "window-skips-last-pixels": ((1, 1, 6, 6), (2, 1, 3, 3), (2, 2), (0, 0), (1, 1), 1, True),
}


def conv_rule(x: Any, k: Any, b: Any, g: Any, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Each product of a pixel and a weight is visited once and booked in three sums."""
    sums: dict[str, Any] = {
        "output": filled(g.shape, lambda *_: []),
        "grad_input": filled(x.shape, lambda *_: []),
        "grad_weight": filled(k.shape, lambda *_: []),
    }
    per_group, filters = k.shape[1], k.shape[0] // groups
    for n, f, p, q in np.ndindex(*g.shape):
        for c, r, s in product(*map(range, k.shape[1:])):
            i, j = p * stride[0] + r * dilation[0] - padding[0], q * stride[1] + s * dilation[1] - padding[1]
            if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                pixel, weight = (n, f // filters * per_group + c, i, j), (f, c, r, s)
                sums["output"][n, f, p, q].append(x[pixel] * k[weight])
                sums["grad_input"][pixel].append(g[n, f, p, q] * k[weight])
                sums["grad_weight"][weight].append(g[n, f, p, q] * x[pixel])
        if b is not None:
            sums["output"][n, f, p, q].append(b[f])
    results = {name: filled(a.shape, lambda *place, a=a: total(a[place])) for name, a in sums.items()}
    results["grad_bias"] = None if b is None else filled(b.shape, lambda f: total(g[:, f].ravel()))
    return results


def conv2d() -> bytes:
    cases: list[Case] = []
    for i, (name, (xs, ks, stride, padding, dilation, groups, has_bias)) in enumerate(CONVOLUTIONS.items()):
        grid = [(xs[2 + a] + 2 * padding[a] - dilation[a] * (ks[2 + a] - 1) - 1) // stride[a] + 1 for a in (0, 1)]
        x, k, g = draw(200 + i, *xs), draw(220 + i, *ks), draw(240 + i, xs[0], ks[0], *grid)
        b = draw(260 + i, ks[0]) if has_bias else None
        options = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation), "groups": groups}
        results = conv_rule(*(nums(a) if a is not None else None for a in (x, k, b, g)), **options)
        cases.append((name, {"input": x, "weight": k, "bias": b, "grad_output": g, **options}, results))
    return vector_set(
        "conv2d", "cross-correlation of (N, C, H, W) with (F, C/groups, R, S), and the gradients for grad_output",
        arguments=["input", "weight", "bias", "stride", "padding", "dilation", "groups", "grad_output"],
        outputs=["output", "grad_input", "grad_weight", "grad_bias"], tolerance=4, cases=cases,
    )  # fmt: skip


# --- pooling ----------------------------------------------------------------------------------------------------------

# images, kernel, stride, padding, with ties
POOLS: dict[str, Any] = {
    "two-by-two": ((1, 2, 4, 6), (2, 2), (2, 2), (0, 0), False),
    "overlapping": ((1, 2, 5, 5), (3, 2), (1, 2), (0, 0), False),
    "padded": ((2, 1, 5, 4), (3, 2), (2, 2), (1, 1), False),
    "ties": ((1, 2, 5, 6), (3, 3), (1, 2), (1, 0), True),
    "negative-beside-padding": ((1, 1, 3, 3), (2, 2), (2, 2), (1, 1), False),
}


def pool_inputs(i: int, name: str) -> tuple[Any, Any, dict[str, Any]]:
    xs, kernel, stride, padding, ties = POOLS[name]
    grid = [(xs[2 + a] + 2 * padding[a] - kernel[a]) // stride[a] + 1 for a in (0, 1)]
    x = whole(300 + i, *xs, below=3) / 2.0 if ties else draw(300 + i, *xs)
    x = -abs(x) if name.startswith("negative") else x
    options = {"kernel_size": list(kernel), "stride": list(stride), "padding": list(padding)}
    return x, draw(320 + i, *xs[:2], *grid), options


def windows(x: Any, g: Any, options: dict[str, Any]) -> Any:
    """For each output its place and the pixels of its window that lie on the image, in scan order."""
    size, stride, padding = options["kernel_size"], options["stride"], options["padding"]
    for n, c, p, q in np.ndindex(*g.shape):
        top, left = p * stride[0] - padding[0], q * stride[1] - padding[1]
        inside = product(range(top, top + size[0]), range(left, left + size[1]))
        yield (n, c, p, q), [(n, c, i, j) for i, j in inside if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]]


def max_pool2d() -> bytes:
    cases: list[Case] = []
    for i, name in enumerate(POOLS):
        x, g, options = pool_inputs(i, name)
        y, back = filled(g.shape, lambda *_: None), filled(x.shape, lambda *_: [])
        for place, pixels in windows(x, g, options):
            winner = max(pixels, key=lambda pixel: x[pixel])  # max keeps the first of equals
            y[place] = Num(float(x[winner]))
            back[winner].append(Num(float(g[place])))
        results = {"output": y, "grad_input": filled(x.shape, lambda *place, back=back: total(back[place]))}
        cases.append((name, {"input": x, "grad_output": g, **options}, results))
    return vector_set(
        "max_pool2d", "largest pixel of each window; of equal ones the first in scan order takes the gradient",
        arguments=["input", "kernel_size", "stride", "padding", "grad_output"],
        outputs=["output", "grad_input"], tolerance=4, cases=cases,
    )  # fmt: skip


def avg_pool2d() -> bytes:
    cases: list[Case] = []
    for (i, name), include in product(enumerate(POOLS), (True, False)):
        x, g, options = pool_inputs(i, name)
        if name == "ties" or (not include and options["padding"] == [0, 0]):
            continue
        y, back = filled(g.shape, lambda *_: None), filled(x.shape, lambda *_: [])
        whole_window = options["kernel_size"][0] * options["kernel_size"][1]
        for place, pixels in windows(x, g, options):
            m = whole_window if include else len(pixels)
            y[place] = total(Num(float(x[pixel])) for pixel in pixels) / m
            for pixel in pixels:
                back[pixel].append(Num(float(g[place])) / m)
        results = {"output": y, "grad_input": filled(x.shape, lambda *place, back=back: total(back[place]))}
        inputs = {"input": x, "grad_output": g, **options, "count_include_pad": include}
        cases.append((name + ("" if include else "-without-padding"), inputs, results))
    return vector_set(
        "avg_pool2d", "mean of each window; padding counts as zeros, or not at all with count_include_pad=false",
        arguments=["input", "kernel_size", "stride", "padding", "count_include_pad", "grad_output"],
        outputs=["output", "grad_input"], tolerance=4, cases=cases,
    )  # fmt: skip


# --- batch normalisation ----------------------------------------------------------------------------------------------

# images or rows, mean added to them, training, momentum, eps
NORMS: dict[str, Any] = {
    "training-images": ((3, 2, 2, 3), 0.0, True, 0.1, 1e-5),
    "training-rows": ((5, 3), 0.0, True, 0.3, 1e-3),
    "training-far-mean": ((4, 2, 1, 2), 100.0, True, 0.1, 1e-5),
    "evaluation-images": ((2, 3, 2, 2), 0.0, False, 0.1, 1e-5),
    "evaluation-rows": ((3, 2), 0.0, False, 0.1, 1e-5),
}


def norm_rule(x: Any, w: Any, b: Any, g: Any, mean: Any, var: Any, eps: float, training: bool) -> Any:
    """One channel as flat lists: y, the gradients, and the batch's mean and biased variance."""
    m = len(x)
    if training:
        mean = total(x) / m
        var = total((v - mean) * (v - mean) for v in x) / m
    scale = 1 / sqrt(num(var) + eps)
    x_hat = [(v - mean) * scale for v in x]
    y = [v * w + b for v in x_hat]
    grad_bias, grad_weight = total(g), total(h * v for h, v in zip(g, x_hat, strict=True))
    grad_x = [h * w * scale for h in g]
    if training:  # the paths through the mean and through the variance
        grad_x = [
            w * scale * total([h, -(grad_bias / m), -(v * grad_weight / m)]) for h, v in zip(g, x_hat, strict=True)
        ]
    return y, grad_x, grad_weight, grad_bias, mean, var


def batch_norm() -> bytes:
    cases: list[Case] = []
    for i, (name, (shape, shift, training, momentum, eps)) in enumerate(NORMS.items()):
        x, g, c = draw(400 + i, *shape) + shift, draw(410 + i, *shape), shape[1]
        w, b = draw(420 + i, c), draw(430 + i, c)
        running = draw(440 + i, c), draw(450 + i, c, low=0.2, high=3.0)
        results: dict[str, Any] = {key: filled((c,), lambda _: None) for key in ("grad_weight", "grad_bias")}
        results |= {key: filled(shape, lambda *_: None) for key in ("output", "grad_input")}
        results |= {key: filled((c,), lambda _: None) for key in ("running_mean", "running_var")}
        for k in range(c):
            flat = [[Num(float(v)) for v in a[:, k].ravel()] for a in (x, g)]
            old = [Num(float(a[k])) for a in running]
            parts = norm_rule(flat[0], Num(float(w[k])), Num(float(b[k])), flat[1], *old, eps, training)
            y, grad_x, results["grad_weight"][k], results["grad_bias"][k], mean, var = parts
            for key, values in (("output", y), ("grad_input", grad_x)):
                results[key][:, k] = np.array(values, object).reshape(shape[:1] + shape[2:])
            m = len(y)
            new = (mean, var * m / (m - 1)) if training else old
            for key, before, after in zip(("running_mean", "running_var"), old, new, strict=True):
                results[key][k] = (1 - Num(momentum)) * before + momentum * after if training else before
        names = ["input", "weight", "bias", "running_mean", "running_var", "grad_output"]
        inputs = dict(zip(names, (x, w, b, *running, g), strict=True))
        cases.append((name, {**inputs, "training": training, "momentum": momentum, "eps": eps}, results))
    return vector_set(
        "batch_norm", "batch normalisation; the running variance is the unbiased one, the normalising one is biased",
        arguments=[
            "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "grad_output",
        ],
        outputs=["output", "running_mean", "running_var", "grad_input", "grad_weight", "grad_bias"],
        tolerance=4, cases=cases,
    )  # fmt: skip


# --- cross entropy ----------------------------------------------------------------------------------------------------

LOGITS: dict[str, Any] = {
    "ordinary": (draw(500, 4, 3), [2, 0, 1, 0], 0.0),
    "smoothed": (draw(501, 3, 5), [4, 0, 2], 0.1),
    "huge": (np.array([[1000.0, 0.0, -1000.0], [1000.0, 999.0, 3.0], [-800.0, -800.0, -801.5]]), [0, 1, 2], 0.0),
    "huge-smoothed": (np.array([[700.0, -700.0], [-1e4, 1e4]]), [0, 0], 0.2),
    "equal": (np.zeros((2, 4)), [3, 1], 0.0),
    "one-class": (draw(502, 2, 1), [0, 0], 0.0),
}


def cross_entropy_rule(x: Any, target: Any, smoothing: float) -> tuple[Num, Any]:
    """The mean over rows of -sum_c q_c log p_c, and its gradient (p - q) / rows."""
    n, c = x.shape
    losses, grad = [], filled(x.shape, lambda *_: None)
    for i in range(n):
        top = max(x[i], key=lambda e: e.value)
        shifted = [e - top for e in x[i]]
        norm = total(exp(e) for e in shifted)
        log_p = [e - log(norm) for e in shifted]
        share = Num(smoothing) / c if smoothing else Num(0)
        q = [share + (1 - Num(smoothing)) * (1 if k == target[i] else 0) for k in range(c)]
        losses.append(-total(q[k] * log_p[k] for k in range(c)))
        for k in range(c):
            p = exp(log_p[k])
            p.size += mp.mpf(abs(p.value))
            grad[i, k] = (p - q[k]) / n
    return total(losses) / n, grad


def cross_entropy() -> bytes:
    cases: list[Case] = []
    for name, (x, target, smoothing) in LOGITS.items():
        loss, grad = cross_entropy_rule(nums(x), target, smoothing)
        inputs = {"input": x, "target": np.array(target, np.int64), "label_smoothing": smoothing}
        cases.append((name, inputs, {"loss": loss, "grad_input": grad}))
    return vector_set(
        "cross_entropy", "mean over rows of -sum_c q_c log softmax(input)_c, q smoothed, and its gradient",
        arguments=["input", "target", "label_smoothing"], outputs=["loss", "grad_input"], tolerance=4, cases=cases,
    )  # fmt: skip
