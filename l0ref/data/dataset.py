"""A data set is a value: samples, labels, the number of classes and a name; three of them make `Splits`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, ShapeError
from l0ref.tables import preformatted, table
from l0ref.validate import Array, as_array, count, float_array, labels, owned, raw_array, same_dtype, sealed, shown


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their class labels, or with the targets of a regression.

    x        float32 or float64, finite: images (N, C, H, W) or vectors (N, D)
    y        intp (N,), class indices in [0, classes); without classes, the targets of a regression: floats (N, K) of
             the dtype of x
    classes  number of classes; 0 for a regression
    name     for messages and reports, e.g. "mnist/train"

    Both arrays belong to the data set and are read-only, so that the checks stay valid. An array that can still be
    written to is copied; to avoid the copy of a large one, pass it with `x.flags.writeable = False`.
    """

    x: Array
    y: NDArray[Any]
    classes: int
    name: str

    def __post_init__(self) -> None:
        x = float_array("x", self.x)
        if x.ndim not in (2, 4):
            raise ShapeError(f"x has shape {x.shape}, expected images (N, C, H, W) or vectors (N, D)")
        if x.size and not _finite(x):
            raise ArgumentError(f"x of {self.name!r} holds NaN or infinite entries; drop or repair those samples")
        is_regression = count("classes", self.classes) == 0 and raw_array("y", self.y).dtype.kind == "f"
        y = self._targets(x) if is_regression else self._labels(x)
        object.__setattr__(self, "x", owned(x))
        object.__setattr__(self, "y", owned(y))

    def _labels(self, x: Array) -> Array:
        return labels("y", self.y, shape=x.shape[:1], classes=count("classes", self.classes, least=1))

    def _targets(self, x: Array) -> Array:
        y = float_array("y", self.y)
        same_dtype(x=x, y=y)
        if y.ndim != 2 or len(y) != len(x):
            raise ShapeError(
                f"y has shape {y.shape}, expected ({len(x)}, K): K targets for each sample of {self.name!r}"
            )
        if y.size and not _finite(y):
            raise ArgumentError(f"y of {self.name!r} holds NaN or infinite entries; drop or repair those samples")
        return y

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        what = f"{self.classes} classes" if self.classes else f"{self.y.shape[1]} targets"
        return f"Dataset({self.name!r}, {len(self)} x {self.sample_shape}, {self.x.dtype}, {what})"

    @property
    def outputs(self) -> int:
        """Number of outputs of a network for these data: one for each class, or for each target."""
        return self.classes or int(self.y.shape[1])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis: the `input_shape` of `Model.init`."""
        return self.x.shape[1:]

    def take(self, indices: NDArray[np.integer[Any]], *, name: str | None = None) -> Dataset:
        """The samples at `indices`, a row of numbers in [0, N), of N bools, or a slice; in that order."""
        rows = indices if isinstance(indices, slice) else self._rows(indices)
        x, y = sealed(self.x[rows]), sealed(self.y[rows])
        return Dataset(x, y, self.classes, self.name if name is None else name)

    def _rows(self, indices: Any) -> NDArray[Any]:
        rows, n = as_array("indices", indices), len(self)
        if rows.shape == (n,) and rows.dtype == bool:
            return rows
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ArgumentError(f"indices={shown(indices)} must be a row of whole numbers, as in [0, 3]")
        if rows.size and not (rows.min() >= 0 and rows.max() < n):
            worst = int(rows.max()) if rows.max() >= n else int(rows.min())
            raise ArgumentError(f"indices holds {worst}, outside [0, {n}): {self.name!r} has {n} samples")
        return rows.astype(np.intp, copy=False)

    def flatten(self) -> Dataset:
        """The same samples as vectors (N, C*H*W), in C order."""
        width = int(np.prod(self.sample_shape))  # not -1, which an empty set cannot resolve
        return Dataset(self.x.reshape(len(self), width), self.y, self.classes, self.name)


@dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """Training, validation and test set of one data set.

    Everything that is chosen (best epoch, threshold, penalty strength) is chosen on `validation`; `test` is
    read once, at the end. `checksum` is the SHA-256 over the decoded bytes of the files the data came from
    (`l0ref.data.idx.checksum`), or over the arrays given to `from_arrays`; it identifies the data of a result.
    `preparation`, set by `from_arrays`, says how the raw arrays were converted.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    name: str
    checksum: str
    preparation: Any = None  # a Preparation, whose module imports this one

    def __repr__(self) -> str:
        rows = []
        for what, part in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            shape = "x".join(map(str, part.sample_shape))
            rows.append([what, f"{len(part):,}", shape, str(part.x.dtype), f"{part.x.nbytes + part.y.nbytes:,}"])
        what = f"{self.train.classes} classes" if self.train.classes else f"{self.train.outputs} targets"
        return f"Splits({self.name!r}, {what})\n{table(['part', 'samples', 'sample', 'dtype', 'bytes'], rows)}"

    def _repr_html_(self) -> str:
        return preformatted(self)

    def __post_init__(self) -> None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        same_dtype(**{f"{key}.x": part.x for key, part in parts.items()})
        for what in ("sample_shape", "classes", "outputs"):
            if len({getattr(part, what) for part in parts.values()}) > 1:
                found = ", ".join(f"{key} {getattr(part, what)}" for key, part in parts.items())
                raise ShapeError(f"{what} differs between the splits of {self.name!r}: {found}; make them equal")


def _finite(x: Array) -> bool:
    """Whether all entries are finite; minimum and maximum carry NaN and need no array of booleans."""
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(x.min()) and np.isfinite(x.max()))
