"""What is special about dropout: its frequencies, its scale, where its randomness comes from, refusals."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError, DTypeError
from tests.cases.dropout import CASES
from tests.naive.dropout import dropout_vjp
from tests.test_ops import assert_close, evaluate


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_dropout_cotangents_equal_loops(case: Any) -> None:
    xs, options = case.draw(3)
    _, y_bar, (x_bar,) = evaluate(case, xs, options, 3)
    assert_close(x_bar, dropout_vjp(y_bar, *xs, **options)[0], 1e-15, "cotangent")


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.95])
def test_dropout_frequency_and_mean(p: float, rng: np.random.Generator) -> None:
    n = 100_000
    y = ops.dropout(np.ones(n), p=p, training=True, rng=rng).data
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    deviations = (np.count_nonzero(y) - n * (1 - p)) / np.sqrt(n * p * (1 - p))
    assert abs(deviations) < 5  # standard deviations of a binomial count
    assert abs(y.mean() - 1) < 5 * np.sqrt(p / (1 - p) / n)


def test_dropout_entries_are_independent(rng: np.random.Generator) -> None:
    kept = ops.dropout(np.ones((400, 500)), p=0.5, training=True, rng=rng).data > 0
    for a, b in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1])):  # neighbours in each direction
        assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(a.size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_at_the_ends_of_p(dtype: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 4)).astype(dtype)
    all_kept = ops.dropout(x, p=0.0, training=True, rng=rng).data
    np.testing.assert_array_equal(all_kept, x)
    t = Tensor(x)
    none_kept = ops.dropout(t, p=1.0, training=True, rng=rng)
    np.testing.assert_array_equal(none_kept.data, np.zeros((3, 4), dtype))
    np.testing.assert_array_equal(grad(none_kept, [t], y_bar=np.ones((3, 4), dtype))[0], np.zeros((3, 4), dtype))
    assert all_kept.dtype == none_kept.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_evaluation_is_the_identity_and_draws_nothing(dtype: Any, rng: np.random.Generator) -> None:
    x = Tensor(rng.normal(size=(3, 4)).astype(dtype))
    state = rng.bit_generator.state
    y = ops.dropout(x, p=0.7, training=False, rng=rng)
    np.testing.assert_array_equal(y.data, x.data)
    assert y.dtype == dtype
    np.testing.assert_array_equal(ops.dropout(x, p=0.7, training=False, rng=None).data, x.data)
    assert not np.shares_memory(y.data, x.data)
    assert rng.bit_generator.state == state
    np.testing.assert_array_equal(grad(y, [x], y_bar=np.ones(x.shape, dtype))[0], np.ones(x.shape))


def test_dropout_repeats_with_its_seed_and_in_both_dtypes() -> None:
    def draw(seed: int, dtype: Any = np.float64) -> Any:
        return ops.dropout(np.ones((9, 8), dtype), p=0.4, training=True, rng=np.random.default_rng(seed)).data

    np.testing.assert_array_equal(draw(1), draw(1))
    np.testing.assert_array_equal(draw(1) > 0, draw(1, np.float32) > 0)
    assert not np.array_equal(draw(1), draw(2))


def test_dropout_draws_again_on_every_call(rng: np.random.Generator) -> None:
    first, second = (ops.dropout(np.ones(64), p=0.5, training=True, rng=rng).data for _ in range(2))
    assert not np.array_equal(first, second)


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (np.ones(3), {"p": 1.5}, ArgumentError, "p=1.5 must lie in [0, 1]"),
    (np.ones(3), {"p": -0.1}, ArgumentError, "p=-0.1 must lie in [0, 1]"),
    (np.ones(3), {"p": float("nan")}, ArgumentError, "p=nan must be finite"),
    (np.ones(3), {"p": -0.1, "training": False}, ArgumentError, "p=-0.1 must lie in [0, 1]"),
    (np.ones(3), {"rng": None}, ArgumentError, "rng=None must be a numpy Generator if training is True; pass np.ran"),
    (
        np.ones(3),
        {"rng": 7},
        ArgumentError,
        "rng=7 must be a numpy Generator if training is True; pass np.random.default_rng(",
    ),
    (np.ones(3, int), {}, DTypeError, "input has dtype int64, expected float32 or float64; convert it with"),
]


@pytest.mark.parametrize(("x", "options", "error", "said"), REFUSED, ids=[row[3][:40] for row in REFUSED])
def test_dropout_refuses(x: Any, options: dict[str, Any], error: type[Exception], said: str) -> None:
    given = {"p": 0.5, "training": True, "rng": np.random.default_rng(0), **options}
    with pytest.raises(error, match="^" + re.escape(said)):
        ops.dropout(x, **given)
