"""`calibrate`: measure layers on this machine and fit the cost model of `l0ref.deploy.costs` to them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from l0ref.deploy.compact import sparse_twin
from l0ref.deploy.costs import KINDS, Costs, Line, terms
from l0ref.fast.machine.target import lanes
from l0ref.nn import Conv2d, Layer, Linear, Model
from l0ref.nn.compiled import FEW
from l0ref.validate import Array, count

DENSITIES = (0.5, 0.2, 0.05, 0.01)
BATCHES = (1, 16, 128)  # below and above FEW samples
TURN = 1e-3  # seconds of back-to-back passes of one layer, since the first has cold caches and sleeping threads
LINEAR = ((64, 100), (300, 100), (784, 300), (800, 500))  # inputs, outputs
CONV = ((1, 28, 20, 5), (20, 12, 50, 5), (16, 14, 32, 3))  # channels, height and width, filters, kernel


@dataclass(frozen=True)
class Sample:
    """The measurement of one layer: the inputs of the cost model, and the seconds of one forward pass."""

    kind: str
    few: bool
    uses: int
    rows: int
    size: int
    nnz: int
    dense: float
    sparse: float

    @property
    def sizes(self) -> dict[str, int]:
        """Arguments of `costs.terms`."""
        return {"uses": self.uses, "rows": self.rows, "size": self.size, "nnz": self.nnz}

    @property
    def terms(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Factors of the coefficients, dense and sparse."""
        return terms(self.kind, **self.sizes)

    def errors(self, line: Line) -> tuple[float, float]:
        """Return the relative errors of a Line, dense and sparse."""
        dense, sparse = line.seconds(self.kind, **self.sizes)
        return abs(dense - self.dense) / self.dense, abs(sparse - self.sparse) / self.sparse


def calibrate(*, seed: int = 0, rounds: int = 9) -> Costs:
    """Return the cost model of this machine; takes some seconds, and needs an idle machine.

    rounds  timed runs of each layer, about `TURN` seconds each, dense and sparse alternately; their medians are used
    """
    count("rounds", rounds, least=1)
    samples = list(_samples(np.random.default_rng(seed), rounds))
    many, few = ({kind: _fitted(samples, kind, few=few) for kind in KINDS} for few in (False, True))
    error = statistics.median(e for s in samples for e in s.errors((few if s.few else many)[s.kind]))
    return Costs(many, lanes(np.float32), error, few)


def _fitted(samples: Sequence[Sample], kind: str, *, few: bool) -> Line:
    here = [s for s in samples if (s.kind, s.few) == (kind, few)]
    dense = fit_line([s.terms[0] for s in here], [s.dense for s in here])
    sparse = fit_line([s.terms[1] for s in here], [s.sparse for s in here])
    return Line((dense[0], dense[1]), (sparse[0], sparse[1], sparse[2]))


def fit_line(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Return coefficients c >= 0 with a small sum ((terms c - t) / t)^2: least squares, without the negative ones.

    >>> [round(c, 6) for c in fit_line([(1, 0), (1, 2), (1, 4)], [3.0, 4.0, 5.0])]
    [3.0, 0.5]
    """
    t = np.asarray(seconds, np.float64)
    a = np.asarray(terms, np.float64) / t[:, None]
    used = list(range(a.shape[1]))
    while used:
        scale = np.abs(a[:, used]).max(axis=0)
        c = np.linalg.lstsq(a[:, used] / scale, np.ones(len(t)), rcond=None)[0] / scale
        if c.min() >= 0:
            break
        used.pop(int(c.argmin()))
    found = [0.0] * a.shape[1]
    for i, value in zip(used, c if used else [], strict=True):
        found[i] = float(value)
    return found


def _samples(rng: np.random.Generator, rounds: int) -> Iterator[Sample]:
    layers: list[tuple[Layer, tuple[int, ...]]] = [(Linear("fc", i, o), (i,)) for i, o in LINEAR]
    layers += [(Conv2d("conv", c, f, k), (c, h, h)) for c, h, f, k in CONV]
    for layer, shape in layers:
        dense = Model.init((layer,), input_shape=shape, seed=0)
        (key, kind), size = next(iter(dense.kinds.items())), dense.size
        for density in DENSITIES:
            kept = rng.random(dense.params[key].shape) < density
            masked = dense.replace(masks={key: kept})
            small = sparse_twin(masked)
            for batch in BATCHES:
                x = rng.standard_normal((batch, *shape), dtype=np.float32)
                uses = dense.positions[key] * -(-batch // lanes(np.float32))
                times = _medians((masked, small), x, rounds)
                yield Sample(kind, batch < FEW, uses, len(dense.params[key]), size, int(kept.sum()), *times)


def _medians(models: Sequence[Model], x: Array, rounds: int) -> tuple[float, float]:
    seconds: list[list[float]] = [[], []]
    calls = [1, 1]
    for turn in range(rounds + 1):
        for i, model in enumerate(models):
            start = time.perf_counter()
            for _ in range(calls[i]):
                model.logits(x)
            each = (time.perf_counter() - start) / calls[i]
            if turn:
                seconds[i].append(each)
            calls[i] = max(1, int(TURN / max(each, 1e-9)))
    return statistics.median(seconds[0]), statistics.median(seconds[1])
