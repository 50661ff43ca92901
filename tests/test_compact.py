"""`compact`, the cost model behind it, and sparse layers in a model, in training and on disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import checkpoint, data, fit, metrics, nn, optim, prune
from l0ref.archive import read_npz, write_npz
from l0ref.autodiff.op import backend
from l0ref.deploy import calibration
from l0ref.deploy.calibration import calibrate, fit_line
from l0ref.deploy.compact import compact, sparse_twin
from l0ref.deploy.costs import Costs, Line, costs_file
from l0ref.errors import ArgumentError, CheckpointError, ConfigError, ShapeError
from l0ref.nn import Conv2d, Linear, Model
from l0ref.penalty import Penalty
from l0ref.sparse import BlockPattern, Pattern
from tests.test_ops import assert_close

BLOCK = nn.Residual(
    "block",
    (Conv2d("block.a", 3, 4, 3, padding=1), nn.ReLU("r"), Conv2d("block.b", 4, 3, 1)),
    (Conv2d("block.c", 3, 3, 1),),
)  # fmt: skip
ARCHITECTURE = (
    Conv2d("conv", 2, 3, 3, stride=2, padding=1, groups=1), nn.ReLU("relu"), BLOCK, nn.Flatten("flat"),
    Linear("fc1", 27, 20), nn.Tanh("tanh"), Linear("fc2", 20, 5, bias=False),
)  # fmt: skip


def pruned(dtype: Any = np.float64, *, amount: float = 0.8) -> Model:
    """A network with every kind of layer that has weights, pruned."""
    model = Model.init(ARCHITECTURE, input_shape=(2, 6, 5), seed=3, dtype=dtype)
    return prune(model, amount=amount)


def plain(seed: int = 0, *, dtype: Any = np.float64) -> data.Dataset:
    rng = np.random.default_rng(seed)
    return data.Dataset(rng.standard_normal((50, 2, 6, 5)).astype(dtype), rng.integers(0, 5, 50), 5, "random")


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-14), (np.float32, 3e-6)])
@pytest.mark.parametrize("amount", [0.0, 0.5, 0.95])
def test_outputs_are_those_of_the_masked_model(dtype: Any, rtol: float, amount: float) -> None:
    model = pruned(dtype, amount=amount)
    small = sparse_twin(model)
    x = plain(dtype=dtype).x
    assert_close(small.logits(x), model.logits(x), rtol, "logits")
    assert small.dtype == dtype
    assert set(small.patterns) == set(model.weights)
    assert not small.masks


def test_only_what_the_mask_keeps_is_stored_zero_or_not() -> None:
    model = pruned()
    zeroed = model.params["fc1.weight"].copy()
    row, column = np.argwhere(model.masks["fc1.weight"])[0]
    zeroed[row, column] = 0
    model = model.replace(params={**model.params, "fc1.weight": zeroed})
    small = sparse_twin(model)
    assert small.params["fc1.weight"].size == model.masks["fc1.weight"].sum()
    unmasked = Model(model.architecture, model.input_shape, model.params, {}, model.buffers)
    assert sparse_twin(unmasked).params["fc1.weight"].size == model.masks["fc1.weight"].sum() - 1


def test_metrics_are_those_of_the_masked_model_and_bytes_are_counted() -> None:
    model, small = pruned(np.float32), sparse_twin(pruned(np.float32))
    mine, theirs = metrics.of(small), metrics.of(model)
    assert {k: v for k, v in mine.items() if k != "bytes_stored"} == {
        k: v for k, v in theirs.items() if k != "bytes_stored"
    }
    stored = sum(p.nbytes for p in small.params.values())
    stored += sum(4 * (p.shape[0] + 1) + 2 * p.nnz for p in small.patterns.values())
    assert metrics.bytes_stored(small) == stored
    assert metrics.bytes_stored(model) == sum(p.nbytes for p in model.params.values())


# --- what is chosen, and why


def test_without_a_cost_model_the_smaller_form_wins_and_says_so() -> None:
    model = prune(pruned(np.float32, amount=0.0), amount=0.6)
    for choice in compact(model).choices:
        w = model.params[choice.name]
        kept = int(model.masks[choice.name].sum())
        size = kept * 6 + 4 * (w.shape[0] + 1)
        assert (choice.bytes_dense, choice.bytes_sparse) == (w.size * 4, size)
        assert choice.form == ("sparse" if size < w.size * 4 else "dense")
        assert choice.density == kept / w.size
        assert (choice.seconds_dense, choice.seconds_sparse) == (None, None)
        remark = "speed not calibrated" if choice.form == "sparse" else "are no fewer than"
        assert remark in choice.why
    assert {c.form for c in compact(model).choices} == {"sparse", "dense"}


def test_a_layer_that_would_be_slower_stays_dense() -> None:
    model = pruned(np.float32, amount=0.9)
    slow = Line(dense=(0.0, 1e-9), sparse=(1.0, 0.0, 0.0))
    fast = Line(dense=(0.0, 1e-3), sparse=(0.0, 0.0, 1e-9))
    choices = {c.name: c for c in compact(model, costs=Costs({"linear": slow, "conv": fast}, 16, 0.1)).choices}
    assert choices["fc1.weight"].form == "dense"
    assert "smaller, but 1e+06 us as sparse rows against 4.32 us" in choices["fc1.weight"].why
    assert choices["block.a.weight"].form == "sparse"
    small = compact(model, costs=Costs({"linear": slow, "conv": fast}, 16, 0.1)).model
    assert "fc1.weight" in small.masks
    assert "fc1.weight" not in small.patterns
    x = plain(dtype=np.float32).x
    assert_close(small.logits(x), model.logits(x), 3e-6, "logits")


def call_costs(dense: float, sparse: float, *, few: bool = True) -> Costs:
    """A machine on which only calls take time."""
    lines = {kind: Line((dense, 0.0), (sparse, 0.0, 0.0)) for kind in ("linear", "conv")}
    return Costs(lines, lanes=16, error=0.0, few=lines if few else {})


def forms(model: Model, costs: Costs, batch_size: int) -> set[str]:
    return {c.form for c in compact(model, costs=costs, batch_size=batch_size).choices}


class OwnReLU(nn.ReLU):
    """A layer of a class that chains do not know."""


def test_a_few_samples_go_through_all_sparse_layers_in_one_pass() -> None:
    """Each layer takes 12 us sparse, of which 12 are a call, and 8 dense: three are 12 in one chain, 24 dense."""
    chain = prune(nn.mlp((20, 30, 30, 10), seed=0), amount=0.9, scope="layer")
    block = nn.Residual("block", body=(Linear("inner", 20, 20),), shortcut=())
    sums, tape = (
        prune(Model.init((Linear("a", 20, 20), middle, Linear("c", 20, 20)), input_shape=(20,), seed=0), amount=0.9)
        for middle in (block, nn.Residual("block", body=(Linear("inner", 20, 20), OwnReLU("own")), shortcut=()))
    )
    costs = call_costs(8e-6, 12e-6)
    with backend("numba"):
        choices = compact(chain, costs=costs, batch_size=1).choices
        assert [c.form for c in choices] == ["sparse"] * 3
        assert "in one pass 12 us, each for itself at best 24" in choices[0].why
        assert forms(chain, call_costs(4e-6, 12e-6), 1) == {"dense"}  # 12 us either way
        assert forms(chain, call_costs(3.9e-6, 12e-6), 1) == {"dense"}
        assert forms(chain, call_costs(4.1e-6, 12e-6), 1) == {"sparse"}
        assert forms(chain, costs, 7) == {"sparse"}
        assert forms(chain, costs, 8) == {"dense"}
        assert forms(chain, call_costs(8e-6, 12e-6, few=False), 1) == {"dense"}
        assert forms(sums, costs, 1) == {"sparse"}
        assert forms(tape, costs, 1) == {"dense"}


def test_a_large_layer_that_stays_dense_keeps_a_few_samples_on_the_tape() -> None:
    net = nn.mlp((120, 100, 30), seed=0)
    masks = {k: np.arange(net.params[k].size).reshape(net.params[k].shape) % 10 == 0 for k in net.weights}
    full = net.replace(masks={**masks, "fc1.weight": np.ones((100, 120), bool)})
    with backend("numba"):
        assert forms(net.replace(masks=masks), call_costs(8e-6, 12e-6), 1) == {"sparse"}
        assert forms(full, call_costs(8e-6, 12e-6), 1) == {"dense"}


def test_predictions_by_hand() -> None:
    model = pruned(np.float32)
    line = Line(dense=(1.0, 10.0), sparse=(2.0, 100.0, 1000.0))
    costs = Costs({"linear": line, "conv": line}, 16, 0.0)
    pattern = sparse_twin(model).patterns["conv.weight"]
    uses = 9 * 3  # a grid of 3 x 3 places, 33 samples in 3 vectors of 16
    assert costs.predict(model, "conv.weight", pattern, batch_size=33) == (
        1 + 10 * uses * 54, 2 + 100 * uses * 3 + 1000 * uses * pattern.nnz,
    )  # fmt: skip
    pattern, size = sparse_twin(model).patterns["fc1.weight"], model.sizes["fc1.weight"]
    rows = pattern.shape[0]
    few = Line(dense=(5.0, 3.0), sparse=(7.0, 0.0, 0.0))
    for batch_size, vectors, whole in ((7, 1, 4), (8, 1, 4), (64, 4, 4), (65, 5, 8)):  # dense: four vectors at a time
        want = 1 + 10 * whole * size, 2 + 100 * vectors * rows + 1000 * vectors * pattern.nnz
        assert costs.predict(model, "fc1.weight", pattern, batch_size=batch_size) == want
        both = dataclasses.replace(costs, few={"linear": few, "conv": few})
        want = (5 + 3 * 4 * size, 7.0) if batch_size == 7 else want
        assert both.predict(model, "fc1.weight", pattern, batch_size=batch_size) == want


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: compact(sparse_twin(pruned())),
            r"^model is compact already: 'conv.weight' is sparse; compact the masked",
        ),
        (lambda: compact(pruned(), batch_size=0), r"^batch_size=0 must be at least 1"),
        (lambda: compact(compact(pruned())), r"^model is CompactModel, expected Model; pass \.model of"),
        (lambda: sparse_twin(sparse_twin(pruned())), r"^model is compact already: 'conv.weight' is sparse; compact"),
        (lambda: sparse_twin(pruned(), only="fc1.weight"), r"^only has 'f', which is not a weight array; choose from"),
        (lambda: sparse_twin(pruned(), only=["fc1.bias"]), r"^only has 'fc1.bias', which is not a weight array; choos"),
        (lambda: calibrate(rounds=0), r"^rounds=0 must be at least 1"),
    ],
)
def test_wrong_arguments(call: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        call()


def test_a_pattern_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^pattern of layer 'fc' has shape \(4, 6\), expected \(6, 4\)"):
        nn.SparseLinear("fc", 4, 6, Pattern.from_mask(np.ones((4, 6), bool)))
    with pytest.raises(ShapeError, match=r"^pattern of layer 'c' has shape \(4, 6\), expected \(4, 18\)"):
        nn.SparseConv2d("c", 2, 4, 3, Pattern.from_mask(np.ones((4, 6), bool)))


def tiles(pattern: Pattern) -> BlockPattern:
    return BlockPattern.from_mask(pattern.to_mask(), blocksize=2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: nn.SparseLinear("a", *p.shape, None), r"^pattern is NoneType, expected Pattern or BlockPattern; ma"),
        (lambda p: nn.SparseLinear("a", 18.0, 4, p), r"^in_features=18.0 must be a whole number, not float"),
        (lambda p: nn.SparseConv2d("a", 2, 4, 3, p.to_mask()), r"^pattern is ndarray, expected Pattern; make it with"),
        (lambda p: nn.SparseConv2d("a", 2, 4, 3, tiles(p)), r"^pattern is BlockPattern, expected Pattern; make it wit"),
        (lambda p: nn.SparseConv2d("a", 2, 4, 3, p, groups=0), r"^groups=0 must be at least 1"),
        (lambda p: nn.SparseConv2d("a", 5, 4, 3, p, groups=2), r"^groups=2 of layer 'a' does not divide in_channels=5"),
        (lambda p: nn.SparseConv2d("a", 6, 4, 3, p, groups=3), r"^groups=3 of layer 'a' does not divide out_channels="),
    ],
)
def test_a_layer_that_could_not_run_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make(Pattern.from_mask(np.ones((4, 18), bool)))


# --- training

OPTIMIZERS = [optim.SGD(lr=0.05, momentum=0.9), optim.Adam(lr=1e-2), optim.Proximal(optim.Adam(lr=1e-2))]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adam", "proximal"])
def test_training_equals_masked_dense_training(optimizer: optim.Optimizer) -> None:
    model = pruned()
    options = {
        "epochs": 2, "seed": 5, "batch_size": 17, "optimizer": optimizer, "penalty": Penalty(alpha=1e-3, l2=1e-3),
        "progress": "none",
    }  # fmt: skip
    small, history = fit(sparse_twin(model), plain(), **options)
    dense, masked_history = fit(model, plain(), **options)
    for key, pattern in small.patterns.items():
        w = dense.params[key].reshape(pattern.shape)
        assert_close(pattern.scatter(small.params[key]), w, 1e-10, key)
    for name in ("loss_data", "loss_l0", "loss_l2"):
        np.testing.assert_allclose(history.column(name), masked_history.column(name), rtol=1e-10)


# --- on disk


def test_compact_model_survives_a_file(tmp_path: Path) -> None:
    small = sparse_twin(pruned(np.float32))
    path = tmp_path / "compact.npz"
    checkpoint.save(path, small)
    back = checkpoint.load(path)
    x = plain(dtype=np.float32).x
    np.testing.assert_array_equal(back.logits(x), small.logits(x))
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["fc1.weight_indices"].dtype == np.uint16
        assert set(arrays) >= {"fc1.weight", "fc1.weight_indptr", "block.a.weight_indptr"}


def test_tiles_survive_a_file(tmp_path: Path) -> None:
    mask = np.zeros((5, 20), bool)
    mask[:, 3] = mask[4] = True
    pattern = BlockPattern.from_mask(mask, blocksize=(2, 4))
    layer = nn.SparseLinear("fc", 20, 5, pattern)
    rng = np.random.default_rng(0)
    values = pattern.gather(np.where(pattern.to_mask(), rng.standard_normal((5, 20)), 0))
    model = Model((layer,), (20,), {"fc.weight": values, "fc.bias": np.ones(5)})
    checkpoint.save(tmp_path / "m.npz", model)
    back = checkpoint.load(tmp_path / "m.npz")
    assert isinstance(back.patterns["fc.weight"], BlockPattern)
    x = rng.standard_normal((3, 20))
    np.testing.assert_array_equal(back.logits(x), model.logits(x))


def test_a_file_whose_pattern_is_not_sound_is_refused(tmp_path: Path) -> None:
    from l0ref.archive import read_npz, write_npz

    path = tmp_path / "m.npz"
    checkpoint.save(path, sparse_twin(pruned(np.float32)))
    arrays, manifest = read_npz(path)
    arrays["fc1.weight_indices"][:] = 26
    write_npz(path, arrays, manifest={k: v for k, v in manifest.items() if k != "arrays"})
    with pytest.raises(CheckpointError, match=r"is not a sound model: indices of row \d+ do not rise strictly"):
        checkpoint.load(path)


# --- the cost model


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m["patterns"]["fc1.weight"].update(blocksize=[0, 0]),
        lambda m: m["patterns"]["fc1.weight"].update(blocksize=[1]),
        lambda m: m["patterns"]["fc1.weight"].update(shape=[20], blocksize=[2, 2]),
        lambda m: m["architecture"].update(layers="abc"),
        lambda m: m["architecture"]["layers"][0].update(groups=0),
        lambda m: m["architecture"]["layers"].append(nested(300)),
    ],
)
def test_a_file_whose_manifest_is_hostile_is_refused(spoil: Any, tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    checkpoint.save(path, sparse_twin(pruned()))
    arrays, manifest = read_npz(path)
    spoil(manifest)
    write_npz(path, arrays, manifest=manifest)
    with pytest.raises(CheckpointError, match=r"^path='.*' is not a sound model: .*; restore it from a copy"):
        checkpoint.load(path)


def test_a_file_that_declares_weights_it_does_not_hold_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    checkpoint.save(path, pruned())
    arrays, manifest = read_npz(path)
    assert manifest["architecture"]["layers"][-1]["kind"] == "Linear"
    manifest["architecture"]["layers"][-1]["out_features"] = 10**8
    write_npz(path, arrays, manifest=manifest)
    with pytest.raises(CheckpointError, match="out_features=100000000 of a layer exceeds the number of entries in"):
        checkpoint.load(path)


def nested(depth: int) -> dict[str, Any]:
    layer: dict[str, Any] = {"kind": "ReLU", "name": "in"}
    for i in range(depth):
        layer = {"kind": "Residual", "name": f"r{i}", "body": [layer], "shortcut": []}
    return layer


def test_a_compact_model_is_saved_by_its_model(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^model is CompactModel, expected Model; pass \.model of what compact re"):
        checkpoint.save(tmp_path / "a.npz", compact(pruned()))  # type: ignore[arg-type]


def test_fit_line_finds_what_made_the_numbers(rng: np.random.Generator) -> None:
    terms = np.column_stack([np.ones(20), rng.uniform(1, 1e6, (20, 2))])
    want = np.array([1e-6, 2e-9, 5e-10])
    np.testing.assert_allclose(fit_line(terms, terms @ want), want, rtol=1e-9)
    assert fit_line([(1, 1), (1, 2)], [2.0, 1.0])[1] == 0.0  # falling: the slope is left out, not negative
    assert min(fit_line(terms, rng.uniform(1, 2, 20))) >= 0


def test_calibration_measures_every_kind_and_forgets_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = iter(np.arange(1, 10**6) * 1e-3)
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(calibration, "LINEAR", ((20, 5), (30, 6)))
    monkeypatch.setattr(calibration, "CONV", ((2, 6, 3, 3), (3, 7, 4, 2)))
    costs = calibrate(rounds=2)
    assert costs.error < 1e-9  # every pass took one tick: a constant
    assert list(costs.lines) == list(costs.few) == ["linear", "conv"]
    for line in [*costs.lines.values(), *costs.few.values()]:
        np.testing.assert_allclose((line.dense[0], line.sparse[0]), 1e-3, rtol=1e-9)
    costs.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == costs


@pytest.mark.parametrize("spoil", ["lines", "lanes", "schema_version", "few"])
def test_a_file_that_is_no_cost_model_is_refused(spoil: str, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    line = Line((0.0, 1.0), (0.0, 1.0, 2.0))
    Costs({"linear": line, "conv": line}, 16, 0.5).save(path)
    found = json.loads(path.read_text())
    del found[spoil]
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=rf"is not a cost model: '{spoil}' is wrong or missing; use l0ref"):
        Costs.load(path)
    found = {
        "schema_version": 2,
        "lanes": 16,
        "error": 0.1,
        "few": {},
        "lines": {"linear": {"dense": [-1, 1], "sparse": [0, 0, 0]}},
    }
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=r"is not a cost model: coefficients \[-1, 1\] is wrong or missing"):
        Costs.load(path)
    found["lines"] = {"linear": {"dense": [0, 1], "sparse": [0, 0, 0]}, "conv": {"dense": [0, 1], "sparse": [0, 0, 0]}}
    found["few"] = [1]
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=r"is not a cost model: .* is wrong or missing"):
        Costs.load(path)
    found["few"] = {"linear": found["lines"]["linear"]}
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=r"is not a cost model: 'conv' is wrong or missing"):
        Costs.load(path)


def test_where_the_cost_model_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("L0REF_COSTS", raising=False)
    assert costs_file() == tmp_path / "l0ref" / "costs.json"
    monkeypatch.setenv("L0REF_COSTS", str(tmp_path / "mine.json"))
    assert costs_file() == tmp_path / "mine.json"
