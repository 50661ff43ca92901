"""`fit` on a compiled chain against `fit` on the tape: the same training, hooks, refusals, and no new memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import pytest

from l0ref import metrics, nn, optim, schedules
from l0ref.autodiff.op import backend
from l0ref.data import Dataset
from l0ref.distillation import Feed
from l0ref.errors import ArgumentError, Diverged, DTypeError, Interrupted, ShapeError
from l0ref.fast.chain import Chain, chain, images, linear
from l0ref.fast.products import launch as products
from l0ref.fast.step import update
from l0ref.penalty import Penalty
from l0ref.surrogates import L0, Laplace, LogSum
from l0ref.training import History, TrainingState, fit, steps
from l0ref.validate import Array, sealed
from tests.kept_memory import new_memory
from tests.test_chain import NOT_COVERED, network

pytestmark = pytest.mark.kernels
INTERPRETED = bool(numba.config.DISABLE_JIT)  # then every number is a turn of a loop in Python
MLP, CNN = "three linear layers", "two convolutions, padded and pooled"
Result = tuple[nn.Model, History]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many steps were taken on what; chains also count the gradients they compute."""
    counts: Counter[str] = Counter()

    def counted(kind: type, name: str) -> Any:
        run = getattr(kind, name)

        def wrapper(*args: Any, **options: Any) -> Any:
            counts[kind.__name__] += 1
            return run(*args, **options)

        return wrapper

    for kind, name in ((steps.ChainSteps, "take"), (steps.TapeSteps, "take"), (Chain, "gradient")):
        monkeypatch.setattr(kind, name, counted(kind, name))
    return counts


@contextmanager
def no_chain() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "chain_or_reason", lambda *_, **__: "a test says so")
        yield


def data_for(model: nn.Model, *, count: int = 0, seed: int = 0) -> Dataset:
    """Samples around a centre for each class: enough for full batches and a rest."""
    count, rng = count or (11 if INTERPRETED else 55), np.random.default_rng(seed)
    y, centres = (
        np.arange(count) % model.classes,
        np.random.default_rng(9).normal(size=(model.classes, *model.input_shape)),
    )
    return Dataset(
        (centres[y] + rng.normal(size=(count, *model.input_shape))).astype(model.dtype), y, model.classes, "d"
    )


def both(model: nn.Model, data: Dataset, taken: Counter[str], **options: Any) -> tuple[Result, Result]:
    """Fit on the chain, then on the tape; see to it that each did."""
    options = {"epochs": 2 if INTERPRETED else 3, "seed": 0, "batch_size": 8 if INTERPRETED else 17, **options}
    with backend("numba"):
        fast = fit(model, data, **options)
        assert set(taken) == {"ChainSteps", "Chain"}
        number = taken["Chain"]
        assert taken["ChainSteps"] == number
        with no_chain():
            plain = fit(model, data, **options)
    assert taken == {"ChainSteps": number, "Chain": number, "TapeSteps": number}
    return fast, plain


def assert_close(got: Mapping[str, Array], want: Mapping[str, Array], rtol: float) -> None:
    assert list(got) == list(want)
    for key, a in want.items():
        assert got[key].dtype == a.dtype
        np.testing.assert_allclose(got[key], a, rtol=0, atol=rtol * np.abs(a).max(), err_msg=key)


def assert_same_training(fast: Result, plain: Result, *, rtol: float = 1e-9) -> None:
    """Arrays to rtol of their largest entry, numbers of the history to rtol, everything else exactly."""
    (model, history), (want, rows) = fast, plain
    assert_close(model.params, want.params, rtol)
    assert list(model.masks) == list(want.masks)
    for key, mask in want.masks.items():
        np.testing.assert_array_equal(model.masks[key], mask)
        assert not model.params[key][~mask].any()
    assert (len(history), history.best_epoch, history.stopped) == (len(rows), rows.best_epoch, rows.stopped)
    for got, row in zip(history.rows, rows.rows, strict=True):
        assert list(got) == list(row)
        for name in row:
            if isinstance(row[name], float) and name != "seconds":
                np.testing.assert_allclose(got[name], row[name], rtol=rtol, err_msg=name)
            elif name != "seconds":
                assert got[name] == row[name]


# --- the same training ------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "momentum": optim.SGD(lr=0.05, momentum=0.9),
    "nesterov": optim.SGD(lr=0.03, momentum=0.7, nesterov=True),
    "adam": optim.Adam(lr=0.01),
    "adamw": optim.AdamW(lr=0.01, weight_decay=0.1),
    "prox after momentum": optim.Proximal(optim.SGD(lr=0.05, momentum=0.9)),
    "prox after adam": optim.Proximal(optim.Adam(lr=0.01)),
    "prox after adam, by its lr": optim.Proximal(optim.Adam(lr=0.01), metric="euclidean"),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one batch": {"batch_size": 100},
    "label smoothing": {"label_smoothing": 0.2},
    "penalty": {"penalty": Penalty(Laplace(4.0), alpha=1e-3, l2=1e-3)},
    "squares alone": {"penalty": Penalty(l2=1e-2)},
    "another surrogate": {"penalty": Penalty(LogSum(0.1), alpha=1e-3, layer_weights="none")},
    "warm-up and a falling rate": {
        "penalty": Penalty(Laplace(4.0), alpha=1e-3, l2=1e-4), "warmup": schedules.LinearWarmup(fraction=0.5),
        "schedule": schedules.Cosine(final=0.1),
    },
}  # fmt: skip


@each_optimizer
@pytest.mark.parametrize("name", [MLP, CNN])
def test_training_is_that_of_the_tape(name: str, optimizer: optim.Optimizer, taken: Counter[str]) -> None:
    model = network(name, np.float64)
    fast, plain = both(model, data_for(model), taken, optimizer=optimizer, penalty=Penalty(alpha=1e-3, l2=1e-3))
    assert_same_training(fast, plain)
    assert all((fast[0].params[key] != w).any() for key, w in model.params.items())


@pytest.mark.parametrize("setting", SETTINGS)
def test_training_under_every_setting(setting: str, taken: Counter[str]) -> None:
    model = network(CNN, np.float64)
    assert_same_training(*both(model, data_for(model), taken, **SETTINGS[setting]))


@each_optimizer
def test_training_under_masks(optimizer: optim.Optimizer, taken: Counter[str], rng: np.random.Generator) -> None:
    model = network(CNN, np.float64)
    model = model.replace(masks={k: rng.random(model.params[k].shape) < 0.6 for k in model.weights[1:]})
    fast, plain = both(model, data_for(model), taken, optimizer=optimizer, penalty=Penalty(alpha=1e-3, l2=1e-3))
    assert_same_training(fast, plain)
    assert all(fast[0].params[k][mask].any() for k, mask in model.masks.items())


@pytest.mark.parametrize("name", [MLP, CNN])
def test_training_in_float32(name: str, taken: Counter[str]) -> None:
    model = network(name, np.float32)
    fast, plain = both(
        model, data_for(model), taken, penalty=Penalty(alpha=1e-3), optimizer=optim.SGD(momentum=0.5, lr=0.01)
    )
    assert_same_training(fast, plain, rtol=1e-4)


def test_best_epoch_and_patience(taken: Counter[str]) -> None:
    """Validation runs on a chain, too."""
    model = network(MLP, np.float64)
    options = {"select": "best", "monitor": "val_acc1", "patience": 2, "epochs": 6, "batch_size": 17}
    data, validation = data_for(model, count=55), data_for(model, count=12, seed=5)
    fast, plain = both(model, data, taken, optimizer=optim.Adam(lr=0.2), validation=validation, **options)
    assert_same_training(fast, plain)
    assert fast[1].best_epoch < len(fast[1]) < 6
    assert fast[1].stopped == "early"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_seed_same_bits(dtype: Any, taken: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of threads."""
    model = network(CNN, dtype)
    options: dict[str, Any] = {"epochs": 1, "batch_size": 9, "penalty": Penalty(alpha=1e-3)}
    results = []
    with backend("numba"):
        for threads in (1, 1, 2, 3):
            for module in (chain, images, linear, products, update):
                monkeypatch.setattr(module, "threads_for", lambda _, threads=threads: threads)
            trained, history = fit(model, data_for(model), seed=1, **options)
            results.append(({k: w.tobytes() for k, w in trained.params.items()}, history.rows[0]["loss"]))
        other, _ = fit(model, data_for(model), seed=2, **options)
    assert results[1:] == results[:1] * 3
    assert all(w.tobytes() != results[0][0][k] for k, w in other.params.items())
    assert set(taken) == {"ChainSteps", "Chain"}


def test_model_and_data_are_not_written(taken: Counter[str]) -> None:
    model = network(CNN, np.float64)
    data = data_for(model)
    arrays = [data.x, data.y, *model.params.values()]
    before = [a.copy() for a in arrays]
    for a in (data.x, data.y):
        a.flags.writeable = False
    with backend("numba"):
        trained, _ = fit(model, data, epochs=1, seed=0)
    for now, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(now, then)
    for key, w in trained.params.items():
        assert not any(np.shares_memory(w, a) for a in arrays)
        assert w.flags.writeable, key
    assert set(taken) == {"ChainSteps", "Chain"}


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_see_the_same_states(taken: Counter[str]) -> None:
    """And no state that a hook was given is written later."""
    model = network(MLP, np.float64).replace(masks={"0.fc0.weight": np.arange(33 * 17).reshape(33, 17) % 3 > 0})
    seen: list[tuple[TrainingState, TrainingState]] = []

    def note(state: TrainingState, *_: Any) -> None:
        copied = {k: w.copy() for k, w in state.params.items()}
        slots = {name: {k: a.copy() for k, a in arrays.items()} for name, arrays in state.slots.slots.items()}
        memory = optim.State(state.slots.step, slots)
        seen.append((state, dataclasses.replace(state, params=copied, slots=memory)))

    both(model, data_for(model), taken, after_step=note, after_epoch=note)
    half = len(seen) // 2
    for (fast, copied), (plain, _) in zip(seen[:half], seen[half:], strict=True):
        for name in ("step", "steps", "epoch"):
            assert getattr(fast, name) == getattr(plain, name)
        assert fast.slots.step == plain.slots.step == fast.step
        assert fast.masks is plain.masks
        assert_close(fast.params, plain.params, 1e-9)
        assert list(fast.slots.slots) == list(plain.slots.slots) == ["m", "v"]
        for name, arrays in plain.slots.slots.items():
            assert_close(fast.slots.slots[name], arrays, 1e-9)
            assert_close(fast.slots.slots[name], copied.slots.slots[name], 0.0)
        assert_close(fast.params, copied.params, 0.0)
    assert [s.step for s, _ in seen[:2]] == [1, 2]


def test_arrays_are_taken_over_once_an_epoch_unless_a_hook_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, begin = [], steps.ChainSteps.begin
    monkeypatch.setattr(
        steps.ChainSteps, "begin", lambda self, state: (begun.append(state.step), begin(self, state))[1]
    )
    model = network(MLP, np.float64)
    changing = iter([False, True, False, True])

    def hook(state: TrainingState) -> TrainingState | None:
        return dataclasses.replace(state) if next(changing) else None

    with backend("numba"):
        fit(model, data_for(model, count=10), epochs=2, seed=0, batch_size=5, after_step=hook)
    assert begun == [0, 2, 2, 4]


def test_hooks_prune_step_by_step(taken: Counter[str]) -> None:
    """Masks that grow from step to step, behind which slots are empty; then new parameters after the epoch."""
    model, key = network(CNN, np.float64), "3.d.weight"
    size, shape = model.params[key].size, model.params[key].shape

    def prune(state: TrainingState) -> TrainingState | None:
        if state.step % 2:
            return None
        keep = np.arange(size).reshape(shape) >= 3 * state.step
        return dataclasses.replace(state, masks={**state.masks, key: keep})

    def halve(state: TrainingState, _: Any) -> TrainingState:
        masks = {**state.masks, "6.fc0.weight": np.arange(102).reshape(3, 34) % 5 > 0}
        return dataclasses.replace(state, masks=masks, params={k: 0.5 * w for k, w in state.params.items()})

    empty: list[bool] = []

    def watch(state: TrainingState) -> TrainingState | None:
        for k, mask in state.masks.items():
            empty.extend(not arrays[k][~mask].any() for arrays in (state.params, *state.slots.slots.values()))
        return prune(state)

    fast, plain = both(model, data_for(model), taken, after_step=watch, after_epoch=halve)
    assert_same_training(fast, plain)
    assert empty
    assert all(empty)
    assert list(fast[0].masks) == [key, "6.fc0.weight"]


def test_hooks_may_replace_the_optimizers_memory(taken: Counter[str]) -> None:
    """In another order, and with another step number."""
    model = network(MLP, np.float64)

    def forget(state: TrainingState) -> TrainingState:
        slots = {name: dict(reversed(arrays.items())) for name, arrays in reversed(state.slots.slots.items())}
        slots["m"] = {k: 0 * a for k, a in slots["m"].items()}
        return dataclasses.replace(state, slots=optim.State(state.slots.step + 3, slots))

    assert_same_training(*both(model, data_for(model), taken, after_step=forget))


def test_ctrl_c_keeps_the_finished_epochs(taken: Counter[str]) -> None:
    model, caught = network(MLP, np.float64), []

    def stop(state: TrainingState) -> None:
        if state.epoch == 2:
            raise KeyboardInterrupt

    for context in (no_chain, lambda: backend("numba")):
        with backend("numba"), context(), pytest.raises(Interrupted, match=r"^training was interrupted") as error:
            fit(model, data_for(model), epochs=3, seed=0, after_step=stop)
        caught.append(error.value)
    assert [len(error.history) for error in caught] == [1, 1]
    assert_close(caught[1].model.params, caught[0].model.params, 1e-9)
    assert set(taken) == {"TapeSteps", "ChainSteps", "Chain"}


# --- refusals ---------------------------------------------------------------------------------------------------------


def assert_both_refuse(error: type[Exception], said: str, model: nn.Model, data: Dataset, **options: Any) -> list[Any]:
    """What is raised on the chain and on the tape, which both say what is expected."""
    caught = []
    for context in (lambda: backend("numba"), no_chain):
        with backend("numba"), context(), pytest.raises(error, match=said) as found:
            fit(model, data, **{"epochs": 9, "seed": 0, "batch_size": 8, **options})
        caught.append(found.value)
    return caught


@pytest.mark.parametrize("name", [MLP, CNN])
@pytest.mark.parametrize(
    ("batch_size", "said"),
    [
        (8, r"batch 2: the loss is nan \(first bad tensor: 0\..*weight\)"),
        (20, r"batch 1: 0\..*weight holds NaN or infinite"),
    ],
)
def test_divergence_is_told_alike(batch_size: int, said: str, name: str, taken: Counter[str]) -> None:
    """The first step makes weights infinite; where sums overflow inside of a network, their order shows."""
    model, optimizer = network(name, np.float64), optim.SGD(lr=1e308, momentum=0.9)
    data = data_for(model, count=20)
    loud = dataclasses.replace(data, x=1e4 * data.x)
    said = f"^train, epoch 1, {said}.*; the last good state is kept"
    fast, plain = assert_both_refuse(Diverged, said, model, loud, optimizer=optimizer, batch_size=batch_size)
    assert str(fast) == str(plain)
    assert len(fast.history) == len(plain.history) == 0
    for error in (fast, plain):
        assert_close(error.model.params, model.params, 0.0)
    assert set(taken) == {"TapeSteps", "ChainSteps", "Chain"}


@pytest.mark.parametrize("key", ["0.fc0.weight", "2.fc1.bias", "4.fc2.weight"])
def test_nan_in_a_parameter_is_told_alike(key: str, taken: Counter[str]) -> None:
    model = network(MLP, np.float64)

    def poison(state: TrainingState) -> TrainingState | None:
        if state.step != 4:
            return None
        bad = state.params[key].copy()
        bad.reshape(-1)[-1] = np.nan
        return dataclasses.replace(state, params={**state.params, key: bad})

    said = r"^train, epoch 2, batch 2: the loss is nan \(first bad tensor: .*\)"
    fast, plain = assert_both_refuse(Diverged, said, model, data_for(model, count=20), after_step=poison)
    assert str(fast) == str(plain)
    assert len(fast.history) == 1
    assert_close(fast.model.params, plain.model.params, 1e-9)
    assert set(taken) == {"TapeSteps", "ChainSteps", "Chain"}


class Falling(schedules.Schedule):
    """1, then below 0."""

    def __call__(self, step: int, *, steps: int, history: Any = ()) -> float:
        return 1.0 - 2.0 * step


schedules.base.SCHEDULES.pop("Falling")  # other tests go through all there are


def test_what_the_tape_refuses_is_refused_in_its_words() -> None:
    model = network(MLP, np.float64)
    data = data_for(model, count=20)
    for error, said, options in (
        (ArgumentError, r"^pull has the surrogate L0\(\)", {"penalty": Penalty(L0(), alpha=1.0)}),
        (ArgumentError, r"^lr=-0\.001 must be 0 or greater", {"schedule": Falling()}),
    ):
        fast, plain = assert_both_refuse(error, said, model, data, **options)
        assert str(fast) == str(plain)
    more = Dataset(data.x, np.arange(20) % 5, 5, "more classes than outputs")
    fast, plain = assert_both_refuse(ArgumentError, r"^target holds the class index 4, outside \[0, 4\)", model, more)
    assert str(fast) == str(plain)


@pytest.mark.parametrize("scale", [0.1, 100.0])
@pytest.mark.parametrize("name", [MLP, CNN])
def test_a_regression_is_that_of_the_tape(
    name: str, scale: float, taken: Counter[str], rng: np.random.Generator
) -> None:
    """Whatever the size of the targets, which are no labels; the loss of the validation data is theirs, too."""
    model = network(name, np.float64)
    data, validation = data_for(model), data_for(model, count=9, seed=4)
    options: dict[str, Any] = {"optimizer": optim.Adam(lr=0.01), "label_smoothing": 0.3}
    of = [
        Dataset(part.x, scale * rng.normal(size=(len(part), model.classes)), 0, "values") for part in (data, validation)
    ]
    fast, plain = both(model, of[0], taken, validation=of[1], penalty=Penalty(alpha=1e-3, l2=1e-3), **options)
    assert_same_training(fast, plain)
    assert np.isnan(fast[1].rows[-1]["val_acc1"])


def test_targets_that_are_not_one_for_each_output_are_refused_by_the_tape() -> None:
    model = network(MLP, np.float64)
    data = Dataset(data_for(model).x, np.zeros((len(data_for(model)), 3)), 0, "three of four")
    for error in assert_both_refuse(ShapeError, r"^target has shape \(8, 3\), expected that of the", model, data):
        assert "(8, 4)" in str(error)


def test_more_classes_than_outputs_go_to_the_tape(taken: Counter[str]) -> None:
    """Unless no sample is of such a class."""
    model = network(MLP, np.float64)
    data = data_for(model, count=9)
    with backend("numba"):
        fit(model, Dataset(data.x, data.y, 7, "four of seven classes"), epochs=1, seed=0)
        assert set(taken) == {"ChainSteps", "Chain"}
        with pytest.raises(ArgumentError, match=r"^target holds the class index 4"):
            fit(model, Dataset(data.x, data.y + 1, 7, "class 4"), epochs=1, seed=0)
    assert taken["TapeSteps"] == 1


@pytest.mark.parametrize(
    ("error", "said", "change"),
    [
        (
            DTypeError,
            r"^state\.params\['2\.fc1\.bias'\] has dtype float32, expected float64",
            lambda b: b.astype(np.float32),
        ),
        (ShapeError, r"^state\.params\['2\.fc1\.bias'\] has shape \(15,\), expected \(16,\)", lambda b: b[1:]),
        (ShapeError, r"^state\.params\['2\.fc1\.bias'\] has shape \(16, 1\), expected \(16,\)", lambda b: b[:, None]),
        (ArgumentError, r"^params has '2\.fc1\.bias', state\.params does not", None),
    ],
)
def test_parameters_of_a_hook_must_be_those_of_the_network(error: Any, said: str, change: Any) -> None:
    """Kernels trust in sizes."""
    model, key = network(MLP, np.float64), "2.fc1.bias"

    def spoil(state: TrainingState) -> TrainingState:
        params = dict(state.params)
        bias = params.pop(key)
        return dataclasses.replace(state, params=params if change is None else {**params, key: change(bias)})

    with backend("numba"), pytest.raises(error, match=said):
        fit(model, data_for(model, count=20), epochs=1, seed=0, batch_size=8, after_step=spoil)


def test_masks_of_a_hook_must_be_masks() -> None:
    model, key = network(MLP, np.float64), "0.fc0.weight"

    def halve(state: TrainingState) -> TrainingState:
        return dataclasses.replace(state, masks={key: np.full((33, 17), 0.5)})

    said = r"^masks\['0\.fc0\.weight'\] is float64 \(33, 17\), expected bool \(33, 17\)"
    assert_both_refuse(ShapeError, said, model, data_for(model, count=20), after_step=halve)


# --- where the tape has to do -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name, (_, layers, _) in NOT_COVERED.items() if nn.Linear in map(type, layers)]
)
def test_fit_goes_on_the_tape_where_there_is_no_chain(name: str, taken: Counter[str]) -> None:
    shape, layers, _ = NOT_COVERED[name]
    model = nn.Model.init(layers, input_shape=shape, seed=0, dtype=np.float64)
    with backend("numba"):
        fit(model, data_for(model, count=6), epochs=1, seed=0)
    assert taken == {"TapeSteps": 1}


@pytest.mark.parametrize("optimizer", [optim.SGD(), optim.Proximal(optim.SGD())])
def test_fit_goes_on_the_tape_with_other_optimizers(optimizer: optim.Optimizer, taken: Counter[str]) -> None:
    model = network(MLP, np.float64)
    with backend("numba"):
        fit(model, data_for(model, count=6), epochs=1, seed=0, optimizer=optimizer)
    assert taken == {"TapeSteps": 1}


def test_fit_goes_on_the_tape_with_other_data(taken: Counter[str]) -> None:
    """Data with gaps between the numbers. No other type and no other shape gets there."""
    model = network(MLP, np.float64)
    data = data_for(model, count=6)
    gaps = dataclasses.replace(data, x=sealed(np.asfortranarray(data.x)))
    with backend("numba"):
        fit(model, gaps, epochs=1, seed=0)
        assert taken == {"TapeSteps": 1}
        with pytest.raises(DTypeError, match=r"data\.x has dtype float32, the network float64"):
            fit(model, dataclasses.replace(data, x=data.x.astype(np.float32)), epochs=1, seed=0)
        with pytest.raises(ShapeError, match=r"\(6, 16\)"):
            fit(model, dataclasses.replace(data, x=data.x[:, 1:].copy()), epochs=1, seed=0)
    assert taken == {"TapeSteps": 1}


def test_fit_goes_on_the_tape_for_the_truth(taken: Counter[str]) -> None:
    model = network(MLP, np.float64)
    with backend("numpy"):
        fit(model, data_for(model, count=6), epochs=1, seed=0)
    assert taken == {"TapeSteps": 1}


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MLP, CNN])
def test_steps_ask_for_no_memory(name: str) -> None:
    """After the first, a step never holds as much new memory as one batch of inputs takes.

    The network is wide: what flows between its layers is larger than its inputs.
    """
    layers: tuple[nn.Layer, ...] = (nn.Linear("a", 40, 60), nn.ReLU("r"), nn.Linear("b", 60, 45), nn.Linear("c", 45, 3))
    shape: tuple[int, ...] = (40,)
    if name == CNN:
        convolutions = nn.Conv2d("c1", 1, 4, 3, padding=1), nn.Conv2d("c2", 4, 5, 2, padding=1)
        layers, shape = (*convolutions, nn.MaxPool2d("p", 2), nn.Flatten("f"), nn.Linear("fc", 45, 3)), (1, 6, 6)
    model, batch = nn.Model.init(layers, input_shape=shape, seed=0, dtype=np.float64), 256 if not INTERPRETED else 64
    data = data_for(model, count=batch + 5)
    pull = Penalty(alpha=1e-3, l2=1e-3).pull(dict.fromkeys(model.weights, 1.0))
    task = steps.Task(model, data, optim.Adam(), 0.1, 0, Feed(data, 0))
    with backend("numba"):
        runner = steps.steps_for(task, batch_size=batch)
        assert isinstance(runner, steps.ChainSteps)
        runner.begin(TrainingState(model.params, {}, {}, optim.Adam().init(model.params), 0, 9, 1))
        orders = np.arange(batch), np.arange(5), np.arange(batch)[::-1].copy()
        most = new_memory(lambda order: runner.take(order, lr=0.01, pull=pull), orders)
    assert most < data.x[:batch].nbytes


# --- what a hook costs ------------------------------------------------------------------------------------------------


def kept_of(state: TrainingState, how: str) -> Any:
    """A part of a state that a hook may keep."""
    parts = {
        "nothing": lambda: None,
        "the state": lambda: state,
        "one row of one weight": lambda: state.params["0.fc0.weight"][2],
        "a slot": lambda: state.slots.slots["v"]["0.fc0.weight"],
        "a buffer": lambda: memoryview(state.params["0.fc0.weight"]),
    }
    return parts[how]()


@pytest.mark.parametrize("how", ["nothing", "the state", "one row of one weight", "a slot", "a buffer"])
def test_a_hook_that_looks_is_given_views_and_nothing_is_copied(how: str) -> None:
    """By the places in memory: all steps of an epoch are in one, unless a hook holds on to what it saw."""
    model, places, kept, then = network(MLP, np.float64), [], [], []

    def look(state: TrainingState) -> None:
        arrays = [*state.params.values(), *(a for part in state.slots.slots.values() for a in part.values())]
        assert not any(a.flags.owndata or a.flags.writeable for a in arrays)
        places.append([a.ctypes.data for a in arrays])
        if state.step == 2:
            kept.append(kept_of(state, how))
            then.append({k: w.copy() for k, w in state.params.items()})

    with backend("numba"):
        fit(model, data_for(model, count=20), epochs=1, seed=0, batch_size=4, after_step=look)
    assert len(places) == 5
    assert places[0] == places[1]
    assert (places[1] == places[2]) == (how == "nothing")
    assert places[2] == places[3] == places[4]
    if how == "the state":
        assert_close(kept[0].params, then[0], 0.0)
    elif how == "one row of one weight":
        np.testing.assert_array_equal(kept[0], then[0]["0.fc0.weight"][2])
    elif how == "a buffer":
        np.testing.assert_array_equal(np.asarray(kept[0]), then[0]["0.fc0.weight"])


@pytest.mark.parametrize("name", ["numba", "numpy"])
@pytest.mark.parametrize("part", ["params", "slots"])
def test_a_hook_cannot_write_into_a_training(name: str, part: str) -> None:
    model = network(MLP, np.float64)

    def scribble(state: TrainingState) -> None:
        arrays = state.params if part == "params" else state.slots.slots["v"]
        arrays["0.fc0.weight"][0, 0] = 7

    with backend(name), pytest.raises(ValueError, match=r"^assignment destination is read-only"):
        fit(model, data_for(model, count=20), epochs=1, seed=0, batch_size=4, after_step=scribble)


@pytest.mark.parametrize("name", ["numba", "numpy"])
@pytest.mark.parametrize("returned", [None, "the state", "a changed state"])
def test_a_model_trained_with_a_hook_can_be_written(name: str, returned: str | None) -> None:
    def hook(state: TrainingState) -> TrainingState | None:
        if returned == "a changed state":
            return dataclasses.replace(state, carried={"seen": 1.0})
        return state if returned else None

    model = network(MLP, np.float64)
    with backend(name):
        trained, _ = fit(model, data_for(model, count=8), epochs=1, seed=0, batch_size=4, after_step=hook)
    assert all(p.flags.writeable for p in trained.params.values())
    assert not any(np.shares_memory(trained.params[key], model.params[key]) for key in model.params)


def test_a_hook_may_evaluate_what_it_sees() -> None:
    """Arrays that cannot be written go through the compiled chain, and change no bit."""
    model, seen = network(MLP, np.float64), []

    def score(state: TrainingState) -> None:
        seen.append(metrics.evaluate(state.model(model), data_for(model)).loss)

    with backend("numba"):
        looked, _ = fit(model, data_for(model, count=20), epochs=1, seed=0, batch_size=4, after_step=score)
        alone, _ = fit(model, data_for(model, count=20), epochs=1, seed=0, batch_size=4)
    assert all(looked.params[k].tobytes() == w.tobytes() for k, w in alone.params.items())
    assert len(set(seen)) == 5
