"""Methods that remove units, filters or tiles, and thresholds by depth: the properties their papers imply."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from l0ref import metrics, nn
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS, Pruned
from l0ref.methods.coreset import draw, largest, probabilities, reweighted, sampled
from l0ref.methods.filter_criteria import CRITERIA, nipals, vip
from l0ref.methods.global_filters import l1
from l0ref.methods.matrix_pivoting import better_order, kept_energy, tile_masks
from l0ref.nn import Model
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.shrink import permute, shrink
from l0ref.training import fit
from tests.method_contract import networks, same_bits

MLP, DATA = networks()["mlp"]
CNN, IMAGES = networks()["cnn"]


class Untouchable:
    """Data that must not be read."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"data.{name} was read")


def run(name: str, model: Model, amount: float, **options: Any) -> Pruned:
    return METHODS[name].run(model, Untouchable(), amount=amount, seed=options.pop("seed", 0), **options)  # type: ignore[arg-type]


def gone(model: Model) -> int:
    return sum(int((~model.mask(k)).sum()) for k in model.weights)


# --- global filters ---------------------------------------------------------------------------------------------------


def test_a_filter_beside_its_copy_scores_the_same_by_mean_and_twice_by_sum() -> None:
    w = np.array([[1.0, -2.0, 0.5]])
    twice = np.concatenate([w, w], axis=1)
    assert l1(twice, "mean") == l1(w, "mean")
    assert l1(twice, "sum") == 2 * l1(w, "sum")


def scaled(model: Model, factor: float, *keys: str) -> Model:
    return model.replace(params={k: p * factor if k in keys else p for k, p in model.params.items()})


def test_scaling_all_layers_changes_no_mask_and_scaling_one_protects_it() -> None:
    plain = run("global_filters", CNN, 0.5).model
    assert gone(run("global_filters", scaled(CNN, 4.0, *CNN.weights), 0.5).model) == gone(plain)
    for key in CNN.weights:
        np.testing.assert_array_equal(
            run("global_filters", scaled(CNN, 4.0, *CNN.weights), 0.5).model.masks[key], plain.masks[key]
        )
    one = run("global_filters", scaled(CNN, 100.0, "conv2.weight"), 0.5)
    assert "conv2" not in one.record["units"]
    by_layer = [
        run("global_filters", m, 0.5, scope="layer").record["units"] for m in (CNN, scaled(CNN, 100.0, "conv2.weight"))
    ]
    assert by_layer[0] == by_layer[1]


def test_tied_widths_stay_equal_and_pools_differ() -> None:
    model = scaled(nn.resnet_small(seed=0, dtype=np.float64), 0.01, "stem.conv.weight", "block1.2.conv.weight")
    mean, total = (run("global_filters", model, 0.1, pool=pool) for pool in ("mean", "sum"))
    assert len(mean.record["units"]["stem.conv"]) > 2
    np.testing.assert_allclose(total.record["scores"]["stem.conv"], 2 * mean.record["scores"]["stem.conv"], rtol=1e-12)
    small = shrink(mean.model, mean.record["units"])
    widths = {layer.name: layer for layer in nn.sequence.leaves(small.architecture) if isinstance(layer, nn.Conv2d)}
    assert widths["stem.conv"].out_channels == widths["block1.2.conv"].out_channels
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28))
    np.testing.assert_allclose(small.logits(x), mean.model.logits(x), rtol=1e-10, atol=1e-12)


# --- on the fly -------------------------------------------------------------------------------------------------------


def test_survivors_keep_their_bits_and_biases_stay() -> None:
    for rule in ("flat", "triangular", "relative"):
        found = run("on_the_fly", CNN, 0.73, rule=rule).model
        for key, p in CNN.params.items():
            mask = found.masks.get(key, np.ones(p.shape, bool))
            np.testing.assert_array_equal(found.params[key][mask], p[mask])
        assert CNN.size / (CNN.size - gone(found)) == pytest.approx(1 / (1 - 0.73), rel=0.01)


def test_flat_is_magnitude_and_a_ramp_without_slope() -> None:
    flat = run("on_the_fly", MLP, 0.6, rule="flat").model
    assert same_bits(flat, run("magnitude", MLP, 0.6).model)
    assert same_bits(flat, run("on_the_fly", MLP, 0.6, rule="triangular", slope=1.0).model)
    assert same_bits(flat, run("on_the_fly", MLP, 0.6, rule="relative", scale="absolute").model)
    assert same_bits(run("on_the_fly", MLP, 0.6, scale="std").model, run("class_distribution", MLP, 0.6).model)


def test_a_ramp_is_a_threshold_that_rises_with_depth() -> None:
    found = run("on_the_fly", MLP, 0.6, rule="triangular", slope=3.0)
    for number, key in enumerate(MLP.weights):
        limit = found.record["knob"] * (1 + 2.0 * number / 2) * (1 - 1e-12)
        np.testing.assert_array_equal(found.model.masks[key], np.abs(MLP.params[key]) >= limit)


def test_the_thresholds_of_a_record_are_the_smallest_weights_that_stay() -> None:
    found = run("on_the_fly", MLP, 0.6, rule="flat")
    kept = {k: min(abs(w) for w in found.model.params[k].ravel() if w) for k in MLP.weights}
    assert found.record["thresholds"] == kept
    assert found.record["knob"] == min(kept.values()) > 0


def test_relative_takes_the_same_share_and_spans_the_same_share_of_the_largest() -> None:
    found = run("on_the_fly", CNN, 0.4).model
    for key in CNN.weights:
        assert abs(int((~found.masks[key]).sum()) - 0.4 * CNN.params[key].size) <= 1
    span = run("on_the_fly", CNN, 0.4, scale="span")
    for key in CNN.weights:
        w = np.abs(CNN.params[key])
        np.testing.assert_array_equal(span.model.masks[key], w >= span.record["knob"] * w.max() * (1 - 1e-12))


def test_more_goes_as_the_knob_rises_and_nothing_at_zero() -> None:
    before = run("on_the_fly", CNN, 0.0).model
    assert gone(before) == 0
    for amount in (0.2, 0.5, 0.8):
        after = run("on_the_fly", CNN, amount).model
        assert all((after.masks[k] <= before.masks[k]).all() for k in CNN.weights)
        before = after


class Locked:
    """Data that must not be touched."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"data.{name} was read")


@pytest.mark.parametrize("rule", ["flat", "triangular", "relative"])
def test_thresholds_need_neither_data_nor_gradients(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit of accuracy no sample is read and nothing is evaluated; with one, nothing is differentiated."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("this was called")

    bound = METHODS["on_the_fly"].run(MLP, DATA, amount=0.5, seed=0, drop=1.0, rule=rule).model
    monkeypatch.setattr("l0ref.nn.loss.grad", never)
    monkeypatch.setattr("l0ref.autodiff.tensor.grad", never)
    assert same_bits(bound, METHODS["on_the_fly"].run(MLP, DATA, amount=0.5, seed=0, drop=1.0, rule=rule).model)
    monkeypatch.setattr(Model, "logits", never)
    monkeypatch.setattr(Model, "forward", never)
    data: Any = Locked()
    assert same_bits(bound, METHODS["on_the_fly"].run(MLP, data, amount=0.5, seed=0, rule=rule).model)
    with pytest.raises(AssertionError):
        METHODS["on_the_fly"].run(MLP, data, amount=0.5, seed=0, drop=1.0, rule=rule)


def test_the_drop_in_accuracy_is_a_limit() -> None:
    model, _ = fit(nn.mlp((12, 10, 3), seed=0, dtype=np.float64), DATA.train, epochs=30, seed=0, progress="none")
    free = METHODS["on_the_fly"].run(model, DATA, amount=0.9, seed=0, drop=1.0).model
    bound = METHODS["on_the_fly"].run(model, DATA, amount=0.9, seed=0, drop=0.05).model
    assert gone(free) == math.floor(0.9 * model.size + 0.5)
    before, after = (metrics.evaluate(m, DATA.validation).acc1 for m in (model, bound))
    assert before - after <= 0.05
    assert gone(bound) < gone(free)
    with pytest.raises(ArgumentError, match=r"data is NoneType, expected Splits"):
        METHODS["on_the_fly"].run(model, None, amount=0.9, seed=0, drop=0.05)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"drop=0.05 needs scope='global'"):
        METHODS["on_the_fly"].run(model, DATA, amount=0.9, seed=0, drop=0.05, scope="layer")


# --- coresets ---------------------------------------------------------------------------------------------------------


def hidden(model: Model, x: Any) -> Any:
    return np.maximum(x @ model.params["fc1.weight"].T + model.params["fc1.bias"], 0)


def wide_layer(activation: str = "relu") -> Model:
    model = nn.mlp((8, 40, 5), seed=3, activation=activation, dtype=np.float64)
    rng = np.random.default_rng(1)
    return model.replace(params={k: rng.standard_normal(p.shape) for k, p in model.params.items()})


def test_probabilities_are_those_of_the_formula() -> None:
    model = wide_layer("tanh")
    w, b, q = (model.params[k] for k in ("fc1.weight", "fc1.bias", "fc2.weight"))
    s = [abs(q[:, i]).max() * abs(math.tanh(2.0 * math.sqrt((w[i] ** 2).sum() + b[i] ** 2))) for i in range(40)]
    pr = probabilities(model, coupled_axes(model), "fc1", radius=2.0)
    np.testing.assert_allclose(pr, np.array(s) / sum(s), rtol=1e-12)


def test_for_relu_the_radius_makes_no_difference() -> None:
    model = wide_layer()
    pr = [probabilities(model, coupled_axes(model), "fc1", radius=r) for r in (0.1, 1.0, 50.0)]
    np.testing.assert_allclose(pr[0], pr[1], rtol=1e-12)
    np.testing.assert_allclose(pr[2], pr[1], rtol=1e-12)


def test_a_sum_over_a_fixed_number_of_draws_is_unbiased_with_the_predicted_variance() -> None:
    model, m, runs = wide_layer(), 25, 4000
    axes = coupled_axes(model)
    pr = probabilities(model, axes, "fc1")
    x = np.random.default_rng(5).standard_normal((1, 8))
    parts = (model.params["fc2.weight"] * hidden(model, x)).T  # (unit, output)
    rng = np.random.default_rng(7)
    counts = rng.multinomial(m, pr, size=runs)
    got = np.stack([reweighted(model, axes, "fc1", c / (m * pr)).logits(x)[0] for c in counts[:50]])
    np.testing.assert_allclose(got, (counts[:50] / (m * pr)) @ parts + model.params["fc2.bias"], rtol=1e-9, atol=1e-9)
    sums = (counts / (m * pr)) @ parts
    variance = ((parts**2 / pr[:, None]).sum(axis=0) - parts.sum(axis=0) ** 2) / m
    z = (sums.mean(axis=0) - parts.sum(axis=0)) / np.sqrt(variance / runs)
    assert np.abs(z).max() < 4
    np.testing.assert_allclose(sums.var(axis=0, ddof=1), variance, rtol=0.15)


def test_the_error_falls_as_the_root_of_the_draws_and_uniform_draws_are_worse() -> None:
    model = nn.mlp((8, 300, 5), seed=3, dtype=np.float64)
    rng = np.random.default_rng(1)
    model = model.replace(
        params={k: rng.lognormal(0, 1, p.shape) * rng.choice([-1, 1], p.shape) for k, p in model.params.items()}
    )
    x = rng.standard_normal((50, 8))
    parts = hidden(model, x)[:, None, :] * model.params["fc2.weight"]
    pr = probabilities(model, coupled_axes(model), "fc1")
    sizes = np.array([50, 200, 800, 3200])
    error: dict[str, list[float]] = {"coreset": [], "uniform": []}
    for m in sizes:
        for name, p in (("coreset", pr), ("uniform", np.full(300, 1 / 300))):
            counts = rng.multinomial(m, p, size=40)
            each = np.einsum("nku,ru->rnk", parts, counts / (m * p) - 1)
            error[name].append(float(np.abs(each).max(axis=(1, 2)).mean()))
    slope = np.polyfit(np.log(sizes), np.log(error["coreset"]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.06)
    assert all(u > c for c, u in zip(error["coreset"], error["uniform"], strict=True))


def test_draws_end_with_the_last_distinct_unit() -> None:
    pr = np.array([0.7, 0.2, 0.1, 0.0])
    counts, draws = draw(pr, 2, np.random.default_rng(0))
    assert counts.sum() == draws
    assert np.count_nonzero(counts) == 2
    assert counts.min(initial=9, where=counts > 0) == 1  # the draw that found the second unit was the last one
    counts, _ = draw(pr, 4, np.random.default_rng(0))  # one of them is never drawn
    assert np.count_nonzero(counts) == 4
    assert largest(np.array([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [0, 1, 1, 0]


def test_layers_go_from_the_top_down_and_baselines_do_not_reweight() -> None:
    model = wide_layer()
    small, record = sampled(model, 0.5, seed=0)
    assert list(record["units"]) == ["fc1"]
    assert len(record["units"]["fc1"]) == 20
    deep = nn.mlp((6, 20, 20, 3), seed=0, dtype=np.float64)
    _, order = sampled(deep, 0.5, seed=0)
    assert list(order["probabilities"]) == ["fc2", "fc1"]
    for sampling in ("uniform", "norm"):
        other, _ = sampled(model, 0.5, seed=0, sampling=sampling)
        kept = other.masks["fc2.weight"]
        np.testing.assert_array_equal(other.params["fc2.weight"][kept], model.params["fc2.weight"][kept])
    kept = small.masks["fc2.weight"]
    assert (small.params["fc2.weight"][kept] != model.params["fc2.weight"][kept]).any()
    norms = np.sqrt((model.params["fc1.weight"] ** 2).sum(axis=1) + model.params["fc1.bias"] ** 2)
    ours = set(np.flatnonzero(sampled(model, 0.5, seed=0, sampling="norm")[0].masks["fc1.weight"].any(axis=1)))
    assert ours == set(np.argsort(-norms)[:20])


def test_no_sampled_term_is_above_the_sum_of_sensitivities_and_the_tail_is_that_of_hoeffding() -> None:
    """|q_ki phi_i / pr_i| <= t = sum_j s_j for ||(x, 1)|| <= beta, so P(|error| >= e) <= 2 exp(-m e^2 / (2 t^2))."""
    model, beta, m, runs = wide_layer(), 3.0, 20, 4000
    rng = np.random.default_rng(2)
    x = rng.standard_normal((200, 8))
    x *= math.sqrt(beta**2 - 1) / np.linalg.norm(x, axis=1, keepdims=True)
    w, b, q = (model.params[k] for k in ("fc1.weight", "fc1.bias", "fc2.weight"))
    t = sum(max(abs(q[:, i])) * beta * math.sqrt((w[i] ** 2).sum() + b[i] ** 2) for i in range(40))
    pr = probabilities(model, coupled_axes(model), "fc1", radius=beta)
    terms = q[None] * hidden(model, x)[:, None, :] / pr
    assert 0.5 * t < np.abs(terms).max() <= t * (1 + 1e-12)
    counts = rng.multinomial(m, pr, size=runs)
    n, k = np.unravel_index(np.abs(terms).max(axis=2).argmax(), terms.shape[:2])
    error = np.abs(counts @ terms[n, k] / m - terms[n, k] @ pr)
    for e in np.linspace(0.05, 1.0, 20) * t:
        bound = min(1.0, 2 * math.exp(-m * e**2 / (2 * t**2)))
        assert (error >= e).mean() <= bound + 4 * math.sqrt(bound * (1 - bound) / runs)


def test_uniform_draws_are_among_the_units_that_are_left() -> None:
    once = run("global_filters", MLP, 0.4).model
    gone = ~once.mask("fc1.weight").any(axis=1)
    assert 0 < gone.sum() < 9
    pr = probabilities(once, coupled_axes(once), "fc1", sampling="uniform")
    np.testing.assert_array_equal(pr, np.where(gone, 0, 1 / (~gone).sum()))


def test_the_amount_of_a_coreset_is_of_each_layer_if_so_asked() -> None:
    """The largest share at which no layer loses more than its own amount."""
    model = nn.mlp((20, 40, 30, 2), seed=0, dtype=np.float64)
    for amount, limits in ((0.4, [320, 480, 24]), (20, [20, 20, 20])):
        found = run("coreset", model, amount, scope="layer").model
        lost = [int((~found.mask(key)).sum()) for key in model.weights]
        assert all(n <= limit for n, limit in zip(lost, limits, strict=True))
        shares = {part / 1000: sampled(model, part / 1000, seed=0)[0] for part in range(0, 1000, 25)}
        allowed = [
            s for s, m in shares.items() if all((~m.mask(k)).sum() <= n for k, n in zip(m.weights, limits, strict=True))
        ]
        best = sampled(model, max(allowed), seed=0)[0]
        assert gone(found) >= gone(best)


# --- pivoting ---------------------------------------------------------------------------------------------------------


def tiled_network() -> Model:
    rng = np.random.default_rng(0)
    model = nn.mlp((16, 32, 32, 4), seed=0, dtype=np.float64)
    heavy = {
        k: rng.lognormal(0, 1, model.params[k].shape) * rng.choice([-1, 1], model.params[k].shape)
        for k in model.weights
    }
    return model.replace(params={**model.params, **heavy})


def test_energy_rises_from_the_identity_and_stays_below_the_bound() -> None:
    found = run("matrix_pivoting", tiled_network(), 0.75)
    energy = found.record["energy"]
    assert energy[0] < max(energy) - 0.03
    assert max(energy) < found.record["bound"]
    assert kept_energy(tiled_network(), found.model.masks) == pytest.approx(max(energy), rel=1e-12)
    for order in found.record["orders"].values():
        assert sorted(order.tolist()) == list(range(len(order)))


def test_in_its_best_order_whole_tiles_are_zero_and_the_function_is_the_same() -> None:
    model = tiled_network()
    found = run("matrix_pivoting", model, 0.75, blocksize=(4, 8))
    moved = permute(found.model, found.record["orders"])
    for key in model.weights:
        mask = moved.masks[key]
        tiles = mask.reshape(mask.shape[0] // 4, 4, mask.shape[1] // 8, 8)
        assert (tiles.any(axis=(1, 3)) == tiles.all(axis=(1, 3))).all()
    x = np.random.default_rng(1).standard_normal((5, 16))
    np.testing.assert_allclose(moved.logits(x), found.model.logits(x), rtol=1e-9)


def test_tiles_of_one_entry_are_magnitude_pruning() -> None:
    assert same_bits(run("matrix_pivoting", CNN, 0.5, blocksize=1).model, run("magnitude", CNN, 0.5).model)


def test_the_best_swap_is_that_of_brute_force() -> None:
    model = nn.mlp((6, 4, 4), seed=0, dtype=np.float64)
    axes = coupled_axes(model)
    stay = tile_masks(model, amount=0.5, scope="global", min_keep=0, blocksize=(2, 2))
    order = better_order(model, axes, "fc1", stay)

    def energy(perm: Any) -> float:
        moved = permute(model, {"fc1": list(perm)})
        return float(sum((moved.params[k] ** 2)[stay[k]].sum() for k in stay))

    swaps = [np.array(p) for p in itertools.permutations(range(4)) if sum(a != i for i, a in enumerate(p)) in (0, 2)]
    assert energy(order) >= max(map(energy, swaps)) - 1e-12
    assert all(energy(order[swap]) <= energy(order) + 1e-12 for swap in swaps)


# --- criteria of filters ----------------------------------------------------------------------------------------------


def correlated(seed: int = 0, n: int = 200) -> tuple[Any, Any]:
    """Five columns of which three carry the label, and one-hot labels of three classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.standard_normal((n, 8))
    x[:, 0] += 3 * y
    x[:, 3] -= 2 * (y == 1)
    x[:, 5] += y
    return x, np.eye(3)[y]


def test_squares_of_vip_add_up_and_components_are_orthogonal() -> None:
    x, y = correlated()
    for components in (1, 2, 4):
        assert (vip(x, y, components=components) ** 2).sum() == pytest.approx(8, rel=1e-12)
    centred, labels = ((a - a.mean(axis=0)) / a.std(axis=0, ddof=1) for a in (x, y))
    weights, _ = nipals(centred, labels, components=2)
    np.testing.assert_allclose(weights.T @ weights, np.eye(2), atol=1e-10)
    first = np.linalg.svd(centred.T @ labels)[0][:, 0]
    assert abs(first @ weights[:, 0]) == pytest.approx(1, rel=1e-9)


def test_columns_that_carry_the_label_rank_first() -> None:
    x, y = correlated()
    assert set(np.argsort(-vip(x, y, components=2))[:3]) == {0, 3, 5}
    x[:, 1] = 7.0
    assert vip(x, y, components=2)[1] == 0
    assert vip(np.ones((5, 3)), np.eye(5)[:, :2], components=2).tolist() == [0, 0, 0]


@pytest.mark.crosscheck
def test_partial_least_squares_is_that_of_scikit_learn() -> None:
    regression = pytest.importorskip("sklearn.cross_decomposition")
    x, y = correlated(3)
    theirs = regression.PLSRegression(n_components=3, scale=True, tol=1e-12, max_iter=2000).fit(x, y)
    centred, labels = ((a - a.mean(axis=0)) / a.std(axis=0, ddof=1) for a in (x, y))
    weights, strength = nipals(centred, labels, components=3)
    np.testing.assert_allclose(np.abs(weights), np.abs(theirs.x_weights_), rtol=1e-5, atol=1e-6)
    t, q = theirs.x_scores_, theirs.y_loadings_
    np.testing.assert_allclose(strength, (t**2).sum(axis=0) * (q**2).sum(axis=0), rtol=1e-5)


def test_criteria_of_weights_by_hand_and_each_criterion_cuts() -> None:
    cut = METHODS["filter_criteria"].run
    scores = {c: cut(CNN, IMAGES, amount=0.4, seed=0, criterion=c).record["scores"] for c in CRITERIA}
    w = CNN.params["conv2.weight"].reshape(3, -1)
    np.testing.assert_allclose(scores["unit"]["conv2"], np.linalg.norm(w, axis=1), rtol=1e-12)
    np.testing.assert_allclose(scores["l1"]["conv2"], np.abs(w).sum(axis=1), rtol=1e-12)
    assert sum((v**2).sum() for v in scores["vip"].values()) == pytest.approx(13, rel=1e-9)
