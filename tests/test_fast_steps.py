"""Compiled optimiser steps, equal to the plain ones bit for bit, and the compiled Laplace penalty."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import optim
from l0ref.fast.step import optimizer, penalty
from l0ref.penalty import Pull
from l0ref.surrogates import Laplace
from l0ref.validate import Array

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
SHAPES = [(0,), (1,), (3, 0), (17,), (5, 7), (2, 3, 1, 4)]
ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

# name of the function in both modules, arrays it takes, options
STEPS: list[tuple[str, int, dict[str, Any]]] = [
    ("adam_step", 4, {**ADAM, "t": 1}),
    ("adam_step", 4, {**ADAM, "t": 1000}),
    ("adam_step", 4, {"lr": 0.0, "beta1": 0.0, "beta2": 0.5, "eps": 1e-3, "t": 2}),
    ("adamw_step", 4, {**ADAM, "t": 3, "weight_decay": 0.3}),
    ("adamw_step", 4, {**ADAM, "t": 3, "weight_decay": 0.0}),
    ("momentum_step", 3, {"lr": 0.1, "momentum": 0.9}),
    ("momentum_step", 3, {"lr": 0.03, "momentum": 0.7, "nesterov": True}),
    ("momentum_step", 3, {"lr": 0.1, "momentum": 0.0, "nesterov": False}),
]


def draw(shape: tuple[int, ...], count: int, dtype: Any, rng: np.random.Generator) -> list[Array]:
    """w, g and slots, read-only, with some zeros among them; the last one is not negative."""
    arrays = [rng.normal(size=shape) * (rng.random(shape) < 0.8) for _ in range(count)]
    arrays[-1] = np.abs(arrays[-1])
    arrays = [a.astype(dtype) for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    return arrays


def assert_same(got: tuple[Array, ...], want: tuple[Array, ...], dtype: Any) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "count", "options"), STEPS)
def test_step_equals_the_plain_one_bit_for_bit(
    name: str, count: int, options: dict[str, Any], dtype: Any, rng: np.random.Generator
) -> None:
    plain: Callable[..., tuple[Array, ...]] = getattr(optim, name)
    fast: Callable[..., tuple[Array, ...]] = getattr(optimizer, name)
    for shape in SHAPES:
        arrays = draw(shape, count, dtype, rng)
        got = fast(*arrays, **options)
        assert_same(got, plain(*arrays, **options), dtype)
        assert not any(np.shares_memory(a, b) for a in got for b in arrays)
        turned = [np.asfortranarray(a)[..., ::-1] for a in arrays]
        assert_same(fast(*turned, **options), plain(*turned, **options), dtype)


def test_steps_have_the_signatures_of_the_plain_ones() -> None:
    for name in ("adam_step", "adamw_step", "momentum_step"):
        plain, fast = (list(inspect.signature(getattr(m, name)).parameters.values()) for m in (optim, optimizer))
        assert [(p.name, p.kind, p.default) for p in fast] == [(p.name, p.kind, p.default) for p in plain]


# --- the Laplace penalty ----------------------------------------------------------------------------------------------

TIMES = [0.0, 5e-324, 1e-300, 1e-20, 1e-9, 1e-3, 0.3, *(k * math.log(2) / 2 for k in range(1, 9)), 1.0, 5.0, 36.7, 80.0]


def test_decay_has_all_its_digits_in_float64(rng: np.random.Generator) -> None:
    """Against the C library, itself within 1 unit in the last place."""
    _, series = penalty._numbers(np.ones(1), 1.0, 1.0, 0.0)
    for t in [*TIMES, 700.0, 707.9, *rng.uniform(0, 1, 200).tolist(), *(10.0 ** rng.uniform(-12, 2.8, 200)).tolist()]:
        assert abs(penalty.decay(np.float64(t), series) - math.exp(-t)) <= 2.5 * math.ulp(math.exp(-t))


def test_decay_has_all_its_digits_in_float32(rng: np.random.Generator) -> None:
    _, series = penalty._numbers(np.ones(1, np.float32), 1.0, 1.0, 0.0)
    for exact in [*TIMES, 87.0, *rng.uniform(0, 1, 200).tolist(), *(10.0 ** rng.uniform(-12, 1.9, 200)).tolist()]:
        t = np.float32(exact)
        e = float(penalty.decay(t, series))
        assert abs(e - math.exp(-float(t))) <= 1.5 * np.spacing(np.float32(math.exp(-float(t))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_decay_far_out(dtype: Any) -> None:
    _, series = penalty._numbers(np.ones(1, dtype), 1.0, 1.0, 0.0)
    for t in (708.0, 709.0, 1e4, 1e30, np.inf):
        assert 0 <= penalty.decay(dtype(t), series) <= 3.4e-308
    assert np.isnan(penalty.decay(dtype(np.nan), series))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_laplace_equals_the_penalty(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> None:
    for beta, price, l2 in ((5.0, 4e-5, 1e-4), (0.3, 2.0, 0.0), (20.0, 0.0, 0.1)):
        w, g = draw(shape, 2, dtype, rng)
        pulled = Pull(Laplace(beta), {"w": price}, l2).gradient({"w": w})["w"]
        rtol = 1e-14 if dtype == np.float64 else 1e-6
        nothing = np.zeros_like(g)
        total = penalty.laplace_gradient(w, g, beta=beta, price=price, l2=l2)
        assert (total.dtype, total.shape) == (dtype, shape)
        np.testing.assert_allclose(total, g + pulled, rtol=rtol, atol=rtol * np.abs(g).max(initial=0.0))
        assert not np.shares_memory(total, w)
        assert not np.shares_memory(total, g)
        alone = penalty.laplace_gradient(w, nothing, beta=beta, price=price, l2=l2)
        np.testing.assert_allclose(alone, pulled, rtol=rtol, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_laplace_at_zero_and_at_tiny_and_huge_weights(dtype: Any) -> None:
    w = np.array([0.0, -0.0, 1e-30, -1e-30, 100.0, -100.0], dtype)
    g = np.array([3.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype)
    total = penalty.laplace_gradient(w, g, beta=5.0, price=2.0)
    np.testing.assert_allclose(total, [3, 0, 10, -10, 0, 0], rtol=1e-6, atol=1e-200)
    assert total[0] == 3
    assert total[1] == 0
    assert total[2] == -total[3]


def test_laplace_keeps_nan_visible() -> None:
    total = penalty.laplace_gradient(np.array([1.0, np.nan]), np.zeros(2), beta=5.0, price=1.0)
    assert np.isnan(total).tolist() == [False, True]
