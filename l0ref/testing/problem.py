"""A gradient to check, in one form for tensors, plain callables and networks; and the calls of user code.

User code gets fresh copies of the arrays, so that it cannot damage the check. Its printed output is kept, writes into
its inputs are detected, and its exceptions are quoted.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0ref.errors import GradientError, L0RefError
from l0ref.testing.differences import OutOfDomain
from l0ref.validate import Array

Arrays = Sequence[Array]
COTANGENT = "cotangent"


@dataclass(frozen=True, eq=False)
class Hints:
    """Facts that help to name the fault of a wrong gradient; none of them decides whether it is wrong.

    masks   {parameter: bool array}, True keeps: the gradient must be exactly 0 elsewhere
    scales  {name: number}: factors that may have been forgotten or applied twice, such as beta
    sizes   {name: whole number}: numbers of terms of a mean or sum, such as the batch size
    terms   {name: {parameter: array}}: parts of the gradient that may be missing or counted twice
    """

    masks: Mapping[str, Array] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    terms: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Problem:
    """A function, its gradient, and the point where they are compared.

    target       name for the report
    names        names of the inputs
    point        the inputs, in the type in which the value is computed
    value        arrays -> array y of any shape, the same at every call
    gradient     (arrays, y_bar) -> one array per input: J^T y_bar
    dtype        type of the gradient under test
    cotangent    True: draw a random y_bar; False: y_bar is 1
    elementwise  y has the shape of the only input, and entry i of y depends on entry i of the input only
    complex_value   the value for complex arrays, for the complex step; None if there is none
    interrupted     (arrays, others, y_bar) -> the result of `gradient` if the value is evaluated at the others between
                    the forward and the backward pass; None if `gradient` is a single call
    """

    target: str
    names: tuple[str, ...]
    point: tuple[Array, ...]
    value: Callable[[Arrays], Array]
    gradient: Callable[[Arrays, Array], list[Any]]
    dtype: np.dtype[Any]
    cotangent: bool = True
    elementwise: bool = False
    complex_value: Callable[[Arrays], Any] | None = None
    interrupted: Callable[[Arrays, Arrays, Array], list[Any]] | None = None
    hints: Hints = field(default_factory=Hints)


class Calls:
    """Calls the functions of a problem and records what they print and which inputs they overwrite."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.printed: dict[str, tuple[str, int]] = {}
        self.written: dict[str, str] = {}
        self.shape: tuple[int, ...] = ()  # of the last value

    def value(self, xs: Arrays) -> Array:
        """The value, flat."""
        y: Array = self._call("value", self.problem.value, xs)
        self.shape = y.shape
        return y.reshape(-1).copy()

    def value_near(self, xs: Arrays) -> Array:
        """The value near the point of the check; raises OutOfDomain if the code raises there."""
        try:
            return self.value(xs)
        except L0RefError as error:
            raise OutOfDomain(str(error)) from error

    def gradient(self, xs: Arrays, y_bar: Array) -> list[Array]:
        """The gradient under test; the arrays are those that its code returned, not copies."""
        given = y_bar.copy()
        found = self._call("gradient", self.problem.gradient, xs, given)
        if COTANGENT not in self.written and not np.array_equal(y_bar, given):
            self.written[COTANGENT] = _what_changed("gradient", COTANGENT, y_bar, given)
        return [np.asarray(g) for g in found]

    def interrupted(self, xs: Arrays, others: Arrays, y_bar: Array) -> list[Array]:
        """The gradient with another evaluation between its forward and its backward pass."""
        assert self.problem.interrupted is not None
        others = [np.array(x) for x in others]
        return [np.asarray(g) for g in self._call("gradient", self.problem.interrupted, xs, others, y_bar.copy())]

    def complex_value(self, xs: Arrays) -> Any:
        """The value for complex arrays, unchecked."""
        assert self.problem.complex_value is not None
        return self._call("value", self.problem.complex_value, xs)

    def _call(self, what: str, f: Callable[..., Any], xs: Arrays, *rest: Any) -> Any:
        given = [np.array(x) for x in xs]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            result = f(given, *rest)
        if text := out.getvalue().strip():
            first, times = self.printed.get(what, (text.splitlines()[0], 0))
            self.printed[what] = first, times + 1
        for name, before, after in zip(self.problem.names, xs, given, strict=True):
            if name not in self.written and not _same(before, after):
                self.written[name] = _what_changed(what, name, before, after)
        return result

    def notes(self) -> tuple[str, ...]:
        """The printed output, one sentence per function."""
        return tuple(f"the {what} printed {first!r}, {n} calls in all" for what, (first, n) in self.printed.items())


def quote(what: str, f: Callable[..., Any], *args: Any) -> Any:
    """Call the user's `f`; an exception becomes a GradientError that quotes it."""
    try:
        return f(*args)
    except L0RefError as error:  # its message has the remedy
        raise GradientError(f"{what} raised {type(error).__name__}: {error}") from error
    except Exception as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise GradientError(f"{what} raised {text}; make it run at the given inputs and near them") from error


def _same(before: Array, after: Array) -> bool:
    """Whether nothing was written; equal bytes decide without a comparison of values."""
    same_bytes = before.shape == after.shape and before.tobytes() == after.tobytes()
    return same_bytes or np.array_equal(before, after, equal_nan=True)


def _what_changed(what: str, name: str, before: Array, after: Array) -> str:
    if before.shape != after.shape:
        return f"the {what} changes the shape of {name} from {before.shape} to {after.shape}; work on a copy"
    index = tuple(int(i) for i in np.argwhere(~((before == after) | (np.isnan(before) & np.isnan(after))))[0])
    place = f"{name}[{', '.join(map(str, index))}]" if index else name
    change = f"{place} was {before[index]:.6g} and became {after[index]:.6g}"
    whose = "the cotangent it is given" if name == COTANGENT else "its input"
    return f"the {what} writes into {whose}: {change}; work on a copy"
