"""Cases of `l0ref.ops.convolution`: wherever it can, an image has all axis sizes different."""

from __future__ import annotations

from typing import Any

from tests.cases.case import Case, normal
from tests.naive import convolution as naive

Shape = tuple[int, ...]


def conv2d_call(ops: Any, x: Any, k: Any, b: Any = None, **options: Any) -> Any:
    return ops.conv2d(x, k, b, **options)


def conv2d_torch(th: Any, x: Any, k: Any, b: Any = None, **options: Any) -> Any:
    return th.nn.functional.conv2d(x, k, b, **options)


# label, input, weight, has a bias, what is not the default
ROWS: list[tuple[str, Shape, Shape, bool, dict[str, Any]]] = [
    ("plain", (2, 3, 6, 5), (4, 3, 3, 2), True, {}),
    ("no bias", (2, 3, 5, 6), (4, 3, 2, 3), False, {}),
    ("strided", (2, 3, 8, 9), (4, 3, 3, 2), True, {"stride": (2, 3)}),
    ("stride leaves a remainder", (1, 2, 7, 8), (3, 2, 2, 3), True, {"stride": (3, 2)}),
    ("stride wider than kernel", (2, 2, 9, 7), (3, 2, 2, 1), True, {"stride": (4, 3)}),
    ("padded", (2, 3, 4, 5), (2, 3, 3, 3), True, {"padding": (1, 2)}),
    ("padding wider than kernel", (1, 2, 3, 2), (3, 2, 2, 1), True, {"padding": (3, 1)}),
    ("dilated", (2, 3, 8, 9), (4, 3, 3, 2), True, {"dilation": (2, 3)}),
    ("grouped", (2, 6, 5, 4), (9, 2, 3, 2), True, {"groups": 3}),
    ("grouped, one filter each", (2, 4, 5, 4), (2, 2, 3, 2), False, {"groups": 2}),
    ("depthwise", (2, 3, 5, 6), (3, 1, 2, 3), True, {"groups": 3}),
    ("depthwise, two filters each", (2, 3, 5, 6), (6, 1, 3, 2), True, {"groups": 3, "padding": (0, 1)}),
    (
        "everything",
        (2, 4, 9, 8),
        (6, 2, 3, 2),
        True,
        {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 3), "groups": 2},
    ),
    ("one by one kernel", (3, 4, 2, 5), (2, 4, 1, 1), True, {}),
    ("one by one kernel, strided", (3, 4, 4, 5), (2, 4, 1, 1), True, {"stride": (2, 3)}),
    ("kernel as large as image", (2, 3, 4, 5), (6, 3, 4, 5), True, {}),
    ("kernel as large as padded image", (2, 3, 2, 3), (5, 3, 4, 5), True, {"padding": (1, 1)}),
    ("one row", (2, 3, 1, 7), (4, 3, 1, 3), True, {}),
    ("all sizes 1", (1, 1, 1, 1), (1, 1, 1, 1), True, {}),
    ("all sizes 1, padded", (1, 1, 1, 1), (1, 1, 3, 3), False, {"padding": (1, 1)}),
    ("half a block of images", (8, 2, 4, 5), (3, 2, 2, 3), True, {}),
    ("a block of images and one more", (17, 2, 5, 6), (5, 2, 3, 2), True, {"stride": (2, 1), "padding": (1, 2)}),
    ("blocks of images, dilated", (17, 3, 5, 4), (2, 3, 2, 2), False, {"dilation": (2, 1), "padding": (0, 1)}),
    ("one channel", (4, 1, 5, 6), (2, 1, 3, 3), True, {}),
    ("one filter", (4, 2, 5, 6), (1, 2, 3, 3), True, {}),
    ("empty batch", (0, 3, 5, 4), (2, 3, 3, 2), True, {}),
    ("empty batch, everything", (0, 4, 9, 8), (6, 2, 3, 2), True, {"stride": (2, 1), "padding": (1, 2), "groups": 2}),
    ("image of padding only", (2, 3, 0, 2), (4, 3, 2, 2), True, {"padding": (1, 0)}),
    ("nine images without a column", (9, 2, 3, 0), (2, 2, 2, 2), True, {"padding": (0, 1)}),
    ("nine images of padding only", (9, 3, 0, 2), (4, 3, 2, 2), True, {"padding": (1, 0)}),
]
DEFAULTS = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}

CASES = [
    Case(
        "Conv2d",
        label,
        normal(x, k, k[:1]) if has_bias else normal(x, k),
        {**DEFAULTS, **options},
        conv2d_call,
        conv2d_torch if 0 not in x[2:] else None,  # PyTorch refuses an image without pixels
        naive.conv2d,
        moves=0 not in x,
    )
    for label, x, k, has_bias, options in ROWS
]
