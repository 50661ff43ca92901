"""l0ref against the conformance vectors; planted faults in its adapter, each reported with the right set and place."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import backend, vectors
from l0ref.errors import ArgumentError, ConfigError
from l0ref.vectors.adapter import load_adapter
from l0ref.vectors.own import Adapter
from l0ref.vectors.results import Deviation, Report, SetResult
from l0ref.vectors.runner import run, run_set, ulps

EXAMPLES = Path(__file__).parents[1] / "examples"
SETS = (
    "surrogate_value", "surrogate_gradient", "surrogate_prox", "surrogate_dead_zone", "penalty", "linear", "conv2d",
    "max_pool2d", "avg_pool2d", "batch_norm", "cross_entropy", "sgd_steps", "adam_steps", "proximal_sgd_steps",
    "proximal_adam_steps", "finetune_steps", "keep_mask", "keep_mask_again", "csr", "csr_product", "metrics", "score",
)  # fmt: skip


# --- l0ref itself -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=pytest.mark.kernels)])
def test_l0ref_passes_every_vector(name: str) -> None:
    with backend(name):
        report = run(Adapter())
    assert report.ok, report.text()
    assert {r.status for r in report.results} == {"passed"}
    assert all(r.absent == 0 and r.without == () for r in report.results)
    assert report.strangers == ()


def test_the_sets_are_these_and_small_enough() -> None:
    assert vectors.names() == SETS
    folder = Path(vectors.__file__).parent / "v1"
    assert {path.name for path in folder.iterdir()} == {"index.json", *(f"{name}.json" for name in SETS)}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000


@pytest.mark.parametrize("name", SETS)
def test_every_case_asks_something_and_says_its_unit(name: str) -> None:
    found = vectors.load(name)
    assert found.about
    for case in found.cases:
        assert set(case.inputs) == set(found.arguments)
        assert {e.path[0] for e in case.expected} <= set(found.outputs)
        for e in case.expected:
            assert e.unit.shape == e.value.shape
            assert (e.unit > 0).all()
            assert (e.unit >= np.spacing(np.abs(e.value)) if e.value.dtype == np.float64 else e.unit == 1).all()


def test_surrogate_sets_reach_every_surrogate_and_the_special_places() -> None:
    from l0ref.surrogates import SURROGATES

    ours = {cls.name for cls in SURROGATES.values() if cls.__module__.startswith("l0ref.")}
    for name in ("surrogate_value", "surrogate_gradient", "surrogate_prox", "surrogate_dead_zone"):
        assert {case.inputs["surrogate"] for case in vectors.load(name).cases} == ours
    w = np.concatenate([case.inputs["w"] for case in vectors.load("surrogate_gradient").cases])
    assert (w == 0).sum() >= 15
    assert (w < 0).any()
    assert np.abs(w[w != 0]).min() <= 1e-300
    assert np.abs(w).max() >= 1e300
    corner = next(c for c in vectors.load("surrogate_value").cases if c.id == "scad-a=3-lam=0.5")
    assert {0.5, 1.5, math.nextafter(0.5, 9), math.nextafter(1.5, 0)} <= set(corner.inputs["w"].tolist())


def test_cases_are_fresh_each_time() -> None:
    case = vectors.load("sgd_steps").cases[4]
    spoilt = case.arguments()
    spoilt["params"]["fc1.weight"][:] = 7
    spoilt["penalty"]["factors"]["fc1.weight"] = 7
    assert not (case.arguments()["params"]["fc1.weight"] == 7).any()
    assert case.arguments()["penalty"]["factors"]["fc1.weight"] == 1.0


# --- planted faults ---------------------------------------------------------------------------------------------------

OWN = Adapter()


def laplace_without_expm1(surrogate: str, parameters: Any, w: Any) -> Any:
    right = OWN.surrogate_value(surrogate, parameters, w)
    return 1 - np.exp(-parameters["beta"] * np.abs(w)) if surrogate == "laplace" else right


def prox_keeps_ties(surrogate: str, parameters: Any, z: Any, step: float) -> Any:
    x = OWN.surrogate_prox(surrogate, parameters, z, step)
    edge = OWN.surrogate_dead_zone(surrogate, parameters, step)
    return np.where(np.abs(z) == edge, z, x) if surrogate == "l0" else x


def in_float32(**inputs: Any) -> Any:
    return OWN.linear(**{k: None if v is None else v.astype(np.float32) for k, v in inputs.items()})


def changed(name: str, **outputs: Any) -> Any:
    """The own function, with some outputs passed through functions of (output, inputs)."""

    def function(**inputs: Any) -> Any:
        found = getattr(OWN, name)(**inputs)
        return {k: outputs[k](v, inputs) if k in outputs and v is not None else v for k, v in found.items()}

    return function


def asked(name: str, **inputs: Any) -> Any:
    """The own function, with some inputs replaced: by a value, or by a function of all inputs."""

    def function(**given: Any) -> Any:
        new = {k: inputs[k](given) if callable(inputs[k]) else inputs[k] for k in inputs if k in given}
        return getattr(OWN, name)(**{**given, **new})

    return function


def flipped(given: Any) -> Any:
    return np.ascontiguousarray(given["weight"][:, :, ::-1, ::-1])


def last_of_equals(input: Any, **rest: Any) -> Any:
    tilt = np.arange(input.size).reshape(input.shape) * 1e-12
    right = OWN.max_pool2d(input=input, **rest)
    return right | {"grad_input": OWN.max_pool2d(input=input + tilt, **rest)["grad_input"]}


def unmasked(**given: Any) -> Any:
    """Prunes the start, and lets the steps revive what was pruned."""
    masks = given.pop("masks") or {}
    params = {k: w * masks[k] if k in masks else w for k, w in given.pop("params").items()}
    return OWN.sgd_steps(params=params, masks=None, **given)


def scaled_l2(given: Any) -> Any:
    p = given["penalty"]
    return p if p is None else p | {"l2": p["l2"] / 2}


def shorter_prox(given: Any) -> Any:
    return given["penalty"] | {"alpha": given["penalty"]["alpha"] * (1 - given["momentum"])}


def without_penalty_on(key: str, given: Any) -> Any:
    p = given["penalty"]
    return p if p is None else p | {"factors": {k: c for k, c in p["factors"].items() if k != key}}


def wrong_factors(found: Any, inputs: Any) -> Any:
    return {k: c**2 for k, c in found.items()} if inputs["layer_weights"] == "sqrt_size" else found


def threshold_masks(scores: Any, amount: Any, scope: str) -> Any:
    flat = np.sort(np.concatenate([s.ravel() for s in scores.values()]))
    drop = amount if isinstance(amount, int) else int(amount * flat.size + 0.5)
    if scope == "layer" or drop == 0:
        return OWN.keep_mask(scores, amount, scope)
    return {k: s > flat[drop - 1] for k, s in scores.items()}


def half_to_even(scores: Any, amount: Any, scope: str) -> Any:
    if scope == "global" and isinstance(amount, float):
        amount = round(amount * sum(s.size for s in scores.values()))
    return OWN.keep_mask(scores, amount, scope)


def highest_index_first(scores: Any, amount: Any, scope: str) -> Any:
    back = {k: np.ascontiguousarray(s.ravel()[::-1]) for k, s in reversed(scores.items())}
    return {k: m[::-1].reshape(scores[k].shape) for k, m in OWN.keep_mask(back, amount, scope).items()}


def empty_rows_skipped(found: Any, _: Any) -> Any:
    """The starts of the rows that have an entry, and the end: DCSR without its row numbers, padded at the front."""
    starts = np.unique(found)
    return np.concatenate([np.zeros(len(found) - len(starts), starts.dtype), starts])


def last_class_wins(logits: Any, target: Any) -> Any:
    wins = logits.shape[1] - 1 - logits[:, ::-1].argmax(axis=1)
    return OWN.score(logits, target) | {"acc1": float((wins == target).mean())}


# name of the fault, function, its faulty form, what the worst place looks like
FAULTS: list[tuple[str, str, Any, str]] = [
    ("no expm1", "surrogate_value", laplace_without_expm1, r"^laplace.*: value\["),
    ("beta missing", "surrogate_gradient",
     lambda surrogate, parameters, w: OWN.surrogate_gradient(surrogate, parameters, w)
     / (parameters["beta"] if surrogate == "tanh" else 1), r"^tanh.*: gradient\["),
    ("slope at the corner", "surrogate_gradient",
     lambda surrogate, parameters, w: np.where(
         (np.abs(w) == parameters.get("theta")), 0.5 * np.sign(w), OWN.surrogate_gradient(surrogate, parameters, w)),
     r"^capped_l1-theta=0\.(5|07): gradient\["),
    ("tie kept", "surrogate_prox", prox_keeps_ties, r"^tie-l0-step=0\.5: x\["),
    ("step doubled", "surrogate_prox", asked("surrogate_prox", step=lambda g: 2 * g["step"]), r": x\["),
    ("zone of l1 only", "surrogate_dead_zone",
     lambda **g: g["step"], r": dead_zone$"),
    ("root missing", "penalty", changed("penalty", factors=wrong_factors), r"^sqrt-size.*: factors\['"),
    ("l2 halved", "penalty", asked("penalty", l2=lambda g: g["l2"] / 2), r"l2.*: (gradient|l2|total)"),
    ("kinds ignored", "penalty", asked("penalty", groups="joint"), r"-kind-"),
    ("bias forgotten", "linear", asked("linear", bias=None), r": output\["),
    ("mean for sum", "linear",
     changed("linear", grad_bias=lambda b, g: b / len(g["input"])), r": grad_bias\["),
    ("float32 inside", "linear", in_float32, r": (output|grad_\w+)\["),
    ("transposed", "linear", changed("linear", grad_weight=lambda w, _: w.T), r": grad_weight$"),
    ("kernel flipped", "conv2d", asked("conv2d", weight=flipped), r": (output|grad_input)\["),
    ("one pixel off", "conv2d", changed("conv2d", grad_input=lambda x, _: np.roll(x, 1, axis=3)), r": grad_input\["),
    ("last of equals", "max_pool2d", last_of_equals, r"^ties: grad_input\["),
    ("padding counted", "avg_pool2d", asked("avg_pool2d", count_include_pad=True), r"-without-padding: "),
    ("biased running variance", "batch_norm",
     changed("batch_norm", running_var=lambda v, g: v - g["training"] * g["momentum"] * 0.1),
     r"^training.*running_var"),
    ("statistics constant", "batch_norm", changed("batch_norm", grad_input=lambda x, g: x + g["training"] * 1e-9),
     r"^training.*: grad_input\["),
    ("1/N missing", "cross_entropy", changed("cross_entropy", grad_input=lambda x, _: x * len(x)), r": grad_input\["),
    ("smoothing dropped", "cross_entropy", asked("cross_entropy", label_smoothing=0.0), r"smoothed: "),
    ("pruned revive", "sgd_steps", unmasked, r"-masks-.*: params\['fc\d.weight'\]\["),
    ("nesterov ignored", "sgd_steps", asked("sgd_steps", nesterov=False), r"^nesterov-"),
    ("l2 with 1/2", "sgd_steps", asked("sgd_steps", penalty=scaled_l2), r"penalty.*: params\['fc\d.weight'\]\["),
    ("one layer free", "adam_steps",
     asked("adam_steps", penalty=lambda g: without_penalty_on("fc2.weight", g)), r"params\['fc2.weight'\]\["),
    ("masks with a penalty alone", "adam_steps",
     asked("adam_steps", masks=lambda g: g["masks"] if g["penalty"] else None), r"^\w[\w-]*-masks-\d+: params\["),
    ("eps tenfold", "adam_steps", asked("adam_steps", eps=lambda g: 10 * g["eps"]), r": params\["),
    ("momentum in the prox forgotten", "proximal_sgd_steps",
     asked("proximal_sgd_steps", penalty=shorter_prox), r"^momentum.*: params\["),
    ("beta2 off", "proximal_adam_steps",
     asked("proximal_adam_steps", beta2=lambda g: g["beta2"] + 1e-9), r": params\["),
    ("one step too many", "finetune_steps", asked("finetune_steps", steps=lambda g: g["steps"] + 1), r": losses$"),
    ("half to even", "keep_mask", half_to_even, r"-global-0\.375: masks\["),
    ("ties all go", "keep_mask", threshold_masks, r"(ties|all-equal)-global-.*: masks\["),
    ("last of equals first", "keep_mask", highest_index_first, r"(ties|all-equal)-.*: masks\["),
    ("global for layer", "keep_mask", asked("keep_mask", scope="global"), r"-layer-"),
    ("forgets", "keep_mask_again",
     lambda scores, amount, scope, **_: OWN.keep_mask(scores, amount, scope), r": masks\["),
    ("counts for starts", "csr", changed("csr", indptr=lambda p, _: np.diff(p, prepend=0)), r": indptr\["),
    ("by column", "csr", changed("csr", indices=lambda _, g: np.nonzero(g["dense"].T)[1]), r": indices\["),
    ("tiny is zero", "csr",
     lambda dense: OWN.csr(np.where(np.abs(dense) > 1e-200, dense, 0)), r"^empty-rows-and-column: data$"),
    ("empty rows slip", "csr", changed("csr", indptr=empty_rows_skipped), r"^empty-rows-and-column: indptr\["),
    ("entry dropped", "csr_product",
     asked("csr_product", data=lambda g: np.where(np.arange(len(g["data"])) == 1, 1e-9, g["data"])), r": output\["),
    ("output in float32", "csr_product", lambda **g: OWN.csr_product(**g).astype(np.float32), r": output\["),
    ("once per filter", "metrics", changed("metrics", flops=lambda n, _: n - 1), r": flops$"),
    ("last class wins", "score", last_class_wins, r"^ties-take-the-lowest-class: acc1$"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "where"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_planted_fault_is_reported_where_it_is(name: str, function: Any, where: str) -> None:
    faulty = type("Faulty", (), {name: staticmethod(function), "linear": OWN.linear, "score": OWN.score})
    setattr(faulty, name, staticmethod(function))
    report = run(faulty(), sets=sorted({"linear", name, "score"}))
    assert not report.ok
    (bad,) = (r for r in report.results if r.status == "failed")
    assert bad.name == name
    worst = bad.worst
    assert worst is not None
    assert worst.ulp > bad.tolerance
    assert re.search(where, f"{worst.case}: {worst.place}"), f"{worst.case}: {worst.place}"


def test_every_set_that_l0ref_passes_has_a_planted_fault() -> None:
    assert {row[1] for row in FAULTS} == set(SETS)


class Bad:
    """One function at a time that returns the wrong thing."""


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        ("linear", 3.0, r"^returned float, expected a dict of output, grad_input, grad_weight, grad_bias$"),
        ("linear", {}, r"^returned none of output"),
        ("linear", {"output": None}, r"^returned none of output"),
        ("linear", {"ouput": 1.0}, r"^returned the unknown output 'ouput', expected output"),
        ("linear", {"output": np.zeros(3)}, r"^has shape \(3,\), expected \(3, 4\)$"),
        ("linear", {"output": np.zeros((3, 4), complex)}, r"^has dtype complex128, expected float64$"),
        ("linear", {"output": [[1.0], [1.0, 2.0]]}, r"^is not an array: ValueError"),
        ("linear", {"output": "x"}, r"^has dtype <U1"),
        ("keep_mask", {"masks": 1.0}, r"^is missing$"),
        ("keep_mask", {"masks": {}}, r"^is missing$"),
        ("keep_mask", {"fc9.weight": np.zeros(3)}, r"^is missing$"),
    ],
)
def test_wrong_result_is_named(name: str, result: Any, reason: str) -> None:
    (found,) = run(type("Bad", (Bad,), {name: lambda *_, **__: result})(), sets=[name]).results
    assert found.status == "failed"
    assert found.passed == 0
    assert re.search(reason, found.failures[0].reason)
    assert found.failures[0].ulp == math.inf


def test_more_masks_than_layers_is_named() -> None:
    more = {"keep_mask": lambda _, **inputs: OWN.keep_mask(**inputs) | {"fc9.weight": np.ones(2, bool)}}
    (found,) = run(type("Bad", (Bad,), more)(), sets=["keep_mask"]).results
    assert found.failed == len(vectors.load("keep_mask").cases)
    assert found.failures[0].sentence() == ("case 'distinct-global-0.0': masks['fc9.weight'] was not asked for")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_fails_however_much_slack_there_is(bad: float) -> None:
    def score(logits: Any, target: Any) -> Any:
        return OWN.score(logits, target) | {"loss": bad}

    (found,) = run(type("Bad", (Bad,), {"score": staticmethod(score)})(), sets=["score"], slack=1e300).results
    assert found.failed == 3
    assert found.to_json()["worst"]["ulp"] is None
    assert json.dumps(found.to_json(), allow_nan=False)


def test_exception_is_reported_and_the_rest_goes_on() -> None:
    class Fragile(Bad):
        score = staticmethod(OWN.score)

        def linear(self, bias: Any, **inputs: Any) -> Any:
            if bias is None:
                raise KeyError("bias")
            return OWN.linear(bias=bias, **inputs)

    report = run(Fragile(), sets=["linear", "score"])
    assert [(r.status, r.passed, r.failed) for r in report.results] == [("failed", 3, 1), ("passed", 3, 0)]
    assert "linear, case '1x7-to-2-no-bias': raised KeyError: 'bias'" in report.text()


# --- what is not provided ---------------------------------------------------------------------------------------------


class Little:
    """Two functions, one of them in part, and one with a slip of the pen in its name."""

    def linear(self, **inputs: Any) -> Any:
        found = OWN.linear(**inputs)
        return {"output": found["output"], "grad_bias": None}

    def surrogate_value(self, surrogate: str, parameters: Any, w: Any) -> Any:
        if surrogate != "mcp":
            raise NotImplementedError
        return OWN.surrogate_value(surrogate, parameters, w)

    def conv2(self) -> None:
        """Never called."""

    csr = None


def test_what_is_missing_is_not_provided() -> None:
    report = run(Little())
    status = {r.name: r.status for r in report.results}
    assert [name for name, s in status.items() if s == "passed"] == ["surrogate_value", "linear"]
    assert set(status.values()) == {"passed", "not provided"}
    assert report.ok
    value, linear = (next(r for r in report.results if r.name == name) for name in ("surrogate_value", "linear"))
    assert (value.passed, value.failed, value.absent) == (2, 0, 27)
    assert linear.without == ("grad_input", "grad_weight", "grad_bias")
    assert report.strangers == ("conv2",)
    text = report.text()
    assert "linear: grad_input, grad_weight, grad_bias not provided" in text
    assert "note: no set is called 'conv2', so it was never called" in text
    assert text.endswith("\n2 passed, 0 failed, 20 not provided")


def test_nothing_provided_is_not_a_pass() -> None:
    class Nothing(Bad):
        def conv2(self) -> None:
            """A slip of the pen."""

    with pytest.raises(
        ConfigError, match=r"has none of the functions asked for; it has conv2 \(did you mean conv2d\?\)"
    ):
        run(Nothing())

    def refuse(**_: Any) -> Any:
        raise NotImplementedError

    report = run(type("Bad", (Bad,), {"linear": staticmethod(refuse)})())
    assert not report.ok
    assert {r.status for r in report.results} == {"not provided"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sets": ["linaer"]}, r"^sets='linaer' is not one of .*did you mean 'linear'\?$"),
        ({"slack": 0.0}, r"^slack=0.0 must be greater than 0$"),
    ],
)
def test_bad_options_of_run(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        run(OWN, **options)


def test_slack_multiplies_the_tolerance_but_not_of_what_must_be_equal() -> None:
    single = type("Single", (Bad,), {"linear": staticmethod(in_float32), "keep_mask": staticmethod(threshold_masks)})()
    report = run(single, sets=["linear", "keep_mask"], slack=1e9)
    assert [(r.status, r.tolerance) for r in report.results] == [("passed", 4e9), ("failed", 0.0)]


@pytest.mark.parametrize(
    ("units", "status"), [(0, "passed"), (-4, "passed"), (4, "passed"), (5, "failed"), (-5, "failed")]
)
def test_the_limit_is_the_tolerance(units: int, status: str) -> None:
    found = vectors.load("surrogate_dead_zone")
    answers = {
        (c.inputs["surrogate"], str(c.inputs["parameters"]), c.inputs["step"]): c.expected[0] for c in found.cases
    }

    def nearly(surrogate: str, parameters: Any, step: float) -> Any:
        exact = answers[surrogate, str(parameters), step]
        return exact.value + (units * exact.unit if (surrogate, step) == ("laplace", 3.0) else 0)

    adapter = type("Nearly", (Bad,), {"surrogate_dead_zone": staticmethod(nearly)})()
    (result,) = run(adapter, sets=["surrogate_dead_zone"]).results
    assert result.status == status
    assert result.worst is not None
    assert result.worst.ulp == abs(units)


def test_an_adapter_may_write_into_its_inputs() -> None:
    def spoiling(params: Any, grads: Any, **rest: Any) -> Any:
        found = OWN.sgd_steps(params=params, grads=grads, **rest)
        for arrays in (params, grads):
            for array in arrays.values():
                array[:] = 7.0
        return found

    adapter, found = type("Spoiling", (Bad,), {"sgd_steps": staticmethod(spoiling)})(), vectors.load("sgd_steps")
    assert [run_set(adapter, found).failed for _ in range(2)] == [0, 0]


# --- the measure ------------------------------------------------------------------------------------------------------


def test_ulps() -> None:
    one = np.array([1.0, 1.0, 0.0, 0.0, 1e308, 5e-324])
    got = np.array([1.0 + 2**-52, 1.0 - 2**-53, 0.0, 5e-324, -1e308, 0.0])
    np.testing.assert_array_equal(ulps(got, one, np.spacing(np.abs(one))), [1, 0.5, 0, 1, np.inf, 1])
    np.testing.assert_array_equal(ulps(np.array([np.nan, np.inf]), np.ones(2), np.ones(2)), [np.inf, np.inf])
    np.testing.assert_array_equal(ulps(np.array([True, False]), np.array([True, True]), np.ones(2)), [0, 1])


def test_report_as_json_and_text() -> None:
    off = Deviation(7.5, "a", "x[1]", 1.5, 1.0)
    result = SetResult("linear", 1, 1, 2, 4.0, ("grad_bias",), off, (off,) * 5)
    report = Report((result, SetResult("score", 0, 0, 3, 4.0)), ("conv2",))
    assert report.to_json() == {
        "format": "l0ref-vectors-report", "version": 1, "ok": False, "unknown_functions": ["conv2"],
        "sets": [
            {
                "name": "linear", "status": "failed", "cases": {"passed": 1, "failed": 1, "not_provided": 2},
                "tolerance_ulp": 4.0, "outputs_not_provided": ["grad_bias"],
                "worst": {"case": "a", "place": "x[1]", "reason": "", "ulp": 7.5, "got": 1.5, "expected": 1.0},
                "failures": [{"case": "a", "place": "x[1]", "reason": "", "ulp": 7.5, "got": 1.5, "expected": 1.0}] * 5,
            },
            {
                "name": "score", "status": "not provided", "cases": {"passed": 0, "failed": 0, "not_provided": 3},
                "tolerance_ulp": 4.0, "outputs_not_provided": [], "worst": None, "failures": [],
            },
        ],
    }  # fmt: skip
    text = report.text(most=1)
    assert text.count("linear, case 'a': x[1] is 1.5, expected 1.0, off by 7.5 ulp") == 1
    assert "linear: and 4 more" in text
    assert "failed        1 of 2, 2 not provided  7.5        4        a: x[1]" in text


# --- adapters by name -------------------------------------------------------------------------------------------------


def test_adapter_is_loaded_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vectors_mine.py").write_text(
        "class Adapter:\n    linear = 1\nclass Other:\n    linear = 2\nready = Other()\n"
        "class Broken:\n    def __init__(self):\n        self.absent\n"
    )
    (tmp_path / "vectors_broken.py").write_text("import no_such_module_anywhere\n")
    before = list(sys.path)
    assert load_adapter("vectors_mine").linear == 1
    assert load_adapter("vectors_mine:Other").linear == 2
    assert load_adapter("vectors_mine:ready").linear == 2
    for where, said in [
        ("vectors_mine:Absent", r"^adapter='vectors_mine:Absent' has no Absent; define it"),
        ("vectors_mine:Broken", r"^adapter='vectors_mine:Broken' cannot be imported: AttributeError"),
        ("vectors_broken", r"^adapter='vectors_broken' cannot be imported: ModuleNotFoundError: .*no_such_module"),
        ("mine.py:", r"^adapter='mine.py:' cannot be imported: "),
        ("vectors/mine.py", r"^adapter='vectors/mine.py' is not package.module or package.module:Name"),
        ("", r"^adapter='' is not package.module"),
        (":Name", r"^adapter=':Name' is not package.module"),
        ("a..b", r"^adapter='a..b' is not package.module"),
    ]:
        with pytest.raises(ConfigError, match=said):
            load_adapter(where)
    assert sys.path == before


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Adapter()


def test_pure_python_passes_and_says_what_it_lacks() -> None:
    report = run(example("adapter_pure"))
    assert report.ok, report.text()
    assert sum(r.status == "passed" for r in report.results) == 11
    assert report.strangers == ()


@pytest.mark.crosscheck
def test_pytorch_passes() -> None:
    pytest.importorskip("torch", reason="torch is in the extra crosscheck")
    report = run(example("adapter_torch"))
    assert report.ok, report.text()
    assert sum(r.status == "passed" for r in report.results) == 15
    assert report.strangers == ()


@pytest.mark.crosscheck
def test_pytorch_loses_digits_in_both_plain_forms_of_laplace() -> None:
    torch = pytest.importorskip("torch", reason="torch is in the extra crosscheck")

    class Plain:
        def __init__(self, phi: Any):
            self.phi = phi

        def surrogate_value(self, surrogate: str, parameters: Any, w: Any) -> Any:
            if surrogate != "laplace":
                raise NotImplementedError
            return self.phi(torch.from_numpy(w), parameters["beta"])

        def surrogate_gradient(self, surrogate: str, parameters: Any, w: Any) -> Any:
            if surrogate != "laplace":
                raise NotImplementedError
            x = torch.from_numpy(w).requires_grad_()
            return torch.autograd.grad(self.phi(x, parameters["beta"]).sum(), x)[0]

    chosen = ["surrogate_value", "surrogate_gradient"]
    by_exp = run(Plain(lambda w, beta: 1 - torch.exp(-beta * w.abs())), sets=chosen)
    assert [r.status for r in by_exp.results] == ["failed", "passed"]
    by_expm1 = run(Plain(lambda w, beta: -torch.expm1(-beta * w.abs())), sets=chosen)
    assert [r.status for r in by_expm1.results] == ["passed", "failed"]


def test_the_former_name_gives_the_same_package() -> None:
    assert importlib.import_module("l0ref.testing.vectors") is vectors
    assert callable(load_adapter("l0ref.testing.vectors.own").linear)
