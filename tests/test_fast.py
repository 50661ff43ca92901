"""The compiled twins as a whole: equal to the truth, really used, loaded late, written by the kernel rules."""

from __future__ import annotations

import ast
import builtins
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import l0ref.fast
from l0ref import ops
from l0ref.autodiff.op import OPS, TWINS, Rule, backend, run_forward, run_vjp
from l0ref.errors import ArgumentError, ShapeError
from l0ref.fast import REGISTERED, load
from l0ref.fast.activation import positive_part
from l0ref.validate import Array
from tests.cases import CASES, Case
from tests.test_ops import assert_close, each_case, scattered, single

FOLDER = Path(l0ref.fast.__file__).parent
COVERED = [case for case in CASES if case.op in REGISTERED]
ALLOCATE = {
    "array",
    "arange",
    "copy",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
}


def run(rule: Rule, xs: list[Array], options: dict[str, Any], seed: int) -> list[Array]:
    """The value of a rule and all its cotangents, for a random cotangent of the value."""
    result = rule.forward(*xs, **options)
    assert result is not NotImplemented
    y, saved = result
    y = np.asarray(y)
    y_bar = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    y_bar.flags.writeable = False
    return [y, *(np.asarray(g() if callable(g) else g) for g in rule.vjp(saved, y_bar))]


def twin(op: str) -> Rule:
    return load(*REGISTERED[op])


@pytest.mark.kernels
@each_case(COVERED)
def test_twin_equals_truth(case: Case) -> None:
    truth = Rule(OPS[case.op].forward, OPS[case.op].vjp)
    for seed in range(3):
        xs, options = case.draw(seed)
        want = run(truth, xs, options, seed)
        for inputs in (xs, [scattered(x) for x in xs]):  # read-only; then without any usual stride
            got = run(twin(case.op), inputs, options, seed)
            assert len(got) == len(want)
            for a, b in zip(got, want, strict=True):
                assert a.dtype == np.float64
                assert_close(a, b, 1e-13, "twin")


@pytest.mark.kernels
@each_case(COVERED)
def test_twin_equals_truth_in_float32(case: Case) -> None:
    xs, options = case.draw(0)
    rough = [x.astype(np.float32) for x in xs]
    want = run(Rule(OPS[case.op].forward, OPS[case.op].vjp), rough, single(options), 0)
    for a, b in zip(run(twin(case.op), rough, single(options), 0), want, strict=True):
        assert a.dtype == np.float32
        assert_close(a, b, 2e-6, "twin")


@pytest.mark.kernels
@pytest.mark.parametrize("op", sorted(REGISTERED))
def test_twin_is_what_runs(op: str) -> None:
    for case in (case for case in COVERED if case.op == op):
        xs, options = case.draw(0)
        with backend("numba"):
            chosen, y, saved = run_forward(OPS[op], tuple(xs), options)
        assert chosen == twin(op) != Rule(OPS[op].forward, OPS[op].vjp), case.id
        assert run_vjp(OPS[op], chosen, saved, np.ones_like(y), tuple(xs), [True] * len(xs))
        with backend("numpy"):
            assert run_forward(OPS[op], tuple(xs), options)[0] == Rule(OPS[op].forward, OPS[op].vjp)


def test_what_training_spends_its_time_on_has_a_twin() -> None:
    assert set(REGISTERED) >= {"Conv2d", "CrossEntropy", "MaxPool2d", "Relu"}


@pytest.mark.parametrize("op", sorted(REGISTERED))
def test_twin_has_the_signature_of_its_op(op: str) -> None:
    assert TWINS[op]() == twin(op)
    for ours, theirs in zip(twin(op), (OPS[op].forward, OPS[op].vjp), strict=True):
        mine, plain = (inspect.signature(f).parameters.values() for f in (ours, theirs))
        assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in plain]


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    command, env = [sys.executable, "-c", code], {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER.parents[1], env=env)
    return done.stdout.strip()


@pytest.mark.parametrize(("off", "name"), [("0", "numba"), ("1", "numpy")])
def test_twins_run_by_default_where_there_is_a_compiler(off: str, name: str) -> None:
    code = "from l0ref.autodiff.op import current_backend; print(current_backend())"
    assert python(code, NUMBA_DISABLE_JIT=off) == name


def test_numba_is_imported_when_a_twin_first_runs() -> None:
    code = (
        "import sys, numpy as np, l0ref, l0ref.ops\n"
        "told = ['numba' in sys.modules]\n"
        "with l0ref.backend('numpy'): l0ref.ops.relu(np.ones(2))\n"
        "told.append('numba' in sys.modules)\n"
        "l0ref.ops.exp(np.ones(2)); told.append('numba' in sys.modules)\n"
        "l0ref.ops.relu(np.ones(2)); told.append('numba' in sys.modules)\n"
        "print(told)"
    )
    assert python(code, NUMBA_DISABLE_JIT="0") == "[False, False, False, True]"


def test_twin_refuses_in_the_words_of_the_truth() -> None:
    for name in ("numpy", "numba"):
        with backend(name):
            with pytest.raises(ShapeError, match=r"^input has shape \(3,\), expected \(N, C\)"):
                ops.cross_entropy(np.ones(3), np.zeros(3, int))
            with pytest.raises(ShapeError, match=r"^input has shape \(3, 0\), expected \(N, C\)"):
                ops.cross_entropy(np.ones((3, 0)), np.zeros(3, int))
            with pytest.raises(ShapeError, match=r"^input is empty: there is no mean of 0 losses"):
                ops.cross_entropy(np.ones((0, 3)), np.zeros(0, int))
            with pytest.raises(ArgumentError, match=r"^target holds the class index 4, outside \[0, 4\)"):
                ops.cross_entropy(np.ones((2, 4)), np.array([4, 0]))


# --- how kernels are written ------------------------------------------------------------------------------------------


def kernel_faults(source: str) -> list[str]:
    """What breaks the rules for kernels in one file: made by the policy, self-contained, making no arrays."""
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    kernels = {f.name for f in functions if any(ast.unparse(d) == "kernel" for d in f.decorator_list)}
    imports = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
    found = [f"{text} is imported" for text in imports if "numba" in text]
    for f in functions:
        if f.name not in kernels:
            continue
        if not ast.get_docstring(f):
            found.append(f"{f.name} has no docstring")
        if len(f.args.args) > 10:
            found.append(f"{f.name} has {len(f.args.args)} parameters")
        for call in (n for n in ast.walk(f) if isinstance(n, ast.Call)):
            name, word = ast.unparse(call.func), ast.unparse(call.func).split(".")[-1]
            if isinstance(call.func, ast.Name) and name not in kernels and not hasattr(builtins, name):
                found.append(f"{f.name} calls {name}, which is not in this file")
            if isinstance(call.func, ast.Attribute) and word in ALLOCATE:
                found.append(f"{f.name} makes an array with {name}")
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_kernels_keep_their_rules(path: Path) -> None:
    assert kernel_faults(path.read_text()) == (["from numba import njit is imported"] if path.stem == "policy" else [])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import numba", "import numba is imported"),
        ("from numba import prange", "from numba import prange is imported"),
        ("@kernel\ndef f(x): pass", "f has no docstring"),
        ("@kernel\ndef f(a, b, c, d, e, f, g, h, i, j, k): 'Doc.'", "f has 11 parameters"),
        ("from m import g\n@kernel\ndef f(x):\n    'Doc.'\n    g(x)", "f calls g, which is not in this file"),
        ("def g(x): pass\n@kernel\ndef f(x):\n    'Doc.'\n    g(x)", "f calls g, which is not in this file"),
        ("@kernel\ndef f(x):\n    'Doc.'\n    y = np.zeros(3)", "f makes an array with np.zeros"),
    ],
)
def test_kernel_rules_catch_planted_fault(source: str, said: str) -> None:
    assert kernel_faults(source) == [said]


def test_policy_is_the_stated_one() -> None:
    if numba.config.DISABLE_JIT:
        assert inspect.isfunction(positive_part)
    else:
        options = positive_part.targetoptions
        assert {k: options[k] for k in ("nopython", "nogil", "error_model", "fastmath")} == {
            "nopython": True, "nogil": True, "error_model": "numpy", "fastmath": False,
        }  # fmt: skip
        assert not options.get("parallel", False)
        assert type(positive_part._cache).__name__ == "FunctionCache"
