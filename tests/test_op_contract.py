"""What an operation must keep to: its registration, its cotangents, its twin; and the checker of derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.autodiff.op import OPS, TWINS, Op, Rule, backend, current_backend
from l0ref.autodiff.tensor import Tensor, apply, grad
from l0ref.errors import ArgumentError, GradientError, ShapeError
from l0ref.testing.vjp import check_vjp


@pytest.fixture
def scratch() -> Iterator[None]:
    """Forget the operations and twins a test registers."""
    known, twins = dict(OPS), dict(TWINS)
    yield
    for registry, before in ((OPS, known), (TWINS, twins)):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


def scalar(value: float) -> Tensor:
    return Tensor(np.asarray(value))


def slopes(y: Tensor, *wrt: Tensor) -> list[float]:
    return [float(g) for g in grad(y, list(wrt))]


@pytest.mark.usefixtures("scratch")
def test_unwanted_cotangent_is_not_computed() -> None:
    class Picky(Op):
        @staticmethod
        def forward(a: Any, b: Any) -> Any:
            return a * b, (a, b)

        @staticmethod
        def vjp(saved: Any, y_bar: Any) -> Any:
            def never() -> Any:
                raise AssertionError("nobody asked for this cotangent")

            return y_bar * saved[1], never

    a, b = scalar(2.0), scalar(5.0)
    assert slopes(apply(Picky, a, b), a) == [5.0]
    with pytest.raises(AssertionError, match="nobody asked"):
        grad(apply(Picky, a, b), [b])


# Operations of one's own


@pytest.mark.usefixtures("scratch")
def test_own_operation_by_the_same_means() -> None:
    class Cube(Op):
        """y = x^3."""

        @staticmethod
        def forward(x: Any) -> Any:
            return x**3, (x,)

        @staticmethod
        def vjp(saved: Any, y_bar: Any) -> Any:
            return (3 * saved[0] ** 2 * y_bar,)

    x = Tensor(np.array([1.0, 2.0]))
    assert OPS["Cube"] is Cube
    for op in (Cube, "Cube"):
        np.testing.assert_array_equal(grad(ops.sum(apply(op, x)), [x])[0], [3.0, 12.0])
    check_vjp(Cube, [np.array([1.0, 2.0])], rng=np.random.default_rng(0))


def test_scratch_operations_are_forgotten() -> None:
    assert "Cube" not in OPS


@pytest.mark.usefixtures("scratch")
def test_name_of_an_operation_is_taken_once() -> None:
    with pytest.raises(TypeError, match=r"^op 'Add' is already registered by l0ref\.ops\.elementwise; choose another"):
        type("Add", (Op,), {})
    type("Brandnew", (Op,), {})
    with pytest.raises(TypeError, match=r"^op 'Brandnew' is already registered by "):
        type("Brandnew", (Op,), {})


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda y_bar: (y_bar,), "vjp of Faulty returned 1 cotangents; it needs one per input, 2"),
        (lambda y_bar: (y_bar, y_bar, y_bar), "vjp of Faulty returned 3 cotangents; it needs one per input, 2"),
        (
            lambda y_bar: (y_bar.sum(), y_bar),
            r"vjp of Faulty returned float64 \(\) for input 0; it must match the input",
        ),
        (lambda y_bar: (y_bar, lambda: y_bar[:1]), r"vjp of Faulty returned float64 \(1,\) for input 1; it must match"),
        (
            lambda y_bar: (y_bar.astype(np.float32), y_bar),
            r"vjp of Faulty returned float32 \(2,\) for input 0; it must match the input, float64 \(2,\)",
        ),
    ],
)
@pytest.mark.usefixtures("scratch")
def test_faulty_vjp_is_named(returned: Callable[[Any], Any], said: str) -> None:
    members = {
        "forward": staticmethod(lambda a, b: (a + b, ())),
        "vjp": staticmethod(lambda _, y_bar: returned(y_bar)),
    }
    faulty = type("Faulty", (Op,), members)
    a, b = Tensor(np.ones(2)), Tensor(np.ones(2))
    with pytest.raises(ShapeError, match=f"^{said}"):
        grad(ops.sum(apply(faulty, a, b)), [a, b])


@pytest.mark.usefixtures("scratch")
def test_cotangents_that_are_views_or_shared_become_fresh() -> None:
    class Lazy(Op):
        """y = the sum of all inputs, whose vjp hands out whatever lies around."""

        @staticmethod
        def forward(*xs: Any) -> Any:
            return sum(xs), (xs[0],)

        @staticmethod
        def vjp(saved: Any, y_bar: Any) -> Any:
            one = y_bar * 2
            return saved[0], y_bar, y_bar[:], one, one

    xs = [Tensor(np.ones(2)) for _ in range(5)]
    y_bar = np.array([2.0, 3.0])
    gs = grad(apply(Lazy, *xs), xs, y_bar=y_bar)
    held = [xs[0].data, y_bar, *gs]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(held) for q in held[:i])


# Truth and twin


@pytest.fixture
def told(scratch: None) -> list[str]:  # noqa: ARG001
    """An operation "Told" with a twin that declines vectors of length 1; the list says which rule ran."""
    log: list[str] = []

    def rule(name: str) -> Rule:
        def forward(x: Any) -> Any:
            if name == "twin" and x.size == 1:
                return NotImplemented
            log.append(f"{name} forward")
            return x * 2, ()

        def vjp(_: Any, y_bar: Any) -> Any:
            log.append(f"{name} vjp")
            return (y_bar * 2,)

        return Rule(forward, vjp)

    truth, twin = rule("truth"), rule("twin")
    type("Told", (Op,), {"forward": staticmethod(truth.forward), "vjp": staticmethod(truth.vjp)})
    TWINS["Told"] = lambda: twin
    return log


def test_twin_runs_unless_the_truth_is_asked_for(told: list[str]) -> None:
    x = Tensor(np.ones(2))
    with backend("numba"):
        apply("Told", x)
        with backend("numpy"):
            apply("Told", x)
            with backend("numba"):
                apply("Told", x)
            apply("Told", x)
        apply("Told", x)
    assert told == [f"{name} forward" for name in ("twin", "truth", "twin", "truth", "twin")]


def test_gradient_uses_the_rule_of_the_forward_pass(told: list[str]) -> None:
    x = Tensor(np.ones(2))
    with backend("numpy"):
        y = apply("Told", x)
    with backend("numba"):
        grad(y, [x], y_bar=np.ones(2))
        y = apply("Told", x)
    with backend("numpy"):
        grad(y, [x], y_bar=np.ones(2))
    assert told == ["truth forward", "truth vjp", "twin forward", "twin vjp"]


def test_twin_that_declines_leaves_the_case_to_the_truth(told: list[str]) -> None:
    x = Tensor(np.ones(1))
    grad(apply("Told", x), [x])
    assert told == ["truth forward", "truth vjp"]


def test_backend_is_restored_after_an_exception() -> None:
    before = current_backend()
    with pytest.raises(ShapeError, match="do not broadcast"), backend("numpy"):
        ops.add(np.ones(2), np.ones(3))
    assert current_backend() == before
    with pytest.raises(ArgumentError, match=r"^backend='' is not one of 'numpy', 'numba'"), backend(""):
        pass
    assert current_backend() == before


# The checker


@pytest.mark.usefixtures("scratch")
def test_check_vjp_is_strict_at_any_scale() -> None:
    members = {
        "forward": staticmethod(lambda x: (1e-9 * x**2, (x,))),
        "vjp": staticmethod(lambda saved, y_bar: (2e-9 * (1 + 1e-5) * saved[0] * y_bar,)),
    }
    off = type("OffByALittle", (Op,), members)
    with pytest.raises(AssertionError, match=r"^vjp of OffByALittle, input 0: numeric .*\(allowed 1\.0e-07\)$"):
        check_vjp(off, [np.array([1.0, 2.0])], rng=np.random.default_rng(0))


@pytest.mark.usefixtures("scratch")
def test_check_vjp_refuses_what_does_not_move() -> None:
    members = {
        "forward": staticmethod(lambda x: (np.round(x) + 0.1, (x,))),
        "vjp": staticmethod(lambda _, y_bar: (y_bar,)),
    }
    flat = type("Flat", (Op,), members)
    with pytest.raises(GradientError, match=r"^vacuous check: Flat does not move along input 0; choose other inputs"):
        check_vjp(flat, [np.array([1.0, 2.0])], rng=np.random.default_rng(0))


def test_check_vjp_leaves_inputs_alone() -> None:
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    check_vjp(OPS["Exp"], [x], rng=np.random.default_rng(0))
    assert x.tolist() == [1.0, 2.0]
