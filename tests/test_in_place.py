"""Steps in place: the same bits as the optimiser's own steps, on arrays of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import pytest

from l0ref import optim
from l0ref.autodiff.op import backend
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.fast.step import update
from l0ref.optim.in_place import InPlace, steps_in_place
from l0ref.penalty import Pull
from l0ref.surrogates import L0, Laplace, LogSum, Surrogate
from l0ref.validate import Array

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
Arrays = dict[str, Array]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_optimizer = pytest.mark.parametrize(
    "optimizer",
    [
        optim.SGD(lr=0.1, momentum=0.9),
        optim.SGD(lr=0.03, momentum=0.7, nesterov=True),
        optim.Adam(lr=0.01),
        optim.Adam(lr=0.3, betas=(0.0, 0.5), eps=1e-3),
        optim.AdamW(lr=0.01, weight_decay=0.3),
    ],
    ids=["momentum", "nesterov", "adam", "adam without memory", "adamw"],
)


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> int:
    """Entries a kernel takes at a time; few where every entry is a turn of a loop in Python."""
    if numba.config.DISABLE_JIT:
        monkeypatch.setattr(update, "PART", 64)
    return update.PART


def network(part: int, dtype: Any, rng: np.random.Generator) -> Arrays:
    """Arrays that end before, at and behind the end of a part; some hold one number, one holds none."""
    shapes = {
        "a.weight": (3, 7), "a.bias": (1,), "none.weight": (0, 4), "b.weight": (part - 22,), "b.bias": (1,),
        "c.weight": (part,), "c.bias": (5,), "d.bias": (7,), "d.weight": (2, part + 3),
    }  # fmt: skip
    return {k: (rng.normal(size=s) * (rng.random(s) < 0.8)).astype(dtype) for k, s in shapes.items()}


def like(params: Mapping[str, Array], rng: np.random.Generator) -> Arrays:
    return {k: rng.normal(size=w.shape).astype(w.dtype) for k, w in params.items()}


def assert_equal(got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
    assert list(got) == list(want)
    for key, a in want.items():
        assert (got[key].dtype, got[key].shape) == (a.dtype, a.shape)
        np.testing.assert_array_equal(got[key], a, err_msg=key)


def assert_same_both_ways(
    optimizer: optim.Optimizer,
    params: Arrays,
    masks: Mapping[str, Array],
    pulls: list[Pull],
    rng: np.random.Generator,
    *,
    slots: optim.State | None = None,
) -> None:
    """Take one step after another in both ways, with learning rates that change, and compare after each."""
    state = slots or optimizer.init(params)
    arrays = InPlace(optimizer, params, state, masks)
    for i, pull in enumerate(pulls):
        grads = like(params, rng)
        for key, g in grads.items():
            arrays.grads[key][...] = g
        with backend("numba"), np.errstate(invalid="ignore", over="ignore"):
            params, state = optimizer.step(params, grads, state, lr=0.02 / (i + 1), masks=masks, pull=pull)
            arrays.step(lr=0.02 / (i + 1), pull=pull)
        got, memory = arrays.taken_out()
        assert_equal(got, params)
        assert_equal(arrays.params, params)
        assert memory.step == state.step
        assert list(memory.slots) == list(state.slots)
        for name, slot in state.slots.items():
            assert_equal(memory.slots[name], slot)


def priced(surrogate: Surrogate, params: Mapping[str, Array], *, l2: float = 0.0, scale: float = 1.0) -> Pull:
    """Another price for every weight array; one of them costs nothing."""
    weights = [k for k in params if k.endswith("weight")]
    return Pull(surrogate, {k: 0.3 * scale * i for i, k in enumerate(weights)}, l2)


@each_dtype
@each_optimizer
def test_steps_equal_those_of_the_optimizer(
    optimizer: optim.Optimizer, part: int, dtype: Any, rng: np.random.Generator
) -> None:
    params = network(part, dtype, rng)
    none, squares = Pull(Laplace(5.0), {}), Pull(Laplace(5.0), dict.fromkeys(["a.weight", "d.weight"], 0.0), 0.1)
    warm = [priced(Laplace(5.0), params, l2=0.01, scale=s) for s in (0.0, 0.5, 1.0)]
    assert_same_both_ways(optimizer, params, {}, [none, squares, *warm, none], rng)


@each_dtype
@each_optimizer
def test_steps_under_masks(optimizer: optim.Optimizer, part: int, dtype: Any, rng: np.random.Generator) -> None:
    """NaN and infinity where a mask is False are gone after the first step, from slots too."""
    params = network(part, dtype, rng)
    masks = {k: rng.random(params[k].shape) < 0.5 for k in ("a.weight", "d.weight", "none.weight", "b.bias")}
    masks["c.weight"] = np.zeros(part, bool)
    state = optimizer.init(params)
    slots = {name: {k: np.abs(a) for k, a in like(params, rng).items()} for name in state.slots}
    for key in ("a.weight", "c.weight", "d.weight"):
        for i, a in enumerate((params[key], *(slot[key] for slot in slots.values()))):
            a[~masks[key]] = (np.nan, np.inf, -np.inf)[i]
    pulls = [priced(Laplace(2.0), params, l2=0.01), Pull(Laplace(2.0), {})]
    assert_same_both_ways(optimizer, params, masks, pulls, rng, slots=optim.State(3, slots))


@each_dtype
@each_optimizer
@pytest.mark.parametrize("surrogate", [LogSum(0.5), Laplace(0.3)], ids=["log-sum", "laplace"])
def test_steps_with_any_surrogate(
    surrogate: Surrogate, optimizer: optim.Optimizer, dtype: Any, rng: np.random.Generator
) -> None:
    params = network(30, dtype, rng)
    pulls = [priced(surrogate, params), priced(surrogate, params, l2=0.1, scale=0.0), priced(Laplace(1.0), params)]
    assert_same_both_ways(optimizer, params, {"a.bias": np.array([False])}, pulls, rng)


@each_dtype
def test_penalty_reaches_its_segments_in_a_part(dtype: Any, rng: np.random.Generator) -> None:
    """Threads take parts side by side: none may write beyond its own."""
    w, g = rng.normal(size=(2, 12)).astype(dtype)
    bounds, series = np.array([0, 3, 3, 7, 10, 12]), update.series_of(np.dtype(dtype))
    prices, squares = (0.5, 9.0, 0.0, 0.0, 2.0), (0.0, 9.0, 0.1, 0.0, 0.2)
    pulls = np.array([(2.0, 2.0 * p, 2 * s) for p, s in zip(prices, squares, strict=True)], dtype)
    whole = g.copy()
    for i, (price, square) in enumerate(zip(prices, squares, strict=True)):
        part = slice(bounds[i], bounds[i + 1])
        whole[part] += Pull(Laplace(2.0), {"w": price}, square).gradient({"w": w[part]})["w"]
    for first in range(13):
        for last in range(first, 13):
            got, want = g.copy(), g.copy()
            want[first:last] = whole[first:last]
            update.penalize(w, got, (bounds, pulls, series), first, last)
            np.testing.assert_allclose(got, want, rtol=0, atol=8 * np.finfo(dtype).eps)
            np.testing.assert_array_equal(got[7:10], g[7:10])


@each_dtype
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_no_bit(
    threads: int, part: int, dtype: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """Threads end in the middle of parts and segments."""
    monkeypatch.setattr(update, "threads_for", lambda _: threads)
    for optimizer in (optim.Adam(), optim.SGD(momentum=0.5)):
        params = network(part, dtype, rng)
        masks = {"d.weight": rng.random(params["d.weight"].shape) < 0.5}
        assert_same_both_ways(optimizer, params, masks, [priced(Laplace(5.0), params, l2=0.1)] * 2, rng)


def test_work_is_counted_in_all_entries(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    asked: list[int] = []
    monkeypatch.setattr(update, "threads_for", lambda work: asked.append(work) or 1)
    params = network(30, np.float64, rng)
    arrays = InPlace(optim.Adam(), params, optim.Adam().init(params), {})
    arrays.step(lr=0.1, pull=Pull(Laplace(1.0), {}))
    assert asked == [update.OPERATIONS * sum(w.size for w in params.values())]


@each_dtype
def test_arrays_are_copied_on_the_way_in_and_out(dtype: Any, rng: np.random.Generator) -> None:
    """A step changes neither what it was given nor what was taken out before; params and grads are views of its own."""
    optimizer, params = optim.Adam(), network(30, dtype, rng)
    params["a.weight"] = np.asfortranarray(params["a.weight"])
    params["d.weight"] = params["d.weight"][:, ::-1]
    state = optim.State(4, {name: like(params, rng) for name in ("m", "v")})
    state.slots["v"].update({k: np.abs(a) for k, a in state.slots["v"].items()})
    given = [params, *state.slots.values()]
    before = [{k: a.copy() for k, a in arrays.items()} for arrays in given]
    arrays = InPlace(optimizer, params, state, {})
    first, memory = arrays.taken_out()
    out = [first, *memory.slots.values()]
    assert (memory.step, list(memory.slots)) == (4, ["m", "v"])
    for g in arrays.grads.values():
        g[...] = 1.0
    arrays.step(lr=0.1, pull=Pull(Laplace(1.0), {}))
    for now, then, taken in zip(given, before, out, strict=True):
        assert_equal(now, then)
        assert_equal(taken, then)
    assert all((arrays.params[k] != w).any() for k, w in params.items() if w.size)
    second, after = arrays.taken_out()
    assert after.step == 5
    for k, w in second.items():
        assert not any(np.shares_memory(w, a[k]) for a in (first, arrays.params, after.slots["m"], after.slots["v"]))


def test_arrays_go_by_their_names(rng: np.random.Generator) -> None:
    """The same arrays in another order, of dictionaries and in them, are the same arrays."""
    optimizer, params = optim.Adam(), network(30, np.float64, rng)
    state = optim.State(1, {name: {k: np.abs(a) for k, a in like(params, rng).items()} for name in ("m", "v")})
    masks = {k: rng.random(params[k].shape) < 0.5 for k in ("a.weight", "d.weight")}
    turned = optim.State(1, {n: dict(reversed(state.slots[n].items())) for n in ("v", "m")})
    results = []
    for p, s in ((params, state), (params, turned), (dict(reversed(params.items())), state)):
        arrays = InPlace(optimizer, p, s, dict(reversed(masks.items())))
        for key, g in arrays.grads.items():
            g[...] = params[key] ** 2
        arrays.step(lr=0.1, pull=priced(Laplace(1.0), params))
        after, memory = arrays.taken_out()
        results.append([{k: each[k] for k in params} for each in (after, memory.slots["m"], memory.slots["v"])])
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert_equal(got, want)


@pytest.mark.parametrize(
    ("optimizer", "covered"),
    [
        (optim.SGD(momentum=0.5), True),
        (optim.Adam(), True),
        (optim.AdamW(), True),
        (optim.SGD(), False),
        (optim.Proximal(optim.Adam()), True),
        (optim.Proximal(optim.SGD()), False),
        (type("OwnAdam", (optim.Adam,), {})(), False),  # may update otherwise
        (type("OwnSGD", (optim.SGD,), {})(momentum=0.5), False),
    ],
)
def test_which_optimizers_step_in_place(optimizer: optim.Optimizer, covered: bool) -> None:
    assert steps_in_place(optimizer) is covered


def test_what_the_optimizer_refuses_is_refused() -> None:
    adam, params = optim.Adam(), {"w": np.ones(3)}
    state, nothing = adam.init(params), Pull(Laplace(1.0), {})
    for error, said, arguments in (
        (ArgumentError, r"^masks has 'x', which is not a parameter", (params, state, {"x": np.ones(3, bool)})),
        (ShapeError, r"^masks\['w'\] is bool \(2,\), expected bool \(3,\)", (params, state, {"w": np.ones(2, bool)})),
        (ShapeError, r"^masks\['w'\] is int64 \(3,\), expected bool", (params, state, {"w": np.ones(3, int)})),
        (ArgumentError, r"^state has the slots \[\], expected \['m', 'v'\]", (params, optim.State(), {})),
        (ShapeError, r"^state.slots\['m'\]\['w'\] has shape \(3,\)", ({"w": np.ones(4)}, state, {})),
        (DTypeError, r"^state.slots\['m'\]\['w'\] has dtype float64", ({"w": np.ones(3, np.float32)}, state, {})),
    ):
        with pytest.raises(error, match=said):
            InPlace(adam, *arguments)
    arrays = InPlace(adam, params, state, {})
    with pytest.raises(ArgumentError, match=r"^lr=-0\.1 must be 0 or greater"):
        arrays.step(lr=-0.1, pull=nothing)
    with pytest.raises(ArgumentError, match=r"^pull has the surrogate L0\(\), whose slope is 0 everywhere"):
        arrays.step(lr=0.1, pull=Pull(L0(), {"w": 1.0}))
    assert_equal(arrays.params, params)


# --- with a prox


@each_dtype
@pytest.mark.parametrize("phi", [Laplace(5.0), LogSum(0.1)], ids=["laplace", "log sum"])
@pytest.mark.parametrize("metric", ["optimizer", "euclidean"])
@pytest.mark.parametrize(
    "inner",
    [optim.SGD(lr=0.1, momentum=0.9), optim.Adam(lr=0.01), optim.AdamW(lr=0.01, weight_decay=0.3)],
    ids=["momentum", "adam", "adamw"],
)
def test_proximal_step_is_that_of_the_optimiser(
    inner: Any, metric: str, phi: Surrogate, dtype: Any, part: int, rng: np.random.Generator
) -> None:
    optimizer = optim.Proximal(inner, metric=metric)
    assert steps_in_place(optimizer)
    params = network(part, dtype, rng)
    masks = {"b.weight": rng.random(params["b.weight"].shape) < 0.5}
    params["b.weight"] *= masks["b.weight"]
    state = optimizer.init(params)
    arrays = InPlace(optimizer, params, state, masks)
    for price in (1e-6, 1e-3, 0.3):
        pull = Pull(phi, {key: price for key in params if key.endswith("weight")}, l2=1e-3)
        grads = like(params, rng)
        for key, g in grads.items():
            arrays.grads[key][...] = g
        params, state = optimizer.step(params, grads, state, masks=masks, pull=pull)
        arrays.step(lr=optimizer.lr, pull=pull)
        got, _ = arrays.taken_out()
        for key, want in params.items():
            scale = np.abs(want).max(initial=0.0)
            assert np.abs(got[key] - want).max(initial=0.0) <= (1e-9 if dtype == np.float64 else 3e-7) * scale
            np.testing.assert_array_equal(got[key] == 0, want == 0, err_msg=key)
            arrays.params[key][...] = want  # so that what is compared next is one step, not the sum of roundings
