"""The training of a network on random images: the task that all contenders of a training suite share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from l0ref.autodiff.op import backend
from l0ref.bench.work import Answers
from l0ref.data import Dataset, batches
from l0ref.nn import Model
from l0ref.optim import Adam
from l0ref.penalty import Penalty
from l0ref.surrogates import Laplace
from l0ref.training import History, fit
from l0ref.validate import Array

# Large enough that a contender without one of the two terms fails the comparison; the time does not depend on them.
LAPLACE = Laplace(beta=5.0)
PENALTY = Penalty(LAPLACE, alpha=1e-3, l2=1e-3)

# Two correct contenders usually differ by 1e-5. Where the input of a ReLU is so close to 0 that rounding decides its
# sign, one sample more or less contributes to a unit, which Adam amplifies to up to 3e-2. A missing l2 term gives 0.18.
TOLERANCE = 5e-2
PENALISED, PLAIN = "with penalty", "no penalty"
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Training:
    """Adam on mean cross-entropy, with `PENALTY` or without.

    model       float32, before the first step
    batch_size  images in a step
    samples     number of images; n steps train on the first min(n batch_size, samples) of them
    seed        of images, labels and order

    Images are uniform in [0, 1), labels random. Every contender takes the rows `order(n)` from arrays that exist
    before the clock starts, as `fit` does.
    """

    model: Model
    batch_size: int
    samples: int
    lr: float = 1e-3
    seed: int = 0
    _data: dict[int, Dataset] = field(default_factory=dict, init=False, repr=False)
    _orders: dict[int, list[Rows]] = field(default_factory=dict, init=False, repr=False)

    def data(self, steps: int) -> Dataset:
        """The images of `steps` steps; the same value each time."""
        n = min(steps * self.batch_size, self.samples)
        if n not in self._data:
            rng = np.random.default_rng(self.seed)
            labels = rng.integers(self.model.classes, size=self.samples)
            x = rng.random((n, *self.model.input_shape), dtype=np.float32)
            self._data[n] = Dataset(x, labels[:n], self.model.classes, "random images")
        return self._data[n]

    def order(self, steps: int) -> list[Rows]:
        """The rows of each batch, in the order in which `fit` takes them in its first epoch."""
        n = len(self.data(steps))
        if n not in self._orders:
            numbers = Dataset(np.arange(n, dtype=np.float64)[:, None], np.zeros(n, np.intp), 1, "row numbers")
            taken = batches(numbers, batch_size=self.batch_size, seed=self.seed, epoch=1)
            self._orders[n] = [x[:, 0].astype(np.intp) for x, _ in taken]
        return self._orders[n]

    def moved(self, params: Mapping[str, Array], mean_loss: float) -> Answers:
        """The answer of a contender: the change of every array, and the mean data loss of the steps."""
        start = self.model.params
        far = {key: np.asarray(w, np.float64) - np.asarray(start[key], np.float64) for key, w in params.items()}
        return {**far, "mean loss": np.asarray(mean_loss)}

    def fitted(self, done: tuple[Model, History]) -> Answers:
        """The answer that corresponds to the result of `fit`."""
        model, history = done
        return self.moved(model.params, history.rows[-1]["loss_data"])

    def expected(self, steps: int) -> dict[str, Callable[[], Answers]]:
        """The expected answers after `steps` steps, by problem: `fit` in float64 on plain NumPy."""
        return {
            PENALISED: partial(self._truth, steps, PENALTY),
            PLAIN: partial(self._truth, steps, Penalty()),
        }

    def _truth(self, steps: int, penalty: Penalty) -> Answers:
        narrow = self.data(steps)
        wide = Dataset(narrow.x.astype(np.float64), narrow.y, narrow.classes, narrow.name)
        with backend("numpy"):
            done = fit(
                self.model.astype(np.float64), wide, epochs=1, seed=self.seed, batch_size=self.batch_size,
                optimizer=Adam(lr=self.lr), penalty=penalty, progress="none",
            )  # fmt: skip
        return self.fitted(done)
