"""Convolution in tiles (`l0ref.fast.dense.winograd`): against loops, over sizes of tiles, and when it is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.fast.dense import convolution, winograd
from l0ref.fast.dense.direct import Direct
from l0ref.fast.dense.winograd import Winograd, pays
from l0ref.fast.machine.target import lanes
from l0ref.ops.windows import Windows
from tests.naive import convolution as naive

pytestmark = pytest.mark.kernels

each_dtype = pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-5), (np.float64, 5e-14)], ids=["f32", "f64"])
# images, channels, height, width; filters; padding
SHAPES: dict[str, tuple[tuple[int, int, int, int], int, tuple[int, int]]] = {
    "one tile": ((3, 1, 4, 4), 1, (0, 0)),
    "one output": ((2, 2, 3, 3), 3, (0, 0)),
    "an even image in a border": ((2, 3, 6, 4), 5, (1, 1)),
    "an odd image in a border": ((3, 2, 5, 7), 4, (1, 1)),
    "an odd height": ((2, 2, 5, 6), 2, (1, 1)),
    "an odd width": ((2, 2, 6, 5), 2, (1, 1)),
    "a wide border": ((2, 2, 2, 3), 2, (2, 2)),
    "borders that differ": ((2, 2, 4, 5), 3, (0, 2)),
    "more than a strip of tiles": ((1, 2, 14, 14), 2, (1, 1)),
    "more than one block": ((17, 2, 4, 4), 3, (1, 1)),
    "one image more than a block": ((9, 3, 5, 4), 2, (1, 1)),
    "no images": ((0, 2, 4, 4), 2, (1, 1)),
}
each_shape = pytest.mark.parametrize(("shape", "filters", "padding"), SHAPES.values(), ids=SHAPES)


def windows(padding: tuple[int, int]) -> Windows:
    return Windows((3, 3), (1, 1), padding, (1, 1))


def assert_near(got: Any, want: Any, rtol: float) -> None:
    """Of the same shape, and no entry further off than rtol of the largest."""
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0.0) <= rtol * np.abs(want).max(initial=0.0)


@each_dtype
@each_shape
def test_against_loops(shape: Any, filters: int, padding: Any, dtype: Any, rtol: float, rng: Any) -> None:
    x, k, b = (rng.standard_normal(s).astype(dtype) for s in (shape, (filters, shape[1], 3, 3), filters))
    way = Winograd(shape, filters, windows(padding), dtype)
    options = {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}
    want = naive.conv2d(*(a.astype(np.float64) for a in (x, k, b)), **options)
    y = way.forward(x, k, b)
    assert y.dtype == dtype
    assert_near(y, want, rtol)
    assert_near(way.forward(x, k, None), naive.conv2d(x.astype(np.float64), k.astype(np.float64), **options), rtol)
    y_bar = rng.standard_normal(want.shape).astype(dtype)
    k_bar = way.weight_cotangent(x, y_bar)
    assert k_bar.dtype == dtype
    bars = naive.conv2d_vjp(y_bar.astype(np.float64), *(a.astype(np.float64) for a in (x, k, b)), **options)
    assert_near(k_bar, bars[1], rtol)


@each_dtype
@pytest.mark.parametrize("size", [(6, 6), (8, 5)], ids=["even", "odd"])
def test_any_number_of_threads_gives_the_same_bits(size: Any, dtype: Any, rtol: float, rng: Any) -> None:
    shape, filters = (2 * lanes(dtype) + 1, 5, *size), 6
    x, k, y_bar = (
        rng.standard_normal(s).astype(dtype) for s in (shape, (filters, 5, 3, 3), (shape[0], filters, *size))
    )
    found = []
    for threads in (1, 2, 4):
        way = Winograd(shape, filters, windows((1, 1)), dtype)
        way._threads = lambda threads=threads: threads  # type: ignore[method-assign]
        found.append((way.forward(x, k, None), way.weight_cotangent(x, y_bar)))
    for y, k_bar in found[1:]:
        np.testing.assert_array_equal(y, found[0][0])
        np.testing.assert_array_equal(k_bar, found[0][1])
    assert_near(found[0][0], Direct(shape, filters, windows((1, 1)), dtype).forward(x, k, None), rtol)


PLAIN = windows((1, 1))
CHOICES = {
    "many channels and filters": ((32, 32, 8, 8), (32, 32, 3, 3), PLAIN, True),
    "an odd image that is large": ((32, 32, 27, 27), (32, 32, 3, 3), PLAIN, True),
    "an odd image that is small": ((32, 32, 7, 7), (32, 32, 3, 3), PLAIN, False),
    "few channels": ((32, 31, 8, 8), (32, 31, 3, 3), PLAIN, False),
    "few filters": ((32, 32, 8, 8), (31, 32, 3, 3), PLAIN, False),
    "5 x 5": ((32, 32, 8, 8), (32, 32, 5, 5), Windows((5, 5), (1, 1), (1, 1)), False),
    "3 x 1": ((32, 32, 8, 8), (32, 32, 3, 1), Windows((3, 1), (1, 1), (1, 1)), False),
    "stride 2": ((32, 32, 8, 8), (32, 32, 3, 3), Windows((3, 3), (1, 2), (1, 1)), False),
    "dilation 2": ((32, 32, 8, 8), (32, 32, 3, 3), Windows((3, 3), (1, 1), (1, 1), (2, 1)), False),
}


@pytest.mark.parametrize(("x", "k", "laid", "in_tiles"), CHOICES.values(), ids=CHOICES)
def test_when_it_is_chosen(x: Any, k: Any, laid: Windows, in_tiles: bool) -> None:
    assert pays(x, k, laid) == in_tiles
    assert isinstance(convolution.way(x, k, laid, np.float32), Winograd if in_tiles else Direct)


@each_dtype
@pytest.mark.parametrize(("many", "way"), [(1, Winograd), (100, Direct)], ids=["many tiles", "few tiles"])
def test_the_twin_gives_the_same_in_tiles_and_without(
    many: int, way: Any, dtype: Any, rtol: float, rng: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (lanes(dtype), 3, 6, 6)
    x, k, b, y_bar = (rng.standard_normal(s).astype(dtype) for s in (shape, (3, 3, 3, 3), 3, shape))
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    used = []
    for kind in (Winograd, Direct):
        for method in ("forward", "weight_cotangent"):
            plain = getattr(kind, method)
            monkeypatch.setattr(
                kind, method, lambda *args, plain=plain, of=(kind, method): (used.append(of), plain(*args))[1]
            )

    def run() -> list[Any]:
        y, saved = convolution.conv2d_forward(x, k, b, **options)
        return [y, *(bar() for bar in convolution.conv2d_vjp(saved, y_bar))]

    exact = [a.astype(np.float64) for a in (x, k, b)]
    want = naive.conv2d(*exact, **options), *naive.conv2d_vjp(y_bar.astype(np.float64), *exact, **options)
    results = [run()]
    monkeypatch.setattr(winograd, "LEAST", 3)
    monkeypatch.setattr(winograd, "MANY", many)
    results.append(run())
    for result in results:
        for got, value in zip(result, want, strict=True):
            assert_near(got, value, rtol)
    directly = [(Direct, name) for name in ("forward", "forward", "weight_cotangent")]
    assert used == [*directly, (Winograd, "forward"), (Winograd, "forward"), (way, "weight_cotangent")]
