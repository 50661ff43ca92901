"""House rules about tests: each can fail, each is run, and no verdict is dropped."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from tests.house_files import Fault, File, Rule, is_constant, last, truthy

VERDICTS = {
    "all", "allclose", "any", "approx", "array_equal", "array_equiv", "endswith", "isclose", "isfinite", "isinstance",
    "isnan", "issubset", "partial", "startswith",
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


def dropped_verdicts(file: File) -> Iterator[Fault]:
    """A comparison that stands alone decides nothing."""
    for node in file.nodes if file.path.endswith(".py") else ():
        match node:
            case ast.Expr(value=ast.Call(func=func)) if last(func) in VERDICTS:
                yield node.lineno, f"the verdict of {ast.unparse(func)}() is dropped"
            case ast.Expr(value=ast.Call(func=func, args=args)) if last(func) in EXPECTATIONS and len(args) < 2:
                yield node.lineno, f"{ast.unparse(func)}() without a call in it expects nothing"
            case ast.Expr(value=ast.Compare() | ast.BoolOp() | ast.UnaryOp()):
                yield node.lineno, f"the verdict of {ast.unparse(node)} is dropped"


EXPECTATIONS = {"raises", "warns", "deprecated_call"}


def judges(function: ast.AST, helpers: frozenset[str] = frozenset()) -> bool:
    """Whether something in `function` can fail: an assert, an expectation, a call of one of the judging `helpers`."""
    for node in ast.walk(function):
        match node:
            case ast.Assert(test=test) if not truthy(test):
                return True
            case ast.Raise(exc=ast.expr() as exc) if last(exc) == "AssertionError":
                return True
            case ast.With(items=items) if any(last(item.context_expr) in EXPECTATIONS for item in items):
                return True
            case ast.Call(func=func, args=args) if last(func) in EXPECTATIONS and len(args) >= 2:
                return True
            case ast.Call(func=func) if last(func).startswith("assert_") or short(func) in helpers:
                return True
    return False


def can_fail(files: list[File]) -> Rule:
    """Return the rule that every test holds something that can fail, by itself or through a helper in `files`."""
    sources = [file for file in files if file.inside("tests/", "l0ref/testing/")]
    known = cache(lambda: judging_helpers(sources))  # takes seconds: when it is first asked for

    def rule(file: File) -> Iterator[Fault]:
        if not file.inside("tests/"):
            return
        helpers = reachable(file, known())
        for node in file.nodes:
            if isinstance(node, Function) and node.name.startswith("test_") and not judges(node, helpers):
                yield node.lineno, f"{node.name} can not fail"

    return rule


Helper = tuple[str, str]  # path of the file, name of a function in it


def judging_helpers(files: list[File]) -> frozenset[Helper]:
    """Return the helpers that can fail: those with a check in them, then those that call one of these, and so on."""
    functions = [(file, n) for file in files for n in file.nodes if isinstance(n, Function)]
    helpers = [(file, n) for file, n in functions if not n.name.startswith("test_")]
    known: frozenset[Helper] = frozenset()
    while True:
        names = {file.path: reachable(file, known) for file in files}
        left = [(file, n) for file, n in helpers if (file.path, n.name) not in known]
        more = known | {(file.path, n.name) for file, n in left if judges(n, names[file.path])}
        if more == known:
            return known
        known = more


def reachable(file: File, known: frozenset[Helper]) -> frozenset[str]:
    """Return how `file` may write a call of a known helper: its own, one of conftest.py, an imported one."""
    names = {name for path, name in known if path in (file.path, "tests/conftest.py")}
    names |= {f"self.{name}" for name in names} | {"pytest.fail"}
    for node in file.nodes:
        match node:
            case ast.ImportFrom(module=str(module), names=aliases):
                for alias in aliases:
                    shown = alias.asname or alias.name
                    names |= {f"{shown}.{name}" for name in defined(f"{module}.{alias.name}", known)}
                    names |= {shown} if alias.name in defined(module, known) else set()
            case ast.Import(names=aliases):
                for alias in aliases:
                    root = alias.asname or alias.name.split(".")[0]
                    names |= {f"{root}.{name}" for name in defined(alias.name, known)}
    return frozenset(names)


def defined(module: str, known: frozenset[Helper]) -> set[str]:
    """Return the known helpers of a module or of the package it stands for."""
    place = module.replace(".", "/")
    return {name for path, name in known if path == f"{place}.py" or path.startswith(f"{place}/")}


def short(func: ast.expr) -> str:
    """First and last word of a called name: `testing.check_vjp` for testing.vjp.check_vjp."""
    words = ast.unparse(func).split(".")
    return ".".join(words if len(words) < 2 else (words[0], words[-1]))


def names_once(file: File) -> Iterator[Fault]:
    """Two tests of one name in one scope are one test."""
    for scope in file.nodes if file.inside("tests/") else ():
        if isinstance(scope, ast.Module | ast.ClassDef):
            tests = [n for n in own(scope) if isinstance(n, Function) and n.name.startswith("test")]
            for name, times in Counter(test.name for test in tests).items():
                if times > 1:
                    yield max(t.lineno for t in tests if t.name == name), f"{name} is defined {times} times"


def own(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield what is defined in a scope, under its ifs and loops too, without what functions and classes hold."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, Function | ast.ClassDef | ast.Lambda):
            yield from own(child)


def never_run(file: File) -> Iterator[Fault]:
    """A test that is always skipped is no test."""
    for node in file.nodes if file.inside("tests/") else ():
        match node:
            case ast.FunctionDef(decorator_list=marks) | ast.ClassDef(decorator_list=marks):
                name = node.name
                found = [mark for mark in marks if skips_always(mark)]
                found += [s for s in node.body if isinstance(s, ast.Expr) and is_skip_call(s.value)]
            case ast.Assign(targets=[ast.Name(id="pytestmark")], value=value):
                name = "the module"
                found = [n for n in ast.walk(value) if isinstance(n, ast.expr) and skips_always(n)]
            case ast.Module(body=body):
                name = "the module"
                found = [s for s in body if isinstance(s, ast.Expr) and is_skip_call(s.value)]
            case _:
                continue
        for place in found:
            yield place.lineno, f"{name} is always skipped"


def is_skip_call(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in {"pytest.skip", "pytest.xfail", "skip"}


def skips_always(mark: ast.expr) -> bool:
    """Whether a decorator or mark skips whatever happens: skip, skipif(True), xfail(run=False)."""
    name = ast.unparse(mark.func if isinstance(mark, ast.Call) else mark)
    keywords = {k.arg: k.value for k in mark.keywords} if isinstance(mark, ast.Call) else {}
    conditions = [*mark.args[:1], keywords.get("condition")] if isinstance(mark, ast.Call) else []
    if name.endswith("mark.skipif"):
        return any(truthy(condition) for condition in conditions if condition)
    if name.endswith("mark.xfail"):
        return "run" in keywords and is_constant(keywords["run"], False)
    return re.search(r"\b(mark|unittest)\.skip$", name) is not None
