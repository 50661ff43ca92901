"""Augmentation: batch transforms of images, each a value whose fields are its settings.

fit(model, data, batch=AffineElastic(shift=1.5), ...)         l0ref compress --augment affine_elastic:shift=1.5
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.autodiff.op import compiled
from l0ref.errors import ArgumentError, ShapeError
from l0ref.streams import stream
from l0ref.validate import Array, count, float_array, nonnegative

GRID = 6  # places of the elastic grid along each axis
PLACES = 2 * GRID * GRID  # elastic displacements of a sample, down and right
MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class AffineElastic:
    """Images seen through a random affine map and a random smooth field: x'[c, p] = x[c, c0 + A (p - c0) + s + e(p)].

    A  rotation by an angle in +-`rotation` degrees after scales in 1 +-`scale`, down and right, and a `shear`
    s  a shift in +-`shift` pixels, down and right; c0 is the centre of the image
    e  interpolates, bilinearly, normal displacements of `elastic` pixels (std) at 6 x 6 places that span the image

    x between pixels is bilinear, and beyond the border the nearest pixel. All draws are functions of (seed, epoch,
    number of the sample), and uniform except those of e. clean=2 leaves every second epoch unchanged, 0 none.

    Shapes   x (n, C, H, W) -> the same
    Ref      Simard, Steinkraus, Platt, Best practices for convolutional neural networks (2003): elastic distortions
    Departs  Simard et al. smooth noise of every pixel by a Gaussian; here a coarse grid is interpolated. The default
             sizes are those of our own runs on MNIST
    """

    shift: float = 1.5
    rotation: float = 10.0
    scale: float = 0.08
    shear: float = 0.08
    elastic: float = 0.5
    clean: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "rotation", "scale", "shear", "elastic"):
            object.__setattr__(self, name, nonnegative(name, getattr(self, name)))
        object.__setattr__(self, "clean", count("clean", self.clean))

    def __call__(self, x: Array, *, seed: int, epoch: int, index: Array) -> Array:
        x = float_array("x", x)
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise ShapeError(f"x has shape {x.shape}, expected images (N, C, H, W) for affine_elastic")
        if self.clean and epoch % self.clean == 0:
            return x.copy()
        affine, field = self.draws(seed, epoch, index)
        return (compiled("warp") or warp)(x, affine, field)

    def draws(self, seed: int, epoch: int, index: Array) -> tuple[Array, Array]:
        """Return for each sample the matrix A | s, (n, 2, 3), and the displacements e at the places, (n, 2, 6, 6)."""
        u = uniforms(stream(seed, "augment", epoch).integers(2**64, dtype=np.uint64), index, 6 + PLACES)
        angle, tall, wide, slant, down, right = 2 * u[:, :6].T - 1
        angle, tall, wide = np.deg2rad(self.rotation * angle), 1 + self.scale * tall, 1 + self.scale * wide
        cos, sin, shear = np.cos(angle), np.sin(angle), self.shear * slant
        rows = (
            [cos * tall, cos * shear - sin * wide, self.shift * down],
            [sin * tall, sin * shear + cos * wide, self.shift * right],
        )
        affine = np.stack([np.stack(row, axis=1) for row in rows], axis=1)
        radius, turn = u[:, 6 : 6 + PLACES // 2], u[:, 6 + PLACES // 2 :]  # Box and Muller's normal numbers
        radius = self.elastic * np.sqrt(-2 * np.log(1 - radius))
        field = np.concatenate([radius * np.cos(2 * np.pi * turn), radius * np.sin(2 * np.pi * turn)], axis=1)
        return affine, field.reshape(-1, 2, GRID, GRID)


def uniforms(key: np.uint64, index: Array, number: int) -> Array:
    """Return numbers in [0, 1), (n, number): a hash of (key, index, place) each, after Steele's SplitMix64."""
    place = np.arange(number, dtype=np.uint64)
    z = key + (index.astype(np.uint64)[:, None] * np.uint64(number) + place + np.uint64(1)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    for bits, factor in zip((30, 27), MIX, strict=True):
        z = (z ^ (z >> np.uint64(bits))) * factor
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def warp(x: Array, affine: Array, field: Array) -> Array:
    """Return images x (n, C, H, W) seen through the maps of `AffineElastic.draws`.

    The compiled twin is `l0ref.fast.dense.warp`.
    """
    n, _, height, width = x.shape
    p, q = np.arange(height)[:, None] + np.zeros((1, width)), np.zeros((height, 1)) + np.arange(width)
    at = [p * (GRID - 1) / max(height - 1, 1), q * (GRID - 1) / max(width - 1, 1)]
    out, centre = np.empty_like(x), np.array([(height - 1) / 2, (width - 1) / 2])
    for i in range(n):
        (a, b, down), (c, d, right) = affine[i]
        y, z = p - centre[0], q - centre[1]
        seen = [centre[0] + a * y + b * z + down, centre[1] + c * y + d * z + right]
        seen = [place + between_pixels(field[i, axis], *at) for axis, place in enumerate(seen)]
        for channel in range(x.shape[1]):
            out[i, channel] = between_pixels(x[i, channel], *seen)
    return out


def between_pixels(image: Array, y: Array, x: Array) -> Array:
    """Return an image (H, W) at places (y, x), bilinear; beyond the border, the nearest pixel."""
    height, width = image.shape
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    i, j = (np.clip(np.floor(at).astype(int), 0, max(size - 2, 0)) for at, size in ((y, height), (x, width)))
    dy, dx, below, beside = y - i, x - j, np.minimum(i + 1, height - 1), np.minimum(j + 1, width - 1)
    above = image[i, j] * (1 - dx) + image[i, beside] * dx
    return np.asarray(above * (1 - dy) + (image[below, j] * (1 - dx) + image[below, beside] * dx) * dy)


AUGMENTATIONS = {"affine_elastic": AffineElastic}


def by_name(text: str) -> AffineElastic:
    """Return the augmentation that a text names, as in "affine_elastic:shift=2,elastic=0".

    >>> by_name("affine_elastic:shift=2,clean=2")
    AffineElastic(shift=2.0, rotation=10.0, scale=0.08, shear=0.08, elastic=0.5, clean=2)
    """
    name, _, rest = text.partition(":")
    if name not in AUGMENTATIONS:
        raise ArgumentError(f"augment={text!r} is not one of {', '.join(AUGMENTATIONS)}")
    known = {f.name: f.type for f in dataclasses.fields(AUGMENTATIONS[name])}
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        try:
            options[key] = int(value) if known[key] == "int" else float(value)
        except (KeyError, ValueError):
            raise ArgumentError(
                f"augment={text!r} has the option {part!r}; give numbers for {', '.join(known)}, as in {name}:shift=2"
            ) from None
        if not math.isfinite(options[key]):
            raise ArgumentError(f"augment={text!r} has the option {part!r}, which must be finite")
    return AUGMENTATIONS[name](**options)
