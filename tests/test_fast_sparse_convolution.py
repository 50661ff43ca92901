"""The twin of the sparse convolution against the truth: blocks of images, single images, strides, threads.

Most numbers are small and whole, so that every sum is exact, whatever its order, and results must be equal.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest

from l0ref.autodiff.op import OPS, Rule, twin
from l0ref.fast.machine.policy import LOADED, MOVE
from l0ref.fast.machine.target import lanes
from l0ref.fast.sparse import convolution as sparse_convolution
from l0ref.fast.sparse.convolution import WIDE, pixel_size
from l0ref.fast.sparse.geometry import Frame, Geometry, narrow, passes
from l0ref.fast.sparse.planes import frame, unframe
from l0ref.ops.windows import Windows
from l0ref.sparse import Pattern
from l0ref.validate import Array
from tests.cases.sparse import DEFAULTS, some
from tests.kept_memory import spoil

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
THREADS = (1, 2, 3, 5)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
UNITS = ("image", "block")
each_unit = pytest.mark.parametrize("unit", UNITS)

# label, images (C, H, W), kernel, density, what is not the default
SHAPES: list[tuple[str, Any, Any, float, dict[str, Any]]] = [
    ("plain", (3, 7, 9), (4, 3, 3, 2), 0.3, {}),
    ("rows of more than a vector", (2, 4, 40), (3, 2, 2, 3), 0.4, {}),
    ("rows of 8 + 4 + 2 + 1", (1, 2, 15), (2, 1, 1, 1), 1.0, {}),
    ("padded", (2, 5, 6), (3, 2, 3, 3), 0.4, {"padding": (1, 1)}),
    ("padded beyond the kernel", (2, 3, 4), (3, 2, 2, 1), 0.5, {"padding": (3, 2)}),
    ("strided", (3, 8, 9), (4, 3, 3, 2), 0.3, {"stride": (2, 3)}),
    ("stride beyond the kernel", (2, 9, 8), (3, 2, 2, 1), 0.6, {"stride": (4, 3)}),
    ("dilated", (2, 8, 9), (3, 2, 3, 2), 0.4, {"dilation": (2, 3)}),
    ("stride in the dilation", (2, 9, 9), (3, 2, 3, 3), 0.4, {"stride": (2, 2), "dilation": (3, 2), "padding": (1, 2)}),
    ("1 x 1", (5, 3, 4), (6, 5, 1, 1), 0.4, {}),
    ("grouped", (6, 5, 4), (9, 2, 3, 2), 0.4, {"groups": 3}),
    ("depthwise", (3, 5, 6), (6, 1, 2, 3), 0.5, {"groups": 3, "padding": (1, 0), "stride": (2, 1)}),
    ("as large as the image", (2, 4, 5), (3, 2, 4, 5), 0.3, {}),
    ("all sizes 1", (1, 1, 1), (1, 1, 1, 1), 1.0, {}),
    ("no weights", (2, 4, 5), (3, 2, 2, 2), -1.0, {}),
    ("no rows of pixels", (2, 0, 3), (3, 2, 2, 2), 0.5, {"padding": (1, 0)}),
]
each_shape = pytest.mark.parametrize(
    ("image", "kernel", "density", "options"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES]
)


def whole(shape: Any, dtype: Any, rng: np.random.Generator) -> Array:
    return rng.integers(-4, 5, size=shape).astype(dtype)


def pattern_of(kernel: Any, density: float) -> Pattern:
    shape = (kernel[0], prod(kernel[1:]))
    return Pattern.from_mask(some(*shape, density) if density >= 0 else np.zeros(shape, bool))


def choose(unit: str, patch: pytest.MonkeyPatch) -> None:
    """Take images one by one, or in blocks, whatever their number and size."""
    patch.setattr(sparse_convolution, "pixel_size", lambda g, _: g.lanes if unit == "block" else 1)


def run(rule: Rule, xs: tuple[Array, ...], options: dict[str, Any]) -> list[Array]:
    """The value and all cotangents, for a cotangent of the value made of small whole numbers."""
    y, saved = rule.forward(*xs, **options)
    y_bar = whole(y.shape, y.dtype, np.random.default_rng(1))
    return [y, *(np.asarray(bar()) for bar in rule.vjp(saved, y_bar))]


TRUTH = Rule(OPS["SparseConv2d"].forward, OPS["SparseConv2d"].vjp)


@each_shape
@each_unit
@each_dtype
def test_any_geometry_with_any_number_of_images(
    image: Any, kernel: Any, density: float, options: dict[str, Any], unit: str, dtype: Any,
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pattern, n = pattern_of(kernel, density), lanes(dtype)
    choose(unit, monkeypatch)
    for count in (0, 1, 3) if unit == "image" else (1, n - 1, n, n + 1, 2 * n):
        xs = whole((count, *image), dtype, rng), whole(pattern.nnz, dtype, rng), whole(kernel[0], dtype, rng)
        every = {**DEFAULTS, **options, "pattern": pattern, "kernel_shape": kernel}
        want = run(TRUTH, xs, every)
        for _ in range(2):  # once more on memory that holds anything
            for got, value in zip(run(twin("SparseConv2d"), xs, every), want, strict=True):
                np.testing.assert_array_equal(got, value)
                assert got.dtype == dtype
                assert got.base is None
                assert got.flags.c_contiguous
            spoil()


@pytest.mark.slow  # kernels for several threads are compiled for this
@each_unit
def test_threads_change_no_bit(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, count = (6, 3, 3, 3), 2 * lanes(np.float32) + 3
    pattern, results = pattern_of(kernel, 0.4), []
    choose(unit, monkeypatch)
    for threads, memory in ((1, 1), (1, 10**6), *((t, 1) for t in THREADS[1:]), *((t, 10**6) for t in THREADS[1:])):
        monkeypatch.setattr(sparse_convolution, "threads_for", lambda _, t=threads: t)
        monkeypatch.setattr(sparse_convolution, "MEMORY", memory)
        draw = np.random.default_rng(0)
        xs = tuple(draw.standard_normal(s).astype(np.float32) for s in ((count, 3, 6, 7), pattern.nnz))
        y, saved = sparse_convolution.sparse_conv2d_forward(
            *xs, pattern=pattern, kernel_shape=kernel, **{**DEFAULTS, "stride": (1, 2), "padding": (1, 1)}
        )
        y_bar = draw.standard_normal(y.shape).astype(np.float32)
        results.append([y, *(bar() for bar in sparse_convolution.sparse_conv2d_vjp(saved, y_bar))])
    for got in results[1:]:
        for a, b in zip(got, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_blocks_are_for_many_small_images() -> None:
    def size(columns: int, images: int) -> int:
        geometry = Geometry(pattern_of((2, 1, 1, 1), 1.0), (2, 1, 1, 1), WINDOWS, (1, 3, columns), 1, 16)
        return pixel_size(geometry, images)

    assert [size(8, images) for images in (0, 1, 8, 9, 16, 17)] == [1, 1, 1, 16, 16, 16]
    assert [size(columns, 128) for columns in (WIDE - 1, WIDE)] == [16, 1]


# --- geometry ---------------------------------------------------------------------------------------------------------

WINDOWS = Windows((1, 1), (1, 1), (0, 0))
FRAMES = [
    Frame((2, 3, 4), (1, 1), (0, 0), (3, 4), 4, 12),
    Frame((2, 3, 4), (1, 1), (0, 0), (3, 4), 6, 20),
    Frame((2, 3, 20), (1, 1), (1, 2), (5, 24), 24, 120),
    Frame((1, 7, 9), (2, 3), (1, 2), (3, 4), 5, 16),
    Frame((2, 3, 4), (1, 1), (0, 0), (2, 3), 3, 6),
    Frame((2, 0, 4), (1, 1), (1, 0), (2, 4), 4, 8),
]


@pytest.mark.parametrize("layout", FRAMES)
@pytest.mark.parametrize("unit", UNITS)
@each_dtype
def test_pixels_stand_where_the_frame_says(layout: Frame, unit: str, dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    each = n if unit == "block" else 1
    images = rng.integers(1, 99, size=(prod(layout.image), each)).astype(dtype)
    planes, want = np.zeros((2, layout.planes * layout.plane, each), dtype)
    (down, right), inside = layout.stride, np.zeros(len(images), bool)
    for c, h, w in product(*map(range, layout.image)):
        (i, a), (j, b) = divmod(h + layout.border[0], down), divmod(w + layout.border[1], right)
        if i < layout.grid[0] and j < layout.grid[1]:
            pixel = (c * layout.image[1] + h) * layout.image[2] + w
            want[((c * down + a) * right + b) * layout.plane + i * layout.pitch + j] = images[pixel]
            inside[pixel] = True
    sizes = layout.sizes(each, n)
    frame(images.reshape(-1), planes.reshape(-1), layout.runs(each), sizes)
    np.testing.assert_array_equal(planes, want)
    back = np.full_like(images, np.nan)
    unframe(planes.reshape(-1), back.reshape(-1), layout.runs(each), sizes)
    np.testing.assert_array_equal(back, images * inside[:, None])
    assert bool(sizes[4]) == inside.all()


def test_tables_are_made_once_for_a_layer() -> None:
    pattern = pattern_of((2, 3, 2, 2), 0.5)
    geometry = Geometry(pattern, (2, 3, 2, 2), Windows((2, 2), (1, 1), (0, 0)), (3, 4, 5), 1, 16)
    forward, backward = passes(geometry, 16)
    again = Geometry(pattern, (2, 3, 2, 2), Windows((2, 2), (1, 1), (0, 0)), (3, 4, 5), 1, 16)
    assert passes(again, 16) == (forward, backward)
    assert forward.tables is forward.tables
    assert passes(again, 1)[0] is not forward
    assert forward.work(33) == LOADED * 3 * pattern.nnz * 12 * 16 + MOVE * 33 * (3 * 4 * 5 + 2 * 3 * 4)


def test_places_are_as_narrow_as_they_may_be() -> None:
    assert narrow(np.array([0, 2**31 - 1])).dtype == np.int32
    assert narrow(np.array([0, 2**31])).tolist() == [0, 2**31]
    assert narrow(np.zeros(0, np.int64)).dtype == np.int32
