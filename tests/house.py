"""House rules: what linters miss. Each rule is a function that takes one file and yields its faults.

    RULES                every rule by name; tests/test_house_rules.py runs them over the repository
    faults(rule, files)  the sentences a rule finds, "path:line: what is wrong"
    registry_gaps        compares a registry with the table of cases that must equal it

This file imports nothing from l0ref, so that it can judge a tree that does not even import.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator

from tests.house_files import Fault, File, Rule, is_constant, last
from tests.house_imports import imported
from tests.house_verdicts import dropped_verdicts, names_once, never_run

# The floors of the package, from the ground: what a module stands on is on its own floor or below.
FLOORS = {
    "errors": 0, "validate": 0, "archive": 0, "streams": 0, "pipes": 0, "progress": 0, "record": 0, "version": 0,
    "environment": 0, "tables": 0,
    "surrogates": 1, "masks": 1, "schedules": 1,
    "autodiff": 2,
    "ops": 3, "fast": 3, "sparse": 3,
    "nn": 4, "layerwise": 4, "penalty": 4, "optim": 4, "data": 4, "metrics": 4,
    "distillation": 4,
    "training": 5, "checkpoint": 5,
    "pruning": 6, "deploy": 6, "methods": 6,
    "report": 7, "experiment": 7, "testing": 7, "vectors": 7, "interop": 7, "bench": 7,
    "cli": 8,
    "__init__": 9, "__main__": 9,
}  # fmt: skip
TOP = FLOORS["__init__"]

# The core path: the rooms that people come to read, and how many lines they may have in all.
CORE = ("autodiff", "ops", "surrogates", "masks", "nn", "penalty", "optim", "training", "pruning")
CORE_LINES = 9_000

# Where the package may import a distribution that is not the standard library's; nothing else may come in.
INTEROP, PEERS = "l0ref/interop/", "l0ref/bench/suites/"
HOMES = {
    "l0ref": ("l0ref/",), "numpy": ("l0ref/",), "numba": ("l0ref/",), "llvmlite": ("l0ref/fast/",), "tqdm": ("l0ref/",),
    "matplotlib": ("l0ref/report/",),
    "torch": (INTEROP, PEERS), "onnx": (INTEROP,), "safetensors": (INTEROP,),
    "scipy": (INTEROP, PEERS), "autograd": (PEERS,), "mygrad": (PEERS,), "abess": (PEERS,),
}  # fmt: skip
LAZY = {"torch", "onnx", "safetensors", "autograd", "mygrad", "scipy", "abess"}  # extras: imported when they are needed

LONGEST = 300
LONG: frozenset[str] = frozenset()  # files allowed to be longer: none

HOSTILE = {"dill", "cloudpickle", "marshal", "pickle", "shelve", "yaml"}
LOADERS = {"np.load", "numpy.load", "numpy.lib.npyio.load"}
NUMPY_FORMAT = re.compile(r"(np|numpy)\.lib\.(_?format)\b")


def registry_gaps(registered: Iterable[str], cases: Iterable[str]) -> list[str]:
    """Say which entries of a registry have no case, and which cases have no entry."""
    have, tested = set(registered), set(cases)
    missing = [f"{name} is registered and has no case" for name in sorted(have - tested)]
    return missing + [f"{name} has a case and is not registered" for name in sorted(tested - have)]


# --- imports ----------------------------------------------------------------------------------------------------------


def floors(file: File) -> Iterator[Fault]:
    """A file of the package imports from its own floor or below."""
    if not file.inside("l0ref/"):
        return
    if file.module not in FLOORS:
        yield 1, f"l0ref/{file.module} has no floor; give it one in tests/house.py"
    here = FLOORS.get(file.module, TOP)
    for line, dotted in imported(file):
        root, _, rest = dotted.partition(".")
        name = rest.split(".")[0]
        if root == "l0ref" and FLOORS.get(name, TOP) > here:
            yield line, f"{file.module} (floor {here}) imports {name or 'the package itself'} from above"


ROOMS = {"machine": 0, "products": 1, "dense": 2, "sparse": 2, "step": 2, "layerwise": 2, "chain": 3}  # of l0ref/fast


def rooms(file: File) -> Iterator[Fault]:
    """A file of l0ref/fast imports from its own room or a lower one: dense and sparse do not know each other."""
    if not file.inside("l0ref/fast/"):
        return
    here = file.path.split("/")[2]
    if here not in ROOMS:
        if here != "__init__.py":
            yield 1, f"l0ref/fast/{here} is no room; move the file into one of {', '.join(ROOMS)}"
        return
    for line, dotted in imported(file):
        room = dotted.removeprefix("l0ref.fast.").split(".")[0]
        if dotted.startswith("l0ref.fast.") and room != here and ROOMS.get(room, TOP) >= ROOMS[here]:
            yield line, f"room {here} imports {dotted}, which is not below it"


def absolute_imports(file: File) -> Iterator[Fault]:
    """Imports say where a name comes from, from the root."""
    for node in file.nodes if file.path.endswith(".py") else ():
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, f"relative import of {'.' * node.level}{node.module or ''}; write it from the root"


def foreign_packages(file: File) -> Iterator[Fault]:
    """The package imports few others, matplotlib, torch and their like in their places only, extras in functions."""
    if file.inside("l0ref/"):
        at_once = {node.lineno for node in file.tree.body}
        for line, dotted in imported(file):
            root = dotted.split(".")[0]
            if root not in sys.stdlib_module_names and not file.path.startswith(HOMES.get(root, ())):
                home = f"in {' or '.join(HOMES[root])}" if root in HOMES else "nowhere here"
                yield line, f"imports {root}, which belongs {home}"
            elif root in LAZY and line in at_once:
                yield line, f"imports {root} as soon as it is imported itself; import an extra in a function"


TRUTH = {"autodiff", "ops", "optim", "penalty", "sparse", "surrogates"}


def truth_without_twin(file: File) -> Iterator[Fault]:
    """The plain definitions import neither Numba nor a compiled twin; they name twins as strings."""
    if file.inside("l0ref/") and file.module in TRUTH:
        for line, dotted in imported(file):
            if dotted.split(".")[0] == "numba" or dotted.startswith("l0ref.fast"):
                yield line, f"the truth imports {dotted}; twins live in l0ref/fast"


def independent_oracles(file: File) -> Iterator[Fault]:
    """What the code is compared with does not use the code."""
    if re.fullmatch(r"tests/(.*/)?(naive|oracles)[^/]*(/.*)?\.py", file.path):
        for line, dotted in imported(file):
            if dotted.split(".")[0] == "l0ref":
                yield line, f"an oracle imports {dotted}; write it without the package"


# --- hostile files ----------------------------------------------------------------------------------------------------


def no_hostile_input(file: File) -> Iterator[Fault]:
    """Nothing in a file is ever executed, and no array is allocated on the word of a file's header."""
    if not file.inside("l0ref/"):
        return
    archive = file.module == "archive"
    for line, dotted in imported(file):
        if dotted.split(".")[0] in HOSTILE:
            yield line, f"imports {dotted}, which can run what is in a file"
        if dotted in LOADERS or (NUMPY_FORMAT.match(dotted) and not archive):
            yield line, f"imports {dotted}; read arrays through l0ref.archive"
    for node in file.nodes:
        match node:
            case ast.Call(func=ast.Name(id="eval" | "exec" | "compile" | "__import__" as name)):
                yield node.lineno, f"calls {name}()"
            case ast.Attribute() if ast.unparse(node) in LOADERS:
                yield node.lineno, f"uses {ast.unparse(node)}; read arrays through l0ref.archive"
            case ast.Attribute() if NUMPY_FORMAT.fullmatch(ast.unparse(node)) and not archive:
                yield node.lineno, f"uses {ast.unparse(node)}; read arrays through l0ref.archive"
            case ast.keyword(arg="allow_pickle", value=value) if not is_constant(value, False):
                yield node.lineno, "passes allow_pickle, which runs what is in a file"


# --- messages, names, sizes -------------------------------------------------------------------------------------------


def one_string_messages(file: File) -> Iterator[Fault]:
    """An exception carries one string; two would print as a tuple, none says nothing."""
    if not file.inside("l0ref/", "examples/"):
        return
    for node in file.nodes:
        match node:
            case ast.Raise(exc=ast.Call(func=func, args=[_, _, *_] | [ast.Tuple()])) if names_class(func):
                yield node.lineno, "an exception with several arguments prints as a tuple; write one string"
            case ast.Raise(exc=ast.Call(func=func, args=[], keywords=[])) if names_class(func):
                yield node.lineno, f"{last(func)} is raised without a message"
            case ast.Raise(exc=(ast.Name() | ast.Attribute()) as name) if names_class(name):
                yield node.lineno, f"{last(name)} is raised without a message"


SILENT = {"KeyboardInterrupt", "StopIteration", "SystemExit"}


def names_class(node: ast.expr) -> bool:
    return last(node)[:1].isupper() and last(node) not in SILENT


def documented(file: File) -> Iterator[Fault]:
    """Every public module, class and function of the package has a docstring."""
    if not file.inside("l0ref/"):
        return
    if file.source.strip() and not ast.get_docstring(file.tree):
        yield 1, "the module has no docstring"
    for node in file.tree.body:
        kind = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if kind and not node.name.startswith("_") and not ast.get_docstring(node) and not is_overload(node):
            yield node.lineno, f"{node.name} has no docstring"


def is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(last(decorator) == "overload" for decorator in node.decorator_list)


def short_files(file: File) -> Iterator[Fault]:
    """A file of the package or an example is one idea: at most LONGEST lines."""
    lines = file.source.count("\n")
    if file.inside("l0ref/", "examples/") and lines > LONGEST and file.path not in LONG:
        yield LONGEST, f"{lines} lines, the most is {LONGEST}; look for the cut"


def short_core(files: Iterable[File]) -> Rule:
    """Return the rule that the rooms of the core path have at most CORE_LINES lines in all, judged beside `files`."""
    sizes = {file.path: file.source.count("\n") for file in files if file.inside("l0ref/") and file.module in CORE}
    total, longest = sum(sizes.values()), max(sizes, key=sizes.__getitem__)

    def rule(file: File) -> Iterator[Fault]:
        """The core path can be read: it has at most CORE_LINES lines. The longest file is named."""
        if file.path == longest and total > CORE_LINES:
            yield (
                1,
                f"the core path has {total:,} lines, the most is {CORE_LINES:,}; move or merge what it need not hold",
            )

    rule.__name__ = "short_core"
    return rule


# Assembled, so that this file does not contain what it forbids.
PLACES = [r"(?<![\w.:/])/" + place + "/" for place in ("home", "opt", "private", "root", "tmp", "Users", "work")]
PAPERS = [word + r"\.md" for word in ("brief", "design", "style", "l0_papers", "companion_methods")]
WORDS = [rf"\b{word}\b" for word in ("py" + r"pi\.org", "python" + "hosted", "sub" + "agents?", *PAPERS)]
FORBIDDEN = re.compile("|".join(PLACES + WORDS), re.IGNORECASE)


def no_private_words(file: File) -> Iterator[Fault]:
    """The repository names no path of anybody's machine, no package host, none of its makers' tools."""
    for number, line in enumerate(file.source.splitlines(), start=1):
        for found in FORBIDDEN.finditer(line):
            yield number, f"{found[0]!r} does not belong in the repository"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        floors, rooms, absolute_imports, foreign_packages, truth_without_twin, independent_oracles, no_hostile_input,
        one_string_messages, documented, short_files, no_private_words, dropped_verdicts, names_once, never_run,
    )
}  # fmt: skip
