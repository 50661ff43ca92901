"""prune, the recipes, and the pipeline from a dense network to a fine-tuned one."""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from l0ref import data, metrics, nn, prune
from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError, ConfigError, LayerCollapse
from l0ref.experiment import CONTROLS, MAIN, control, run_experiment
from l0ref.penalty import Penalty
from l0ref.pruning import SCORES, Cut, Recipe, compress, prune_and_tune, prune_gradually, pruned_count, train_dense
from l0ref.surrogates import L1, Laplace


@pytest.fixture(scope="module")
def splits() -> Splits:
    """A tenth of the digits: enough to learn something in a second."""
    full = data.load("digits", seed=0)
    part = {
        name: getattr(full, name).take(np.arange(n)) for name, n in (("train", 200), ("validation", 60), ("test", 60))
    }
    return Splits(**part, name="few digits", checksum="none")


def tiny(seed: int = 0) -> nn.Model:
    return nn.mlp((64, 30, 10), seed=seed, input_shape=(1, 8, 8))


TRAIN = Recipe(8, penalty=Penalty(Laplace(beta=5.0), alpha=1e-3), batch_size=32)
TUNE = Recipe(4, batch_size=32)


def test_prune_removes_the_smallest_weights_exactly() -> None:
    model = tiny()
    pruned = prune(model, amount=0.9)
    magnitude = np.sort(np.concatenate([np.abs(model.params[k]).ravel() for k in model.weights]))
    removed = model.size - sum(np.count_nonzero(pruned.params[k]) for k in model.weights)
    assert removed == pruned_count(pruned) == int(0.9 * model.size + 0.5)
    kept = np.concatenate([np.abs(pruned.params[k][pruned.mask(k)]) for k in model.weights])
    assert kept.min() >= magnitude[removed - 1]
    np.testing.assert_array_equal(pruned.params["fc1.bias"], model.params["fc1.bias"])
    assert not model.masks


def test_prune_scopes_differ_and_pruned_stays_pruned() -> None:
    model = tiny()
    by_layer = prune(model, amount=0.5, scope="layer")
    assert [int((~by_layer.mask(k)).sum()) for k in model.weights] == [960, 150]
    overall = prune(model, amount=0.5)
    assert int((~overall.mask("fc1.weight")).sum()) != 960
    more = prune(by_layer, amount=0.75)
    for key in model.weights:
        assert not (more.mask(key) & ~by_layer.mask(key)).any()
    with pytest.raises(
        ArgumentError, match=r"^amount=0\.1 asks for 222 of 2220 entries to go, but 1110 are pruned already"
    ):
        prune(by_layer, amount=0.1)


def test_prune_by_threshold_count_and_chance() -> None:
    model = tiny()
    cut = prune(model, threshold=0.1)
    for key in model.weights:
        np.testing.assert_array_equal(cut.mask(key), np.abs(model.params[key]) >= 0.1)
    assert pruned_count(prune(model, amount=7)) == 7
    a, b, c = (prune(model, amount=0.5, score="random", seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.mask("fc1.weight"), b.mask("fc1.weight"))
    assert (a.mask("fc1.weight") != c.mask("fc1.weight")).any()
    small = np.abs(model.params["fc1.weight"]) < 0.05
    assert 0.4 < a.mask("fc1.weight")[small].mean() < 0.6  # chance does not look at the size
    with pytest.raises(ArgumentError, match=r"^seed=None: random pruning needs a seed"):
        prune(model, amount=0.5, score="random")
    with pytest.raises(ArgumentError, match=r"^score='magnitud' .* did you mean 'magnitude'\?$"):
        prune(model, amount=0.5, score="magnitud")


def test_layer_collapse_names_the_layer() -> None:
    model = tiny()
    model = model.replace(params={**model.params, "fc2.weight": model.params["fc2.weight"] * np.float32(1e-3)})
    with pytest.raises(LayerCollapse, match=r"^amount=0\.5 leaves layer 'fc2\.weight' none of its 300 entries"):
        prune(model, amount=0.5)
    assert int(prune(model, amount=0.5, min_keep=5).mask("fc2.weight").sum()) == 5


def test_scores_are_the_two_of_this_release() -> None:
    assert set(SCORES) == {"magnitude", "random"}


def test_pipeline_stages(splits: Splits) -> None:
    result = compress(tiny(), splits, train=TRAIN, cut=Cut(amount=0.8), finetune=TUNE, seed=0)
    dense, pruned, tuned = (stage.model for stage in result.stages)
    assert [stage.name for stage in result.stages] == ["dense", "pruned", "finetuned"]
    assert result.model is tuned
    assert not dense.masks
    assert result.removed == int(0.8 * dense.size + 0.5)
    assert pruned_count(pruned) >= result.removed
    for key in dense.weights:
        kept = pruned.masks[key]
        np.testing.assert_array_equal(pruned.params[key][kept], dense.params[key][kept])
        np.testing.assert_array_equal(tuned.masks[key], kept)
        assert not tuned.params[key][~kept].any()
        moved = tuned.params[key][kept] != pruned.params[key][kept]
        assert moved.mean() > 0.5  # pixels that are always 0 give their weights no gradient
    (cut,) = result.cuts
    assert cut["kept"] == dense.size - result.removed
    assert cut["kept_after_sweep"] == dense.size - pruned_count(pruned)
    assert cut["val_acc1"] == metrics.evaluate(pruned, splits.validation).acc1 == result.stages[1].validation.acc1
    gone = max(np.abs(dense.params[k][~prune(dense, amount=0.8).mask(k)]).max() for k in dense.weights)
    assert cut["largest_removed"] == pytest.approx(gone, rel=1e-6)
    assert [(row["phase"], row["epoch"]) for row in result.rows] == [("train", i) for i in range(1, 9)] + [
        ("finetune", i) for i in range(9, 13)
    ]
    assert result.seconds > 0


def test_pipeline_repeats_bit_for_bit(splits: Splits) -> None:
    a, b = (compress(tiny(), splits, train=TRAIN, cut=Cut(amount=0.9), finetune=TUNE, seed=3) for _ in range(2))
    for key, p in a.model.params.items():
        np.testing.assert_array_equal(p, b.model.params[key])


def test_test_set_is_not_looked_at(splits: Splits) -> None:
    unusable = dataclasses.replace(splits, test=Dataset(splits.test.x[:0], splits.test.y[:0], 10, "empty"))
    a = compress(tiny(), splits, train=TRAIN, cut=Cut(tolerance=0.05), finetune=TUNE, seed=0)
    b = compress(tiny(), unusable, train=TRAIN, cut=Cut(tolerance=0.05), finetune=TUNE, seed=0)
    for key, p in a.model.params.items():
        np.testing.assert_array_equal(p, b.model.params[key])
    dense = a.stages[0]
    removed = [
        pruned_count(Cut(tolerance=0.05).apply(dense.model, dataclasses.replace(splits, validation=part), seed=0).model)
        for part in (splits.validation, splits.train, splits.test)
    ]
    assert a.removed == removed[0]
    assert len(set(removed)) == 3  # so that a choice on other data would show
    assert dense.validation == metrics.evaluate(dense.model, splits.validation)


def test_seed_reaches_every_phase(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0)
    assert (train_dense(tiny(), splits, TRAIN, seed=1).stage.model.params["fc1.weight"]
            != dense.stage.model.params["fc1.weight"]).any()  # fmt: skip
    for cut in (Cut(amount=0.8), Cut(amount=0.8, method="random")):
        a, b = (prune_and_tune(dense, splits, cut, TUNE, seed=seed) for seed in (0, 1))
        same_cut = (a.stages[1].model.masks["fc1.weight"] == b.stages[1].model.masks["fc1.weight"]).all()
        assert same_cut == (cut.method == "magnitude")
        assert (a.model.params["fc2.bias"] != b.model.params["fc2.bias"]).any()


def test_tolerance_by_layer_takes_the_same_fraction_from_each(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0).stage.model
    before = metrics.evaluate(dense, splits.validation).loss
    pruned = Cut(tolerance=0.05, scope="layer").apply(dense, splits, seed=0).model
    fraction = (~pruned.mask("fc1.weight")).mean()
    assert fraction > 0.1
    assert (~pruned.mask("fc2.weight")).mean() == pytest.approx(fraction, abs=1 / 300)
    assert metrics.evaluate(pruned, splits.validation).loss <= 1.05 * before
    further = prune(dense, amount=float(fraction) + 2e-3, scope="layer")
    assert metrics.evaluate(further, splits.validation).loss > 1.05 * before


def test_tolerance_finds_the_largest_cut_within_the_loss(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0).stage.model
    before = metrics.evaluate(dense, splits.validation).loss
    pruned = Cut(tolerance=0.05).apply(dense, splits, seed=0).model
    removed = pruned_count(pruned)
    assert removed > 0
    assert metrics.evaluate(pruned, splits.validation).loss <= 1.05 * before
    assert metrics.evaluate(prune(dense, amount=removed + 1), splits.validation).loss > 1.05 * before
    half = prune(dense, amount=0.5)  # a second cut is measured by what the first left
    further = Cut(tolerance=0.05).apply(half, splits, seed=0).model
    limit = 1.05 * metrics.evaluate(half, splits.validation).loss
    assert pruned_count(further) > pruned_count(half)
    assert metrics.evaluate(further, splits.validation).loss <= limit
    assert metrics.evaluate(prune(half, amount=pruned_count(further) + 1), splits.validation).loss > limit


def test_rounds_go_down_on_a_logarithmic_scale(splits: Splits) -> None:
    result = compress(tiny(), splits, train=TRAIN, cut=Cut(amount=0.99), finetune=TUNE, seed=0, rounds=2)
    assert [row["kept"] for row in result.cuts] == [222, 22]  # 10 % and 1 % of 2,220
    assert [row["phase"] for row in result.rows[8:]] == ["finetune 1"] * 4 + ["finetune 2"] * 4
    assert [row["epoch"] for row in result.rows] == list(range(1, 17))


@pytest.mark.parametrize("amount", [0.9, 1998])
def test_a_round_that_the_sweep_has_overtaken_changes_nothing(splits: Splits, amount: float) -> None:
    swept = prune(tiny(), amount=0.97)
    after = Cut(amount=amount).apply(swept, splits, seed=0).model
    assert pruned_count(after) == pruned_count(swept)
    for key in swept.weights:
        np.testing.assert_array_equal(after.masks[key], swept.masks[key])


def test_layers_that_the_sweep_has_overtaken_wait_for_the_others(splits: Splits) -> None:
    swept = prune(tiny(), amount=0.5, scope="layer")
    first = np.arange(1920).reshape(30, 64) >= 1800  # of 1,920 only 120 are left
    swept = swept.replace(masks={**swept.masks, "fc1.weight": swept.masks["fc1.weight"] & first})
    after = Cut(amount=0.9, scope="layer").apply(swept, splits, seed=0).model
    np.testing.assert_array_equal(after.masks["fc1.weight"], swept.masks["fc1.weight"])
    assert int(after.masks["fc2.weight"].sum()) == 30
    even = Cut(amount=0.99, min_keep=11).apply(tiny(), splits, seed=0).model  # 22 of 2,220 are left
    assert [int(even.masks[key].sum()) for key in even.weights] == [11, 11]


@pytest.mark.parametrize("cut", [Cut(amount=2198), Cut(amount=0.99, scope="layer")])
def test_deep_cuts_in_many_rounds_outlive_the_sweep(splits: Splits, cut: Cut) -> None:
    result = compress(tiny(), splits, train=TRAIN, cut=cut, finetune=TUNE, seed=0, rounds=5)
    kept = [row["kept"] for row in result.cuts]
    assert kept[0] > 400  # a fifth of the way on a logarithmic scale
    assert all(a >= b for a, b in itertools.pairwise(kept))
    assert result.removed >= 2197
    after = [row["kept_after_sweep"] for row in result.cuts]
    assert after[-1] == 2220 - pruned_count(result.stages[1].model) < kept[-1]
    assert all(a >= b for a, b in zip(kept, after, strict=True))


def test_share_of_a_cut_keeps_its_other_settings() -> None:
    cut = Cut(amount=0.99, scope="layer", method="random", min_keep=2)
    half = cut.share(0.5, size=1000)
    assert half == dataclasses.replace(cut, amount=half.amount)
    assert half.amount == pytest.approx(0.9, rel=1e-12)
    assert Cut(amount=990).share(0.5, size=1000).amount == pytest.approx(0.9, rel=1e-12)
    for same in (Cut(threshold=0.1), Cut(tolerance=0.1), Cut(amount=5, scope="layer")):
        assert same.share(0.5, size=1000) is same
    assert cut.share(1.0, size=1000) is cut
    assert Cut(amount=1.0).share(0.5, size=1000).amount == 1.0


def test_gradual_pruning_reaches_the_target(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0)
    gradual = dataclasses.replace(TRAIN, epochs=6)
    reached: list[Any] = []
    result = prune_gradually(dense, splits, Cut(amount=0.9), gradual, TUNE, seed=0, reached=reached.append)
    assert reached == list(result.stages[1:])  # the newest network is the one to keep if a later part is interrupted
    assert result.removed == int(0.9 * dense.stage.model.size + 0.5)
    sparsity = [row["sparsity"] for row in result.rows if row["phase"] == "gradual"]
    assert len(sparsity) == 6
    assert all(a <= b for a, b in itertools.pairwise(sparsity))
    assert 0 < sparsity[0] < sparsity[2] < 0.9
    assert sparsity[-1] == pytest.approx(0.9, abs=1e-3)
    assert [row["epoch"] for row in result.rows] == list(range(1, 19))
    (cut,) = result.cuts
    assert cut["kept"] - cut["kept_after_sweep"] == pruned_count(result.stages[1].model) - result.removed
    with pytest.raises(ArgumentError, match=r"^gradual\.epochs=0 must be at least 1"):
        prune_gradually(dense, splits, Cut(amount=0.9), dataclasses.replace(TRAIN, epochs=0), TUNE, seed=0)
    with pytest.raises(ConfigError, match=r"gradual pruning needs the fraction to reach"):
        prune_gradually(dense, splits, Cut(threshold=0.1), gradual, TUNE, seed=0)


def test_gradual_pruning_sweeps_and_says_what_went(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0)
    result = prune_gradually(dense, splits, Cut(amount=0.98), dataclasses.replace(TRAIN, epochs=2), TUNE, seed=0)
    (cut,) = result.cuts
    assert cut["kept"] == dense.stage.model.size - result.removed == 44
    assert cut["kept_after_sweep"] == 2220 - pruned_count(result.stages[1].model) < 44
    assert result.swept
    assert cut["largest_removed"] > 0.1
    largest = itertools.chain([1.0, 3.0], itertools.repeat(2.0))
    monkeypatch.setattr("l0ref.pruning.pipeline._largest_removed", lambda *_: next(largest))
    result = prune_gradually(dense, splits, Cut(amount=0.98), dataclasses.replace(TRAIN, epochs=2), TUNE, seed=0)
    assert result.cuts[0]["largest_removed"] == 3.0


def test_gradual_pruning_heeds_scope_score_and_min_keep(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0)
    short = dataclasses.replace(TRAIN, epochs=1)

    def kept(**options: Any) -> list[int]:
        result = prune_gradually(dense, splits, Cut(amount=0.95, **options), short, Recipe(0), seed=0)
        gradual = [row for row in result.rows if row["phase"] == "gradual"][-1]
        return [round(w.size * (1 - gradual[f"sparsity:{k}"])) for k, w in dense.stage.model.params.items() if "w" in k]

    assert kept(scope="layer") == [96, 15]
    assert sum(kept()) == sum(kept(method="random")) == 111
    assert len({tuple(kept()), tuple(kept(method="random")), (96, 15)}) == 3
    assert min(kept(min_keep=55)) == 55


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"^amount, threshold, tolerance: give exactly one, got none of them$"),
        ({"amount": 0.5, "threshold": 0.1}, r"give exactly one, got amount=0\.5, threshold=0\.1$"),
    ],
)
def test_a_cut_has_one_rule(options: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Cut(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tolerance": -0.1}, r"^tolerance=-0\.1 must be 0 or greater"),
        ({"tolerance": 0.1, "scope": "filter"}, r"^scope='filter' is not one of 'global', 'layer'"),
        ({"amount": 1.5}, r"^amount=1\.5 must lie in \[0, 1\]"),
        ({"amount": -3}, r"^amount=-3 must be at least 0"),
        ({"threshold": float("nan")}, r"^threshold=nan must be finite"),
        ({"amount": 0.5, "scope": "all"}, r"^scope='all' is not one of 'global', 'layer'"),
        ({"amount": 0.5, "method": "gradient"}, r"^method='gradient' is not one of"),
        (
            {"amount": 0.5, "options": {"samples": 3}},
            r"^samples=3 is not an option of method='magnitude'; it has scope",
        ),
        ({"threshold": 0.5, "method": "han"}, r"^threshold=0\.5 goes with method 'magnitude' or 'random', not 'han'"),
        ({"amount": 0.5, "min_keep": -1}, r"^min_keep=-1 must be at least 0"),
    ],
)
def test_a_cut_is_checked_when_it_is_made(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Cut(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": -1}, r"^epochs=-1 must be at least 0"),
        ({"batch_size": 0}, r"^batch_size=0 must be at least 1"),
        ({"label_smoothing": 2.0}, r"^label_smoothing=2\.0 must lie in"),
    ],
)
def test_a_recipe_is_checked_when_it_is_made(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Recipe(**{"epochs": 1, **options})


def test_controls_change_the_penalty_and_nothing_else() -> None:
    like = Penalty(Laplace(beta=5.0), alpha=1e-3, layer_weights="none", groups="kind")
    found = {name: control(name, like=like, l1=0.2, l2=0.3) for name in CONTROLS}
    assert found["none"].penalty == found["random"].penalty == Penalty()
    assert found["l2"].penalty == Penalty(l2=0.3)
    assert found["l1"].penalty == Penalty(L1(), alpha=0.2, layer_weights="none", groups="kind")
    assert found["random"].method == "random"
    assert found["l1"].train(TRAIN) == dataclasses.replace(TRAIN, penalty=found["l1"].penalty)
    assert found["l1"].cut(0.9, like=Cut(threshold=0.1, min_keep=4)) == Cut(amount=0.9, min_keep=4)
    assert found["random"].cut(0.5, like=Cut(amount=0.7, scope="layer")) == Cut(
        amount=0.5, scope="layer", method="random", min_keep=1
    )
    assert found["random_layers"].cut(0.5, like=Cut(amount=0.7, scope="layer"), kept={"a": 3, "b": 0}) == Cut(
        amount=0.5, method="random", min_keep=1, options={"budget": {"a": 3, "b": 1}}
    )
    with pytest.raises(ArgumentError, match=r"^control='l3' is not one of"):
        control("l3", like=like, l1=0, l2=0)


def test_experiment_cuts_every_run_alike(splits: Splits) -> None:
    said: list[tuple[str, int]] = []
    result = run_experiment(
        tiny(), splits, train=TRAIN, cut=Cut(threshold=0.05), finetune=TUNE, seed=0,
        controls=CONTROLS, control_l1=2e-3, control_l2=1e-3, curve=(2, 8),
        finished=lambda name, run: said.append((name, run.removed)),
    )  # fmt: skip
    assert list(result.runs) == [MAIN, *CONTROLS]
    assert said == [(name, run.removed) for name, run in result.runs.items()]
    assert len({run.removed for run in result.runs.values()}) == 1
    assert result.runs["none"].stages[0] is result.runs["random"].stages[0]  # one training serves both
    kept = {
        name: [int(run.stages[1].model.mask(k).sum()) for k in run.model.weights] for name, run in result.runs.items()
    }
    assert kept["random_layers"] == kept[MAIN] != kept["random"]
    for points in result.curves.values():
        assert [ratio for ratio, _ in points] == [2, 8]
        assert [run.removed for _, run in points] == [1110, 2220 - 277]
    with pytest.raises(ConfigError, match=r"^gradual and rounds=2 exclude each other"):
        run_experiment(tiny(), splits, train=TRAIN, cut=Cut(amount=0.5), finetune=TUNE, seed=0, rounds=2, gradual=TRAIN)


@pytest.mark.parametrize("way", ["prune_and_tune", "prune_gradually"])
def test_experiment_hands_on_its_settings(splits: Splits, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[Penalty, int]] = []
    compressed: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def train(_: nn.Model, __: Splits, recipe: Recipe, *, seed: int, **___: Any) -> Penalty:
        trained.append((recipe.penalty, seed))
        return recipe.penalty  # stands for the dense network

    def cut(start: Penalty, _: Splits, *args: Any, label: str, **options: Any) -> Any:
        compressed.append((label, (start, *args), options))
        return SimpleNamespace(removed=222, model=tiny())

    monkeypatch.setattr("l0ref.experiment.controlled.train_dense", train)
    monkeypatch.setattr(f"l0ref.experiment.controlled.{way}", cut)
    gradually = way == "prune_gradually"
    run_experiment(
        tiny(), splits, train=TRAIN, cut=Cut(amount=0.9), finetune=TUNE, seed=7, rounds=1 if gradually else 3,
        gradual=dataclasses.replace(TRAIN, epochs=2) if gradually else None,
        controls=("l1", "l2"), control_l1=0.1, control_l2=0.2, curve=(4.0,),
    )  # fmt: skip
    penalties = {"l0": TRAIN.penalty, "l1": Penalty(L1(), alpha=0.1), "l2": Penalty(l2=0.2)}
    assert trained == [(penalty, 7) for penalty in penalties.values()]
    assert [label for label, *_ in compressed] == ["l0", "l0", "l1", "l1", "l2", "l2"]
    for i, (label, (start, asked, *recipes), options) in enumerate(compressed):
        assert start == penalties[label]
        assert recipes[-1] is TUNE
        assert options == {"seed": 7} | ({} if gradually else {"rounds": 3, "stages": None})
        assert not gradually or recipes[0] == dataclasses.replace(TRAIN, epochs=2, penalty=penalties[label])
        if i:
            assert asked == Cut(amount=0.75 if i % 2 else 222 / 2220, min_keep=1)
        else:
            assert asked == Cut(amount=0.9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"curve": (0.5,)}, r"^ratio=0\.5 must lie in \[1, 2220\]"),
        ({"gradual": TRAIN, "cut": Cut(threshold=0.1)}, r"gradual pruning needs the fraction to reach"),
    ],
)
def test_experiment_refuses_before_it_trains(
    splits: Splits, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("l0ref.experiment.controlled.train_dense")
    job: dict[str, Any] = {"train": TRAIN, "cut": Cut(amount=0.5), "finetune": TUNE, "seed": 0}
    with pytest.raises(ValueError, match=said):
        run_experiment(tiny(), splits, **(job | options))


def test_one_dense_network_serves_several_cuts(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0)
    a = prune_and_tune(dense, splits, Cut(amount=0.9), TUNE, seed=0)
    b = compress(tiny(), splits, train=TRAIN, cut=Cut(amount=0.9), finetune=TUNE, seed=0)
    for key, p in a.model.params.items():
        np.testing.assert_array_equal(p, b.model.params[key])
