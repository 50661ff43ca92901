"""`check_gradient`: a pair of plain callables, value and gradient, written in any framework."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from l0ref.errors import ArgumentError, DTypeError, GradientError, ShapeError
from l0ref.testing.engine import check
from l0ref.testing.problem import Arrays, Hints, Problem, quote
from l0ref.testing.settings import Options, Settings
from l0ref.testing.verdict import GradcheckReport
from l0ref.validate import Array, flag, float_array, same_dtype


def check_gradient(
    value: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    x: Any,
    *,
    elementwise: bool = False,
    scales: Mapping[str, float] | None = None,
    **options: Unpack[Options],
) -> GradcheckReport:
    """Check that `gradient` is the gradient of `value`: two plain callables, in NumPy, PyTorch, JAX or C.

    value        called with float64 arrays shaped like x; returns a number, or with `elementwise` an array like x
    gradient     called with x; returns arrays like x
    x            an array, or a list or dict of arrays; the callables get the same structure
    elementwise  entry i of the value depends on entry i of x alone, as in a surrogate. All entries then move at
                 once, so that a thousand cost as much as one; that the others do not move is not checked
    scales       {name: number}: factors that a faulty gradient may lack, such as {"beta": 5.0}; only for the diagnosis

    The options are those of `gradcheck`. Where `value` takes complex numbers and is analytic, the slope
    comes from a complex step, exact to the last digits. For a float32 x, `value` is evaluated in float64, unless
    `eps` is given.

    >>> import numpy as np
    >>> w = np.array([0.5, -0.25, 2.0])
    >>> report = check_gradient(lambda w: float(np.sum(w**2)), lambda w: w, w, raise_exception=False)
    >>> report.passed, report.parameters[0].diagnosis
    (False, 'looks like a factor 2 too small: a forgotten or superfluous 1/2, or a part counted twice')
    """
    settings = Settings.of(**options)
    problem = pair_problem(value, gradient, x, elementwise=elementwise, scales=scales, eps=settings.eps)
    return check(problem, settings)


def pair_problem(
    value: Callable[[Any], Any],
    gradient: Callable[[Any], Any],
    x: Any,
    *,
    elementwise: bool = False,
    scales: Mapping[str, float] | None = None,
    eps: float | None = None,
    target: str | None = None,
) -> Problem:
    """Return the problem of checking a pair of callables; see `check_gradient`."""
    for name, f in (("value", value), ("gradient", gradient)):
        if not callable(f):
            raise ArgumentError(f"{name} is {type(f).__name__}, expected a callable; pass the function, not its result")
    names, arrays, pack, unpack = _layout(x)
    if flag("elementwise", elementwise) and len(arrays) != 1:
        raise ArgumentError("elementwise=True needs one array x; check several arrays one after another")
    dtype = same_dtype(**dict(zip(names, arrays, strict=True)))
    double = dtype == np.float64 or eps is None

    def run(xs: Arrays) -> Array:
        y = _number(quote("value", value, pack(xs)), shape=xs[0].shape if elementwise else ())
        if double and y.dtype != np.float64:
            raise GradientError(
                f"value returned {y.dtype} for float64 arrays, too rough for differences; compute in float64 "
                "(in JAX: jax_enable_x64), or pass float32 arrays and eps= (about 1e-3)"
            )
        return y

    def slope(xs: Arrays, _: Array) -> list[Array]:
        given = [np.asarray(a, dtype=dtype) for a in xs]
        found = unpack(quote("gradient", gradient, pack(given)))
        for a, b in zip(xs, given, strict=True):
            np.copyto(a, b)  # so that writing into the inputs is noticed
        return found

    def complex_run(xs: Arrays) -> Any:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return np.asarray(value(pack(xs)))
        except Exception:
            return None

    return Problem(
        target=target or str(getattr(value, "__name__", type(value).__name__)),
        names=names,
        point=tuple(a.astype(np.float64) if double else a for a in arrays),
        value=run,
        gradient=slope,
        dtype=dtype,
        cotangent=False,
        elementwise=elementwise,
        complex_value=complex_run if double else None,
        hints=Hints(scales=dict(scales or {}), sizes=_sizes(arrays)),
    )


Pack = Callable[[Arrays], Any]
Parts = Callable[[Any], list[Any]]


def _layout(x: Any) -> tuple[tuple[str, ...], list[Array], Pack, Parts]:
    """Names and copies of the arrays in x, a function that packs arrays like x, and one that unpacks a gradient."""
    if isinstance(x, Mapping):
        keys = tuple(x)
        names = tuple(str(k) for k in keys)
        arrays = _arrays(names, list(x.values()))
        return names, arrays, lambda xs: dict(zip(keys, xs, strict=True)), lambda g: _from_mapping(g, keys)
    if isinstance(x, list | tuple):
        if any(isinstance(v, int | float) for v in x):
            raise ArgumentError("x is a list of numbers; make it an array, np.array(x), or a list of arrays")
        names = tuple(f"x[{i}]" for i in range(len(x)))
        return names, _arrays(names, x), list, lambda g: _from_sequence(g, len(names))
    return ("x",), _arrays(("x",), [x]), lambda xs: xs[0], lambda g: [_array("gradient", g)]


def _arrays(names: Sequence[str], values: Sequence[Any]) -> list[Array]:
    if not values:
        raise GradientError("x is empty: there is nothing to differentiate with respect to; pass some arrays")
    arrays = [float_array(name, v).copy() for name, v in zip(names, values, strict=True)]
    for name, a in zip(names, arrays, strict=True):
        if not np.isfinite(a).all():
            raise GradientError(f"{name} holds NaN or infinite entries; choose finite inputs")
    return arrays


def _array(what: str, g: Any) -> Array:
    """The return value of a callable as an array; a list, None or text is refused."""
    if isinstance(g, list | tuple | str | bytes | Mapping) or g is None:
        raise GradientError(f"{what} returned {_a(g)}, expected an array like x; return np.asarray(...) of it")
    try:
        a = np.asarray(g)
    except Exception as error:  # a PyTorch tensor that is still on its tape, for one
        why = f"{type(error).__name__}: {error}"
        raise GradientError(f"{what} returned {_a(g)} that NumPy cannot read ({why}); return plain numbers") from error
    if a.dtype.kind in "OSUV":
        raise GradientError(
            f"{what} returned {_a(g)} of type {a.dtype}, expected float numbers; return an array of them"
        )
    if a.dtype.kind == "c":
        raise GradientError(f"{what} returned complex numbers for real ones; return the real part, or correct it")
    return a


def _number(y: Any, *, shape: tuple[int, ...]) -> Array:
    """The return value of `value` as an array of the expected shape."""
    a = _array("value", y)
    if a.dtype.kind != "f":
        raise DTypeError(f"value returned {a.dtype} numbers, expected float; a function of whole numbers has no slope")
    if shape == () and a.size == 1:
        return a.reshape(())
    if a.shape != shape:
        want = f"an array of shape {shape}, that of x" if shape else "one number"
        hint = "" if shape else "; sum it, or pass elementwise=True if each entry depends on its own alone"
        raise ShapeError(f"value returned shape {a.shape}, expected {want}{hint}")
    return a


def _from_mapping(g: Any, keys: tuple[Any, ...]) -> list[Any]:
    if not isinstance(g, Mapping):
        raise GradientError(f"gradient returned {_a(g)}, expected a dict like x, with an array for each key")
    if missing := [k for k in keys if k not in g]:
        raise GradientError(f"gradient returned no {missing[0]!r}; return an array for each key of x")
    return [_array(f"gradient[{k!r}]", g[k]) for k in keys]


def _from_sequence(g: Any, n: int) -> list[Any]:
    if not isinstance(g, list | tuple) or len(g) != n:
        got = f"{len(g)} entries" if isinstance(g, list | tuple) else _a(g)
        raise GradientError(f"gradient returned {got}, expected a list of {n} arrays, one for each in x")
    return [_array(f"gradient[{i}]", v) for i, v in enumerate(g)]


def _a(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _sizes(arrays: Sequence[Array]) -> dict[str, int]:
    return {"number of entries": arrays[0].size} if len(arrays) == 1 else {}
