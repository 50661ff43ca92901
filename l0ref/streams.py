"""Streams of random numbers: one independent generator for each (seed, purpose, epoch).

A stream is a pure function of its three numbers. So the shuffle of epoch 7 does not depend on what
was drawn in epoch 6, and training continued from any of its states (`l0ref.training.TrainingState`) gives
the bits of an uninterrupted one, in another process too (`l0ref.training.resume`).
"""

from __future__ import annotations

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.validate import choose, count

# The numbers are part of every published result: append new purposes, never renumber.
PURPOSES = {"init": 0, "shuffle": 1, "dropout": 2, "prune": 3, "split": 4, "calibrate": 5, "sweep": 6, "augment": 7}

WORD = 2**32  # SeedSequence reads 32-bit words; a longer number would spill into the next entry


def stream(seed: int, purpose: str, epoch: int = 0) -> np.random.Generator:
    """A generator that depends on (seed, purpose, epoch) alone: default_rng(SeedSequence([seed, id, epoch])).

    `seed` and `epoch` lie in [0, 2**32); `purpose` is a key of `PURPOSES`. Two different triples
    always seed differently.
    """
    entropy = [_word("seed", seed), PURPOSES[choose("purpose", purpose, PURPOSES)], _word("epoch", epoch)]
    return np.random.default_rng(np.random.SeedSequence(entropy))


def _word(name: str, value: int) -> int:
    if count(name, value) >= WORD:
        raise ArgumentError(f"{name}={value!r} must be below 2**32, so that no two seeds share a stream")
    return int(value)
