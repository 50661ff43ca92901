"""The house rules over the repository, and each rule on planted faults and on clean samples."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
import tomllib

import pytest

import l0ref
from l0ref.autodiff.op import OPS
from l0ref.surrogates import SURROGATES
from tests import oracles_surrogates
from tests.cases import CASES
from tests.house import CORE, CORE_LINES, FLOORS, LONG, RULES, registry_gaps, short_core
from tests.house_files import ROOT, File, faults, repository
from tests.house_imports import no_circles
from tests.house_reach import all_reached
from tests.house_verdicts import can_fail

FILES = repository()
ALL_RULES = {
    **RULES,
    "all_reached": all_reached(FILES),
    "can_fail": can_fail(FILES),
    "no_circles": no_circles(FILES),
    "short_core": short_core(FILES),
}
OPEN_CIRCLES: set[str] = set()  # the files of circles that are still there

# rule, path, source, what the rule says
PLANTED = [
    ("floors", "l0ref/optim.py", "from l0ref.training import fit", "optim (floor 4) imports training from above"),
    ("floors", "l0ref/masks.py", "from l0ref import nn", "imports nn from above"),
    ("floors", "l0ref/ops/linear.py", "import l0ref.nn.layers as layers", "ops (floor 3) imports nn from above"),
    ("floors", "l0ref/masks.py", "def f():\n    from l0ref.ops import add", "imports ops from above"),
    ("floors", "l0ref/masks.py", "if TYPE_CHECKING:\n    from l0ref.ops import add", "imports ops from above"),
    ("floors", "l0ref/nn/zoo.py", "import importlib\nimportlib.import_module('l0ref.cli')", "imports cli from above"),
    ("floors", "l0ref/cli/main.py", "from l0ref import Tensor", "imports Tensor from above"),
    ("floors", "l0ref/cli/main.py", "import l0ref", "imports the package itself from above"),
    ("floors", "l0ref/errors.py", "from l0ref.masks import keep_mask", "errors (floor 0) imports masks from above"),
    ("floors", "l0ref/novelty.py", "", "l0ref/novelty has no floor"),
    ("floors", "l0ref/nn/zoo.py", "import l0ref.novelty", "imports novelty from above"),
    ("all_reached", "l0ref/masks/a.py", "def unwanted():\n    'Doc.'", "unwanted is reached from no public name"),
    ("all_reached", "l0ref/masks/a.py", "@kernel\ndef unwanted(x): unwanted(x)", "unwanted is reached from no public"),
    (
        "all_reached",
        "l0ref/fast/step/a.py",
        "class Layer:\n    def unwanted(self): pass",
        "unwanted is reached from no",
    ),
    (
        "all_reached",
        "l0ref/masks/a.py",
        "from m import unwanted\ndef unwanted_(): pass",
        "unwanted_ is reached from no",
    ),
    ("no_circles", "l0ref/validate.py", "import l0ref.masks.amounts", "amounts.py -> l0ref/validate.py"),
    (
        "no_circles",
        "l0ref/schedules/base.py",
        "def f():\n    from l0ref.schedules import rate",
        "rate.py -> l0ref/sc",
    ),
    (
        "no_circles",
        "l0ref/nn/layer.py",
        "if TYPE_CHECKING:\n    from l0ref.nn import Model",
        "nn/layer.py -> l0ref/",
    ),
    ("no_circles", "l0ref/errors.py", "import_module('l0ref.validate')", "l0ref/errors.py -> l0ref/validate.py -> l0r"),
    ("no_circles", "l0ref/masks/__init__.py", "from l0ref.masks import keep", "masks/__init__.py -> l0ref/masks/__i"),
    ("absolute_imports", "l0ref/nn/zoo.py", "from .layers import Linear", "relative import of .layers"),
    ("absolute_imports", "tests/test_a.py", "def f():\n    from .. import cases", "relative import of .."),
    ("foreign_packages", "l0ref/nn/zoo.py", "import torch.nn as nn", "imports torch, which belongs in l0ref/interop/"),
    ("foreign_packages", "l0ref/masks.py", "from scipy import sparse", "imports scipy, which belongs in"),
    ("foreign_packages", "l0ref/bench/work.py", "def f():\n    import torch", "imports torch, which belongs in"),
    ("foreign_packages", "l0ref/bench/suites/conv.py", "import mygrad as mg", "imports mygrad as soon as"),
    ("foreign_packages", "l0ref/interop/torch.py", "from torch import nn", "imports torch as soon as"),
    (
        "foreign_packages",
        "l0ref/masks.py",
        "def f():\n    import sklearn",
        "imports sklearn, which belongs nowhere here",
    ),
    ("foreign_packages", "l0ref/cli/plot.py", "import matplotlib.pyplot", "matplotlib, which belongs in l0ref/report/"),
    (
        "rooms",
        "l0ref/fast/sparse/a.py",
        "from l0ref.fast.dense import images",
        "sparse imports l0ref.fast.dense.images",
    ),
    (
        "rooms",
        "l0ref/fast/dense/a.py",
        "from l0ref.fast.sparse.rows import f",
        "dense imports l0ref.fast.sparse.rows.f",
    ),
    ("rooms", "l0ref/fast/machine/a.py", "def f():\n    import l0ref.fast.chain", "machine imports l0ref.fast.chain"),
    ("rooms", "l0ref/fast/gates.py", "x = 1", "l0ref/fast/gates.py is no room"),
    ("truth_without_twin", "l0ref/ops/linear.py", "from l0ref.fast import load", "the truth imports l0ref.fast.load"),
    ("truth_without_twin", "l0ref/ops/__init__.py", "import l0ref.fast", "the truth imports l0ref.fast"),
    ("truth_without_twin", "l0ref/penalty.py", "from l0ref.fast.step import prox", "imports l0ref.fast.step.prox"),
    ("truth_without_twin", "l0ref/optim/a.py", "def f():\n    import l0ref.fast.step", "imports l0ref.fast.step"),
    ("truth_without_twin", "l0ref/sparse/a.py", "import_module('l0ref.fast.sparse')", "imports l0ref.fast.sparse"),
    ("truth_without_twin", "l0ref/surrogates/lp.py", "import numba", "the truth imports numba"),
    ("truth_without_twin", "l0ref/autodiff/op.py", "from numba import njit", "the truth imports numba.njit"),
    ("independent_oracles", "tests/naive.py", "from l0ref.ops import add", "an oracle imports l0ref.ops.add"),
    ("independent_oracles", "tests/oracles_lp.py", "def f():\n    import l0ref", "an oracle imports l0ref"),
    ("independent_oracles", "tests/naive/linear.py", "from l0ref import ops", "an oracle imports l0ref.ops"),
    ("no_hostile_input", "l0ref/checkpoint.py", "import pickle", "imports pickle, which can run"),
    ("no_hostile_input", "l0ref/cli/config.py", "from yaml import safe_load", "imports yaml.safe_load"),
    ("no_hostile_input", "l0ref/data/idx.py", "x = np.load(path)", "uses np.load; read arrays through l0ref.archive"),
    ("no_hostile_input", "l0ref/data/idx.py", "from numpy import load", "imports numpy.load; read arrays"),
    ("no_hostile_input", "l0ref/archive/npz.py", "f(path, allow_pickle=True)", "passes allow_pickle"),
    ("no_hostile_input", "l0ref/archive/npz.py", "x = numpy.load(path)", "uses numpy.load"),
    ("no_hostile_input", "l0ref/data/idx.py", "np.lib.format.read_array(f)", "uses np.lib.format; read arrays"),
    ("no_hostile_input", "l0ref/data/idx.py", "from numpy.lib import format", "imports numpy.lib.format; read arrays"),
    ("no_hostile_input", "l0ref/cli/config.py", "x = eval(text)", "calls eval()"),
    ("no_hostile_input", "l0ref/cli/config.py", "exec(text)", "calls exec()"),
    ("one_string_messages", "l0ref/masks.py", "raise ValueError(f'got {1},', ' expected 2')", "prints as a tuple"),
    ("one_string_messages", "l0ref/masks.py", "raise ValueError(('got', 1))", "prints as a tuple"),
    ("one_string_messages", "l0ref/masks.py", "raise NotImplementedError", "NotImplementedError is raised without"),
    ("one_string_messages", "l0ref/masks.py", "raise errors.ShapeError()", "ShapeError is raised without a message"),
    ("documented", "l0ref/masks.py", "x = 1", "the module has no docstring"),
    ("documented", "l0ref/masks.py", "'''M.'''\ndef keep(): pass", "keep has no docstring"),
    ("documented", "l0ref/masks.py", "'''M.'''\nclass Keep: pass", "Keep has no docstring"),
    ("short_files", "l0ref/masks.py", "x = 1\n" * 301, "301 lines, the most is 300"),
    ("short_files", "examples/ex01.py", "x = 1\n" * 400, "400 lines, the most is 300"),
    ("no_private_words", "README.md", "Read /" + "tmp/x first.", "'/" + "tmp/' does not belong"),
    ("short_core", "l0ref/ops/novelty.py", "x = 1\n" * 9_000, "lines, the most is 9,000; move or merge"),
    ("no_private_words", ".ci/run", "one\ncd /" + "work/main", "'/" + "work/' does not belong"),
    ("no_private_words", "docs/a.md", "from `/" + "root/a`", "'/" + "root/' does not belong"),
    ("no_private_words", "docs/a.md", "https://py" + "pi.org/x", "'py" + "pi.org' does not belong"),
    ("no_private_words", "l0ref/a.py", "# see Design" + ".md", "'Design" + ".md' does not belong"),
    ("dropped_verdicts", "tests/test_a.py", "np.array_equal(a, b)", "verdict of np.array_equal() is dropped"),
    ("dropped_verdicts", "l0ref/masks.py", "def f():\n    math.isclose(a, b)", "verdict of math.isclose() is dropped"),
    ("dropped_verdicts", "tests/test_a.py", "(a == b).all()", "verdict of (a == b).all() is dropped"),
    ("dropped_verdicts", "tests/test_a.py", "a == approx(b)", "verdict of a == approx(b) is dropped"),
    ("dropped_verdicts", "tests/test_a.py", "pytest.raises(ValueError)", "pytest.raises() without a call in it"),
    ("dropped_verdicts", "l0ref/masks.py", "functools.partial(f, 1)", "verdict of functools.partial() is dropped"),
    ("names_once", "tests/test_a.py", "def test_a(): f()\ndef test_a(): g()", "test_a is defined 2 times"),
    ("names_once", "tests/test_a.py", "if x:\n    def test_a(): f()\ndef test_a(): g()", "test_a is defined 2 times"),
    (
        "names_once",
        "tests/test_a.py",
        "class TestA:\n    def test_a(s): f()\n    def test_a(s): g()",
        "defined 2 times",
    ),
    ("never_run", "tests/test_a.py", "@pytest.mark.skip\ndef test_a(): f()", "test_a is always skipped"),
    ("never_run", "tests/test_a.py", "@pytest.mark.skip(reason='x')\ndef test_a(): f()", "test_a is always skipped"),
    ("never_run", "tests/test_a.py", "@pytest.mark.skipif(True, reason='x')\nclass TestA: x = 1", "TestA is always"),
    ("never_run", "tests/test_a.py", "@mark.skipif(condition=1, reason='x')\ndef test_a(): f()", "test_a is always"),
    ("never_run", "tests/test_a.py", "@pytest.mark.xfail(run=False)\ndef test_a(): f()", "test_a is always skipped"),
    ("never_run", "tests/test_a.py", "def test_a():\n    pytest.skip('x')\n    f()", "test_a is always skipped"),
    ("never_run", "tests/test_a.py", "pytestmark = [pytest.mark.skip]", "the module is always skipped"),
    ("never_run", "tests/test_a.py", "pytest.skip('x', allow_module_level=True)", "the module is always skipped"),
    ("can_fail", "tests/test_a.py", "def test_a():\n    print(prune(1))", "test_a can not fail"),
    (
        "can_fail",
        "tests/test_a.py",
        "def test_a():\n    '''assert'''\n    # assert\n    x = 'assert'",
        "can not fail",
    ),
    ("can_fail", "tests/test_a.py", "def test_a():\n    assert True", "test_a can not fail"),
    ("can_fail", "tests/test_a.py", "def test_a():\n    assert (x == 1, 'x is 1')", "test_a can not fail"),
    ("can_fail", "tests/test_a.py", "def test_a():\n    pytest.raises(ValueError)", "test_a can not fail"),
    ("can_fail", "tests/test_a.py", "class TestA:\n    async def test_a(s): f()", "test_a can not fail"),
    ("can_fail", "tests/test_a.py", "def f(x): print(x)\ndef test_a(): f(1)", "test_a can not fail"),
    ("can_fail", "tests/test_a.py", "def test_a():\n    elsewhere.check_vjp(f)", "test_a can not fail"),
    ("can_fail", "tests/test_a.py", "def check_vjp(x): print(x)\ndef test_a(): check_vjp(1)", "can not fail"),
]

# rule, path, source in which the rule finds nothing
CLEAN = [
    ("floors", "l0ref/nn/zoo.py", "import numpy as np\nfrom l0ref.ops import add\nfrom l0ref.nn.layers import Linear"),
    ("floors", "l0ref/report/page.py", "from l0ref.version import __version__\nfrom l0ref import data"),
    ("floors", "l0ref/__main__.py", "from l0ref.cli import main"),
    ("floors", "tests/test_a.py", "import l0ref"),
    ("all_reached", "l0ref/masks/a.py", "def wanted(): pass\nTABLE = {'a': 'wanted'}"),
    (
        "all_reached",
        "l0ref/masks/a.py",
        "@register\ndef listed(): wanted()\ndef wanted(): deeper()\ndef deeper(): pass",
    ),
    (
        "all_reached",
        "l0ref/masks/a.py",
        "class A(logging.Handler):\n    def heard(self): pass\n    def __len__(self): pass",
    ),
    ("all_reached", "tests/test_a.py", "def unwanted(): pass"),
    ("no_circles", "l0ref/nn/novelty.py", "from l0ref import ops, streams\nfrom l0ref.nn import Model"),
    ("no_circles", "tests/cases/__init__.py", "from tests.cases import CASES"),
    ("absolute_imports", "l0ref/nn/zoo.py", "from l0ref.nn.layers import Linear"),
    (
        "foreign_packages",
        "l0ref/report/plots.py",
        "import json\nimport matplotlib.pyplot as plt\nfrom tqdm import tqdm",
    ),
    ("foreign_packages", "l0ref/interop/torch.py", "def f():\n    import torch"),
    ("foreign_packages", "l0ref/bench/suites/conv.py", "def f():\n    from torch import nn\n    import scipy, mygrad"),
    ("foreign_packages", "tests/test_a.py", "import torch"),
    ("rooms", "l0ref/fast/chain/a.py", "from l0ref.fast.sparse import grid\nfrom l0ref.fast.chain import gates"),
    ("rooms", "l0ref/fast/__init__.py", "x = 1"),
    ("truth_without_twin", "l0ref/penalty.py", "from l0ref.autodiff.op import compiled\ntwin = compiled('a')"),
    (
        "truth_without_twin",
        "l0ref/fast/conv.py",
        "from numba import njit\nfrom l0ref.fast.machine.policy import kernel",
    ),
    (
        "independent_oracles",
        "tests/naive/linear.py",
        "import math\nimport numpy as np\nfrom tests.naive.shape import f",
    ),
    ("independent_oracles", "tests/test_naive.py", "from l0ref import ops"),
    ("no_hostile_input", "l0ref/archive/npz.py", "from numpy.lib import format\nf(allow_pickle=False)"),
    ("no_hostile_input", "l0ref/data/idx.py", "import json\nre.compile(x)\nmodel.eval()\ncheckpoint.load(path)"),
    ("one_string_messages", "l0ref/masks.py", "try:\n    f()\nexcept E as e:\n    raise ValueError('a' f'{b}') from e"),
    ("one_string_messages", "l0ref/masks.py", "raise self.misfit(shape, 'x')\nraise error\nraise KeyboardInterrupt"),
    ("documented", "l0ref/masks.py", "'''M.'''\ndef keep():\n    '''K.'''\ndef _own(): pass\n@overload\ndef f(): ..."),
    ("short_files", "l0ref/masks.py", "x = 1\n" * 300),
    ("short_files", "tests/test_a.py", "x = 1\n" * 900),
    ("short_core", "l0ref/fast/novelty.py", "x = 1\n" * 9_000),
    ("short_core", "l0ref/ops/novelty.py", "x = 1\n"),
    ("no_private_words", "README.md", "#!/usr/bin/env bash\nhttps://a.b/" + "work/c and x/" + "root/y, a framework"),
    ("dropped_verdicts", "tests/test_a.py", "assert np.array_equal(a, b)\nok = a == b\nraises(E, f)\nx.sort()"),
    ("names_once", "tests/test_a.py", "def test_a(): f()\nclass TestA:\n    def test_a(self): f()"),
    (
        "never_run",
        "tests/test_a.py",
        "@pytest.mark.skipif(x, reason='y')\ndef test_a():\n    if x:\n        pytest.skip('y')",
    ),
    (
        "never_run",
        "tests/test_a.py",
        "@pytest.mark.xfail(strict=True)\ndef test_a(): f()\npytestmark = pytest.mark.slow",
    ),
    ("can_fail", "tests/test_a.py", "def test_a():\n    for x in y:\n        assert x, 'message'"),
    ("can_fail", "tests/test_a.py", "def test_a():\n    with open(p), pytest.raises(E, match='x'):\n        f()"),
    ("can_fail", "tests/test_a.py", "def test_a():\n    pytest.raises(E, f)"),
    ("can_fail", "tests/test_a.py", "def test_a():\n    np.testing.assert_allclose(a, b)"),
    ("can_fail", "tests/test_a.py", "def g(x): assert x\ndef f(x): g(x)\ndef test_a(): f(1)"),
    ("can_fail", "tests/test_a.py", "from l0ref.testing import check_vjp as c\ndef test_a(): c(f)"),
    ("can_fail", "tests/test_a.py", "from l0ref import testing\ndef test_a(): testing.vjp.check_vjp(f)"),
    ("can_fail", "tests/test_a.py", "import l0ref.testing.vjp as t\ndef test_a(): t.check_vjp(f)"),
    ("can_fail", "tests/test_a.py", "class TestA:\n    def same(s): assert s\n    def test_a(self): self.same()"),
    ("can_fail", "tests/helper.py", "def run(): print(1)"),
]


@pytest.mark.parametrize("rule", sorted(ALL_RULES))
def test_repository_keeps_the_rule(rule):
    found = faults(ALL_RULES[rule], FILES)
    if rule == "no_circles":
        assert {sentence.split(":")[0] for sentence in found} >= OPEN_CIRCLES  # shorten the list when one is gone
        found = [sentence for sentence in found if sentence.split(":")[0] not in OPEN_CIRCLES]
    assert found == [], "\n".join(found)


def judged(rule, path, source):
    """What a rule finds in one sample file, judged beside the repository."""
    sample = File(path, source)
    made = {"all_reached": all_reached, "can_fail": can_fail, "no_circles": no_circles, "short_core": short_core}
    beside = [file for file in FILES if rule != "can_fail" or file.inside("l0ref/testing/")]  # the helpers samples name
    return faults(made[rule]([*beside, sample]) if rule in made else RULES[rule], [sample])


@pytest.mark.parametrize(("rule", "path", "source", "said"), PLANTED)
def test_rule_rejects_planted_fault(rule, path, source, said):
    found = judged(rule, path, source)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert said in found[0]


@pytest.mark.parametrize(("rule", "path", "source"), CLEAN)
def test_rule_accepts_clean_sample(rule, path, source):
    assert judged(rule, path, source) == []


def test_every_rule_has_faults_and_clean_samples():
    for table in (PLANTED, CLEAN):
        assert registry_gaps(ALL_RULES, dict.fromkeys(row[0] for row in table)) == []


@pytest.mark.parametrize("rule", ["dropped_verdicts", "no_private_words"])
def test_fault_names_its_line(rule):
    (found,) = faults(RULES[rule], [File("tests/test_a.py", "x = 1\n\nisclose(a, '/" + "tmp/')")])
    assert found.startswith("tests/test_a.py:3: ")


def test_repository_is_read_whole(tmp_path):
    paths = {file.path for file in FILES}
    assert {"README.md", "pyproject.toml", ".ci/run", "l0ref/errors.py", "tests/house.py"} <= paths
    assert not any(path.endswith(".gz") or path.startswith(".venv") for path in paths)
    for name, data in {
        "a.py": b"x = 1\n",
        "b.gz": b"\x1f\0\xff",
        ".venv/c.py": b"",
        "build/d.py": b"",
        ".ci/run": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert repository(tmp_path) == [File(".ci/run", ""), File("a.py", "x = 1\n")]


def test_every_module_has_a_floor_and_no_exception_is_stale():
    modules = {file.module for file in FILES if file.inside("l0ref/")}
    assert modules <= set(FLOORS)
    assert set(FILES_BY_PATH) >= LONG


FILES_BY_PATH = {file.path: file for file in FILES}


def test_reading_states_the_size_of_the_core_path():
    rooms = ", ".join(f"`{room}`" for room in CORE[:-1]) + f" and `{CORE[-1]}`"
    text = " ".join(FILES_BY_PATH["docs/reading.md"].source.split())
    assert f"{rooms}: {CORE_LINES:,} lines at most, which a test counts" in text


# --- the registries equal their tables of cases -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registered", "cases", "gaps"),
    [
        (["Add", "Mul"], ["Mul", "Add", "Add"], []),
        (["Add", "Mul"], ["Add"], ["Mul is registered and has no case"]),
        (["Add"], ["Add", "Sub"], ["Sub has a case and is not registered"]),
        (["Add"], ["add"], ["Add is registered and has no case", "add has a case and is not registered"]),
    ],
)
def test_registry_gaps(registered, cases, gaps):
    assert registry_gaps(registered, cases) == gaps


def own_names(registry):
    """The names the package itself registers: tests may add classes of their own."""
    return [name for name, entry in registry.items() if entry.__module__.startswith("l0ref.")]


def test_ops_equal_their_table_of_cases():
    importlib.import_module("l0ref.ops")  # registers them
    assert "Add" in own_names(OPS)
    assert registry_gaps(own_names(OPS), (case.op for case in CASES)) == []


def test_surrogates_equal_their_table_of_cases():
    assert "Laplace" in own_names(SURROGATES)
    assert registry_gaps(own_names(SURROGATES), oracles_surrogates.CASES) == []


# --- the package's front ----------------------------------------------------------------------------------------------


def python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light():
    assert python("import l0ref, sys; print({'numba', 'numpy', 'matplotlib'} & set(sys.modules))") == "set()"


def test_arithmetic_needs_no_plotting():
    code = "import sys; from l0ref import ops, nn, surrogates, Penalty; print('matplotlib' in sys.modules)"
    assert python(code) == "False"


@pytest.mark.parametrize("name", l0ref.__all__)
def test_public_name_is_loaded_on_first_use(name):
    assert name in dir(l0ref)
    value = getattr(l0ref, name)
    assert getattr(l0ref, name) is value
    assert getattr(value, "__name__", name).split(".")[-1] == name


def test_unknown_name():
    with pytest.raises(AttributeError, match=r"^module 'l0ref' has no attribute 'nonsense'; dir\(l0ref\) lists"):
        _ = l0ref.nonsense


def test_public_list_is_sorted_and_single():
    assert l0ref.__all__ == sorted(set(l0ref.__all__))


def unmentioned(names, text):
    """The names that do not appear in the text as `l0ref.<name>`."""
    return [name for name in names if not re.search(rf"\bl0ref\.{re.escape(name)}\b", text)]


def test_unmentioned_finds_planted_gap():
    assert unmentioned(["fit", "fi", "prune"], "`l0ref.fit(model)` and prune") == ["fi", "prune"]


def test_every_public_name_is_in_the_docs():
    pages = [file.source for file in FILES if file.path == "README.md" or re.fullmatch(r"docs/.*\.md", file.path)]
    assert unmentioned(l0ref.__all__, "\n".join(pages)) == []


# --- the skeleton -----------------------------------------------------------------------------------------------------


def test_change_log_has_the_current_version():
    log = FILES_BY_PATH["CHANGELOG.md"].source
    headings = [line for line in log.splitlines() if line.startswith("## ")]
    assert headings[0] == "## Unreleased" if ".dev" in l0ref.__version__ else l0ref.__version__ in headings[0]
    assert "### Numbers that changed" in log


readme_line = runpy.run_path(str(ROOT / ".ci" / "readme_line.py"))["readme_line"]


@pytest.mark.parametrize(("number", "ends"), [(1, "l0ref compress"), (2, 'pytest -q -n 2 -m "not slow"')])
def test_readme_opens_with_two_complete_lines(number, ends):
    line = readme_line(FILES_BY_PATH["README.md"].source, number)
    assert line.startswith("python3 -m venv .venv && .venv/bin/python -m pip install -q -e ")
    assert line.endswith(f"/{ends}" if number == 1 else ends)


@pytest.mark.parametrize(
    "text", ["", "```sh\na\n```\n", "```sh\na\nb\nc\n```\n", "```python\na\nb\n```\n```sh\na\nb\n```\n"]
)
def test_readme_line_refuses_another_opening(text):
    with pytest.raises(SystemExit, match=r"^README.md does not open with a fenced sh block of two lines$"):
        readme_line(text, 1)


def test_extras_pin_what_is_compared():
    extras = tomllib.loads(FILES_BY_PATH["pyproject.toml"].source)["project"]["optional-dependencies"]
    assert set(extras) == {"test", "crosscheck", "interop", "web", "sweep", "bench", "docs", "lint", "fuzz"}
    torch = {word for needs in extras.values() for word in needs if word.startswith("torch=")}
    assert torch == {"torch==2.13.0"}
