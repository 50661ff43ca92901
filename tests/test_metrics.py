"""Every metric on networks small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from l0ref import metrics, nn
from l0ref.data import Dataset
from l0ref.errors import ArgumentError
from l0ref.pruning import sweep


def linear(w: object, b: object, dtype: type = np.float64) -> nn.Model:
    weight = np.array(w, dtype)
    layer = nn.Linear("fc", weight.shape[1], weight.shape[0])
    return nn.Model((layer,), (weight.shape[1],), {"fc.weight": weight, "fc.bias": np.array(b, dtype)})


def test_accuracy_counts_over_samples_when_the_last_batch_is_short() -> None:
    identity = linear(np.eye(2), [0, 0])
    x = np.array([[1.0, 0.0]] * 8 + [[0.0, 1.0]] * 3)
    y = np.array([0] * 8 + [0, 1, 1])  # ten of eleven right; the wrong one stands in the short batch
    score = metrics.evaluate(identity, Dataset(x, y, 2, "eleven"), batch_size=4)
    assert score.n == 11
    assert score.acc1 == 10 / 11
    assert score.loss == pytest.approx((10 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 11, rel=1e-14)


def test_a_perfect_model_scores_one() -> None:
    n = 10_000
    x = np.eye(2)[np.arange(n) % 2]
    assert (
        metrics.evaluate(linear(np.eye(2), [0, 0]), Dataset(x, np.arange(n) % 2, 2, "all"), batch_size=128).acc1 == 1.0
    )


def test_arrays_are_no_data_set() -> None:
    with pytest.raises(ArgumentError, match=r"^data is tuple, expected Dataset\(x, y, classes, name\)$"):
        metrics.evaluate(linear(np.eye(2), [0, 0]), (np.ones((1, 2)), np.zeros(1, int)))  # type: ignore[arg-type]


def test_no_samples_no_score() -> None:
    score = metrics.evaluate(linear(np.eye(2), [0, 0]), Dataset(np.zeros((0, 2)), np.zeros(0, int), 2, "none"))
    assert score.n == 0
    assert math.isnan(score.acc1)


def test_convolution_multiply_adds_by_hand() -> None:
    # 2 filters 3x3 on one 6x5 channel, stride 2, padding 1: a grid of floor((6+2-3)/2)+1 = 3 by floor((5+2-3)/2)+1 = 3
    conv = nn.Conv2d("c", 1, 2, 3, stride=2, padding=1)
    net = nn.Model.init((conv, nn.Flatten("f"), nn.Linear("fc", 18, 4)), input_shape=(1, 6, 5), seed=0)
    mask = np.zeros((2, 1, 3, 3), bool)
    mask[0, 0, 1, :2] = True
    found = metrics.of(net.replace(masks={"c.weight": mask}))
    assert found["flops"] == 18 * 9 + 72
    assert found["flops_nz"] == 2 * 9 + 72
    assert found["size"] == 18 + 72
    assert found["size_nz"] == 2 + 72
    assert found["theoretical_speedup"] == (18 * 9 + 72) / (2 * 9 + 72)
    assert found["compression_ratio"] == 90 / 74
    assert found["sparsity"] == 16 / 90
    # values 4 + column 4 for each kept weight, row pointers 4 each, biases plain
    assert found["bytes_csr"] == (2 * 8 + 3 * 4) + (72 * 8 + 5 * 4) + (2 + 4) * 4
    assert found["bytes_dense"] == (18 + 72 + 2 + 4) * 4


def test_double_precision_takes_more_bytes() -> None:
    net = linear([[1, 0, 2]], [0])
    assert metrics.bytes_dense(net) == 4 * 8
    assert metrics.bytes_csr(net) == 2 * (8 + 4) + 2 * 4 + 8


def test_nothing_kept_has_no_finite_ratio() -> None:
    found = metrics.of(linear(np.zeros((2, 2)), [0, 0]))
    assert found["compression_ratio"] == found["theoretical_speedup"] == math.inf
    assert found["sparsity"] == 1.0


def test_layers_add_up_to_the_whole() -> None:
    net = nn.lenet_5(seed=0)
    rows, whole = metrics.layers(net), metrics.of(net)
    for name in ("size", "size_nz", "flops", "flops_nz"):
        assert sum(row[name] for row in rows) == whole[name]
    assert [row["shape"] for row in rows] == [list(net.params[row["name"]].shape) for row in rows]


def test_share_below_counts_what_is_not_stored() -> None:
    weights = {"a": np.array([0.0, -0.5, 0.5]), "b": np.array([0.01])}
    assert metrics.share_below(weights, {"a": 3, "b": 1}, 0.5) == 0.5
    assert metrics.share_below(weights, {"a": 3, "b": 5, "other": 9}, 0.5) == 0.75
    assert metrics.share_below({}, {}, 0.5) == 0.0


def test_sparsity_counts_what_is_not_stored() -> None:
    weights = {"a": np.array([0.0, -0.5, 0.5]), "b": np.array([0.01])}
    assert metrics.sparsity(weights, {"a": 3, "b": 1}) == 0.25
    assert metrics.sparsity(weights, {"a": 3, "b": 5}) == 0.625
    assert metrics.sparsity({"a": np.empty(0)}, {"a": 0}) == 0.0


def test_latencies_are_those_of_the_models_given() -> None:
    small, large = nn.mlp((10, 10), seed=0), nn.mlp((10, 2000, 2000, 10), seed=0)
    x = np.ones((64, 10), np.float32)
    a, b = metrics.latencies([small, large], x, rounds=3)
    assert 0 < a < b  # a factor of thousands: not a matter of luck


def test_latency_is_the_median_after_one_pass_that_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 0.0, 1.0, 0.0, 2.0, 0.0, 30.0])  # the first pass is not timed, then start and end of each
    monkeypatch.setattr("l0ref.metrics.time.perf_counter", lambda: next(ticks))
    assert metrics.latencies([nn.mlp((2, 2), seed=0)], np.ones((1, 2), np.float32), rounds=3) == [2.0]


def test_models_run_alternately_and_every_second_round_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    models = [nn.mlp((2, 2), seed=seed) for seed in range(3)]
    seeds = {id(model): seed for seed, model in enumerate(models)}
    monkeypatch.setattr("l0ref.nn.Model.logits", lambda self, *_, **__: order.append(seeds[id(self)]))
    laps = metrics.lap_seconds(models, np.ones((1, 2), np.float32), rounds=2)
    assert order == [2, 1, 0, 0, 1, 2, 2, 1, 0]
    assert [len(own) for own in laps] == [2, 2, 2]


def test_sweep_changes_counts_and_nothing_else() -> None:
    net = linear([[1.0, 0.0], [0.0, 2.0]], [0.0, 1.0])
    assert metrics.of(sweep(net).model) == metrics.of(net)
