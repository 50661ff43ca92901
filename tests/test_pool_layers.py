"""Pooling layers with every option of the operations, through all that a layer goes through; and the layer Clip."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import backend, checkpoint, compact, fit, metrics, nn, ops, prune
from l0ref.cli.networks import architecture_of
from l0ref.data import Dataset
from l0ref.errors import ArgumentError, ConfigError, ShapeError
from l0ref.nn.compiled import chain_or_reason
from l0ref.nn.layer import from_json, to_json
from l0ref.pruning import mask_units, shrink
from tests.naive import pooling as naive

IMAGE = (2, 7, 6)
MAX, MEAN = nn.MaxPool2d, nn.AvgPool2d
# layer, its output over (2, 7, 6), and whether the compiled chain has it
POOLS: dict[str, tuple[nn.Layer, tuple[int, ...]]] = {
    "max, ceil": (MAX("p", 2, ceil_mode=True), (2, 4, 3)),
    "max, ceil without effect": (MAX("p", (1, 2), ceil_mode=True), (2, 7, 3)),
    "max, gaps": (MAX("p", (3, 2), stride=1, dilation=(2, 3)), (2, 3, 3)),
    "max, gaps and ceil": (MAX("p", 2, padding=1, dilation=2, ceil_mode=True), (2, 4, 4)),
    "max, uneven": (MAX("p", 3, stride=2, padding=((0, 1), (1, 0))), (2, 3, 3)),
    "mean, ceil": (MEAN("p", 2, ceil_mode=True), (2, 4, 3)),
    "mean, ceil without effect": (MEAN("p", (1, 2), ceil_mode=True), (2, 7, 3)),
    "mean, padding not counted": (MEAN("p", 3, stride=2, padding=1, count_include_pad=False), (2, 4, 3)),
    "mean, uneven": (MEAN("p", 2, stride=(3, 1), padding=((0, 1), (1, 0))), (2, 3, 6)),
    "mean, uneven and ceil": (
        MEAN("p", (3, 2), stride=(2, 4), padding=((1, 0), (0, 1)), ceil_mode=True, count_include_pad=False),
        (2, 4, 2),
    ),
}  # fmt: skip
NAMES = pytest.mark.parametrize("name", sorted(POOLS))


def network(layer: nn.Layer, *, dtype: Any = np.float64) -> nn.Model:
    """A convolution, the pooling and a classifier."""
    conv = nn.Conv2d("conv", 1, 2, 2)
    size = int(np.prod(layer.output_shape(IMAGE)))
    layers = (conv, nn.ReLU("relu"), layer, nn.Flatten("flat"), nn.Linear("fc", size, 3))
    return nn.Model.init(layers, input_shape=(1, 8, 7), seed=0, dtype=dtype)


def samples(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(n, 1, 8, 7))


def by_loops(layer: Any, x: np.ndarray) -> np.ndarray:
    """The layer, window by window: `beyond` is what its fields say of the lower and the right border."""
    (rows, columns), sizes = layer.output_shape(x.shape[1:])[1:], []
    stride = layer.kernel_size if layer.stride is None else layer.stride
    for value in (layer.kernel_size, stride, getattr(layer, "dilation", 1)):
        sizes.append(value if isinstance(value, tuple) else (value, value))
    edges = layer.padding if isinstance(layer.padding, tuple) else (layer.padding, layer.padding)
    before, after = (tuple(e[i] if isinstance(e, tuple) else e for e in edges) for i in (0, 1))
    size, step, gap = sizes
    y = np.full((*x.shape[:2], rows, columns), np.nan)
    for n, c, p, q in np.ndindex(*y.shape):
        at = [
            (p * step[0] - before[0] + r * gap[0], q * step[1] - before[1] + s * gap[1])
            for r, s in np.ndindex(*size)
        ]  # fmt: skip
        on = [x[n, c, h, w] for h, w in at if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]]
        padded = [(h, w) for h, w in at if h < x.shape[2] + after[0] and w < x.shape[3] + after[1]]
        whole = len(padded) if getattr(layer, "count_include_pad", False) else len(on)
        y[n, c, p, q] = max(on) if isinstance(layer, MAX) else sum(on) / whole
    return y


@NAMES
@pytest.mark.parametrize("room", ["numpy", "numba"])
def test_a_layer_computes_what_its_fields_say(name: str, room: str, rng: np.random.Generator) -> None:
    layer, shape = POOLS[name]
    assert layer.output_shape(IMAGE) == shape
    x = rng.normal(size=(2, *IMAGE))
    with backend(room):
        model = nn.Model.init((layer,), input_shape=IMAGE, seed=0, dtype=np.float64)
        np.testing.assert_allclose(model.logits(x), by_loops(layer, x), rtol=1e-13)


def test_the_loops_are_those_of_the_operations(rng: np.random.Generator) -> None:
    """The oracle above agrees with the one of the operations where both have the option."""
    x, even = rng.normal(size=(2, *IMAGE)), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1)}
    np.testing.assert_array_equal(
        by_loops(MAX("p", **even, dilation=(1, 3)), x), naive.max_pool2d(x, **even, dilation=(1, 3))
    )
    for counted in (True, False):
        want = naive.avg_pool2d(x, **even, count_include_pad=counted)
        np.testing.assert_allclose(by_loops(MEAN("p", **even, count_include_pad=counted), x), want, rtol=1e-14)


@NAMES
def test_layer_goes_through_json_toml_and_archive(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    layer, shape = POOLS[name]
    plain = json.loads(json.dumps(to_json(layer)))
    assert from_json(plain) == layer
    fields = {key: value for key, value in plain.items() if value is not None}  # TOML has no null
    assert architecture_of({"layer": [fields]}, IMAGE, where="table") == (layer,)
    model = network(layer)
    checkpoint.save(tmp_path / "model.npz", model)
    back = checkpoint.load(tmp_path / "model.npz")
    assert back.architecture == model.architecture
    x = samples(3, rng)
    np.testing.assert_array_equal(back.logits(x), model.logits(x))
    assert type(layer).__name__ in repr(back)
    assert "x".join(map(str, shape)) in repr(back)
    assert metrics.of(back)["flops"] == 4 * 2 * 42 + 3 * int(np.prod(shape))


def test_descriptions_of_before_have_the_defaults() -> None:
    older = {"kind": "MaxPool2d", "name": "p", "kernel_size": [3, 2], "stride": None, "padding": 1}
    assert from_json(older) == MAX("p", (3, 2), padding=1)
    assert from_json({**older, "kind": "AvgPool2d"}) == MEAN("p", (3, 2), padding=1)


@NAMES
def test_all_windows_run_on_the_chain(name: str, rng: np.random.Generator) -> None:
    model, x = network(POOLS[name][0]), samples(9, rng)
    data = Dataset(x, rng.integers(0, 3, 9), 3, "noise")
    with backend("numba"):
        _, history = fit(model, data, epochs=1, seed=0)
        ours = model.logits(x)
    assert history.runs == "runs on the compiled chain"
    with backend("numpy"):
        np.testing.assert_allclose(ours, model.logits(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("layer", "image"), [(MAX("p", 2, ceil_mode=True), (8, 6)), (MAX("p", 2), (9, 7))])
def test_the_chain_halves_images_in_either_mode(
    layer: nn.Layer, image: tuple[int, int], rng: np.random.Generator
) -> None:
    layers = (layer, nn.Flatten("flat"), nn.Linear("fc", 12, 3))
    model = nn.Model.init(layers, input_shape=(1, *image), seed=0, dtype=np.float64)
    x = rng.normal(size=(9, 1, *image))
    with backend("numba"):
        found = chain_or_reason(layers, (1, *image), capacity=9, dtype=np.float64, training=False)
        assert not isinstance(found, str)
        ours = model.logits(x)
    with backend("numpy"):
        np.testing.assert_allclose(ours, model.logits(x), rtol=1e-12)


@NAMES
def test_shrunk_and_compact_networks_answer_alike(name: str, rng: np.random.Generator) -> None:
    model = network(POOLS[name][0])
    x = samples(4, rng)
    smaller, masked = shrink(model, {"conv": [1]}), mask_units(model, {"conv": [1]})
    assert smaller.params["conv.weight"].shape[0] == 1
    np.testing.assert_allclose(smaller.logits(x), masked.logits(x), rtol=1e-12, atol=1e-13)
    pruned = prune(model, amount=0.6, scope="layer").astype(np.float32)
    np.testing.assert_allclose(
        compact(pruned).model.logits(x.astype(np.float32)), pruned.logits(x.astype(np.float32)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: MAX("p", 2, stride=0), ArgumentError, "stride=0 must be at least 1"),
        (lambda: MEAN("p", 2, stride=(1, -1)), ArgumentError, "stride=-1 must be at least 1"),
        (lambda: MEAN("p", 0), ArgumentError, "kernel_size=0 must be at least 1"),
        (lambda: MAX("p", 2, padding=-1), ArgumentError, "padding=-1 must be at least 0"),
        (lambda: MAX("p", 2, dilation=0), ArgumentError, "dilation=0 must be at least 1"),
        (lambda: MAX("p", 2, ceil_mode=1), ArgumentError, "ceil_mode=1 must be True or False"),  # type: ignore[arg-type]
        (lambda: MEAN("p", 2, count_include_pad=None), ArgumentError, "count_include_pad=None must be True or False"),  # type: ignore[arg-type]
        (lambda: network(MAX("p", 2, padding=2)), ArgumentError, "layer 'p' (MaxPool2d): padding=2 is more than half"),
        (lambda: MAX("p", (3, 1), padding=1).output_shape(IMAGE), ArgumentError, "use at most (1, 0)"),
        (lambda: MAX("p", 1, padding=((0, 1), (0, 0))).output_shape(IMAGE), ArgumentError, "miss the image; use less"),
        (
            lambda: MEAN("p", 2, padding=((3, 0), (0, 0))).output_shape(IMAGE), ArgumentError,
            "layer 'p' (AvgPool2d): padding=((3, 0), (0, 0)) lets a window of kernel_size=2 miss the image",
        ),
        (
            lambda: MAX("p", 3, dilation=3).output_shape((2, 6, 9)), ShapeError,
            "layer 'p' (MaxPool2d) got an input of shape (2, 6, 9), expected an image, with padding, of at least",
        ),
        (lambda: MAX("p", 2).output_shape((5,)), ShapeError, "layer 'p' (MaxPool2d) got an input of shape (5,)"),
        (
            lambda: architecture_of({"layer": [{**to_json(MAX("layer1", 2)), "stride": 0}]}, IMAGE, where="t"),
            ConfigError, "t, layer 'layer1': stride=0 must be at least 1",
        ),
        (lambda: nn.Clip("c"), ArgumentError, "min=None and max=None limit nothing; give at least one of them"),
        (lambda: nn.Clip("c", 2.0, 1.0), ArgumentError, "min=2.0 must not exceed max=1.0; swap them"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_runs(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        make()


@pytest.mark.parametrize(("low", "high"), [(None, 0.5), (0.0, None), (-0.5, 0.5), (0, 6)])
def test_clip_limits_one_side_or_both(low: Any, high: Any, rng: np.random.Generator) -> None:
    layer = nn.Clip("c", low, high)
    model = nn.Model.init((layer,), input_shape=(4,), seed=0, dtype=np.float64)
    x = rng.normal(size=(5, 4)) * 2
    want = np.minimum(np.maximum(x, -np.inf if low is None else low), np.inf if high is None else high)
    np.testing.assert_array_equal(model.logits(x), want)
    assert from_json(json.loads(json.dumps(to_json(layer)))) == layer


@pytest.mark.crosscheck
@NAMES
def test_layer_agrees_with_torch_where_it_has_the_option(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
    layer: Any = POOLS[name][0]
    uneven = isinstance(layer.padding, tuple) and any(isinstance(edge, tuple) for edge in layer.padding)
    changed = dataclasses.replace(layer, padding=1) if uneven else layer
    x = rng.normal(size=(2, *IMAGE))
    theirs = getattr(torch.nn, type(layer).__name__)(changed.kernel_size, **changed.options)
    ours = getattr(ops, "max_pool2d" if isinstance(layer, MAX) else "avg_pool2d")(
        x, changed.kernel_size, **changed.options
    )
    np.testing.assert_allclose(ours.data, theirs(torch.from_numpy(x)).numpy(), rtol=1e-13)
