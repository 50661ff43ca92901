"""Write docs/formulas.md and the table in docs/methods/index.md from the registries: `python docs/formulas.py`.

One row for each operation, surrogate, optimiser and method: the formula, from its docstring; the file of its
definition; the files of the tests that compare it with something else. The table of methods is sorted by what they
read. `tests/test_formulas.py` fails when a page is not that of today.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # the tests are no package that is installed

from l0ref import optim  # noqa: E402
from l0ref.autodiff import OPS  # noqa: E402
from l0ref.methods import METHODS  # noqa: E402
from l0ref.optim import OPTIMIZERS, Proximal  # noqa: E402
from l0ref.surrogates import SURROGATES  # noqa: E402
from tests import cases, naive  # noqa: E402

PAGE = ROOT / "docs" / "formulas.md"
HEAD = """# Formulas, functions, tests

Every operation, surrogate, optimiser and method: what it computes, where it is defined, and where that is compared with
something else. The page is written by `python docs/formulas.py` from the registries and docstrings.
"""
NOTES = {
    "Operations": "Cases are compared with loops over single entries, with differences of the value, and with the "
    "compiled twin, by [`tests/test_ops.py`](../tests/test_ops.py) and "
    "[`tests/test_op_contract.py`](../tests/test_op_contract.py).",
    "Surrogates": "Every one also stands in the [conformance vectors](vectors.md), computed at 50 digits.",
    "Optimisers": "Steps also stand in the [conformance vectors](vectors.md).",
    "Methods": "All keep the contract in [`tests/test_methods.py`](../tests/test_methods.py); the other files test one "
    "by one.",
}
METHOD_PAGES = ROOT / "docs" / "methods"
FAMILIES = {  # of the survey, with members as companion papers name them
    "magnitude": ("magnitude", "class_uniform", "class_distribution", "han", "lottery"),
    "similarity": ("data_free", "fpgm", "kmeans_units", "weight_sharing"),
    "sensitivity": (
        "obd", "obs", "l_obs", "exact_obs", "wanda", "fisher", "snip", "grasp", "taylor", "apoz", "thinet", "nisp",
    ),
}  # fmt: skip
TABLE = re.compile(r"(<!-- table: python docs/formulas.py -->\n\n).*?(\n\n<!-- end of table -->)", re.DOTALL)
FORMULA = re.compile(r" *[a-z]+(\(\w+\))? +(=|<-) ")
Row = tuple[str, str, list[str]]  # name, formula, paths: of the definition, then of the tests


def page() -> str:
    """Return the page as it should be."""
    tables = {"Operations": operations(), "Surrogates": surrogates(), "Optimisers": optimisers(), "Methods": methods()}
    parts = [HEAD]
    for title, rows in tables.items():
        lines = [f"## {title}", "", NOTES[title], "", "| Name | Formula | Defined in | Tests |", "|---|---|---|---|"]
        for name, formula, (source, *tests) in rows:
            cells = (f"`{name}`", formula, _link(source), ", ".join(map(_link, tests)))
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def in_order(registry: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The entries by file, and in a file as they stand there, whatever was imported first."""
    return sorted(registry.items(), key=lambda entry: entry[1].__module__)


def operations() -> Iterator[Row]:
    """The operations of the package, in order of their files."""
    importlib.import_module("l0ref.ops")
    importlib.import_module("l0ref.sparse")
    homes = {case.op: path for path, module in _modules(cases) for case in getattr(module, "CASES", ())}
    oracles = {path.name for path, _ in _modules(naive)}
    for name, op in in_order(OPS):
        if op.__module__.startswith("l0ref."):
            case = homes[name]
            extra = [ROOT / "tests" / "naive" / case.name] if case.name in oracles else []
            yield name, _formula(op), [_source(op), _path(case), *map(_path, extra)]


def surrogates() -> Iterator[Row]:
    """The surrogates."""
    for name, surrogate in in_order(SURROGATES):
        if surrogate.__module__.startswith("l0ref."):
            tests = ["tests/oracles_surrogates.py", *_mentioning([name], "test_surrogates*.py")]
            yield name, _formula(surrogate), [_source(surrogate), *tests]


def optimisers() -> Iterator[Row]:
    """The optimisers, and what makes one proximal."""
    for name, optimiser in (*OPTIMIZERS.items(), ("proximal_...", Proximal)):
        step = optim.momentum_step if name == "sgd" else getattr(optim, f"{name}_step", optimiser)
        yield name, _formula(step), [_source(optimiser), *_mentioning([optimiser.__name__], "test_optim*.py")]


def methods() -> Iterator[Row]:
    """The methods, with the paper of each."""
    for name, method in METHODS.items():
        if method.function.__module__.startswith("l0ref."):
            formula = f"{_formula(method.function)} ({method.paper})"
            tests = ["tests/test_methods.py", *_mentioning([f'"{name}"'], "test_methods_*.py")]
            yield name, formula, [_source(method.function), *tests]


def methods_page(text: str) -> str:
    """Return the page of methods with its table as it should be: what each reads and removes, and its page."""
    family = {name: each for each, names in FAMILIES.items() for name in names}
    lines = ["| reads | method | removes | family | kind | marks | paper |", "|---|---|---|---|---|---|---|"]
    for m in sorted(METHODS.values(), key=lambda m: (len(m.reads), m.reads, m.grain != "weight", m.kind, m.name)):
        if m.function.__module__.startswith("l0ref."):
            link = f"[`{m.name}`]({m.name}.md)"
            cells = (", ".join(m.reads), link, f"{m.grain}s", family.get(m.name, "-"), m.kind, m.marks, m.paper)
            lines.append(f"| {' | '.join(cells)} |")
    return TABLE.sub(lambda found: found[1] + "\n".join(lines) + found[2], text)


def _formula(definition: object) -> str:
    """The first paragraph of a docstring, up to the gradient, and the formula below it where one stands by itself."""
    first, *rest = (inspect.getdoc(definition) or "").split("\n\n")
    found = re.split(r"\s+VJP\s+", " ".join(first.split("\n")))[0]
    if rest and FORMULA.match(rest[0]):
        found += " " + "; ".join(line.strip() for line in rest[0].split("\n"))
    return re.sub(r"([|*_`<\[\]$\\])", r"\\\1", re.sub(r"\s+", " ", found).strip())


def _modules(package: object) -> Iterator[tuple[Path, object]]:
    for found in pkgutil.iter_modules(package.__path__):  # type: ignore[attr-defined]
        module = importlib.import_module(f"{package.__name__}.{found.name}")  # type: ignore[attr-defined]
        yield Path(str(module.__file__)), module


def _mentioning(words: Iterable[str], pattern: str) -> list[str]:
    """The tests that mention any of the words."""
    known = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in words]
    paths = sorted((ROOT / "tests").glob(pattern))
    return [_path(path) for path in paths if re.search("|".join(known), path.read_text(encoding="utf-8"))]


def _source(definition: object) -> str:
    return str(inspect.getmodule(definition).__name__).replace(".", "/") + ".py"  # type: ignore[union-attr]


def _path(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _link(path: str) -> str:
    return f"[`{path.removeprefix('l0ref/').removeprefix('tests/')}`](../{path})"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    index = METHOD_PAGES / "index.md"
    index.write_text(methods_page(index.read_text(encoding="utf-8")), encoding="utf-8")
