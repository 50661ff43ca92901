"""A data set is a value: samples, labels, the number of classes and a name; three of them make `Splits`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, ShapeError
from l0ref.validate import Array, count, float_array, labels, owned, same_dtype, sealed


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their class labels.

    x        float32 or float64, finite: images (N, C, H, W) or vectors (N, D)
    y        intp (N,), class indices in [0, classes)
    classes  number of classes
    name     for messages and reports, e.g. "mnist/train"

    Both arrays are the data set's own and cannot be written: what was checked stays true. An array that somebody can
    still write is copied; to save the copy of a large one, hand it over with `x.flags.writeable = False`.
    """

    x: Array
    y: NDArray[np.intp]
    classes: int
    name: str

    def __post_init__(self) -> None:
        x = float_array("x", self.x)
        if x.ndim not in (2, 4):
            raise ShapeError(f"x has shape {x.shape}, expected images (N, C, H, W) or vectors (N, D)")
        if x.size and not _finite(x):
            raise ArgumentError(f"x of {self.name!r} holds NaN or infinite entries; drop or repair those samples")
        y = labels("y", self.y, shape=x.shape[:1], classes=count("classes", self.classes, least=1))
        object.__setattr__(self, "x", owned(x))
        object.__setattr__(self, "y", owned(y))

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} x {self.sample_shape}, {self.x.dtype}, {self.classes} classes)"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis: what `Model.init` takes as `input_shape`."""
        return self.x.shape[1:]

    def take(self, indices: NDArray[np.integer[Any]], *, name: str | None = None) -> Dataset:
        """The samples at `indices`, in that order."""
        x, y = sealed(self.x[indices]), sealed(self.y[indices])
        return Dataset(x, y, self.classes, self.name if name is None else name)

    def flatten(self) -> Dataset:
        """The same samples as vectors (N, C*H*W), in C order."""
        width = int(np.prod(self.sample_shape))  # not -1, which an empty set cannot resolve
        return Dataset(self.x.reshape(len(self), width), self.y, self.classes, self.name)


@dataclass(frozen=True, eq=False)
class Splits:
    """Training, validation and test set of one data set.

    Everything that is chosen (best epoch, threshold, penalty strength) is chosen on `validation`; `test` is
    read once, at the end. `checksum` is the SHA-256 over the decoded bytes of the files the data came
    from (`l0ref.data.idx.checksum`), so it tells which data a result was computed on.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    name: str
    checksum: str

    def __post_init__(self) -> None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        same_dtype(**{f"{key}.x": part.x for key, part in parts.items()})
        for what in ("sample_shape", "classes"):
            if len({getattr(part, what) for part in parts.values()}) > 1:
                found = ", ".join(f"{key} {getattr(part, what)}" for key, part in parts.items())
                raise ShapeError(f"{what} differs between the splits of {self.name!r}: {found}; make them equal")


def _finite(x: Array) -> bool:
    """Whether all entries are finite; minimum and maximum carry NaN and need no array of booleans."""
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(x.min()) and np.isfinite(x.max()))
