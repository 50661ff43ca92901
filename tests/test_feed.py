"""Augmentation and a teacher reach every training there is: each phase of the pipeline, and those inside methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.distillation import Feed, Soft, Teacher
from l0ref.errors import ArgumentError
from l0ref.experiment import run_experiment
from l0ref.methods import METHODS, Pruned
from l0ref.methods.registry import method
from l0ref.pruning import Cut, StagedCuts
from l0ref.training import Recipe
from l0ref.validate import Array
from tests.test_run_record import plain, survives
from tests.test_stages import PENALTY, network, samples

TRAINERS = [name for name, each in METHODS.items() if each.kind == "training"]
EPOCH = Recipe(1, batch_size=16)
BATCHES = 4  # of the 60 samples
Counts = Counter[str]


class Doubled:
    """A batch transform that can be told from none, and counts its batches."""

    def __init__(self, seen: Counts) -> None:
        self._seen = seen

    def __call__(self, x: Array, *, seed: int, epoch: int, index: Array) -> Array:
        self._seen["batches"] += 1
        return 2 * x


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    """How many batches went through a transform, and how many came with what the teacher says of them."""
    found: Counts = Counter()
    soft = Feed.soft

    def asked(feed: Feed, order: Array, x: Array, epoch: int) -> Soft | None:
        answer = soft(feed, order, x, epoch)
        if answer is not None:
            assert feed.teacher is not None
            own = x if feed.transform is not None else feed.data.x[order]
            np.testing.assert_allclose(answer.q, feed.teacher.soft(own).q, rtol=1e-12)
            found["asked"] += 1
        return answer

    monkeypatch.setattr(Feed, "soft", asked)
    return found


def teacher() -> Teacher:
    return Teacher(nn.mlp((20, 30, 3), seed=7, dtype=np.float64))


GRADUAL = Recipe(3, batch_size=16)
WAYS: dict[str, tuple[dict[str, Any], float]] = {  # what is asked for, and its epochs in batches of 16
    "one cut": ({}, 1 + 1),
    "rounds": ({"rounds": 3}, 1 + 3),
    "stages": ({"stages": StagedCuts((2.0, 5.0, 9.0), 2, PENALTY)}, 1 + 2 + 2 + 1),
    "gradual": ({"gradual": GRADUAL}, 1 + 3 + 1),
    "a control": ({"controls": ("l2",), "control_l2": 1e-3}, 2 * (1 + 1)),
    "the curve": ({"curve": (2.0, 3.0)}, 1 + 1 + 2),
    # inside of methods an epoch is one batch
    **{name: ({"cut": Cut(0.5, method=name, options={"epochs": 2})}, 1 + 2 / BATCHES + 1) for name in TRAINERS},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_batch_of_every_training_is_fed(way: str, seen: Counts) -> None:
    """As many batches pass through the transform, and get the teacher's answer, as there are steps."""
    asked, epochs = WAYS[way]
    job: dict[str, Any] = {"train": EPOCH, "cut": Cut(0.9), "finetune": EPOCH, "seed": 2, "progress": "none"} | asked
    run_experiment(network("mlp"), samples("mlp"), **job, batch=Doubled(seen), teacher=teacher())
    assert seen == {"batches": epochs * BATCHES, "asked": epochs * BATCHES}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_method_that_trains_learns_from_its_feed(name: str, seen: Counts) -> None:
    """A transform and a teacher change what is learnt; a transform that changes nothing leaves every bit."""
    model, data = network("mlp"), samples("mlp")

    def weights(**feed: Any) -> Any:
        found = METHODS[name].run(model, data, amount=0.5, seed=1, feed=feed, epochs=2)
        return plain(found.model)

    bare = weights()
    assert weights(batch=lambda x, **_: x) == bare
    assert weights(batch=Doubled(seen)) != bare
    assert weights(teacher=teacher()) != bare


def test_a_fed_method_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, feed = network("mlp"), samples("mlp"), {"teacher": teacher()}

    def work() -> Pruned:
        return METHODS["slr"].run(model, data, amount=0.5, seed=1, feed=feed, epochs=2)

    unbroken = plain(work().model)
    assert survives(lambda: work().model, tmp_path, monkeypatch, stride=3) == unbroken


def test_a_method_that_trains_without_a_feed_is_refused() -> None:
    def deaf(model: Any, data: Any, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0) -> Any:
        raise NotImplementedError

    said = r"^function of method='deaf' does not take feed; every method that trains does$"
    with pytest.raises(ArgumentError, match=said):
        method("deaf", paper="none", kind="training", reads=("training",))(deaf)
    assert "deaf" not in METHODS
    assert all("feed" not in each.options for each in METHODS.values())
    with pytest.raises(ArgumentError, match=r"^feed=1 is not an option of method='slr'"):
        Cut(0.5, method="slr", options={"feed": 1})
