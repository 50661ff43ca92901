"""Vectors of lanes: the operations with which kernels use the vector unit of the processor.

A vector holds `lanes(dtype)` numbers and lives in one register. Kernels handle a few vectors at a time, as a tuple,
and address a flat array by offsets, also as tuples. In the formulas l runs over the lanes:

    load(x, at)               v_p[l] = x[at_p + l]                            one vector for each offset
    spread(w, at)             u_i[l] = w[at_i]                                one number in all lanes
    filled(b, rows, columns)  a_pi[l] = b[rows_i]                             p runs over the offsets `columns`
    outer(a, v, u)            a_pi[l] + v_p[l] u_i[l]                         fused: rounded once
    at_least(a, w, i)         max(a_pi[l], w[i]); a NaN stays NaN
    store(y, columns, rows, a)     y[columns_p + rows_i + l] = a_pi[l]
    increase(y, columns, rows, a)  y[columns_p + rows_i + l] += a_pi[l], one after another, so that places may overlap
    plus(a, b), minus(a, b)   a_k[l] + b_k[l], a_k[l] - b_k[l]
    totals(a)                 t[k] = sum_l a_k[l]                             lanes of a give one vector of t
    transposed(a)             b_k[l] = a_l[k]                                 as many vectors as lanes
    part(x, at, count)        v[l] = x[at + l] for l < count, 0 beyond        one vector; reads nothing beyond
    gather(x, t, at, count)   v[l] = x[t[at + l]] for l < count, 0 beyond     the same; t holds whole numbers
    total(a)                  sum_l a_0[l]                                    a number, from one vector
    number(x, i)              v[l] = i, of the type of x                      one vector
    larger(a, v)              (v_0[l], v_1[l]) where v_0[l] > a_0[l] or is NaN, else (a_0[l], a_1[l]): values and places
    where_equal(v, k, u)      v[l] where k[l] = u[l], 0 elsewhere             one vector each
    width(x)                  number of lanes of a vector of x
    shift(at, by)             at_p + by
    pick(t, at)               t[at_p], an offset from a table of whole numbers
    at_most(at, most)         min(at_p, most)

a_pi is entry p len(rows) + i of its tuple.

Why it is fast: a matrix product is bound by the loads that feed it, and a compiler that vectorises a plain loop does
not keep a tile of sums in registers. With tuples of vectors the sums are ordinary variables: a tile of 4 x 4 costs 8
loads for 16 multiply-adds.

With Numba's compiler off these are plain functions on NumPy arrays, which refuse offsets outside of the array; the
tests run the kernels in this way, too.
"""

from __future__ import annotations

from typing import Any

import numba

from l0ref.fast.machine.target import COLUMNS, ROWS, lanes

settings: Any = numba.config
if settings.DISABLE_JIT:
    from l0ref.fast.machine.lanes_python import (
        at_least,
        at_most,
        filled,
        gather,
        increase,
        larger,
        load,
        minus,
        number,
        outer,
        part,
        pick,
        plus,
        shift,
        spread,
        store,
        total,
        totals,
        transposed,
        where_equal,
        width,
    )
else:
    from l0ref.fast.machine.choices_llvm import larger, number, where_equal
    from l0ref.fast.machine.gathers_llvm import gather, part, total, width
    from l0ref.fast.machine.lanes_llvm import (
        at_least,
        at_most,
        filled,
        increase,
        load,
        minus,
        outer,
        pick,
        plus,
        shift,
        spread,
        store,
        totals,
        transposed,
    )

__all__ = [
    "COLUMNS",
    "ROWS",
    "at_least",
    "at_most",
    "filled",
    "gather",
    "increase",
    "lanes",
    "larger",
    "load",
    "minus",
    "number",
    "outer",
    "part",
    "pick",
    "plus",
    "shift",
    "spread",
    "store",
    "total",
    "totals",
    "transposed",
    "where_equal",
    "width",
]
