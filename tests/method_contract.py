"""What every method must do: checks that take a method and yield its faults; planted bad methods prove they can."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from l0ref import metrics, nn
from l0ref.data import Dataset, Splits
from l0ref.errors import L0RefError, LayerCollapse
from l0ref.methods import Method, Pruned
from l0ref.methods.registry import COMMON
from l0ref.nn import Model

Fault = str


def splits(shape: tuple[int, ...], *, dtype: Any = np.float64, n: int = 60, classes: int = 3) -> Splits:
    """Few samples of three classes that can be learnt, or of as many as they have entries if those are fewer."""
    rng = np.random.default_rng(3)
    x = np.maximum(rng.standard_normal((n, *shape)), -0.5).astype(dtype)
    first = x.reshape(n, math.prod(shape))[:, :classes]
    y = first.argmax(axis=1) if first.size else np.zeros(n, np.intp)
    whole = Dataset(x, y, classes, "made up")
    half = n // 2
    return Splits(whole.take(np.arange(half)), whole.take(np.arange(half, n)), whole, "made up", "none")


def networks(dtype: Any = np.float64) -> dict[str, tuple[Model, Splits]]:
    """A network of linear layers with dropout and biases that are not 0, and one with convolutions."""
    mlp = nn.mlp((12, 10, 8, 3), seed=0, dropout=0.2, dtype=dtype)
    layers = (
        nn.Conv2d("conv1", 2, 4, 3), nn.ReLU("relu1"), nn.Conv2d("conv2", 4, 3, 3, padding=1), nn.ReLU("relu2"),
        nn.MaxPool2d("pool", 2), nn.Flatten("flat"), nn.Linear("fc1", 12, 6), nn.Tanh("tanh"), nn.Linear("fc2", 6, 3),
    )  # fmt: skip
    cnn = Model.init(layers, input_shape=(2, 6, 6), seed=1, dtype=dtype)
    return {"mlp": (biased(mlp), splits((12,), dtype=dtype)), "cnn": (biased(cnn), splits((2, 6, 6), dtype=dtype))}


def biased(model: Model) -> Model:
    """The same network with biases away from 0."""
    rng = np.random.default_rng(5)
    noise = {k: (0.1 * rng.standard_normal(p.shape)).astype(p.dtype) for k, p in model.params.items()}
    return model.replace(params={k: p + noise[k] if k.endswith("bias") else p for k, p in model.params.items()})


def run(m: Method, model: Model, data: Any, **options: Any) -> Pruned:
    """Run a method, for two epochs if it trains."""
    return m.run(model, data, **({"epochs": 2} if "epochs" in m.options else {}), **options)


def asked(model: Model, amount: float, scope: str) -> list[int]:
    """How many weights are to go, of the network or of each of its layers, by hand."""
    sizes = [model.params[k].size for k in model.weights]
    parts = sizes if scope == "layer" else [sum(sizes)]
    return [math.floor(amount * n + 0.5) if isinstance(amount, float) else amount for n in parts]


def budget(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """Exactly the amount goes; a method of units removes at most it, and one unit more would be too many."""
    for amount, scope in ((0.0, "global"), (0.43, "global"), (0.43, "layer"), (37, "global")):
        found = run(m, model, data, amount=amount, seed=0, scope=scope)
        each, limits = [int((~found.model.mask(k)).sum()) for k in model.weights], asked(model, amount, scope)
        gone, wanted = sum(each), sum(limits)
        if scope == "layer" and any(n > limit for n, limit in zip(each, limits, strict=True)):
            yield f"{scope} {amount}: {each} weights went of the layers, at most {limits} were to"
        if found.record["asked"] != wanted or found.record["removed"] != gone:
            yield f"{scope} {amount}: record says {found.record['asked']} and {found.record['removed']}"
        if m.grain == "weight" and gone != wanted:
            yield f"{scope} {amount}: {gone} weights went, {wanted} were to"
        if m.grain == "unit" and not wanted - largest_unit(model) < gone <= wanted:
            yield f"{scope} {amount}: {gone} weights went with whole units, {wanted} were to"


def largest_unit(model: Model) -> int:
    """Incoming and outgoing weights of any unit, at most; in every layer one may be missing with scope="layer"."""
    sides = [model.params[k].shape[0] * math.prod(model.params[k].shape[2:]) for k in model.weights]
    return sum(model.params[k].size // model.params[k].shape[0] for k in model.weights) + 4 * max(sides)


def survivors(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """What was gone stays so, no layer is empty, every parameter is of the dtype it had."""
    first = {k: np.arange(model.params[k].size).reshape(model.params[k].shape) % 4 != 1 for k in model.weights}
    before = model.replace(masks=first)
    found = run(m, before, data, amount=0.55, seed=0).model
    for key in model.weights:
        if (found.mask(key) & ~first[key]).any():
            yield f"{key}: weights that had gone are back"
        if not found.mask(key).any():
            yield f"{key} is empty"
    for key, p in found.params.items():
        if p.dtype != model.params[key].dtype:
            yield f"{key} is {p.dtype}"
    again = run(m, found, data, amount=0.2, seed=0)
    if any((again.model.mask(k) != found.mask(k)).any() for k in model.weights):
        yield "a smaller amount than what has gone changed the masks"


def zeros(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """Pruned is exactly 0."""
    found = run(m, model, data, amount=0.5, seed=0).model
    for key in model.weights:
        if found.params[key][~found.mask(key)].any():
            yield f"{key}: a pruned weight is not 0"


def record(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """The record has the names it declares, all finite; metrics are those of `l0ref.metrics`."""
    found = run(m, model, data, amount=0.5, seed=0)
    if set(found.record) != {*COMMON, *m.records}:
        yield f"record has {sorted(found.record)}, declared are {sorted((*COMMON, *m.records))}"
    for name, value in found.record.items():
        if not all(np.isfinite(leaf).all() for leaf in numbers(value)):
            yield f"record[{name!r}] is not finite"
    if found.record.get("metrics") != metrics.of(found.model):
        yield "metrics are not those of l0ref.metrics"
    if found.record.get("removed") != metrics.pruned_count(found.model):
        yield "removed is not what the masks remove"


def numbers(value: Any) -> Iterator[Any]:
    """Every array and number inside a record."""
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from numbers(each)
    elif not isinstance(value, str):
        yield np.asarray(value, np.float64)


def seeds(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """The same seed gives the same bits; another gives others exactly if the method says so."""
    few = {name: 4 for name in ("samples", "per_class") if name in m.options}  # not all there are, so that a draw shows
    a, b, *others = (run(m, model, data, amount=0.5, seed=seed, **few).model for seed in (0, 0, 1, 2, 3))
    if not same_bits(a, b):
        yield "the same seed gave other bits"
    if all(same_bits(a, c) for c in others) == m.random:
        yield f"random={m.random}, and another seed gave {'the same' if m.random else 'other'} bits"


def same_bits(a: Model, b: Model) -> bool:
    arrays = zip((*a.params.values(), *a.masks.values()), (*b.params.values(), *b.masks.values()), strict=True)
    return all(np.array_equal(x, y) for x, y in arrays)


def untouched(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """Neither the model nor the data are written."""
    before, samples = {k: p.copy() for k, p in model.params.items()}, data.train.x.copy()
    run(m, model, data, amount=0.5, seed=0)
    if any((before[k] != p).any() for k, p in model.params.items()) or model.masks:
        yield "the model was written"
    if (samples != data.train.x).any():
        yield "the data were written"


def reading(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """Methods that read weights alone ask for no data; the others refuse none, empty and NaN in one sentence."""
    if set(m.reads) == {"weights"}:
        if not same_bits(run(m, model, None, amount=0.5, seed=0).model, run(m, model, data, amount=0.5, seed=0).model):  # type: ignore[arg-type]
            yield "data make a difference"
        return
    spoilt = data.train.take(np.arange(len(data.train)))
    object.__setattr__(spoilt, "x", np.full_like(spoilt.x, np.nan))  # no data set can be made with them
    empty = data.train.take(np.arange(0))
    for bad, said in ((None, "expected Splits"), (spoilt, "NaN"), (empty, "empty")):
        wrong = None if bad is None else dataclasses.replace(data, train=bad)
        yield from refusal(lambda wrong=wrong: run(m, model, wrong, amount=0.5, seed=0), L0RefError, said)  # type: ignore[misc]


def collapse(m: Method, model: Model, data: Splits) -> Iterator[Fault]:
    """A budget that leaves a layer empty is refused before work starts."""
    calls: list[int] = []

    def counted(*_: Any, amount: float, seed: int, scope: str = "global", min_keep: int = 0) -> Pruned:
        calls.append(seed)
        return Pruned(model)

    idle = dataclasses.replace(m, function=counted)
    for amount, scope in ((1.0, "global"), (model.size - 1, "global"), (0.99, "layer")):
        yield from refusal(
            lambda a=amount, s=scope: run(idle, model, data, amount=a, seed=0, scope=s),
            LayerCollapse,
            "prune less",  # type: ignore[misc]
        )
    if calls:
        yield "work started on a budget that leaves a layer empty"


def refusal(call: Callable[[], object], kind: type[Exception], said: str) -> Iterator[Fault]:
    """Whether a call is refused in one sentence."""
    try:
        call()
    except kind as error:
        if said not in str(error) or "\n" in str(error):
            yield f"refused with {error}"
    else:
        yield f"nothing was refused where {said!r} should be said"


CHECKS: dict[str, Callable[[Method, Model, Splits], Iterator[Fault]]] = {
    f.__name__: f for f in (budget, survivors, zeros, record, seeds, untouched, reading, collapse)
}
