"""What people meet in their first minutes: how a model prints, and messages whose remedy leads on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import compact, fit, metrics, nn, prune
from l0ref.data import Dataset
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.pruning import Compressed, Stage

X = np.zeros((3, 4))
NORM = nn.Model.init([nn.Linear("a", 4, 3), nn.BatchNorm1d("b", 3)], input_shape=(4,), seed=0, dtype=np.float64)
LABELS: Any = {"one-hot": np.eye(3), "whole": np.eye(3, dtype=int), "text": ["a", "b", "a"]}
any_nn: Any = nn


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: any_nn.Conv2d(3, 16, 3), ArgumentError, r"name=3 of a Conv2d .*Conv2d\('layer1', 3, 16, 3\)$"),
        (lambda: any_nn.Linear(name=3, in_features=1, out_features=2), ArgumentError, "name=3 of a Linear must be"),
        (
            lambda: any_nn.Model.init([], input_shape=4, seed=0),
            ArgumentError,
            "input_shape=4 must be a tuple, with",
        ),
        (lambda: any_nn.Model((), 4, {}), ArgumentError, "input_shape=4 must be a tuple"),
        (lambda: Dataset(X, LABELS["one-hot"], 3, "a"), ShapeError, r"y has shape \(3, 3\), .*y\.argmax\(axis=1\)$"),
        (lambda: Dataset(X, LABELS["whole"], 3, "a"), ShapeError, r"y has shape \(3, 3\), .*y\.argmax\(axis=1\)$"),
        (lambda: Dataset(X, LABELS["text"], 3, "a"), DTypeError, r"y holds strings, .*np\.unique\(y, return_inverse"),
    ],
)
def test_the_remedy_is_the_call_that_works(call: Callable[[], Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=f"^{said}"):
        call()


def test_the_remedies_work() -> None:
    _, y = np.unique(LABELS["text"], return_inverse=True)
    assert Dataset(X, y, 2, "a").y.tolist() == [0, 1, 0]
    assert Dataset(X, np.eye(3).argmax(axis=1), 3, "a").y.tolist() == [0, 1, 2]
    layer = nn.Conv2d("layer1", 3, 16, 3)
    assert pickle.loads(pickle.dumps(layer)) == copy.deepcopy(layer) == layer


def test_a_model_prints_as_a_table_of_its_layers() -> None:
    net = nn.digits_cnn(seed=0)
    net = net.replace(masks={"fc1.weight": np.arange(14_400).reshape(100, 144) < 400})
    lines = repr(net).splitlines()
    assert lines[0] == "Model(15,544 weights, 1,544 of them not 0, float32, inputs 1x8x8)"
    assert lines[1].split() == ["layer", "kind", "output", "weights", "not", "0", "bytes"]
    assert lines[2].split() == ["conv1", "Conv2d", "16x6x6", "144", "144", "640"]
    assert lines[3].split() == ["relu1", "ReLU", "16x6x6"]
    assert lines[6].split() == ["fc1", "Linear", "100", "14,400", "400", "58,000"]
    short = repr(compact(net)).splitlines()
    assert len(short) == 12
    assert max(map(len, short)) < 100
    assert short[-2].startswith("fc1.weight sparse: ")


def test_a_deep_model_prints_its_first_and_last_layers() -> None:
    lines = repr(nn.Model.init([nn.ReLU(f"r{i}") for i in range(50)], input_shape=(3,), seed=0)).splitlines()
    assert len(lines) == 23
    assert (lines[2].split()[0], lines[12], lines[-1].split()[0]) == ("r0", "... 30 more", "r49")


def test_deep_results_print_at_most_a_screen() -> None:
    net = prune(nn.mlp((6,) * 40, seed=0), amount=0.5)
    data = Dataset(np.zeros((4, 6), np.float32), np.arange(24, dtype=np.float32).reshape(4, 6), 0, "values")
    stages = tuple(Stage(name, net, metrics.evaluate(net, data), 1.0) for name in ("dense", "pruned", "finetuned"))
    result = Compressed(stages, (), 117, {}, ())
    small = compact(net)
    for value in (net, small, result):
        lines = repr(value).splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) < 100
        assert value._repr_html_().count("\n") == len(lines) - 1
    assert repr(small).splitlines()[12] == "... 39 more lines"  # 23 of the table and 39 choices
    assert repr(small).splitlines()[-1].startswith("fc39.weight ")
    assert repr(result).splitlines()[1].split() == ["stage", "kept", "val", "loss", "val", "R²"]
    assert repr(result).splitlines()[4].split()[3] == f"{stages[2].validation.r2:.4f}"


def nine() -> Dataset:
    return Dataset(np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 3, 3, "nine")


def test_a_last_batch_of_one_sample_is_refused_before_training() -> None:
    steps: list[Any] = []
    said = r"^batch_size=4 leaves one sample of 9 for the last batch, .* pass drop_last=True or another batch_size$"
    with pytest.raises(ArgumentError, match=said):
        fit(NORM, nine(), epochs=1, seed=0, batch_size=4, after_step=steps.append)
    assert not steps
    with pytest.raises(ArgumentError, match=r"^batch_size=1 leaves one sample"):
        fit(NORM, nine(), epochs=1, seed=0, batch_size=1, drop_last=True)
    with pytest.raises(ArgumentError, match=r"^drop_last=True leaves nothing of 9 samples in batches of 10"):
        fit(NORM, nine(), epochs=1, seed=0, batch_size=10, drop_last=True)


def test_drop_last_leaves_the_rest_of_an_epoch_out() -> None:
    seen: list[Any] = []
    fit(NORM, nine(), epochs=2, seed=0, batch_size=4, drop_last=True, after_step=seen.append)
    assert [s.steps for s in seen] == [4] * 4
    plain = nn.Model.init([nn.Linear("a", 4, 3)], input_shape=(4,), seed=0, dtype=np.float64)
    zero = plain.replace(params={k: 0 * w for k, w in plain.params.items()})
    _, history = fit(zero, nine(), epochs=1, seed=0, batch_size=8, drop_last=True)
    assert history.rows[0]["loss_data"] == pytest.approx(np.log(3))  # a mean over the eight that were seen
    fit(zero, nine(), epochs=1, seed=0, batch_size=4)  # one sample is no trouble without batch normalisation
