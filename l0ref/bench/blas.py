"""Which BLAS NumPy multiplies with, asked of the library itself."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

FOLDERS = ("numpy.libs", "numpy/.dylibs")  # where a wheel of NumPy keeps its OpenBLAS, beside or in the package
AFFIXES = (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", ""))  # around the names of its functions


def blas() -> dict[str, Any]:
    """Return name and version of NumPy's BLAS; of OpenBLAS also the core type it chose and its number of threads.

    The core type decides: forced to "Haswell", OpenBLAS leaves AVX-512 unused and takes twice as long for a product.
    What cannot be found out is None.
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
    """The answers of one library; it is loaded already, so no second copy is."""
    library = ctypes.CDLL(str(path))
    for before, after in AFFIXES:
        core = getattr(library, f"{before}openblas_get_corename{after}", None)
        threads = getattr(library, f"{before}openblas_get_num_threads{after}", None)
        if core is not None and threads is not None:
            core.restype = ctypes.c_char_p
            return {"core": core().decode("ascii"), "threads": int(threads())}
    return {}
