"""`gradcheck`: the gradient of a function of Tensors, against differences of its value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np

from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import GradientError, ShapeError
from l0ref.testing.engine import check
from l0ref.testing.problem import Arrays, Hints, Problem, quote
from l0ref.testing.settings import Options, Settings
from l0ref.testing.verdict import GradcheckReport
from l0ref.validate import Array, float_array, same_dtype


def gradcheck(
    func: Callable[..., Tensor],
    inputs: Any,
    **options: Unpack[Options],
) -> GradcheckReport:
    """Check the gradient of `func`, a function of Tensors that returns one Tensor; argument names are PyTorch's.

    func     called with one Tensor per input; must give the same result every time
    inputs   Tensor or array, or a sequence of them, float64 or float32
    options  eps, atol, rtol, fast_mode, nondet_tol, kinks, seed, max_entries, raise_exception: see
             `l0ref.testing.settings.Settings`

    float32 inputs are checked against differences of `func` in float64; a `func` that cannot compute in float64
    is refused unless `eps` is given. A check that would prove nothing is refused with GradientError.

    >>> import numpy as np
    >>> from l0ref import ops
    >>> print(gradcheck(lambda x: ops.relu(x), np.array([1.5, 0.0])))
    gradcheck of <lambda>: the gradient is right (2 entries checked, 0 skipped, 1 at kinks; full, rtol 1e-08, seed 0)
      x[1]: analytic 0, numeric ..., left 0, right ..., ...: a kink; the value is an accepted one
      ...
    """
    settings = Settings.of(**options)
    names, arrays = _inputs(func, inputs)
    return check(function_problem(func, names, arrays, eps=settings.eps), settings)


def function_problem(
    func: Callable[..., Tensor], names: tuple[str, ...], arrays: Sequence[Array], *, eps: float | None = None
) -> Problem:
    """Return the problem of checking `func` at `arrays`, float32 or float64."""
    dtype = same_dtype(**dict(zip(names, arrays, strict=True)))

    def value(xs: Arrays) -> Array:
        return _evaluate(func, xs)[1].data

    def gradient(xs: Arrays, y_bar: Array) -> list[Array]:
        return interrupted(xs, None, y_bar)

    def interrupted(xs: Arrays, others: Arrays | None, y_bar: Array) -> list[Array]:
        tensors, y = _evaluate(func, [x.astype(dtype) for x in xs])
        for name, t in zip(names, tensors, strict=True):
            if not _reaches(y, t):
                raise GradientError(f"{name} does not enter the result of {_name(func)}; use it, or remove the input")
        if others is not None:
            _evaluate(func, [x.astype(dtype) for x in others])
        seed = y_bar.reshape(y.shape).astype(y.dtype)
        *found, used = quote(f"the backward pass of {_name(func)}", lambda: grad(y, [*tensors, y], y_bar=seed))
        _hand_back([*xs, y_bar.reshape(y.shape)], [*(t.data for t in tensors), used])
        return list(found)

    point = tuple(x.astype(np.float64) for x in arrays)
    if dtype == np.float32 and eps is not None:
        point = tuple(arrays)
    elif dtype == np.float32:
        _check_double(func, point)
    sizes = {"size of the first axis": arrays[0].shape[0]} if arrays[0].ndim else {}
    return Problem(
        _name(func), names, point, value, gradient, dtype, interrupted=interrupted, hints=Hints(sizes=sizes)
    )  # fmt: skip


def _hand_back(given: Sequence[Array], after: Sequence[Array]) -> None:
    """Copy the changes that a backward pass made in converted arrays into the arrays they were converted from."""
    for a, b in zip(given, after, strict=True):
        if not np.array_equal(a.astype(b.dtype), b, equal_nan=True):
            a[...] = b


def _inputs(func: Callable[..., Any], inputs: Any) -> tuple[tuple[str, ...], list[Array]]:
    several = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if not several:
        raise GradientError("inputs is empty: there is nothing to differentiate with respect to; pass some arrays")
    names = _parameter_names(func, len(several))
    arrays = [x.data if isinstance(x, Tensor) else float_array(f"inputs[{i}]", x) for i, x in enumerate(several)]
    for i, x in enumerate(arrays):
        if not np.isfinite(x).all():
            raise GradientError(f"inputs[{i}] holds NaN or infinite entries; choose finite inputs")
    return names, [x.copy() for x in arrays]


def _parameter_names(func: Callable[..., Any], n: int) -> tuple[str, ...]:
    """The names `func` has for its first n arguments, or inputs[0], inputs[1], ..."""
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(named[:n]) if len(named) >= n else tuple(f"inputs[{i}]" for i in range(n))


def _evaluate(func: Callable[..., Any], xs: Arrays) -> tuple[list[Tensor], Tensor]:
    tensors = [Tensor(x) for x in xs]
    y = quote(_name(func), func, *tensors)
    if not isinstance(y, Tensor):
        what = f"{_name(func)} returned {type(y).__name__}"
        raise GradientError(f"{what}, expected one Tensor; compute it with l0ref.ops, and concatenate several")
    if y.size == 0:
        raise ShapeError(
            f"{_name(func)} returned an empty Tensor of shape {y.shape}; there is nothing to differentiate"
        )
    return tensors, y


def _check_double(func: Callable[..., Any], point: Arrays) -> None:
    """Refuse float32 inputs if `func` cannot be evaluated in float64."""
    remedy = "pass float64 inputs, or eps= (about 1e-3) to take differences in float32"
    try:
        y = _evaluate(func, [x.copy() for x in point])[1]
    except GradientError as error:
        raise GradientError(
            f"inputs are float32, and {_name(func)} does not run in float64, where differences are taken: {error}; "
            f"{remedy}"
        ) from error
    if y.dtype != np.float64:
        raise GradientError(f"{_name(func)} returns {y.dtype} for float64 inputs, too rough for differences; {remedy}")


def _name(func: Callable[..., Any]) -> str:
    return str(getattr(func, "__name__", type(func).__name__))


def _reaches(y: Tensor, t: Tensor) -> bool:
    """Whether y was computed from t."""
    seen, stack = {y}, [y]
    while stack:
        found = [p for p in stack.pop().parents if p not in seen]
        seen.update(found)
        stack += found
    return t in seen
