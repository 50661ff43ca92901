"""The loop over batches around a gradient that another library computes in NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from l0ref.bench.peers.numpy_adam import NumpyAdam
from l0ref.bench.training import PENALISED, Training
from l0ref.bench.work import Answers, Contender
from l0ref.validate import Array

# (parameters, images, labels) -> (data loss, gradients of data loss + penalty)
Gradient = Callable[[Mapping[str, Array], Array, Array], tuple[float, Mapping[str, Array]]]


class NumpyLoop:
    """Train with a gradient from elsewhere and `NumpyAdam`."""

    def __init__(self, task: Training, gradient: Gradient) -> None:
        self.task, self.gradient = task, gradient
        self.reset()

    def contender(self, name: str) -> Contender:
        """The loop as a contender."""
        return Contender(name, self.run, reset=self.reset, answer=self.answer, problem=PENALISED)

    def reset(self) -> None:
        """Begin with the first weights and an Adam without memory."""
        self.adam = NumpyAdam(self.task.model.params, lr=self.task.lr)

    def run(self, steps: int) -> float:
        """What is timed; returns the mean data loss."""
        data, total = self.task.data(steps), 0.0
        for rows in self.task.order(steps):
            loss, grads = self.gradient(self.adam.params, data.x[rows], data.y[rows])
            self.adam.step(grads)
            total += loss * len(rows)
        return total / len(data)

    def answer(self, mean_loss: float) -> Answers:
        """How far the weights have moved."""
        return self.task.moved(self.adam.params, mean_loss)
