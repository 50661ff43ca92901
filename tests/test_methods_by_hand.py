"""Methods written out a second time in plain NumPy: what they learn, what stays, and every number recorded."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import metrics, nn
from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS
from l0ref.methods.coreset import draw, probabilities, sampled
from l0ref.methods.filter_criteria import vip
from l0ref.methods.hard_concrete import Gated
from l0ref.methods.matrix_pivoting import better_order
from l0ref.methods.reparameterised import wrapped
from l0ref.nn import Model
from l0ref.optim import SGD
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.shrink import shrink
from l0ref.pruning.trace import trace
from l0ref.streams import stream
from l0ref.training import fit
from tests.method_contract import biased, networks

DATA, IMAGES = (networks()[name][1] for name in ("mlp", "cnn"))
NET = biased(nn.mlp((12, 10, 8, 3), seed=0, dtype=np.float64))
Arrays = dict[str, Any]


def logistic(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def loss_and_slopes(params: Arrays) -> tuple[float, Arrays]:
    """Mean cross-entropy of the network on all training samples, which are one batch, and its gradient."""
    x, y, n = DATA.train.x, DATA.train.y, len(DATA.train)
    h, slopes = [x], {}
    for i in (1, 2, 3):
        z = h[-1] @ params[f"fc{i}.weight"].T + params[f"fc{i}.bias"]
        h.append(np.maximum(z, 0) if i < 3 else z)
    e = np.exp(h[3] - h[3].max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(n), y]).mean()
    d = (p - np.eye(3)[y]) / n
    for i in (3, 2, 1):
        slopes |= {f"fc{i}.weight": d.T @ h[i - 1], f"fc{i}.bias": d.sum(axis=0)}
        d = (d @ params[f"fc{i}.weight"]) * (h[i - 1] > 0)
    return float(loss), slopes


def adam(start: Arrays, slopes: Callable[[Arrays, int], Arrays], *, epochs: int, lr: float) -> Arrays:
    """Adam with one step an epoch; thresholds stay at 0 or above."""
    p, m, v = dict(start), dict.fromkeys(start, 0.0), dict.fromkeys(start, 0.0)
    for t in range(1, epochs + 1):
        g = slopes(p, t)
        for key in p:
            m[key], v[key] = 0.9 * m[key] + 0.1 * g[key], 0.999 * v[key] + 0.001 * g[key] ** 2
            p[key] = p[key] - lr * (m[key] / (1 - 0.9**t)) / (np.sqrt(v[key] / (1 - 0.999**t)) + 1e-8)
            p[key] = np.maximum(p[key], 0) if key.endswith("threshold") else p[key]
    return p


def smallest_gone(scores: Arrays, drop: int) -> Arrays:
    """Masks without the `drop` entries of lowest score over all layers, ties by place."""
    flat = np.concatenate([np.asarray(s).ravel() for s in scores.values()])
    keep = np.ones(flat.size, bool)
    keep[np.argsort(flat, kind="stable")[:drop]] = False
    parts = np.split(keep, np.cumsum([np.asarray(s).size for s in scores.values()])[:-1])
    return {key: part.reshape(np.shape(s)) for part, (key, s) in zip(parts, scores.items(), strict=True)}


def same(found: Model, params: Arrays, masks: Arrays) -> None:
    for key, p in NET.params.items():
        if key in masks:
            np.testing.assert_array_equal(found.mask(key), masks[key])
        np.testing.assert_allclose(found.params[key], params[key] * masks.get(key, True), rtol=1e-7, atol=1e-10)
        assert p.shape == found.params[key].shape


# --- learnt thresholds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "asymmetric", "lam", "first"),
    [("exp", False, 0.7, 0.1), ("exp", True, 0.7, 0.1), ("count", True, 0.7, 0.1), ("l1", True, 0.02, 0.1),
     ("exp", True, 0.0, 0.02)],
)  # fmt: skip
def test_thresholds_are_learnt_as_the_formulas_say(kind: str, asymmetric: bool, lam: float, first: float) -> None:
    beta, rate, l2, lr, epochs = 20.0, 3.0, 0.01, 0.02, 4
    sizes, lows = {key: NET.params[key].size for key in NET.weights}, []

    def ends(p: Arrays, key: str) -> tuple[float, float]:
        t = rate * p[key.replace("weight", "threshold")]
        return float(t[0]), float(t[-1])

    def slopes(p: Arrays, _: int) -> Arrays:
        parts: Arrays = {}
        for key in NET.weights:
            w, (a, b) = p[key], ends(p, key)
            s, n = logistic(beta * (w - a)), logistic(beta * (-w - b))
            v = np.maximum(w - a, 0) + a * s - np.maximum(-w - b, 0) - b * n
            along_a = -1.0 * (w > a) + s - beta * a * s * (1 - s)
            along_b = (-w > b) * 1.0 - n + beta * b * n * (1 - n)
            along_w = 1.0 * (w > a) + (-w > b) + beta * (a * s * (1 - s) + b * n * (1 - n))
            parts[key] = v, along_w, along_a, along_b, s * (1 - s) * beta, n * (1 - n) * beta
        _, g = loss_and_slopes({**p, **{key: part[0] for key, part in parts.items()}})
        for key, (v, along_w, along_a, along_b, ps, ns) in parts.items():
            up, down = (g[key] * along_a).sum(), (g[key] * along_b).sum()
            g[key] = g[key] * along_w + 2 * l2 * p[key]
            if kind == "exp":
                up, down = (part - lam / 2 * math.exp(-t) for part, t in zip((up, down), ends(p, key), strict=True))
            elif kind == "count":
                g[key] = g[key] + lam / sizes[key] * (ps - ns)
                up, down = up - lam * ps.mean(), down - lam * ns.mean()
            else:
                g[key] = g[key] + lam * np.sign(v) * along_w
                up, down = (x + lam * (np.sign(v) * along).sum() for x, along in ((up, along_a), (down, along_b)))
            both = [up, down] if asymmetric else [up + down]
            g[key.replace("weight", "threshold")] = rate * np.array(both)
        return g

    start = {**NET.params, **{f"fc{i}.threshold": np.full(1 + asymmetric, first / rate) for i in (1, 2, 3)}}
    p = adam(start, slopes, epochs=epochs, lr=lr)
    how: Arrays = {"epochs": epochs, "lr": lr, "rate": rate, "beta": beta, "first": first, "lam": lam, "l2": l2}
    found = METHODS["learned_threshold"].run(
        NET, DATA, amount=100, seed=0, regulariser_kind=kind, asymmetric=asymmetric, **how
    )
    scores, learnt = {}, 0
    for key in NET.weights:
        a, b = ends(p, key)
        limit = np.where(p[key] >= 0, a, b)
        lows.append(min(a, b))
        scores[key] = np.abs(p[key]) / np.where(limit > 0, limit, 1e-300)
        learnt += int((np.abs(p[key]) <= limit).sum())
        recorded = found.record["thresholds"][key]
        assert recorded == pytest.approx([a, b] if asymmetric else [a], rel=1e-7, abs=1e-10)
    assert found.record["learnt"] == learnt
    assert (min(lows) == 0) == (lam == 0)  # where nothing pulls, one was put back to 0
    if min(lows) > 0:
        same(found.model, p, smallest_gone(scores, 100))
    assert found.epochs == epochs


# --- hard concrete gates ----------------------------------------------------------------------------------------------


def gates(log_alpha: Any, u: Any = None) -> tuple[Any, Any]:
    """The gate and its slope along log_alpha."""
    beta = 1.0 if u is None else 2 / 3
    s = logistic((log_alpha + (0 if u is None else np.log(u / (1 - u)))) / beta)
    z = s * 1.2 - 0.1
    return np.clip(z, 0, 1), np.where((z > 0) & (z < 1), 1.2 * s * (1 - s) / beta, 0)


@pytest.mark.parametrize("name", ["hard_concrete", "hard_concrete_units"])
def test_gates_are_learnt_as_the_formulas_say(name: str) -> None:
    units, lam, rate, lr, epochs, seed = name.endswith("units"), 1e-3, 0.3, 0.05, 4, 2
    shift, keys = 2 / 3 * math.log(0.1 / 1.1), list(NET.weights)
    biases = {key: key.replace("weight", "bias") for key in keys}
    shapes = {key: (len(NET.params[key]), 1) if units else NET.params[key].shape for key in keys}
    behind = {key: NET.params[key].size / math.prod(shapes[key]) for key in keys}
    log = {key: key.replace("weight", "log_alpha") for key in keys}

    def through(p: Arrays, drawn: Arrays) -> Arrays:
        """Weights, and biases behind gates of units, times their gates."""
        gated = {key: p[key] * z for key, (z, _) in drawn.items()}
        return gated | {b: p[b] * drawn[key][0][:, 0] for key, b in biases.items() if units}

    def slopes(p: Arrays, epoch: int) -> Arrays:
        rng = stream(seed, "dropout", epoch)
        drawn = {key: gates(p[log[key]], rng.random(shapes[key])) for key in keys}
        _, g = loss_and_slopes({**p, **through(p, drawn)})
        for key, (z, slope) in drawn.items():
            each, bias = g[key] * p[key], biases[key]
            q = logistic(p[log[key]] - shift)
            own = each.sum(axis=1, keepdims=True) + (g[bias] * p[bias])[:, None] if units else each
            g[log[key]] = own * slope + lam * behind[key] * q * (1 - q)
            if units:
                g[bias] = g[bias] * z[:, 0]
            g[key] = g[key] * z
        return g

    first = math.log((1 - rate) / rate)
    normal = stream(seed, "prune")  # one for all layers, in order
    noise = {key: 0.01 * normal.standard_normal(shapes[key]) for key in keys}
    p = adam({**NET.params, **{log[key]: first + noise[key] for key in keys}}, slopes, epochs=epochs, lr=lr)
    found = METHODS[name].run(NET, DATA, amount=0.4, seed=seed, epochs=epochs, lr=lr, lam=lam, drop_rate=rate)
    use = {key: np.broadcast_to(gates(p[log[key]])[0], NET.params[key].shape) for key in keys}
    for key in keys:
        np.testing.assert_allclose(found.record["log_alpha"][key], p[log[key]], rtol=1e-7)
    expected = sum(behind[key] * logistic(p[log[key]] - shift).sum() for key in keys)
    assert found.record["expected"] == pytest.approx(expected, rel=1e-7)
    assert found.record["open"] == sum(int((z > 0).sum()) for z in use.values())
    after = {**p, **through(p, {key: gates(p[log[key]]) for key in keys})}
    if not units:
        same(found.model, after, smallest_gone({key: p[log[key]] for key in keys}, round(0.4 * NET.size)))
        return
    kept = {key: found.model.mask(key) for key in keys}
    np.testing.assert_allclose(
        found.model.params["fc2.weight"][kept["fc2.weight"]], after["fc2.weight"][kept["fc2.weight"]]
    )
    assert found.model.mask("fc3.weight").any(axis=1).all()  # the outputs have gates, and none is removed


def residual_images() -> Model:
    """Filters that two convolutions write, of different norms, beside others."""
    body = (nn.Conv2d("a", 6, 5, 3, padding=1), nn.Tanh("r"), nn.Conv2d("b", 5, 6, 3, padding=1))
    layers = (nn.Conv2d("stem", 2, 6, 3), nn.Residual("sum", body), nn.Flatten("flat"), nn.Linear("fc", 96, 3))
    return biased(Model.init(layers, input_shape=(2, 6, 6), seed=1, dtype=np.float64))


def test_layers_that_write_one_axis_share_the_mean_of_their_gates() -> None:
    cut = METHODS["hard_concrete_units"].run
    model, options = residual_images(), {"seed": 0, "epochs": 3, "lr": 0.3, "lam": 1e-2, "drop_rate": 0.3}
    found = cut(model, IMAGES, amount=0.6, **options)
    logs = {key: v.ravel() for key, v in found.record["log_alpha"].items()}
    assert (np.abs(logs["stem.weight"] - logs["b.weight"]) > 1e-3).any()
    scores = {"stem": (logs["stem.weight"] + logs["b.weight"]) / 2, "a": logs["a.weight"]}
    gone = {axis: ~found.model.mask(f"{axis}.weight").reshape(len(s), -1).any(axis=1) for axis, s in scores.items()}
    flat, out = (np.concatenate([part[axis] for axis in scores]) for part in (scores, gone))
    assert 2 < out.sum() < out.size - 2
    assert flat[out].max() < flat[~out].min()
    x, small = IMAGES.test.x, shrink(found.model)
    assert small.size < found.model.size
    np.testing.assert_allclose(small.logits(x), found.model.logits(x), rtol=1e-12, atol=1e-12)
    layers = cut(model, IMAGES, amount=0.45, scope="layer", **{**options, "seed": 2})
    logs = {key: v.ravel() for key, v in layers.record["log_alpha"].items()}
    places, out = [], []
    for axis, score in {"stem": (logs["stem.weight"] + logs["b.weight"]) / 2, "a": logs["a.weight"]}.items():
        places += [(sum(score < own) + 0.5) / score.size for own in score]
        out += (~layers.model.mask(f"{axis}.weight").reshape(score.size, -1).any(axis=1)).tolist()
    assert max(np.array(places)[out]) < min(np.array(places)[~np.array(out)])


def test_statistics_that_training_has_moved_are_those_of_the_result() -> None:
    layers = (nn.Linear("fc1", 12, 6), nn.BatchNorm1d("norm", 6), nn.ReLU("r"), nn.Linear("fc2", 6, 3))
    model = Model.init(layers, input_shape=(12,), seed=0, dtype=np.float64)
    for name in ("learned_threshold", "hard_concrete"):
        found = METHODS[name].run(model, DATA, amount=0.2, seed=0, epochs=1, lr=1e-3).model
        assert (np.abs(found.buffers["norm.running_mean"]) > 1e-4).all()


class Extremes:
    """Uniform numbers that are all the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self, shape: Any) -> Any:
        return np.full(shape, self.value)


def test_a_gated_layer_draws_in_training_alone_and_bears_any_draw() -> None:
    soft = wrapped(NET, lambda layer: Gated(layer.name, layer))
    layer, params = soft.architecture[0], {k: Tensor(p) for k, p in soft.params.items()}
    x, w, b = DATA.test.x, NET.params["fc1.weight"], NET.params["fc1.bias"]
    log_alpha = soft.params["fc1.log_alpha"]
    for rng in (None, np.random.default_rng(3)):
        u = None if rng is None else np.random.default_rng(3).random(w.shape)
        y, _ = layer.forward(Tensor(x), params, {}, training=rng is not None, rng=rng)
        np.testing.assert_allclose(y.data, x @ (w * gates(log_alpha, u)[0]).T + b, rtol=1e-9, atol=1e-12)
    still, _ = layer.forward(Tensor(x), params, {}, training=False, rng=np.random.default_rng(3))
    np.testing.assert_allclose(still.data, x @ (w * gates(log_alpha)[0]).T + b, rtol=1e-9, atol=1e-12)
    for value, open_ in ((0.0, 0.0), (1.0, 1.0)):
        extreme: Any = Extremes(value)
        y, _ = layer.forward(Tensor(x), params, {}, training=True, rng=extreme)
        np.testing.assert_allclose(y.data, x @ (w * open_).T + b, rtol=1e-9, atol=1e-12)


# --- SLR and ADMM -----------------------------------------------------------------------------------------------------


def total(g: Arrays) -> float:
    return sum(math.sqrt(float((v**2).sum())) for v in g.values())


@pytest.mark.parametrize(("name", "lr", "rho"), [("slr", 2.0, 0.5), ("slr", 0.05, 0.1), ("admm", 0.2, 0.5)])
def test_relaxation_written_out(name: str, lr: float, rho: float) -> None:
    """Epochs of one Nesterov step, the two conditions, the step rule, the projection, and the cut."""
    epochs, drop, keys = 8, round(0.7 * NET.size), list(NET.weights)
    big_m, r, s0 = (20.0, 0.2, 0.03) if lr > 0.1 else (300.0, 0.1, 0.01)

    def project(w: Arrays) -> Arrays:
        masks = smallest_gone({key: np.abs(w[key]) for key in keys}, drop)
        return {key: w[key] * masks[key] for key in keys}

    def lagrangian(w: Arrays, biases: Arrays) -> float:
        f, _ = loss_and_slopes({**biases, **{key: w[key] for key in keys}})
        return f + sum(float((lam[k] * (w[k] - z[k])).sum() + rho / 2 * ((w[k] - z[k]) ** 2).sum()) for k in keys)

    p: Arrays = dict(NET.params)
    velocity: Arrays = dict.fromkeys(p, 0.0)
    z, lam = project(p), {key: np.zeros_like(p[key]) for key in keys}
    s, k, size = s0, 1, total({key: p[key] - z[key] for key in keys})
    record: dict[str, list[float]] = {name: [] for name in ("residual", "steps", "alphas", "conditions", "loss")}

    def update(holds: bool) -> None:
        nonlocal s, k, size, lam
        record["conditions"].append(float(holds))
        if holds:
            g = {key: p[key] - z[key] for key in keys}
            alpha = 1 - 1 / (big_m * k ** (1 - 1 / k**r))
            s, size, k = alpha * s * size / total(g), total(g), k + 1
            lam = {key: lam[key] + s * g[key] for key in keys}
            record["alphas"].append(alpha)
            record["steps"].append(s)

    for epoch in range(epochs):
        _, g = loss_and_slopes(p)
        before, rate = dict(p), lr * (0.01 + 0.99 * (1 + math.cos(math.pi * epoch / epochs)) / 2)
        for key in p:
            slope = g[key] + (rho * (p[key] - z[key]) + lam[key] if key in keys else 0)
            velocity[key] = 0.5 * velocity[key] + slope
            p[key] = p[key] - rate * (slope + 0.5 * velocity[key])
        if name == "slr":
            update(k == 1 or lagrangian(p, p) < lagrangian(before, p))
        z = project({key: p[key] + lam[key] / rho for key in keys})
        if name == "slr":
            update(True)
        else:
            lam = {key: lam[key] + rho * (p[key] - z[key]) for key in keys}
        record["residual"].append(total({key: p[key] - z[key] for key in keys}))
        record["loss"].append(loss_and_slopes(p)[0])
    rule = {"big_m": big_m, "r": r, "step": s0} if lr > 0.1 and name == "slr" else {}
    found = METHODS[name].run(NET, DATA, amount=0.7, seed=0, epochs=epochs, lr=lr, **({"rho": rho} | rule))
    for part, values in record.items():
        assert found.record[part] == pytest.approx(values, rel=1e-6)
    assert (0.0 in record["conditions"]) == (name == "slr" and lr > 0.1)  # both branches are seen
    same(found.model, p, smallest_gone({key: np.abs(p[key]) for key in keys}, drop))


def test_the_published_constants_are_the_defaults() -> None:
    options = METHODS["slr"].options
    assert [options[name] for name in ("big_m", "r", "step", "rho")] == [300.0, 0.1, 0.01, 0.1]
    assert METHODS["admm"].options["rho"] == 0.1


# --- coresets ---------------------------------------------------------------------------------------------------------


def test_coresets_of_two_layers_are_drawn_from_the_top_down() -> None:
    """Draw by draw: the first layer meets the weights that the second has kept and multiplied."""
    found, record = sampled(NET, 0.45, seed=5)
    params: Arrays = {key: p.copy() for key, p in NET.params.items()}
    for number, layer, reader, stay in ((1, "fc2", "fc3", 5), (0, "fc1", "fc2", 6)):
        w, b, q = params[f"{layer}.weight"], params[f"{layer}.bias"], params[f"{reader}.weight"]
        s = [max(abs(q[:, i])) * math.sqrt((w[i] ** 2).sum() + b[i] ** 2) for i in range(len(w))]
        pr = np.array(s) / sum(s)
        rng, counts, draws = stream(5, "prune", number), np.zeros(len(w)), 0
        for unit in rng.choice(len(w), size=200 * len(w), p=pr):
            counts[unit] += 1
            draws += 1
            if np.count_nonzero(counts) == stay:
                break
        np.testing.assert_array_equal(record["counts"][layer], counts)
        assert record["draws"][layer] == draws > stay
        assert record["units"][layer] == np.flatnonzero(counts == 0).tolist()
        params[f"{reader}.weight"] = q * counts / (draws * pr)
        w[counts == 0], b[counts == 0] = 0, 0
    for key, p in params.items():
        np.testing.assert_allclose(found.params[key], p, rtol=1e-12)


def test_sensitivities_of_a_shortcut_add_over_writers_and_take_the_largest_reader() -> None:
    model = residual_images()
    s = np.zeros(6)
    for name in ("stem", "b"):  # no activation stands behind either before a layer with weights
        rows = model.params[f"{name}.weight"].reshape(6, -1)
        s += np.sqrt((rows**2).sum(axis=1) + model.params[f"{name}.bias"] ** 2) * 3.0
    read = [
        model.params["a.weight"].transpose(1, 0, 2, 3),
        model.params["fc.weight"].reshape(3, 6, 16).transpose(1, 0, 2),
    ]
    s *= np.max([np.abs(part).reshape(6, -1).max(axis=1) for part in read], axis=0)
    np.testing.assert_allclose(probabilities(model, coupled_axes(model), "stem", radius=3.0), s / s.sum(), rtol=1e-12)
    norms = probabilities(model, coupled_axes(model), "stem", sampling="norm")
    assert norms.tolist() != pytest.approx((s / s.sum()).tolist())


def test_units_that_are_never_drawn_stay_by_their_likelihood() -> None:
    pr = np.array([0.7, 1e-30, 0.3, 1e-20, 0.0])
    assert np.flatnonzero(draw(pr, 3, np.random.default_rng(0))[0]).tolist() == [0, 2, 3]
    uniform = probabilities(NET, coupled_axes(NET), "fc1", sampling="uniform")
    np.testing.assert_array_equal(uniform, np.full(10, 0.1))


def test_nothing_is_reweighted_where_nothing_goes_and_masks_stay_while_training() -> None:
    found = cut("coreset", NET, 0.0).model
    assert all(np.array_equal(found.params[key], p) for key, p in NET.params.items())
    masks = {"fc1.weight": np.eye(10, 12, dtype=bool)}
    soft = wrapped(NET.replace(masks=masks), lambda layer: Gated(layer.name, layer))
    np.testing.assert_array_equal(soft.mask("fc1.weight"), masks["fc1.weight"])


def test_a_budget_that_fits_exactly_is_used_and_every_layer_keeps_its_least() -> None:
    removed = cut("coreset", NET, 0.6).record["removed"]
    assert cut("coreset", NET, removed).record["removed"] == removed
    kept = [int(cut("coreset", NET, 0.8, min_keep=least).model.mask("fc3.weight").sum()) for least in (0, 15)]
    assert kept[0] < 15 <= kept[1]


# --- rules of weights and units ---------------------------------------------------------------------------------------


def cut(name: str, model: Model, amount: float, **options: Any) -> Any:
    return METHODS[name].run(model, None, amount=amount, seed=0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", ["std", "span", "quantile"])
def test_scales_of_thresholds_are_those_of_what_is_left(scale: str) -> None:
    """After a first cut that empties most of one layer."""
    first = {key: np.ones(NET.params[key].shape, bool) for key in NET.weights}
    first["fc1.weight"][1:] = False
    first["fc1.weight"][1, np.abs(NET.params["fc1.weight"][1]).argmin()] = True
    once = NET.replace(masks=first)
    scores = {}
    for key in NET.weights:
        w, alive = NET.params[key], first[key]
        size = np.abs(w) / (w[alive].std() if scale == "std" else abs(w[alive]).max())
        if scale == "quantile":  # places in the layer, what has gone first
            order = np.argsort(np.where(alive, 1 + np.abs(w), 0), axis=None, kind="stable").tolist()
            size = np.array([order.index(i) for i in range(w.size)]).reshape(w.shape) / w.size + 0.5 / w.size
        scores[key] = np.where(alive, size, -1)
    found = cut("on_the_fly", once, 160, scale=scale)
    masks = smallest_gone(scores, 160)
    for key in NET.weights:
        np.testing.assert_array_equal(found.model.mask(key), masks[key])
    assert found.record["knob"] == pytest.approx(min(s[masks[key]].min() for key, s in scores.items()), rel=1e-12)


def test_one_layer_has_no_ramp_and_a_constant_layer_no_spread() -> None:
    one = nn.mlp((6, 3), seed=0, dtype=np.float64)
    masks = [cut("on_the_fly", one, 0.5, rule=rule).model.mask("fc1.weight") for rule in ("flat", "triangular")]
    np.testing.assert_array_equal(*masks)
    flat = {**NET.params, "fc2.weight": np.full_like(NET.params["fc2.weight"], 0.125)}
    found = cut("on_the_fly", NET.replace(params=flat), 0.3, scale="std")
    assert found.record["removed"] == round(0.3 * NET.size)
    assert found.record["thresholds"]["fc2.weight"] == 0.125


def test_scores_of_units_by_hand_and_the_units_that_went() -> None:
    model = residual_images()
    rows = {
        name: np.abs(model.params[f"{name}.weight"].reshape(n, -1)) for name, n in (("stem", 6), ("a", 5), ("b", 6))
    }
    for norm, pool in itertools.product(("mean", "sum"), ("mean", "sum")):
        each = {name: r.sum(axis=1) / (r.shape[1] if norm == "mean" else 1) for name, r in rows.items()}
        both = (each["stem"] + each["b"]) / (2 if pool == "mean" else 1)
        found = cut("global_filters", model, 0.5, norm=norm, pool=pool)
        np.testing.assert_allclose(found.record["scores"]["stem"], both, rtol=1e-12)
        np.testing.assert_allclose(found.record["scores"]["a"], each["a"], rtol=1e-12)
        gone = {
            name: np.flatnonzero(~found.model.mask(f"{name}.weight").reshape(n, -1).any(axis=1)).tolist()
            for name, n in (("stem", 6), ("a", 5))
        }
        assert found.record["units"] == {name: ids for name, ids in gone.items() if ids}
        flat = np.concatenate([both, each["a"]])
        out = np.isin(np.arange(11), [*gone["stem"], *(6 + i for i in gone["a"])])
        assert out.any()
        assert flat[out].max() < flat[~out].min()
    narrow = cut("global_filters", model.astype(np.float32), 0.5).record["scores"]
    assert {s.dtype for s in narrow.values()} == {np.dtype(np.float64)}


def test_a_limit_of_accuracy_ends_at_a_cut_that_one_weight_more_would_break() -> None:
    trained, _ = fit(NET, DATA.train, epochs=40, seed=0, optimizer=SGD(lr=0.3), progress="none")
    found = METHODS["on_the_fly"].run(trained, DATA, amount=0.95, seed=0, drop=0.1, rule="flat")
    before = metrics.evaluate(trained, DATA.validation).acc1
    lost = [
        before - metrics.evaluate(cut("on_the_fly", trained, n, rule="flat").model, DATA.validation).acc1
        for n in (found.record["removed"], found.record["removed"] + 1)
    ]
    assert lost[0] <= 0.1 < lost[1]


def test_a_limit_of_accuracy_needs_validation_samples() -> None:
    empty = dataclasses.replace(DATA, validation=DATA.validation.take(np.arange(0)))
    with pytest.raises(ArgumentError, match=r"^drop=0.1 is measured on data.validation, which is empty; give at least"):
        METHODS["on_the_fly"].run(NET, empty, amount=0.5, seed=0, drop=0.1)


# --- pivoting and criteria of filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_units_are_swapped_as_brute_force_does(seed: int) -> None:
    """The exchange that raises the energy most, computed anew for every pair, until none raises it."""
    rng = np.random.default_rng(seed)
    layers = (nn.Conv2d("c", 2, 5, 2), nn.ReLU("r"), nn.Flatten("f"), nn.Linear("fc", 20, 4))
    model = Model.init(layers, input_shape=(2, 3, 3), seed=seed, dtype=np.float64)
    stay = {key: rng.random(model.params[key].shape) < 0.4 for key in model.weights}

    def energy(order: Any) -> float:
        c, fc = model.params["c.weight"][order], model.params["fc.weight"].reshape(4, 5, 4)[:, order].reshape(4, 20)
        return float((c[stay["c.weight"]] ** 2).sum() + (fc[stay["fc.weight"]] ** 2).sum())

    order = np.arange(5)
    while True:
        swaps = []
        for p, q in itertools.combinations(range(5), 2):
            other = order.copy()
            other[[p, q]] = other[[q, p]]
            swaps.append(other)
        best = max(swaps, key=energy)
        if energy(best) <= energy(order) + 1e-9:
            break
        order = best
    assert energy(order) > energy(np.arange(5))
    np.testing.assert_array_equal(better_order(model, coupled_axes(model), "c", stay), order)


def test_tiles_of_one_weight_go_down_to_the_last_of_every_layer() -> None:
    found = cut("matrix_pivoting", NET, NET.size - 3, blocksize=1)
    assert [int(found.model.mask(key).sum()) for key in NET.weights] == [1, 1, 1]
    few = cut("matrix_pivoting", NET, 0.7, blocksize=2, min_keep=21, turns=0)
    assert min(int(few.model.mask(key).sum()) for key in NET.weights) >= 21
    assert len(few.record["energy"]) == 1
    wide = cut("matrix_pivoting", NET, 0.7, blocksize=4, min_keep=16)  # two tiles are enough everywhere
    assert wide.record["removed"] > 0.4 * NET.size
    large = NET.replace(params={**NET.params, "fc2.weight": 100 * NET.params["fc2.weight"]})
    layers = cut("matrix_pivoting", large, 0.5, blocksize=2, scope="layer").model
    for key in NET.weights:
        assert abs(layers.mask(key).mean() - 0.5) <= 4 / NET.params[key].size


def by_svd(x: Any, y: Any, components: int) -> Any:
    """VIP, each component the leading singular vector of E^T F."""
    e, f = ((a - a.mean(axis=0)) / a.std(axis=0, ddof=1) for a in (x, y))
    total, strength = np.zeros(e.shape[1]), 0.0
    for _ in range(components):
        w = np.linalg.svd(e.T @ f)[0][:, 0]
        t = e @ w
        q = f.T @ t / (t @ t)
        total, strength = total + (t @ t) * (q @ q) * w**2, strength + (t @ t) * (q @ q)
        e, f = e - np.outer(t, t @ e) / (t @ t), f - np.outer(t, q)
    return np.sqrt(e.shape[1] * total / strength)


def test_vip_is_that_of_singular_vectors_on_the_pooled_outputs() -> None:
    model, data = networks()["cnn"]
    few, labels = data.train, np.eye(3)[data.train.y]
    (found,) = trace(model, few.x)
    for pool, join in (("max", np.max), ("mean", np.mean)):
        parts = [found.activated[axis].data for axis in ("conv1", "conv2", "fc1")]
        x = np.concatenate([join(a.reshape(len(few), a.shape[1], -1), axis=2) for a in parts], axis=1)
        run = METHODS["filter_criteria"].run
        scores = run(model, data, amount=0.3, seed=0, criterion="vip", pool=pool, components=2).record["scores"]
        assert list(scores) == ["conv1", "conv2", "fc1"]
        assert [len(s) for s in scores.values()] == [4, 3, 6]
        np.testing.assert_allclose(np.concatenate(list(scores.values())), by_svd(x, labels, 2), rtol=1e-6)
    assert vip(np.zeros((1, 3)), np.ones((1, 2)), components=1).tolist() == [0, 0, 0]
    absent = np.column_stack([np.zeros(len(few)), labels])  # of a class that no sample has
    np.testing.assert_allclose(vip(x, absent, components=2), by_svd(x, labels, 2), rtol=1e-6)


BY_TAYLOR: dict[str, Any] = {"taylor": {}, "filter_criteria": {"criterion": "taylor"}}


def test_criteria_of_tied_filters_are_means_and_layers_lose_alike() -> None:
    model, run = residual_images(), METHODS["filter_criteria"].run
    rows = [model.params[f"{name}.weight"].reshape(6, -1) for name in ("stem", "b")]
    for criterion, norm in (("unit", lambda w: np.sqrt((w**2).sum(axis=1))), ("l1", lambda w: np.abs(w).sum(axis=1))):
        scores = run(model, IMAGES, amount=0.4, seed=0, criterion=criterion).record["scores"]
        np.testing.assert_allclose(scores["stem"], (norm(rows[0]) + norm(rows[1])) / 2, rtol=1e-12)
    taylor = METHODS["taylor"].run(model, IMAGES, amount=0.4, seed=0, absolute="sample").record["scores"]
    ours = run(model, IMAGES, amount=0.4, seed=0, criterion="taylor").record["scores"]
    assert all(np.array_equal(taylor[axis], s) for axis, s in ours.items())
    steep = model.replace(params={**model.params, "stem.weight": 30 * model.params["stem.weight"]})
    masks = [METHODS[name].run(steep, IMAGES, amount=0.4, seed=0, **how).model.masks for name, how in BY_TAYLOR.items()]
    assert all(np.array_equal(masks[0][key], masks[1][key]) for key in steep.weights)  # layers divided by their norm
    uneven = model.replace(params={**model.params, "a.weight": 100 * model.params["a.weight"]})
    gone = [
        [int((~m.mask(f"{name}.weight").reshape(n, -1).any(axis=1)).sum()) for name, n in (("stem", 6), ("a", 5))]
        for m in (
            run(uneven, IMAGES, amount=0.5, seed=0, criterion="l1", scope=scope).model for scope in ("global", "layer")
        )
    ]
    assert gone[0][1] == 0 < gone[0][0]
    assert abs(gone[1][0] / 6 - gone[1][1] / 5) <= 0.2
    assert min(gone[1]) > 0
