"""Optimisers against scalar loops, under masks, on tiny arrays; what they refuse; purity and types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref import optim
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.optim import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, Proximal, State, adam_step, momentum_step
from l0ref.penalty import Penalty
from l0ref.surrogates import L0, Laplace

TABLE: dict[str, Optimizer] = {
    "sgd": SGD(lr=0.05),
    "momentum": SGD(lr=0.05, momentum=0.9),
    "nesterov": SGD(lr=0.05, momentum=0.8, nesterov=True),
    "adam": Adam(lr=0.02, betas=(0.8, 0.95), eps=1e-6),
    "adamw": AdamW(lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.5),
    "proximal_sgd": Proximal(SGD(lr=0.05, momentum=0.9)),
    "proximal_adam": Proximal(Adam(lr=0.02)),
    "proximal_adamw": Proximal(AdamW(lr=0.02), metric="euclidean"),
}
SHAPES: dict[str, tuple[int, ...]] = {"fc1.weight": (4, 3), "fc1.bias": (4,), "fc2.weight": (2, 4)}
PENALTY = Penalty(Laplace(beta=5.0), alpha=0.02, l2=0.01)
PULL = PENALTY.pull({"fc1.weight": 1.0, "fc2.weight": 0.8})


def arrays(rng: np.random.Generator, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    return {key: rng.normal(size=shape).astype(dtype) for key, shape in SHAPES.items()}


def run(
    optimizer: Optimizer, params: Any, grads: Any, *, masks: Any = None, lrs: Any = None, pull: Any = PULL
) -> tuple[dict[str, np.ndarray], State]:
    """One step for each dictionary in `grads`."""
    state = optimizer.init(params)
    for i, g in enumerate(grads):
        lr = None if lrs is None else lrs[i]
        params, state = optimizer.step(params, g, state, lr=lr, masks=masks and masks[i], pull=pull)
    return params, state


# --- the rules against one-number loops -------------------------------------------------------------------------------


def naive_sgd(w: float, gs: list[float], lrs: list[float], *, momentum: float, nesterov: bool) -> float:
    v = 0.0
    for g, lr in zip(gs, lrs, strict=True):
        v = momentum * v + g
        w -= lr * (g + momentum * v) if nesterov else lr * v
    return w


def naive_adam(
    w: float, gs: list[float], lrs: list[float], *, betas: tuple[float, float], eps: float, decay: float
) -> float:
    """The algorithm of Kingma and Ba as they print it; bias corrections as powers, decay first."""
    m = v = 0.0
    for t, (g, lr) in enumerate(zip(gs, lrs, strict=True), start=1):
        w -= lr * decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w -= lr * (m / (1 - betas[0] ** t)) / (math.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


def naive(optimizer: Any, w: float, gs: list[float], lrs: list[float]) -> float:
    if isinstance(optimizer, SGD):
        return naive_sgd(w, gs, lrs, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    decay = getattr(optimizer, "weight_decay", 0.0)
    return naive_adam(w, gs, lrs, betas=optimizer.betas, eps=optimizer.eps, decay=decay)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 1e-5)])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_steps_are_the_scalar_loops(
    name: str, dtype: Any, rtol: float, steps: int, varying: bool, rng: np.random.Generator
) -> None:
    optimizer: Any = TABLE[name]
    params, grads = arrays(rng, dtype), [arrays(rng, dtype) for _ in range(steps)]
    lrs = [optimizer.lr * (1 + i * varying) for i in range(steps)]
    got, state = run(optimizer, params, grads, lrs=lrs if varying else None, pull=None)
    assert state.step == steps
    for key, w in params.items():
        expected = [
            naive(optimizer, float(w.flat[i]), [float(g[key].flat[i]) for g in grads], lrs) for i in range(w.size)
        ]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(got[key].ravel(), expected, rtol=0, atol=rtol * scale)
        assert got[key].dtype == dtype
        assert all(slot[key].dtype == dtype for slot in state.slots.values())


def test_penalty_goes_into_the_gradient(rng: np.random.Generator) -> None:
    """Price and l2 on the two weight arrays, nothing on the bias."""
    params, grads = arrays(rng), arrays(rng)
    optimizer = SGD(lr=0.05)
    got, _ = run(optimizer, params, [grads])
    for key, price in {"fc1.weight": 0.02, "fc2.weight": 0.02 * 0.8, "fc1.bias": None}.items():
        w, g = params[key], grads[key]
        if price is not None:
            g = g + price * 5 * np.sign(w) * np.exp(-5 * np.abs(w)) + 2 * 0.01 * w
        np.testing.assert_allclose(got[key], w - 0.05 * g, rtol=1e-13)


def test_momentum_is_pytorchs_convention() -> None:
    """The velocity holds gradients: a constant one moves w by lr g / (1 - momentum), and a new lr acts at once."""
    w, v = np.zeros(1), np.zeros(1)
    for _ in range(400):
        w, v = momentum_step(w, np.ones(1), v, lr=0.1, momentum=0.9)
    np.testing.assert_allclose(v, 10.0, rtol=1e-14)
    moved, _ = momentum_step(w, np.ones(1), v, lr=0.001, momentum=0.9)
    np.testing.assert_allclose(w - moved, 0.001 * 10.0, rtol=1e-10)
    assert SGD(lr=0.1, momentum=0.9).reach(0.1) == pytest.approx(1.0, rel=1e-15)


def test_first_adam_step_is_lr_whatever_the_gradient() -> None:
    g = np.array([1e-4, -3.0, 1e6])
    w, m, v = adam_step(np.zeros(3), g, np.zeros(3), np.zeros(3), lr=0.01, beta1=0.9, beta2=0.999, eps=1e-12, t=1)
    np.testing.assert_allclose(w, -0.01 * np.sign(g), rtol=1e-7)
    np.testing.assert_allclose(m, 0.1 * g, rtol=1e-15)
    np.testing.assert_allclose(v, 0.001 * g * g, rtol=1e-12)


def test_float32_forms_one_minus_beta_in_double() -> None:
    """1 - 0.999 in float32 is off by 1.3e-5; one step must not be."""
    optimizer = Adam()
    params = {"w": np.zeros(3, np.float32)}
    grads = {"w": np.array([0.5, -2.0, 3.0], np.float32)}
    _, state = optimizer.step(params, grads, optimizer.init(params))
    np.testing.assert_allclose(state.slots["v"]["w"], 0.001 * grads["w"].astype(float) ** 2, rtol=2.5e-7)
    np.testing.assert_allclose(state.slots["m"]["w"], 0.1 * grads["w"].astype(float), rtol=2.5e-7)


@pytest.mark.parametrize("name", ["adam", "momentum", "proximal_adam"])
def test_numpy_learning_rate_keeps_float32(name: str, rng: np.random.Generator) -> None:
    params = arrays(rng, np.float32)
    state = TABLE[name].init(params)
    got, after = TABLE[name].step(params, params, state, lr=np.float64(0.01), pull=PULL)  # type: ignore[arg-type]
    assert {a.dtype for a in (*got.values(), *(s for slot in after.slots.values() for s in slot.values()))} == {
        np.dtype(np.float32)
    }


def test_numpy_hyper_parameters_keep_float32(rng: np.random.Generator) -> None:
    f = np.float64
    penalty = Penalty(alpha=f(0.02), l2=f(0.01))  # type: ignore[arg-type]
    for inner in (
        SGD(lr=f(0.1), momentum=f(0.9)),  # type: ignore[arg-type]
        AdamW(lr=f(0.1), betas=(f(0.9), f(0.99)), eps=f(1e-6), weight_decay=f(0.1)),  # type: ignore[arg-type]
    ):
        params = arrays(rng, np.float32)
        for optimizer in (inner, Proximal(inner)):
            pull = penalty.pull({"fc1.weight": f(0.5)}, strength=f(0.5))  # type: ignore[arg-type, dict-item]
            got, state = optimizer.step(params, params, optimizer.init(params), pull=pull)
            assert {a.dtype for d in (got, *state.slots.values()) for a in d.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_gradient_that_is_nan_shows_in_the_weight(name: str, rng: np.random.Generator) -> None:
    """The training loop reports it; a step must neither hide it nor fail with another message."""
    params, grads = arrays(rng), arrays(rng)
    expected, _ = TABLE[name].step(params, grads, TABLE[name].init(params), pull=PULL)
    grads["fc1.weight"][2, 1] = np.nan
    got, _ = TABLE[name].step(params, grads, TABLE[name].init(params), pull=PULL)
    assert np.isnan(got["fc1.weight"][2, 1])
    got["fc1.weight"][2, 1] = expected["fc1.weight"][2, 1]
    for key, w in expected.items():
        np.testing.assert_array_equal(got[key], w)


# --- masks ------------------------------------------------------------------------------------------------------------


def shrinking_masks(rng: np.random.Generator, steps: int) -> list[dict[str, np.ndarray]]:
    """Masks that lose entries at steps 3 and 6, and cover weights only."""
    order = {key: rng.permutation(math.prod(SHAPES[key])).reshape(SHAPES[key]) for key in ("fc1.weight", "fc2.weight")}
    kept = [1.0 if i < 3 else 0.6 if i < 6 else 0.3 for i in range(steps)]
    return [{key: o < share * o.size for key, o in order.items()} for share in kept]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted(TABLE))
def test_pruned_entries_and_their_memory_are_exactly_zero(name: str, dtype: Any, rng: np.random.Generator) -> None:
    optimizer, params = TABLE[name], arrays(rng, dtype)
    free, free_state = params, optimizer.init(params)
    state = optimizer.init(params)
    for masks in shrinking_masks(rng, 9):
        grads = arrays(rng, dtype)
        free, free_state = optimizer.step(free, grads, free_state, pull=PULL)
        params, state = optimizer.step(params, grads, state, masks=masks, pull=PULL)
        for key, keep in masks.items():
            assert not params[key][~keep].any()
            assert all(not slot[key][~keep].any() for slot in state.slots.values())
            np.testing.assert_array_equal(params[key][keep], free[key][keep])  # the others do not notice
        np.testing.assert_array_equal(params["fc1.bias"], free["fc1.bias"])
    assert any(np.abs(slot["fc1.weight"]).max() > 0 for slot in state.slots.values()) or name == "sgd"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", sorted(TABLE))
def test_masked_entries_are_zero_whatever_comes_in(name: str, bad: float, rng: np.random.Generator) -> None:
    optimizer, params, grads = TABLE[name], arrays(rng), arrays(rng)
    keep = np.ones((4, 3), dtype=bool)
    keep[1] = False
    grads["fc1.weight"][1] = bad
    got, state = optimizer.step(params, grads, optimizer.init(params), masks={"fc1.weight": keep}, pull=PULL)
    assert not got["fc1.weight"][1].any()
    assert np.isfinite(got["fc1.weight"]).all()
    assert all(not slot["fc1.weight"][1].any() for slot in state.slots.values())


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_an_entry_that_returns_starts_without_memory(name: str, rng: np.random.Generator) -> None:
    optimizer, params = TABLE[name], {"w": rng.normal(size=5)}
    gone, back = {"w": np.array([False, True, True, True, True])}, {"w": np.ones(5, dtype=bool)}
    grads = [{"w": rng.normal(size=5)} for _ in range(3)] + [{"w": np.zeros(5)}]
    got, state = run(optimizer, params, grads, masks=[back, back, gone, back], pull=None)
    assert got["w"][0] == 0
    assert all(slot["w"][0] == 0 for slot in state.slots.values())
    assert all((slot["w"][1:] != 0).all() for slot in state.slots.values())


# --- purity, sizes, learning rate 0 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(TABLE))
def test_steps_are_pure(name: str, masked: bool, rng: np.random.Generator) -> None:
    optimizer, params, grads = TABLE[name], arrays(rng), arrays(rng)
    masks = {"fc1.weight": rng.random((4, 3)) < 0.5} if masked else None
    _, state = optimizer.step(params, grads, optimizer.init(params), pull=PULL)
    given = [*params.values(), *grads.values(), *(a for slot in state.slots.values() for a in slot.values())]
    copies = [a.copy() for a in given]
    first, after = optimizer.step(params, grads, state, masks=masks, pull=PULL)
    again, _ = optimizer.step(params, grads, state, masks=masks, pull=PULL)
    for a, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(a, copy)
    fresh = [*first.values(), *(a for slot in after.slots.values() for a in slot.values())]
    assert not any(np.shares_memory(a, b) for a in fresh for b in given)
    assert list(first) == list(params)
    assert state.step == 1
    assert after.step == 2
    for key in params:
        np.testing.assert_array_equal(first[key], again[key])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (), (1,), (1, 1)])
@pytest.mark.parametrize("name", sorted(TABLE))
def test_tiny_arrays(name: str, shape: tuple[int, ...], dtype: Any) -> None:
    params = {"fc1.weight": np.full(shape, 0.5, dtype)}
    pull = PENALTY.pull({"fc1.weight": 1.0})
    for masks in (None, {"fc1.weight": np.ones(shape, bool)}):
        got, state = run(TABLE[name], params, [params] * 2, masks=masks and [masks] * 2, pull=pull)
        assert isinstance(got["fc1.weight"], np.ndarray)
        for a in (got, *state.slots.values()):
            assert (a["fc1.weight"].shape, a["fc1.weight"].dtype) == (shape, dtype)
        assert (got["fc1.weight"] < 0.5).all()


@pytest.mark.parametrize("name", sorted(TABLE))
def test_no_parameters_and_no_step_size(name: str, rng: np.random.Generator) -> None:
    empty = TABLE[name].init({})
    assert TABLE[name].step({}, {}, empty, pull=PENALTY.pull({}))[0] == {}
    params = arrays(rng)
    got, state = TABLE[name].step(params, arrays(rng), TABLE[name].init(params), lr=0.0, pull=PULL)
    assert state.step == 1
    for key, w in params.items():
        np.testing.assert_array_equal(got[key], w)


# --- messages ---------------------------------------------------------------------------------------------------------

W = {"w": np.ones((2, 3))}
OTHER = {"w": np.ones((3, 2))}


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: SGD(lr=0.0), ArgumentError, r"^lr=0\.0 must be greater than 0$"),
        (lambda: SGD(momentum=1.0), ArgumentError, r"^momentum=1\.0 must lie in \[0, 1\); with 1 or more"),
        (lambda: SGD(momentum=-0.1), ArgumentError, r"^momentum=-0\.1 must be 0 or greater$"),
        (lambda: SGD(nesterov=True), ArgumentError, r"^nesterov=True with momentum=0\.0 changes nothing; set mom"),
        (lambda: Adam(lr=-1.0), ArgumentError, r"^lr=-1\.0 must be greater than 0$"),
        (lambda: Adam(betas=(0.9,)), ArgumentError, r"^betas=\(0\.9,\) must be two numbers, such as \(0\.9, 0\.999\)$"),  # type: ignore[arg-type]
        (lambda: Adam(betas=0.9), ArgumentError, r"^betas=0\.9 must be two numbers"),  # type: ignore[arg-type]
        (lambda: Adam(betas=(0.9, 1.0)), ArgumentError, r"^betas\[1\]=1\.0 must lie in \[0, 1\)"),
        (lambda: Adam(betas=(1.5, 0.9)), ArgumentError, r"^betas\[0\]=1\.5 must lie in"),
        (lambda: Adam(eps=0.0), ArgumentError, r"^eps=0\.0 must be greater than 0$"),
        (lambda: AdamW(weight_decay=-1.0), ArgumentError, r"^weight_decay=-1\.0 must be 0 or greater$"),
        (lambda: AdamW(lr=0.0), ArgumentError, r"^lr=0\.0 must be greater than 0$"),
        (lambda: Proximal("sgd"), ArgumentError, r"^optimizer='sgd' has no step sizes for a prox; pass SGD, Adam or"),  # type: ignore[arg-type]
        (lambda: Proximal(Proximal()), ArgumentError, r"^optimizer=Proximal\(.*has no step sizes"),  # type: ignore[arg-type]
        (lambda: Proximal(metric="adam"), ArgumentError, r"^metric='adam' is not one of 'optimizer', 'euclidean'$"),
        (lambda: optim.by_name("sdg"), ArgumentError, r"^name='sdg' is not one of 'sgd', .*; did you mean 'sgd'\?$"),
        (lambda: optim.by_name("adam", momentum=0.9), ArgumentError, r"^momentum=0\.9 is not an option of 'adam'; it"),
        (lambda: optim.by_name("sgd", metric="x"), ArgumentError, r"^metric='x' is not an option of 'sgd'; it has"),
        (lambda: SGD().step(W, W, State(), lr=-0.1), ArgumentError, r"^lr=-0\.1 must be 0 or greater$"),
        (lambda: SGD().step(W, {}, State()), ArgumentError, r"^params has 'w', grads does not; give both the"),
        (lambda: SGD().step({}, W, State()), ArgumentError, r"^grads has 'w', params does not"),
        (lambda: SGD().step({"w": np.ma.ones((2, 3))}, W, State()), DTypeError, r"^params\['w'\] is a masked array"),
        (lambda: SGD().step(W, {"w": np.ma.ones((2, 3))}, State()), DTypeError, r"^grads\['w'\] is a masked array"),
        (lambda: SGD().step(W, {"w": np.ones((2, 3)).tolist()}, State()), DTypeError, r"^grads\['w'\] is a list"),
        (lambda: SGD().step({"w": np.ones((2, 3)).view(np.matrix)}, W, State()), DTypeError, r"^params\['w'\] is"),
        (lambda: SGD().step(W, W, State(), masks={"w": [[True] * 3] * 2}), DTypeError, r"^masks\['w'\] is a list"),
        (lambda: SGD().step(W, OTHER, State()), ShapeError, r"^grads\['w'\] has shape \(3, 2\), expected \(2, 3\)"),
        (lambda: SGD().step(W, {"w": np.ones((2, 3), np.float32)}, State()), DTypeError,
         r"^grads\['w'\] has dtype float32, expected float64; convert it with astype\(\)$"),
        (lambda: SGD().step({"w": np.ones(2, int)}, {"w": np.ones(2)}, State()), DTypeError,
         r"^params\['w'\] has dtype int64, expected float32 or float64"),
        (lambda: Adam().step(W, W, State()), ArgumentError,
         r"^state has the slots \[\], expected \['m', 'v'\]; make it with this optimiser's init\(\)$"),
        (lambda: SGD().step(W, W, Adam().init(W)), ArgumentError, r"^state has the slots \['m', 'v'\], expected \[\]"),
        (lambda: Adam().step(W, W, Adam().init(OTHER)), ShapeError, r"^state\.slots\['m'\]\['w'\] has shape \(3, 2\)"),
        (lambda: Adam().step(W, W, Adam().init({})), ArgumentError, r"^params has 'w', state\.slots\['m'\] does not"),
        (lambda: SGD().step(W, W, State(), masks={"x": np.ones(1, bool)}), ArgumentError,
         r"^masks has 'x', which is not a parameter; choose from "),
        (lambda: SGD().step(W, W, State(), masks={"w": np.ones((2, 3))}), ShapeError,
         r"^masks\['w'\] is float64 \(2, 3\), expected bool \(2, 3\)$"),
        (lambda: SGD().step(W, W, State(), masks={"w": np.ones((3, 2), bool)}), ShapeError,
         r"^masks\['w'\] is bool \(3, 2\)"),
        (lambda: SGD().step(W, W, State(), pull=Penalty(L0(), alpha=1.0).pull({"w": 1.0})), ArgumentError,
         r"^pull has the surrogate L0\(\), whose slope is 0 everywhere: its gradient pulls nothing; wrap the opti"),
        (lambda: SGD().step(W, W, State(), pull=PENALTY.pull({"x": 1.0})), ArgumentError, r"^params lacks 'x', which"),
        (lambda: Proximal(SGD()).step(W, W, State()), ArgumentError,
         r"^pull=None leaves a proximal step without its penalty; pass penalty\.pull\(factors\), or step with SGD\("),
    ],
)  # fmt: skip
def test_optimizer_messages(call: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        call()


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("sgd", {}, SGD(lr=0.1, momentum=0.0, nesterov=False)),
        ("sgd", {"lr": 0.2, "momentum": 0.9, "nesterov": True}, SGD(lr=0.2, momentum=0.9, nesterov=True)),
        ("adam", {"betas": [0.8, 0.9]}, Adam(lr=1e-3, betas=(0.8, 0.9), eps=1e-8)),
        ("adamw", {"weight_decay": 0.1}, AdamW(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)),
        ("proximal_sgd", {"momentum": 0.5}, Proximal(SGD(momentum=0.5), metric="optimizer")),
        ("proximal_adam", {"metric": "euclidean", "lr": 0.1}, Proximal(Adam(lr=0.1), metric="euclidean")),
        ("proximal_adamw", {}, Proximal(AdamW(weight_decay=1e-2))),
    ],
)
def test_optimizers_by_name(name: str, options: dict[str, Any], expected: Optimizer) -> None:
    got = optim.by_name(name, **options)
    assert got == expected
    assert type(got) is type(expected)
    assert got.lr == expected.lr
    assert hash(got) == hash(expected)


def test_every_optimizer_has_a_name_and_stands_in_the_table() -> None:
    subclasses = {c.__name__.lower(): c for c in (SGD, Adam, AdamW)}
    assert subclasses == OPTIMIZERS
    assert set(TABLE) >= set(OPTIMIZERS) | {f"proximal_{name}" for name in OPTIMIZERS}
