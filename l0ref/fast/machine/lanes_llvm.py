"""The vectors of `machine.lanes` for Numba's compiler: each function emits the LLVM instructions of its operation.

A vector is a value of a Numba type of its own, so that LLVM may keep it in a register. Loads and stores require no
alignment beyond that of one number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array

from l0ref.fast.machine.target import lanes

Values = list[Any]
word: Any = intrinsic
INDEX = ir.IntType(32)


class Lanes(types.Type):
    """Numba's type of a vector of `count` numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.count = dtype, lanes(str(dtype))
        super().__init__(name=f"Lanes({dtype}, {self.count})")

    @property
    def ir(self) -> ir.VectorType:
        """LLVM's type of the vector."""
        return ir.VectorType(self.number, self.count)

    @property
    def number(self) -> Any:
        """LLVM's type of one number."""
        return ir.FloatType() if self.dtype == types.float32 else ir.DoubleType()

    @property
    def suffix(self) -> str:
        """Suffix of the names of LLVM's functions on this type."""
        return f"v{self.count}f{32 if self.dtype == types.float32 else 64}"


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Lanes) -> None:
        super().__init__(manager, fe_type, fe_type.ir)  # type: ignore[no-untyped-call]


def _parts(builder: Any, value: Any, count: int) -> Values:
    """The members of a tuple."""
    return [builder.extract_value(value, i) for i in range(count)]


def _tuple(builder: Any, members: Values) -> Any:
    """A tuple of these members."""
    out = ir.Constant(ir.ArrayType(members[0].type, len(members)), ir.Undefined)
    for i, member in enumerate(members):
        out = builder.insert_value(out, member, i)
    return out


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Pointer to entry `at` of a flat array."""
    if kind.ndim != 1 or kind.layout != "C":
        raise TypingError(f"{kind} is not a flat array without gaps; take np.ascontiguousarray(a).reshape(-1)")
    return builder.gep(make_array(kind)(context, builder, array).data, [at])


def _read(builder: Any, pointer: Any, kind: Lanes) -> Any:
    vector = builder.load(builder.bitcast(pointer, kind.ir.as_pointer()))
    vector.align = kind.dtype.bitwidth // 8
    return vector


def _write(builder: Any, vector: Any, pointer: Any, kind: Lanes) -> None:
    done = builder.store(vector, builder.bitcast(pointer, kind.ir.as_pointer()))
    done.align = kind.dtype.bitwidth // 8


def _everywhere(builder: Any, number: Any, kind: Lanes) -> Any:
    """One number in all lanes."""
    nothing = ir.Constant(kind.ir, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(first, nothing, _places([0] * kind.count))


def _places(numbers: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(INDEX, len(numbers)), list(numbers))


@word
def load(_context: Any, x: Any, at: Any) -> tuple[Any, Callable[..., Any]]:
    """One load of a vector for each place."""
    kind = Lanes(x.dtype)

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        pointers = (_pointer(context, builder, x, args[0], i) for i in _parts(builder, args[1], at.count))
        return _tuple(builder, [_read(builder, p, kind) for p in pointers])

    return types.UniTuple(kind, at.count)(x, at), code


@word
def spread(_context: Any, w: Any, at: Any) -> tuple[Any, Callable[..., Any]]:
    """One load of a number for each place, spread over the lanes."""
    kind = Lanes(w.dtype)

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        pointers = (_pointer(context, builder, w, args[0], i) for i in _parts(builder, args[1], at.count))
        return _tuple(builder, [_everywhere(builder, builder.load(p), kind) for p in pointers])

    return types.UniTuple(kind, at.count)(w, at), code


@word
def filled(_context: Any, b: Any, rows: Any, columns: Any) -> tuple[Any, Callable[..., Any]]:
    """`spread` of the rows, again for every column."""
    kind = Lanes(b.dtype)

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        pointers = (_pointer(context, builder, b, args[0], i) for i in _parts(builder, args[1], rows.count))
        return _tuple(builder, [_everywhere(builder, builder.load(p), kind) for p in pointers] * columns.count)

    return types.UniTuple(kind, rows.count * columns.count)(b, rows, columns), code


@word
def outer(_context: Any, a: Any, v: Any, u: Any) -> tuple[Any, Callable[..., Any]]:
    """One fused multiply-add for each pair of vectors."""
    kind = a.dtype

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        fma = _function(builder, f"llvm.fma.{kind.suffix}", kind.ir, 3)
        sums, vs, us = (_parts(builder, x, t.count) for x, t in zip(args, (a, v, u), strict=True))
        pairs = [(x, y) for x in vs for y in us]
        return _tuple(builder, [builder.call(fma, [x, y, s]) for (x, y), s in zip(pairs, sums, strict=True)])

    return a(a, v, u), code


@word
def plus(_context: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """One addition for each vector."""
    return a(a, b), _one_by_one("fadd")


@word
def minus(_context: Any, a: Any, b: Any) -> tuple[Any, Callable[..., Any]]:
    """One subtraction for each vector."""
    return a(a, b), _one_by_one("fsub")


@word
def at_least(_context: Any, a: Any, w: Any, i: Any) -> tuple[Any, Callable[..., Any]]:
    """A comparison, false for NaN, and a choice."""
    kind = a.dtype

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        least = _everywhere(builder, builder.load(_pointer(context, builder, w, args[1], args[2])), kind)
        below = [(builder.fcmp_ordered("<", x, least), x) for x in _parts(builder, args[0], a.count)]
        return _tuple(builder, [builder.select(is_below, least, x) for is_below, x in below])

    return a(a, w, i), code


@word
def store(_context: Any, y: Any, columns: Any, rows: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """One store of a vector for each place."""
    return types.void(y, columns, rows, a), _storing(y, columns, rows, a, adds=False)


@word
def increase(_context: Any, y: Any, columns: Any, rows: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """A load, a sum and a store for each place, in this order."""
    return types.void(y, columns, rows, a), _storing(y, columns, rows, a, adds=True)


@word
def totals(_context: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """Sums of halves: as many vectors of totals as the vectors fill."""
    kind = a.dtype

    def total(builder: Any, rows: Values) -> Any:
        while len(rows) > 1:  # neighbours become one vector of the sums of their halves
            rows = [builder.fadd(*_unzipped(builder, x, y, kind)) for x, y in zip(rows[::2], rows[1::2], strict=True)]
        return rows[0]

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        rows, n = _parts(builder, args[0], a.count), kind.count
        return _tuple(builder, [total(builder, rows[i : i + n]) for i in range(0, a.count, n)])

    return types.UniTuple(kind, a.count // kind.count)(a), code


@word
def transposed(_context: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """Perfect shuffles of the rows."""
    kind = a.dtype

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        rows = _parts(builder, args[0], a.count)
        half = kind.count // 2
        for _ in range(kind.count.bit_length() - 1):  # a perfect shuffle of 2^n rows, n times
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [part for x, y in pairs for part in _zipped(builder, x, y, kind)]
        return _tuple(builder, rows)

    return a(a), code


@word
def shift(_context: Any, at: Any, _by: Any) -> tuple[Any, Callable[..., Any]]:
    """One addition for each place."""

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        return _tuple(builder, [builder.add(i, args[1]) for i in _parts(builder, args[0], at.count)])

    return at(at, types.intp), code


@word
def pick(_context: Any, t: Any, at: Any) -> tuple[Any, Callable[..., Any]]:
    """One load for each place, and a cast to the type of an offset."""

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        numbers = [builder.load(_pointer(context, builder, t, args[0], i)) for i in _parts(builder, args[1], at.count)]
        return _tuple(builder, [context.cast(builder, n, t.dtype, types.intp) for n in numbers])

    return types.UniTuple(types.intp, at.count)(t, at), code


@word
def at_most(_context: Any, at: Any, _most: Any) -> tuple[Any, Callable[..., Any]]:
    """One comparison and one choice for each place."""

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        below = [(builder.icmp_signed("<", i, args[1]), i) for i in _parts(builder, args[0], at.count)]
        return _tuple(builder, [builder.select(is_below, i, args[1]) for is_below, i in below])

    return at(at, types.intp), code


def _one_by_one(instruction: str) -> Callable[..., Any]:
    def code(_context: Any, builder: Any, signature: Any, args: Values) -> Any:
        pairs = zip(*(_parts(builder, x, signature.return_type.count) for x in args), strict=True)
        return _tuple(builder, [getattr(builder, instruction)(x, y) for x, y in pairs])

    return code


def _storing(y: Any, columns: Any, rows: Any, a: Any, *, adds: bool) -> Callable[..., Any]:
    kind = a.dtype

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        tops, sides = _parts(builder, args[1], columns.count), _parts(builder, args[2], rows.count)
        places = [builder.add(top, side) for top in tops for side in sides]
        for place, vector in zip(places, _parts(builder, args[3], a.count), strict=True):
            pointer = _pointer(context, builder, y, args[0], place)
            new = builder.fadd(_read(builder, pointer, kind), vector) if adds else vector
            _write(builder, new, pointer, kind)
        return context.get_dummy_value()

    return code


def _function(builder: Any, name: str, kind: Any, inputs: int) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * inputs), name)


def _unzipped(builder: Any, x: Any, y: Any, kind: Lanes) -> Values:
    """The entries of x, then of y, at even and at odd places."""
    n = 2 * kind.count
    return [builder.shuffle_vector(x, y, _places(range(first, n, 2))) for first in (0, 1)]


def _zipped(builder: Any, x: Any, y: Any, kind: Lanes) -> Values:
    """x0 y0 x1 y1 ... as two vectors."""
    n = kind.count
    order = [place for i in range(n) for place in (i, n + i)]
    return [builder.shuffle_vector(x, y, _places(part)) for part in (order[:n], order[n:])]
