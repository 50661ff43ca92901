"""The time of a layer on this machine, dense and sparse: measured once, then predicted.

    dense    t = d0 + d1 u size                      size  weights, zeros included
    sparse   t = s0 + s1 u rows + s2 u nnz           rows  outputs or filters        nnz  stored weights

u is the number of uses of a weight in a batch, in vectors of samples: positions of the layer times ceil(n / lanes); for
a dense linear layer it is rounded up to the several vectors computed at a time. Coefficients >= 0 are fitted to median
times of layers of several sizes, densities and batches, by least squares of the relative error: one set for linear
layers, one for convolutions, and two more for batches of fewer than FEW samples, in which only small dense layers run
compiled. Predictions are accurate only if the machine was idle during the fit; `Costs.error` is the median relative
error there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from l0ref.archive import json_bytes, read_json, write_atomic
from l0ref.errors import ConfigError
from l0ref.nn import Model
from l0ref.nn.compiled import FEW
from l0ref.sparse import Pattern
from l0ref.validate import count, real

SCHEMA_VERSION = 2
KINDS = ("linear", "conv")


@dataclass(frozen=True)
class Line:
    """Coefficients of one kind of layer: dense (d0, d1) and sparse (s0, s1, s2), in seconds."""

    dense: tuple[float, float]
    sparse: tuple[float, float, float]

    def seconds(self, kind: str, *, uses: int, rows: int, size: int, nnz: int) -> tuple[float, float]:
        """Return the seconds of a layer: (dense, sparse)."""
        dense, sparse = terms(kind, uses=uses, rows=rows, size=size, nnz=nnz)
        return float(np.dot(self.dense, dense)), float(np.dot(self.sparse, sparse))


@dataclass(frozen=True)
class Costs:
    """A cost model of this machine.

    lines  a Line for each kind, "linear" and "conv"
    lanes  samples per vector when the model was fitted
    few    as `lines`, for batches of fewer than FEW samples; if empty, `lines` are used for them, too
    error  median of |predicted - measured| / measured over all layers of the fit
    """

    lines: dict[str, Line]
    lanes: int
    error: float
    few: dict[str, Line] = field(default_factory=dict)

    def predict(self, model: Model, key: str, pattern: Pattern, *, batch_size: int) -> tuple[float, float]:
        """Return the seconds of one layer's forward pass over a batch: (dense, sparse)."""
        kind, (rows, _) = model.kinds[key], pattern.shape
        line = (self.few if self.few and batch_size < FEW else self.lines)[kind]
        uses = model.positions[key] * -(-batch_size // self.lanes)
        return line.seconds(kind, uses=uses, rows=rows, size=model.sizes[key], nnz=pattern.nnz)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as JSON."""
        found = {name: {k: vars(v) for k, v in getattr(self, name).items()} for name in ("lines", "few")}
        head = {"schema_version": SCHEMA_VERSION, "lanes": self.lanes, "error": self.error}
        write_atomic(path, json_bytes(head | found))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Costs:
        """Read a cost model that `save` wrote."""
        found = read_json(path)
        try:
            if found["schema_version"] != SCHEMA_VERSION:
                raise KeyError("schema_version")
            lines, few = _lines(found["lines"], KINDS), _lines(found["few"], KINDS if found["few"] else ())
            return cls(lines, count("lanes", found["lanes"], least=1), real("error", found["error"]), few)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(
                f"path={os.fspath(path)!r} is not a cost model: {error} is wrong or missing; use l0ref calibrate"
            ) from None


def costs_file() -> Path:
    """Return the file of `l0ref calibrate` and `l0ref compress`: L0REF_COSTS, or a file in the user's cache."""
    if named := os.environ.get("L0REF_COSTS"):
        return Path(named)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "l0ref" / "costs.json"
    try:
        return Path.home() / ".cache" / "l0ref" / "costs.json"
    except RuntimeError:
        raise ConfigError("no home folder is known for the cost model; set L0REF_COSTS to a file") from None


def known_costs() -> Costs | None:
    """Return the cost model that `l0ref calibrate` wrote on this machine, or None."""
    try:
        path = costs_file()
    except ConfigError:  # no home folder, so no file in it
        return None
    return Costs.load(path) if path.is_file() else None


def terms(kind: str, *, uses: int, rows: int, size: int, nnz: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the factors of the coefficients of a Line: (dense, sparse)."""
    from l0ref.fast.machine.target import COLUMNS  # Numba is loaded with it

    whole = -(-uses // COLUMNS) * COLUMNS if kind == "linear" else uses
    return (1, whole * size), (1, uses * rows, uses * nnz)


def _lines(found: Any, kinds: Iterable[str]) -> dict[str, Line]:
    return {k: Line(_numbers(found[k]["dense"], 2), _numbers(found[k]["sparse"], 3)) for k in kinds}


def _numbers(values: Any, length: int) -> Any:
    """Return the coefficients; refuse a wrong number of values, and values that are negative or not finite."""
    numbers = tuple(float(v) for v in values)
    if len(numbers) != length or min(numbers) < 0 or not np.isfinite(numbers).all():
        raise ValueError(f"coefficients {values!r}")
    return numbers
