"""What every test runs under: one thread per BLAS call, loud arithmetic, no network, seeds from outside.

L0REF_SEED=7        other random numbers for the whole suite
L0REF_NO_SKIPS=1    a skipped test fails; set where every extra is installed
"""

from __future__ import annotations

import os

# Two thread pools at once slow both down; the libraries read these when they are first imported.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("L0REF_TILE_ROWS", "default")  # the same kernels everywhere, and nothing is measured
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kernels of two workers share the cores: who waits must not spin
os.environ.setdefault("MPLBACKEND", "Agg")

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile(
    "l0ref",
    deadline=None,  # the first example may compile a kernel
    derandomize=os.environ.get("CI") == "true",
    max_examples=int(os.environ.get("L0REF_EXAMPLES", "25")),
)
hypothesis.settings.load_profile("l0ref")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that L0REF_SEED changes."""
    return np.random.default_rng(int(os.environ.get("L0REF_SEED", "0")))


def is_local(address: Any) -> bool:
    """Whether a socket address stays on this machine: a loopback address, or a path (a Unix socket)."""
    if not isinstance(address, tuple):
        return True
    host = address[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Everywhere:
    """Fixtures for the tests and, unlike plain ones of this file, for the doctests of the package too."""

    @pytest.fixture(autouse=True)
    def loud_numerics(self) -> Iterator[None]:
        """Division by zero, overflow and invalid operations raise; underflow is harmless."""
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            yield

    @pytest.fixture(autouse=True)
    def no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse every connection that leaves this machine, and the look-up of any other host's name."""
        connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

        def refuse_far(address: Any) -> None:
            if not is_local(address):
                raise PermissionError(f"address={address!r} is not on this machine; serve it on localhost in a test")

        def guarded_connect(self: socket.socket, address: Any) -> None:
            refuse_far(address)
            return connect(self, address)

        def guarded_connect_ex(self: socket.socket, address: Any) -> int:
            refuse_far(address)
            return connect_ex(self, address)

        def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if name is not None:  # None means this machine
                refuse_far((name,))
            return look_up(host, *args, **kwargs)

        monkeypatch.setattr(socket.socket, "connect", guarded_connect)
        monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


class NoSkips:
    """Turn every skip, of a test or of a whole module, into a failure that quotes the reason."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        return self.refuse((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Iterator[None]:
        return self.refuse((yield))

    @staticmethod
    def refuse(report: Any) -> Any:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid} was skipped, and L0REF_NO_SKIPS=1 allows no skip: {reason}"
        return report


COMPILING = tuple(
    f"tests/test_{stem}" for stem in ("fast", "chain", "infinite", "ops.", "sparse", "in_place", "single_sample")
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one worker, and the files that compile most to the same: others would wait for its kernels."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            compiles = file.startswith(COMPILING) and os.environ.get("NUMBA_DISABLE_JIT") != "1"
            return "kernels" if compiles else file

    return Scheduling(config, log) if config.getoption("dist") == "load" else None


def compile_in_turns() -> None:
    """Let workers that need the same kernel compile it one after the other, so that the second reads it from the cache.

    Locks are taken from a kernel to those it calls, and inside of Numba's own lock: nobody waits in a circle.
    """
    try:
        import fcntl
    except ImportError:  # another system compiles twice
        return
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    compile_at_once, held = Dispatcher.compile, set()

    def compile_in_turn(self: Any, signature: Any) -> Any:
        index = getattr(getattr(self._cache, "_cache_file", None), "_index_path", None)
        if index is None or index in held:
            return compile_at_once(self, signature)
        os.makedirs(os.path.dirname(index), exist_ok=True)
        with global_compiler_lock, open(f"{index}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held.add(index)
            try:
                return compile_at_once(self, signature)
            finally:
                held.remove(index)

    Dispatcher.compile = compile_in_turn


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Everywhere())
    if "PYTEST_XDIST_WORKER" in os.environ and os.environ.get("NUMBA_DISABLE_JIT") != "1":
        compile_in_turns()
    if os.environ.get("L0REF_NO_SKIPS") == "1":
        config.pluginmanager.register(NoSkips())
