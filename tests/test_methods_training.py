"""Methods that prune while they train: step rules, projections, physical cuts, and what they must never do."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest

from l0ref import data, metrics, nn
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS, Pruned
from l0ref.methods.consensus import Consensus, Relaxation, gap, kept, norm, projection
from l0ref.methods.prune_while_training import event, event_shares, mean_activations, unit_scores
from l0ref.nn import Model
from l0ref.optim import SGD
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.shrink import mask_units
from l0ref.pruning.trace import trace
from l0ref.schedules import Cosine
from l0ref.training import TrainingState, fit
from tests.method_contract import biased, networks

MLP, DATA = networks()["mlp"]
CNN, IMAGES = networks()["cnn"]
HOW = {"structure": "element", "amount": 0.75, "scope": "global", "min_keep": 0}


def run(name: str, model: Model, data: Any, amount: float, **options: Any) -> Pruned:
    return METHODS[name].run(model, data, amount=amount, seed=options.pop("seed", 0), **options)


# --- SLR and ADMM -----------------------------------------------------------------------------------------------------


def toy(rho: float = 1.0, *, sparse: bool = False, **rule: Any) -> tuple[Relaxation, Any]:
    """A least-squares problem in the weights of one layer, and an exact solver of its W-step."""
    model = nn.mlp((12, 5), seed=0, dtype=np.float64)
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((80, 12)), rng.standard_normal((80, 5))

    def loss(w: Any) -> float:
        return float(0.5 * ((a @ w["fc1.weight"].T - b) ** 2).sum() / 80)

    start = {"fc1.weight": np.linalg.lstsq(a, b, rcond=None)[0].T}
    project = projection(model, **HOW)
    dual = Relaxation(rho, project, loss, project(start) if sparse else start, **rule)

    def step() -> None:
        target = dual.targets()["fc1.weight"]
        w = np.linalg.solve(a.T @ a / 80 + rho * np.eye(12), a.T @ b / 80 + rho * target.T).T
        dual.after_epoch({"fc1.weight": w})

    return dual, step


def test_steps_follow_the_rule_exactly_and_condition_2_never_fails() -> None:
    dual, step = toy()
    for _ in range(30):
        step()
    conditions = dual.record["conditions"]
    assert conditions[1::2] == [1.0] * 30
    for alpha, k in zip(dual.record["alphas"], itertools.count(1), strict=False):
        assert alpha == 1 - 1 / (300.0 * k ** (1 - 1 / k**0.1))
        assert 0 < alpha < 1
    assert dual.record["alphas"][0] == 1 - 1 / 300
    again, step = toy()
    for _ in range(30):
        before_size, before_step, count = again.size, again.step, len(again.record["steps"])
        step()
        if len(again.record["steps"]) == count + 2:  # both halves were accepted: the identity links their ends
            a1, a2 = again.record["alphas"][-2:]
            assert again.step * again.size == pytest.approx(a1 * a2 * before_step * before_size, rel=1e-12)


def test_the_alphas_decay_as_published() -> None:
    def product(big_m: float) -> float:
        return float(np.prod([1 - 1 / (big_m * k ** (1 - 1 / k**0.1)) for k in range(1, 201)]))

    assert [round(product(m), 2) for m in (300, 50)] == [0.85, 0.37]
    assert round(product(10), 3) == 0.007


def test_multipliers_stay_where_a_condition_fails() -> None:
    dual, step = toy()
    step()
    before, k, s = {k: v.copy() for k, v in dual.lam.items()}, dual.k, dual.step
    dual.update(False)
    assert all(np.array_equal(dual.lam[key], v) for key, v in before.items())
    assert (dual.k, dual.step) == (k, s)
    assert dual.record["conditions"][-1] == 0.0


def test_multipliers_and_steps_stay_where_weights_are_their_copies() -> None:
    """A gap of 0 gives no direction."""
    dual, _ = toy()
    dual.w = {key: z.copy() for key, z in dual.z.items()}
    dual.update(True)
    assert (dual.k, dual.step) == (1, 0.01)
    assert not dual.lam["fc1.weight"].any()
    assert dual.record["steps"] == []


def test_weights_that_begin_sparse_have_multipliers_that_move() -> None:
    """Without a gap before, the first update has the ratio 1; from there on the rule holds."""
    dual, step = toy(sparse=True)
    assert norm(gap(dual.w, dual.z)) == 0
    for _ in range(20):
        step()
    steps, alphas = dual.record["steps"], dual.record["alphas"]
    assert steps[0] == 0.01 * alphas[0] == pytest.approx(0.01 * (1 - 1 / 300), rel=1e-12)
    assert len(steps) == sum(dual.record["conditions"]) == dual.k - 1 >= 20
    assert dual.lam["fc1.weight"].any()
    assert dual.step * dual.size == pytest.approx(np.prod(alphas[1:]) * steps[0] * first_gap(), rel=1e-9)


def first_gap() -> float:
    """||W - Z|| after the first W-step from sparse weights."""
    dual, step = toy(sparse=True)
    z, found = dual.z, []
    dual.update = lambda holds: found.append(norm(gap(dual.w, z)))  # type: ignore[method-assign]
    step()
    return found[0]


def test_condition_2_holds_for_an_exact_projection_where_l_is_negative() -> None:
    dual, _ = toy()
    w = dual.project(dual.w)
    dual.w, dual.lam = w, {"fc1.weight": -0.1 * w["fc1.weight"]}
    dual.z = dual.project({"fc1.weight": 0.9 * w["fc1.weight"]})
    dual.loss, dual.k = lambda _: 0.0, 5
    dual.z = dual.project({k: v + dual.lam[k] / dual.rho for k, v in w.items()})
    assert dual.lagrangian(w, dual.z, 0.0) < 0
    dual.after_epoch(w)
    assert dual.record["conditions"][1] == 1.0


@pytest.mark.parametrize(("before", "after", "holds"), [(0.0, 9.0, 0.0), (9.0, 0.0, 1.0)])
def test_condition_1_sees_the_loss_before_and_after(before: float, after: float, holds: float) -> None:
    """Against a quadratic that moves the other way, by less."""
    dual, _ = toy()
    near, far = dual.z, {"fc1.weight": dual.z["fc1.weight"] + 0.1}
    dual.w, new = (far, near) if after > before else (near, far)
    dual.loss, dual.k = (lambda w: before if w is dual.w else after), 2
    dual.after_epoch(new)
    assert dual.record["conditions"][0] == holds


def test_the_lagrangian_is_the_completed_square() -> None:
    dual, step = toy(rho=0.7)
    step()
    w = {"fc1.weight": np.random.default_rng(0).standard_normal((5, 12))}
    u = dual.lam["fc1.weight"] / dual.rho
    square = 0.35 * ((w["fc1.weight"] - dual.z["fc1.weight"] + u) ** 2).sum() - 0.35 * (u**2).sum()
    assert dual.lagrangian(w, dual.z, 2.0) == pytest.approx(2.0 + square, rel=1e-12)
    assert norm(gap(w, dual.z)) == pytest.approx(np.linalg.norm(w["fc1.weight"] - dual.z["fc1.weight"]))


def test_admm_moves_multipliers_by_rho_times_the_gap_and_closes_it() -> None:
    dual, step = toy(admm=True)
    step()
    np.testing.assert_allclose(dual.lam["fc1.weight"], gap(dual.w, dual.z)["fc1.weight"], rtol=1e-12)
    for _ in range(60):
        step()
    assert dual.record["residual"][-1] < 0.1 * dual.record["residual"][0]
    assert dual.record["steps"] == []


@pytest.mark.parametrize("rho", [0.01, 0.1, 1.0])
def test_slr_ends_below_magnitude_pruning_on_least_squares(rho: float) -> None:
    dual, step = toy(rho)
    hard = dual.loss(dual.project(dual.w))
    for _ in range(60):
        step()
    assert dual.loss(dual.project(dual.w)) < hard
    assert rho < 1 or dual.record["residual"][-1] < 0.3 * dual.record["residual"][0]


def test_a_projection_is_the_nearest_point_of_few_non_zeros() -> None:
    model = nn.mlp((3, 2), seed=0, dtype=np.float64)
    w = {"fc1.weight": np.array([[0.5, -2.0, 0.1], [1.0, 0.7, -0.3]])}
    project = projection(model, **{**HOW, "amount": 4})
    z = project(w)["fc1.weight"]
    nearest = min(
        (
            np.where(np.isin(np.arange(6), pick).reshape(2, 3), w["fc1.weight"], 0)
            for pick in itertools.combinations(range(6), 2)
        ),
        key=lambda each: float(((each - w["fc1.weight"]) ** 2).sum()),
    )
    np.testing.assert_array_equal(z, nearest)
    np.testing.assert_array_equal(project({"fc1.weight": z})["fc1.weight"], z)


@pytest.mark.parametrize(("structure", "axis"), [("filter", 1), ("column", 0)])
def test_structured_projections_keep_the_largest_groups(structure: str, axis: int) -> None:
    how = {"structure": structure, "amount": 0.5, "scope": "layer", "min_keep": 0}
    masks = kept(CNN, CNN.params, **how)
    for key, mask in masks.items():
        matrix, w = mask.reshape(mask.shape[0], -1), CNN.params[key].reshape(mask.shape[0], -1)
        groups = matrix.all(axis=axis)
        assert (groups == matrix.any(axis=axis)).all()
        size = np.sqrt((w**2).sum(axis=axis))
        assert (~groups).sum() == min(int(0.5 * mask.size + 0.5) // w.shape[axis], groups.size - 1)
        if (~groups).any():
            assert size[~groups].max() <= size[groups].min()
    with pytest.raises(ArgumentError, match=r"structure='filter' is exact within layers only; pass scope='layer'"):
        kept(CNN, CNN.params, **{**how, "structure": "filter", "scope": "global"})


def test_structured_projections_keep_a_group_and_the_least_and_see_what_is_left() -> None:
    how = {"structure": "filter", "amount": 1.0, "scope": "layer", "min_keep": 0}
    assert {int(m.reshape(len(m), -1).any(axis=1).sum()) for m in kept(CNN, CNN.params, **how).values()} == {1}
    least = kept(CNN, CNN.params, **{**how, "min_keep": 19})  # a filter of conv1 has 18 weights
    assert least["conv1.weight"].reshape(4, -1).any(axis=1).sum() == 2
    mask = np.ones(CNN.params["conv1.weight"].shape, bool)
    mask[2, :, 0] = False
    large = {**CNN.params, "conv1.weight": np.where(mask, CNN.params["conv1.weight"], 9.0)}
    large["conv1.weight"][2][mask[2]] = 1e-3
    stays = kept(CNN.replace(masks={"conv1.weight": mask}), large, **{**how, "amount": 0.25})["conv1.weight"]
    assert not stays[2].any()
    assert stays[[0, 1, 3]].all()


def test_the_quadratic_is_the_gradient_of_its_value() -> None:
    target = {k: np.random.default_rng(2).standard_normal(MLP.params[k].shape) for k in MLP.weights}
    penalty = Consensus(rho=0.4, targets=target)
    pull = penalty.pull({}).gradient(MLP.params)
    for key in MLP.weights:
        for i in (0, 5):
            ends = []
            for h in (1e-6, -1e-6):
                p = MLP.params[key].copy()
                p.flat[i] += h
                ends.append(penalty.terms({**MLP.params, key: p}, {}).total)
            assert pull[key].flat[i] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


def test_slr_trains_and_charges_its_epochs() -> None:
    found = run("slr", MLP, DATA, 0.8, epochs=4)
    assert found.epochs == 4
    assert len(found.record["residual"]) == len(found.record["loss"]) == 4
    assert found.record["conditions"][1::2] == [1.0] * 4


# --- pruning while training -------------------------------------------------------------------------------------------

PLAIN = {"epochs": 4, "start": 1, "every": 1, "stop": 3, "lr": 0.02}


def test_physical_and_masked_runs_are_one_trajectory() -> None:
    layers = (
        nn.Conv2d("conv1", 2, 6, 3, bias=False), nn.BatchNorm2d("norm", 6), nn.ReLU("relu1"), nn.MaxPool2d("pool", 2),
        nn.Flatten("flat"), nn.Linear("fc1", 24, 8), nn.ReLU("relu2"), nn.Linear("fc2", 8, 3),
    )  # fmt: skip
    model = biased(Model.init(layers, input_shape=(2, 6, 6), seed=1, dtype=np.float64))
    for criterion in ("l1", "random", "activation"):
        found = run("prune_while_training", model, IMAGES, 0.6, criterion=criterion, **PLAIN)
        assert sum(map(bool, found.record["units"].values())) >= 2
        removed = [i for units in found.record["units"].values() for i in units.get("conv1", ())]
        for key, before in model.buffers.items():  # of what has gone, the statistics stay as they were
            assert (found.model.buffers[key][removed] == before[removed]).all()

        def masks_units(state: TrainingState, row: Any, units: Any = found.record["units"]) -> TrainingState | None:
            if row["epoch"] not in units:
                return None
            twin = mask_units(state.model(model), units[row["epoch"]])
            return dataclasses.replace(state, params=twin.params, masks=twin.masks)

        masked, _ = fit(
            model, IMAGES.train, epochs=4, seed=0, optimizer=SGD(lr=0.02, momentum=0.9), schedule=Cosine(final=0.01),
            progress="none", after_epoch=masks_units,
        )  # fmt: skip
        np.testing.assert_allclose(
            found.model.logits(IMAGES.test.x), masked.logits(IMAGES.test.x), rtol=1e-9, atol=1e-10
        )


def test_cost_never_rises_and_the_saving_is_that_of_the_formula() -> None:
    found = run("prune_while_training", CNN, IMAGES, 0.6, **PLAIN)
    cost = found.record["cost"]
    assert len(cost) == 4
    assert cost == sorted(cost, reverse=True)
    assert cost[0] == metrics.of(CNN)["flops"]
    final = metrics.of(found.model)["flops_nz"]
    assert found.record["saving"] == pytest.approx(1 - sum(cost) / (4 * cost[0] + 10 * final), rel=1e-12)
    assert found.epochs == 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [1 / 3, 2 / 3, 1]), ("cubic", [19 / 27, 26 / 27, 1]), ("geometric", [0.412599, 0.740080, 1])],
)
def test_shares_of_the_events(shape: str, expected: list[float]) -> None:
    assert event_shares(shape, 3, 0.5, 10) == pytest.approx(expected, rel=1e-5)
    assert event_shares(shape, 3, 0.0, 10)[-1] == event_shares(shape, 3, 1.0, 10)[-1] == 1


@pytest.mark.parametrize(
    ("options", "events"),
    [({"epochs": 4, "stop": 9}, [1, 2, 3]), ({"epochs": 6}, [1, 2, 3]),
     ({"epochs": 7, "start": 2, "every": 2, "stop": 6}, [2, 4, 6])],
)  # fmt: skip
def test_events_are_after_epochs_of_which_another_follows(options: dict[str, int], events: list[int]) -> None:
    found = run("prune_while_training", CNN, IMAGES, 0.3, lr=0.01, **options).record
    assert list(found["events"]) == list(found["units"]) == events
    assert len(found["cost"]) == options["epochs"]


def test_an_event_takes_the_lowest_units_of_every_layer_alike() -> None:
    uneven = CNN.replace(params={**CNN.params, "fc1.weight": 100 * CNN.params["fc1.weight"]})
    scores = unit_scores(uneven, IMAGES.train, criterion="l1", seed=0, number=1)
    alive = {axis: np.arange(size) for axis, size in coupled_axes(uneven).sizes.items()}
    cut = event(uneven, uneven, alive, scores, amount=CNN.size // 2)
    shares = []
    for name in ("conv1", "conv2", "fc1"):
        size = np.abs(uneven.params[f"{name}.weight"].reshape(cut.axes.sizes[name], -1)).sum(axis=1)
        gone = ~np.isin(np.arange(size.size), cut.order[name])
        assert size[gone].max() < size[~gone].min()
        shares.append(gone.mean())
    assert max(shares) - min(shares) < 0.35


@pytest.mark.parametrize(("amount", "stop"), [(0.43, 3), (20, 1)])
def test_no_layer_loses_more_than_its_share_at_any_event(amount: float, stop: int) -> None:
    whole = run("prune_while_training", MLP, DATA, amount, scope="layer", shape="linear", **{**PLAIN, "stop": stop})
    now, gone = MLP, []
    for end, share in whole.record["events"].items():
        now = mask_units(now, whole.record["units"][end])
        gone.append(sum(int((~now.mask(key)).sum()) for key in MLP.weights))
        for key, size in MLP.sizes.items():
            limit = math.floor(share * amount * (size if isinstance(amount, float) else 1) + 0.5)
            assert (~now.mask(key)).sum() <= limit, (end, key)
    assert gone[-1] > 20  # a count is of each layer, not of the network


def test_scores_of_units_by_hand() -> None:
    found = unit_scores(CNN, IMAGES.train, criterion="l1", seed=0, number=1)
    for name, scores in found.items():
        rows = CNN.params[f"{name}.weight"].reshape(len(scores), -1)
        np.testing.assert_allclose(scores, [sum(map(abs, row)) for row in rows.tolist()], rtol=1e-12)
    draws = [unit_scores(CNN, IMAGES.train, criterion="random", seed=0, number=number)["fc1"] for number in (1, 1, 2)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).all()


def test_mean_activations_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind normalisation, and over several chunks of samples."""
    monkeypatch.setattr("l0ref.methods.prune_while_training.trace", functools.partial(trace, chunk=7))
    rng, x = np.random.default_rng(0), IMAGES.test.x
    layers = (nn.Conv2d("conv1", 2, 4, 3), nn.BatchNorm2d("norm", 4), nn.ReLU("relu"), nn.Flatten("flat"),
              nn.Linear("fc1", 64, 3))  # fmt: skip
    model = Model.init(layers, input_shape=(2, 6, 6), seed=0, dtype=np.float64)
    m, v, g, c = rng.standard_normal(4), rng.random(4) + 0.5, rng.standard_normal(4), rng.standard_normal(4)
    model = model.replace(params={**model.params, "norm.weight": g, "norm.bias": c},
                          buffers={"norm.running_mean": m, "norm.running_var": v})  # fmt: skip
    w, b = model.params["conv1.weight"], model.params["conv1.bias"]
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    z = np.moveaxis(np.einsum("ncpqrs,fcrs->nfpq", windows, w), 1, -1) + b
    a = np.maximum((z - m) / np.sqrt(v + 1e-5) * g + c, 0)
    np.testing.assert_allclose(mean_activations(model, x)["conv1"], a.mean(axis=(0, 1, 2)), rtol=1e-10)


def test_removed_units_stay_removed() -> None:
    found = run("prune_while_training", MLP, DATA, 0.5, **PLAIN)
    for name, ids in ((name, ids) for units in found.record["units"].values() for name, ids in units.items()):
        assert not found.model.params[f"{name}.weight"][ids].any()
        assert not found.model.params[f"{name}.bias"][ids].any()


def test_a_training_that_ends_before_the_first_event_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^epochs=2 ends before units go, after epoch start=2; train for more"):
        run("prune_while_training", MLP, DATA, 0.5, epochs=2, start=2)
    assert run("prune_while_training", MLP, DATA, 0.0, epochs=1).record["units"] == {}


def test_filters_of_small_norm_are_worth_less_than_random_ones() -> None:
    """Right after training with events, mean over seeds."""
    digits = data.load("digits", seed=0)
    method, found = METHODS["prune_while_training"], {}
    for criterion in ("l1", "random"):
        options: dict[str, Any] = {"epochs": 4, "criterion": criterion, "amount": 0.95}
        models = [method.run(nn.digits_mlp(seed=s), digits, seed=s, **options).model for s in range(4)]
        found[criterion] = np.mean([metrics.evaluate(m, digits.validation).acc1 for m in models])
    assert found["l1"] > found["random"] + 0.02
