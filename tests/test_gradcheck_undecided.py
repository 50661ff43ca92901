"""What the given point leaves open: ties of several entries, entries that all stand on kinks, stationary points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref import Tensor, ops
from l0ref.autodiff.tensor import apply
from l0ref.errors import GradientError
from l0ref.testing import GradcheckReport, check_gradient, gradcheck
from l0ref.testing.callables import pair_problem
from l0ref.testing.measure import Measure
from l0ref.testing.nearby import Nearby
from l0ref.testing.problem import Calls
from l0ref.testing.settings import Options, Settings
from l0ref.validate import Array

FAST = pytest.mark.parametrize("fast", [False, True], ids=["full", "fast"])
ONES, ZEROS = np.ones(3), np.zeros(3)


def report_of(value: Any, gradient: Any, x: Any, **options: Any) -> GradcheckReport:
    return check_gradient(value, gradient, x, raise_exception=False, **options)


def relu_sum(x: Array) -> Any:
    return np.maximum(x, 0).sum()


# --- ties -------------------------------------------------------------------------------------------------------------


@FAST
@pytest.mark.parametrize(
    ("gradient", "right"),
    [
        (lambda x: (x == x.max()) * 1.0, False),
        (lambda x: (x == x.max()) / (x == x.max()).sum(), True),
        (lambda x: np.eye(x.size)[x.argmax()], True),
        (lambda x: np.eye(x.size)[x.argmax()] * 0.5, False),
    ],
    ids=["all", "shared", "first", "half"],
)
def test_tied_maxima_must_share_their_slope(gradient: Any, right: bool, fast: bool) -> None:
    report = report_of(np.max, gradient, ONES, fast_mode=fast)
    assert bool(report) == right
    if not right:
        assert report.problems[0].startswith("tied entries: x[0], x[1], x[2] share a kink, and along all of them")


@FAST
def test_a_tie_across_inputs_and_signs(fast: bool) -> None:
    point = [np.array([1.0, 2.0]), np.array([-1.0, 5.0])]

    def gradient(share: float) -> Any:
        def of(p: list[Array]) -> list[Array]:
            a, b = p[0] > -p[1], p[0] < -p[1]
            tie = p[0] == -p[1]
            return [a + share * tie, -(b + share * tie)]

        return of

    value = lambda p: np.maximum(p[0], -p[1]).sum()  # noqa: E731
    assert report_of(value, gradient(0.5), point, fast_mode=fast)
    report = report_of(value, gradient(1.0), point, fast_mode=fast)
    assert "x[0][0], x[1][0] share a kink" in report.problems[0]


def test_pairs_are_found_where_not_all_entries_share_the_kink() -> None:
    """Two maxima that are tied, and an absolute value that bends every direction through all entries."""
    x = np.array([1.0, 1.0, 0.0])
    value = lambda x: max(x[0], x[1]) + abs(x[2])  # noqa: E731
    assert report_of(value, lambda x: np.array([x[0] >= x[1], x[1] > x[0], np.sign(x[2])], float), x)
    wrong = report_of(value, lambda x: np.array([x[0] >= x[1], x[1] >= x[0], np.sign(x[2])], float), x)
    assert "tied entries: x[0], x[1] share" in wrong.problems[0]


@pytest.mark.parametrize("tied", [(0, 1), (0, 2), (1, 3)])
def test_pairs_of_neighbours_and_pairs_apart(tied: tuple[int, int]) -> None:
    i, j = tied
    rest = [k for k in range(4) if k not in tied]
    value = lambda x: max(x[i], x[j]) + np.abs(x[rest]).sum()  # noqa: E731
    report = report_of(value, lambda x: np.where(np.isin(np.arange(4), rest), np.sign(x), 1.0), np.zeros(4))
    assert f"tied entries: x[{i}], x[{j}] share" in report.problems[0]


@pytest.mark.parametrize("g", [(0, 0), (1, 0), (1, -1), (0, -1), (0.5, -0.25)])
def test_kinks_that_are_not_coupled_keep_their_choice(g: tuple[float, float]) -> None:
    def gradient(x: Array) -> Array:
        return np.where(x == 0, np.array(g), (x > 0) * np.array([1.0, -1.0]))

    assert report_of(lambda x: np.maximum(x[0], 0) - np.maximum(x[1], 0), gradient, np.zeros(2))


def test_operations_share_ties() -> None:
    class Greedy:
        broadcasts = False
        forward = staticmethod(lambda x: (x.max(axis=1), x))
        vjp = staticmethod(lambda x, y_bar: ((x == x.max(axis=1, keepdims=True)) * y_bar[:, None],))

    x = np.array([[1.0, 1.0, 0.0], [3.0, 2.0, 2.0]])
    report = gradcheck(lambda x: apply(Greedy, x), x, raise_exception=False)  # type: ignore[arg-type]
    assert report.problems[0].startswith("tied entries: x[0, 0], x[0, 1] share")
    assert gradcheck(lambda x: ops.max(x, 1), x)


# --- every entry on a kink --------------------------------------------------------------------------------------------


@FAST
def test_a_gradient_of_zero_at_kinks_is_refused(fast: bool) -> None:
    for value in (relu_sum, lambda x: np.abs(x).sum()):
        report = report_of(value, np.zeros_like, ZEROS, fast_mode=fast)
        assert not report
        assert report.problems[0].startswith("nothing was checked at the given inputs")
        assert "at inputs nearby the gradient is wrong, in x" in report.problems[0]


@FAST
def test_the_true_gradient_at_kinks_is_compared_nearby(fast: bool) -> None:
    for value, gradient in ((relu_sum, lambda x: (x > 0) * 1.0), (lambda x: np.abs(x).sum(), np.sign)):
        report = report_of(value, gradient, ZEROS, fast_mode=fast)
        assert report, report.text()
        assert report.notes == (
            "nothing was checked at the given x: every entry stands on a kink; compared at inputs nearby",
        )
        assert report.to_json()["parameters"][0]["only_kinks"] is True


def step(x: Array) -> Any:
    return (x != 0).sum() * 1.0


def test_nothing_to_see_nearby_is_no_pass_unless_asked_for_by_name() -> None:
    report = report_of(step, np.zeros_like, ZEROS)
    assert not report
    assert report.problems[0].startswith("nothing was checked: every entry of x stands on a kink")
    assert report.problems[0].endswith("choose other inputs, or pass kinks='accept'")
    assert report_of(step, np.zeros_like, ZEROS, kinks="accept")
    assert not report_of(step, np.zeros_like, ZEROS, kinks="skip")


def test_zeros_at_kinks_are_wrong_by_name_too() -> None:
    assert not report_of(relu_sum, np.zeros_like, ZEROS, kinks="accept")


def test_one_input_on_kinks_beside_a_smooth_one() -> None:
    value = lambda p: relu_sum(p["a"]) + (p["b"] ** 2).sum()  # noqa: E731
    x = {"a": ZEROS, "b": ONES}
    assert report_of(value, lambda p: {"a": (p["a"] > 0) * 1.0, "b": 2 * p["b"]}, x)
    report = report_of(value, lambda p: {"a": 0 * p["a"], "b": 2 * p["b"]}, x)
    assert "the gradient is wrong, in a (" in report.problems[0]


def nearby_of(value: Any, gradient: Any, x: Array) -> Nearby:
    problem = pair_problem(value, gradient, x)
    calls = Calls(problem)
    measure = Measure(problem, calls, calls.value(problem.point), np.ones(()), eps=None, rtol=1e-8)
    return Nearby(measure, Settings().rules(problem.dtype), calls.gradient, np.random.default_rng(0))


def test_a_kink_nearby_shows_nothing_and_another_point_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(*points: float) -> dict[int, str]:
        beside = iter([[np.full(2, p)] for p in points])
        monkeypatch.setattr("l0ref.testing.nearby.near", lambda *_: next(beside))
        return nearby_of(lambda x: np.abs(x - 1).sum(), lambda x: np.sign(x - 1), np.zeros(2)).look([0]).each

    assert at(1.0, 1.0, 1.0) == {0: "unseen"}
    assert at(1.0, 1.0, 0.5) == {0: "right"}
    assert at(0.5) == {0: "right"}


# --- slopes that are hard to see --------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [1e-6, -1e-8])
def test_an_entry_far_smaller_than_its_array(small: float) -> None:
    c = np.array([1 / small, 1e-6])
    x = np.array([0.5 * small, 1e6])
    report = report_of(lambda x: np.tanh(c * x).sum(), lambda x: c * (1 - np.tanh(c * x) ** 2), x)
    assert (bool(report), report.at_kinks) == (True, 0)
    off = lambda x: c * (1 - np.tanh(c * x) ** 2) * [1.01, 1.0]  # noqa: E731
    assert not report_of(lambda x: float(np.tanh(c * x).sum()), off, x)


@pytest.mark.parametrize(("at_zero", "right"), [(0.3, True), (0.0, True), (0.31, False), (-0.3, False)])
def test_a_vertical_slope_beside_a_smooth_term(at_zero: float, right: bool) -> None:
    def gradient(w: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(w == 0, at_zero, 0.3 + 0.5 * np.sign(w) / np.sqrt(np.abs(w)))

    report = report_of(lambda w: (np.sqrt(np.abs(w)) + 0.3 * w).sum(), gradient, np.array([0.0, 0.5]))
    assert bool(report) == right


def test_nearly_opposite_slopes_keep_what_they_leave() -> None:
    value = lambda w: (np.abs(w) + 1e-7 * w).sum()  # noqa: E731
    assert report_of(value, lambda w: np.sign(w) + 1e-7, np.array([0.0, 0.5]))
    assert not report_of(value, lambda w: np.sign(w) + 1e-7 * np.where(w == 0, 3, 1), np.array([0.0, 0.5]))


# --- stationary points ------------------------------------------------------------------------------------------------

OPTIMUM = np.array([1.0, 2.0])


@FAST
@pytest.mark.parametrize(("times", "right"), [(2.0, True), (7.0, False), (0.0, False), (-2.0, False)])
def test_at_an_optimum_the_gradient_is_compared_nearby(times: float, right: bool, fast: bool) -> None:
    report = report_of(lambda w: ((w - OPTIMUM) ** 2).sum(), lambda w: times * (w - OPTIMUM), OPTIMUM, fast_mode=fast)
    assert bool(report) == right
    if right:
        assert report.notes == ("the value does not move along x: compared at inputs nearby, where it does",)
    else:
        assert report.problems[0].startswith("nothing was checked at the given inputs, where the value does not move")


@FAST
def test_smooth_maximum_at_zero(fast: bool) -> None:
    bell = lambda x: np.exp(-((x**2).sum()))  # noqa: E731
    assert report_of(bell, lambda x: -2 * x * bell(x), np.zeros((2, 1)), fast_mode=fast)
    assert not report_of(bell, lambda x: -14 * x * bell(x), np.zeros((2, 1)), fast_mode=fast)


@pytest.mark.parametrize("seed", range(20))
def test_least_squares_at_its_optimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, w = rng.normal(size=(9, 4)), rng.normal(size=4)
    target = a @ w
    assert report_of(lambda w: ((a @ w - target) ** 2).mean(), lambda w: 2 * a.T @ (a @ w - target) / 9, w)


def test_what_is_flat_everywhere_is_still_refused() -> None:
    with pytest.raises(GradientError, match=r"^x: vacuous check, the value does not move .* nor at inputs nearby"):
        report_of(relu_sum, np.zeros_like, -ONES)


def test_flat_beside_moving_is_a_note() -> None:
    value = lambda p: (p["a"] ** 2).sum() + 0 * p["b"].sum()  # noqa: E731
    report = report_of(value, lambda p: {"a": 2 * p["a"], "b": 0 * p["b"]}, {"a": ONES, "b": ONES})
    assert report.notes == ("the value does not move along b: the gradient is zero, and should be",)


def test_drowned_values_are_rough_not_vacuous() -> None:
    report = report_of(lambda w: 1e12 + (w**2).sum(), lambda w: 2 * w, ONES, eps=1e-7)
    assert "too rough to confirm anything" in report.problems[0]


# --- what the gradient does to the value ------------------------------------------------------------------------------


def test_a_gradient_that_changes_what_the_value_reads() -> None:
    saved = np.linspace(1.0, 2.0, 3)

    def gradient(x: Array) -> Array:
        found = saved * x * 2
        np.add(saved, 1.0, out=saved)
        return found

    report = report_of(lambda x: (saved * x**2).sum(), gradient, ONES)
    assert report.problems == (
        "the gradient changes what the value reads: after one call of the gradient the value at the same inputs "
        "differs by 3; work on copies of saved arrays",
    )


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_are_the_settings() -> None:
    assert list(Options.__annotations__) == list(Settings.__dataclass_fields__)
    assert Settings.of(seed=3) == Settings(seed=3)
    for check in (lambda **o: gradcheck(lambda x: x, ONES, **o), lambda **o: report_of(relu_sum, ONES, ONES, **o)):
        with pytest.raises(
            TypeError, match=r"^'fast' is not an option of a gradient check; the options are eps, atol, "
        ):
            check(fast=True)


def test_tensors_of_one_entry() -> None:
    assert gradcheck(lambda x: ops.sum(x * x), Tensor(np.zeros(1)))
