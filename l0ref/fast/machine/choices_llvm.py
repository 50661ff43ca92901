"""The words of `machine.lanes` that choose between numbers lane by lane, for Numba's compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from l0ref.fast.machine.lanes_llvm import Lanes, Values, _everywhere, _parts, _tuple, word


@word
def number(_context: Any, x: Any, _i: Any) -> tuple[Any, Callable[..., Any]]:
    """A cast, and one number spread over the lanes."""
    kind = Lanes(x.dtype)

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        return _tuple(builder, [_everywhere(builder, args[1], kind)])

    return types.UniTuple(kind, 1)(x, x.dtype), code


@word
def larger(_context: Any, a: Any, v: Any) -> tuple[Any, Callable[..., Any]]:
    """Two comparisons and two choices."""

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        old, new = _parts(builder, args[0], 2), _parts(builder, args[1], 2)
        is_nan = builder.fcmp_unordered("uno", new[0], new[0])
        wins = builder.or_(builder.fcmp_ordered(">", new[0], old[0]), is_nan)
        return _tuple(builder, [builder.select(wins, y, x) for x, y in zip(old, new, strict=True)])

    return a(a, v), code


@word
def where_equal(_context: Any, v: Any, k: Any, u: Any) -> tuple[Any, Callable[..., Any]]:
    """A comparison and a choice."""
    kind = v.dtype

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        (x,), (mine,), (asked,) = (_parts(builder, value, 1) for value in args)
        return _tuple(builder, [builder.select(builder.fcmp_ordered("==", mine, asked), x, kind.ir(None))])

    return v(v, k, u), code
