"""The compiled twins as a whole: equal to the truth, really used, loaded late, written by the kernel rules."""

from __future__ import annotations

import ast
import builtins
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.extending import is_jitted

import l0ref.fast
from l0ref import ops
from l0ref.autodiff import twins
from l0ref.autodiff.op import OPS, TWINS, Rule, backend, run_forward, run_vjp, twin
from l0ref.errors import ArgumentError, ShapeError
from l0ref.fast.chain.gates import pool
from l0ref.fast.dense.activation import positive_part
from l0ref.fast.machine import policy
from l0ref.validate import Array
from tests.cases import CASES, Case
from tests.test_ops import assert_close, each_case, scattered, single

FOLDER = Path(l0ref.fast.__file__).parent
COVERED = [case for case in CASES if case.op in twins.OPERATIONS]
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


def run(rule: Rule, xs: list[Array], options: dict[str, Any], seed: int, size: Any = np.array) -> list[Array]:
    """The value of a rule and all its cotangents, for a random cotangent of the value, or `size` of one."""
    result = rule.forward(*xs, **options)
    assert result is not NotImplemented
    y, saved = result
    y = np.asarray(y)
    y_bar = np.asarray(size(np.random.default_rng(seed).standard_normal(y.shape)), y.dtype)
    y_bar.flags.writeable = False
    return [y, *(np.asarray(g() if callable(g) else g) for g in rule.vjp(saved, y_bar))]


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


SUMS = {"BlockSparseLinear", "Conv2d", "Linear", "Matmul", "SDDMM", "SpMM", "SpMV", "SparseConv2d", "SparseLinear"}


@pytest.mark.kernels
@each_case(COVERED)
def test_twin_equals_truth_in_float32(case: Case) -> None:
    """Two orders of a sum of n products differ by at most n eps times the sum of their magnitudes, here 17 eps.

    That sum, not the result, is the scale: it is the same operation on magnitudes. What cancels has no bound: of the
    one weight of a SparseConv2d, 20 products in [-2, 2] left 0.04, and 1e-5 of it between the two.
    """
    xs, options = case.draw(0)
    rough, truth = [x.astype(np.float32) for x in xs], Rule(OPS[case.op].forward, OPS[case.op].vjp)
    want = run(truth, rough, single(options), 0)
    sizes = run(truth, [abs(x) for x in rough], single(options), 0, size=np.abs) if case.op in SUMS else want
    for a, b, size in zip(run(twin(case.op), rough, single(options), 0), want, sizes, strict=True):
        assert a.dtype == np.float32
        assert_close(a, b, 2e-6, "twin", size)


@pytest.mark.kernels
@pytest.mark.parametrize("op", sorted(twins.OPERATIONS))
def test_twin_is_what_runs(op: str) -> None:
    for case in (case for case in COVERED if case.op == op):
        xs, options = case.draw(0)
        with backend("numba"):
            chosen, y, saved = run_forward(OPS[op], tuple(xs), options)
        assert chosen == twin(op) != Rule(OPS[op].forward, OPS[op].vjp), case.id
        assert run_vjp(OPS[op], chosen, saved, np.ones_like(y), tuple(xs), [True] * len(xs))
        with backend("numpy"):
            assert run_forward(OPS[op], tuple(xs), options)[0] == Rule(OPS[op].forward, OPS[op].vjp)


PREPARED = {"multiply", "multiply_gathered"}  # where a sample takes microseconds, a view takes too long


def compiled_twice() -> list[str]:
    """The kernels called by Python so far with versions that differ only in which arrays may be written."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("l0ref.fast.")]
    values = [value for module in modules for value in vars(module).values()]
    kernels = {k for v in values for k in (v, getattr(v, "alone", None), getattr(v, "together", None)) if is_jitted(k)}
    called = {k.py_func.__globals__.get(name) for k in kernels for name in k.py_func.__code__.co_names}  # by kernels
    signatures = {
        k: [re.sub(r"(?<='C', )(True|False)", "", str(types)) for types in k.signatures] for k in kernels - called
    }
    twice = {k.__qualname__ for k, types in signatures.items() if len(set(types)) < len(types)}
    return sorted(twice - PREPARED)


@pytest.mark.kernels
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("op", sorted(twins.OPERATIONS))
def test_kernels_are_compiled_once_for_arrays_that_may_be_written_or_not(op: str) -> None:
    for case in (case for case in COVERED if case.op == op):
        xs, options = case.draw(0)
        for write in (False, True):
            arrays = [np.array(x) for x in xs]
            given = {name: np.array(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}
            for array in (*arrays, *(v for v in given.values() if isinstance(v, np.ndarray))):
                array.setflags(write=write)
            y, saved = twin(op).forward(*arrays, **given)
            y_bar = np.ones_like(y)
            y_bar.setflags(write=write)
            for cotangent in twin(op).vjp(saved, y_bar):
                if callable(cotangent):
                    cotangent()
        assert compiled_twice() == []


def test_what_training_spends_its_time_on_has_a_twin() -> None:
    assert set(twins.OPERATIONS) >= {"Conv2d", "CrossEntropy", "Linear", "MaxPool2d", "Relu"}


@pytest.mark.parametrize("op", sorted(twins.OPERATIONS))
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


KERNELS = {"kernel", "parallel_kernel"}
COMPILER = {  # what a file may import of the compiler, besides prange
    "policy": {"import numba", "from numba import njit"},
    "target": {"import numba", "import llvmlite.binding as llvm"},
    "lanes": {"import numba"},
    "notice": {"from numba.core import event"},
    "storage": {"from numba.core.caching import IndexDataCacheFile"},
    "teams": {"from numba.np.ufunc import parallel"},
    "choices_llvm": {"from numba import types"},
    "lanes_llvm": {
        "from llvmlite import ir",
        "from numba import types",
        "from numba.core import cgutils",
        "from numba.core.errors import TypingError",
        "from numba.extending import intrinsic, models, register_model",
        "from numba.np.arrayobj import make_array",
    },
    "gathers_llvm": {
        "from llvmlite import ir",
        "from numba import types",
        "from numba.core import cgutils",
        "from numba.np.arrayobj import make_array",
    },
    "penalty": {"from numba import types", "from numba.extending import overload"},
}


def kernel_faults(source: str, stem: str = "") -> list[str]:
    """What breaks the rules for kernels in one file: made by the policy, calling kernels only, making no arrays."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    kernels = [(f, made) for f in functions if (made := {ast.unparse(d) for d in f.decorator_list} & KERNELS)]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
    lines = {text for text in map(ast.unparse, imports) if "numba" in text or "llvmlite" in text}
    found = [f"{text} is imported" for text in sorted(lines - COMPILER.get(stem, set()) - {"from numba import prange"})]
    known = {f.name for f, _ in kernels} | {"prange"} | _overloaded(functions)
    for node in imports:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("l0ref.fast."):
            known |= {alias.name for alias in node.names}
    for f, made in kernels:
        if not ast.get_docstring(f):
            found.append(f"{f.name} has no docstring")
        if len(f.args.args) > 10:
            found.append(f"{f.name} has {len(f.args.args)} parameters")
        for call in (n for n in ast.walk(f) if isinstance(n, ast.Call)):
            name, word = ast.unparse(call.func), ast.unparse(call.func).split(".")[-1]
            if isinstance(call.func, ast.Name) and name not in known and not hasattr(builtins, name):
                found.append(f"{f.name} calls {name}, which is neither in this file nor of l0ref.fast")
            if isinstance(call.func, ast.Attribute) and word in ALLOCATE:
                found.append(f"{f.name} makes an array with {name}")
        found += _loops_over_threads(f, parallel="parallel_kernel" in made)
    return found


def _overloaded(functions: list[ast.FunctionDef]) -> set[str]:
    """Names of the functions for which a file says what the compiler should take."""
    calls = [d for f in functions for d in f.decorator_list if isinstance(d, ast.Call)]
    return {ast.unparse(d.args[0]) for d in calls if ast.unparse(d.func) == "overload"}


def _loops_over_threads(f: ast.FunctionDef, *, parallel: bool) -> Iterator[str]:
    """A parallel kernel loops over threads and leaves the work in these loops to serial kernels; no other does."""
    loops = [n for n in ast.walk(f) if isinstance(n, ast.For) and "prange" in ast.unparse(n.iter)]
    if parallel and {ast.unparse(loop.iter) for loop in loops} != {"prange(threads)"}:
        yield f"{f.name} does not loop over prange(threads)"
    if loops and not parallel:
        yield f"{f.name} uses prange and is no parallel kernel"
    for loop in loops:
        if any(isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store) for n in ast.walk(loop)):
            yield f"{f.name} writes numbers inside of prange"


@pytest.mark.parametrize(
    "path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.relative_to(FOLDER).with_suffix("").as_posix()
)
def test_kernels_keep_their_rules(path: Path) -> None:
    assert kernel_faults(path.read_text(), path.stem) == []


def test_only_files_with_kernels_leave_types_to_numba() -> None:
    settings = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    (untyped,) = (set(each["module"]) for each in settings if "disallow_untyped_defs" in each)
    made = re.compile(r"^ *@(parallel_)?kernel$", re.MULTILINE)
    files = (path.relative_to(FOLDER.parents[1]) for path in FOLDER.rglob("*.py") if made.search(path.read_text()))
    assert untyped - {"l0ref.bench.traffic"} == {".".join(file.with_suffix("").parts) for file in files}


HEAD = "from numba import prange\nfrom l0ref.fast.machine.lanes import load\n"
PARALLEL = HEAD + "@kernel\ndef g(x):\n    'Doc.'\n@parallel_kernel\ndef f(x, threads):\n    'Doc.'\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import numba", "import numba is imported"),
        ("from numba import njit", "from numba import njit is imported"),
        ("from llvmlite import ir", "from llvmlite import ir is imported"),
        ("@kernel\ndef f(x): pass", "f has no docstring"),
        ("@parallel_kernel\ndef f(threads):\n    for n in prange(threads): pass", "f has no docstring"),
        ("if A:\n    @kernel\n    def f(x): pass", "f has no docstring"),
        ("@kernel\ndef f(a, b, c, d, e, f, g, h, i, j, k): 'Doc.'", "f has 11 parameters"),
        (
            "from m import g\n@kernel\ndef f(x):\n    'Doc.'\n    g(x)",
            "f calls g, which is neither in this file nor of l0ref.fast",
        ),
        (
            "def g(x): pass\n@kernel\ndef f(x):\n    'Doc.'\n    g(x)",
            "f calls g, which is neither in this file nor of l0ref.fast",
        ),
        ("@kernel\ndef f(x):\n    'Doc.'\n    y = np.zeros(3)", "f makes an array with np.zeros"),
        ("@kernel\ndef f(x):\n    'Doc.'\n    y = x.copy()", "f makes an array with x.copy"),
        (PARALLEL + "    g(x)", "f does not loop over prange(threads)"),
        (PARALLEL + "    for n in prange(x.size): g(x)", "f does not loop over prange(threads)"),
        (PARALLEL + "    for n in prange(threads): x[n] = 1", "f writes numbers inside of prange"),
        (
            PARALLEL + "    for n in prange(threads):\n        for i in x: x[i] += 1",
            "f writes numbers inside of prange",
        ),
        (
            HEAD + "@kernel\ndef f(x):\n    'Doc.'\n    for n in prange(3): load(x)",
            "f uses prange and is no parallel kernel",
        ),
    ],
)
def test_kernel_rules_catch_planted_fault(source: str, said: str) -> None:
    assert kernel_faults(source) == [said]


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("import numba\nfrom numba import njit", "policy"),
        (PARALLEL + "    for n in prange(threads):\n        first = n * x.size // threads\n        g(x)", ""),
        (PARALLEL + "    for n in prange(threads): g(x)\n    for n in prange(threads): g(x)", ""),
        (HEAD + "@kernel\ndef f(x):\n    'Doc.'\n    x[0] = max(load(x, (0,)), np.exp(x[0]))", ""),
        ("def e(x): pass\n@overload(e)\ndef of(x): pass\n@kernel\ndef f(x):\n    'Doc.'\n    e(x)", ""),
    ],
)
def test_kernel_rules_let_kernels_pass(source: str, stem: str) -> None:
    assert kernel_faults(source, stem) == []


def test_policy_is_the_stated_one() -> None:
    if numba.config.DISABLE_JIT:
        assert inspect.isfunction(positive_part)
        assert inspect.isfunction(pool)
        return
    for made, parallel in ((positive_part, False), (pool.alone, False), (pool.together, True)):
        options = made.targetoptions
        assert {k: v for k, v in options.items() if k != "boundscheck"} == {
            "nopython": True, "nogil": True, "error_model": "numpy", "fastmath": False, "parallel": parallel,
            "no_cfunc_wrapper": True,
        }  # fmt: skip
        assert type(made._cache).__name__ == "FunctionCache"
        assert made._cache._cache_file._source_stamp == policy.STAMP


def test_one_thread_does_without_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    made = policy.OnThreads(getattr(pool, "__wrapped__", pool))
    assert made.__doc__ == pool.__doc__
    if not numba.config.DISABLE_JIT:
        assert made.alone.py_func.__code__ is made.together.py_func.__code__
        files = [each._cache._impl.filename_base for each in (made.alone, made.together)]
        assert len(set(files)) == 2
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(made, "alone", lambda *args: asked.append(("alone", *args)))
    monkeypatch.setattr(made, "together", lambda *args: asked.append(("together", *args)))
    for threads in (1, 2, 5):
        made("x", threads)
    assert asked == [("alone", "x", 1), ("together", "x", 2), ("together", "x", 5)]


def test_training_of_a_small_network_wakes_no_threads() -> None:
    """A process that has woken OpenMP's threads cannot be forked."""
    code = (
        "import numba, numpy as np\n"
        "from l0ref import data, nn\n"
        "from l0ref.training import fit\n"
        "few = data.load('digits', seed=0).train.take(np.arange(20))\n"
        "fit(nn.digits_cnn(seed=0), few, epochs=1, seed=0, progress='none', validation=few)\n"
        "try: print(numba.threading_layer())\n"
        "except ValueError: print('asleep')"
    )
    assert python(code, NUMBA_DISABLE_JIT="0", NUMBA_NUM_THREADS="2") == "asleep"


def test_stamp_of_the_caches_tells_every_change_of_a_kernel_file() -> None:
    told = {name: (time, size) for name, time, size in policy.STAMP}
    assert {"machine/policy.py", "dense/winograd.py", "chain/linear.py"} < set(told)
    assert set(told) == {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py")}
    for name, (time, size) in told.items():
        assert (time, size) == ((FOLDER / name).stat().st_mtime_ns, (FOLDER / name).stat().st_size)
