"""What is special about batch normalisation: running statistics, invariances, cotangents in loops, refusals."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from tests.cases.case import Case
from tests.cases.normalization import CASES
from tests.naive import normalization as naive
from tests.test_ops import assert_close, both, evaluate

VJPS = {
    "BatchNormTraining": naive.batch_norm_training_vjp,
    "BatchNormEvaluation": naive.batch_norm_evaluation_vjp,
}
SHAPES = [(5, 3), (4, 3, 2, 5), (2, 3), (1, 3, 1, 2)]


@pytest.mark.parametrize(("case", "name"), both(CASES))
def test_batch_norm_cotangents_equal_loops(case: Case, name: str) -> None:
    xs, options = case.draw(3)
    with backend(name):
        _, y_bar, x_bars = evaluate(case, xs, options, 3)
    for i, (x_bar, want) in enumerate(zip(x_bars, VJPS[case.op](y_bar, *xs, **options), strict=True)):
        assert_close(x_bar, want, 1e-12, f"cotangent of input {i}")


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_running_statistics_equal_loops(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x, mean, var = 3 + 2 * rng.normal(size=shape), rng.normal(size=3), rng.uniform(0.5, 2, size=3)
    kept = mean.copy(), var.copy()
    _, new_mean, new_var = ops.batch_norm(x, mean, var, training=True, momentum=0.3)
    want_mean, want_var = naive.running_statistics(x, mean, var, 0.3)
    np.testing.assert_allclose(new_mean, want_mean, rtol=1e-13)
    np.testing.assert_allclose(new_var, want_var, rtol=1e-13)
    np.testing.assert_array_equal((mean, var), kept)


@pytest.mark.crosscheck
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_running_statistics_agree_with_torch(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    mean, var = rng.normal(size=3), rng.uniform(0.5, 2, size=3)
    theirs = torch.tensor(mean), torch.tensor(var)
    for _ in range(3):
        x = rng.normal(size=shape)
        torch.nn.functional.batch_norm(torch.tensor(x), *theirs, training=True)
        mean, var = ops.batch_norm(x, mean, var, training=True)[1:]
    np.testing.assert_allclose(mean, theirs[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(var, theirs[1].numpy(), rtol=1e-12)


def test_batch_norm_by_hand() -> None:
    x = np.array([[1.0], [3.0], [5.0]])  # mean 3, biased variance 8/3, unbiased 4
    y, mean, var = ops.batch_norm(x, np.zeros(1), np.ones(1), training=True, momentum=0.25, eps=1 / 3)
    np.testing.assert_allclose(y.data[:, 0], np.array([-2.0, 0.0, 2.0]) / np.sqrt(3.0), rtol=1e-15)
    np.testing.assert_allclose([mean[0], var[0]], [0.25 * 3, 0.75 + 0.25 * 4], rtol=1e-15)
    y, *_ = ops.batch_norm(x, np.array([2.0]), np.array([15.0]), np.array([8.0]), training=False, eps=1.0)
    np.testing.assert_allclose(y.data[:, 0], [-2.0, 2.0, 6.0], rtol=1e-15)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_batch_norm_momentum_at_its_ends(momentum: float, rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 3))
    _, mean, var = ops.batch_norm(x, np.full(3, 5.0), np.full(3, 7.0), training=True, momentum=momentum)
    want = (x.mean(axis=0), x.var(axis=0, ddof=1)) if momentum else (np.full(3, 5.0), np.full(3, 7.0))
    np.testing.assert_allclose((mean, var), want, rtol=1e-13)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2)])
def test_batch_norm_without_weight_and_bias(shape: tuple[int, ...], training: bool, rng: np.random.Generator) -> None:
    x, mean, var = rng.normal(size=shape).astype(np.float32), np.zeros(3, np.float32), np.full(3, 2, np.float32)
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    want = ops.batch_norm(x, mean, var, ones, zeros, training=training)[0].data
    for given in ({}, {"weight": ones}, {"bias": zeros}):
        y, *running = ops.batch_norm(x, mean, var, **given, training=training)
        np.testing.assert_array_equal(y.data, want)
        assert [v.dtype for v in (y, *running)] == [np.float32] * 3


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 5)])
def test_batch_norm_output_has_mean_0_and_variance_1(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = 100 + 7 * rng.normal(size=shape)
    y = ops.batch_norm(x, np.zeros(3), np.ones(3), training=True, eps=1e-12)[0].data
    axes = (0, 2, 3)[: x.ndim - 1]
    assert np.abs(y.mean(axis=axes)).max() < 1e-13
    np.testing.assert_allclose(y.var(axis=axes), 1.0, rtol=1e-12)


def test_batch_norm_input_cotangent_is_orthogonal_to_shift_and_stretch(rng: np.random.Generator) -> None:
    """Adding to a channel, or stretching it, does not change y (eps tiny), so x_bar has no part along either."""
    x = Tensor(rng.normal(size=(4, 3, 2, 5)))
    y = ops.batch_norm(x, np.zeros(3), np.ones(3), rng.normal(size=3), training=True, eps=1e-15)[0]
    (x_bar,) = grad(y, [x], y_bar=rng.normal(size=x.shape))
    size = np.linalg.norm(x_bar)
    assert size > 1
    assert np.abs(x_bar.sum(axis=(0, 2, 3))).max() < 1e-13 * size
    assert np.abs((x_bar * x.data).sum(axis=(0, 2, 3))).max() < 1e-12 * size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_of_a_constant_channel_is_its_bias(dtype: Any) -> None:
    x = Tensor(np.full((4, 2), 3.0, dtype))
    y, _, var = ops.batch_norm(
        x, np.zeros(2, dtype), np.ones(2, dtype), np.ones(2, dtype), np.array([5, -1], dtype), training=True
    )
    np.testing.assert_array_equal(y.data, np.tile(np.array([5, -1], dtype), (4, 1)))
    np.testing.assert_allclose(var, 0.9, rtol=1e-6)
    assert np.isfinite(grad(y, [x], y_bar=np.ones((4, 2), dtype))[0]).all()


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_batch_norm_variance_survives_a_large_mean(offset: float, rng: np.random.Generator) -> None:
    x = rng.integers(-8, 8, size=(50, 2)) * 1.0  # whole numbers: adding the offset is exact
    near, _, near_var = ops.batch_norm(x, np.zeros(2), np.ones(2), training=True)
    far, _, far_var = ops.batch_norm(x + offset, np.zeros(2), np.ones(2), training=True)
    np.testing.assert_allclose(far.data, near.data, rtol=0, atol=1e-14 * offset)
    np.testing.assert_allclose(far_var, near_var, rtol=1e-13)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2, 2), (2, 3, 0, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_of_nothing_moves_nothing(shape: tuple[int, ...], training: bool) -> None:
    y, mean, var = ops.batch_norm(np.zeros(shape), np.full(3, 2.0), np.full(3, 4.0), training=training)
    assert y.shape == shape
    np.testing.assert_array_equal((mean, var), (np.full(3, 2.0), np.full(3, 4.0)))


@pytest.mark.parametrize("shape", [(0, 3), (4, 3)])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_returns_fresh_running_values(shape: tuple[int, ...], training: bool) -> None:
    mean, var, x = np.zeros(3), np.ones(3), Tensor(np.ones(shape))
    y, new_mean, new_var = ops.batch_norm(x, mean, var, training=training)
    assert not np.shares_memory(mean, new_mean)
    assert not np.shares_memory(var, new_var)
    (before,) = grad(y, [x], y_bar=np.ones(shape))
    var[:] = new_var[:] = 100.0  # the tape holds values of its own
    np.testing.assert_array_equal(grad(y, [x], y_bar=np.ones(shape))[0], before)


X, C = np.zeros((4, 3)), np.ones(3)
ONE = "one value per channel, whose variance is undefined; train on a larger batch, or pass training=False"
REFUSED: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((X[0], C, C), {}, ShapeError, "input has shape (3,), expected (N, C) or (N, C, H, W); reshape it to one of these"),
    ((X[:, :, None], C, C), {}, ShapeError, "input has shape (4, 3, 1), expected (N, C) or (N, C, H, W); reshape it"),
    ((X[:1], C, C), {}, ShapeError, f"input has shape (1, 3), {ONE}"),
    ((X[:1, :, None, None], C, C), {}, ShapeError, f"input has shape (1, 3, 1, 1), {ONE}"),
    ((X.astype(int), C, C), {}, DTypeError, "input has dtype int64, expected float32 or float64; convert it with"),
    ((X, C.astype(int), C), {}, DTypeError, "running_mean has dtype int64, expected float32 or float64; convert it"),
    ((X, C[:2], C), {}, ShapeError, "running_mean has shape (2,), expected (3,): one number for each channel of input"),
    ((X, C, X), {}, ShapeError, "running_var has shape (4, 3), expected (3,): one number for each channel of input"),
    ((X, C, C, C[:1]), {}, ShapeError, "weight has shape (1,), expected (3,): one number for each channel of input"),
    ((X, C, C, C, C[None]), {}, ShapeError, "bias has shape (1, 3), expected (3,): one number for each channel of inp"),
    ((X, C, C, C.astype(int)), {}, DTypeError, "weight has dtype int64, expected float32 or float64; convert it with"),
    (
        (X, C, C.astype(np.float32)),
        {},
        DTypeError,
        "mixed dtypes: input float64, running_mean float64, running_var float32, weight float64, bias float64; convert",
    ),
    ((X, C, -C), {}, ArgumentError, "running_var holds -1.0, which no variance can be; start from ones"),
    ((X, C, C), {"eps": 0}, ArgumentError, "eps=0 must be greater than 0"),
    ((X, C, C), {"momentum": 1.5}, ArgumentError, "momentum=1.5 must lie in [0, 1]"),
]


@pytest.mark.parametrize(("args", "options", "error", "said"), REFUSED, ids=[row[3][:40] for row in REFUSED])
def test_batch_norm_refuses(args: tuple[Any, ...], options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match="^" + re.escape(said)):
        ops.batch_norm(*args, **options, training=True)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_batch_norm_evaluates_a_single_value(shape: tuple[int, ...]) -> None:
    y, *_ = ops.batch_norm(np.full(shape, 4.0), np.ones(3), np.full(3, 8.0), training=False, eps=1.0)
    np.testing.assert_allclose(y.data, np.ones(shape), rtol=1e-15)
