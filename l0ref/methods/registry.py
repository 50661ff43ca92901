"""The registry of methods: a description of each, and the one way to run it.

    @method("magnitude", paper="...", kind="score", reads=("weights",))
    def magnitude(model, data, *, amount, seed, **options) -> Pruned

kind    score       ranks single weights and masks the lowest
        layerwise   solves a problem of each layer, and may change the weights that stay
        structured  removes whole units (neurons, filters); grain="unit"
        training    trains and prunes; takes `feed`, through which it trains on augmented samples or with a teacher
amount  a float is the fraction of all weights that is gone afterwards, an int the count, weights that were gone before
        included. A method of single weights meets it exactly: floor(amount n + 0.5) of n weights, or of each layer with
        scope="layer". A method of units removes at most that number: one unit more would be too many. Either way
        `record["removed"]` is the exact count.

scope   whether the amount is of the whole network ("global") or of each layer by itself ("layer"); every method has it,
        and `min_keep`, the least number of weights that every layer keeps

Every run is checked before work starts (a budget that leaves a layer empty, data that are missing or not finite,
options the method does not have), timed, checked to have left finite numbers, and measured by `l0ref.metrics`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from l0ref import metrics
from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError, Diverged, LayerCollapse
from l0ref.masks.ranking import drop_count
from l0ref.methods.shares import named_shares
from l0ref.nn import Model
from l0ref.record import clock
from l0ref.streams import stream
from l0ref.validate import Array, choose, count

KINDS = ("score", "layerwise", "structured", "training")
READS = ("weights", "activations", "gradients", "training")
COMMON = ("asked", "removed", "metrics")  # entries of every record
Feed = Mapping[str, Any]  # the arguments `batch` and `teacher` of `fit` that are given
NO_FEED: Feed = MappingProxyType({})


@dataclass(frozen=True)
class Pruned:
    """The result of a method.

    model    with masks of the removed weights
    record   every intermediate quantity a reader may want to plot, by name, and
             asked    number of weights to remove
             removed  number of weights removed
             metrics  `metrics.of(model)`
    seconds  wall-clock time
    epochs   passes of the method over the training set
    """

    model: Model
    record: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    epochs: int = 0


@dataclass(frozen=True)
class Method:
    """One published method.

    name      as in `Cut(method=...)`
    function  (model, data, *, amount, seed, **options) -> Pruned
    paper     authors and year
    kind      one of KINDS
    reads     its inputs, out of READS
    grain     "weight" or "unit": the kind of entries that it removes
    records   names in its record beyond those of every method
    marks     "[I]" if something is inferred, "[U]" if something of the paper is unknown
    random    whether the result depends on the seed
    """

    name: str
    function: Callable[..., Pruned]
    paper: str
    kind: str
    reads: tuple[str, ...]
    grain: str
    records: tuple[str, ...]
    marks: str
    random: bool

    @property
    def options(self) -> dict[str, Any]:
        """Defaults of the keyword options, by name."""
        parameters = inspect.signature(self.function).parameters
        return {k: p.default for k, p in parameters.items() if k not in ("model", "data", "amount", "seed", "feed")}

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse an option the method does not have."""
        known = self.options
        for name, value in options.items():
            if name not in known:
                have = f"it has {', '.join(known)}" if known else "it has none"
                raise ArgumentError(f"{name}={value!r} is not an option of method={self.name!r}; {have}")

    def check_budget(self, model: Model, *, amount: float, **options: Any) -> int:
        """Return how many weights are to be removed; refuse an amount that would leave a layer without a weight."""
        options = self.options | options
        scope = choose("scope", options["scope"], ("global", "layer"))
        least = count("min_keep", options["min_keep"])
        if model.patterns:
            raise ArgumentError(f"model is compact: {next(iter(model.patterns))!r} is sparse; prune the masked model")
        named_shares(options.get("budget") or "magnitude", model.weights, scope=scope)
        if scope == "layer":
            return sum(_drop(model, [key], amount, least, f" in layer {key!r}") for key in model.weights)
        return _drop(model, list(model.weights), amount, least, "")

    def run(
        self, model: Model, data: Splits, *, amount: float, seed: int, feed: Feed = NO_FEED, **options: Any
    ) -> Pruned:
        """Check, prune, time and measure; `model` is not changed.

        data  its training set is needed by methods that read more than weights
        feed  the arguments `batch` and `teacher` of `fit`, for methods that train; other methods ignore it
        """
        self.check_options(options)
        asked = self.check_budget(model, amount=amount, **options)
        if set(self.reads) != {"weights"}:
            check_calibration(model, data)
        start = clock()
        if self.kind == "training":
            options = {"feed": feed, **options}
        found = self.function(model, data, amount=amount, seed=count("seed", seed), **options)
        for key, array in {**found.model.params, **found.model.buffers}.items():
            if not np.isfinite(array).all():
                raise Diverged(
                    f"method={self.name!r} left NaN or infinite entries in {key!r}; check that the model it was given "
                    "is finite, then make its weights or the samples smaller, or compute in float64"
                )
        common = measured(found.model, asked).record
        return dataclasses.replace(found, record={**found.record, **common}, seconds=clock() - start)


METHODS: dict[str, Method] = {}


def method(
    name: str,
    *,
    paper: str,
    kind: str,
    reads: tuple[str, ...],
    grain: str = "weight",
    records: tuple[str, ...] = (),
    marks: str = "",
    random: bool = False,
) -> Callable[[Callable[..., Pruned]], Callable[..., Pruned]]:
    """Register a function `(model, data, *, amount, seed, **options) -> Pruned`; the fields are those of `Method`."""
    choose("kind", kind, KINDS)
    choose("grain", grain, ("weight", "unit"))
    for what in reads:
        choose("reads", what, READS)
    if name in METHODS:
        raise ArgumentError(f"name={name!r} is a method of {METHODS[name].paper} already; choose another name")

    def register(function: Callable[..., Pruned]) -> Callable[..., Pruned]:
        takes = inspect.signature(function).parameters
        for needed in ("amount", "seed", "scope", "min_keep", *(["feed"] if kind == "training" else [])):
            if needed not in takes:
                who = "that trains " if needed == "feed" else ""
                raise ArgumentError(f"function of method={name!r} does not take {needed}; every method {who}does")
        METHODS[name] = Method(name, function, paper, kind, reads, grain, records, marks, random)
        return function

    return register


def measured(model: Model, asked: int | None = None) -> Pruned:
    """Return a pruned model with the entries of every record; by default the number asked for is the number removed."""
    removed = metrics.pruned_count(model)
    asked = removed if asked is None else asked
    return Pruned(model, {"asked": asked, "removed": removed, "metrics": metrics.of(model)})


def check_calibration(model: Model, data: Splits) -> None:
    """Refuse data a method cannot read: no Splits, no samples, entries that are not finite, or the wrong shape."""
    if not isinstance(data, Splits):
        raise ArgumentError(f"data is {type(data).__name__}, expected Splits; methods calibrate on data.train")
    if not len(data.train):
        raise ArgumentError(f"data.train of {data.name!r} is empty; methods calibrate on it, give at least one sample")
    if not np.isfinite(data.train.x).all():
        raise ArgumentError(f"data.train of {data.name!r} holds NaN or infinite entries; drop or repair those samples")
    model.check_input("data.train.x", data.train.x)


def calibration(model: Model, data: Splits, *, samples: int, seed: int) -> Dataset:
    """Return up to `samples` training samples, drawn without replacement, in the dtype of the model."""
    n = len(data.train)
    few = min(count("samples", samples, least=1), n)
    chosen: Array = np.sort(stream(seed, "calibrate").choice(n, size=few, replace=False)) if few < n else np.arange(n)
    part = data.train.take(chosen)
    return part if part.x.dtype == model.dtype else dataclasses.replace(part, x=part.x.astype(model.dtype))


def _drop(model: Model, keys: list[str], amount: float, least: int, where: str) -> int:
    n = sum(model.sizes[key] for key in keys)
    drop = drop_count(amount, n, "entries", where)
    floor = sum(min(max(least, 1), model.sizes[key]) for key in keys)
    if n - drop < floor:
        layers = "layer keeps" if len(keys) == 1 else f"{len(keys)} layers keep"
        raise LayerCollapse(
            f"amount={amount!r} leaves {n - drop} of {n} weights{where}, and the {layers} at least {floor}; prune less"
        )
    return drop
