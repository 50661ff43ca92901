"""What the checker notices beside wrong numbers: proportion to the cotangent, memory, errors that cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import Tensor, ops
from l0ref.autodiff.tensor import apply
from l0ref.testing import GradcheckReport, check_gradient, gradcheck
from l0ref.testing.behaviour import apart
from l0ref.testing.differences import rung
from l0ref.testing.scale import STEPS, random_moves
from l0ref.validate import Array

X = np.array([[0.5, -1.25, 2.0], [0.75, 1.5, -0.25]])
FAST = pytest.mark.parametrize("fast", [False, True])
Vjp = Callable[[Any, Array], tuple[Array, ...]]


def function(forward: Callable[..., Any], vjp: Vjp) -> Callable[..., Tensor]:
    op: Any = type("Written", (), {"broadcasts": False, "forward": staticmethod(forward), "vjp": staticmethod(vjp)})
    return lambda x: apply(op, x)


def cube(vjp: Callable[[Array, Array], Array]) -> Callable[..., Tensor]:
    """x^3 with a derivative of (x, y_bar)."""
    return function(lambda x: (x**3, x), lambda x, y_bar: (vjp(x, y_bar),))


def report_of(func: Callable[..., Tensor], x: Array = X, **options: Any) -> GradcheckReport:
    return gradcheck(func, x, raise_exception=False, **options)


def test_the_true_cube_passes() -> None:
    assert report_of(cube(lambda x, y_bar: 3 * x**2 * y_bar)).problems == ()


# --- proportional to the cotangent ------------------------------------------------------------------------------------


@FAST
@pytest.mark.parametrize("limit", [2.0, 60.0])
def test_cotangent_clipped_far_beyond_its_size_is_found(limit: float, fast: bool) -> None:
    report = report_of(cube(lambda x, y_bar: 3 * x**2 * np.clip(y_bar, -limit, limit)), fast_mode=fast)
    assert not report
    (problem,) = report.problems
    assert problem.startswith("not proportional to the cotangent: with -1024 times the cotangent the gradient of x[")
    assert problem.endswith("; it must be the transposed Jacobian times the cotangent")


def test_positive_cotangent_of_one_number_is_found() -> None:
    func = function(lambda x: (np.asarray((x**3).sum()), x), lambda x, y_bar: (3 * x**2 * np.abs(y_bar),))
    reports = [report_of(func, seed=seed) for seed in range(8)]
    assert not any(reports)
    assert all(report.problems[0].startswith("not proportional") for report in reports)
    kinds = {any(f.failed for f in report.findings) for report in reports}
    assert kinds == {False, True}  # a negative cotangent shows it entry by entry, a positive one needs a second


def test_largest_difference_is_quoted() -> None:
    def slightly(x: Array, y_bar: Array) -> Array:
        g = 3 * x**2 * y_bar
        g[1, 2] = np.clip(g[1, 2], -2, 2)
        return g

    (problem,) = report_of(cube(slightly)).problems
    assert "the gradient of x[1, 2] is " in problem


def test_proportion_is_held_to_rounding() -> None:
    """An error of 1e-12 at the cotangent of the check, 1e-9 at one a thousand times larger."""
    report = report_of(cube(lambda x, y_bar: 3 * x**2 * y_bar * (1 + 1e-12 * y_bar)))
    assert [problem[:16] for problem in report.problems] == ["not proportional"]


def test_nondet_tol_allows_for_noise_here_too() -> None:
    rng = np.random.default_rng(0)
    func = cube(lambda x, y_bar: 3 * x**2 * y_bar + 1e-12 * rng.normal(size=x.shape))
    assert not report_of(func)
    assert report_of(func, nondet_tol=1e-10)


def test_float32_may_round() -> None:
    assert report_of(cube(lambda x, y_bar: 3 * x**2 * y_bar), X.astype(np.float32)).problems == ()
    assert report_of(lambda x: ops.log_softmax(x, 1), X.astype(np.float32)).problems == ()


# --- memory -----------------------------------------------------------------------------------------------------------


@FAST
def test_backward_pass_that_writes_into_its_input_is_found(fast: bool) -> None:
    def vjp(x: Array, y_bar: Array) -> Array:
        g = 3 * x**2 * y_bar
        x[0, 1] = 7.0
        return g

    report = report_of(cube(vjp), fast_mode=fast)
    assert report.problems == ("the gradient writes into its input: x[0, 1] was -1.25 and became 7; work on a copy",)
    report = report_of(cube(vjp), X.astype(np.float32), fast_mode=fast)
    assert "x[0, 1] was -1.25 and became 7" in report.problems[0]


@FAST
def test_backward_pass_that_writes_into_its_cotangent_is_found(fast: bool) -> None:
    def vjp(x: Array, y_bar: Array) -> Array:
        g = 3 * x**2 * y_bar
        y_bar[1, 2] = 0.0
        return g

    report = report_of(cube(vjp), fast_mode=fast)
    (problem,) = report.problems
    assert problem.startswith("the gradient writes into the cotangent it is given: cotangent[5] was ")
    assert problem.endswith(" and became 0; work on a copy")


def test_cotangent_of_one_number_and_of_the_identity() -> None:
    assert report_of(lambda x: ops.sum(x * x)).problems == ()
    assert report_of(lambda x: x).problems == ()  # the input is the result


@FAST
def test_values_overwritten_by_the_next_call_are_found(fast: bool) -> None:
    workspace = np.empty(X.shape)

    def forward(x: Array) -> tuple[Array, Array]:
        workspace[...] = x
        return x**3, workspace

    report = report_of(function(forward, lambda x, y_bar: (3 * x**2 * y_bar,)), fast_mode=fast)
    (problem,) = report.problems
    assert problem.startswith(
        "stale values: evaluating the function elsewhere between its forward and its backward pass changes "
        "the gradient of x["
    )
    assert problem.endswith("; keep what each call saves apart")


def test_a_function_that_ends_nearby_is_not_disturbed() -> None:
    def only_here(x: Tensor) -> Tensor:
        if not np.allclose(x.data, X, rtol=0, atol=5e-3):
            raise ValueError("too far")
        return ops.tanh(x)

    assert report_of(only_here).problems == ()


def test_shared_memory_of_a_linear_function_is_found() -> None:
    memory = np.empty(X.shape)

    def vjp(_: Array, y_bar: Array) -> tuple[Array]:
        np.multiply(y_bar, 2.0, out=memory)
        return (memory,)

    report = report_of(function(lambda x: (2 * x, x), vjp))
    assert report.problems == (
        "aliasing: the gradient of x returned first changed when the next one was computed; "
        "return a fresh array each time",
    )


def test_stale_values_name_the_input() -> None:
    first: list[Array] = []

    def gradient(xs: list[Array]) -> list[Array]:
        first.append(xs[1])
        return [2 * xs[0], 3 * first[0] ** 2]

    report = check_gradient(
        lambda xs: float((xs[0] ** 2).sum() + (xs[1] ** 3).sum()), gradient, [X, X[0]], raise_exception=False
    )
    (problem,) = report.problems
    assert " at inputs nearby, in x[1] (along a random direction off by " in problem


# --- what could hide along a direction --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("most", [None, 2])
def test_entry_that_is_not_finite_is_found_in_fast_mode(value: float, most: int | None) -> None:
    def vjp(x: Array, y_bar: Array) -> Array:
        g = 3 * x**2 * y_bar
        g[1, 0] = value
        return g

    report = report_of(cube(vjp), fast_mode=most is None, max_entries=most)
    assert [f.index for f in report.findings if f.failed] == [(1, 0)]
    assert "overflows or is undefined: 1 of" in report.parameters[0].diagnosis


def test_two_exchanged_entries_are_found_along_directions() -> None:
    """Moved by the same amount they would cancel in every sixteenth check."""

    def vjp(_: Array, y_bar: Array) -> tuple[Array]:
        g = 2 * y_bar
        g[0, 0], g[0, 1] = g[0, 1], g[0, 0]
        return (g,)

    func = function(lambda x: (2 * x, x), vjp)
    assert [seed for seed in range(100) if report_of(func, fast_mode=True, seed=seed)] == []


def test_random_moves_are_short_binary_fractions_of_many_sizes() -> None:
    moves = random_moves(20_000, np.random.default_rng(0))
    assert set(np.abs(moves) * 2 * STEPS) == set(range(STEPS, 2 * STEPS))
    assert set(np.unique(moves)) == {side * k / (2 * STEPS) for k in range(STEPS, 2 * STEPS) for side in (-1, 1)}
    assert abs(moves.mean()) < 4 * 0.75 / np.sqrt(20_000)  # four standard errors


def test_rounding_is_measured_by_the_largest_value_on_the_way() -> None:
    h, eps = 2.0**-10, 2.0**-52
    (noise,) = rung(lambda t: np.array([1e6 * t**2]), np.zeros(1), h, eps=eps, rtol=1e-8).noise
    assert noise >= 8 * eps * 1e6 * (2 * h) ** 2 / h


def test_directions_of_a_given_step_stay_within_it() -> None:
    seen: list[float] = []

    def value(w: Array) -> float:
        seen.append(float(np.abs(w - X).max()))
        return float((w**2).sum())

    assert check_gradient(value, lambda w: 2 * w, X, fast_mode=True, eps=1e-3)
    moved = [s for s in seen if 0 < s <= 2e-3]
    assert max(moved) <= 2e-3
    assert len(moved) > 20


def test_every_wrong_input_is_named_however_many_entries_are_wrong() -> None:
    def report(most: int) -> str:
        found = check_gradient(
            lambda xs: float((xs[0] ** 2).sum() + (xs[1] ** 2).sum()),
            lambda xs: [-2 * xs[0], 2 * xs[1] * (1 + 1e-3 * np.abs(xs[1]))],  # the second is wrong by less
            [np.linspace(1.0, 2.0, 12), np.array([1.0, 2.0])],
            raise_exception=False,
        )
        return found.text(most=most).split("\n  parameter ")[0]

    lines = report(8).splitlines()
    assert ["x[0][" in line for line in lines[-9:-1]] == [True] * 7 + [False]
    assert lines[-2].startswith("  x[1][1]: ")
    assert lines[-1] == "  ... and 6 more"
    assert [line.split("]")[0] for line in report(1).splitlines() if ": wrong" in line] == ["  x[0"]
    assert report(99).count(": wrong") == 14


def test_apart() -> None:
    a = np.array([1.0, np.nan, np.inf, -np.inf])
    assert apart(a, a.copy()) == 0
    assert apart(a, np.array([1.5, np.nan, np.inf, -np.inf])) == 0.5
    assert apart(a, np.array([1.0, 0.0, np.inf, -np.inf])) == np.inf
    assert apart(a, np.array([1.0, np.nan, -np.inf, -np.inf])) == np.inf
    assert apart(np.zeros(0), np.zeros(0)) == 0
