"""The processor's vector unit: numbers in a register, and number of registers."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np


def vector_unit() -> tuple[int, int]:
    """Return the bits of a vector register of this processor, and the number of registers."""
    settings: Any = numba.config
    if settings.CPU_NAME:  # NUMBA_CPU_NAME asks for code that also runs elsewhere
        return 128, 16
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this processor
        return 128, 16
    if features.get("avx512f"):
        return 512, 32
    if features.get("neon"):
        return 128, 32
    return (256, 16) if features.get("avx2") else (128, 16)


def gathers_fast() -> bool:
    """Whether the numbers of a vector are gathered by one instruction faster than one by one.

    True of Intel's processors whose AVX-512 has 16-bit floats, Sapphire Rapids and later (measured on one). Earlier
    ones are slowed down by the mitigation of "gather data sampling" [not measured], and on AMD's Zen 4 sixteen single
    loads were faster.
    """
    settings: Any = numba.config
    if settings.CPU_NAME:
        return False
    try:
        name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    except RuntimeError:
        return False
    return bool(features.get("avx512fp16")) and not name.startswith("znver")


def host() -> tuple[str, ...]:
    """Return what kernels are compiled for: the processor, its features, and Numba's settings, threads and version."""
    settings: Any = numba.config
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:
        features = ""
    asked = settings.CPU_NAME, settings.CPU_FEATURES, settings.NUMBA_NUM_THREADS, numba.__version__
    return llvm.get_host_cpu_name(), features, *map(str, asked)


BITS, REGISTERS = vector_unit()
GATHERS = gathers_fast()
COLUMNS = 4  # vectors of a tile in `products.contraction`
ROWS = 4 if REGISTERS == 32 else 2  # its rows: ROWS x COLUMNS sums and the operands of a step fit the registers


def lanes(dtype: Any) -> int:
    """Numbers in a vector."""
    bits: int = 8 * np.dtype(dtype).itemsize
    return BITS // bits
