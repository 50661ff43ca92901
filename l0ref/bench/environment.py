"""Where a measurement came from: processor, BLAS, threads, versions of everything that took part."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from l0ref.bench.blas import blas
from l0ref.bench.harness import WARM_UP
from l0ref.bench.peers import PEERS
from l0ref.bench.plan import Plan
from l0ref.bench.threads import places, variables
from l0ref.report import environment as report_environment

QUIET = 0.5  # load below which the machine counts as our own


def environment(plan: Plan) -> dict[str, Any]:
    """Return what is needed to judge the measurements of a plan; no names of people or hosts.

    To that of a report it adds: packages of the peers, the BLAS with its core type and threads, the variables that
    govern threads, where threads are pinned (None: they are not), the load, which is how many threads wanted to run
    in the minute before, and the plan itself.
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
        lines["load"] = f"{found['load']:.1f} in the last minute: other programs are at work, trust no time below"
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
