"""OBD, OBS, L-OBS, ExactOBS and their curvature, against differences, brute force and identities."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.autodiff.op import backend
from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS, Pruned
from l0ref.methods.brain_surgery import _inverse, _rises
from l0ref.methods.connection_sensitivity import loss_gradients
from l0ref.methods.curvature import columns, grams, hessian_diagonals, neuron_hessians
from l0ref.methods.elimination import damped, moved, path
from l0ref.nn import Model
from l0ref.pruning.trace import signals, trace, weighted_layers
from l0ref.validate import Array
from tests.method_contract import networks


def run(name: str, model: Model, data: Splits, amount: float, seed: int = 0, **options: Any) -> Pruned:
    return METHODS[name].run(model, data, amount=amount, seed=seed, **options)


def spd(rng: np.random.Generator, n: int = 7) -> Array:
    x = rng.standard_normal((30, n))
    return x.T @ x / 30 + 0.05 * np.eye(n)


def rise(h: Array, start: Array, w: Array) -> float:
    return float((w - start) @ h @ (w - start) / 2)


# --- elimination ------------------------------------------------------------------------------------------------------


def test_the_rise_obs_predicts_is_the_rise_there_is_and_never_above_obd(rng: np.random.Generator) -> None:
    h, w = spd(rng), rng.standard_normal(7)
    inverse = np.linalg.inv(h)
    for q in range(7):
        keep = np.arange(7) != q
        after = moved(h, w, keep)
        assert after[q] == 0
        np.testing.assert_allclose(after, w - w[q] / inverse[q, q] * inverse[:, q], rtol=1e-10, atol=1e-12)
        predicted = w[q] ** 2 / (2 * inverse[q, q])
        assert rise(h, w, after) == pytest.approx(predicted, rel=1e-9)
        assert predicted <= h[q, q] * w[q] ** 2 / 2
    group = np.array([1, 4, 5])
    after = moved(h, w, ~np.isin(np.arange(7), group))
    closed = w[group] @ np.linalg.solve(inverse[np.ix_(group, group)], w[group]) / 2
    assert rise(h, w, after) == pytest.approx(float(closed), rel=1e-9)


def test_every_step_of_the_path_is_the_cheapest_by_brute_force(rng: np.random.Generator) -> None:
    h, w = spd(rng), rng.standard_normal(7)
    order, rises = path(h, w, gone=np.zeros(7, bool), fixed=1)
    assert sorted(order.tolist()) == list(range(6))
    keep, reached = np.ones(7, bool), 0.0
    for q, step in zip(order, rises, strict=True):
        costs = {}
        for j in np.flatnonzero(keep[:6]):
            trial = keep.copy()
            trial[j] = False
            costs[int(j)] = rise(h, w, moved(h, w, trial))
        assert int(q) == min(costs, key=costs.__getitem__)
        assert reached + step == pytest.approx(costs[int(q)], rel=1e-8)
        reached, keep[q] = costs[int(q)], False


def test_what_went_before_is_eliminated_first_and_costs_nothing(rng: np.random.Generator) -> None:
    h, w = spd(rng), rng.standard_normal(7)
    gone = np.array([True, False, False, True, False, False, False])
    w[gone] = 0.0
    order, rises = path(h, w, gone=gone)
    left = np.flatnonzero(~gone)
    reduced, expected = path(h[np.ix_(left, left)], w[left], gone=np.zeros(5, bool))
    assert order.tolist() == left[reduced].tolist()
    np.testing.assert_allclose(rises, expected, rtol=1e-8)


def test_damping_is_relative_and_zero_becomes_the_identity(rng: np.random.Generator) -> None:
    h = spd(rng)
    np.testing.assert_allclose(damped(h, 0.5) - h, np.eye(7) * np.trace(h) / 14, atol=1e-15)
    np.testing.assert_array_equal(damped(np.zeros((3, 3)), 0.5), np.eye(3))
    order, rises = path(np.eye(1), np.array([2.0]), gone=np.zeros(1, bool))
    assert (order.tolist(), rises.tolist()) == ([0], [2.0])
    assert path(np.eye(1), np.array([2.0]), gone=np.ones(1, bool))[0].size == 0


def test_the_compiled_elimination_goes_the_same_way(rng: np.random.Generator) -> None:
    for n, gone, fixed in ((1, 0, 0), (6, 0, 1), (40, 5, 1), (40, 39, 0)):
        x = rng.standard_normal((2 * n, n))
        h, w, before = x.T @ x / n + 0.05 * np.eye(n), rng.standard_normal(n), rng.permutation(n) < gone
        order, rises = path(h, w, gone=before, fixed=fixed)
        with backend("numpy"):
            expected, steps = path(h, w, gone=before, fixed=fixed, inverse=np.linalg.inv(h))
        assert order.tolist() == expected.tolist()
        np.testing.assert_allclose(rises, steps, rtol=1e-9)


# --- curvature --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_the_matrix_of_a_neuron_is_the_hessian_of_the_loss(network: str) -> None:
    model, data = networks()[network]  # of ReLUs, and one layer of tanh before the last, whose Hessian is not exact
    few = data.train.take(np.arange(9))
    exact = {"mlp": ("fc1", "fc2", "fc3"), "cnn": ("fc2",)}[network]
    checked = 0
    for name, f, h in neuron_hessians(model, few):
        if name not in exact or f > 2:
            continue
        key, step = f"{name}.weight", 1e-6
        size = model.params[key][0].size
        for q in (0, size - 1):
            change = np.zeros_like(model.params[key])
            change.reshape(len(change), -1)[f, q] = step
            ends = [
                loss_gradients(model.replace(params={**model.params, key: model.params[key] + s * change}), few)
                for s in (1, -1)
            ]
            column = np.append((ends[0][key] - ends[1][key]).reshape(len(change), -1)[f],
                               (ends[0][f"{name}.bias"] - ends[1][f"{name}.bias"])[f]) / (2 * step)  # fmt: skip
            np.testing.assert_allclose(h[:, q], column, rtol=1e-5, atol=1e-8)
            checked += 1
    assert checked >= 6


def test_convolutions_have_the_gauss_newton_matrix_of_their_summed_slopes() -> None:
    model, data = networks()["cnn"]
    few = data.train.take(np.arange(4))
    key = "conv2.weight"
    logits = lambda m: m.logits(few.x)  # noqa: E731
    size, step = model.params[key][0].size, 1e-6
    slopes = np.zeros((4, 3, size))
    for q in range(size):
        change = np.zeros_like(model.params[key])
        change.reshape(len(change), -1)[1, q] = step
        up, down = (model.replace(params={**model.params, key: model.params[key] + s * change}) for s in (1, -1))
        slopes[:, :, q] = (logits(up) - logits(down)) / (2 * step)
    z = logits(model)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    by_hand = sum(s.T @ (np.diag(pi) - np.outer(pi, pi)) @ s for s, pi in zip(slopes, p, strict=True)) / 4
    h = next(h for name, f, h in neuron_hessians(model, few) if (name, f) == ("conv2", 1))
    np.testing.assert_allclose(h[:-1, :-1], by_hand, rtol=1e-5, atol=1e-9)
    assert np.abs(by_hand).max() > 1e-4


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_diagonals_are_those_of_the_matrices(network: str) -> None:
    model, data = networks()[network]
    diagonals = hessian_diagonals(model, data.train)
    for name, f, h in neuron_hessians(model, data.train):
        np.testing.assert_allclose(diagonals[name][f], np.diag(h), rtol=1e-9, atol=1e-15)


def test_grams_are_means_over_samples_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = networks()["cnn"]
    monkeypatch.setattr("l0ref.methods.curvature.trace", functools.partial(trace, chunk=7))
    found = grams(model, data.train)
    entering = signals(model, data.train.x).entering["conv2"].data
    padded = np.pad(entering, ((0, 0), (0, 0), (1, 1), (1, 1)))
    total, number = np.zeros((37, 37)), 0
    for n, i, j in itertools.product(range(len(padded)), range(4), range(4)):
        x = np.append(padded[n, :, i : i + 3, j : j + 3].ravel(), 1.0)
        total, number = total + np.outer(x, x), number + 1
    np.testing.assert_allclose(found["conv2", 0], total / number, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_columns_times_weights_is_what_leaves(network: str) -> None:
    model, data = networks()[network]
    found = signals(model, data.train.x)
    for name, layer in weighted_layers(model).items():
        w, b = model.params[f"{name}.weight"], model.params[f"{name}.bias"]
        y = columns(layer, found.entering[name].data) @ np.column_stack([w.reshape(len(w), -1), b]).T
        leaving = found.leaving[name].data.reshape(len(y), len(w), -1).swapaxes(1, 2)
        np.testing.assert_allclose(y, leaving, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.logits.data, model.logits(data.train.x), rtol=1e-10, atol=1e-12)


# --- the methods ------------------------------------------------------------------------------------------------------


def test_obd_scores_are_half_h_times_w_squared() -> None:
    model, data = networks()["mlp"]
    found = run("obd", model, data, 0.5)
    for name, f, h in neuron_hessians(model, data.train):
        w = model.params[f"{name}.weight"][f]
        np.testing.assert_allclose(found.record["scores"][f"{name}.weight"][f], np.diag(h)[:-1] * w**2 / 2, rtol=1e-9)


@pytest.mark.parametrize("name", ["obs", "exact_obs"])
def test_what_stays_is_the_minimum_over_the_support(name: str) -> None:
    model, data = networks()["mlp"]
    found = run(name, model, data, 0.5, damping=0.01)
    if name == "obs":
        hessians = {(layer, f): damped(h, 0.01) for layer, f, h in neuron_hessians(model, data.train)}
    else:
        hessians = {(k, f): damped(h, 0.01) for (k, _), h in grams(model, data.train).items() for f in range(3)}
    for (layer, f), h in hessians.items():
        key = f"{layer}.weight"
        start = np.append(model.params[key][f], model.params[f"{layer}.bias"][f])
        end = np.append(found.model.params[key][f], found.model.params[f"{layer}.bias"][f])
        slope = h @ (end - start)  # 0 wherever the weight is free
        assert np.abs(slope[:-1][found.model.masks[key][f]]).max(initial=0.0) < 1e-9
        assert abs(slope[-1]) < 1e-9


def test_exact_obs_beats_what_it_stands_for_on_its_own_layers() -> None:
    model, data = networks()["mlp"]
    h = grams(model, data.train)
    errors = {}
    for name in ("magnitude", "l_obs", "exact_obs"):
        found = run(name, model, data, 0.6).model
        total = 0.0
        for key in model.weights:
            layer = key.removesuffix(".weight")
            change = np.column_stack([found.params[k] - model.params[k] for k in (key, f"{layer}.bias")])
            total += float(np.einsum("fk,kl,fl->", change, h[layer, 0], change))
        errors[name] = total
        if name != "magnitude":
            plain = run("magnitude", model, data, 0.6).model
            assert [int(found.masks[k].sum()) for k in model.weights] == [
                int(plain.masks[k].sum()) for k in model.weights
            ]
    assert errors["exact_obs"] < errors["l_obs"] < errors["magnitude"]


def test_l_obs_moves_by_one_column_of_the_inverse() -> None:
    model, data = networks()["mlp"]
    found = run("l_obs", model, data, 1, damping=0.01)
    key = next(k for k in model.weights if not found.model.masks[k].all())
    f, q = np.argwhere(~found.model.masks[key])[0]
    layer = key.removesuffix(".weight")
    h = damped(grams(model, data.train)[layer, 0], 0.01)
    row = np.append(model.params[key][f], model.params[f"{layer}.bias"][f])
    expected = moved(h, row, np.arange(len(row)) != q)
    np.testing.assert_allclose(found.model.params[key][f], expected[:-1], rtol=1e-8, atol=1e-12)
    assert found.model.params[f"{layer}.bias"][f] == pytest.approx(expected[-1], rel=1e-8)


@pytest.mark.parametrize("name", ["l_obs", "exact_obs"])
@pytest.mark.parametrize("what", ["no bias", "second round"])
def test_the_move_of_one_weight_is_least_squares_over_what_is_there(name: str, what: str) -> None:
    """Neither a bias that a layer does not have, nor a weight that had gone, takes part of the move."""
    rng = np.random.default_rng(4)
    layers = (nn.Linear("fc1", 12, 5, bias=what != "no bias"), nn.ReLU("relu"), nn.Linear("fc2", 5, 3))
    model = Model.init(layers, input_shape=(12,), seed=2, dtype=np.float64)
    data = networks()["mlp"][1]
    if what == "second round":
        model = model.replace(masks={"fc1.weight": rng.random((5, 12)) < 0.7})
    before = int((~model.mask("fc1.weight")).sum())
    h = damped(grams(model, data.train)["fc1", 0], 1e-9)
    root, checked = np.linalg.cholesky(h).T, 0
    for more in (1, 2, 4):
        found = run(name, model, data, before + more, damping=1e-9).model
        for f, (old, new) in enumerate(zip(model.mask("fc1.weight"), found.masks["fc1.weight"], strict=True)):
            start, end = (np.append(m.params["fc1.weight"][f], m.params.get("fc1.bias", np.zeros(5))[f])
                          for m in (model, found))  # fmt: skip
            free = np.append(new, what != "no bias")
            best = np.zeros(13)
            best[free] = np.linalg.lstsq(root[:, free], root @ start, rcond=None)[0]
            if old.sum() == new.sum() + 1:
                np.testing.assert_allclose(end, best, rtol=1e-6, atol=1e-8)
                checked += 1
    assert checked >= 2


def test_a_step_that_costs_less_than_the_one_before_is_not_ranked_below_it() -> None:
    """Row 0 loses weight 2, then 0, then 1, which moves from -1 to -0.5 as 0 goes: rises of 0.18, 0.375 and 0.125."""
    model = nn.mlp((3, 1), seed=0, dtype=np.float64)
    model = model.replace(params={"fc1.weight": np.array([[1.0, -1.0, 0.6]]), "fc1.bias": np.zeros(1)})
    h = np.eye(4)
    h[0, 1] = h[1, 0] = 0.5
    (found,) = _rises(model, {("fc1", 0): h})["fc1.weight"]
    assert found == pytest.approx([0.375, 0.375, 0.18])
    assert np.argsort(found).tolist() == [2, 0, 1]


def test_a_hessian_without_an_inverse_asks_for_damping() -> None:
    h = np.diag([1.0, 0.0])
    with pytest.raises(ArgumentError, match=r"^the Hessian of layer 'fc1' is singular; give a damping above 0$"):
        _inverse("fc1", h, np.ones(2, bool), {})


def test_the_authors_recursion_is_a_damping_of_one_millionth() -> None:
    """From 10^6 I, one rank-one update a sample ends at the inverse of H + 10^-6 I, and so do scores and moves."""
    model, data = networks()["mlp"]
    x = np.column_stack([data.train.x, np.ones(len(data.train))])
    inverse = 1e6 * np.eye(13)
    for row in x:
        column = inverse @ row
        inverse -= np.outer(column, column) / (len(x) + row @ column)
    h = grams(model, data.train)["fc1", 0]
    np.testing.assert_allclose(inverse, np.linalg.inv(h + 1e-6 * np.eye(13)), rtol=1e-5)
    found = run("l_obs", model, data, 0.4, damping=1e-6 / float(np.trace(h) / 13))
    w = model.params["fc1.weight"]
    np.testing.assert_allclose(found.record["scores"]["fc1.weight"], w**2 / (2 * np.diag(inverse)[:-1]), rtol=1e-5)
    mask, order = found.model.masks["fc1.weight"], found.record["scores"]["fc1.weight"]
    rows = np.column_stack([w, model.params["fc1.bias"]])
    for f, q in sorted(np.argwhere(~mask).tolist(), key=lambda at: order[at[0], at[1]]):
        rows[f] -= rows[f, q] / inverse[q, q] * inverse[:, q]
        rows[f, :-1][~mask[f] & (order[f] <= order[f, q])] = 0.0  # at once, as the authors' code does
    np.testing.assert_allclose(found.model.params["fc1.weight"], rows[:, :-1], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["obd", "obs", "exact_obs"])
def test_groups_are_what_a_convolution_is_whose_other_weights_have_gone(name: str) -> None:
    model, data = grouped()
    dense, masks = dict(model.params), {}
    for key in ("conv1.weight", "conv2.weight"):
        w = model.params[key]
        dense[key] = np.zeros((w.shape[0], 2 * w.shape[1], *w.shape[2:]))
        dense[key][:2, : w.shape[1]], dense[key][2:, w.shape[1] :] = w[:2], w[2:]
        masks[key] = dense[key] != 0
    layers = tuple(dataclasses.replace(x, groups=1) if isinstance(x, nn.Conv2d) else x for x in model.architecture)
    twin = Model(layers, model.input_shape, dense, masks)
    options = {"damping": 0.0} if name in ("obs", "exact_obs") else {}
    few, many = run(name, model, data, 60, **options), run(name, twin, data, 60 + twin.size - model.size, **options)
    np.testing.assert_allclose(few.model.logits(data.test.x), many.model.logits(data.test.x), rtol=1e-6, atol=1e-8)
    assert few.record["removed"] == 60


@pytest.mark.parametrize("name", ["l0_constrained", "net_trim", "l_obs"])
def test_each_group_is_a_layer_of_its_own(name: str) -> None:
    model, data = grouped(layers=1)
    options: dict[str, Any] = {"net_trim": {"iterations": 30, "searches": 2}}.get(name, {})
    found = run(name, model, data, 14, **options)
    for g in range(2):
        one = (nn.Conv2d("conv1", 1, 2, 3), nn.ReLU("relu"), nn.Flatten("flat"))
        own = {k: p[2 * g : 2 * g + 2] for k, p in model.params.items()}
        parts = {k: getattr(data, k) for k in ("train", "validation", "test")}
        half = dataclasses.replace(
            data, **{k: dataclasses.replace(part, x=part.x[:, g : g + 1]) for k, part in parts.items()}
        )
        gone = int((~found.model.masks["conv1.weight"][2 * g : 2 * g + 2]).sum())
        alone = run(name, Model(one, (1, 6, 6), own), half, gone, **options).model
        for key, p in alone.params.items():
            np.testing.assert_allclose(found.model.params[key][2 * g : 2 * g + 2], p, rtol=1e-6, atol=1e-9)


def grouped(layers: int = 2) -> tuple[Model, Splits]:
    stack: tuple[Any, ...] = (nn.Conv2d("conv1", 2, 4, 3, groups=2), nn.ReLU("relu"))
    if layers == 2:
        stack += (nn.Conv2d("conv2", 4, 4, 2, groups=2),)
    stack += (nn.Flatten("flat"), *([nn.Linear("fc", 36, 3)] if layers == 2 else []))
    return Model.init(stack, input_shape=(2, 6, 6), seed=0, dtype=np.float64), networks()["cnn"][1]
