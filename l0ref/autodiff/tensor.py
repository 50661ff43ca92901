"""The tape: a Tensor remembers the step that made it, and `grad` walks those steps backwards.

A scalar y = f_n(... f_1(x)) is differentiated by the chain rule from the outside in: start with
y_bar = 1 and let every step turn the cotangent of its output into cotangents of its inputs. A tensor
that is used twice receives two cotangents, which are added.

Nothing is stored in the tensors by `grad`: two calls give equal, fresh arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from l0ref.autodiff.op import OPS, Op, run_forward, run_vjp
from l0ref.errors import ArgumentError, DTypeError, GradientError, ShapeError
from l0ref.validate import Array, float_array

VJP = Callable[[Array, Sequence[bool]], list[Array | None]]


class Tensor:
    """An array and the step that made it.

    data     float32 or float64 array; held, not copied, and never written by this package
    parents  the tensors the step read; empty for a tensor made by hand
    """

    __slots__ = ("__weakref__", "_vjp", "data", "parents")
    __array_ufunc__ = None  # so that `array + tensor` calls Tensor.__radd__, not a ufunc of NumPy

    def __init__(self, data: Any) -> None:
        if isinstance(data, Tensor):
            raise DTypeError("data is a Tensor already; use it as it is, or pass data.data to cut it from the tape")
        self.data: Array = float_array("data", data)
        self.parents: tuple[Tensor, ...] = ()
        self._vjp: VJP | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.data.dtype

    def __repr__(self) -> str:
        return f"Tensor({np.array2string(self.data, threshold=20)}, shape={self.shape}, dtype={self.dtype})"

    def __float__(self) -> float:
        return float(self.data.item())

    def __len__(self) -> int:
        return len(self.data)

    def __add__(self, other: Any) -> Tensor:
        return apply("Add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply("Add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return apply("Sub", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return apply("Sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return apply("Mul", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return apply("Mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return apply("Div", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply("Div", other, self)

    def __pow__(self, other: Any) -> Tensor:
        return apply("Pow", self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return apply("Pow", other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return apply("Matmul", self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply("Matmul", other, self)

    def __neg__(self) -> Tensor:
        return apply("Neg", self)

    def __abs__(self) -> Tensor:
        return apply("Abs", self)


def apply(op: type[Op] | str, *inputs: Any, **options: Any) -> Tensor:
    """Apply an operation, given as its class or its registered name, to tensors, arrays or Python numbers.

    All tensors and arrays must have one dtype, which is that of the result; Python numbers are converted to it.
    """
    if isinstance(op, str):
        if op not in OPS:
            raise ArgumentError(f"op={op!r} is not registered; import l0ref.ops, or the module that defines it, first")
        op = OPS[op]
    parents = _as_tensors(op, inputs)
    xs = tuple([p.data for p in parents])
    rule, y, saved = run_forward(op, xs, options)

    def vjp(y_bar: Array, wanted: Sequence[bool]) -> list[Array | None]:
        return run_vjp(op, rule, saved, y_bar, xs, wanted)

    out = Tensor(y)
    out.parents, out._vjp = parents, vjp
    return out


def grad(y: Tensor, wrt: Sequence[Tensor], *, y_bar: Any = None) -> list[Array]:
    """Return d y / d w for every tensor w in `wrt`, as fresh arrays shaped like those tensors.

    y      a tensor of one entry, unless `y_bar` is given
    wrt    tensors that `y` depends on; any other tensor is an error, not a silent zero
    y_bar  cotangent of `y`, of its shape and dtype: the result is then J^T y_bar

    >>> import l0ref
    >>> x = l0ref.Tensor([3.0])
    >>> [g.tolist() for g in l0ref.grad(x * x + x, [x])]
    [[7.0]]
    """
    if not isinstance(y, Tensor):
        raise GradientError(
            f"y is {type(y).__name__}, expected a Tensor; an array carries no record of how it was made"
        )
    if isinstance(wrt, Tensor):
        raise GradientError("wrt is a single Tensor; put it in a list, grad(y, [x]), and take element 0 of the result")
    order = _parents_first(y)
    _check_dependence(order, wrt)
    wanted = _depends_on(order, wrt)
    keep = set(wrt)
    seed = _seed(y, y_bar)
    bars: dict[Tensor, Array] = {y: seed.copy() if y in keep else seed}
    for t in reversed(order):
        if t not in wanted or t not in bars or t._vjp is None:
            continue
        t_bar = bars[t] if t in keep else bars.pop(t)
        for p, p_bar in zip(t.parents, t._vjp(t_bar, [p in wanted for p in t.parents]), strict=True):
            if p_bar is not None:
                bars[p] = np.asarray(bars[p] + p_bar) if p in bars else p_bar
    return _results(bars, wrt)


def _as_tensors(op: type[Op], inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    tensors = [x if isinstance(x, Tensor) or type(x) in (int, float) else Tensor(x) for x in inputs]
    dtypes = [x.data.dtype for x in tensors if isinstance(x, Tensor)] or [np.dtype(np.float64)]
    if dtypes.count(dtypes[0]) < len(dtypes):
        found = ", ".join(map(str, dtypes))
        raise DTypeError(f"{op.__name__}: mixed dtypes {found}; convert all inputs to one with astype()")
    try:
        return tuple([x if isinstance(x, Tensor) else Tensor(dtypes[0].type(x)) for x in tensors])
    except OverflowError:
        raise ArgumentError(f"{op.__name__}: a whole number must be finite as {dtypes[0]}; it is too large") from None


def _parents_first(y: Tensor) -> list[Tensor]:
    """Every tensor `y` was made from, each after its parents; a loop, so that depth has no limit."""
    order: list[Tensor] = []
    seen = {y}
    stack = [(y, iter(y.parents))]
    while stack:
        t, parents = stack[-1]
        for p in parents:
            if p not in seen:
                seen.add(p)
                stack.append((p, iter(p.parents)))
                break
        else:
            order.append(t)
            stack.pop()
    return order


def _check_dependence(order: Iterable[Tensor], wrt: Sequence[Tensor]) -> None:
    reached = set(order)
    for i, w in enumerate(wrt):
        if not isinstance(w, Tensor):
            raise GradientError(f"wrt[{i}] is {type(w).__name__}, expected a Tensor; wrap the array before using it")
        if w not in reached:
            raise GradientError(
                f"wrt[{i}] of shape {w.shape}: y does not depend on it, and its gradient would be silently zero; "
                "remove it from wrt or check that y was computed from this very tensor"
            )


def _depends_on(order: Iterable[Tensor], wrt: Iterable[Tensor]) -> set[Tensor]:
    """The tensors that were computed from one in `wrt`, those in `wrt` included."""
    found = set(wrt)
    for t in order:
        if not found.isdisjoint(t.parents):
            found.add(t)
    return found


def _seed(y: Tensor, y_bar: Any) -> Array:
    if y_bar is None:
        if y.size != 1:
            raise GradientError(
                f"y has shape {y.shape}, expected one entry; reduce it with a sum or mean, or pass its cotangent y_bar"
            )
        return np.ones_like(y.data)
    seed = float_array("y_bar", y_bar)
    if seed.shape != y.shape or seed.dtype != y.dtype:
        raise ShapeError(f"y_bar is {seed.dtype} {seed.shape}, expected that of y: {y.dtype} {y.shape}")
    return seed


def _results(bars: dict[Tensor, Array], wrt: Sequence[Tensor]) -> list[Array]:
    """The cotangents of the tensors in `wrt`; a tensor named twice gets two arrays."""
    return [bars[w].copy() if w in wrt[:i] else bars[w] for i, w in enumerate(wrt)]
