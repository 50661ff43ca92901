"""Cases of `l0ref.ops.pooling`: wherever it can, an image has all axis sizes different."""

from __future__ import annotations

import math
from functools import partial
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
# label, input, how the public function is asked, what else the operation is told
MORE: list[tuple[str, Shape, dict[str, Any], dict[str, Any]]] = [
    (
        "gaps in the window",
        (2, 3, 6, 7),
        {"kernel_size": (2, 3), "stride": (1, 2), "dilation": (3, 2)},
        {"dilation": (3, 2)},
    ),
    ("gaps, padded", (1, 2, 5, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}, {"dilation": (2, 2)}),
    ("ceil", (2, 3, 5, 7), {"kernel_size": (2, 2), "stride": (2, 2), "ceil_mode": True}, {"beyond": (1, 1)}),
    ("ceil, nothing left over", (1, 2, 4, 7), {"kernel_size": (2, 3), "stride": (2, 2), "ceil_mode": True}, {}),
    (
        "ceil, padded",
        (1, 2, 6, 6),
        {"kernel_size": (3, 2), "stride": (3, 3), "padding": (1, 1), "ceil_mode": True},
        {"beyond": (1, 0)},
    ),
    (
        "ceil, a window on padding alone is left out",
        (1, 2, 4, 3),
        {"kernel_size": (2, 2), "stride": (3, 3), "padding": (1, 1), "ceil_mode": True},
        {},
    ),
    (
        "ceil, window larger than the image",
        (1, 2, 1, 3),
        {"kernel_size": (2, 2), "stride": (2, 2), "ceil_mode": True},
        {"beyond": (1, 1)},
    ),
    (
        "ceil and gaps",
        (1, 2, 6, 6),
        {"kernel_size": 2, "stride": 2, "dilation": 2, "ceil_mode": True},
        {"dilation": (2, 2), "beyond": (1, 1)},
    ),
    (
        "four edges",
        (2, 3, 5, 4),
        {"kernel_size": (2, 3), "stride": (2, 1), "padding": ((1, 0), (0, 2))},
        {"beyond": (-1, 2)},
    ),
    (
        "four edges, ceil",
        (1, 2, 5, 6),
        {"kernel_size": (3, 3), "stride": (2, 2), "padding": ((0, 1), (2, 1)), "ceil_mode": True},
        {"beyond": (2, -1)},
    ),
]
IMAGES: list[tuple[str, Shape]] = [
    ("plain", (2, 3, 4, 5)),
    ("one row", (3, 2, 1, 4)),
    ("all sizes 1", (1, 1, 1, 1)),
    ("empty batch", (0, 3, 4, 5)),
]


def both(value: Any) -> Pair:
    return value if isinstance(value, tuple) else (value, value)


def unusual_cases() -> list[Case]:
    """Gaps, edges that differ and windows that ceil_mode adds; the last by which it reaches over is not counted."""
    found = []
    for label, shape, public, more in MORE:
        edges = public.get("padding", 0)
        uneven = isinstance(edges, tuple) and isinstance(edges[0], tuple)
        four = edges if uneven else tuple((p, p) for p in both(edges))
        size = both(public["kernel_size"])
        plain = {"kernel_size": size, "stride": both(public["stride"]), "padding": (four[0][0], four[1][0])}
        rest = {k: v for k, v in public.items() if k != "kernel_size"}
        theirs = {k: v for k, v in public.items() if k != "padding"}

        def max_theirs(
            th: Any, x: Any, four: Any = four, uneven: bool = uneven, edges: Any = edges, theirs: Any = theirs, **_: Any
        ) -> Any:
            if not uneven:
                return th.nn.functional.max_pool2d(x, padding=edges, **theirs)
            border = (*four[1], *four[0])
            return th.nn.functional.max_pool2d(th.nn.functional.pad(x, border, value=-math.inf), **theirs)

        def ours(ops: Any, x: Any, name: str = "max_pool2d", size: Any = size, rest: Any = rest, **o: Any) -> Any:
            own = {"count_include_pad": o["count_include_pad"]} if "count_include_pad" in o else {}
            return getattr(ops, name)(x, size, **rest, **own)

        found.append(Case("MaxPool2d", label, distinct(shape), {**plain, **more}, ours, max_theirs, naive.max_pool2d))
        if "dilation" in public:
            continue
        beyond = more.get("beyond", (0, 0))
        over = tuple(b - (four[i][1] - four[i][0]) for i, b in enumerate(beyond))
        counted = {**more, **({"overhang": over} if over != (0, 0) else {})}
        for include in (True, False):
            if include and uneven and "ceil_mode" in public:
                theirs_avg = None  # PyTorch would count what F.pad adds as the image
            else:

                def theirs_avg(
                    th: Any,
                    x: Any,
                    four: Any = four,
                    uneven: bool = uneven,
                    edges: Any = edges,
                    theirs: Any = theirs,
                    count_include_pad: bool = True,
                    **_: Any,
                ) -> Any:
                    pool = th.nn.functional.avg_pool2d
                    if not uneven:
                        return pool(x, padding=edges, count_include_pad=count_include_pad, **theirs)
                    border = (*four[1], *four[0])
                    total, ones = (pool(th.nn.functional.pad(a, border), **theirs) for a in (x, th.ones_like(x)))
                    return total if count_include_pad else total / ones

            found.append(
                Case(
                    "AvgPool2d",
                    f"{label}{'' if include else ', padding not counted'}",
                    normal(shape),
                    {**plain, **counted, "count_include_pad": include},
                    partial(ours, name="avg_pool2d"),
                    theirs_avg,
                    naive.avg_pool2d,
                )
            )
    return found


CASES = [
    *unusual_cases(),
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
