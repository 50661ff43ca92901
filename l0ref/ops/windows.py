"""Sliding windows over images: the geometry that convolution and pooling share.

Axis letters, here and in the files that import this one:

    n batch   c channel   f filter   h w image   p q output grid   r s place in the window
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from l0ref.errors import ShapeError
from l0ref.validate import Array

Pair = tuple[int, int]
INT32_MAX = 2**31 - 1  # the most pixels of an image with its padding


@dataclass(frozen=True)
class Windows:
    """Windows of R x S places, laid over an image of H x W pixels with a border of padding.

    Place (r, s) of window (p, q) lies on pixel (p stride + r dilation - padding, the same with q and s); outside the
    image it lies on padding. There are P = floor((H + 2 padding + beyond - dilation (R - 1) - 1) / stride) + 1 rows of
    windows, and Q columns likewise. Every setting is a pair (vertical, horizontal). `beyond` is the number of rows and
    columns of padding by which the lower and right border exceed the upper and left one; it may be negative.
    """

    size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    beyond: Pair = (0, 0)

    @property
    def span(self) -> Pair:
        """Pixels from the first place of a window to the last, both counted."""
        return self.dilation[0] * (self.size[0] - 1) + 1, self.dilation[1] * (self.size[1] - 1) + 1

    def grid(self, image: Pair) -> Pair:
        """Return (P, Q) for an image of H x W pixels; less than 1 where no window fits."""
        sizes = zip(self.padded(image), self.span, self.stride, strict=True)
        rows, columns = ((n - span) // stride + 1 for n, span, stride in sizes)
        return rows, columns

    def misses(self, image: Pair) -> bool:
        """Return whether all places of some window lie on padding."""
        for i, count in enumerate(self.grid(image)):
            beyond = (count - 1) * self.stride[i] - self.padding[i] >= image[i]
            if beyond or self.padding[i] >= self.span[i]:  # the last window or the first
                return True
            first = np.arange(count) * self.stride[i] - self.padding[i]
            place = first + np.maximum(-(first // self.dilation[i]), 0) * self.dilation[i]  # the first one from 0 on
            if not (place < np.minimum(first + self.span[i], image[i])).all():
                return True
        return False

    def of(self, x: Array, *, fill: float = 0.0) -> Array:
        """Return win[n,c,p,q,r,s], pixels of x (N, C, H, W) under each window and `fill` on padding; a view."""
        if self.padding != (0, 0) or self.beyond != (0, 0):
            edges = [(p, p + more) for p, more in zip(self.padding, self.beyond, strict=True)]
            x = np.pad(x, ((0, 0), (0, 0), *edges), constant_values=fill)
        every = sliding_window_view(x, self.span, axis=(2, 3))  # nchw -> ncpqrs, still at stride 1 and without gaps
        return every[:, :, :: self.stride[0], :: self.stride[1], :: self.dilation[0], :: self.dilation[1]]

    def add_up(self, win: Array, image: Pair) -> Array:
        """Return x (N, C, H, W) where pixel (h, w) is the sum of win[n,c,p,q,r,s] over all places that lie on it.

        This is the transpose of `of` with fill = 0: <win, of(x)> = <add_up(win), x>.
        """
        n, c, p, q, r, s = win.shape
        (height, width), (top, left) = image, self.padding
        x = np.zeros((n, c, *self.padded(image)), win.dtype)
        for i, j in np.ndindex(r, s):  # one place of all windows at once: no two of them lie on the same pixel
            (h, w), (down, right) = (i * self.dilation[0], j * self.dilation[1]), self.stride
            x[:, :, h : h + p * down : down, w : w + q * right : right] += win[:, :, :, :, i, j]
        return x[:, :, top : top + height, left : left + width]

    def on_image(self, image: Pair) -> Array:
        """Return inside[0,0,p,q,r,s]: True where that place lies on the image, False where it lies on padding."""
        return self.of(np.ones((1, 1, *image), bool), fill=False)

    def stepping(self, image: Pair) -> Windows:
        """Return the same windows with the stride reduced to the size of the padded image where it is longer."""
        down, right = (min(s, n) for s, n in zip(self.stride, self.padded(image), strict=True))
        return replace(self, stride=(down, right))

    def padded(self, image: Pair) -> Pair:
        """Return rows and columns of an image with its padding."""
        (height, width), (top, left), (below, beside) = image, self.padding, self.beyond
        return height + 2 * top + below, width + 2 * left + beside

    def check_fit(self, what: str, image: Pair) -> None:
        """Refuse an image with too many pixels, or on which no window fits; `what` names the argument and its value."""
        (tall, wide), (height, width) = self.span, self.padded(image)
        if height * width > INT32_MAX:
            raise ShapeError(
                f"padding={self.padding} makes an image of {height} x {width} pixels, more than {INT32_MAX:,}; use less"
            )
        if tall > height or wide > width:
            raise ShapeError(
                f"{what} spans {tall} x {wide} pixels, but the padded image has {height} x {width}; "
                "use a smaller kernel or more padding"
            )


def check_images(shape: tuple[int, ...]) -> None:
    """Refuse an `input` that is not a batch of images."""
    if len(shape) != 4:
        raise ShapeError(f"input has shape {shape}, expected (N, C, H, W); give one image (C, H, W) as input[None]")
