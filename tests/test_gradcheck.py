"""`gradcheck` for functions of Tensors: true gradients pass, planted faults are named, kinks are told from errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import Tensor, ops, surrogates
from l0ref.autodiff.op import OPS, run_forward, run_vjp
from l0ref.autodiff.tensor import apply
from l0ref.errors import ArgumentError, DTypeError, GradientError, ShapeError
from l0ref.surrogates import SURROGATES
from l0ref.testing import GradcheckFailure, GradcheckReport, gradcheck
from l0ref.testing.samples import KINKS, SAMPLES, SURROGATE_SAMPLES
from l0ref.testing.suites import check_kink, check_ops, check_surrogates
from l0ref.validate import Array
from tests.house import registry_gaps

Fault = Callable[[Array], Array]


def own(registry: dict[str, Any]) -> list[str]:
    return [name for name, entry in registry.items() if entry.__module__.startswith("l0ref.")]


def test_samples_equal_the_registries() -> None:
    assert registry_gaps(own(OPS), SAMPLES) == []
    assert registry_gaps(own(SURROGATES), SURROGATE_SAMPLES) == []


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_true_gradient_passes(seed: int, fast: bool) -> None:
    reports = [*check_ops(seed=seed, fast_mode=fast), *check_surrogates(seed=seed, fast_mode=fast)]
    assert [report.text() for report in reports if not report] == []
    smooth = [r for r in reports if isinstance(r, GradcheckReport) and r.target in SAMPLES]
    assert {r.mode for r in smooth} == {"fast" if fast else "full"}
    assert {p.name for r in smooth if r.target == "Conv2d" for p in r.parameters} == {f"inputs[{i}]" for i in range(3)}


# --- planted faults ---------------------------------------------------------------------------------------------------


def faulty(name: str, which: int, fault: Fault) -> Callable[..., Tensor]:
    """The operation with a wrong cotangent of one input; its class is not registered."""
    op = OPS[name]

    def forward(*xs: Array, **options: Any) -> tuple[Array, Any]:
        rule, y, saved = run_forward(op, xs, options)
        return y, (rule, saved, y.shape, xs)

    def vjp(saved: Any, y_bar: Array) -> tuple[Array, ...]:
        rule, inner, _, xs = saved
        gs = run_vjp(op, rule, inner, y_bar, xs, [True] * len(xs))
        return tuple(fault(g) if i == which else g for i, g in enumerate(gs) if g is not None)

    wrong: Any = type("Wrong", (), {"forward": forward, "vjp": vjp, "broadcasts": False})
    wrong.forward, wrong.vjp = staticmethod(forward), staticmethod(vjp)
    return lambda *xs: apply(wrong, *xs, **SAMPLES[name].options)


def one_entry(index: tuple[int, ...], factor: float) -> Fault:
    def fault(g: Array) -> Array:
        g = g.copy()
        g[index] *= factor
        return g

    return fault


PLANTED: list[tuple[str, int, Fault, str, str]] = [
    # operation, input, fault, first place named, diagnosis
    ("Linear", 1, np.negative, r"inputs\[1\]\[\d, \d\]", "the wrong sign"),
    ("Linear", 0, np.zeros_like, r"inputs\[0\]\[\d, \d\]", "zero: the gradient vanishes"),
    ("Linear", 1, lambda g: 2 * g, r"inputs\[1\]\[\d, \d\]", "a factor 2 too large"),
    ("Linear", 2, lambda g: g / 2, r"inputs\[2\]\[\d\]", "a factor 2 too small"),
    ("Linear", 1, lambda g: 5 * g, r"inputs\[1\]\[\d, \d\]", "a missing mean: 5 times too large"),
    ("Linear", 2, lambda g: g / 5, r"inputs\[2\]\[\d\]", "a mean where a sum belongs: 5 times too small"),
    ("Linear", 1, lambda g: g * (1 + 1e-6), r"inputs\[1\]\[\d, \d\]", "a constant factor: 1.000001"),
    ("Linear", 1, lambda g: g.astype(np.float32).astype(np.float64), r"inputs\[1\]\[\d, \d\]", "float32 on the way"),
    ("Linear", 1, one_entry((2, 1), 1.001), r"inputs\[1\]\[2, 1\]", "single entries: 1 of 12"),
    ("Linear", 0, one_entry((4, 0), 0.0), r"inputs\[0\]\[4, 0\]", "single entries: 1 of 15"),
    ("Linear", 1, lambda g: np.roll(g, 1, axis=1), r"inputs\[1\]\[\d, \d\]", "off by one along axis 1"),
    ("Linear", 1, lambda g: g[::-1], r"inputs\[1\]\[\d, \d\]", "axis 0 reversed"),
    ("Conv2d", 1, lambda g: g[..., ::-1, ::-1], r"inputs\[1\]\[\d, \d, \d, \d\]", "a kernel that is not flipped"),
    ("Conv2d", 0, lambda g: np.roll(g, 1, 2), r"inputs\[0\]\[\d, \d, \d, \d\]", "off by one along axis 2"),
    ("Tanh", 0, lambda g: np.where(np.indices(g.shape)[1] < 2, 0, g), r"inputs\[0\]\[\d, [01]\]", "mask: 0 at 6"),
    ("Dropout", 0, lambda g: g + (g == 0), r"inputs\[0\]\[\d, \d\]", "off by the mask: not 0 at 4"),
    ("LogSoftmax", 0, lambda g: np.full_like(g, np.nan), r"inputs\[0\]\[\d, \d\]", "overflows or is undefined"),
    ("Softmax", 0, lambda g: 0 * g + g.mean(0), r"inputs\[0\]\[\d, \d\]", "averaged along axis 0"),
]  # fmt: skip


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("op", "which", "fault", "place", "diagnosis"), PLANTED, ids=[f"{p[0]}-{p[4]}" for p in PLANTED]
)
def test_planted_fault_is_named(op: str, which: int, fault: Fault, place: str, diagnosis: str, fast: bool) -> None:
    xs = SAMPLES[op].make(np.random.default_rng(0))
    with np.errstate(invalid="ignore"):
        report = gradcheck(faulty(op, which, fault), xs, fast_mode=fast, raise_exception=False)
    assert not report
    assert [p.name for p in report.parameters if not p.passed] == [f"inputs[{which}]"]
    assert diagnosis in report.parameters[which].diagnosis
    assert report.parameters[which].diagnosis.startswith("looks like ")
    worst = report.findings[0]
    assert worst.failed
    assert re.fullmatch(place, worst.where)
    assert worst.where in report.text()
    assert report.mode == ("fast, then full" if fast else "full")


def test_square_transpose_and_missing_broadcast_sum_are_named() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 3))

    class Turned:
        broadcasts = False

        @staticmethod
        def forward(w: Array) -> tuple[Array, Any]:
            return w**3, w

        @staticmethod
        def vjp(saved: Array, y_bar: Array) -> tuple[Array]:
            return ((3 * saved**2 * y_bar).T.copy(),)

    report = gradcheck(lambda w: apply(Turned, w), w, raise_exception=False)  # type: ignore[arg-type]
    assert report.parameters[0].diagnosis.startswith("looks like a transposed gradient")

    class First:
        broadcasts = False

        @staticmethod
        def forward(x: Array, b: Array) -> tuple[Array, Any]:
            return x * b, (x, b)

        @staticmethod
        def vjp(saved: Any, y_bar: Array) -> tuple[Array, Array]:
            x, b = saved
            return y_bar * b, (y_bar * x)[0].copy()

    report = gradcheck(
        lambda x, b: apply(First, x, b), [rng.normal(size=(4, 3)), rng.normal(size=3)], raise_exception=False
    )  # type: ignore[arg-type]
    assert [p.passed for p in report.parameters] == [True, False]
    said = "a missing sum: of 4 entries along axis 0 of the result only the first is counted"
    assert said in report.parameters[1].diagnosis


def test_ignored_cotangent_is_found() -> None:
    class Deaf:
        broadcasts = False

        @staticmethod
        def forward(x: Array) -> tuple[Array, Any]:
            return np.asarray((x**2).sum()), x

        @staticmethod
        def vjp(saved: Array, y_bar: Array) -> tuple[Array]:
            return (2 * saved,)

    with pytest.raises(GradcheckFailure, match=r"^gradcheck of <lambda>: the gradient is WRONG") as caught:
        gradcheck(lambda x: apply(Deaf, x), np.array([1.0, 2.0, -0.5]))  # type: ignore[arg-type]
    assert "a constant factor" in str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert caught.value.report.findings[0].parameter == "x"


def test_small_gradient_is_checked_as_strictly() -> None:
    x = np.random.default_rng(0).normal(size=6)
    assert gradcheck(lambda x: ops.tanh(x) * 1e-9, x)
    bad = faulty("Tanh", 0, lambda g: g * 1.0001)
    assert not gradcheck(lambda x: bad(x) * 1e-9, x, raise_exception=False)
    assert gradcheck(lambda x: bad(x) * 1e-9, x, atol=1e-9)
    assert gradcheck(bad, x, rtol=1e-3)


def test_one_wrong_entry_among_sampled_ones_is_located() -> None:
    x = np.random.default_rng(0).normal(size=(40, 50))

    def func(fault: Fault) -> Callable[[Tensor], Tensor]:
        class Cube:
            broadcasts = False
            forward = staticmethod(lambda x: (np.asarray((x**3).sum()), x))
            vjp = staticmethod(lambda saved, y_bar: (fault(3 * saved**2 * y_bar),))

        return lambda x: apply(Cube, x)  # type: ignore[arg-type]

    good = gradcheck(func(lambda g: g), x, max_entries=5)
    (p,) = good.parameters
    assert (p.checked, p.skipped) == (2000, 0)  # the rest by directions
    assert sum(f.index is not None for f in p.findings) == 5
    bad = gradcheck(func(one_entry((33, 7), 1.01)), x, max_entries=5, raise_exception=False)
    assert [f.index for f in bad.findings if f.failed] == [(33, 7)]
    (p,) = bad.parameters
    assert p.checked + p.skipped == 2000
    assert p.checked <= 6


def test_failed_direction_counts_when_no_entry_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l0ref.testing.engine.locate", lambda *_, **__: np.zeros(0, dtype=np.intp))
    x = np.random.default_rng(0).normal(size=(20, 25))
    bad = faulty("Tanh", 0, one_entry((19, 24), 1.01))
    report = gradcheck(bad, x, max_entries=3, raise_exception=False)
    assert not report
    assert {(f.index, f.where) for f in report.findings if f.failed} == {(None, "inputs[0] along a random direction")}


# --- kinks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kink", KINKS, ids=[k.op for k in KINKS])
def test_kinks_are_named_with_both_slopes(kink: Any) -> None:
    report = check_kink(kink)
    assert report, report.text()
    found = [f for f in report.findings if f.status == "kink"]
    assert found
    for f in found:
        assert abs(f.left - f.right) > 0.1
        assert "a kink; the value is an accepted one" in report.text()
        assert f"left {f.left:.6g}, right {f.right:.6g}" in report.text()


def test_wrong_choice_at_a_documented_kink_is_found() -> None:
    kink = next(k for k in KINKS if k.op == "MaxPool2d")
    late = type(kink)(kink.op, kink.inputs, ([[[[0.0, 1.0, 0.0, 1.0]]]],), kink.options)  # the last of the tie
    report = check_kink(late)
    assert not report
    assert report.problems == (
        "inputs[0]: the value at the kink is [[[[1.0, 0.0, 0.0, 1.0]]]], documented is [[[[0.0, 1.0, 0.0, 1.0]]]]",
    )
    smooth = type(kink)("Tanh", ([1.0],), ([1 - np.tanh(1.0) ** 2],))
    assert check_kink(smooth).problems == ("no kink was found where one is documented",)


def test_missed_corner_of_a_surrogate_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SURROGATE_SAMPLES, "Laplace", (surrogates.Laplace(beta=5.0), (0.5,)))  # it has none there
    (report,) = [r for r in check_surrogates() if not r]
    assert report.target == "Laplace"
    assert isinstance(report, GradcheckReport)
    assert report.problems == ("1 kinks were found, 3 are documented",)


def test_relu_at_zero_tells_left_from_right() -> None:
    report = gradcheck(lambda x: ops.sum(ops.relu(x)) * 2.0, np.array([0.0, 1.0, -1.0]))
    (f,) = [f for f in report.findings if f.status == "kink"]
    assert f.index == (0,)
    assert f.left == 0.0
    assert f.numeric == pytest.approx(f.right / 2, rel=1e-9)
    assert report.at_kinks == 1
    assert report.checked == 3


@pytest.mark.parametrize("slope", [1.0, 0.5, -1.0, 1e-6])
def test_value_between_opposite_slopes_must_be_zero(slope: float) -> None:
    func = faulty_at_zero("Abs", slope)
    report = gradcheck(func, np.array([0.0, 1.5]), raise_exception=False)
    assert not report
    worst = report.findings[0]
    assert (worst.status, worst.index) == ("wrong at kink", (0,))
    assert report.parameters[0].diagnosis.startswith("looks like another choice at kinks")
    assert gradcheck(func, np.array([0.0, 1.5]), kinks="skip")


@pytest.mark.parametrize(("slope", "right"), [(0.0, True), (1.0, True), (0.5, True), (-0.01, False), (1.01, False)])
def test_value_at_a_one_sided_kink_lies_between_the_slopes(slope: float, right: bool) -> None:
    report = gradcheck(faulty_at_zero("Relu", slope), np.array([0.0, 1.5]), raise_exception=False)
    assert bool(report) == right


def faulty_at_zero(name: str, slope: float) -> Callable[[Tensor], Tensor]:
    class AtZero:
        broadcasts = False

        @staticmethod
        def forward(x: Array) -> tuple[Array, Any]:
            y, saved = OPS[name].forward(x)
            return y, (x, saved)

        @staticmethod
        def vjp(saved: Any, y_bar: Array) -> tuple[Array]:
            x, inner = saved
            (g,) = OPS[name].vjp(inner, y_bar)
            return (np.where(x == 0, slope * y_bar, g() if callable(g) else g),)

    return lambda x: apply(AtZero, x)  # type: ignore[arg-type]


def test_kinks_skip_and_fail() -> None:
    x = np.array([[0.0, 1.0], [-1.0, 0.0]])
    skipped = gradcheck(lambda x: ops.relu(x), x, kinks="skip")
    assert (skipped.checked, skipped.skipped, skipped.at_kinks) == (2, 2, 0)
    with pytest.raises(GradcheckFailure, match=r"x\[0, 0\]: analytic 0, numeric .* a kink"):
        gradcheck(lambda x: ops.relu(x), x, kinks="fail")


def test_error_beside_a_kink_is_no_kink() -> None:
    x = np.array([1e-5, -1e-5, 0.5])  # closer than the first step
    assert gradcheck(lambda x: ops.relu(x), x).at_kinks == 0
    report = gradcheck(faulty("Relu", 0, lambda g: 1.001 * g), x, raise_exception=False)
    assert {f.status for f in report.findings if f.index in [(0,), (2,)]} == {"wrong"}


@pytest.mark.parametrize("p", [0.5, 2 / 3, 0.9])
def test_vertical_slopes_at_zero(p: float) -> None:
    report = gradcheck(lambda w: ops.surrogate(w, surrogates.Lp(p=p)), np.array([0.0, 0.3]))
    (f,) = [f for f in report.findings if f.status == "kink"]
    assert {f.left, f.right} == {np.inf, -np.inf}
    assert f.analytic == 0
    assert report.to_json()["parameters"][0]["findings"][0]["left"] in ("inf", "-inf")


def test_smooth_functions_have_no_kinks() -> None:
    x = np.array([0.0, 1e-3, 0.2, -0.7])
    for func in (lambda x: x**2, lambda x: x**4, lambda x: ops.exp(x * 30.0), lambda x: ops.softplus(x, beta=50.0)):
        assert gradcheck(func, x).at_kinks == 0


# --- what would prove nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("func", "x"),
    [
        (lambda x: ops.sum(ops.softmax(x, 1)), np.linspace(-1, 1, 6).reshape(2, 3)),
        (lambda x: ops.relu(x), np.array([-1.0, -2.0])),
        (lambda x: ops.clip(x, -1.0, 1.0), np.array([-3.0, 2.0])),
        (lambda x: x * 0.0, np.array([1.0])),
    ],
)
def test_vacuous_check_is_refused(func: Any, x: Array, fast: bool) -> None:
    with pytest.raises(GradientError, match=r"^x: vacuous check, the value does not move along any of its entries"):
        gradcheck(func, x, fast_mode=fast, raise_exception=False)


def test_one_still_input_among_moving_ones_is_a_note() -> None:
    x = np.array([[0.1, 0.4, -0.2]])
    report = gradcheck(lambda a, b: ops.tanh(a) + ops.sum(ops.softmax(b, 1)), [x, x])
    assert report.notes == ("the value does not move along b: the gradient is zero, and should be",)


def test_sampling_neither_hides_nor_invents_a_vacuous_check() -> None:
    x = np.random.default_rng(0).normal(size=(3, 50))
    with pytest.raises(GradientError, match=r"^x: vacuous check"):
        gradcheck(lambda x: ops.sum(ops.softmax(x, 1)), x, max_entries=4)
    mostly_still = np.where(np.arange(150).reshape(3, 50) == 149, 1.5, -1.0)
    assert gradcheck(lambda x: ops.relu(x), mostly_still, max_entries=2)


def test_zero_gradient_that_should_not_be_zero_is_wrong_not_vacuous() -> None:
    report = gradcheck(faulty("Tanh", 0, lambda g: g * 0), np.array([0.3, 0.4]), raise_exception=False)
    assert report.findings[0].status == "wrong"
    report = gradcheck(faulty("Relu", 0, lambda g: g + 1), np.array([-0.3, -0.4]), raise_exception=False)
    assert report.findings[0].status == "wrong"


def test_softmax_is_not_hidden_by_its_cotangent() -> None:
    x = np.random.default_rng(0).normal(size=(3, 2))
    assert gradcheck(lambda x: ops.softmax(x, 1), x).checked == 6
    assert not gradcheck(faulty("Softmax", 0, lambda g: g * 1.5), x, raise_exception=False)


@pytest.mark.parametrize("x", [np.zeros((0, 3)), [np.zeros(0), np.zeros((2, 0))]])
def test_empty_inputs_are_refused(x: Any) -> None:
    with pytest.raises(GradientError, match="is empty: a check of nothing proves nothing"):
        gradcheck(lambda x, *_: ops.sum(x), x)


def test_empty_input_among_others_is_skipped() -> None:
    xs = [np.zeros((0, 3)), np.ones((2, 3))]
    report = gradcheck(lambda a, b: ops.concatenate([a, b], 0), xs)
    assert [p.checked for p in report.parameters] == [0, 6]


# --- float32 ----------------------------------------------------------------------------------------------------------


def test_float32_is_held_to_float64() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    report = gradcheck(lambda x: ops.tanh(x), x)
    assert report.rtol == 1e-4
    assert report.parameters[0].dtype == "float32"
    assert max(f.error_estimate for f in report.findings) < 1e-9
    assert not gradcheck(faulty("Tanh", 0, lambda g: g * np.float32(1.001)), x, raise_exception=False)


def test_float32_function_is_refused_without_eps() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    c = np.full((3, 4), 2, dtype=np.float32)
    with pytest.raises(GradientError, match=r"^inputs are float32, and <lambda> does not run in float64.*pass float64"):
        gradcheck(lambda x: ops.tanh(x * c), x)
    assert gradcheck(lambda x: ops.tanh(x * c), x, eps=1e-2)
    report = gradcheck(lambda x: ops.tanh(x * c), x, eps=1e-7, raise_exception=False)
    assert report.problems[0].startswith("x: the differences are too rough to confirm anything")
    assert "eps=1e-07 does not suit the value: too small" in report.problems[0]
    with pytest.raises(GradientError, match=r"returns float32 for float64 inputs, too rough"):
        gradcheck(lambda x: Tensor(x.data.astype(np.float32)), x)


def test_given_step_is_used() -> None:
    x = np.array([0.5, 30.0])
    assert {f.step for f in gradcheck(lambda x: ops.exp(x * 0.1), x, eps=1e-3).findings} == {1e-3}
    steps = [f.step for f in gradcheck(lambda x: ops.exp(x * 0.1), x).findings]
    assert max(steps) > 1e-3


# --- misbehaviour -----------------------------------------------------------------------------------------------------


def test_random_value_is_found() -> None:
    rng = np.random.default_rng(0)
    report = gradcheck(lambda x: ops.dropout(x, p=0.5, training=True, rng=rng), np.ones(8), raise_exception=False)
    assert report.problems[0].startswith("not deterministic: two calls of the value at the same inputs differ by 2")
    assert not report


def test_random_backward_is_found() -> None:
    rng = np.random.default_rng(0)
    func = faulty("Tanh", 0, lambda g: g + 1e-13 * rng.normal(size=g.shape))
    x = np.array([[0.3, 0.4], [0.5, 0.6]])
    report = gradcheck(func, x, raise_exception=False)
    assert report.problems[0].startswith("not deterministic: two backward passes at the same inputs differ by ")
    assert "in x[" in report.problems[0].replace("inputs[0]", "x")
    assert gradcheck(func, x, nondet_tol=1e-11)


def test_written_input_is_found() -> None:
    def func(x: Tensor) -> Tensor:
        y = ops.tanh(x)
        x.data[1] = 7.0
        return y

    report = gradcheck(func, np.array([0.25, 0.5]), raise_exception=False)
    assert report.problems[0] == "the value writes into its input: x[1] was 0.5 and became 7; work on a copy"


def test_inputs_are_not_written() -> None:
    x = np.array([0.3, -0.4])
    x.flags.writeable = False
    t = Tensor(x)
    assert gradcheck(lambda a, b: ops.tanh(a) * b, [t, np.array([1.0, 2.0])])
    np.testing.assert_array_equal(t.data, [0.3, -0.4])


def test_same_seed_same_report() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    a, b = (gradcheck(lambda x: ops.sigmoid(x), x, seed=3).to_json() for _ in range(2))
    assert a == b
    assert a != gradcheck(lambda x: ops.sigmoid(x), x, seed=4).to_json()


X = np.array([0.3, 0.4])


def boom(_: Tensor) -> Tensor:
    raise KeyError("no such layer")


@pytest.mark.parametrize(
    ("func", "inputs", "error", "said"),
    [
        (lambda x: [x], X, GradientError, r"^<lambda> returned list, expected one Tensor"),
        (lambda x: x.data, X, GradientError, r"^<lambda> returned ndarray, expected one Tensor"),
        (lambda _: None, X, GradientError, r"^<lambda> returned NoneType, expected one Tensor"),
        (boom, X, GradientError, r"^boom raised KeyError: 'no such layer'; make it run"),
        (lambda x: x + np.ones(3), X, GradientError, r"^<lambda> raised ShapeError: Add: shapes \(2,\) and \(3,\)"),
        (lambda x, _: x, [X, X], GradientError, r"^_ does not enter the result of <lambda>; use it"),
        (lambda x: x, np.arange(3), DTypeError, r"^inputs\[0\] has dtype int64"),
        (lambda x: x, X + 1j, DTypeError, r"^inputs\[0\] has dtype complex128"),
        (lambda x: x, [X, X.astype(np.float32)], DTypeError, r"^mixed dtypes"),
        (lambda x: x, np.array([1.0, np.nan]), GradientError, r"^inputs\[0\] holds NaN or infinite"),
        (lambda x: x, [], GradientError, r"^inputs is empty"),
        (lambda x: x * np.inf, X, GradientError, r"^<lambda>: the value is inf at the given inputs"),
        (lambda _: Tensor(np.zeros((0, 2))), X, ShapeError, r"^<lambda> returned an empty Tensor"),
    ],
)
def test_bad_input_gets_one_sentence(func: Any, inputs: Any, error: type[Exception], said: str) -> None:
    with np.errstate(all="ignore"), pytest.raises(error, match=said):
        gradcheck(func, inputs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinks": "ignore"}, r"^kinks='ignore' is not one of 'report', 'accept', 'skip', 'fail'"),
        ({"eps": 0.0}, r"^eps=0.0 must be greater than 0"),
        ({"atol": -1.0}, r"^atol=-1.0 must be 0 or greater"),
        ({"rtol": 1.0}, r"^rtol=1.0 must be below 1, or a gradient of zero would pass"),
        ({"nondet_tol": -1.0}, r"^nondet_tol=-1.0 must be 0"),
        ({"max_entries": 0}, r"^max_entries=0 must be at least 1"),
        ({"seed": -1}, r"^seed=-1 must be at least 0"),
    ],
)
def test_bad_option_gets_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        gradcheck(lambda x: x, X, **options)


def test_parameters_are_named_after_the_function() -> None:
    def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ops.linear(x, weight, bias)

    rng = np.random.default_rng(0)
    report = gradcheck(layer, [rng.normal(size=s) for s in ((2, 3), (4, 3), (4,))])
    assert [p.name for p in report.parameters] == ["x", "weight", "bias"]
    assert report.target == "layer"


def test_printing_is_a_note() -> None:
    def chatty(x: Tensor) -> Tensor:
        print("step", x.shape)
        return ops.tanh(x)

    report = gradcheck(chatty, X)
    assert report.notes[0].startswith("the value printed 'step (2,)', ")
