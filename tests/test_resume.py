"""A training that was interrupted, and resumed from its files, ends with the bits of an unbroken one."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l0ref
from l0ref import nn, optim, schedules
from l0ref.archive import read_npz, write_npz
from l0ref.checkpoint import load_state, save_state
from l0ref.checkpoint.folder import STEPS, keeping, states
from l0ref.checkpoint.plain import packed, records, unpacked
from l0ref.errors import ArgumentError, CheckpointError, ConfigError, Interrupted, L0RefError
from l0ref.surrogates import Laplace
from l0ref.training import Recipe, TrainingState, fit, follow, resume
from tests.test_masks_hold import sparse_network
from tests.test_training_state import LAYERS, PENALTY, PLAIN, RECIPES, prune_more, samples, summary, trainer

RECIPE = RECIPES["momentum, best"]
DATA, HELD = samples(24, 1), samples(20, 2)


class Stop(Exception):
    """What ends a training here: nothing in the package catches it."""


def stopped_at(last: int) -> Any:
    def step(state: TrainingState) -> TrainingState:
        if state.step == last:
            raise Stop
        return prune_more(state)

    return step


def begun(folder: Path | None, recipe: Recipe, layers: Any, *, every: float = 1, last: int = -1) -> Any:
    model = nn.Model.init(layers, input_shape=(32,), seed=0)
    options: dict[str, Any] = {"seed": 5, "validation": HELD, "after_step": stopped_at(last), "progress": "none"}
    return follow(recipe, model, DATA, checkpoint=folder, checkpoint_every=every, **options)


def gone_on(folder: Path, **options: Any) -> list[Any]:
    given = {"validation": HELD, "after_step": prune_more, "progress": "none"} | options
    return summary(resume(folder, DATA, **given))


def interrupted(folder: Path, *, every: float = 0.0, last: int = 7, recipe: Recipe = RECIPE) -> Path:
    with pytest.raises(Stop):
        begun(folder, recipe, LAYERS, every=every, last=last)
    return folder


def optimizers() -> list[optim.Optimizer]:
    return [optim.by_name(name, lr=0.01) for name in optim.names()] + [optim.SGD(lr=0.05, momentum=0.9, nesterov=True)]


def slow_but_adam(optimizer: optim.Optimizer) -> Any:
    """One optimiser is enough for the quick run; the slow tests take all of them."""
    return pytest.param(optimizer, id=repr(optimizer), marks=[] if type(optimizer) is optim.Adam else pytest.mark.slow)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("layers", [PLAIN, LAYERS], ids=["chain", "dropout and batch norm"])
@pytest.mark.parametrize("optimizer", [slow_but_adam(each) for each in optimizers()])
def test_interrupted_and_resumed_equals_unbroken(
    optimizer: optim.Optimizer, layers: Any, backend: str, tmp_path: Path
) -> None:
    recipe = Recipe(3, penalty=PENALTY, batch_size=7, optimizer=optimizer, select="best")
    with l0ref.backend(backend):
        unbroken = summary(begun(None, recipe, layers))
        for number, (last, every, step) in enumerate([(7, 0.0, 6), (7, 1, 4), (5, 0.0, 4), (12, 0.0, 11), (9, 2, 8)]):
            folder = tmp_path / str(number)
            with pytest.raises(Stop):
                begun(folder, recipe, layers, every=every, last=last)
            assert load_state(states(folder)[-1]).state.step == step
            assert gone_on(folder) == unbroken
            assert gone_on(folder) == unbroken  # the training that has ended


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_resumed_again_and_again(recipe: Recipe, tmp_path: Path) -> None:
    unbroken = summary(begun(None, recipe, LAYERS))
    interrupted(tmp_path, last=2, recipe=recipe)
    for last in range(3, 12):
        with pytest.raises(Stop):
            gone_on(tmp_path, after_step=stopped_at(last), checkpoint_every=0.0)
        assert len(states(tmp_path)) <= 2
    assert gone_on(tmp_path, checkpoint_every=0.0) == unbroken
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in states(tmp_path)]  # no litter


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_sparse_layers_go_on(backend: str, tmp_path: Path) -> None:
    """A compact network, some of its stored weights masked, trained further."""
    model, data = sparse_network()
    recipe = Recipe(3, penalty=PENALTY, batch_size=7, optimizer=optim.Proximal(optim.Adam(lr=0.01)))

    def stopped(last: int) -> Any:
        def step(state: TrainingState) -> None:
            if state.step == last:
                raise Stop

        return step

    options: dict[str, Any] = {"progress": "none", "checkpoint_every": 0.0}
    with l0ref.backend(backend):
        unbroken = summary(follow(recipe, model, data, seed=5, after_step=stopped(-1), progress="none"))
        for last in (3, 6, 8):
            folder = tmp_path / str(last)
            with pytest.raises(Stop):
                follow(recipe, model, data, seed=5, after_step=stopped(last), checkpoint=folder, **options)
            with pytest.raises(Stop):
                resume(folder, data, after_step=stopped(last + 2), **options)
            assert load_state(states(folder)[-1]).state.step == last + 1
            assert summary(resume(folder, data, after_step=stopped(-1), **options)) == unbroken


def test_keeping_changes_no_bit(tmp_path: Path) -> None:
    for layers in (PLAIN, LAYERS):
        assert summary(begun(tmp_path / layers[1].name, RECIPE, layers, every=0.0)) == summary(
            begun(None, RECIPE, layers)
        )


def test_ctrl_c_keeps_the_last_whole_epoch(tmp_path: Path) -> None:
    def press(state: TrainingState) -> TrainingState:
        if state.step == 6:
            raise KeyboardInterrupt
        return prune_more(state)

    model = nn.Model.init(LAYERS, input_shape=(32,), seed=0)
    options: dict[str, Any] = {"seed": 5, "validation": HELD, "after_step": press, "progress": "none"}
    with pytest.raises(Interrupted, match="training was interrupted"):
        follow(RECIPE, model, DATA, checkpoint=tmp_path, checkpoint_every=100, **options)
    assert gone_on(tmp_path) == summary(begun(None, RECIPE, LAYERS))


# --- other processes, killed ones ---------------------------------------------------------------------------------

CHILD = """
import os, resource, signal, sys
from pathlib import Path
from tests.test_resume import *
folder, last, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def trained_until(folder, last, how):
    def fatal(state):
        if state.step == last:
            if how == "write":
                import l0ref.archive.atomic as atomic
                atomic.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
            elif how == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return prune_more(state)
    model = nn.Model.init(LAYERS, input_shape=(32,), seed=0)
    return follow(RECIPE, model, DATA, seed=5, validation=HELD, after_step=fatal, progress="none",
                  checkpoint=folder, checkpoint_every=0.0)
if how == "resume":
    print(digest(gone_on(folder)))
elif how == "fifty":
    with l0ref.backend("numpy"):  # no threads, so that a fork is sound
        unbroken, rng = summary(begun(None, RECIPE, LAYERS)), np.random.default_rng(0)
        for number in range(50):
            each, kind = folder / str(number), ("step", "write")[number % 2]
            if (pid := os.fork()) == 0:
                trained_until(each, int(rng.integers(2, 13)), kind)
                os._exit(0)
            rng.integers(2, 13)  # as the fork drew
            assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
            assert gone_on(each) == unbroken
            assert sorted(p.name for p in each.iterdir()) == [p.name for p in states(each)]
    print("fifty")
else:
    print(digest(summary(trained_until(folder, last, how))))
"""


def digest(found: list[Any]) -> str:
    return hashlib.sha256(repr(found).encode()).hexdigest()


def child(folder: Path, last: int, how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, os.fspath(folder), str(last), how]
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": os.fspath(root)}
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("last", "how"), [(6, "step"), (7, "write")])
def test_killed(last: int, how: str, tmp_path: Path) -> None:
    assert child(tmp_path, last, how).returncode == -signal.SIGKILL
    assert gone_on(tmp_path) == summary(begun(None, RECIPE, LAYERS))
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in states(tmp_path)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_fifty_moments(tmp_path: Path) -> None:
    found = child(tmp_path, 0, "fifty")
    assert found.stdout.strip() == "fifty", found.stderr


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_full_disk_keeps_the_state_before_and_the_training_goes_on(tmp_path: Path) -> None:
    found = child(tmp_path, 6, "full")
    unbroken = summary(begun(None, RECIPE, LAYERS))
    assert "was not written: File too large; training continues, and an earlier state is kept" in found.stderr
    assert found.stdout.strip() == digest(unbroken)
    assert [load_state(path).state.step for path in states(tmp_path)] == [4, 5]
    assert child(tmp_path, 0, "resume").stdout.strip() == digest(unbroken)  # another process


# --- damaged, hostile and foreign files ---------------------------------------------------------------------------


def truncated(data: bytearray) -> bytearray:
    return data[: len(data) // 2]


def flipped(data: bytearray) -> bytearray:
    data[len(data) // 3] ^= 4
    return data


def emptied(_: bytearray) -> bytearray:
    return bytearray()


@pytest.mark.parametrize("spoil", [truncated, flipped, emptied], ids=["cut", "flipped", "empty"])
def test_the_one_before_a_damaged_file_is_taken_and_said(spoil: Any, tmp_path: Path) -> None:
    before, last = states(interrupted(tmp_path))
    last.write_bytes(spoil(bytearray(last.read_bytes())))
    said = rf"{last.name}'.*continues from the earlier '{before.name}'"
    with pytest.warns(UserWarning, match=said), pytest.raises(Stop):
        gone_on(tmp_path, after_step=stopped_at(7), checkpoint_every=0.0)
    assert [load_state(path).state.step for path in states(tmp_path)] == [5, 6]
    assert gone_on(tmp_path) == summary(begun(None, RECIPE, LAYERS))
    for path in states(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"^folder=.* holds no sound state of a training: path="):
        gone_on(tmp_path)


def test_same_state_same_bytes_and_back(tmp_path: Path) -> None:
    path = states(interrupted(tmp_path / "a"))[-1]
    found = load_state(path)
    again = found.trainer(DATA, validation=HELD, after_step=prune_more)
    save_state(tmp_path / "b.npz", again, found.state)
    assert (tmp_path / "b.npz").read_bytes() == path.read_bytes()
    assert found.recipe == RECIPE


SLOT = "slots.v.fc1.weight"
HOSTILE: dict[str, Any] = {
    "kind": lambda m, _: m.update(kind="l0ref model"),
    "version": lambda m, _: m.update(version=2),
    "no step": lambda m, _: m.pop("step"),
    "step below 0": lambda m, _: m.update(step=-1),
    "step of text": lambda m, _: m.update(step="6"),
    "recipe of another class": lambda m, _: m.update(recipe={"SGD": {}}),
    "unknown class": lambda m, _: m.update(recipe={"os.system": {"command": "true"}}),
    "unknown field": lambda m, _: m["recipe"]["Recipe"].update(command="true"),
    "two keys": lambda m, _: m["carried"].update(more={}),
    "bare list": lambda m, _: m.update(carried=[1]),
    "deep": lambda m, _: m.update(carried=_deep(400)),
    "array that is not there": lambda m, _: m.update(carried={"array": "carried.77"}),
    "dropout of another generator": lambda m, _: m.update(dropout={"dict": {"bit_generator": "MT19937"}}),
    "dropout of numbers": lambda m, _: m.update(dropout=3),
    "history without rows": lambda m, _: m.update(history={"dict": {"lines": 1}}),
    "best is a word": lambda m, _: m.update(best="model"),
    "slots of another key": lambda m, _: m["slots"]["names"].update(v=["fc9.weight"]),
    "no slots": lambda m, _: m["slots"].update(names={}),
    "history of words": lambda m, _: m.update(history={"dict": {"rows": {"tuple": ["a"]}}}),
    "slot of another shape": lambda _, a: a.update({SLOT: np.zeros(3, np.float32)}),
    "parameter of another shape": lambda _, a: a.update({"model.fc1.weight": np.zeros((2, 2), np.float32)}),
    "parameter not finite": lambda _, a: a["model.fc2.weight"].fill(np.nan),
    "masked weight not 0": lambda _, a: a["model.fc1.weight"].fill(1.0),
    "seed of text": lambda m, _: m["run"].update(seed="5"),
    "run without data": lambda m, _: m["run"].pop("data"),
    "huge layer": lambda m, _: m.update(model=m["model"] | {"architecture": "[" * 100000}),
}


def _deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"dict": {"a": value}}
    return {"dict": {"a": value, "array": {"array": "none"}}}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused(name: str, tmp_path: Path) -> None:
    path = states(interrupted(tmp_path))[-1]
    arrays, manifest = read_npz(path, allow_nonfinite=True)
    assert SLOT in arrays
    HOSTILE[name](manifest, arrays)
    write_npz(path, arrays, manifest=manifest, allow_nonfinite=True)
    with pytest.raises(
        CheckpointError, match=r"^path='.*npz' (is not a sound state of a training: |holds '.*expected)"
    ):
        load_state(path)


def test_other_data_and_other_hooks_are_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    other = samples(24, 3)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"validation": None}, r"^validation=no samples differs from that of .*; pass the samples it began with"),
        ({"validation": other}, r"^validation=Dataset.* differs"),
        ({"after_step": None}, r"^after_step=None, but the training began with a function; pass the same hooks"),
        ({"after_epoch": lambda *_: None}, r"^after_epoch=<.*, but the training began without"),
        ({"checkpoint_every": 0}, r"^checkpoint_every=0 must be at least 1"),
        ({"checkpoint_every": -1.0}, r"^checkpoint_every=-1.0 must be 0 or greater"),
    ]
    for options, said in wrong:
        with pytest.raises(L0RefError, match=said):
            gone_on(tmp_path, **options)
    with pytest.raises(ArgumentError, match=r"^data=Dataset.* differs"):
        resume(tmp_path, other, validation=HELD, after_step=prune_more)


def test_folder_of_another_training_or_process_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path / "a")
    with pytest.raises(ArgumentError, match=r"^checkpoint=.* holds states of another training; continue it with"):
        begun(tmp_path / "a", RECIPE, LAYERS)
    with keeping(tmp_path / "a", every=1, begin=False), pytest.raises(ConfigError, match=f"process {os.getpid()};"):
        gone_on(tmp_path / "a")
    with pytest.raises(ArgumentError, match=r"^folder=.* is not a folder; pass the one"):
        gone_on(tmp_path / "b")
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"^checkpoint=.* is not a folder and cannot be made: File exists; choose"):
        begun(tmp_path / "c", RECIPE, LAYERS)
    (tmp_path / "d").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no sound state of a training: there is none"):
        gone_on(tmp_path / "d")


def test_another_release_is_warned_of(tmp_path: Path) -> None:
    with l0ref.backend("numba"):
        interrupted(tmp_path)
    with l0ref.backend("numpy"), pytest.warns(UserWarning, match=r"written under another backend; the bits may differ"):
        gone_on(tmp_path)


def test_masked_weight_that_is_not_zero_is_not_written(tmp_path: Path) -> None:
    found = load_state(states(interrupted(tmp_path))[-1])
    ones = {key: np.ones_like(w) for key, w in found.state.params.items()}
    whole = trainer(RECIPE, LAYERS)
    with pytest.raises(ArgumentError, match=r"^state.params\['fc1.weight'\] is not 0 where its mask removes it"):
        save_state(tmp_path / "x.npz", whole, dataclasses.replace(found.state, params=ones))


# --- values as JSON -----------------------------------------------------------------------------------------------


def test_every_registered_record_comes_back() -> None:
    made = {name: cls() if name != "Recipe" else RECIPE for name, cls in records().items() if _has_defaults(cls)}
    assert {"Recipe", "Adam", "Proximal", "Penalty", "Cosine", "L1"} <= made.keys()
    for value in (*made.values(), Laplace(beta=3.0)):
        assert unpacked(packed(value, {}, "x"), {}) == value


def _has_defaults(cls: type) -> bool:
    if not cls.__module__.startswith("l0ref."):  # other tests register classes of their own
        return False
    missing = dataclasses.MISSING
    needed = [f for f in dataclasses.fields(cls) if f.init and f.default is missing and f.default_factory is missing]
    return not needed or cls is Recipe


def test_nested_values_come_back() -> None:
    arrays: dict[str, Any] = {}
    value = {"a": (1, [2.5, None, True], float("-inf")), "b": {"c": np.arange(3), "d": np.float32(0.1)}, "e": "word"}
    back = unpacked(packed(value, arrays, "carried"), arrays)
    assert (back["a"], back["e"]) == (value["a"], "word")
    assert type(back["a"]) is tuple
    np.testing.assert_array_equal(back["b"]["c"], np.arange(3))
    assert back["b"]["d"] == np.float32(0.1)
    assert type(back["b"]["d"]) is np.float32
    with pytest.raises(ArgumentError, match=r"^carried holds object, which a checkpoint cannot hold; use numbers"):
        packed(object(), {}, "carried")


def test_fit_takes_a_folder(tmp_path: Path) -> None:
    model = nn.Model.init(PLAIN, input_shape=(32,), seed=0)
    options: dict[str, Any] = {"epochs": 2, "seed": 0, "progress": "none", "schedule": schedules.Cosine()}
    whole = fit(model, DATA, checkpoint=tmp_path / "run", **options)
    assert summary(resume(tmp_path / "run", DATA, progress="none")) == summary(whole)
    assert len(list((tmp_path / "run").glob(STEPS))) == 2
