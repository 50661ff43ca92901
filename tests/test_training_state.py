"""The state of a training is all that decides how it goes on, and the record of settings is the only one."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import l0ref
from l0ref import nn, optim, schedules
from l0ref.data import Dataset
from l0ref.errors import ArgumentError
from l0ref.nn.loss import Pass, loss_and_gradient
from l0ref.penalty import Penalty
from l0ref.training import History, Recipe, Trainer, TrainingState, fit
from l0ref.training.steps import ChainSteps

LAYERS = (
    nn.Linear("fc1", 32, 20),
    nn.BatchNorm1d("bn", 20),
    nn.ReLU("r"),
    nn.Dropout("d", 0.3),
    nn.Linear("fc2", 20, 3),
)
PLAIN = (nn.Linear("fc1", 32, 20), nn.ReLU("r"), nn.Linear("fc2", 20, 3))
PENALTY = Penalty(alpha=1e-3, l2=1e-3)
ADAM, MOMENTUM = optim.Adam(lr=0.01), optim.SGD(lr=0.05, momentum=0.9)
RECIPES = {
    "adam": Recipe(3, penalty=PENALTY, batch_size=7, optimizer=ADAM, warmup=schedules.LinearWarmup(0.5)),
    "momentum, best": Recipe(3, penalty=PENALTY, batch_size=7, optimizer=MOMENTUM, select="best", monitor="val_acc1"),
    "proximal, plateau, patience": Recipe(
        6, penalty=PENALTY, batch_size=7, optimizer=optim.Proximal(ADAM), patience=2, monitor="val_acc1",
        schedule=schedules.ReduceOnPlateau(patience=1, mode="max"),
    ),
}  # fmt: skip


def samples(n: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset(rng.normal(size=(n, 32)).astype(np.float32), rng.integers(0, 3, n), 3, "noise")


def prune_more(state: TrainingState) -> TrainingState:
    """A mask that grows step by step, and a sum that a hook carries."""
    keep = np.arange(640).reshape(20, 32) >= state.step
    total = state.carried.get("total", 0.0) + float(np.abs(state.params["fc1.weight"]).sum())
    return dataclasses.replace(state, carried={"total": total}).with_masks({"fc1.weight": keep})


def trainer(recipe: Recipe, layers: tuple[nn.Layer, ...], **hooks: Any) -> Trainer:
    model = nn.Model.init(layers, input_shape=(32,), seed=0)
    return Trainer(recipe, model, samples(24, 1), 5, validation=samples(20, 2), phase="train", **hooks)


def summary(result: tuple[nn.Model, History]) -> list[Any]:
    """Every bit of a result but the clock."""
    model, history = result
    arrays = [{k: a.tobytes() for k, a in part.items()} for part in (model.params, model.masks, model.buffers)]
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    return [arrays, rows, history.stopped, history.best_epoch, dict(history.carried)]


def trained(recipe: Recipe, layers: tuple[nn.Layer, ...]) -> tuple[list[Any], list[TrainingState]]:
    """The summary of an unbroken training, and its state after every step."""
    states: list[TrainingState] = []

    def note(state: TrainingState) -> TrainingState:
        states.append(prune_more(state))
        return states[-1]

    whole = trainer(recipe, layers, after_step=note)
    return summary(whole.result(whole.run(whole.start()))), states


def resumed(recipe: Recipe, layers: tuple[nn.Layer, ...], state: TrainingState) -> list[Any]:
    again = trainer(recipe, layers, after_step=prune_more)
    return summary(again.result(again.run(state)))


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("layers", [PLAIN, LAYERS], ids=["chain", "dropout and batch norm"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_training_goes_on_from_any_state(recipe: Recipe, layers: tuple[nn.Layer, ...], backend: str) -> None:
    with l0ref.backend(backend):
        on_a_chain = isinstance(trainer(recipe, layers).steps, ChainSteps)
        assert on_a_chain == (backend == "numba")
        unbroken, states = trained(recipe, layers)
        assert len(unbroken[1]) >= 3
        for state in states[::3] + states[-1:]:  # four steps make an epoch: every place in one
            assert resumed(recipe, layers, state) == unbroken


def forgetful(state: TrainingState) -> dict[str, Any]:
    """For each part of a state what it would be had it not been kept, or been kept wrongly."""
    memory = {name: {k: 0 * a for k, a in arrays.items()} for name, arrays in state.slots.slots.items()}
    return {
        "params": {k: w + np.float32(1e-6) for k, w in state.params.items()},
        "masks": {},
        "buffers": {k: 0 * b for k, b in state.buffers.items()},
        "slots": optim.State(state.slots.step, memory),
        "step": state.step - 1,
        "steps": state.steps + 1,
        "epoch": state.epoch - 1,
        "batch": 0,
        "loss_sum": 0.0,
        "dropout": None,
        "history": History(),
        "best": None,
        "carried": {},
    }


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(TrainingState)])
def test_every_part_of_the_state_is_needed(field: str) -> None:
    recipe = dataclasses.replace(RECIPES["momentum, best"], epochs=4)
    unbroken, states = trained(recipe, LAYERS)
    best = unbroken[3]
    state = next(s for s in states if s.epoch == best + 1 and s.batch == 2)
    spoilt = dataclasses.replace(state, **{field: forgetful(state)[field]})
    try:
        found = resumed(recipe, LAYERS, spoilt)
    except ArgumentError:
        return
    assert found != unbroken


def test_dropout_starts_anew_in_every_epoch() -> None:
    """So that two fits of one epoch make one of two, where the optimiser remembers nothing."""
    layers = tuple(layer for layer in LAYERS if layer.name != "bn")
    model = nn.Model.init(layers, input_shape=(32,), seed=0)
    options: dict[str, Any] = {"seed": 3, "optimizer": optim.SGD(lr=0.1), "batch_size": 7}
    whole, _ = fit(model, samples(24, 1), epochs=2, **options)
    half, _ = fit(model, samples(24, 1), epochs=1, **options)
    rest, _ = fit(half, samples(24, 1), epochs=1, first_epoch=2, **options)
    assert all(np.array_equal(whole.params[k], rest.params[k]) for k in whole.params)


def test_state_holds_plain_values_only() -> None:
    _, states = trained(RECIPES["momentum, best"], LAYERS)
    state = states[6]
    assert json.loads(json.dumps(state.dropout)) == state.dropout
    assert json.loads(json.dumps(state.history.rows)) == list(state.history.rows)
    for part in (state.params, state.masks, state.buffers, *state.slots.slots.values()):
        assert all(type(a) is np.ndarray for a in part.values())
    assert [type(getattr(state, name)) for name in ("step", "steps", "epoch", "batch", "loss_sum")] == [int] * 4 + [
        float
    ]


def test_state_says_where_it_stands() -> None:
    seen: list[tuple[int, int, int, int]] = []
    sums: list[float] = []

    def note(state: TrainingState) -> TrainingState:
        seen.append((state.step, state.epoch, state.batch, len(state.history)))
        sums.append(state.loss_sum)
        return dataclasses.replace(state)  # so that the steps go on from a state of ours

    def close(state: TrainingState, row: Mapping[str, Any]) -> None:
        assert row["loss_data"] == state.loss_sum / 10 == sums[-1] / 10

    model = nn.Model.init(PLAIN, input_shape=(32,), seed=0)
    for backend in ("numba", "numpy"):
        with l0ref.backend(backend):
            fit(model, samples(10, 1), epochs=2, seed=0, batch_size=4, after_step=note, after_epoch=close)
        assert seen == [(1, 1, 1, 0), (2, 1, 2, 0), (3, 1, 3, 0), (4, 2, 1, 1), (5, 2, 2, 1), (6, 2, 3, 1)]
        assert 0 < sums[0] < sums[1] < sums[2] > sums[3] > 0
        seen.clear()
        sums.clear()


def test_what_hooks_carried_is_in_the_history() -> None:
    def counted(state: TrainingState) -> TrainingState:
        return dataclasses.replace(state, carried={"steps": state.carried.get("steps", 0) + 1})

    model = nn.Model.init(PLAIN, input_shape=(32,), seed=0)
    _, history = fit(model, samples(10, 1), epochs=2, seed=0, batch_size=4, after_step=counted)
    assert history.carried == {"steps": 6}


# --- one record of settings -------------------------------------------------------------------------------------------


def test_fit_shows_every_setting_of_a_recipe() -> None:
    shown = inspect.signature(fit).parameters
    for field in dataclasses.fields(Recipe):
        assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY
        if field.default is not dataclasses.MISSING:
            assert shown[field.name].default == field.default
    assert [name for name in shown if name not in (fit.__doc__ or "")] == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patience": 0}, r"^patience=0 must be at least 1"),
        ({"threshold": -1.0}, r"^threshold=-1.0 must be 0 or greater"),
        ({"select": "first"}, r"^select='first' is not one of 'last', 'best'"),
        ({"monitor": "acc"}, r"^monitor='acc' is not one of"),
        ({"penalty": None}, r"^penalty is NoneType, expected an instance of l0ref's Penalty"),
        ({"warmup": 0.1}, r"^warmup is float, expected an instance of l0ref's Schedule"),
    ],
)
def test_recipe_refuses_a_setting_before_any_training(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Recipe(1, **settings)


def test_recipe_holds_plain_numbers() -> None:
    recipe = Recipe(np.int64(2), label_smoothing=np.float64(0.1), threshold=np.float32(0.5))  # type: ignore[arg-type]
    assert [type(v) for v in (recipe.epochs, recipe.label_smoothing, recipe.threshold)] == [int, float, float]


# --- the loss and its gradient ----------------------------------------------------------------------------------------


def test_loss_and_gradient_against_differences() -> None:
    """Five-point differences along a random direction, with dropout drawn alike and batch statistics."""
    model = nn.Model.init(LAYERS, input_shape=(32,), seed=0, dtype=np.float64)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(9, 32)), rng.integers(0, 3, 9)
    way = {k: rng.normal(size=w.shape) for k, w in model.params.items()}

    def at(t: float) -> Pass:
        params = {k: w + t * way[k] for k, w in model.params.items()}
        drawn = np.random.default_rng(0)
        return loss_and_gradient(LAYERS, params, model.buffers, x, y, label_smoothing=0.1, rng=drawn)

    h = 1e-4
    found = at(0.0)
    slope = (8 * (at(h).loss - at(-h).loss) - (at(2 * h).loss - at(-2 * h).loss)) / (12 * h)
    np.testing.assert_allclose(sum((found.grads[k] * way[k]).sum() for k in way), slope, rtol=1e-7)
    assert list(found.grads) == list(model.params)
    shifted = found.logits - found.logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    target = 0.9 * np.eye(3)[y] + 0.1 / 3
    np.testing.assert_allclose(found.loss, -(target * log_p).sum(axis=1).mean(), rtol=1e-12)
    assert set(found.buffers) == set(model.buffers)
    assert (found.buffers["bn.running_mean"] != model.buffers["bn.running_mean"]).all()


def test_loss_outside_training_uses_no_dropout_and_changes_no_buffer() -> None:
    model = nn.Model.init(LAYERS, input_shape=(32,), seed=0, dtype=np.float64)
    x, y = np.random.default_rng(3).normal(size=(4, 32)), np.array([0, 1, 2, 0])
    found = loss_and_gradient(LAYERS, model.params, model.buffers, x, y, training=False)
    np.testing.assert_allclose(found.logits, model.logits(x), rtol=1e-12)
    np.testing.assert_array_equal(found.buffers["bn.running_mean"], model.buffers["bn.running_mean"])
