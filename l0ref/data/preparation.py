"""The conversion of raw arrays into the input of a network, as a value that is stored with the network.

x   whole numbers -> float; images (N, H, W) -> (N, 1, H, W), and (N, H, W, C) -> (N, C, H, W) where layout="nhwc"
    says so; then (x - mean) / std with the statistics of the training set
y   labels of any kind -> class indices 0, 1, ...; or, for regression, float targets (N, K)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.data.dataset import Dataset
from l0ref.data.standardize import Standardization
from l0ref.errors import ArgumentError, CheckpointError, DataError, DTypeError, ShapeError
from l0ref.validate import Array, float_type, raw_array, sealed, shown

LAYOUTS = ("nchw", "nhwc")
MAX_DIGITS = 640  # Python can be set to read no longer numbers


@dataclass(frozen=True)
class Preparation:
    """The conversion of raw arrays into a `Dataset`.

    classes  the label, as text, that each class index stands for; () for regression
    layout   of four-dimensional x: "nchw" or "nhwc", never guessed
    scale    mean and standard deviation of the training set; None: x is not scaled
    """

    classes: tuple[str, ...]
    layout: str = "nchw"
    scale: Standardization | None = None

    def apply(self, x: Any, y: Any, *, name: str, dtype: Any = np.float32) -> Dataset:
        """Return raw samples and labels as the data set a network takes; an unknown label is refused."""
        samples = samples_of(x, layout=self.layout, name=name, dtype=dtype)
        if self.classes:
            found = Dataset(samples, self._indices(y, name), len(self.classes), name)
        else:
            found = Dataset(samples, targets_of(y, name=name, dtype=dtype), 0, name)
        if len(found) and self.scale is not None:
            widths = {1, samples.shape[1]}
            if self.scale.mean.size not in widths:
                raise ShapeError(
                    f"x of {name!r} has {samples.shape[1]} columns or channels, the network was trained on "
                    f"{self.scale.mean.size}; give data of the same kind"
                )
            return self.scale.apply(found)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able values; `from_json` reads them back."""
        scale = None if self.scale is None else {k: getattr(self.scale, k).tolist() for k in ("mean", "std")}
        return {"classes": list(self.classes), "layout": self.layout, "scale": scale}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Preparation:
        """Return the preparation that `to_json` described; refuse any other description."""
        try:
            classes, layout, scale = tuple(told["classes"]), told["layout"], told["scale"]
            found = None if scale is None else Standardization(*(np.array(scale[k], float) for k in ("mean", "std")))
            sound = layout in LAYOUTS and all(isinstance(each, str) for each in classes)
            if found is not None:
                one = found.mean.ndim == 1 and found.mean.shape == found.std.shape
                sound = sound and one and bool(np.isfinite(found.mean).all() and (found.std > 0).all())
        except (LookupError, TypeError, ValueError):
            sound = False
        if not sound:
            raise CheckpointError(f"preparation={str(told)[:60]!r} is unsound; restore the file from a copy you trust")
        return cls(classes, layout, found)

    def _indices(self, y: Any, name: str) -> NDArray[np.intp]:
        found = label_texts(y, name=name)
        index = {label: i for i, label in enumerate(self.classes)}
        if unknown := sorted(set(found.tolist()) - set(index)):
            known = ", ".join(label[:40] for label in self.classes[:10])
            raise DataError(f"y of {name!r} has the label {shown(unknown[0])}, none of the training labels {known}")
        return np.array([index[label] for label in found.tolist()], np.intp)


def samples_of(x: Any, *, layout: str, name: str, dtype: Any) -> Array:
    """Return raw samples as float vectors (N, D) or images (N, C, H, W)."""
    found = raw_array(f"x of {name!r}", x)
    if found.dtype.kind not in "fiub":
        raise DTypeError(f"x of {name!r} has dtype {found.dtype}, which is not numeric; give numbers")
    if found.ndim not in (2, 3, 4) or 0 in found.shape[1:]:
        raise ShapeError(
            f"x of {name!r} has shape {found.shape}; give vectors (N, D), images (N, H, W) or (N, C, H, W), "
            "or (N, H, W, C) with layout nhwc"
        )
    if layout == "nhwc":
        if found.ndim != 4:
            raise ShapeError(f"x of {name!r} has shape {found.shape}, but layout nhwc means (N, H, W, C); leave it out")
        found = found.transpose(0, 3, 1, 2)
    if found.ndim == 3:
        found = found[:, None]
    return _as_floats(found, dtype)


def targets_of(y: Any, *, name: str, dtype: Any) -> Array:
    """Return the targets of a regression as floats (N, K)."""
    found = raw_array(f"y of {name!r}", y)
    if found.dtype.kind not in "fiu" or found.ndim not in (1, 2):
        raise DTypeError(
            f"y of {name!r} has dtype {found.dtype} and shape {found.shape}; a regression needs numbers (N,) or (N, K)"
        )
    return _as_floats(found.reshape(len(found), -1 if found.size else 1), dtype)


def _as_floats(found: Array, dtype: Any) -> Array:
    """A fresh array of this dtype; numbers too large for it become infinite, which a data set refuses."""
    with np.errstate(over="ignore"):
        return np.array(found, dtype=float_type(dtype), order="C")


def label_texts(y: Any, *, name: str) -> NDArray[np.str_]:
    """Return labels as text, one for each sample: any whole numbers, strings, or one-hot rows by column."""
    found = raw_array(f"y of {name!r}", y)
    if found.ndim == 2 and found.shape[1] > 1:
        if found.dtype.kind not in "fiub" or not (np.isin(found, (0, 1)).all() and (found.sum(axis=1) == 1).all()):
            raise ArgumentError(
                f"y of {name!r} has shape {found.shape} and is not one-hot (one 1 in each row, else 0); give one label "
                "for each sample"
            )
        found = found.argmax(axis=1)
    if found.ndim == 2:
        found = found[:, 0]
    if found.ndim != 1:
        raise ShapeError(f"y of {name!r} has shape {found.shape}; give one label for each sample, or one-hot rows")
    if found.dtype.kind == "f":
        if not (np.isfinite(found).all() and (found == np.floor(found)).all()):
            raise ArgumentError(f"y of {name!r} has fractions, infinities or NaN; for a regression set task='values'")
        if (np.abs(found.astype(np.float64)) >= 2.0**63).any():
            raise ArgumentError(f"y of {name!r} has floats from 2**63 up, too large for labels; give integers or text")
    if found.dtype.kind == "S":
        try:
            return np.char.decode(found, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"y of {name!r} holds bytes that are not UTF-8; give text") from None
    if found.dtype.kind == "O" and not all(isinstance(each, str) for each in found):
        raise DTypeError(f"y of {name!r} holds objects that are not text; give whole numbers or strings")
    return np.asarray(found.astype(np.int64) if found.dtype.kind in "fb" else found).astype(str)


def classes_of(labels: NDArray[np.str_]) -> tuple[str, ...]:
    """Return the labels that occur: in numerical order if all are whole numbers of up to 640 digits, else as text."""
    found = np.unique(labels).tolist()
    numeric = all(each.removeprefix("-").isdecimal() and len(each) <= MAX_DIGITS for each in found)
    return tuple(sorted(found, key=int) if numeric else found)


def scaled(preparation: Preparation, scale: Standardization) -> Preparation:
    """Return the preparation with the statistics of the training set, read-only."""
    return dataclasses.replace(preparation, scale=Standardization(sealed(scale.mean), sealed(scale.std)))
