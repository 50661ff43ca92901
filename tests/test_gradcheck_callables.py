"""`check_gradient` for plain callables: NumPy, PyTorch and C alike; the numbers it works with, and its messages."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import math
from typing import Any

import numpy as np
import pytest

from l0ref.archive import json_bytes
from l0ref.errors import ArgumentError, DTypeError, GradientError, ShapeError
from l0ref.surrogates import SURROGATES, Laplace
from l0ref.testing import GradcheckFailure, GradcheckReport, check_gradient
from l0ref.testing.differences import FIRST, RATIO, OutOfDomain, ladder, rung
from l0ref.testing.kinks import slopes
from l0ref.testing.samples import SURROGATE_SAMPLES, surrogate_points
from l0ref.validate import Array

EPS = float(np.finfo(np.float64).eps)
W = np.array([[0.5, -0.25, 2.0], [1.5, -0.75, 0.1]])


def cubes(w: Array) -> float:
    return float(np.sum(w**3))


def report_of(value: Any, gradient: Any, x: Any = W, **options: Any) -> GradcheckReport:
    return check_gradient(value, gradient, x, raise_exception=False, **options)


# --- the numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0.5, 1e-2, 1e-3])
def test_five_points_are_exact_up_to_the_sixth_power(h: float) -> None:
    a = np.array([0.3, -1.0, 2.0, 0.7, -0.2, 1.1, 0.4])  # the h^4 term cancels, h^6 remains from the 7th power on
    r = rung(lambda t: np.array([np.polyval(a[::-1], t)]), a[:1], h, eps=EPS, rtol=1e-8)
    assert r.numeric[0] == pytest.approx(a[1], rel=0, abs=4e-15 / h)
    coarse = -4 * h**4 * a[5]  # five points err by h^4 y^(5) / 30 = 4 h^4 a_5
    assert r.noise[0] >= 2 * abs(coarse) * (1 - 1 / 16) * 0.999
    assert abs(r.numeric[0] - a[1]) <= r.noise[0]


@pytest.mark.parametrize("h", [1e-2, 1e-3])
def test_one_sided_slopes_err_by_the_square_of_the_step(h: float) -> None:
    r = rung(lambda t: np.array([np.exp(t)]), np.ones(1), h, eps=EPS, rtol=1e-8)
    assert r.right[0] == pytest.approx(1 - h * h / 12, abs=h**3)
    assert r.left[0] == pytest.approx(1 - h * h / 12, abs=h**3)
    assert abs(r.jump[0]) == pytest.approx(h**3 / 16, rel=0.1, abs=100 * EPS / h)
    assert r.growth[0] == pytest.approx(0.5, rel=1e-2)


def test_kink_has_the_growth_of_a_kink() -> None:
    r = rung(lambda t: np.array([abs(t), max(t, 0.0) + t * t]), np.zeros(2), 1e-3, eps=EPS, rtol=1e-8)
    np.testing.assert_allclose(r.growth, [1.0, 1.0], rtol=2e-3)
    np.testing.assert_allclose(r.left, [-1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(r.right, [1.0, 1.0], atol=1e-12)
    assert r.suspicious.all()


@pytest.mark.parametrize(
    ("f", "true"),
    [
        (np.exp, 1.0),
        (lambda t: np.sin(300 * t), 300.0),
        (lambda t: np.sin(3e4 * t), 3e4),
        (lambda t: np.tanh(t + 0.3), 1 - math.tanh(0.3) ** 2),
        (lambda t: 1e8 + t, 1.0),
        (lambda t: 1e-9 * np.log1p(t), 1e-9),
        (lambda t: np.abs(t - 1e-5), -1.0),
        (lambda t: np.maximum(t, 3e-7), 0.0),
    ],
)
def test_slope_lies_within_its_error_estimate(f: Any, true: float) -> None:
    s = slopes(lambda t: np.array([f(t)], dtype=np.float64), np.array([f(0.0)]), first=FIRST, eps=EPS, rtol=1e-8)
    assert not s.kink[0]
    assert abs(s.numeric[0] - true) <= s.noise[0]
    assert s.noise[0] <= 2e-7 * max(abs(true), abs(f(0.0)))


def test_steps_go_down_only_as_far_as_needed() -> None:
    smooth = ladder(lambda t: np.array([np.exp(t)]), np.ones(1), first=FIRST, rungs=6, eps=EPS, rtol=1e-8)
    assert [r.h for r in smooth] == [FIRST]
    bend = ladder(lambda t: np.array([abs(t - 1e-5)]), np.array([1e-5]), first=FIRST, rungs=6, eps=EPS, rtol=1e-8)
    assert [r.h for r in bend] == [FIRST / RATIO**k for k in range(4)]
    assert 2 * bend[-1].h < 1e-5 < 2 * bend[-2].h


def test_points_where_the_function_stops_are_avoided() -> None:
    def line(t: float) -> Array:
        if t < -1e-5:
            raise OutOfDomain("no square root")
        return np.array([math.sqrt(t + 1e-5)])

    found = ladder(line, line(0.0), first=FIRST, rungs=6, eps=EPS, rtol=1e-8)
    assert found[0].h < 1e-5
    with pytest.raises(OutOfDomain, match=r"^the value is not finite"):
        ladder(lambda _: np.array([np.inf]), np.zeros(1), first=FIRST, rungs=3, eps=EPS, rtol=1e-8)
    x = np.array([1e-6, 1e-4, 2.0])
    with np.errstate(invalid="ignore"):  # the first steps leave the domain of the logarithm
        assert check_gradient(lambda x: float(np.log(x).sum()), lambda x: 1 / x, x)


def test_complex_step_is_used_where_the_function_is_analytic() -> None:
    report = check_gradient(lambda w: np.sum(np.exp(w) * w), lambda w: np.exp(w) * (1 + w), W)
    assert {f.method for f in report.findings} == {"complex step"}
    assert max(f.relative_error for f in report.findings) < 1e-14
    loose = lambda w: np.exp(w) * (1 + w) * (1 + 2e-8)  # noqa: E731
    assert not report_of(lambda w: np.sum(np.exp(w) * w), loose)


@pytest.mark.parametrize(
    ("value", "gradient"),
    [
        (lambda w: float(np.sum(np.abs(w))), np.sign),  # float() refuses complex numbers
        (lambda w: np.sum(np.abs(w)), np.sign),  # the modulus is not analytic
        (lambda w: np.sum(w.real**2), lambda w: 2 * w),  # drops the imaginary part
        (lambda w: np.sum(w * np.conj(w)).real, lambda w: 2 * w),
        (lambda w: np.sum(w * np.conj(w)), lambda w: 2 * w),  # complex, and 0 imaginary part
        (lambda w: np.sum(np.maximum(w, 0.0)), lambda w: (w > 0) * 1.0),
    ],
)
def test_complex_step_is_not_trusted_blindly(value: Any, gradient: Any) -> None:
    report = check_gradient(value, gradient, W)
    assert max(f.relative_error for f in report.findings) < 1e-8


# --- other people's code ----------------------------------------------------------------------------------------------


@pytest.mark.crosscheck
def test_pytorch_pair() -> None:
    torch = pytest.importorskip("torch")

    def value(w: Array) -> Any:
        return (1 - torch.exp(-5 * torch.tensor(w).abs())).sum()

    def gradient(w: Array, factor: float = 1.0) -> Any:
        t = torch.tensor(w, requires_grad=True)
        (factor * (1 - torch.exp(-5 * t.abs())).sum()).backward()
        return t.grad

    assert check_gradient(value, gradient, W)
    report = report_of(value, lambda w: gradient(w, 5.0), scales={"beta": 5.0})
    assert report.parameters[0].diagnosis == "looks like scaled by beta: the true gradient times beta = 5"

    def rough(w: Array) -> Any:
        return value(w.astype(np.float32))

    with pytest.raises(GradientError, match=r"^value returned float32 for float64 arrays, too rough"):
        check_gradient(rough, gradient, W)
    hidden = report_of(lambda w: rough(w).item(), gradient)  # a Python float that was rounded to float32
    assert "the value seems to be rounded to fewer digits inside" in hidden.problems[0]
    assert hidden.parameters[0].unresolved == 6


def test_c_through_ctypes() -> None:
    path = ctypes.util.find_library("m")
    if path is None:
        pytest.skip("no C mathematics library on this system")
    libm = ctypes.CDLL(path)
    for f in (libm.sin, libm.cos):
        f.restype, f.argtypes = ctypes.c_double, [ctypes.c_double]
    assert check_gradient(lambda x: libm.sin(x), lambda x: libm.cos(x), np.array(0.7))
    assert not report_of(lambda x: libm.sin(x), lambda x: libm.sin(x), np.array(0.7))


def test_lists_and_dicts_of_arrays() -> None:
    a, b = np.array([1.0, 2.0, 4.0]), np.array([[0.5, 0.25, 3.0]])
    value = lambda p: float((p["a"] * p["b"]).sum())  # noqa: E731
    assert check_gradient(value, lambda p: {"b": p["a"][None], "a": p["b"][0], "more": 1}, {"a": a, "b": b})
    bad = report_of(value, lambda p: {"b": p["a"][None], "a": -p["b"][0]}, {"a": a, "b": b})
    assert [p.name for p in bad.parameters if not p.passed] == ["a"]
    good = check_gradient(lambda p: float((p[0] * p[1]).sum()), lambda p: [p[1][0], p[0][None]], [a, b])
    assert [p.name for p in good.parameters] == ["x[0]", "x[1]"]


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_elementwise_sees_every_entry_by_itself(name: str) -> None:
    if name not in SURROGATE_SAMPLES:
        pytest.skip("registered by another test")
    phi, _ = SURROGATE_SAMPLES[name]
    x = surrogate_points(name, np.random.default_rng(1))
    calls = []

    def value(w: Array) -> Array:
        calls.append(w)
        return phi.value(w)

    assert check_gradient(value, phi.grad, x, elementwise=True)
    assert len(calls) < 100  # all entries at once: 60 evaluations where one by one takes 6 for each entry
    target = int(np.abs(phi.grad(x)).argmax())
    if name == "L0":
        return  # its gradient is 0 everywhere

    def one_off(w: Array) -> Array:
        return phi.grad(w) * np.where(np.arange(w.size) == target, 1.001, 1)

    wrong = report_of(phi.value, one_off, x, elementwise=True)
    assert [f.index for f in wrong.findings if f.failed] == [(target,)]


def test_corners_of_capped_l1_are_kinks() -> None:
    phi, corners = SURROGATE_SAMPLES["CappedL1"]
    (theta,) = corners
    report = check_gradient(phi.value, phi.grad, np.array([0.1, theta, -theta, 0.0, 2.0]), elementwise=True)
    found = {f.index: (f.left, f.right) for f in report.findings if f.status == "kink"}
    assert set(found) == {(1,), (2,), (3,)}
    np.testing.assert_allclose([found[(i,)] for i in (1, 2, 3)], [(1, 0), (0, -1), (-1, 1)], atol=1e-9)


# --- faults -----------------------------------------------------------------------------------------------------------

FAULTS: list[tuple[str, Any, str]] = [
    ("sign", lambda w: -3 * w**2, "the wrong sign"),
    ("half", lambda w: 1.5 * w**2, "a factor 2 too small"),
    ("double", lambda w: 6 * w**2, "a factor 2 too large"),
    ("zero", lambda w: 0 * w, "zero: the gradient vanishes"),
    ("sum for mean", lambda w: 18 * w**2, "a missing mean: 6 times too large, and 6 is the number of entries"),
    ("mean for sum", lambda w: w**2 / 2, "a mean where a sum belongs: 6 times too small"),
    ("beta", lambda w: 0.6 * w**2, "scaled by beta: the true gradient times beta = 0.2"),
    ("beta once too few", lambda w: 15 * w**2, "scaled by beta: the true gradient divided by beta = 0.2"),
    ("beta squared", lambda w: 0.12 * w**2, "scaled by beta: the true gradient times the square of beta"),
    ("constant", lambda w: 3 * 1.7 * w**2, "a constant factor: 1.7"),
    ("reversed", lambda w: 3 * w[:, ::-1] ** 2, "axis 1 reversed"),
    ("all reversed", lambda w: 3 * w[::-1, ::-1] ** 2, "all entries in reverse order"),
    ("rolled", lambda w: 3 * np.roll(w, 1, 1) ** 2, "off by one along axis 1"),
    ("wrong order", lambda w: (3 * w.T**2).reshape(w.shape), "a transposed gradient"),
    ("masked", lambda w: 3 * w**2 * [[0, 1, 1], [1, 0, 1]], "off by the mask: 0 at 2 entries"),
    ("one entry", lambda w: 3 * w**2 + (w == 2.0), "single entries: 1 of 6"),
    ("float32", lambda w: (3 * w**2).astype(np.float32), "float32 on the way"),
    ("nan", lambda w: np.where(w == 2.0, np.nan, 3 * w**2), "1 of 6 compared entries are not finite"),
]


@pytest.mark.parametrize(("fault", "diagnosis"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_fault_is_named(fault: Any, diagnosis: str) -> None:
    x = np.array([[0.5, -0.3, 2.0], [1.5, -0.7, 0.11]])
    report = report_of(cubes, fault, x, scales={"beta": 0.2})
    assert diagnosis in report.parameters[0].diagnosis
    assert report.findings[0].failed
    fast = report_of(cubes, fault, x, scales={"beta": 0.2}, fast_mode=True)
    assert fast.parameters[0].diagnosis == report.parameters[0].diagnosis


def test_last_axes_exchanged_in_a_stack() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 3))
    report = report_of(cubes, lambda w: 3 * np.swapaxes(w, -1, -2) ** 2, x)
    assert report.parameters[0].diagnosis.startswith("looks like a transposed gradient")


def test_one_number_is_no_constant_factor() -> None:
    square = lambda x: float((x**2).sum())  # noqa: E731
    for x in (np.array([1.5]), np.array([0.0, 1.5, 0.0])):
        report = report_of(square, lambda x: 3.4 * x, x)
        assert "constant factor" not in report.parameters[0].diagnosis
    assert (
        report_of(square, lambda x: -2 * x, np.array([1.5]))
        .parameters[0]
        .diagnosis.startswith("looks like the wrong sign")
    )


def test_an_entry_that_is_right_rules_out_a_factor_of_all() -> None:
    x = np.array([1e3, 0.5, -0.25, 0.75])
    report = report_of(lambda x: float((x**2).sum()), lambda x: 2 * x * np.where(x > 100, 1.001, 1), x)
    assert report.parameters[0].diagnosis.startswith("looks like a border: wrong only at the first index of axis 0")


def test_not_finite_comes_first_at_kinks_too() -> None:
    with np.errstate(invalid="ignore"):
        report = report_of(lambda x: np.abs(x).sum(), lambda x: x / np.abs(x), np.array([0.0, 1.0]))
    assert "overflows or is undefined: 1 of 2" in report.parameters[0].diagnosis


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ([0, 1, 1, 1, 1], "first"),
        ([1, 1, 1, 1, 0], "last"),
        ([0, 1, 1, 1, 0], "first and last"),
    ],
)
def test_ends_of_an_axis(bad: list[int], where: str) -> None:
    x = np.array([0.5, -0.3, 1.0, 0.7, -0.9])
    fault = lambda x: 3 * x**2 + np.where(np.array(bad) == 0, x**3 + 0.3, 0)  # noqa: E731
    diagnosis = report_of(cubes, fault, x).parameters[0].diagnosis
    assert diagnosis.startswith(f"looks like a border: wrong only at the {where} index of axis 0")


def test_two_entries_show_no_shape() -> None:
    """With as many numbers fitted as there are entries, anything would fit."""
    report = report_of(cubes, lambda w: 3 * w**2 + np.array([[0.3, 0.7]]), np.array([[0.5, -0.8]]))
    assert report.parameters[0].diagnosis == ""


def test_unknown_fault_gets_no_name() -> None:
    report = report_of(cubes, lambda w: np.cos(5 * w) + w)
    assert not report
    assert report.parameters[0].diagnosis == ""


def test_stale_values_and_shared_memory() -> None:
    saved: list[Array] = []

    def stale(w: Array) -> Array:
        saved.append(w)
        return 3 * saved[0] ** 2

    report = report_of(cubes, stale)
    assert report.problems[0].startswith("stale values: the gradient is right at the given inputs and wrong at inputs")
    buffer = np.empty(W.shape)

    def shared(w: Array) -> Array:
        buffer[...] = 3 * w**2
        return buffer

    report = report_of(cubes, shared)
    assert report.problems == (
        "aliasing: the gradient of x returned first changed when the next one was computed; "
        "return a fresh array each time",
    )
    last: list[Array] = []

    def remembering(w: Array) -> float:
        last[:] = [w.copy()]
        return cubes(w)

    report = report_of(remembering, lambda w: 3 * last[0] ** 2)  # noqa: ARG005
    assert "a gradient must not depend on what was evaluated in between" in report.problems[0]


def test_mutation_is_found_and_the_argument_is_safe() -> None:
    x = W.copy()

    def value(w: Array) -> float:
        w *= 1.0
        return cubes(w)

    def writing(w: Array) -> Array:
        w[1, 2] = 5.0
        return 3 * W**2

    report = report_of(value, writing, x)
    assert report.problems[0].startswith(
        "the gradient writes into its input: x[1, 2] was 0.1 and became 5; work on a copy"
    )
    np.testing.assert_array_equal(x, W)
    report = report_of(cubes, lambda w: np.multiply(w, w * 3, out=w), x)
    assert "x[0, 0] was 0.5 and became 0.75" in report.problems[0]
    report = report_of(cubes, lambda w: np.multiply(w, w * 3, out=w), x.astype(np.float32))
    assert "x[0, 0] was 0.5 and became 0.75" in report.problems[0]


# --- messages ---------------------------------------------------------------------------------------------------------


def loud(w: Array) -> float:
    print("loss computed")
    print("twice")
    return cubes(w)


def test_what_is_printed_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    report = check_gradient(loud, lambda w: 3 * w**2, W)
    assert report.notes[0].startswith("the value printed 'loss computed', ")
    assert "note: the value printed" in report.text()
    assert capsys.readouterr().out == ""


def gradient(w: Array) -> Array:
    return 3 * w**2


@pytest.mark.parametrize(
    ("value", "slope", "x", "error", "said"),
    [
        (lambda _: [1.0], gradient, W, GradientError, r"^value returned a list, expected"),
        (lambda _: None, gradient, W, GradientError, r"^value returned None, expected"),
        (lambda _: "1.0", gradient, W, GradientError, r"^value returned a str, expected"),
        (lambda _: 3, gradient, W, DTypeError, r"^value returned int64 numbers, expected float"),
        (lambda _: 1j, gradient, W, GradientError, r"^value returned complex numbers for real ones"),
        (lambda w: w, gradient, W, ShapeError, r"^value returned shape \(2, 3\), expected one number; sum it, or"),
        (lambda _: np.nan, gradient, W, GradientError, r"^<lambda>: the value is nan at the given inputs"),
        (lambda _: 1 / 0, gradient, W, GradientError, r"^value raised ZeroDivisionError: division by zero; make"),
        (cubes, lambda w: list(w), W, GradientError, r"^gradient returned a list, expected an array like x"),
        (cubes, lambda _: None, W, GradientError, r"^gradient returned None"),
        (cubes, lambda w: w.T, W, ShapeError, r"^the gradient of x has shape \(3, 2\), expected.* looks transposed"),
        (cubes, lambda w: w[0], W, ShapeError, r"^the gradient of x has shape \(3,\).*; return one number for each"),
        (cubes, lambda w: w[None], W, ShapeError, r"it looks like a missing broadcast sum"),
        (cubes, lambda w: w * 1j, W, GradientError, r"^gradient returned complex numbers"),
        (cubes, lambda w: w.astype(int), W, DTypeError, r"^the gradient of x has dtype int64"),
        (cubes, lambda _: 1 / 0, W, GradientError, r"^gradient raised ZeroDivisionError"),
        (cubes, lambda _: [0.0], [W, W], GradientError, r"^value raised"),
        (lambda p: cubes(p[0]), lambda _: [W], [W, W], GradientError, r"^gradient returned 1 entries, expected a list"),
        (lambda p: cubes(p["a"]), lambda _: W, {"a": W}, GradientError, r"^gradient returned a ndarray, expected a"),
        (lambda p: cubes(p["a"]), lambda _: {}, {"a": W}, GradientError, r"^gradient returned no 'a'"),
        (cubes, gradient, [1.0, 2.0], ArgumentError, r"^x is a list of numbers; make it an array"),
        (cubes, gradient, [], GradientError, r"^x is empty"),
        (cubes, gradient, np.arange(3), DTypeError, r"^x has dtype int64"),
        (cubes, gradient, np.array([np.inf]), GradientError, r"^x holds NaN or infinite entries"),
        (1.0, gradient, W, ArgumentError, r"^value is float, expected a callable"),
        (cubes, W, W, ArgumentError, r"^gradient is ndarray, expected a callable"),
        (lambda _: 1.0, lambda w: 0 * w, W, GradientError, r"^x: vacuous check"),
    ],
)  # fmt: skip
def test_bad_pair_gets_one_sentence(value: Any, slope: Any, x: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        check_gradient(value, slope, x)


class OnTape:
    def __array__(self, *_: Any, **__: Any) -> Array:
        raise RuntimeError("use tensor.detach()")


def test_what_numpy_cannot_read_is_quoted() -> None:
    with pytest.raises(
        GradientError, match=r"^value returned a OnTape that NumPy cannot read \(RuntimeError: use tensor"
    ):
        check_gradient(lambda _: OnTape(), gradient, W)


@pytest.mark.parametrize("seed", range(5))
def test_value_rounded_to_float32_is_called_rough_not_wrong(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 4))
    report = report_of(lambda w: float(np.float32(np.sin(3 * w).sum())), lambda w: 3 * np.cos(3 * w), x)
    assert {f.status for f in report.findings} == {"unresolved"}
    assert "too rough to confirm anything" in report.problems[0]
    assert report.text().startswith("gradcheck of <lambda>: the check FAILED")


def test_noise_is_not_taken_for_kinks() -> None:
    rng = np.random.default_rng(0)
    for size in (1e-12, 1e-9, 1e-6):
        s = slopes(lambda t, size=size: t + size * rng.normal(size=500), np.zeros(500), first=FIRST, eps=EPS, rtol=1e-8)
        assert s.kink.sum() == 0
        assert np.mean(np.abs(s.numeric - 1) <= s.noise) > 0.9


def test_elementwise_messages() -> None:
    with pytest.raises(ShapeError, match=r"^value returned shape \(\), expected an array of shape \(2, 3\)"):
        check_gradient(cubes, gradient, W, elementwise=True)
    with pytest.raises(ArgumentError, match=r"^elementwise=True needs one array"):
        check_gradient(cubes, gradient, [W, W], elementwise=True)


# --- the report -------------------------------------------------------------------------------------------------------


def test_report_counts_sorts_and_names() -> None:
    def wrong(w: Array) -> Array:
        g = 3 * w**2
        g[0, 2] *= 1.1
        g[1, 1] *= 1.01
        return g

    with pytest.raises(GradcheckFailure) as caught:
        check_gradient(cubes, wrong, W)
    report = caught.value.report
    assert [f.where for f in report.findings[:2]] == ["x[0, 2]", "x[1, 1]"]
    assert [f.excess for f in report.findings] == sorted((f.excess for f in report.findings), reverse=True)
    assert (report.checked, report.skipped, report.at_kinks) == (6, 0, 0)
    first = report.findings[0]
    assert first.numeric == pytest.approx(12.0, rel=1e-9)
    assert first.analytic == 3 * 4.0 * 1.1
    assert first.relative_error == pytest.approx(0.1 / 1.1, rel=1e-6)
    assert (first.left, first.right) == (first.numeric, first.numeric)
    lines = report.text(most=1).splitlines()
    head = "gradcheck of cubes: the gradient is WRONG (6 entries checked, 0 skipped, 0 at kinks; full, "
    assert lines[0] == head + "rtol 1e-08, seed 0)"
    assert any(line.startswith("  x[0, 2]: analytic 13.2, numeric 1") for line in lines)
    assert "  ... and 1 more" in lines
    assert str(caught.value) == report.text()


def test_report_as_json_is_strict_and_whole() -> None:
    report = report_of(lambda w: float(np.sum(np.sqrt(np.abs(w)))), lambda w: 0 * w + np.nan, np.array([0.0, 1.0, 4.0]))
    read = json.loads(json_bytes(report.to_json()))
    (p,) = read["parameters"]
    assert read["passed"] is False
    assert [f["index"] for f in p["findings"]] != [[0], [1], [2]] or len(p["findings"]) == 3
    assert {f["analytic"] for f in p["findings"]} == {"nan"}
    assert set(p["findings"][0]) == {
        "index", "analytic", "numeric", "left", "right", "relative_error", "error_estimate", "step", "method", "status",
    }  # fmt: skip
    assert {k: p[k] for k in ("name", "shape", "dtype", "checked", "skipped", "masked")} == {
        "name": "x", "shape": [3], "dtype": "float64", "checked": 3, "skipped": 0, "masked": 0,
    }  # fmt: skip


def test_scalar_input() -> None:
    report = report_of(lambda x: float(x**2), lambda x: x, np.array(3.0))
    assert report.findings[0].where == "x"
    assert report.findings[0].index == ()
    assert check_gradient(lambda x: float(x**2), lambda x: 2 * float(x), 3.0)


def test_laplace_near_and_at_its_kink() -> None:
    phi = Laplace(beta=5.0)
    w = np.array([0.0, 1e-7, -1e-7, 1e-4, 0.3])
    report = check_gradient(lambda w: float(phi.value(w).sum()), phi.grad, w)
    assert report.at_kinks == 1
    (f,) = [f for f in report.findings if f.status == "kink"]
    assert (f.left, f.right) == pytest.approx((-5.0, 5.0), rel=1e-6)
    flipped = report_of(lambda w: float(phi.value(w).sum()), lambda w: np.where(w == 0, 5.0, phi.grad(w)), w)
    assert [f.where for f in flipped.findings if f.failed] == ["x[0]"]
