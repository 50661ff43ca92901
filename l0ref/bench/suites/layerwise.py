"""`layerwise`: error and time of the solver of one layer, beside simpler methods, ExactOBS and abess.

The network is LeNet-300-100 trained on MNIST with an l2 penalty, if the data are there; otherwise a network on the
built-in digits, for which the goals were not made: then no row has a verdict. Times are processor seconds of the
process, without compilation; the target of a layer is its output before the activation, from 3000 training images.
Times of proofs differ between neurons by a factor of ten: the slowest of those tried counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from l0ref.bench.work import Claim, Plan, Suite
from l0ref.data import Dataset, load
from l0ref.errors import DataError
from l0ref.interop.extras import need
from l0ref.layerwise import Quadratic, certify, solve
from l0ref.layerwise.admm import largest_of_rows
from l0ref.methods.elimination import path
from l0ref.methods.layer_by_layer import layer_quadratic, prune_layers, samples_of
from l0ref.metrics import evaluate
from l0ref.nn import Model, digits_mlp, lenet_300_100
from l0ref.optim import Adam
from l0ref.penalty import Penalty
from l0ref.training import fit
from l0ref.validate import Array

SAMPLES = 3000
ZEROS = (0.90, 0.95, 0.98)
NEURONS = 20  # beside abess
TRIES = 3  # repetitions of a solution, of which the median counts, and neurons that are proven
LIMIT = 600.0  # seconds for a proof
LAYERS = ("fc1", "fc2")
SQUARED = {"fc1": 0.35, "fc2": 0.45}
SECONDS = {"fc1": (2.0, 1.3, 1.0), "fc2": (0.2, 0.2, 0.2)}
PROOFS = ((40, 10, 10.0), (60, 6, 5.0), (100, 5, 60.0))  # inputs, weights, goal in seconds
LAYER_PROOFS = (("fc3", 2, 3.0), ("fc2", 2, 60.0))


@dataclass(frozen=True)
class Bench:
    """A trained network, calibration images, test images, and whether the goals apply to them."""

    model: Model
    x: Array
    test: Dataset
    has_goals: bool
    tries: int = TRIES

    @classmethod
    def make(cls, plan: Plan) -> Bench:
        """Train the network."""
        name = "digits" if plan.quick else "mnist"
        try:
            data = load(name, seed=plan.seed)
        except DataError:
            data = load(name := "digits", seed=plan.seed)
        model = (lenet_300_100 if name == "mnist" else digits_mlp)(seed=plan.seed)
        for epochs, lr in ((1, 1e-3),) if plan.quick else ((12, 1e-3), (4, 1e-4)):
            options: dict[str, Any] = {"batch_size": 128, "optimizer": Adam(lr=lr), "progress": "none"}
            model, _ = fit(model, data.train, epochs=epochs, seed=plan.seed, penalty=Penalty(l2=1e-4), **options)
        return cls(model, data.train.x[:SAMPLES], data.test, name == "mnist", min(TRIES, plan.rounds))

    def layer(self, name: str) -> Layer:
        """Return the problem of one layer."""
        return Layer(self, name)

    @cached_property
    def about(self) -> str:
        """The data of the rows, and whether the goals apply to them."""
        data = "MNIST" if self.has_goals else "digits (the goals are for MNIST: no verdicts)"
        return f"{data}, {len(self.x)} images, test error of the dense network {self.error(self.model):.2f} %"

    def error(self, model: Model) -> float:
        """Return the test error in per cent."""
        return 100 * (1 - evaluate(model, self.test).acc1)


@dataclass(frozen=True)
class Layer:
    """One layer of the network: its quadratic, and budgets for each neuron."""

    bench: Bench
    name: str

    @cached_property
    def quadratic(self) -> Quadratic:
        """With a ridge towards the trained weights."""
        return layer_quadratic(self.bench.model, f"{self.name}.weight", self.bench.x)

    @cached_property
    def samples(self) -> tuple[Array, Array]:
        """Inputs that vary (N, p), and targets (N, M), both minus their means."""
        parts = zip(*samples_of(self.bench.model, f"{self.name}.weight", self.bench.x), strict=True)
        X, Y = (np.concatenate(part).astype(np.float64) for part in parts)
        X = X[:, self.quadratic.live]
        return X - X.mean(axis=0), Y - Y.mean(axis=0)

    def budget(self, zeros: float) -> int:
        """Weights that a neuron keeps, at least one."""
        return max(1, int((1 - zeros) * self.quadratic.shape[1] + 0.5))

    def magnitude(self, k: int) -> Array:
        """Weights of least squares on the k largest of every neuron."""
        layer = self.quadratic
        most = np.minimum(k, len(layer.live)) * layer.varies
        return layer.refit(layer.widen(largest_of_rows(np.abs(layer.trained), most)))

    def solved(self, k: int) -> tuple[float, Array]:
        """Return the processor seconds of `solve`, the median of several, and its weights."""
        return seconds(lambda: solve(self.quadratic, k, seed=0).weights, self.bench.tries)


def seconds(call: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Return processor seconds of a call, the median of `times`, and its last result."""
    took = []
    for _ in range(times):
        begin = time.process_time()
        found = call()
        took.append(time.process_time() - begin)
    return float(np.median(took)), found


def exact_obs(layer: Quadratic, budgets: Sequence[int]) -> tuple[float, dict[int, Array]]:
    """ExactOBS (Frantar, Singh, Alistarh 2022) as in `methods`: seconds, and {weights kept: solution}.

    Every neuron begins at its dense optimum; one pass, with one inverse for all neurons, serves all budgets.
    """
    none = np.zeros(len(layer.gram), bool)

    def orders() -> list[Array]:
        inverse = np.linalg.inv(layer.gram)
        return [path(layer.gram, w, gone=none, inverse=inverse)[0] for w in layer.moments @ inverse]

    took, found = seconds(orders)
    stays = np.argsort(np.array(found), axis=1) >= none.size - np.array(budgets)[:, None, None]  # by elimination step
    return took, {k: layer.refit(layer.widen(s & layer.varies[:, None])) for k, s in zip(budgets, stays, strict=True)}


def beside_simple(layer: Layer) -> Iterator[Claim]:
    """Error and time beside magnitude with least squares, and beside ExactOBS."""
    theirs, peers = exact_obs(layer.quadratic, [layer.budget(zeros) for zeros in ZEROS])
    for place, zeros in enumerate(ZEROS):
        k, q = layer.budget(zeros), layer.quadratic
        took, weights = layer.solved(k)
        name, other = f"{layer.name}, {100 * zeros:g} %", peers[k]
        if zeros < max(ZEROS):
            squared = float(np.sum(q.error(weights)) / np.sum(q.error(layer.magnitude(k))))
            yield Claim(f"{name}: squared error / magnitude + least squares", squared, SQUARED[layer.name])
        error = q.relative_error(weights) / q.relative_error(other)
        yield Claim(f"{name}: relative error / ExactOBS", error, 0.97)
        if layer.name == "fc1":
            yield Claim(f"{name}: time / ExactOBS", took / theirs, 0.25)
        yield Claim(f"{name}: time of solve", took, SECONDS[layer.name][place], unit="s")


def beside_abess(layer: Layer, zeros: float) -> Iterator[Claim]:
    """Error and time beside abess with as many weights, its support refitted by us, on the first neurons that vary."""
    X, Y = layer.samples
    rows = np.flatnonzero(layer.quadratic.varies)[:NEURONS]
    q, k = Quadratic.from_samples(X, Y[:, rows]), layer.budget(zeros)
    linear = need("abess", extra="bench").LinearRegression

    def chosen() -> Array:
        return np.stack([linear(support_size=k).fit(X, Y[:, i]).coef_ != 0 for i in rows])

    theirs, support = seconds(chosen)
    took, weights = seconds(lambda: solve(q, k, seed=0).weights, layer.bench.tries)
    ours, others = q.error(weights), q.error(q.refit(support))
    name = f"{layer.name}, {100 * zeros:g} %, {len(rows)} neurons"
    yield Claim(f"{name}: relative error / abess", float(np.sqrt(ours.sum() / others.sum())), 0.98)
    yield Claim(f"{name}: share worse than abess", float((ours > others * (1 + 1e-9)).mean()), 0.2)
    yield Claim(f"{name}: time / abess", took / theirs, 0.1)


def cascades(bench: Bench) -> Iterator[Claim]:
    """Test errors without fine-tuning; each layer gets the outputs of the pruned layers before it."""
    sizes = {key: bench.model.params[key].size for key in bench.model.weights}
    for zeros, goal in ((0.95, 2.4), (0.98, 4.2)):
        shares = {"fc1.weight": 1 - zeros, "fc2.weight": 1 - zeros, "fc3.weight": 0.5}
        keep = {key: int(share * sizes[key] + 0.5) for key, share in shares.items()}
        found = prune_layers(bench.model, bench.x, keep)
        yield Claim(
            f"cascade, {100 * zeros:g} % of fc1 and fc2, 50 % of fc3: test error", bench.error(found), goal, "%"
        )


def proofs(bench: Bench) -> Iterator[Claim]:
    """Times of `certify`, for neurons of fc2 with their strongest inputs, and for whole neurons; ridges towards 0."""
    cases: list[tuple[str, str, int | None, int, float]] = [("fc2", f", p = {p}", p, k, s) for p, k, s in PROOFS]
    for name, about, p, k, goal in [*cases, *((name, "", None, k, s) for name, k, s in LAYER_PROOFS)]:
        layer = bench.layer(name)
        X, Y = layer.samples
        slowest, proven = 0.0, True
        for i in np.flatnonzero(layer.quadratic.varies)[: bench.tries]:
            w = layer.quadratic.trained[i]
            strong = np.argsort(-np.abs(w) * X.std(axis=0), kind="stable")[:p]
            y = Y[:, i] if p is None else X[:, strong] @ w[strong]
            problem = Quadratic.from_samples(X[:, strong], y)
            took, found = seconds(partial(certify, problem, k, time_limit=LIMIT))
            slowest, proven = max(slowest, took), proven and found.proven
        yield Claim(f"certify {name}{about}, k = {k}", slowest, goal, unit="s", complete=proven)


def claims(plan: Plan) -> Iterator[Claim | str]:
    """Yield a description of the data, then all rows."""
    bench = Bench.make(plan)
    yield bench.about
    small = bench.layer("fc3").quadratic.row(0)
    solve(small, 2, seed=0, tries=1), exact_obs(small, [2])  # compiles
    for found in _rows(bench, plan):
        yield found if bench.has_goals else found.without_goal()


def _rows(bench: Bench, plan: Plan) -> Iterator[Claim]:
    for name in LAYERS:
        yield from beside_simple(bench.layer(name))
    if "abess" in plan.peers:
        yield from beside_abess(bench.layer("fc1"), 0.95)
        yield from beside_abess(bench.layer("fc2"), 0.95)
    yield from cascades(bench)
    yield from proofs(bench)


SUITES = (Suite("layerwise", "the solver of one layer: errors, times and proofs beside its goals", claims=claims),)
