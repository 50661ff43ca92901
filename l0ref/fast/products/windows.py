"""Tables of offsets for a convolution as direct sums over blocks of images: its value and both cotangents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from l0ref.fast.machine.tables import Table, table
from l0ref.ops.windows import Pair, Windows


class WindowTables(NamedTuple):
    """Arguments of the kernels of `products.contraction`.

    value   of `contract`, which fills y
    inputs  of `scatter`, which adds to the cotangent of x
    weight  of `correlate`, which fills the cotangent of k
    """

    value: tuple[Table, Table, Table]
    inputs: tuple[Table, Table, Table]
    weight: tuple[Table, Table, Table]


def window_tables(
    framed: tuple[int, ...],
    filters: int,
    grid: Pair,
    windows: Windows,
    *,
    lanes: int,
    inset: Pair = (0, 0),
    target: tuple[Pair, Pair] | None = None,
) -> WindowTables:
    """Return the tables of a convolution; weights are (F, C, R, S), flat.

    framed  (C, H, W) of an image inside its padding, or a wider frame
    inset   rows and columns of the frame beyond the padding, on either side
    grid    rows P and columns Q of windows
    target  rows and columns of y with its frame, and the start of y in it; None: y has no frame
    """
    (rows, cols), (down, beside), (above, before) = grid, windows.stride, inset
    (tall, wide), (top, left) = target or (grid, (0, 0))
    pixels = np.arange(np.prod(framed, dtype=np.int64)).reshape(framed) * lanes
    first = pixels[0, above:, before:][: rows * down : down, : cols * beside : beside].ravel()  # of each window
    r, s = (np.arange(n) * d for n, d in zip(windows.size, windows.dilation, strict=True))
    window = pixels[:, r[:, None], s].ravel()  # the first one, over all channels
    out = (np.arange(tall * wide) * lanes).reshape(tall, wide)[top : top + rows, left : left + cols].ravel()
    taps, f = np.arange(window.size), np.arange(filters)
    plane, own = f * tall * wide * lanes, f * window.size
    return WindowTables(
        value=(table(first, out), table(own, plane, f), table(window, taps)),
        inputs=(table(out, first), table(taps, window, 0), table(plane, own)),
        weight=(table(first, out), table(plane, 0), window),
    )
