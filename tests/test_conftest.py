"""The guards of conftest.py, each seen to strike."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "fault",
    [
        lambda: np.ones(1) / np.zeros(1),
        lambda: np.exp(np.full(1, 1e9)),
        lambda: np.sqrt(np.full(1, -1.0)),
        lambda: np.full(1, np.inf) - np.inf,
    ],
)
def test_loud_numerics_raise(fault):
    with pytest.raises(FloatingPointError, match="encountered in"):
        fault()


def test_underflow_is_quiet():
    assert np.exp(np.full(1, -1e9)) == 0.0


@given(x=st.floats(1.0, 2.0))
def test_loud_numerics_reach_hypothesis(x):
    with pytest.raises(FloatingPointError, match="divide by zero"):
        np.array([x]) / np.zeros(1)


def test_hypothesis_profile():
    assert settings().deadline is None
    assert settings().derandomize == (os.environ.get("CI") == "true")


def test_rng_follows_the_seed(rng):
    seed = int(os.environ.get("L0REF_SEED", "0"))
    assert rng.integers(2**31) == np.random.default_rng(seed).integers(2**31)


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0), ("example.invalid", 80)])
@pytest.mark.parametrize("call", ["connect", "connect_ex"])
def test_far_address_is_refused(address, call):
    family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    with socket.socket(family) as far, pytest.raises(PermissionError, match=r"^address=.* is not on this machine"):
        getattr(far, call)(address)


@pytest.mark.parametrize("host", ["example.invalid", b"example.invalid"])
def test_far_name_is_not_looked_up(host):
    with pytest.raises(PermissionError, match=r"^address=\('example.invalid',\) is not on this machine"):
        socket.getaddrinfo(host, 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_local_server_is_reached(host):
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection((host, server.getsockname()[1]), timeout=5) as near:
        assert near.getpeername() == server.getsockname()


SKIPS = {
    "in_the_test": "def test_a():\n    pytest.skip('no reason')\n",
    "by_a_mark": "@pytest.mark.skipif(True, reason='no reason')\ndef test_a(): pass\n",
    "in_a_fixture": "@pytest.fixture\ndef f(): pytest.skip('no reason')\ndef test_a(f): pass\n",
    "of_the_module": "pytest.skip('no reason', allow_module_level=True)\n",
    "by_a_missing_package": "pytest.importorskip('no_such_package', reason='no reason')\n",
}
XFAIL = "@pytest.mark.xfail(reason='known')\ndef test_a(): assert 0\ndef test_b(): pass\n"
DOCTEST_SKIPPED = "def f():\n    '''\n    >>> 1 + 1  # doctest: +SKIP\n    no reason\n    '''\n"
DOCTEST_LOUD = "import numpy as np\ndef f():\n    '''\n    >>> np.ones(1) / 0\n    array([inf])\n    '''\n"


def run_pytest(folder, *, tests, package=None, workers="0", **environment):
    """Lay out a small project with this conftest.py in it and return what pytest says there."""
    for where, files in {"tests": tests, "package": package or {}}.items():
        (folder / where).mkdir()
        for name, source in files.items():
            (folder / where / f"{name}.py").write_text(source, encoding="utf-8")
    (folder / "tests" / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = tests package\n", encoding="utf-8")
    options = ["-q", "-rA", "--doctest-modules", "--continue-on-collection-errors", "-n", workers]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "L0REF"))}
    environment = {**inherited, **environment}
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.slow), "1"])
def test_every_kind_of_skip_becomes_a_failure(tmp_path, workers):
    tests = {f"test_{kind}": f"import pytest\n{source}" for kind, source in SKIPS.items()}
    package = {"skipped": DOCTEST_SKIPPED}
    code, said = run_pytest(tmp_path, tests=tests, package=package, workers=workers, L0REF_NO_SKIPS="1")
    assert code == 1, said
    assert " skipped" not in said.splitlines()[-1]
    for name in [*tests, "skipped"]:
        assert any(f"{name}.py" in line and "allows no skip" in line for line in said.splitlines()), (name, said)


def test_skip_is_allowed_by_default(tmp_path):
    code, said = run_pytest(tmp_path, tests={f"test_{k}": f"import pytest\n{v}" for k, v in SKIPS.items()})
    assert code == 0, said
    assert said.splitlines()[-1].startswith("7 skipped in"), said  # two modules count twice: tests and doctests


def test_expected_failure_is_no_skip(tmp_path):
    code, said = run_pytest(tmp_path, tests={"test_a": f"import pytest\n{XFAIL}"}, L0REF_NO_SKIPS="1")
    assert code == 0, said
    assert "1 passed, 1 xfailed" in said


def test_loud_numerics_reach_the_doctests(tmp_path):
    code, said = run_pytest(tmp_path, tests={}, package={"loud": DOCTEST_LOUD})
    assert code == 1, said
    assert "FloatingPointError" in said


SHARED = """
from numba import njit

@njit(cache=True)
def inner(x):
    return x + 1.0

@njit(cache=True)
def kernel(x):
    return inner(x) * 2.0
"""
MEET = """
import os
import time
from pathlib import Path

import pytest
import shared

def test_both_start_at_once():
    Path(__file__).with_suffix(".here").touch()
    for _ in range(3000):
        if len(list(Path(__file__).parent.glob("*.here"))) == 2:
            break
        time.sleep(0.01)
    assert shared.kernel(1.0) == 4.0

@pytest.mark.parametrize("again", range(4))
def test_report(again):
    for function in (shared.inner, shared.kernel):
        misses = sum(function.stats.cache_misses.values())
        print("said:", Path(__file__).stem, os.environ["PYTEST_XDIST_WORKER"], function.__name__, misses)
"""


@pytest.mark.slow
def test_a_file_has_one_worker_and_a_kernel_is_compiled_once(tmp_path):
    tests = {"shared": SHARED, "test_a": MEET, "test_b": MEET}
    cache = str(tmp_path / "cache")
    code, said = run_pytest(tmp_path, tests=tests, workers="2", NUMBA_CACHE_DIR=cache, NUMBA_DISABLE_JIT="0")
    assert code == 0, said
    reports = {tuple(line.split()[1:]) for line in said.splitlines() if line.startswith("said:")}
    assert len({worker for _, worker, _, _ in reports}) == 2
    assert len({(file, worker) for file, worker, _, _ in reports}) == 2
    for name in ("inner", "kernel"):
        assert sum(int(misses) for _, _, function, misses in reports if function == name) == 1, said
