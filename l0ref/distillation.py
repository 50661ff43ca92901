"""Distillation: a trained network as a teacher, whose probabilities are targets beside the labels.

    loss = (1 - L) CE(z, y)  +  L T^2 KL(q || p),     p = softmax(z / T),  q = softmax(t / T)

z and t are the outputs of student and teacher for the same samples, T is the temperature, L the weight. T^2 keeps the
gradients of both terms of similar size: d/dz of the second is L T (p - q), for large T about L (z - t) / C if the C
entries of z and of t have mean 0.

Ref  Hinton, Vinyals, Dean, Distilling the knowledge in a neural network (2015), section 2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.data import Dataset
from l0ref.data.transform import Transform, transformed
from l0ref.errors import ArgumentError
from l0ref.nn import Model
from l0ref.validate import Array, between, positive

MEMORY = 2**29  # bytes of answers that a teacher keeps for later trainings: 244 epochs of 55,000 samples of MNIST


class Soft(NamedTuple):
    """A teacher's targets for a batch, q (N, C) with rows that sum to 1, the temperature T and the weight L."""

    q: Array
    temperature: float
    weight: float

    def mixed(self, hard: Tensor, z: Tensor) -> Tensor:
        """Return the loss of outputs z (N, C) whose mean cross-entropy against the labels is `hard`."""
        log_q = np.log(self.q, where=self.q > 0, out=np.zeros_like(self.q))  # 0 log 0 is 0
        least = (self.q * log_q).sum(dtype=np.float64) / max(len(self.q), 1)
        divergence = ops.cross_entropy(z / self.temperature, self.q) + float(least)
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * divergence


@dataclass(frozen=True, repr=False)
class Teacher:
    """A trained network that a student imitates during training: an argument of `fit`.

    model        has as many classes as the data; it is evaluated, never trained
    temperature  T > 0; 1 gives the teacher's own probabilities, larger values flatter ones
    weight       L in [0, 1]: 0 trains on the labels alone, 1 on the teacher alone
    """

    model: Model
    temperature: float = 2.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.model, Model):
            raise ArgumentError(f"teacher has the model {type(self.model).__name__}, expected an l0ref Model")
        object.__setattr__(self, "temperature", positive("temperature", self.temperature))
        object.__setattr__(self, "weight", between("teacher_weight", self.weight, 0.0, 1.0))

    def __repr__(self) -> str:
        return f"Teacher({self.checksum[:16]}, temperature={self.temperature}, weight={self.weight})"

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the architecture and of every array of the network."""
        digest = hashlib.sha256(repr(self.model.architecture_json()).encode())
        for key, array in {**self.model.params, **self.model.buffers}.items():
            digest.update(f"{key} {array.dtype.str} {array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def check(self, data: Dataset) -> None:
        """Refuse data with another number of classes, or samples that the teacher cannot take."""
        if not data.classes or self.model.output_shape != (data.classes,):
            told = f"{data.classes} classes" if data.classes else "targets of a regression"
            raise ArgumentError(
                f"teacher gives outputs of shape {self.model.output_shape}, {data.name!r} has {told}; "
                "choose a teacher of the same classes"
            )
        self.model.check_input("teacher's input", data.x)

    @cached_property
    def answers(self) -> Answers:
        """The answers of the teacher so far."""
        return Answers()

    def soft(self, x: Array) -> Soft:
        """Return the teacher's targets for samples x (N, ...)."""
        z = self.model.logits(x.astype(self.model.dtype, copy=False)) / self.temperature
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return Soft((e / e.sum(axis=1, keepdims=True)).astype(x.dtype, copy=False), self.temperature, self.weight)


class Answers:
    """Rows q for the transformed samples of one data set and seed, by epoch and sample number.

    They depend on nothing else, so a control, which sees the same samples as the network it is compared with, does not
    wait for the teacher again. Other samples or another seed empty the memory; when it is full, nothing is added.
    """

    def __init__(self) -> None:
        self.feed: Feed | None = None
        self.epochs: dict[int, tuple[Array, Array]] = {}

    def find(self, feed: Feed, epoch: int, order: Array) -> Array | None:
        """Return the rows of the samples `order` if all of them are known, else None."""
        old, self.feed = self.feed, feed
        if old is None or (old.data, old.transform) != (feed.data, feed.transform) or old.seed != feed.seed:
            self.epochs = {}
        q, known = self.epochs.get(epoch, (None, np.zeros(1, bool)))
        return q[order] if q is not None and known[order].all() else None

    def keep(self, epoch: int, order: Array, q: Array, samples: int) -> None:
        """Keep rows q of the samples `order`, of `samples` in all."""
        if epoch not in self.epochs:
            if (len(self.epochs) + 1) * samples * q[0].nbytes > MEMORY:
                return
            self.epochs[epoch] = np.empty((samples, q.shape[1]), q.dtype), np.zeros(samples, bool)
        rows, known = self.epochs[epoch]
        rows[order], known[order] = q, True


@dataclass(frozen=True)
class Feed:
    """The input of the steps of a training: transformed samples of a batch, and the teacher's targets for them."""

    data: Dataset
    seed: int
    transform: Transform | None = None
    teacher: Teacher | None = None

    def samples(self, order: Array, epoch: int) -> Array:
        """Return the samples data.x[order] of a batch, transformed."""
        x = self.data.x[order]
        return x if self.transform is None else transformed(self.transform, x, self.seed, epoch, order)

    def soft(self, order: Array, x: Array, epoch: int) -> Soft | None:
        """Return the teacher's targets for x = samples(order, epoch), computed once for all trainings of a seed."""
        if (teacher := self.teacher) is None:
            return None
        if self.transform is None:
            return self._asked._replace(q=self._asked.q[order])
        q = teacher.answers.find(self, epoch, order)
        if q is None:
            q = teacher.soft(x).q
            teacher.answers.keep(epoch, order, q, len(self.data))
        return Soft(q, teacher.temperature, teacher.weight)

    @cached_property
    def _asked(self) -> Soft:
        assert self.teacher is not None
        return self.teacher.soft(self.data.x)
