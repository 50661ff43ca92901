"""The files the house rules read, and small questions about an expression in them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNTRACKED = {"build", "dist", "out", "runs"}


@dataclass(frozen=True)
class File:
    """One file of the repository: its path from the root, with "/", and its text."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def module(self) -> str:
        """The module directly under l0ref this file belongs to: `ops` for l0ref/ops/linear.py."""
        return self.path.split("/")[1].removesuffix(".py")

    def inside(self, *folders: str) -> bool:
        return self.path.endswith(".py") and self.path.startswith(folders)


Fault = tuple[int, str]  # line, what is wrong
Rule = Callable[[File], Iterator[Fault]]


def faults(rule: Rule, files: Iterable[File]) -> list[str]:
    """Return what `rule` finds in `files`, one sentence each, sorted by place."""
    return [f"{file.path}:{line}: {what}" for file in files for line, what in sorted(set(rule(file)))]


def repository(root: Path = ROOT) -> list[File]:
    """Return every text file that is tracked, or would be; outside a git checkout, all that is not hidden or built."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if (root / ".git").exists():
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.split("\0") if name and (root / name).is_file()]
    else:
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        names = [path.as_posix() for path in found if not any(is_hidden(part) for part in path.parts)]
    data = {name: (root / name).read_bytes() for name in sorted(set(names))}
    return [File(name, raw.decode("utf-8", errors="replace")) for name, raw in data.items() if b"\0" not in raw]


def is_hidden(part: str) -> bool:
    """Whether a folder or file of this name is left out where there is no git to ask."""
    return part in UNTRACKED or (part.startswith(".") and part not in (".ci", ".gitignore"))


def last(node: ast.expr) -> str:
    """The last word of what is called or named: `array_equal` in np.array_equal(a, b)."""
    if isinstance(node, ast.Call):
        return last(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def truthy(node: ast.expr) -> bool:
    """Whether an expression is true by its text alone: a true constant, a tuple with something in it."""
    return (isinstance(node, ast.Constant) and bool(node.value)) or (isinstance(node, ast.Tuple) and bool(node.elts))
