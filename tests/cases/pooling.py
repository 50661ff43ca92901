"""Cases of `l0ref.ops.pooling`: wherever it can, an image has all axis sizes different."""

from __future__ import annotations

from typing import Any

from tests.cases.case import Case, distinct, normal
from tests.naive import pooling as naive

Shape = tuple[int, ...]
Pair = tuple[int, int]


def max_call(ops: Any, x: Any, *, kernel_size: Pair, stride: Pair, padding: Pair) -> Any:
    return ops.max_pool2d(x, kernel_size, stride=stride, padding=padding)


def max_torch(th: Any, x: Any, **options: Any) -> Any:
    return th.nn.functional.max_pool2d(x, **options)


def avg_call(ops: Any, x: Any, *, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> Any:
    return ops.avg_pool2d(x, kernel_size, stride=stride, padding=padding, count_include_pad=count_include_pad)


def avg_torch(th: Any, x: Any, **options: Any) -> Any:
    return th.nn.functional.avg_pool2d(x, **options)


# label, input, kernel, stride, padding
WINDOWS: list[tuple[str, Shape, Pair, Pair, Pair]] = [
    ("tiles", (2, 3, 4, 6), (2, 3), (2, 3), (0, 0)),
    ("overlapping", (2, 3, 5, 6), (3, 2), (1, 1), (0, 0)),
    ("overlapping, strided", (2, 3, 7, 8), (3, 4), (2, 3), (0, 0)),
    ("stride leaves a remainder", (1, 2, 5, 7), (2, 2), (2, 2), (0, 0)),
    ("gaps between windows", (2, 2, 7, 8), (2, 1), (3, 4), (0, 0)),
    ("padded", (2, 3, 4, 5), (2, 3), (2, 1), (1, 1)),
    ("padded on one side", (2, 3, 4, 5), (2, 4), (1, 3), (0, 2)),
    ("padded, overlapping", (1, 2, 5, 4), (4, 3), (2, 2), (2, 1)),
    ("window is the image", (2, 3, 4, 5), (4, 5), (4, 5), (0, 0)),
    ("window larger than the image", (2, 3, 2, 3), (4, 5), (1, 1), (2, 2)),
    ("one pixel windows", (2, 3, 4, 5), (1, 1), (1, 1), (0, 0)),
    ("all sizes 1", (1, 1, 1, 1), (1, 1), (1, 1), (0, 0)),
    ("one pixel, padded", (1, 1, 1, 1), (2, 2), (1, 1), (1, 1)),
    ("empty batch", (0, 3, 4, 5), (2, 3), (2, 1), (1, 1)),
]
IMAGES: list[tuple[str, Shape]] = [
    ("plain", (2, 3, 4, 5)),
    ("one row", (3, 2, 1, 4)),
    ("all sizes 1", (1, 1, 1, 1)),
    ("empty batch", (0, 3, 4, 5)),
]

CASES = [
    *[
        Case(
            "MaxPool2d",
            label,
            distinct(shape),
            {"kernel_size": size, "stride": stride, "padding": padding},
            max_call,
            max_torch,
            naive.max_pool2d,
            moves=0 not in shape,
        )
        for label, shape, size, stride, padding in WINDOWS
    ],
    *[
        Case(
            "AvgPool2d",
            f"{label}{'' if include else ', padding not counted'}",
            normal(shape),
            {"kernel_size": size, "stride": stride, "padding": padding, "count_include_pad": include},
            avg_call,
            avg_torch,
            naive.avg_pool2d,
            moves=0 not in shape,
        )
        for label, shape, size, stride, padding in WINDOWS
        for include in (True, False)
    ],
    *[
        Case(
            "Mean",
            f"adaptive_avg_pool2d, {label}",
            normal(shape),
            {"axis": (2, 3), "keepdims": True},
            lambda ops, x, **_: ops.adaptive_avg_pool2d(x),
            lambda th, x, **_: th.nn.functional.adaptive_avg_pool2d(x, 1),
            lambda x, **_: naive.adaptive_avg_pool2d(x),
            moves=0 not in shape,
        )
        for label, shape in IMAGES
    ],
]
