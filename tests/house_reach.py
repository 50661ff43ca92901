"""The house rule about dead code: every function of the package is reached from a public name or a command."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from tests.house_files import Fault, File, last

COMMON = {  # decorators that call nothing
    "kernel", "parallel_kernel", "cache", "lru_cache", "property", "cached_property", "staticmethod", "classmethod",
    "contextmanager", "abstractmethod",
}  # fmt: skip
ENDS = ("", "_forward", "_vjp")  # the functions of a twin are named by their stem: `l0ref.autodiff.twins`
WORD = re.compile(r"[A-Za-z_]\w*")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def all_reached(files: Iterable[File]) -> Callable[[File], Iterator[Fault]]:
    """Return the rule that every function of the package is reached, judged beside `files`.

    Functions and methods count by their bare names. Reached are names in pages of the documentation and in examples,
    names that an `__init__.py` imports, names in code that runs when a module is imported, and names in the body of a
    function that is reached. A string that is an identifier counts, for tables of names. An import elsewhere does not.
    """
    files = list(files)
    package = {file.path: file for file in files if file.inside("l0ref/")}
    pages = [file for file in files if file.inside("examples/") or file.path.endswith((".md", "pyproject.toml"))]
    public = {word for file in pages for word in WORD.findall(file.source)}
    usual = cache(lambda: names_reached(package.values(), public))  # takes seconds: when it is first asked for

    def rule(file: File) -> Iterator[Fault]:
        """No function that nothing but tests calls."""
        if not file.inside("l0ref/"):
            return
        is_known = package.get(file.path) is file
        reached = usual() if is_known else names_reached({**package, file.path: file}.values(), public)
        for function, owner in functions(file.tree):
            if function.name not in reached and not given(function, owner, file):
                yield function.lineno, f"{function.name} is reached from no public name or command; remove it"

    rule.__name__ = "all_reached"
    return rule


def names_reached(files: Iterable[File], public: Iterable[str]) -> set[str]:
    """Return every name that is mentioned in code which runs, starting from modules and public names."""
    bodies: dict[str, list[ast.AST]] = {}
    row: list[ast.AST] = []
    names = set(public)
    for file in files:
        row.append(file.tree)
        for function, owner in functions(file.tree):
            bodies.setdefault(function.name, []).append(function)
            row += [function] if given(function, owner, file) else []
        if file.path.endswith("/__init__.py"):
            names |= {a.name for node in file.nodes if isinstance(node, ast.ImportFrom) for a in node.names}
    reached: set[str] = set()

    def reach(found: set[str]) -> None:
        for name in found - reached:
            reached.add(name)
            row.extend(body for end in ENDS for body in bodies.get(name + end, ()))
            reached.update(name + end for end in ENDS)

    reach(names)
    for node in row:
        reach(mentioned(node))
    return reached


def functions(tree: ast.AST, owner: ast.ClassDef | None = None) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Yield the functions and methods of a module, and the class of each, if it has one; no function in a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, owner
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, node)
        else:
            yield from functions(node, owner)


def given(function: Function, owner: ast.ClassDef | None, file: File) -> bool:
    """Whether a function is called by what it is: by its decorator, by Python, or by a base class from elsewhere."""
    if function.name.startswith(("__", "_repr_html_")) or any(last(d) not in COMMON for d in function.decorator_list):
        return True
    own = {node.name for node in file.nodes if isinstance(node, ast.ClassDef)}
    own |= {a.name for n in file.nodes if isinstance(n, ast.ImportFrom) and "l0ref" in str(n.module) for a in n.names}
    return owner is not None and any(last(base) not in own | {"Protocol", "NamedTuple", "ABC"} for base in owner.bases)


def mentioned(node: ast.AST) -> set[str]:
    """Return the names that some code mentions: without its functions if it is a module, with them if it is one."""
    found: set[str] = set()
    row = [node]
    for each in row:
        match each:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
            case ast.Constant(value=str(text)) if WORD.fullmatch(text):
                found.add(text)
        is_left_out = isinstance(each, Function) and not isinstance(node, Function)
        row += each.decorator_list if is_left_out else ast.iter_child_nodes(each)
    return found
