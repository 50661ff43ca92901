"""Cases of `l0ref.ops.shape`."""

from __future__ import annotations

from typing import Any

from tests.cases.case import Case, normal
from tests.naive import shape as naive

Shape = tuple[int, ...]


def case(op: str, label: str, shapes: Shape | list[Shape], call: Any, torch: Any, loops: Any, **options: Any) -> Case:
    several = shapes if isinstance(shapes, list) else [shapes]
    moves = all(0 not in shape for shape in several)
    return Case(op, label, normal(*several), options, call, torch, loops, moves=moves)


def reshape(label: str, x: Shape, shape: Shape) -> Case:
    return case(
        "Reshape",
        label,
        x,
        lambda ops, x, *, shape: ops.reshape(x, shape),
        lambda th, x, *, shape: th.reshape(x, shape),
        naive.reshape,
        shape=shape,
    )


def flatten(label: str, x: Shape, start_dim: int, end_dim: int) -> Case:
    return case(
        "Flatten",
        label,
        x,
        lambda ops, x, **o: ops.flatten(x, **o),
        lambda th, x, **o: th.flatten(x, **o),
        naive.flatten,
        start_dim=start_dim,
        end_dim=end_dim,
    )


def transpose(label: str, x: Shape, dim0: int, dim1: int) -> Case:
    return case(
        "Transpose",
        label,
        x,
        lambda ops, x, **o: ops.transpose(x, **o),
        lambda th, x, **o: th.transpose(x, **o),
        naive.transpose,
        dim0=dim0,
        dim1=dim1,
    )


def permute(label: str, x: Shape, dims: Shape) -> Case:
    return case(
        "Permute",
        label,
        x,
        lambda ops, x, **o: ops.permute(x, **o),
        lambda th, x, **o: th.permute(x, **o),
        naive.permute,
        dims=dims,
    )


def concatenate(label: str, shapes: list[Shape], axis: int) -> Case:
    return case(
        "Concatenate",
        label,
        shapes,
        lambda ops, *xs, axis: ops.concatenate(list(xs), axis),
        lambda th, *xs, axis: th.cat(xs, axis),
        naive.concatenate,
        axis=axis,
    )


def pad(label: str, x: Shape, pad: Shape, value: float = 0.0) -> Case:
    return case(
        "Pad",
        label,
        x,
        lambda ops, x, *, pad, value: ops.pad(x, pad, value=value),
        lambda th, x, *, pad, value: th.nn.functional.pad(x, pad, value=value),
        naive.pad,
        pad=pad,
        value=value,
    )


CASES = [
    reshape("matrix", (2, 6), (3, 4)),
    reshape("rest", (2, 3, 4), (4, -1)),
    reshape("rest of nothing", (0, 3), (-1, 3)),
    reshape("to a vector", (2, 3), (-1,)),
    reshape("to a scalar", (1, 1), ()),
    reshape("from a scalar", (), (1, 1)),
    flatten("all", (2, 3, 4), 0, -1),
    flatten("images", (2, 3, 4, 5), 1, -1),
    flatten("inner", (2, 3, 4, 5), 1, 2),
    flatten("one axis", (2, 3), 1, 1),
    flatten("from the end", (2, 3, 4), -2, -1),
    flatten("scalar", (), 0, -1),
    flatten("empty batch", (0, 3, 2), 1, -1),
    transpose("matrix", (2, 3), 0, 1),
    transpose("outer", (2, 3, 4), 0, -1),
    transpose("same", (2, 3), 1, 1),
    transpose("empty", (0, 3), 0, 1),
    permute("cycle", (2, 3, 4), (1, 2, 0)),
    permute("cycle back", (2, 3, 4), (-1, 0, 1)),
    permute("channels last", (2, 3, 4, 5), (0, 2, 3, 1)),
    permute("scalar", (), ()),
    permute("empty", (0, 2, 3), (2, 0, 1)),
    concatenate("rows", [(2, 3), (4, 3)], 0),
    concatenate("columns", [(2, 3), (2, 1), (2, 2)], -1),
    concatenate("channels", [(2, 1, 3), (2, 4, 3)], 1),
    concatenate("one", [(2, 3)], 0),
    concatenate("empty part", [(2, 3), (0, 3), (1, 3)], 0),
    pad("last axis", (2, 3), (1, 2)),
    pad("image", (2, 1, 3, 2), (1, 0, 2, 3)),
    pad("all axes", (2, 3), (0, 1, 2, 0), -1.5),
    pad("no axis", (2, 3), ()),
    pad("empty batch", (0, 3), (1, 2, 0, 0)),
]
