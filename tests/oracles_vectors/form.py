"""The JSON form of the vectors: numbers as exact hexadecimal beside decimal, one case to a line, keys sorted."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.oracles_vectors.number import Num, nearest

FORMAT, VERSION = "l0ref-vectors", 1
SMALLEST = 2.0**-1022
Case = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # id, inputs, outputs


def draw(seed: int, *shape: int, low: float = -2.0, high: float = 2.0) -> Any:
    """Float64 numbers with full mantissas from Python's own generator, whose stream no version changes."""
    rng = random.Random(seed)
    n = math.prod(shape)
    return np.array([low + (high - low) * rng.random() for _ in range(n)]).reshape(shape)


def whole(seed: int, *shape: int, below: int) -> Any:
    """Whole numbers in [0, below)."""
    rng = random.Random(seed)
    return np.array([int(rng.random() * below) for _ in range(math.prod(shape))], np.int64).reshape(shape)


def vector_set(
    name: str, about: str, *, arguments: list[str], outputs: list[str], tolerance: int, cases: list[Case]
) -> bytes:
    """The text of one set; checks what a slip of the pen would break."""
    ids = [case[0] for case in cases]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{name} has an id twice: {sorted(ids)}")
    for label, inputs, results in cases:
        if sorted(inputs) != sorted(arguments) or sorted(results) != sorted(outputs):
            raise ValueError(f"{name}, {label}: {sorted(inputs)} -> {sorted(results)}")
    head = {
        "about": about, "arguments": arguments, "format": FORMAT, "outputs": outputs, "set": name,
        "tolerance": tolerance, "version": VERSION,
    }  # fmt: skip
    lines = [line({"id": i, "inputs": encoded(a), "outputs": encoded(b)}) for i, a, b in cases]
    text = line(head)[:-1] + ',"cases":[\n' + ",\n".join(lines) + "\n]}\n"
    return text.encode("ascii")


def line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encoded(value: Any) -> Any:
    """One input or output, or a dictionary of them."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {key: encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    if isinstance(value, float | Num):
        array = encoded_array(np.array(value, object))
        short = {key: array[key][0] for key in ("decimal", "hex", "magnitude") if key in array}
        return short
    return encoded_array(value)


def encoded_array(array: Any) -> dict[str, Any]:
    shape = [int(n) for n in array.shape]
    entries = array.ravel().tolist()
    if array.dtype.kind in "ib":
        return {"dtype": "bool" if array.dtype.kind == "b" else "int64", "shape": shape, "values": entries}
    numbers = [nearest(e.value) if isinstance(e, Num) else float(e) for e in entries]
    if not all(x == 0 or SMALLEST <= abs(x) < math.inf for x in numbers):
        raise ValueError("a vector holds finite numbers only, and none in the range of gradual underflow")
    numbers = [x + 0.0 for x in numbers] if array.dtype == object else numbers  # no result is -0.0
    form = {"decimal": numbers, "dtype": "float64", "hex": [x.hex() for x in numbers], "shape": shape}
    sizes = [e.size for e in entries if isinstance(e, Num)]
    if any(size > abs(e.value) for size, e in zip(sizes, entries, strict=False)):
        form["magnitude"] = [upward(max(e.size, abs(e.value))) for e in entries]
    return form


def upward(x: Any) -> float:
    """Three digits, not below x: how small an error counts needs no more."""
    return float(f"{nearest(x) * 1.005:.2e}")
