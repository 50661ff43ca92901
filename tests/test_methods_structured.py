"""Methods that remove units, or make weights equal, against loops and identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS, Pruned
from l0ref.methods.clustering import _spread_scores, kmeans
from l0ref.nn import Model
from l0ref.pruning.shrink import mask_units, shrink
from l0ref.pruning.units import free_axes, places, prune_units, ranked_units
from tests.method_contract import networks


def run(name: str, model: Model, amount: float, seed: int = 0, **options: Any) -> Pruned:
    return METHODS[name].run(model, None, amount=amount, seed=seed, **options)  # type: ignore[arg-type]


def twin_units(model: Model, layer: str, pairs: list[tuple[int, int]]) -> Model:
    """The network with unit j a copy of unit i, incoming weights and bias."""
    params = {k: p.copy() for k, p in model.params.items()}
    for i, j in pairs:
        for end in ("weight", "bias"):
            params[f"{layer}.{end}"][j] = params[f"{layer}.{end}"][i]
    return model.replace(params=params)


@pytest.mark.parametrize(("network", "layer", "pairs"), [("mlp", "fc1", [(2, 5), (5, 7)]), ("mlp", "fc2", [(0, 6)]),
                                                         ("cnn", "conv1", [(1, 3)]), ("cnn", "conv2", [(0, 2)]),
                                                         ("cnn", "fc1", [(4, 1)])])  # fmt: skip
def test_merging_equal_units_changes_no_logit(network: str, layer: str, pairs: list[tuple[int, int]]) -> None:
    model, data = networks()[network]
    twins = twin_units(model, layer, pairs)
    w = twins.params[f"{layer}.weight"]
    reader = list(twins.weights)[list(twins.weights).index(f"{layer}.weight") + 1]
    taken = len(pairs) * (w.size // len(w) + twins.params[reader].size // len(w))
    found = run("data_free", twins, taken)
    assert [len(m) for m in found.record["merges"].values() if m] == [len(pairs)]
    assert found.record["removed"] == taken
    assert found.record["saliency"] == [0.0] * len(pairs)
    before, after = twins.logits(data.test.x), found.model.logits(data.test.x)
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(shrink(found.model).logits(data.test.x), before, rtol=1e-12, atol=1e-12)
    plain = mask_units(twins, {layer: [j for _, j in pairs]})
    assert np.abs(plain.logits(data.test.x) - before).max() > 1e-3  # removing without adding does change them


def test_data_free_merges_the_pair_of_least_saliency_first() -> None:
    model = networks()["mlp"][0]
    w, b, out = (model.params[k] for k in ("fc2.weight", "fc2.bias", "fc3.weight"))
    best = min(
        (np.mean(out[:, j] ** 2) * (sum((w[i] - w[j]) ** 2) + (b[i] - b[j]) ** 2), j, i)
        for i in range(8) for j in range(8) if i != j
    )  # fmt: skip
    found = run("data_free", model, 0.9)
    assert found.record["merges"]["fc2"][0] == best[1:]
    assert found.record["saliency"] == sorted(found.record["saliency"])
    assert found.record["saliency"][0] <= best[0] * (1 + 1e-12)


def test_a_merge_that_has_become_free_does_not_come_before_the_one_that_made_it_so() -> None:
    model = nn.mlp((3, 3, 2), seed=0, dtype=np.float64)
    w = np.array([[1.0, 0.0, 0.0], [1.1, 0.0, 0.0], [0.0, 5.0, 0.0]])
    out = np.array([[1.0, -1.0, 3.0], [1.0, -1.0, 3.0]])  # the weights that read units 0 and 1 cancel
    model = model.replace(params={**model.params, "fc1.weight": w, "fc1.bias": np.zeros(3), "fc2.weight": out})
    found = run("data_free", model, 10)
    assert found.record["merges"]["fc1"] == [(1, 0), (0, 2)]
    np.testing.assert_allclose(found.record["saliency"], [0.01, 0.01])


def test_equal_units_are_not_free_to_merge_where_a_mask_has_no_place_for_the_sum() -> None:
    model, data = networks()["mlp"]
    twins = twin_units(model, "fc1", [(1, 3)])
    mask = np.ones((8, 10), bool)
    mask[:3, 1], mask[3:, 3] = False, False
    masked = twins.replace(masks={"fc2.weight": mask})
    assert run("data_free", masked, 8 + 12 + 8).record["saliency"][0] > 0
    mask[3:, 1] = True
    mask[:, 3] = np.arange(8) >= 3  # unit 3 has no weight that unit 1 has not
    covered = twins.replace(masks={"fc2.weight": mask})
    free = run("data_free", covered, 6 + 12 + 5)
    assert free.record["saliency"] == [0.0]
    x = data.test.x
    np.testing.assert_allclose(free.model.logits(x), covered.logits(x), rtol=1e-12, atol=1e-12)


def test_merges_under_masks_by_loops() -> None:
    """Each merge is the least of all pairs, weights without a place in a mask count as removed, and are."""
    model = networks()["mlp"][0]
    masks = {
        key: np.random.default_rng(1).random(model.params[key].shape) < 0.7 for key in ("fc2.weight", "fc3.weight")
    }
    model = model.replace(masks=masks)
    found = run("data_free", model, 0.85)
    for axis, reader in (("fc1", "fc2.weight"), ("fc2", "fc3.weight")):
        f = np.column_stack([model.params[f"{axis}.weight"], model.params[f"{axis}.bias"]])
        a, mask, left = model.params[reader].T.copy(), masks[reader].T, list(range(len(f)))
        assert len(found.record["merges"][axis]) > 2
        for j, i in found.record["merges"][axis]:
            costs = {
                (y, x): np.mean([a[y, k] ** 2 * ((f[x] * mask[x, k] - f[y]) ** 2).sum() for k in range(a.shape[1])])
                for x in left for y in left if x != y
            }  # fmt: skip
            assert costs[j, i] == pytest.approx(min(costs.values()), rel=1e-9)
            a[i] += a[j] * mask[i]
            left.remove(j)
        kept = found.model.masks[reader].T
        np.testing.assert_allclose(found.model.params[reader].T[left], a[left] * kept[left], rtol=1e-12)


def test_data_free_refuses_units_that_are_normalised() -> None:
    with pytest.raises(ArgumentError, match=r"^model has no units that can be merged: all are normalised or added"):
        run("data_free", nn.vgg_small(seed=0, dtype=np.float64), 0.1)


def test_fpgm_scores_are_sums_of_distances() -> None:
    model = networks()["cnn"][0]
    found = run("fpgm", model, 0.4)
    for axis, scores in found.record["scores"].items():
        rows = [
            [*w.ravel(), b] for w, b in zip(model.params[f"{axis}.weight"], model.params[f"{axis}.bias"], strict=True)
        ]
        by_hand = [sum(sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) ** 0.5 for q in rows) for p in rows]
        np.testing.assert_allclose(scores, by_hand, rtol=1e-12)
        gone = ~found.model.masks[f"{axis}.weight"].reshape(len(rows), -1).any(axis=1)
        if gone.any():
            assert scores[gone].max() < scores[~gone].min()


def test_kmeans_ends_where_assignment_and_means_agree(rng: np.random.Generator) -> None:
    x = rng.standard_normal((40, 3))
    centres, of = kmeans(x, x[:5])
    for i, point in enumerate(x):
        assert of[i] == min(range(5), key=lambda c: ((point - centres[c]) ** 2).sum())
    for c in range(5):
        np.testing.assert_allclose(centres[c], x[of == c].mean(axis=0), rtol=1e-12)
    assert kmeans(x[:1], x[:1])[1].tolist() == [0]
    empty, of = kmeans(np.zeros((0, 1)), np.array([[1.0], [2.0]]))
    assert (empty.ravel().tolist(), of.size) == ([1.0, 2.0], 0)


def test_kmeans_keeps_one_unit_of_each_cluster() -> None:
    model = networks()["mlp"][0]
    found = run("kmeans_units", model, 0.3)
    for axis, of in found.record["clusters"].items():
        alive = found.model.masks[f"{axis}.weight"].any(axis=1)
        assert not alive.all()
        assert sorted(of[alive]) == sorted(set(of.tolist()))


@pytest.mark.parametrize("names", [("a", "z"), ("z", "a")])
def test_a_cluster_keeps_a_unit_whatever_its_layer_is_called(names: tuple[str, str]) -> None:
    first, second = names
    layers = (nn.Linear(first, 6, 8), nn.ReLU("r1"), nn.Linear(second, 8, 8), nn.ReLU("r2"), nn.Linear("out", 8, 2))
    model = nn.Model.init(layers, input_shape=(6,), seed=0, dtype=np.float64)
    for amount in range(1, 110, 6):
        found = run("kmeans_units", model, amount)
        for axis, of in found.record["clusters"].items():
            alive = found.model.masks[f"{axis}.weight"].any(axis=1)
            assert set(of[alive].tolist()) == set(of.tolist())


def test_the_units_farthest_from_their_centre_go_first_and_the_nearest_of_each_cluster_last() -> None:
    of, own = np.array([0, 0, 0, 1, 1, 1, 0]), np.array([1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 1.0])
    apart = np.where(of[:, None] == np.arange(2), own[:, None], 99.0)
    scores = _spread_scores(apart, of, np.arange(7.0))
    assert np.argsort(scores).tolist() == [5, 3, 1, 2, 6, 4, 0]  # of the equally near units 0 and 6 the first stays


def test_units_that_had_gone_are_neither_clustered_nor_near_to_others() -> None:
    """In a second round: what is left is treated as a network that never had the others."""
    model = networks()["mlp"][0]
    once = run("fpgm", model, 0.3).model
    axis, key = "fc1", "fc1.weight"
    left = once.mask(key).any(axis=1)
    assert 1 < left.sum() < len(left)
    rows = np.column_stack([once.params[key], once.params["fc1.bias"]])[left]
    by_hand = [sum(np.linalg.norm(a - b) for b in rows) for a in rows]
    scores = run("fpgm", once, 0.5).record["scores"][axis]
    np.testing.assert_allclose(scores[left], by_hand, rtol=1e-12)
    assert not scores[~left].any()
    again = run("kmeans_units", once, 0.5)
    of, alive = again.record["clusters"][axis], again.model.mask(key).any(axis=1)
    assert (of[~left] == -1).all()
    assert sorted(of[alive]) == sorted(set(of[left].tolist()))


def test_shared_weights_have_few_values_and_each_the_nearest() -> None:
    model = networks()["mlp"][0]
    found = run("weight_sharing", model, 0.5, clusters=4)
    plain = run("magnitude", model, 0.5).model
    total = 0.0
    for key in model.weights:
        kept = found.model.masks[key]
        np.testing.assert_array_equal(kept, plain.masks[key])
        values, w = found.model.params[key][kept], model.params[key][kept]
        book = found.record["codebook"][key]
        assert set(values.tolist()) == set(book.tolist())
        assert len(book) <= 4
        assert all(value == book[np.abs(book - each).argmin()] for value, each in zip(values, w, strict=True))
        total = float(((values - w) ** 2).sum())
        assert found.record["distortion"][key] == pytest.approx(total, rel=1e-9)
    assert total > 0
    with pytest.raises(ArgumentError, match=r"^clusters=0 must be at least 1"):
        run("weight_sharing", model, 0.5, clusters=0)


def test_the_first_centres_lie_between_the_weights_even_if_all_have_one_sign() -> None:
    w = np.array([10.0, 11.0, 20.0, 21.0, 30.0, 31.0], np.float32)
    model = nn.mlp((6, 1), seed=0)
    for sign in (1, -1):
        signed = model.replace(params={**model.params, model.weights[0]: sign * w[None]})
        (book,) = run("weight_sharing", signed, 0.0, clusters=3).record["codebook"].values()
        np.testing.assert_allclose(book, np.sort(sign * np.array([10.5, 20.5, 30.5])))


def test_units_leave_in_order_as_many_as_the_budget_allows() -> None:
    model = networks()["mlp"][0]  # 12-10-8-3
    scores = {"fc1": np.arange(10.0), "fc2": np.arange(8.0) + 100}
    assert free_axes(model) == {"fc1": 10, "fc2": 8}
    one = prune_units(model, scores, amount=20)  # a unit of fc1 takes 12 + 8 weights
    assert not one.masks["fc1.weight"][0].any()
    assert not one.masks["fc2.weight"][:, 0].any()
    assert sum(int((~m).sum()) for m in one.masks.values()) == 20
    assert one.params["fc1.bias"][0] == 0
    assert sum(int((~m).sum()) for m in prune_units(model, scores, amount=39).masks.values()) == 20
    most = prune_units(model, scores, amount=model.size - 30)
    assert (most.masks["fc1.weight"].any(axis=1).sum(), most.masks["fc2.weight"].any(axis=1).sum()) == (1, 5)
    kept = prune_units(model, scores, amount=model.size - 30, min_keep=36)
    assert [int(m.sum()) for m in kept.masks.values()] == [60, 40, 24]  # a smaller layer keeps all it has
    again = prune_units(one, scores, amount=20)
    np.testing.assert_array_equal(again.masks["fc1.weight"], one.masks["fc1.weight"])
    with pytest.raises(ArgumentError, match=r"^scores of units have NaN or infinite entries"):
        ranked_units({"fc1": np.array([np.nan])})
    with pytest.raises(ArgumentError, match=r"^model has no hidden units that can be removed"):
        prune_units(nn.mlp((4, 3), seed=0), {}, amount=0.5)


def test_places_are_ranks_within_an_axis() -> None:
    found = places({"a": np.array([5.0, 1.0, 3.0, 1.0]), "b": np.array([0.0])})
    assert found["a"].tolist() == [0.875, 0.125, 0.625, 0.375]
    assert found["b"].tolist() == [0.5]
