"""The one training loop: what a step is, what the history says, and how it stops."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import l0ref
from l0ref import data, metrics, nn, ops, optim, schedules
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset
from l0ref.errors import ArgumentError, Diverged, DTypeError, Interrupted, ShapeError
from l0ref.penalty import Penalty
from l0ref.surrogates import Laplace
from l0ref.training import History, TrainingState, fit


def blobs(n: int = 60, *, seed: int = 0, dtype: type = np.float64) -> Dataset:
    """Three classes of points in the plane, well apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    return Dataset((centres[y] + 0.3 * rng.normal(size=(n, 2))).astype(dtype), y, 3, "blobs")


def small(seed: int = 0, dtype: type = np.float64) -> nn.Model:
    return nn.mlp((2, 8, 3), seed=seed, dtype=dtype)


def assert_same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_one_step_is_the_formula() -> None:
    model, batch = small(), blobs(12)
    penalty = Penalty(Laplace(beta=3.0), alpha=0.01, l2=0.02, layer_weights="none")
    trained, history = fit(
        model, batch, epochs=1, seed=0, batch_size=12, optimizer=optim.SGD(lr=0.1), penalty=penalty, label_smoothing=0.1
    )
    params = {k: Tensor(v) for k, v in model.params.items()}
    loss = ops.cross_entropy(model.forward(batch.x, params=params)[0], batch.y, label_smoothing=0.1)
    slopes = dict(zip(params, grad(loss, list(params.values())), strict=True))
    for key, w in model.params.items():
        pull = 0.0
        if key.endswith("weight"):
            pull = 0.01 * 3.0 * np.exp(-3.0 * np.abs(w)) * np.sign(w) + 2 * 0.02 * w
        np.testing.assert_allclose(trained.params[key], w - 0.1 * (slopes[key] + pull), rtol=1e-12)
    (row,) = history.rows
    np.testing.assert_allclose(row["loss_data"], float(loss), rtol=1e-12)
    after = [trained.params[k] for k in model.weights]
    np.testing.assert_allclose(
        row["loss_l0"], 0.01 * sum((1 - np.exp(-3 * np.abs(w))).sum() for w in after), rtol=1e-12
    )
    np.testing.assert_allclose(row["loss_l2"], 0.02 * sum((w**2).sum() for w in after), rtol=1e-12)
    np.testing.assert_allclose(row["loss"], row["loss_data"] + row["loss_l0"] + row["loss_l2"], rtol=1e-14)


def test_data_loss_is_a_mean_over_samples_not_over_batches() -> None:
    model, many = small(), blobs(10)
    _, history = fit(model, many, epochs=1, seed=0, batch_size=4, optimizer=optim.SGD(lr=1e-30))
    expected = float(ops.cross_entropy(model.logits(many.x), many.y).data)  # the batches hold 4, 4 and 2
    np.testing.assert_allclose(history.rows[0]["loss_data"], expected, rtol=1e-12)


def test_training_learns_and_leaves_its_input_alone() -> None:
    model = small()
    before = {k: v.copy() for k, v in model.params.items()}
    trained, history = fit(model, blobs(), epochs=30, seed=0, batch_size=8, optimizer=optim.Adam(lr=0.02))
    assert_same(model.params, before)
    assert history.column("loss")[-1] < 0.1 * history.column("loss")[0]
    assert (trained.predict(blobs(seed=1).x) == blobs(seed=1).y).mean() > 0.95
    assert [row["epoch"] for row in history] == list(range(1, 31))
    assert history.stopped == "finished"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_seed_same_bits_and_dtype_kept(dtype: type) -> None:
    def run(seed: int) -> nn.Model:
        net = nn.mlp((2, 8, 3), seed=0, dropout=0.3, dtype=dtype)
        return fit(net, blobs(dtype=dtype), epochs=2, seed=seed, batch_size=8, penalty=Penalty(alpha=1e-3))[0]

    a, b, c = run(1), run(1), run(2)
    assert_same(a.params, b.params)
    assert all(p.dtype == dtype for p in a.params.values())
    assert (a.params["fc1.weight"] != c.params["fc1.weight"]).any()


def test_epochs_continue_with_their_own_shuffles() -> None:
    model, optimizer = small(), optim.SGD(lr=0.1)
    whole, _ = fit(model, blobs(), epochs=2, seed=3, optimizer=optimizer, batch_size=7)
    half, _ = fit(model, blobs(), epochs=1, seed=3, optimizer=optimizer, batch_size=7)
    rest, history = fit(half, blobs(), epochs=1, seed=3, optimizer=optimizer, batch_size=7, first_epoch=2)
    assert_same(whole.params, rest.params)  # plain SGD has no memory, so two fits make one
    assert history.rows[0]["epoch"] == 2
    again, _ = fit(half, blobs(), epochs=1, seed=3, optimizer=optimizer, batch_size=7)
    assert (again.params["fc1.weight"] != rest.params["fc1.weight"]).any()


@pytest.mark.parametrize(
    "optimizer",
    [optim.SGD(lr=0.1, momentum=0.9), optim.Adam(lr=0.01), optim.AdamW(lr=0.01), optim.Proximal(optim.Adam(lr=0.01))],
)
def test_masked_weights_stay_zero(optimizer: optim.Optimizer) -> None:
    model = small()
    mask = np.random.default_rng(0).random((8, 2)) < 0.5
    model = model.replace(masks={"fc1.weight": mask})
    trained, history = fit(model, blobs(), epochs=3, seed=0, optimizer=optimizer, penalty=Penalty(alpha=1e-4, l2=1e-3))
    assert not trained.params["fc1.weight"][~mask].any()
    assert trained.params["fc1.weight"][mask].all()
    np.testing.assert_array_equal(trained.masks["fc1.weight"], mask)
    np.testing.assert_allclose(history.rows[-1]["sparsity:fc1.weight"], (~mask).mean(), rtol=1e-12)


def test_schedule_and_warmup_reach_the_step() -> None:
    _, history = fit(
        small(), blobs(), epochs=4, seed=0, batch_size=60, optimizer=optim.SGD(lr=0.5),
        schedule=schedules.Cosine(final=0.0), warmup=schedules.LinearWarmup(fraction=0.5),
        penalty=Penalty(alpha=1e-3, l2=1e-3),
    )  # fmt: skip
    np.testing.assert_allclose(
        history.column("lr"), [0.25 * (1 + math.cos(math.pi * t / 4)) for t in range(4)], rtol=1e-12
    )
    np.testing.assert_allclose(history.column("strength"), [0.0, 0.5, 1.0, 1.0], rtol=1e-12)
    assert history.rows[0]["loss_l0"] == 0.0 < history.rows[3]["loss_l0"]
    assert history.rows[0]["loss_l2"] > 0.0  # only the l0 term is warmed up


def one_step(**options: Any) -> nn.Model:
    return fit(small(), blobs(), epochs=1, seed=0, batch_size=60, optimizer=optim.SGD(lr=0.5), **options)[0]


def test_factors_of_schedule_and_warmup_scale_the_step() -> None:
    zero_at_first = schedules.LinearWarmup(fraction=1.0)
    assert_same(one_step(schedule=zero_at_first).params, small().params)
    priced = Penalty(alpha=0.1, l2=0.1)
    assert_same(one_step(penalty=priced, warmup=zero_at_first).params, one_step(penalty=Penalty(l2=0.1)).params)
    a, b = one_step(penalty=priced), one_step(penalty=Penalty(l2=0.1))
    assert (a.params["fc1.weight"] != b.params["fc1.weight"]).any()


def test_layer_weights_reach_the_step_and_the_history() -> None:
    plain, scaled = (Penalty(alpha=0.1, layer_weights=scheme) for scheme in ("none", "sqrt_size"))
    a, b = one_step(penalty=plain), one_step(penalty=scaled)
    start = one_step()
    np.testing.assert_allclose(  # fc1 has 16 weights and fc2 24, so C_l of fc1 is sqrt(16/24)
        b.params["fc1.weight"] - start.params["fc1.weight"],
        math.sqrt(16 / 24) * (a.params["fc1.weight"] - start.params["fc1.weight"]),
        rtol=1e-9,
    )
    np.testing.assert_array_equal(a.params["fc2.weight"], b.params["fc2.weight"])


@pytest.mark.parametrize("changed", [{"seed": 1}, {"first_epoch": 2}])
def test_dropout_is_a_function_of_seed_and_epoch(changed: dict[str, int]) -> None:
    net = nn.mlp((2, 30, 3), seed=0, dropout=0.5, dtype=np.float64)
    same, again, other = (
        fit(net, blobs(1), **{"epochs": 1, "seed": 0, **options})[0] for options in ({}, {}, changed)
    )  # one sample: nothing to shuffle
    assert_same(same.params, again.params)
    assert (same.params["fc1.bias"] != other.params["fc1.bias"]).any()


def test_shuffle_is_a_function_of_the_seed() -> None:
    a, b = (fit(small(), blobs(), epochs=1, seed=seed, batch_size=7)[0] for seed in (1, 2))
    assert (a.params["fc1.weight"] != b.params["fc1.weight"]).any()


def test_history_counts_small_weights_and_zeros_without_biases() -> None:
    mask = np.arange(16).reshape(8, 2) >= 4
    model, history = fit(
        small().replace(masks={"fc1.weight": mask}), blobs(), epochs=1, seed=0, threshold=0.3, first_epoch=5
    )
    weights = np.concatenate([model.params[k].ravel() for k in model.weights])
    (row,) = history.rows
    assert row["below_threshold"] == (np.abs(weights) < 0.3).mean()
    assert row["sparsity"] == pytest.approx(4 / 40, rel=1e-12)
    assert row["epoch"] == history.best_epoch == 5


def test_plateau_schedule_reads_the_monitor() -> None:
    schedule = schedules.ReduceOnPlateau(patience=1, factor=0.5, minimum=0.0, mode="max")
    _, history = fit(
        small(), blobs(), epochs=4, seed=0, optimizer=optim.SGD(lr=1e-12), schedule=schedule, validation=blobs(seed=1),
        monitor="val_acc1",
    )  # fmt: skip
    # Accuracy never improves after the first epoch: a halving after epoch 2, and one after epoch 3.
    np.testing.assert_allclose(history.column("lr"), [1e-12, 1e-12, 5e-13, 2.5e-13], rtol=1e-12)
    with pytest.raises(ArgumentError, match=r"^schedule=ReduceOnPlateau.* reads monitor='val_loss'.*mode='min'$"):
        fit(small(), blobs(), epochs=1, seed=0, schedule=schedule, validation=blobs())
    with pytest.raises(ArgumentError, match=r"pass validation="):
        fit(small(), blobs(), epochs=1, seed=0, schedule=schedule, monitor="val_acc1")


def test_best_epoch_is_chosen_on_validation() -> None:
    models: list[nn.Model] = []

    def remember(state: TrainingState, row: Mapping[str, Any]) -> None:
        models.append(state.model(small()))
        assert row["epoch"] == state.epoch

    clean = blobs(30, seed=4)
    wrong = Dataset(clean.x, np.where(np.arange(30) % 4 == 0, (clean.y + 1) % 3, clean.y), 3, "a quarter mislabelled")
    chosen, history = fit(
        small(), blobs(), epochs=8, seed=0, batch_size=8, optimizer=optim.SGD(lr=0.1), validation=wrong,
        select="best", after_epoch=remember,
    )  # fmt: skip
    losses = history.column("val_loss")  # confidence grows, and with it the price of the wrong labels
    assert 1 < history.best_epoch == int(np.argmin(losses)) + 1 < 8
    assert_same(chosen.params, models[int(np.argmin(losses))].params)


def test_patience_stops_early() -> None:
    _, history = fit(
        small(), blobs(), epochs=50, seed=0, optimizer=optim.SGD(lr=1e-12), validation=blobs(seed=1),
        monitor="val_acc1", patience=3,
    )  # fmt: skip
    assert history.stopped == "early"
    assert len(history) == 4  # the first epoch sets the mark, three do not beat it


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"select": "best"}, r"^select='best' needs validation data; pass validation=$"),
        ({"patience": 2}, r"^patience=2 needs validation data"),
        ({"patience": 0, "validation": blobs()}, r"^patience=0 must be at least 1"),
        ({"batch_size": 0}, r"^batch_size=0 must be at least 1"),
        ({"epochs": -1}, r"^epochs=-1 must be at least 0"),
        ({"select": "first"}, r"^select='first' is not one of 'last', 'best'"),
        ({"monitor": "acc"}, r"^monitor='acc' is not one of"),
        ({"optimizer": "adam"}, r"^optimizer is str, expected an instance of l0ref's Optimizer"),
        ({"optimizer": optim.Adam}, r"^optimizer is ABCMeta"),
        ({"penalty": Laplace(beta=5.0)}, r"^penalty is Laplace, expected an instance of l0ref's Penalty"),
        ({"schedule": "cosine"}, r"^schedule is str"),
        ({"progress": "loud"}, r"^progress='loud' is not one of"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        fit(small(), blobs(), **{"epochs": 1, "seed": 0, **options})


def test_no_epoch_gives_the_model_back_and_no_data_is_refused() -> None:
    model = small()
    same, history = fit(model, blobs(), epochs=0, seed=0)
    assert same is model
    assert len(history) == 0
    with pytest.raises(ArgumentError, match=r"^data is empty"):
        fit(model, blobs(0), epochs=1, seed=0)


@pytest.mark.parametrize("name", ["data", "validation"])
def test_samples_of_another_type_are_refused_before_training(name: str) -> None:
    right = blobs()
    sets = {"data": right, "validation": right, name: dataclasses.replace(right, x=right.x.astype(np.float32))}
    said = (
        rf"^{name}\.x has dtype float32, the network float64; use model\.astype\('float32'\), or pass dtype='float64' "
    )
    with pytest.raises(DTypeError, match=said):
        fit(small(), sets["data"], epochs=0, seed=0, validation=sets["validation"])
    with pytest.raises(DTypeError, match=said.replace(name, "data")):
        metrics.evaluate(small(), sets[name])


def test_validation_without_a_finite_loss_stops_training() -> None:
    with pytest.raises(ArgumentError, match=r"^validation is empty"):
        fit(small(), blobs(), epochs=1, seed=0, validation=blobs(0))
    far = Dataset(np.full((3, 2), 1e308), np.arange(3), 3, "far away")
    with pytest.raises(Diverged, match=r"^train, epoch 1, batch 1: val_loss of the epoch is (nan|inf)"):
        fit(small(), blobs(), epochs=1, seed=0, validation=far)


def test_samples_of_another_shape_are_refused() -> None:
    images = Dataset(np.zeros((4, 2, 1, 1)), np.zeros(4, int), 3, "images")
    with pytest.raises(
        ShapeError, match=r"^data\.x has shape \(4, 2, 1, 1\), expected \(N, 2\) with N samples; use \.resh"
    ):
        fit(small(), images, epochs=1, seed=0)
    with pytest.raises(ShapeError, match=r"^validation\.x has shape"):
        fit(small(), blobs(), epochs=1, seed=0, validation=images)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("masks", "error", "said"),
    [
        ({"fc1.weight": np.ones((2, 2), bool)}, ShapeError, r"^masks\['fc1.weight'\] is bool \(2, 2\), expected bool"),
        ({"fc1.weight": [[True]]}, DTypeError, r"^masks\['fc1.weight'\] is a list, expected a NumPy array; pass"),
        (
            {"fc9.weight": np.ones((2, 2), bool)},
            ArgumentError,
            r"^masks has 'fc9.weight', which is not a parameter; choose",
        ),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: Any, error: type[Exception], said: str, backend: str) -> None:
    with l0ref.backend(backend), pytest.raises(error, match=said):
        fit(small(), blobs(), epochs=1, seed=0, after_step=lambda state: state.with_masks(masks))


def test_one_sample_is_enough() -> None:
    trained, _ = fit(small(), blobs(1), epochs=1, seed=0)
    assert (trained.params["fc2.bias"] != 0).any()


def test_nan_stops_training_and_keeps_the_last_good_state() -> None:
    with pytest.raises(
        Diverged, match=r"^train, epoch 1, batch 2: the loss is (nan|inf).*; the last good state is kept"
    ) as caught:
        fit(small(), blobs(), epochs=50, seed=0, batch_size=20, optimizer=optim.SGD(lr=1e200))
    assert all(np.isfinite(p).all() for p in caught.value.model.params.values())
    assert len(caught.value.history) < 50


def test_nan_in_a_parameter_names_it() -> None:
    def poison(state: TrainingState) -> TrainingState | None:
        if state.step < 2:
            return None
        bad = state.params["fc2.bias"].copy()
        bad[1] = np.inf
        return dataclasses.replace(state, params={**state.params, "fc2.bias": bad})

    with pytest.raises(
        Diverged, match=r"^finetune, epoch 2, batch 1: fc2\.bias holds NaN or infinite entries"
    ) as caught:
        fit(small(), blobs(), epochs=3, seed=0, batch_size=60, phase="finetune", after_step=poison)
    assert len(caught.value.history) == 1
    first, _ = fit(small(), blobs(), epochs=1, seed=0, batch_size=60, phase="finetune")
    assert_same(caught.value.model.params, first.params)


def test_ctrl_c_keeps_the_finished_epochs() -> None:
    def stop(state: TrainingState) -> None:
        if state.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"^training was interrupted") as caught:
        fit(small(), blobs(), epochs=9, seed=0, batch_size=30, after_step=stop)
    assert len(caught.value.history) == 2
    two, _ = fit(small(), blobs(), epochs=2, seed=0, batch_size=30)
    assert_same(caught.value.model.params, two.params)
    assert isinstance(caught.value, KeyboardInterrupt)


def test_hook_after_step_can_prune() -> None:
    def drop(state: TrainingState) -> TrainingState | None:
        keep = np.arange(16).reshape(8, 2) >= state.step
        return dataclasses.replace(state, masks={"fc1.weight": keep})

    trained, history = fit(small(), blobs(), epochs=2, seed=0, batch_size=20, after_step=drop)
    assert (trained.params["fc1.weight"].ravel() == 0).sum() == 6
    np.testing.assert_allclose(history.column("sparsity:fc1.weight"), [3 / 16, 6 / 16], rtol=1e-12)


def test_hook_after_epoch_can_change_the_state() -> None:
    def clear(state: TrainingState, _: Mapping[str, Any]) -> TrainingState:
        return dataclasses.replace(state, params={k: 0 * p for k, p in state.params.items()})

    trained, _ = fit(small(), blobs(), epochs=1, seed=0, after_epoch=clear)
    assert not any(p.any() for p in trained.params.values())


def test_buffers_of_batch_norm_are_carried() -> None:
    layers = (nn.Linear("fc1", 2, 4), nn.BatchNorm1d("bn", 4), nn.ReLU("r"), nn.Linear("fc2", 4, 3))
    model = nn.Model.init(layers, input_shape=(2,), seed=0, dtype=np.float64)
    trained, _ = fit(model, blobs(), epochs=3, seed=0, batch_size=20)
    assert (trained.buffers["bn.running_mean"] != 0).all()
    assert (model.buffers["bn.running_mean"] == 0).all()


def test_history_as_csv() -> None:
    _, history = fit(small(), blobs(), epochs=2, seed=0, validation=blobs(seed=1))
    rows = list(csv.DictReader(io.StringIO(history.to_csv())))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) == history.rows[1]["loss"]
    assert History().to_csv() == ""


def test_progress_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with l0ref.backend("numpy"):
        fit(small(), blobs(), epochs=5, seed=0, progress="lines", every=2, validation=blobs(), label="l0")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[3] for line in lines] == ["2/5", "4/5", "5/5"]
    assert all(line.startswith("l0 train  epoch") and "val " in line for line in lines)
    with l0ref.backend("numba"):
        fit(small(), blobs(), epochs=2, seed=0, progress="lines", first_epoch=6, phase="finetune")
    note, *lines = capsys.readouterr().err.splitlines()
    assert note.startswith("finetune  runs on the tape because layer 'fc1' has 2 inputs, fewer than ")
    assert [line.split()[2] for line in lines] == ["1/2", "2/2"]


def test_progress_bar_and_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with l0ref.backend("numpy"):
        fit(small(), blobs(), epochs=2, seed=0, progress="bar")
        assert "train" in capsys.readouterr().err
        fit(small(), blobs(), epochs=2, seed=0, progress="none")
        assert capsys.readouterr().err == ""
        fit(small(), blobs(), epochs=2, seed=0)  # standard error is no terminal here
        assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["1/2", "2/2"]
        fit(small(), blobs(), epochs=60, seed=0, every=0)
        assert len(capsys.readouterr().err.splitlines()) == 20


def test_real_digits_are_learnt_in_a_few_epochs() -> None:
    digits = data.load("digits", seed=0)
    model, history = fit(nn.digits_mlp(seed=0), digits.train, epochs=10, seed=0, validation=digits.validation)
    assert history.rows[-1]["val_acc1"] > 0.9
    assert model.dtype == np.float32
