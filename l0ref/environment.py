"""The environment of a result: versions, machine, libraries and threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import numpy as np

from l0ref.version import __version__

PACKAGES = ("numpy", "numba", "matplotlib", "tqdm")
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_CORETYPE")


def environment() -> dict[str, Any]:
    """Return the facts that decide whether a number can be expected to repeat; no names of people or hosts."""
    return {
        "l0ref": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "blas": np.show_config(mode="dicts")["Build Dependencies"]["blas"].get("name", "unknown"),
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
    }


def _processor() -> str:
    """The processor's name as the operating system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor()
