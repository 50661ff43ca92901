"""Stages against training by hand, and sparse layers against masks: masks bit for bit, weights within rounding."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import l0ref
from l0ref import metrics, nn, optim
from l0ref.cli import main
from l0ref.data import Dataset, Splits, orders
from l0ref.deploy import sparse_training
from l0ref.deploy.sparse_training import SparseTrainer, follow_sparse, gathered, scattered, sparse_where_faster
from l0ref.distillation import Teacher
from l0ref.errors import ConfigError, Interrupted
from l0ref.experiment import run_experiment
from l0ref.metrics import evaluate
from l0ref.nn import Model
from l0ref.nn.loss import loss_and_gradient
from l0ref.penalty import Penalty
from l0ref.pruning import Cut, Recipe, StagedCuts, compress, prune, prune_and_tune, prune_gradually, sweep, train_dense
from l0ref.pruning.stages import parts_of
from l0ref.schedules import Cosine, ReduceOnPlateau
from l0ref.surrogates import Laplace
from l0ref.training import Trainer, TrainingState, follow
from tests.test_run_record import plain, survives

Arrays = Mapping[str, Any]
SEED = int(os.environ.get("L0REF_SEED", "0"))
PENALTY = Penalty(Laplace(beta=5.0), alpha=1e-3)
TUNE = Recipe(3, batch_size=16, optimizer=optim.Adam(lr=3e-3), schedule=Cosine(final=1 / 300))
STAGES = StagedCuts((2.0, 5.0, 9.0), 2, PENALTY)
SHAPES = {"mlp": (20,), "cnn": (2, 10, 10)}


def network(kind: str, *, dtype: Any = np.float64) -> Model:
    """One of linear layers, one with convolutions; both have a compiled chain."""
    if kind == "mlp":
        return nn.mlp((20, 40, 30, 3), seed=SEED, dtype=dtype)
    layers = (
        nn.Conv2d("conv1", 2, 8, 3), nn.ReLU("r1"), nn.MaxPool2d("p", 2), nn.Flatten("flat"),
        nn.Linear("fc1", 128, 24), nn.ReLU("r2"), nn.Linear("fc2", 24, 3),
    )  # fmt: skip
    return Model.init(layers, input_shape=(2, 10, 10), seed=SEED, dtype=dtype)


def samples(kind: str, *, n: int = 90, dtype: Any = np.float64) -> Splits:
    """Three classes that can be learnt."""
    rng = np.random.default_rng([SEED, 8])
    x = rng.standard_normal((n, *SHAPES[kind])).astype(dtype)
    whole = Dataset(x, x.reshape(n, -1)[:, :3].argmax(axis=1), 3, "made up")
    return Splits(whole.take(np.arange(60)), whole.take(np.arange(60, n)), whole, "made up", "none")


def smallest_go(model: Model, kept: int) -> dict[str, Any]:
    """Masks of the `kept` largest weights of all layers."""
    w = np.abs(np.concatenate([model.params[k].ravel() for k in model.weights]))
    keep = np.zeros(w.size, bool)
    keep[np.argsort(-w, kind="stable")[:kept]] = True
    ends = np.cumsum([model.params[k].size for k in model.weights])[:-1]
    return {k: m.reshape(model.params[k].shape) for k, m in zip(model.weights, np.split(keep, ends), strict=True)}


def by_hand(model: Model, data: Dataset, *, seed: int, first_epoch: int) -> list[Model]:
    """The stages written down: Adam with one memory and one cosine, dense arrays multiplied by masks."""
    m, v = ({k: np.zeros_like(p) for k, p in model.params.items()} for _ in range(2))
    largest, per, t, found = max(model.sizes.values()), math.ceil(len(data) / 16), 0, []
    whole = (2 + 2 + 3) * per
    epoch = first_epoch
    for ratio, epochs, alpha in zip(STAGES.ratios, (2, 2, 3), (1e-3, 1e-3, 0.0), strict=True):
        model = sweep(model.replace(masks=smallest_go(model, math.floor(model.size / ratio)))).model
        w = {k: p.copy() for k, p in model.params.items()}
        for _ in range(epochs):
            for order in orders(len(data), batch_size=16, seed=seed, epoch=epoch):
                lr = 3e-3 * (1 / 300 + (1 - 1 / 300) * (1 + math.cos(math.pi * t / whole)) / 2)
                t += 1
                g = loss_and_gradient(model.architecture, w, {}, data.x[order], data.y[order]).grads
                for k in w:
                    keep = model.masks.get(k, True)
                    price = alpha * math.sqrt(model.sizes[k] / largest) if k in model.weights else 0.0
                    slope = (g[k] + price * 5 * np.sign(w[k]) * np.exp(-5 * np.abs(w[k]))) * keep
                    m[k], v[k] = (0.9 * m[k] + 0.1 * slope) * keep, (0.999 * v[k] + 0.001 * slope**2) * keep
                    w[k] = (w[k] - lr * (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)) * keep
            epoch += 1
        model = model.replace(params=w)
        found.append(model)
    return found


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("kind", SHAPES)
def test_stages_are_those_by_hand(kind: str, backend: str) -> None:
    """One cosine over all stages, Adam's memory carried through every cut, the penalty off in the last."""
    data, model = samples(kind), network(kind)
    with l0ref.backend(backend):
        dense = train_dense(model, data, Recipe(3, batch_size=16, penalty=PENALTY), seed=4, progress="none")
        found = prune_and_tune(dense, data, Cut(0.5), TUNE, seed=4, stages=STAGES, progress="none")
        mine = by_hand(dense.stage.model, data.train, seed=4, first_epoch=4)
    for key, p in mine[-1].params.items():
        np.testing.assert_array_equal(found.model.mask(key), mine[-1].mask(key))
        np.testing.assert_allclose(found.model.params[key], p, rtol=1e-6, atol=1e-9)
    assert [row["kept"] for row in found.cuts] == [math.floor(model.size / ratio) for ratio in STAGES.ratios]
    phases = [f"finetune {n}" for n in (1, 1, 2, 2, 3, 3, 3)]
    assert [(row["phase"], row["epoch"]) for row in found.rows[3:]] == list(zip(phases, range(4, 11), strict=True))
    assert [row["loss_l0"] > 0 for row in found.rows[3:]] == [True] * 4 + [False] * 3
    rates = [row["lr"] for row in found.rows[3:]]
    assert rates == sorted(rates, reverse=True)
    assert found.rows[-1]["strength"] == 1.0


OPTIMIZERS = {
    "adam": optim.Adam(lr=0.01),
    "adamw": optim.AdamW(lr=0.01, weight_decay=0.01),
    "momentum": optim.SGD(lr=0.05, momentum=0.9, nesterov=True),
    "proximal": optim.Proximal(optim.Adam(lr=0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", SHAPES)
def test_sparse_layers_train_as_masks_do(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses, weights and memory within rounding, in two trainings with a cut between them."""
    data = samples(kind)
    recipe = Recipe(2, batch_size=16, optimizer=OPTIMIZERS[name], penalty=PENALTY)
    results: list[Any] = []
    for densest in (sparse_training.DENSEST, -1.0):  # nothing is as empty as that
        monkeypatch.setattr(sparse_training, "DENSEST", densest)
        model, memory = prune(network(kind), amount=0.85), None
        assert bool(sparse_where_faster(model).patterns) == (densest > 0)
        for amount in (0.9, 0.95):
            model = prune(model, amount=amount)
            model, history, memory = follow_sparse(
                recipe, model, data.train, seed=1, validation=data.validation, memory=memory, progress="none"
            )
        results.append((model, history, memory))
    (a, rows, left), (b, others, right) = results
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    for mine, theirs in zip(rows, others, strict=True):
        for key in ("loss", "loss_l0", "val_loss", "sparsity", "below_threshold"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-8), key
    assert left.step == right.step == 2 * 2 * 4
    for key in a.params:
        np.testing.assert_array_equal(a.mask(key), b.mask(key))
        np.testing.assert_allclose(a.params[key], b.params[key], rtol=1e-7, atol=1e-12)
        for slot in left.slots:
            assert left.slots[slot][key].shape == a.params[key].shape
            np.testing.assert_allclose(left.slots[slot][key], right.slots[slot][key], rtol=1e-6, atol=1e-14)
            assert not left.slots[slot][key][~a.mask(key)].any()


def test_masked_training_is_that_of_follow() -> None:
    """Where nothing is sparse, and nothing carried, the bits are those of `follow`."""
    data, model = samples("mlp"), prune(network("mlp"), amount=0.5)
    options: dict[str, Any] = {"seed": 1, "validation": data.validation, "progress": "none"}
    plain_model, _ = follow(TUNE, model, data.train, **options)
    mine, _, _ = follow_sparse(TUNE, model, data.train, **options)
    for key, p in plain_model.params.items():
        assert mine.params[key].tobytes() == p.tobytes()


@pytest.mark.parametrize("kind", SHAPES)
def test_there_and_back(kind: str) -> None:
    """Masked, sparse, masked: every bit, of parameters and of arrays like them; what is masked comes back as 0."""
    model = prune(network(kind, dtype=np.float32), amount=0.9)
    twin = sparse_where_faster(model)
    assert 0 < len(twin.patterns) <= len(model.weights)
    back = scattered(twin.params, model, twin)
    rng = np.random.default_rng(SEED)
    noise = {k: rng.standard_normal(p.shape).astype(np.float32) for k, p in model.params.items()}
    inside = gathered(noise, model, twin)
    assert {k: a.shape for k, a in inside.items()} == {k: p.shape for k, p in twin.params.items()}
    outside = scattered(inside, model, twin)
    for key, p in model.params.items():
        assert back[key].tobytes() == p.tobytes()
        np.testing.assert_array_equal(outside[key], np.where(model.masks.get(key, True), noise[key], 0))
    full = network(kind)
    assert sparse_where_faster(full) is full  # without masks there is nothing to leave out


def test_a_network_without_a_chain_trains_under_masks() -> None:
    """Dropout has no compiled chain: bits are those of masked training, running statistics among them."""
    layers = (
        nn.Linear("fc1", 20, 40), nn.BatchNorm1d("norm", 40), nn.Dropout("drop", 0.2), nn.ReLU("r"),
        nn.Linear("fc2", 40, 3),
    )  # fmt: skip
    whole = Model.init(layers, input_shape=(20,), seed=1, dtype=np.float64)
    data, model = samples("mlp"), prune(whole, amount=0.9)
    mine, _, _ = follow_sparse(TUNE, model, data.train, seed=1, progress="none")
    theirs, _ = follow(TUNE, model, data.train, seed=1, progress="none")
    assert plain(mine) == plain(theirs)
    assert (mine.buffers["norm.running_mean"] != model.buffers["norm.running_mean"]).any()


def test_rounds_begin_with_an_optimiser_that_remembers_nothing() -> None:
    """Bit for bit what two trainings of their own make of the two cuts."""
    data = samples("mlp")
    dense = train_dense(network("mlp"), data, TUNE, seed=4, progress="none")
    found = prune_and_tune(dense, data, Cut(0.96), TUNE, seed=4, rounds=2, progress="none")
    model = dense.stage.model
    for part, first_epoch in zip(parts_of(Cut(0.96), TUNE, size=model.size, rounds=2), (4, 7), strict=True):
        start = sweep(part.cut.apply(model, data, seed=4).model).model
        model, _, _ = follow_sparse(TUNE, start, data.train, seed=4, first_epoch=first_epoch, progress="none")
    assert plain(found.model) == plain(model)


def test_what_a_stopped_training_reached_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network an error carries is the masked one, whatever layers it was trained in."""
    data, model = samples("mlp"), prune(network("mlp"), amount=0.95)
    row = Trainer.row

    def pressed(trainer: Trainer, state: TrainingState) -> dict[str, Any]:
        if state.epoch == 2:
            raise KeyboardInterrupt
        return row(trainer, state)

    monkeypatch.setattr(Trainer, "row", pressed)
    with pytest.raises(Interrupted, match=r"^training was interrupted$") as stop:
        follow_sparse(TUNE, model, data.train, seed=1, progress="none")
    assert stop.value.model.architecture == model.architecture
    assert all(not stop.value.model.params[k][~model.masks[k]].any() for k in model.weights)
    assert (stop.value.model.params["fc1.weight"] != model.params["fc1.weight"]).any()


GRADUAL = Recipe(4, batch_size=16, optimizer=optim.Adam(lr=3e-3), penalty=PENALTY, schedule=Cosine(final=0.1))


@pytest.mark.parametrize("kind", SHAPES)
def test_gradual_pruning_in_sparse_layers_is_that_under_masks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same masks bit for bit, the same weights and history within rounding; sparse as soon as little is left."""
    data, shapes, results = samples(kind), [], []
    dense = train_dense(network(kind), data, TUNE, seed=4, progress="none")
    turn_to = sparse_training.SparseSteps._turn_to

    def watched(steps: Any, model: Model) -> None:
        turn_to(steps, model)
        shapes.append((round(pruned_share(model), 2), len(steps.twin.patterns)))

    monkeypatch.setattr(sparse_training.SparseSteps, "_turn_to", watched)
    for densest in (sparse_training.DENSEST, -1.0):
        monkeypatch.setattr(sparse_training, "DENSEST", densest)
        results.append(prune_gradually(dense, data, Cut(0.97), GRADUAL, TUNE, seed=4, progress="none"))
    a, b = results
    cuts, by_masks = shapes[: len(shapes) // 2], shapes[len(shapes) // 2 :]
    assert [share for share, _ in cuts] == [share for share, _ in by_masks]
    assert sorted(cuts) == cuts  # a cut at a time, never dense again
    assert (cuts[0], cuts[-2][0]) == ((0.0, 0), 0.97)
    assert cuts[-2][1] > 0 or numba.config.DISABLE_JIT  # when nothing is compiled, there is no chain
    assert {n for _, n in by_masks} == {0}
    for mine, theirs in zip(a.stages, b.stages, strict=True):
        for key, p in mine.model.params.items():
            np.testing.assert_array_equal(mine.model.mask(key), theirs.model.mask(key))
            np.testing.assert_allclose(p, theirs.model.params[key], rtol=1e-6, atol=1e-9)
    for row, other in zip(a.rows, b.rows, strict=True):
        assert row.keys() == other.keys()
        for name in ("loss", "loss_l0", "val_loss", "sparsity", "sparsity:fc1.weight", "below_threshold"):
            assert row[name] == pytest.approx(other[name], rel=1e-7, abs=1e-12), name
    assert a.cuts[0]["largest_removed"] == pytest.approx(b.cuts[0]["largest_removed"], rel=1e-7)


def pruned_share(model: Model) -> float:
    return sum(int(np.count_nonzero(~m)) for m in model.masks.values()) / model.size


@pytest.mark.parametrize("stride", [1, 17])
def test_gradual_pruning_goes_on_bit_for_bit(stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended after any step, dense or sparse, it ends with the bits of an unbroken one; teacher and penalty stay on."""
    data, model = samples("mlp", n=70), network("mlp")
    teacher = Teacher(nn.mlp((20, 30, 3), seed=7, dtype=np.float64))
    job = STAGED | {"stages": None, "gradual": GRADUAL, "cut": Cut(0.97), "teacher": teacher}

    def work() -> Any:
        return compress(model, data, **job)

    unbroken = plain(work())
    assert survives(work, tmp_path, monkeypatch, stride=stride) == unbroken


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="without compilation there is no chain, and nothing sparse")
def test_a_hook_sees_masked_states_whatever_layers_take_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are those of the masked network, arrays cannot be written, and what a hook kept stays as it was."""
    evaluated: list[Model] = []
    monkeypatch.setattr(metrics, "evaluate", lambda model, data: evaluated.append(model) or evaluate(model, data))
    data, model = samples("mlp"), prune(network("mlp"), amount=0.95)
    kept: list[TrainingState] = []
    whole = {key: p.copy() for key, p in model.params.items()}

    def after_step(state: TrainingState) -> None:
        key = "fc1.weight"
        assert state.params[key].shape == state.slots.slots["m"][key].shape == model.params[key].shape
        assert not state.params[key][~model.masks[key]].any()
        with pytest.raises(ValueError, match="read-only"):
            state.params[key][0, 0] = 1
        assert set(state.params) == set(whole)
        assert len(state.params) == len(whole)
        kept.append(state)

    options: dict[str, Any] = {"seed": 1, "validation": data.validation, "progress": "none"}
    trained, history, memory = follow_sparse(TUNE, model, data.train, after_step=after_step, **options)
    monkeypatch.undo()
    plain_one, _, _ = follow_sparse(TUNE, model, data.train, **options)
    assert plain(trained) == plain(plain_one)
    assert [state.step for state in kept] == list(range(1, 3 * 4 + 1))
    assert len(history) == len(evaluated) == TUNE.epochs
    assert all(each.patterns for each in evaluated)
    for key in model.params:
        assert kept[-1].params[key].tobytes() == trained.params[key].tobytes()
        assert kept[-1].slots.slots["v"][key].tobytes() == memory.slots["v"][key].tobytes()
    first = Trainer(TUNE, model, data.train, 1).start()
    step = SparseTrainer(TUNE, model, data.train, 1)
    step.steps.begin(first)
    order = next(iter(orders(60, batch_size=16, seed=1, epoch=1)))
    step.steps.take(order, lr=3e-3 * Cosine(final=1 / 300)(0, steps=12), pull=Penalty().pull(step.factors, strength=1))
    for key, p in step.steps.state().params.items():
        assert kept[0].params[key].tobytes() == p.tobytes()


STAGED: dict[str, Any] = {
    "train": Recipe(1, batch_size=16, penalty=PENALTY), "cut": Cut(0.5), "finetune": TUNE, "seed": 2, "stages": STAGES,
    "progress": "none",
}  # fmt: skip


@pytest.mark.parametrize("stride", [1, 17])
def test_stages_go_on_bit_for_bit(stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended after any state, of any stage, a run ends with the bits of an unbroken one; and so do its controls."""
    data, model = samples("mlp", n=70), network("mlp")

    def work() -> Any:
        if stride == 1:
            return compress(model, data, **STAGED)
        return run_experiment(model, data, **STAGED, controls=("none", "random"))

    unbroken = plain(work())
    assert survives(work, tmp_path, monkeypatch, stride=stride) == unbroken


def test_controls_have_the_stages_with_their_own_penalty() -> None:
    """As many weights go in every run, and no l0 penalty pulls on a control."""
    found = run_experiment(network("mlp"), samples("mlp"), **STAGED, controls=("none", "l2", "random"), control_l2=1e-3)
    for name, run in found.runs.items():
        assert [row["kept"] for row in run.cuts] == [row["kept"] for row in found.runs["l0"].cuts]
        assert (run.rows[1]["loss_l0"] > 0) == (name == "l0")
        assert (run.rows[1]["loss_l2"] > 0) == (name == "l2")


def test_one_stage_is_one_cut() -> None:
    data, model = samples("mlp"), network("mlp")
    staged = compress(model, data, **STAGED | {"stages": StagedCuts((9.0,), 5, PENALTY)})
    whole = compress(model, data, **STAGED | {"cut": Cut(model.size - math.floor(model.size / 9)), "stages": None})
    assert plain(staged.model) == plain(whole.model)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ratios": ()}, r"^stages=none must begin with a compression ratio of at least 1$"),
    ({"ratios": (0.5, 2)}, r"^stages=0\.5,2 must begin with a compression ratio of at least 1$"),
    ({"ratios": (math.nan, 2)}, r"^stages=nan must be finite$"),
    ({"ratios": (3, 2)}, r"^stages=3,2 must rise from one to the next; pruned stays pruned$"),
    ({"ratios": (3, 3)}, r"^stages=3,3 must rise from one to the next"),
    ({"epochs": 0}, r"^stage_epochs=0 must be at least 1$"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_stages_that_are_none(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        StagedCuts(**{"ratios": (2, 3), "epochs": 1, "penalty": PENALTY} | changes)


def test_what_does_not_go_with_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is refused before training."""
    monkeypatch.setattr(l0ref.training.Trainer, "run_epoch", None)
    plateau = dataclasses.replace(TUNE, schedule=ReduceOnPlateau(mode="min"))
    for changes, said in (
        ({"rounds": 2}, r"^stages and rounds=2 exclude each other; choose one$"),
        (
            {"finetune": plateau},
            r"^schedule='reduce_on_plateau' cannot span stages; choose another, such as cosine$",
        ),
        ({"gradual": TUNE}, r"^stages and gradual or a curve exclude each other; choose one way to prune$"),
        ({"curve": (3,)}, r"^stages and gradual or a curve exclude each other"),
        ({"stages": StagedCuts((2, 4000), 1, PENALTY)}, r"^stages=4000 leaves none of 2090 weights; ask for less$"),
        ({"stages": StagedCuts((2, 2000), 1, PENALTY)}, r"^stages=2000: amount=0\.9995\d* leaves 1 of 2090 weights"),
    ):
        with pytest.raises(ConfigError, match=said):
            run_experiment(network("mlp"), samples("mlp"), **STAGED | changes)
    with pytest.raises((ConfigError, ValueError), match=r"^ratio=4000 must lie in \[1, 2090\]"):
        compress(network("mlp"), samples("mlp"), **STAGED | {"stages": StagedCuts((2, 4000), 1, PENALTY)})


def test_a_part_says_where_its_schedule_is() -> None:
    parts = parts_of(Cut(0.5, scope="layer"), TUNE, size=1000, stages=STAGES)
    assert [part.window for part in parts] == [(0, 7), (2, 7), (4, 7)]
    assert [part.cut.amount for part in parts] == [0.5, 0.8, 0.889]
    assert [part.recipe.penalty for part in parts] == [PENALTY, PENALTY, TUNE.penalty]
    assert {part.cut.scope for part in parts} == {"layer"}
    choosy = dataclasses.replace(TUNE, select="best", patience=1)  # the last stage alone chooses an epoch
    chosen = [(p.recipe.select, p.recipe.patience) for p in parts_of(Cut(0.5), choosy, size=1000, stages=STAGES)]
    assert chosen == [("last", None), ("last", None), ("best", 1)]
    assert [part.window for part in parts_of(Cut(0.5), TUNE, size=1000, rounds=2)] == [None, None]


FLAGS = ["compress", "--epochs", "1", "--finetune-epochs", "1", "--stage-epochs", "1", "--controls", "no"]


def test_the_command_has_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags, the file they write, and what it makes again, bit for bit."""
    from l0ref.checkpoint import load

    quiet = [*FLAGS, "--no-figures", "--quiet"]
    assert main([*quiet, "--stages", "2,4.5,8", "--out", str(tmp_path / "a")]) == 0
    assert main(["compress", "--config", str(tmp_path / "a/config.json"), "--quiet", "--no-figures",
                 "--out", str(tmp_path / "b")]) == 0  # fmt: skip
    a, b = (load(tmp_path / name / "model.npz") for name in "ab")
    assert plain(a) == plain(b)
    kept = sum(int(np.count_nonzero(p)) for k, p in a.params.items() if k in a.weights)
    assert 0 < kept <= 50_200 / 8  # the sweep takes more than the cut
    flags = ["--config", str(tmp_path / "a/config.json"), "--amount", "0.5", "--out", str(tmp_path / "c")]
    assert main([*quiet, *flags]) == 0  # a later source replaces the rule of an earlier one
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--stages 4,2", "stages=4,2 must rise from one to the next; pruned stays pruned"),
        ("--stages 0.5,2", "stages=0.5,2 must begin with a compression ratio of at least 1"),
        ("--stages 2,60000", "stages=60000.0 leaves none of 50200 weights; ask for less"),
        ("--stages 2,4 --rounds 2", "stages=2,4 and rounds=2 exclude each other; choose one"),
        ("--stages 2,4 --gradual 2", "stages=2,4 and gradual=2 exclude each other; choose one"),
        ("--stages 2,4 --curve 2", "stages=2,4 and curve=(2.0,) exclude each other; choose one"),
        (
            "--stages 2,4 --schedule reduce_on_plateau",
            "schedule='reduce_on_plateau' cannot span stages=2,4; ",
        ),
        ("--stages 2,4 --stage-epochs 0", "stage_epochs=0 must be at least 1"),
        ("--stages 2,4 --amount 0.5", "not allowed with argument"),
        ("--stages 2,x", "must be numbers with commas between them"),
    ],
)
def test_the_command_refuses_before_training(
    flags: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l0ref.training.Trainer, "run_epoch", None)
    try:
        code = main([*FLAGS, *flags.split(), "--out", str(tmp_path / "a")])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_file_with_two_rules_for_the_cut_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text("stages = [2, 4]\namount = 0.5\n")
    assert main(["compress", "--config", str(tmp_path / "job.toml"), "--out", str(tmp_path / "a")]) == 2
    assert "stages=2,4 and amount=0.5 exclude each other; choose one" in capsys.readouterr().err
