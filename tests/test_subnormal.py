"""What a step leaves that is too small for its type is exactly 0: weights and slots, on the truth and on the twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref import optim
from l0ref.autodiff.op import backend
from l0ref.optim.base import flushed, flushed_weights, smallest_weight
from l0ref.optim.in_place import InPlace, steps_in_place
from l0ref.penalty import Penalty, Pull
from l0ref.surrogates import Laplace, LogSum
from l0ref.validate import Array

DTYPES = [np.float32, np.float64]
OPTIMIZERS: dict[str, optim.Optimizer] = {
    "sgd": optim.SGD(lr=0.25),
    "momentum": optim.SGD(lr=0.03, momentum=0.5),
    "nesterov": optim.SGD(lr=0.03, momentum=0.5, nesterov=True),
    "adam": optim.Adam(lr=1e-3, betas=(0.5, 0.9), eps=1e-2),
    "adamw": optim.AdamW(lr=1e-3, weight_decay=0.5),
    "proximal_adam": optim.Proximal(optim.Adam(lr=1e-3)),
    "proximal_sgd": optim.Proximal(optim.SGD(lr=0.03, momentum=0.5)),
}
LAPLACE = Penalty(Laplace(beta=5.0), alpha=1e-3, l2=0.25).pull({"w": 1.0})
SQUARES = Penalty(l2=1.0).pull({"w": 1.0})
LOGSUM = Penalty(LogSum(eps=0.1), alpha=1e-3, l2=0.25).pull({"w": 1.0})


def tiny(dtype: Any) -> Any:
    return np.finfo(dtype).smallest_normal


def of_all_magnitudes(rng: np.random.Generator, dtype: Any, size: int = 5000) -> Array:
    """Numbers whose exponents reach from below the subnormal numbers to 1; zeros and what is not finite among them."""
    low = np.log(np.finfo(dtype).smallest_subnormal.astype(np.float64)) - 2
    x = rng.choice([-1.0, 1.0], size) * np.exp(rng.uniform(low, 0, size))
    x[:6] = 0.0, -0.0, np.inf, -np.inf, np.nan, 1.0
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_zero_begins(dtype: Any) -> None:
    for rule, least in ((flushed, tiny(dtype)), (flushed_weights, dtype(smallest_weight(dtype)))):
        under, none = np.nextafter(least, dtype(0)), dtype(0)
        x = np.array([least, under, -least, -under, least / 2, none, -none, np.inf, np.nan, 1], dtype)
        got = rule(x)
        np.testing.assert_array_equal(got, np.array([least, 0, -least, 0, 0, 0, 0, np.inf, np.nan, 1], dtype))
        assert got.dtype == dtype
        assert np.flatnonzero(np.signbit(got)).tolist() == [2]
    assert smallest_weight(dtype) == {np.float32: 2.0**-103, np.float64: 2.0**-970}[dtype]


def one_step(optimizer: Any, w: Array, g: Array, slots: Any, pull: Pull, *, where: str) -> tuple[Array, list[Array]]:
    """Weights and slots after step 1001 on the truth, on the twins, or in place."""
    state = optim.State(1000, {name: {"w": slot.copy()} for name, slot in slots.items()})
    with np.errstate(all="ignore"):
        if where == "in place":
            arrays = InPlace(optimizer, {"w": w}, state, {})
            arrays.grads["w"][...] = g
            arrays.step(lr=optimizer.lr, pull=pull)
            params, after = arrays.taken_out()
        else:
            with backend(where):
                params, after = optimizer.step({"w": w}, {"w": g}, state, pull=pull)
    return params["w"], [after.slots[name]["w"] for name in sorted(slots)]


@pytest.mark.parametrize("pull", [SQUARES, LAPLACE, LOGSUM], ids=["squares", "laplace", "log_sum"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_truth_and_twins_leave_the_same_numbers(name: str, dtype: Any, pull: Pull, rng: np.random.Generator) -> None:
    optimizer = OPTIMIZERS[name]
    w = of_all_magnitudes(rng, dtype)
    # most gradients and slots are as small as their weights, so that a step ends near the limits
    near, far = w * rng.normal(size=w.size).astype(dtype), of_all_magnitudes(rng, dtype)
    g = np.where(rng.random(w.size) < 0.7, near, far)
    slots = {k: np.abs(np.where(rng.random(w.size) < 0.7, near, far)) for k in optimizer.init({}).slots}
    want, want_slots = one_step(optimizer, w, g, slots, pull, where="numpy")
    for slot in want_slots:
        assert not ((slot != 0) & (np.abs(slot) < tiny(dtype))).any()
    assert not ((want != 0) & (np.abs(want) < smallest_weight(dtype))).any()
    if pull is SQUARES:  # a surrogate pulls tiny weights as hard as others
        assert ((want == 0) & (np.abs(w) >= tiny(dtype))).sum() > 10
        assert ((want != 0) & (np.abs(want) < 8 * smallest_weight(dtype))).any()
    exact = pull is SQUARES or (pull is LOGSUM and name in ("sgd", "momentum", "nesterov", "adam", "adamw"))
    for where in ("numba", *["in place"] * steps_in_place(optimizer)):
        got, got_slots = one_step(optimizer, w, g, slots, pull, where=where)
        for a, b in zip((got, *got_slots), (want, *want_slots), strict=True):
            if exact:
                np.testing.assert_array_equal(a, b)
                assert not np.signbit(a[a == 0]).any()
            else:  # the compiled Laplace is within rounding
                rtol = 16 * np.finfo(dtype).eps
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
            limit = smallest_weight(dtype) if a is got else tiny(dtype)
            assert not ((a != 0) & (np.abs(a) < limit)).any()


@pytest.mark.parametrize("where", ["numpy", "numba", "in place"])
@pytest.mark.parametrize("surrogate", [Laplace(beta=5.0), LogSum(eps=0.2)])
@pytest.mark.parametrize(("name", "step"), [("proximal_sgd", 0.06), ("proximal_adam", 1e5)])
def test_a_prox_leaves_no_less_than_the_smallest_weight(name: str, step: float, surrogate: Any, where: str) -> None:
    """With a dead zone as small as that, what is left of a weight just beyond it is smaller still."""
    zone = 2.0**-100
    w = (zone * np.array([0.5, 1.01, 1.1, 1.5, 3.0, -1.01, -3.0])).astype(np.float32)
    slots = {k: np.zeros_like(w) for k in OPTIMIZERS[name].init({}).slots}
    pull = Penalty(surrogate, alpha=zone / 5 / step).pull({"w": 1.0})
    got, _ = one_step(OPTIMIZERS[name], w, np.zeros_like(w), slots, pull, where=where)
    np.testing.assert_allclose(got, zone * np.array([0, 0, 0, 0.5, 2, 0, -2]), rtol=1e-4)


@pytest.mark.parametrize("where", ["numpy", "numba", "in place"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_weights_without_a_gradient_decay_to_zero(name: str, where: str) -> None:
    """Halved again and again in float32, a weight used to stop below 1e-38, where it took every product its time."""
    optimizer: Any = optim.SGD(lr=0.25, momentum=0.5 * (name == "momentum")) if name != "adamw" else None
    pull = SQUARES if optimizer else Penalty().pull({"w": 1.0})
    optimizer = optimizer or optim.AdamW(lr=0.5, weight_decay=1.0)
    if where == "in place" and not steps_in_place(optimizer):
        return
    w = np.linspace(-1, 1, 9, dtype=np.float32)
    slots = {k: np.zeros_like(w) for k in optimizer.init({}).slots}
    for _ in range(200):
        w, after = one_step(optimizer, w, np.zeros_like(w), slots, pull, where=where)
        slots = dict(zip(sorted(slots), after, strict=True))
        assert not any(((a != 0) & (np.abs(a) < tiny(np.float32))).any() for a in (w, *after))
    if name != "momentum":
        assert not w.any()
        assert not np.signbit(w).any()
    assert np.abs(w).max() < 1e-20


@pytest.mark.crosscheck
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_pytorch_is_never_further_away_than_the_limit(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    w = of_all_magnitudes(rng, np.float64)
    w[:6] = 1.0
    optimizer: Any = OPTIMIZERS[name]
    theirs = torch.tensor(w.copy(), requires_grad=True)
    if name == "adam":
        other: Any = torch.optim.Adam([theirs], lr=optimizer.lr, betas=optimizer.betas, eps=optimizer.eps)
    else:
        other = torch.optim.SGD([theirs], lr=optimizer.lr, momentum=optimizer.momentum)
    params, state = {"w": w}, optimizer.init({"w": w})
    for _ in range(3):
        theirs.grad = torch.tensor(0.1 * params["w"])
        other.step()
        params, state = optimizer.step(params, {"w": 0.1 * params["w"]}, state)
    assert (params["w"] == 0).sum() > 100
    np.testing.assert_allclose(params["w"], theirs.detach().numpy(), rtol=1e-12, atol=3 * smallest_weight(np.float64))
