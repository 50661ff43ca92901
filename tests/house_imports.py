"""The house rule about circles: which file of the package imports which, and the rings among them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from tests.house_files import Fault, File, last

IMPORTERS = {"import_module", "__import__"}


def imported(file: File) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything imported anywhere in the file: late, and for types only, too."""
    for node in file.nodes:
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if last(func) in IMPORTERS:
                yield node.lineno, name


def no_circles(files: Iterable[File]) -> Callable[[File], Iterator[Fault]]:
    """Return the rule that no file of the package imports one that leads back to it, judged beside `files`."""
    package = {file.path: file for file in files if file.inside("l0ref/")}

    @cache  # not before the rule is asked: every worker of the suite imports this
    def graph() -> dict[str, dict[str, int]]:
        return {path: arrows(file, package) for path, file in package.items()}

    def rule(file: File) -> Iterator[Fault]:
        """No import circle among files, whether an import stands at the top, in a function or under TYPE_CHECKING."""
        for path, line in arrows(file, package).items() if file.path in package else ():
            if back := way(graph(), path, file.path):
                yield line, f"closes an import circle: {' -> '.join([file.path, *back])}"

    rule.__name__ = "no_circles"
    return rule


def arrows(file: File, package: Iterable[str]) -> dict[str, int]:
    """Return the files of the package that a file names in its imports, each with the first line that does."""
    found: dict[str, int] = {}
    for line, dotted in imported(file):
        place = home(dotted, package)
        if place is not None:
            found[place] = min(line, found.get(place, line))
    return found


def home(dotted: str, package: Iterable[str]) -> str | None:
    """Return the file that defines a dotted name: that of the longest module it begins with."""
    words = dotted.split(".")
    for n in range(len(words), 0, -1):
        stem = "/".join(words[:n])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if path in package:
                return path
    return None


def way(graph: dict[str, dict[str, int]], start: str, goal: str) -> list[str]:
    """Return the shortest chain of imports from one file to another, both in it; empty if there is none."""
    before: dict[str, str] = {start: ""}
    row = [start]
    for path in row:
        if path == goal:
            chain = [path]
            while before[chain[0]]:
                chain.insert(0, before[chain[0]])
            return chain
        for other in graph.get(path, {}):
            if other not in before:
                before[other] = path
                row.append(other)
    return []
