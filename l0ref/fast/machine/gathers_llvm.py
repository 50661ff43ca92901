"""The operations of `machine.lanes` on vectors whose numbers are not adjacent, and on partly filled vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array

from l0ref.fast.machine.lanes_llvm import INDEX, Lanes, Values, _places, _pointer, _tuple, word

BIT = ir.IntType(1)


@word
def width(_context: Any, x: Any) -> tuple[Any, Callable[..., Any]]:
    """A constant."""

    def code(context: Any, _builder: Any, _signature: Any, _args: Values) -> Any:
        return context.get_constant(types.intp, Lanes(x.dtype).count)

    return types.intp(x), code


@word
def part(_context: Any, x: Any, _at: Any, _count: Any) -> tuple[Any, Callable[..., Any]]:
    """One load that touches no memory beyond the `count` numbers."""
    kind = Lanes(x.dtype)

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        mask = _first(builder, args[2], kind.count)
        return _tuple(builder, [_masked(builder, _pointer(context, builder, x, args[0], args[1]), kind.ir, mask)])

    return types.UniTuple(kind, 1)(x, types.intp, types.intp), code


@word
def gather(_context: Any, x: Any, t: Any, _at: Any, _count: Any) -> tuple[Any, Callable[..., Any]]:
    """One load of places, and one instruction for the numbers there."""
    kind = Lanes(x.dtype)

    def code(context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        mask, table = _first(builder, args[3], kind.count), ir.VectorType(ir.IntType(t.dtype.bitwidth), kind.count)
        places = _masked(builder, _pointer(context, builder, t, args[1], args[2]), table, mask)
        if t.dtype.bitwidth < INDEX.width:
            places = builder.zext(places, ir.VectorType(INDEX, kind.count))
        data = make_array(x)(context, builder, args[0]).data
        pointers = builder.gep(data, [places], source_etype=kind.number)
        pointers.type = ir.VectorType(data.type, kind.count)
        return _tuple(builder, [_masked(builder, pointers, kind.ir, mask)])

    return types.UniTuple(kind, 1)(x, t, types.intp, types.intp), code


@word
def total(_context: Any, a: Any) -> tuple[Any, Callable[..., Any]]:
    """Sums of halves."""
    kind = a.dtype

    def code(_context: Any, builder: Any, _signature: Any, args: Values) -> Any:
        vector, n = builder.extract_value(args[0], 0), kind.count
        while n > 1:
            n //= 2
            halves = (builder.shuffle_vector(vector, vector, _places(range(i, i + n))) for i in (0, n))
            vector = builder.fadd(*halves)
        return builder.extract_element(vector, ir.Constant(INDEX, 0))

    return kind.dtype(a), code


def _first(builder: Any, count: Any, lanes: int) -> Any:
    """True in the first `count` lanes; count < 2^31."""
    kind = ir.VectorType(INDEX, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(count, INDEX), ir.Constant(INDEX, 0))
    everywhere = builder.shuffle_vector(one, one, _places([0] * lanes))
    return builder.icmp_signed("<", ir.Constant(kind, list(range(lanes))), everywhere)


def _masked(builder: Any, source: Any, kind: Any, mask: Any) -> Any:
    """The numbers at a pointer, or at a vector of pointers; 0 where the mask is False."""
    number, apart = kind.element, isinstance(source.type, ir.VectorType)
    bits = number.width if isinstance(number, ir.IntType) else 32 if isinstance(number, ir.FloatType) else 64
    of = f"v{kind.count}{'i' if isinstance(number, ir.IntType) else 'f'}{bits}"
    name = f"llvm.masked.gather.{of}.v{kind.count}p0" if apart else f"llvm.masked.load.{of}.p0"
    call = ir.FunctionType(kind, [source.type, INDEX, ir.VectorType(BIT, kind.count), kind])
    function = cgutils.get_or_insert_function(builder.module, call, name)
    return builder.call(function, [source, ir.Constant(INDEX, bits // 8), mask, ir.Constant(kind, None)])
