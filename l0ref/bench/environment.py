"""The environment of a measurement: processor, BLAS, threads, versions of all libraries that took part."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import numpy as np

from l0ref.bench.harness import WARM_UP
from l0ref.bench.peers import PEERS
from l0ref.bench.threads import places, variables
from l0ref.bench.work import Plan
from l0ref.environment import environment as report_environment

QUIET = 0.5  # load average up to which the machine counts as idle


def environment(plan: Plan) -> dict[str, Any]:
    """Return the facts needed to judge the measurements of a plan; no names of people or hosts.

    To the environment of a report this adds the packages of the peers, the BLAS with its core type and threads, the
    variables that govern threads, the processors that threads are pinned to (None: they are not), the load (the mean
    number of runnable threads in the last minute), and the plan itself.
    """
    packages = dict.fromkeys(("llvmlite", *(peer.package for peer in PEERS.values())))
    known = report_environment()
    place = places(plan.threads)
    return {
        **known,
        "packages": {**known["packages"], **{name: v for name in packages if (v := _version(name)) is not None}},
        "blas": blas(),
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
        "threads": {name: os.environ.get(name) for name in variables(plan.threads)},
        "pinned": None if place is None else {"main": place[0], "others": place[1]},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "warm_up_s": WARM_UP,
        "plan": plan.to_json(),
    }


def environment_text(found: dict[str, Any]) -> str:
    """Return an environment as lines for people."""
    b, pins = found["blas"], found["pinned"]
    where = "not pinned" if pins is None else f"main thread on {pins['main']}, others on {pins['others']}"
    coretype = found["openblas_coretype"] or "unset"
    lines = {
        "processor": f"{found['processor']}, {found['cores']} cores, {found['platform']}",
        "BLAS": f"{b['name']} {b['version']}, core type {b['core']} (OPENBLAS_CORETYPE {coretype}), "
        f"{b['threads']} thread(s)",
        "threads": f"{found['plan']['threads']}; {where}",
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in {"Python": found["python"], "l0ref": found["l0ref"], **found["packages"]}.items()
        ),
    }
    if (found["load"] or 0.0) > QUIET:
        lines["load"] = f"{found['load']:.1f} in the last minute: other programs are running; times are not reliable"
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


def load_average() -> str:
    """Return the mean number of runnable threads in the last minute; "unknown" if the system does not report it."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


FOLDERS = (
    "numpy.libs",
    "numpy/.dylibs",
)  # folders of OpenBLAS in a wheel of NumPy: beside or inside the package
AFFIXES = (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", ""))  # around the names of its functions


def blas() -> dict[str, Any]:
    """Return name and version of NumPy's BLAS; of OpenBLAS also the core type it chose and its number of threads.

    The core type matters: forced to "Haswell", OpenBLAS leaves AVX-512 unused and takes twice as long for a product.
    Values that cannot be determined are None.
    """
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found: dict[str, Any] = {"name": built.get("name"), "version": built.get("version"), "core": None, "threads": None}
    for library in _libraries():
        found |= _ask(library)
    return found


def _libraries() -> list[Path]:
    root = Path(np.__file__).parents[1]
    return [path for folder in FOLDERS for path in sorted((root / folder).glob("*openblas*"))]


def _ask(path: Path) -> dict[str, Any]:
    """Return the answers of one library, which NumPy has loaded already; no second copy is loaded."""
    library = ctypes.CDLL(str(path))
    for before, after in AFFIXES:
        core = getattr(library, f"{before}openblas_get_corename{after}", None)
        threads = getattr(library, f"{before}openblas_get_num_threads{after}", None)
        if core is not None and threads is not None:
            core.restype = ctypes.c_char_p
            return {"core": core().decode("ascii"), "threads": int(threads())}
    return {}
