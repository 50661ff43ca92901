"""Check an adapter against the vectors: call its functions, compare in ulp, keep the worst entry."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l0ref.errors import ConfigError
from l0ref.validate import Array, choose, positive
from l0ref.vectors import files
from l0ref.vectors.adapter import function_of, strangers
from l0ref.vectors.files import Case, Expected, VectorSet
from l0ref.vectors.results import Deviation, Report, SetResult


def run(
    adapter: Any,
    *,
    sets: Sequence[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    slack: float = 1.0,
) -> Report:
    """Return the results of the functions of `adapter` on the vectors.

    sets    names of the sets to run; all by default
    folder  of the files; that of the package by default
    slack   factor on every tolerance that is not 0, such as 1e9 for an implementation in float32

    An adapter without any of the functions is refused with a ConfigError.
    """
    known = files.names(folder)
    chosen = [choose("sets", name, known) for name in (known if sets is None else sets)]
    factor = positive("slack", slack)
    unknown = strangers(adapter, known)
    if not any(function_of(adapter, name) for name in chosen):
        near = [f"{name} (did you mean {m[0]}?)" for name in unknown if (m := difflib.get_close_matches(name, known))]
        hint = f"; it has {', '.join(near)}" if near else ""
        raise ConfigError(
            f"adapter={adapter!r} has none of the functions asked for{hint}; l0ref vectors list names them"
        )
    return Report(tuple(run_set(adapter, files.load(name, folder), slack=factor) for name in chosen), unknown)


def run_set(adapter: Any, vectors: VectorSet, *, slack: float = 1.0) -> SetResult:
    """Return the result of the adapter on one set."""
    function = function_of(adapter, vectors.name)
    limit = vectors.tolerance * slack
    if function is None:
        return SetResult(vectors.name, 0, 0, len(vectors.cases), limit)
    found: list[Deviation] = []
    given: set[str] = set()
    wanted: set[str] = set()
    for case in vectors.cases:
        try:
            result = _outputs(function(**case.arguments()), vectors)
        except NotImplementedError:
            continue
        except Exception as error:  # the function is user code
            found.append(Deviation(math.inf, case.id, reason=f"raised {type(error).__name__}: {error}"))
            continue
        wanted |= {e.path[0] for e in case.expected}
        if isinstance(result, dict):
            given |= set(result)
        found.append(_judge(case, result))
    failures = tuple(d for d in found if not d.ulp <= limit)
    return SetResult(
        vectors.name,
        passed=len(found) - len(failures),
        failed=len(failures),
        absent=len(vectors.cases) - len(found),
        tolerance=limit,
        without=tuple(name for name in vectors.outputs if name in wanted - given),
        worst=max(found, key=lambda d: d.ulp, default=None),
        failures=failures,
    )


def ulps(got: Array, expected: Array, unit: Array) -> Array:
    """|got - expected| / unit, entry by entry: 0 where they are equal, inf where `got` is NaN or infinite."""
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64) - expected.astype(np.float64)) / unit
    return np.where(np.isfinite(got), error, np.inf)


def _outputs(result: Any, vectors: VectorSet) -> dict[str, Any] | str:
    """Return the outputs by name, without those that are None, or a sentence that rejects the result."""
    if not isinstance(result, Mapping) or (len(vectors.outputs) == 1 and not set(result) & set(vectors.outputs)):
        if len(vectors.outputs) > 1:
            return f"returned {type(result).__name__}, expected a dict of {', '.join(vectors.outputs)}"
        result = {vectors.outputs[0]: result}
    if unknown := [name for name in result if name not in vectors.outputs]:
        return f"returned the unknown output {unknown[0]!r}, expected {', '.join(vectors.outputs)}"
    given = {name: item for name, item in result.items() if item is not None}
    return given or f"returned none of {', '.join(vectors.outputs)}"


def _judge(case: Case, result: dict[str, Any] | str) -> Deviation:
    """Return the largest deviation of one case."""
    if isinstance(result, str):
        return Deviation(math.inf, case.id, reason=result)
    found = [_compare(case, e, result[e.path[0]]) for e in case.expected if e.path[0] in result]
    extra = _extra(case, result)
    return max([*found, *extra], key=lambda d: d.ulp, default=Deviation(0.0, case.id))


def _extra(case: Case, result: dict[str, Any]) -> list[Deviation]:
    """Report unexpected arrays, such as the mask of a layer that does not exist."""
    asked = {e.path for e in case.expected}
    return [
        Deviation(math.inf, case.id, _place((name, str(key))), reason="was not asked for")
        for name, item in result.items()
        if isinstance(item, Mapping)
        for key in item
        if (name, key) not in asked
    ]


def _compare(case: Case, expected: Expected, item: Any) -> Deviation:
    place = _place(expected.path)
    for key in expected.path[1:]:
        if not isinstance(item, Mapping) or key not in item:
            return Deviation(math.inf, case.id, place, reason="is missing")
        item = item[key]
    try:
        got = np.asarray(item)
    except Exception as error:  # a tensor on another device, a ragged list
        return Deviation(math.inf, case.id, place, reason=f"is not an array: {type(error).__name__}: {error}")
    if got.dtype.kind not in "biuf":
        return Deviation(math.inf, case.id, place, reason=f"has dtype {got.dtype}, expected {expected.value.dtype}")
    if got.shape != expected.value.shape:
        return Deviation(math.inf, case.id, place, reason=f"has shape {got.shape}, expected {expected.value.shape}")
    if not got.size:
        return Deviation(0.0, case.id, place)
    if expected.value.dtype == np.float64:
        off = ulps(got, expected.value, expected.unit)
    else:
        off = np.where(got == expected.value, 0.0, np.inf)
    at = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
    index = f"[{', '.join(map(str, at))}]" if at else ""
    return Deviation(float(off[at]), case.id, place + index, float(got[at]), float(expected.value[at]))


def _place(path: tuple[str, ...]) -> str:
    return path[0] + "".join(f"[{key!r}]" for key in path[1:])
