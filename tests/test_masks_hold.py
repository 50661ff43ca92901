"""A removed weight is exactly 0 after every step, which a debug mode checks; bad optimisers and methods are caught."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest

import l0ref
from l0ref import nn, optim, schedules
from l0ref.data import Dataset
from l0ref.errors import ArgumentError
from l0ref.fast.step import update
from l0ref.methods import METHODS, Method, Pruned
from l0ref.optim import Adam
from l0ref.penalty import Penalty
from l0ref.sparse import BlockPattern, Pattern
from l0ref.surrogates import SURROGATES, Laplace
from l0ref.training import Recipe, TrainingState, fit, follow
from l0ref.training.loop import CHECKED
from tests.method_contract import networks, run
from tests.test_training_state import LAYERS, PLAIN, prune_more, samples

DATA = samples(24, 1)
OPTIMIZERS = [
    *(optim.by_name(name, lr=0.05) for name in optim.names()),
    optim.SGD(lr=0.05, momentum=0.9, nesterov=True),
    optim.AdamW(lr=0.05, weight_decay=0.1),
    optim.Proximal(optim.Adam(lr=0.05), metric="euclidean"),
]
SCHEDULES = [schedules.by_name(name) for name in schedules.names()]
NEEDED = {"beta": 3.0, "sigma": 0.5, "eps": 0.1, "theta": 0.3, "lam": 0.5, "p": 0.5, "a": 3.7}
PENALTIES = [
    cls(**{f.name: NEEDED[f.name] for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING})
    for cls in SURROGATES.values()
    if cls.__module__.startswith("l0ref.")
]
REFUSED = r"^state.params\['{}'\] is not 0 where its mask removes it; use state.with_masks"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The debug mode, and how often it looked."""
    counts: Counter[str] = Counter()
    check = TrainingState.check_masks

    def counted(state: TrainingState) -> None:
        counts["states"] += 1
        counts["removed"] += sum(int((~keep).sum()) for keep in state.masks.values())
        check(state)

    monkeypatch.setattr(TrainingState, "check_masks", counted)
    monkeypatch.setenv(CHECKED, "1")
    return counts


def masked(layers: tuple[nn.Layer, ...]) -> nn.Model:
    rng = np.random.default_rng(0)
    model = nn.Model.init(layers, input_shape=(32,), seed=0)
    return model.replace(masks={k: rng.random(model.params[k].shape) < 0.4 for k in model.weights})


def trained(model: nn.Model, recipe: Recipe, data: Any = DATA, **options: Any) -> nn.Model:
    return follow(recipe, model, data, **{"seed": 0, "progress": "none"} | options)[0]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer_prox_and_schedule(optimizer: Any, backend: str, checks: Counter[str]) -> None:
    surrogates = PENALTIES if isinstance(optimizer, optim.Proximal) else [Laplace(beta=3.0)]
    settings = [(phi, schedules.Constant()) for phi in surrogates] + [(Laplace(beta=3.0), each) for each in SCHEDULES]
    with l0ref.backend(backend):
        for number, (phi, schedule) in enumerate(settings):
            penalty = Penalty(phi, alpha=1e-2, l2=1e-3)
            recipe = Recipe(
                1, penalty=penalty, batch_size=6, optimizer=optimizer, schedule=schedule, monitor="val_acc1"
            )
            trained(masked(PLAIN), recipe, validation=DATA)
            assert checks["states"] == 4 * (number + 1)
        assert checks["removed"] > 0
        trained(masked(LAYERS), recipe, validation=DATA, after_step=prune_more)


def sparse_network() -> tuple[nn.Model, Dataset]:
    """Every kind of sparse layer, some of the stored weights masked, and samples."""
    rng = np.random.default_rng(2)
    stored = {shape: rng.random(shape) < 0.4 for shape in ((3, 18), (20, 48), (4, 20))}
    conv, rows = (Pattern.from_mask(stored[shape]) for shape in ((3, 18), (20, 48)))
    tiles = BlockPattern.from_mask(stored[4, 20], blocksize=2)
    layers = (
        nn.SparseConv2d("conv", 2, 3, 3, conv, padding=1), nn.ReLU("r1"), nn.Flatten("f"),
        nn.SparseLinear("rows", 48, 20, rows), nn.ReLU("r2"), nn.SparseLinear("tiles", 20, 4, tiles),
    )  # fmt: skip
    model = nn.Model.init(layers, input_shape=(2, 4, 4), seed=0)
    drawn = {k: rng.normal(0, 0.3, p.shape).astype(np.float32) for k, p in model.params.items()}
    keep = {k: rng.random(drawn[k].shape) < 0.6 for k in model.weights}
    x = rng.normal(size=(24, 2, 4, 4)).astype(np.float32)
    return model.replace(params=drawn, masks=keep), Dataset(x, rng.integers(0, 4, 24), 4, "noise")


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_sparse_layers(backend: str, checks: Counter[str]) -> None:
    model, data = sparse_network()
    with l0ref.backend(backend):
        trained(model, Recipe(2, batch_size=6, penalty=Penalty(alpha=1e-3)), data)
    assert checks["states"] == 8
    assert checks["removed"] > 8 * 3


@pytest.mark.parametrize("name", METHODS)
def test_every_method(name: str, checks: Counter[str]) -> None:
    for model, data in networks().values():
        found = run(METHODS[name], model, data, amount=0.5, seed=0).model
        trained(found, Recipe(1, batch_size=16, optimizer=optim.SGD(lr=0.1, momentum=0.9)), data.train)
    assert checks["removed"] > 0


class Careless(Adam):
    """Adam that does not read masks."""

    def step(self, *args: Any, masks: Any = None, **options: Any) -> Any:
        return super().step(*args, masks={}, **options)


def revive(state: TrainingState) -> TrainingState:
    return dataclasses.replace(state, params={k: w + np.float32(1e-30) for k, w in state.params.items()})


def reviving(model: nn.Model, data: Any, **_: Any) -> Pruned:
    keep = {k: np.arange(model.params[k].size).reshape(model.params[k].shape) % 2 > 0 for k in model.weights}
    net, _ = fit(model.replace(masks=keep), data.train, epochs=1, seed=0, after_step=revive, progress="none")
    return Pruned(net)


def test_a_bad_optimizer_hook_kernel_and_method_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(flat: Any, **options: Any) -> None:
        step(flat, **options)
        flat.w[~flat.keep] = 1e-6

    model, data = networks()["mlp"]
    bad = Method("reviving", reviving, "nobody", "training", ("weights",), "weight", (), "", random=False)
    faults = {
        "optimizer": lambda: trained(masked(PLAIN), Recipe(1, optimizer=Careless())),
        "hook of a step": lambda: trained(masked(PLAIN), Recipe(1), after_step=revive),
        "hook of an epoch": lambda: trained(masked(PLAIN), Recipe(1), after_epoch=lambda state, _: revive(state)),
        "method": lambda: bad.function(model, data),
    }
    for fault in faults.values():
        fault()  # not seen: the model at the end is under its masks
    monkeypatch.setenv(CHECKED, "1")
    for fault in faults.values():
        with pytest.raises(ArgumentError, match=REFUSED.format("fc1.weight")):
            fault()
    step = update.adam_step_here
    monkeypatch.setattr(update, "adam_step_here", leaking)
    with l0ref.backend("numba"), pytest.raises(ArgumentError, match=REFUSED.format("fc1.weight")):
        trained(masked(PLAIN), Recipe(1))
