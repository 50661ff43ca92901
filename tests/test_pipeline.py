"""prune, the recipes, and the pipeline from a dense network to a fine-tuned one."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from l0ref import data, metrics, nn, prune
from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError, ConfigError, LayerCollapse
from l0ref.penalty import Penalty
from l0ref.pruning import (
    CONTROLS,
    MAIN,
    SCORES,
    Cut,
    Recipe,
    compress,
    control,
    prune_and_tune,
    prune_gradually,
    pruned_count,
    run_experiment,
    train_dense,
)
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
    a = compress(tiny(), splits, train=TRAIN, cut=Cut(tolerance=0.1), finetune=TUNE, seed=0)
    b = compress(tiny(), unusable, train=TRAIN, cut=Cut(tolerance=0.1), finetune=TUNE, seed=0)
    for key, p in a.model.params.items():
        np.testing.assert_array_equal(p, b.model.params[key])


def test_tolerance_finds_the_largest_cut_within_the_loss(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0).stage.model
    before = metrics.evaluate(dense, splits.validation).loss
    pruned = Cut(tolerance=0.05).apply(dense, splits.validation, seed=0)
    removed = pruned_count(pruned)
    assert removed > 0
    assert metrics.evaluate(pruned, splits.validation).loss <= 1.05 * before
    assert metrics.evaluate(prune(dense, amount=removed + 1), splits.validation).loss > 1.05 * before


def test_rounds_go_down_on_a_logarithmic_scale(splits: Splits) -> None:
    result = compress(tiny(), splits, train=TRAIN, cut=Cut(amount=0.99), finetune=TUNE, seed=0, rounds=2)
    assert [row["kept"] for row in result.cuts] == [222, 22]  # 10 % and 1 % of 2,220
    assert [row["phase"] for row in result.rows[8:]] == ["finetune 1"] * 4 + ["finetune 2"] * 4
    assert [row["epoch"] for row in result.rows] == list(range(1, 17))


def test_a_round_that_the_sweep_has_overtaken_changes_nothing(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0).stage.model
    swept = prune(dense, amount=0.97)
    assert Cut(amount=0.9).apply(swept, splits.validation, seed=0) is swept


def test_gradual_pruning_reaches_the_target(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0)
    gradual = dataclasses.replace(TRAIN, epochs=6)
    result = prune_gradually(dense, splits, Cut(amount=0.9), gradual, TUNE, seed=0)
    assert result.removed == int(0.9 * dense.stage.model.size + 0.5)
    sparsity = [row["sparsity"] for row in result.rows if row["phase"] == "gradual"]
    assert len(sparsity) == 6
    assert all(a <= b for a, b in itertools.pairwise(sparsity))
    assert 0 < sparsity[0] < sparsity[2] < 0.9
    assert sparsity[-1] == pytest.approx(0.9, abs=1e-3)
    with pytest.raises(ConfigError, match=r"gradual pruning needs the fraction to reach"):
        prune_gradually(dense, splits, Cut(threshold=0.1), gradual, TUNE, seed=0)


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
    with pytest.raises(ArgumentError, match=r"^tolerance=-0\.1 must be 0 or greater"):
        Cut(tolerance=-0.1)


def test_controls_change_the_penalty_and_nothing_else() -> None:
    like = Penalty(Laplace(beta=5.0), alpha=1e-3, layer_weights="none")
    found = {name: control(name, like=like, l1=0.2, l2=0.3) for name in CONTROLS}
    assert found["none"].penalty == found["random"].penalty == Penalty()
    assert found["l2"].penalty == Penalty(l2=0.3)
    assert found["l1"].penalty == Penalty(L1(), alpha=0.2, layer_weights="none")
    assert found["random"].score == "random"
    assert found["l1"].train(TRAIN) == dataclasses.replace(TRAIN, penalty=found["l1"].penalty)
    assert found["l1"].cut(0.9, like=Cut(threshold=0.1, min_keep=4)) == Cut(amount=0.9, min_keep=4)
    with pytest.raises(ArgumentError, match=r"^control='l3' is not one of"):
        control("l3", like=like, l1=0, l2=0)


def test_experiment_cuts_every_run_alike(splits: Splits) -> None:
    said: list[str] = []
    result = run_experiment(
        tiny(), splits, train=TRAIN, cut=Cut(threshold=0.05), finetune=TUNE, seed=0,
        controls=CONTROLS, control_l1=2e-3, control_l2=1e-3, curve=(2, 8), notify=said.append,
    )  # fmt: skip
    assert said == list(result.runs) == [MAIN, *CONTROLS]
    assert len({run.removed for run in result.runs.values()}) == 1
    assert result.runs["none"].stages[0] is result.runs["random"].stages[0]  # one training serves both
    for points in result.curves.values():
        assert [ratio for ratio, _ in points] == [2, 8]
        assert [run.removed for _, run in points] == [1110, 2220 - 277]
    with pytest.raises(ConfigError, match=r"^gradual and rounds=2 exclude each other"):
        run_experiment(tiny(), splits, train=TRAIN, cut=Cut(amount=0.5), finetune=TUNE, seed=0, rounds=2, gradual=TRAIN)


def test_one_dense_network_serves_several_cuts(splits: Splits) -> None:
    dense = train_dense(tiny(), splits, TRAIN, seed=0)
    a = prune_and_tune(dense, splits, Cut(amount=0.9), TUNE, seed=0)
    b = compress(tiny(), splits, train=TRAIN, cut=Cut(amount=0.9), finetune=TUNE, seed=0)
    for key, p in a.model.params.items():
        np.testing.assert_array_equal(p, b.model.params[key])
