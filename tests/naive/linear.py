"""Loops for `l0ref.ops.linear`."""

from __future__ import annotations

import math

from tests.naive import F64, common_shape, entry_of, table


def matmul(a: F64, b: F64) -> F64:
    lead = common_shape(a.shape[:-2], b.shape[:-2])
    rows = a.shape[-2:-1]  # () for a vector
    columns = b.shape[1:] if b.ndim < 3 else b.shape[-1:]

    def entry(*at: int) -> float:
        head, tail = at[: len(lead)], at[len(lead) :]
        row, column = tail[: len(rows)], tail[len(rows) :]
        return math.fsum(
            float(entry_of(a, (*head, *row, d)[-a.ndim :] if a.ndim == 1 else (*head, *row, d)))
            * float(entry_of(b, (d,) if b.ndim == 1 else (*head, d, *column)))
            for d in range(a.shape[-1])
        )

    return table((*lead, *rows, *columns), entry)


def linear(x: F64, weight: F64, bias: F64 | None = None) -> F64:
    features_out, features_in = weight.shape

    def entry(*at: int) -> float:
        *lead, m = at
        dot = math.fsum(float(x[(*lead, d)]) * float(weight[m, d]) for d in range(features_in))
        return dot + (0.0 if bias is None else float(bias[m]))

    return table((*x.shape[:-1], features_out), entry)
