"""Every operation over every case: loops, finite differences, PyTorch, both backends, float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.autodiff.op import OPS, TWINS, Op, Rule, backend, run_forward, run_vjp
from l0ref.autodiff.tensor import Tensor, apply, grad
from l0ref.errors import GradientError
from l0ref.testing.vjp import check_vjp
from l0ref.validate import Array
from tests.cases import CASES, Case

SEEDS = range(3)
NAMES = sorted({case.op for case in CASES})
MOVING = [case for case in CASES if case.moves]


def both(cases: list[Case], *, slow: str = "") -> list[Any]:
    """Each case on the truth, and on the twin where one is registered; those of the backend `slow` are slow tests."""
    runs = [(case, name) for case in cases for name in ("numpy", "numba") if name == "numpy" or case.op in TWINS]
    marks = {slow: [pytest.mark.slow]}
    return [pytest.param(case, name, id=f"{case.id}-{name}", marks=marks.get(name, [])) for case, name in runs]


def each_case(cases: list[Case]) -> Any:
    """Parametrize a test over cases."""
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def assert_close(got: Array, want: Any, rtol: float, what: str, size: Any = None) -> None:
    """Entries agree to rtol times the largest one, or that of `size`; two arrays of zeros must agree exactly."""
    want = np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    scale = float(np.abs(want if size is None else size).max(initial=0.0))
    off = float(np.abs(got - want).max(initial=0.0))
    assert off <= rtol * scale, f"{what}: off by {off / scale if scale else off:.1e}, allowed {rtol:.1e}"


def evaluate(case: Case, xs: list[Any], options: Mapping[str, Any], seed: int) -> tuple[Array, Array, list[Array]]:
    """The value, a random cotangent of it, and the cotangents of all inputs."""
    tensors = [Tensor(x) for x in xs]
    y = apply(case.op, *tensors, **options)
    y_bar = np.random.default_rng(seed + 1).standard_normal(y.shape).astype(y.dtype)
    return y.data, y_bar, grad(y, tensors, y_bar=y_bar)


def scattered(x: Array) -> Array:
    """The same numbers in Fortran order, every second entry of a larger array: no stride is the usual one."""
    wide = np.full(tuple(2 * n for n in x.shape), np.nan, order="F")
    view: Array = wide[(..., *(slice(None, None, 2),) * x.ndim)]
    view[...] = x
    return view


def single(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with their float64 arrays rounded to float32."""
    return {k: v.astype(np.float32) if getattr(v, "dtype", None) == np.float64 else v for k, v in options.items()}


def test_table_holds_every_op() -> None:
    assert sorted(OPS) == NAMES


def test_case_names_are_unique() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", NAMES)
def test_every_op_has_an_oracle(name: str) -> None:
    mine = [case for case in CASES if case.op == name]
    assert any(case.naive for case in mine)
    assert any(case.call for case in mine)
    assert any(case.moves for case in mine)


def test_every_public_function_is_called() -> None:
    named: set[str] = set()

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            named.add(name)
            return getattr(ops, name)

    for case in CASES:
        if case.call:
            xs, options = case.draw(0)
            with backend("numpy"):  # nothing is computed that other tests do not
                case.call(Recorder(), *xs, **options)
    assert named == set(ops.__all__)


@pytest.mark.parametrize(("case", "name"), both([case for case in CASES if case.naive]))
def test_value_equals_loops(case: Case, name: str) -> None:
    assert case.naive is not None
    xs, options = case.draw(0)
    with backend(name):
        value = apply(case.op, *xs, **options).data
    assert_close(value, case.naive(*xs, **options), 1e-13, "value")


@each_case([case for case in CASES if case.call])
def test_public_function_is_the_op(case: Case) -> None:
    assert case.call is not None
    xs, options = case.draw(1)
    tensors = [Tensor(x) for x in xs]
    y = case.call(ops, *tensors, **options)
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, apply(case.op, *xs, **options).data)
    if case.moves:
        assert [g.shape for g in grad(y, tensors, y_bar=np.ones(y.shape))] == [x.shape for x in xs]


@pytest.mark.parametrize(("case", "name"), both(MOVING))
def test_vjp_fits_five_point_differences(case: Case, name: str) -> None:
    for seed in SEEDS:
        xs, options = case.draw(seed)
        with backend(name):
            check_vjp(OPS[case.op], xs, rng=np.random.default_rng(seed), options=options, step=case.step)


@each_case([case for case in CASES if not case.moves])
def test_vacuous_check_is_refused(case: Case) -> None:
    xs, options = case.draw(0)
    with pytest.raises(GradientError, match=rf"^vacuous check: {case.op} does not move along input \d"):
        check_vjp(OPS[case.op], xs, rng=np.random.default_rng(0), options=options)


@pytest.mark.crosscheck
@pytest.mark.parametrize(("case", "name"), both([case for case in CASES if case.torch]))
def test_agrees_with_torch(case: Case, name: str) -> None:
    torch = pytest.importorskip("torch")
    assert case.torch is not None
    for seed in SEEDS:
        xs, options = case.draw(seed)
        with backend(name):
            value, y_bar, x_bars = evaluate(case, xs, options, seed)
        theirs = [torch.tensor(x.copy(), requires_grad=True) for x in xs]
        y = case.torch(torch, *theirs, **options)
        y.backward(torch.tensor(y_bar))
        assert_close(value, y.detach().numpy(), 1e-12, "value")
        for i, (x_bar, x) in enumerate(zip(x_bars, theirs, strict=True)):
            assert_close(x_bar, x.grad.numpy(), 1e-12, f"cotangent of input {i}")


@pytest.mark.parametrize(("case", "name"), both(CASES, slow="numba"))  # twins in float32 are held to truth in test_fast
def test_float32_stays_float32(case: Case, name: str) -> None:
    xs, options = case.draw(0)
    rough, rough_options = [x.astype(np.float32) for x in xs], single(options)
    exact = [x.astype(np.float64) for x in rough]
    with backend(name):
        value, _, x_bars = evaluate(case, rough, rough_options, 0)
        want, _, want_bars = evaluate(case, exact, options, 0)
    assert value.dtype == np.float32
    assert_close(value, want, 1e-5, "value")
    for x_bar, want_bar in zip(x_bars, want_bars, strict=True):
        assert x_bar.dtype == np.float32
        assert_close(x_bar, want_bar, 1e-5, "cotangent")


@pytest.mark.parametrize(("case", "name"), both(CASES))
def test_results_are_fresh_and_repeatable(case: Case, name: str) -> None:
    xs, options = case.draw(0)
    with backend(name):
        tensors = [Tensor(x) for x in xs]
        y = apply(case.op, *tensors, **options)
        y_bar = np.random.default_rng(1).standard_normal(y.shape)
        y_bar.flags.writeable = False
        first, second = (grad(y, tensors, y_bar=y_bar) for _ in range(2))
    held = [*xs, y_bar, *(v for v in options.values() if isinstance(v, np.ndarray))]
    assert not any(np.shares_memory(y.data, x) for x in held)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(a, b)
        others = [*held, y.data, *second, *first[:i]]
        assert not any(np.shares_memory(a, x) for x in others)
        a[...] = np.nan
    for a, b in zip(grad(y, tensors, y_bar=y_bar), second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("case", "name"), both(CASES))
def test_memory_layout_does_not_matter(case: Case, name: str) -> None:
    xs, options = case.draw(0)
    with backend(name):
        value, _, x_bars = evaluate(case, xs, options, 0)
        turned, _, turned_bars = evaluate(case, [scattered(x) for x in xs], options, 0)
    assert_close(turned, value, 1e-13, "value")
    for x_bar, turned_bar in zip(x_bars, turned_bars, strict=True):
        assert_close(turned_bar, x_bar, 1e-13, "cotangent")


@pytest.mark.slow  # what `test_fast` asks of the twins alone, here through the tape
@each_case([case for case in CASES if case.op in TWINS])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_truth_equals_twin(case: Case, dtype: Any) -> None:
    xs, options = case.draw(2)
    xs = [x.astype(dtype) for x in xs]
    options = single(options) if dtype == np.float32 else options
    with backend("numpy"):
        value, _, x_bars = evaluate(case, xs, options, 2)
    with backend("numba"):
        twin_value, _, twin_bars = evaluate(case, xs, options, 2)
    rtol = 1e-13 if dtype == np.float64 else 1e-5
    assert_close(twin_value, value, rtol, "value")
    for i, (x_bar, twin_bar) in enumerate(zip(x_bars, twin_bars, strict=True)):
        assert_close(twin_bar, x_bar, rtol, f"cotangent of input {i}")


@pytest.mark.parametrize("name", sorted(TWINS))
def test_twin_takes_at_least_one_case(name: str) -> None:
    drawn = [case.draw(0) for case in CASES if case.op == name]
    assert any(TWINS[name]().forward(*xs, **options) is not NotImplemented for xs, options in drawn)


def _drop_one(g: Array) -> Array:
    g = g.copy()
    g[np.unravel_index(np.abs(g).argmax(), g.shape)] = 0
    return g


PLANTED: dict[str, Callable[[Array], Array]] = {
    "zero": np.zeros_like,
    "sign": np.negative,
    "one part in 10^5": lambda g: g * (1 + 1e-5),
    "one entry dropped": _drop_one,
    "one entry off": lambda g: g + 1e-3 * (g - _drop_one(g)),
    "reversed": lambda g: g.ravel()[::-1].reshape(g.shape),
    "shifted": lambda g: np.roll(g, 1),
    "last axis reversed": lambda g: g[..., ::-1] if g.ndim else g,
}


def with_fault(op: type[Op], xs: list[Array], which: int, fault: Callable[[Array], Array]) -> Any:
    """A copy of `op`, not registered, whose cotangent of input `which` is wrong."""

    def wrong_vjp(saved: Any, y_bar: Array) -> tuple[Any, ...]:
        g = run_vjp(op, Rule(op.forward, op.vjp), saved, y_bar, tuple(xs), [True] * len(xs))
        return tuple(fault(np.asarray(x_bar)) if i == which else x_bar for i, x_bar in enumerate(g))

    return type("Wrong", (), {"forward": op.forward, "vjp": staticmethod(wrong_vjp), "broadcasts": False})


def changes(op: type[Op], xs: list[Array], options: dict[str, Any], which: int, fault: Any, seed: int) -> bool:
    """Whether the fault alters the cotangent at all (a constant gradient survives being reversed)."""
    rule, y, saved = run_forward(op, tuple(xs), options)
    y_bar = np.random.default_rng(seed).standard_normal(y.shape)
    g = run_vjp(op, rule, saved, y_bar, tuple(xs), [i == which for i in range(len(xs))])[which]
    assert g is not None
    return not np.allclose(g, fault(g), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.parametrize("name", NAMES)
def test_check_vjp_rejects_planted_fault(name: str, bug: str) -> None:
    fault, caught, planted = PLANTED[bug], 0, 0
    with backend("numpy"):
        for case in [case for case in MOVING if case.op == name]:
            for which in range(len(case.draw(0)[0])):
                told = [_told(case, which, fault, 0)]
                # a random direction may miss a small fault; what three draws leave as it is, all do
                while not told[-1] and len(told) < 12 and told != [None] * 3:
                    told.append(_told(case, which, fault, len(told)))
                planted += any(verdict is not None for verdict in told)
                caught += any(told)
    assert planted > 0
    assert caught == planted


def _told(case: Case, which: int, fault: Callable[[Array], Array], seed: int) -> bool | None:
    """Whether check_vjp rejects the fault; None if it changes nothing here."""
    op = OPS[case.op]
    xs, options = case.draw(seed)
    if not changes(op, xs, options, which, fault, seed):
        return None
    said = ""
    try:
        wrong = with_fault(op, xs, which, fault)
        check_vjp(wrong, xs, rng=np.random.default_rng(seed), options=options, step=case.step)
    except AssertionError as error:
        said = str(error)
    return said.startswith(f"vjp of Wrong, input {which}: numeric ")
