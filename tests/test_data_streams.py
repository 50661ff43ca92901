from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.errors import ArgumentError
from l0ref.streams import PURPOSES, stream


def test_stream_is_the_documented_generator() -> None:
    expected = np.random.default_rng(np.random.SeedSequence([7, 1, 3])).random(5)
    np.testing.assert_array_equal(stream(7, "shuffle", 3).random(5), expected)
    np.testing.assert_array_equal(stream(7, "shuffle").random(5), stream(7, "shuffle", 0).random(5))


def test_stream_numbers_of_the_purposes_never_change() -> None:
    known = {"init": 0, "shuffle": 1, "dropout": 2, "prune": 3, "split": 4, "calibrate": 5}
    assert {key: PURPOSES[key] for key in known} == known
    assert sorted(PURPOSES.values()) == list(range(len(PURPOSES)))


def test_streams_differ_whenever_one_of_the_three_numbers_does() -> None:
    seeds, epochs = (0, 1, 2, 2**32 - 1), (0, 1, 2, 2**32 - 1)
    drawn = {stream(s, p, e).bytes(16) for s in seeds for p in PURPOSES for e in epochs}
    assert len(drawn) == len(seeds) * len(PURPOSES) * len(epochs)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((-1, "init"), r"^seed=-1 must be at least 0"),
        ((2**32, "init"), r"^seed=4294967296 must be below 2\*\*32, so that no two seeds share a stream$"),
        ((0.5, "init"), r"^seed=0\.5 must be a whole number"),
        ((0, "init", -1), r"^epoch=-1 must be at least 0"),
        ((0, "init", 2**32), r"^epoch=4294967296 must be below"),
        ((0, "shufle"), r"^purpose='shufle' is not one of .*did you mean 'shuffle'\?$"),
    ],
)
def test_stream_refuses(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        stream(*arguments)


def test_seeds_of_more_than_32_bits_would_collide() -> None:
    """Why the bound is there: SeedSequence splits 2**32 + s into two words and pads with zeros."""
    long = np.random.default_rng(np.random.SeedSequence([2**32, 0, 0])).random()
    short = np.random.default_rng(np.random.SeedSequence([0, 1, 0])).random()
    assert long == short
