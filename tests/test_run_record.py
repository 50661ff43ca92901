"""A run that is repeated in its folder goes on where it was, and ends with the bits of an unbroken one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l0ref
from l0ref import optim
from l0ref.checkpoint import load_state, recording
from l0ref.checkpoint import run as record_module
from l0ref.checkpoint.folder import FolderKeeper, states
from l0ref.checkpoint.identity import digest
from l0ref.errors import CheckpointError, ConfigError
from l0ref.experiment import Experiment, run_experiment
from l0ref.methods import METHODS, Pruned
from l0ref.nn import Model
from l0ref.penalty import Penalty
from l0ref.pruning import Compressed, Cut, compress
from l0ref.training import Recipe
from tests.method_contract import networks

TRAINERS = [name for name, method in METHODS.items() if method.kind == "training"]
QUIET: dict[str, Any] = {"progress": "none", "seed": 3}
TRAIN = Recipe(3, batch_size=8, penalty=Penalty(alpha=1e-3), optimizer=optim.Adam(lr=0.01))
TUNE = Recipe(2, batch_size=8, optimizer=optim.SGD(lr=0.05, momentum=0.9), select="best")


class Stop(BaseException):
    """What ends a process here: nothing in the package catches it."""


def plain(value: Any) -> Any:
    """Every bit of a result but the clock, comparable with ==."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, Model):
        return [value.architecture, plain(value.params), plain(value.masks), plain(value.buffers)]
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items() if k != "seconds"}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "seconds"}
    return value


class Kills(FolderKeeper):
    """A keeper that ends the process when the state of some number, counted over the run, has been written."""

    left = 0

    def keep(self, *args: Any) -> None:
        super().keep(*args)
        Kills.left -= 1
        if Kills.left == 0:
            raise Stop


def survives(work: Callable[[], Any], folder: Path, monkeypatch: pytest.MonkeyPatch, *, stride: int) -> Any:
    """The result of work that is ended and begun again, each time `stride` states further."""
    monkeypatch.setattr(record_module, "FolderKeeper", Kills)
    monkeypatch.setattr("l0ref.archive.atomic.os.fsync", lambda _: None)  # a kill is not a power cut
    for _ in range(500):
        Kills.left = stride
        try:
            with recording(folder, checkpoint_every=0.0):
                return plain(work())
        except Stop:
            continue
    raise AssertionError("it does not end")


def training_method(name: str, kind: str) -> Callable[[], Pruned]:
    model, data = networks()[kind]
    return functools.partial(METHODS[name].run, model, data, amount=0.5, seed=3, epochs=3)


@pytest.mark.parametrize("name", TRAINERS)
def test_every_method_that_trains_goes_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in networks():
        work = training_method(name, kind)
        unbroken = plain(work())
        for stride in (1, 2):
            assert survives(work, tmp_path / f"{kind}{stride}", monkeypatch, stride=stride) == unbroken


def experiment(**options: Any) -> Callable[[], Experiment]:
    model, data = networks()["mlp"]
    given: dict[str, Any] = {"train": TRAIN, "finetune": TUNE, "cut": Cut(0.6), **QUIET, **options}
    return functools.partial(run_experiment, model, data, **given)


JOBS = {
    "rounds, controls and a curve": experiment(
        rounds=2, controls=("none", "l1", "random"), control_l1=1e-3, curve=(2,)
    ),
    "gradual, with a control": experiment(gradual=TRAIN, controls=("l2",), control_l2=1e-3),
    "a method that trains, in rounds": experiment(cut=Cut(0.6, method="slr", options={"epochs": 2}), rounds=2),
}


TRAINS = "a method that trains, in rounds"  # the job that stays quick on the tape; on the chain all do
GOES_ON = [(job, name) for job in JOBS for name in ("numba", "numpy")]


@pytest.mark.parametrize(
    ("job", "backend"),
    [pytest.param(*each, marks=[pytest.mark.slow] * (each[1] == "numpy" and each[0] != TRAINS)) for each in GOES_ON],
)
def test_every_phase_goes_on(job: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with l0ref.backend(backend):
        unbroken = plain(JOBS[job]())
        assert survives(JOBS[job], tmp_path, monkeypatch, stride=29) == unbroken
        folders = sorted(p for p in tmp_path.iterdir() if p.is_dir())
        assert all(len(states(p)) == 1 for p in folders)
        assert sorted(p.name for p in tmp_path.rglob("*.*") if p.name.startswith(".")) == []
        with monkeypatch.context() as patch:  # all trainings have ended: none takes a step
            patch.setattr(l0ref.training.Trainer, "run_epoch", None)
            with recording(tmp_path):
                assert plain(JOBS[job]()) == unbroken


def test_a_record_changes_no_bit_and_counts_earlier_seconds(tmp_path: Path) -> None:
    work = JOBS["gradual, with a control"]
    with recording(tmp_path, checkpoint_every=1):
        first = work()
    assert plain(first) == plain(work())
    with recording(tmp_path):
        again = work()
    for run, rows in ((run, run.rows) for run in again.runs.values()):
        spent = [rows[TRAIN.epochs - 1], rows[2 * TRAIN.epochs - 1], rows[-1]]
        assert all(stage.seconds >= row["seconds"] for stage, row in zip(run.stages, spent, strict=True))


def small(**changes: Any) -> Callable[[], Compressed]:
    model, data = networks()["mlp"]
    given: dict[str, Any] = {"train": TRAIN, "finetune": TUNE, "cut": Cut(0.6), **QUIET, **changes}
    return functools.partial(compress, model, data, **given)


CHANGES: dict[str, tuple[dict[str, Any], int]] = {  # and how many trainings do not depend on it
    "fine-tuning": ({"finetune": dataclasses.replace(TUNE, epochs=3)}, 1),
    "the cut": ({"cut": Cut(0.7)}, 1),
    "the schedule of the cut": ({"gradual": TRAIN, "cut": Cut(0.7)}, 1),
    "training": ({"train": dataclasses.replace(TRAIN, label_smoothing=0.1)}, 0),
    "the seed": ({"seed": 4}, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_run_is_refused_or_trained_anew_from_where_it_differs(change: str, tmp_path: Path) -> None:
    changes, first = CHANGES[change]
    gradual = {"gradual": TRAIN} if "gradual" in changes else {}
    with recording(tmp_path):
        small(**gradual)()
    kept = {p.parent.name: p.stat().st_mtime_ns for p in tmp_path.rglob("step-*.npz")}
    with (
        recording(tmp_path),
        pytest.raises(CheckpointError, match=r"holds states of another training than the one tha"),
    ):
        small(**changes)()
    with recording(tmp_path, override=True):
        found = plain(small(**changes)())
    assert found == plain(small(**changes)())
    left = {p.parent.name for p in tmp_path.rglob("step-*.npz") if kept.get(p.parent.name) == p.stat().st_mtime_ns}
    assert left == set(sorted(kept)[:first])


def test_two_processes_cannot_share_a_record(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigError, match=r"^folder=.* is in use by process \d+")
    with recording(tmp_path), refused, recording(tmp_path):
        raise AssertionError


def test_a_damaged_end_is_trained_again_and_said(tmp_path: Path) -> None:
    with recording(tmp_path):
        unbroken = plain(small()())
    (last,) = (tmp_path / "0000-train").iterdir()
    last.write_bytes(last.read_bytes()[:-100])
    with recording(tmp_path), pytest.warns(UserWarning, match=r"holds no sound state.*This training begins anew"):
        assert plain(small()()) == unbroken


def test_a_training_of_a_record_is_not_resumed_alone(tmp_path: Path) -> None:
    with recording(tmp_path):
        small()()
    with pytest.raises(CheckpointError, match=r"not a sound state of a training: recipe is None"):
        load_state(states(tmp_path / "0000-train")[0])


def test_the_identity_tells_values_apart() -> None:
    def closure(value: Any) -> Callable[[], Any]:
        return lambda: value

    model, data = networks()["mlp"]
    other = model.replace(params={k: p + 1e-9 for k, p in model.params.items()})
    masked = model.replace(masks={"fc1.weight": np.ones((10, 12), bool)})
    different: list[Any] = [
        1, 1.0, True, "1", b"1", None, [1], (1,), [[1]], {1: 1}, {"1": 1}, {1}, np.float32(1), np.float64(1),
        np.ones(1), np.ones(1, np.float32), np.ones((1, 1)), closure(1), closure(2), closure(model), closure(other),
        functools.partial(closure, 1), functools.partial(closure, 2), functools.partial(closure, value=1), closure,
        model, other, masked, data, data.train, data.validation, TRAIN, TUNE, dataclasses.replace(TUNE, epochs=3),
        Penalty(), Penalty(alpha=1e-3), {"a": 1, "b": 2}, {"b": 1, "a": 2}, np.random.default_rng(0),
        np.random.default_rng(1), Cut(0.5), Cut(0.6), float("nan"), int, float, ["ab", "c"], ["a", "bc"],
    ]  # fmt: skip
    found = [digest(value) for value in different]
    assert len(set(found)) == len(different)
    again = networks()["mlp"]
    assert [digest(v) for v in (again[0], again[1].train)] == [digest(model), digest(data.train)]
    own: list[Any] = [1]
    own.append(own)
    assert digest(own) == digest(own)
