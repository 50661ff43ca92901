"""Loops for `l0ref.ops.dropout`."""

from __future__ import annotations

from tests.naive import F64, entry_of, table


def dropout(x: F64, *, multiplier: F64) -> F64:
    return table(x.shape, lambda *at: x[at] * entry_of(multiplier, at))


def dropout_vjp(y_bar: F64, x: F64, *, multiplier: F64) -> list[F64]:
    return [table(x.shape, lambda *at: y_bar[at] * entry_of(multiplier, at))]
