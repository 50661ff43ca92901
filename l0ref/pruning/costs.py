"""What a layer takes on this machine, dense and sparse: measured once, then predicted.

    dense    t = d0 + d1 u size                      size  weights, stored or not
    sparse   t = s0 + s1 u rows + s2 u nnz           rows  outputs or filters        nnz  stored weights

u counts how often a weight is used in a batch, in vectors of samples: positions of the layer times ceil(n / lanes).
The coefficients are fitted to medians of layers of several sizes, densities and batches, by least squares of the
relative error with none below 0; one set for linear layers, one for convolutions. A prediction is as good as the
machine is quiet: `Costs.error` tells how far it was off where it was fitted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l0ref.archive import json_bytes, read_json, write_atomic
from l0ref.errors import ConfigError
from l0ref.nn import Model
from l0ref.sparse import Pattern
from l0ref.validate import count

SCHEMA_VERSION = 1
KINDS = ("linear", "conv")


@dataclass(frozen=True)
class Line:
    """Coefficients of one kind of layer: dense (d0, d1) and sparse (s0, s1, s2), in seconds."""

    dense: tuple[float, float]
    sparse: tuple[float, float, float]


@dataclass(frozen=True)
class Costs:
    """A cost model of this machine.

    lines  a Line for each kind, "linear" and "conv"
    lanes  samples of a vector when it was fitted
    error  median of |predicted - measured| / measured over all layers it was fitted to
    """

    lines: dict[str, Line]
    lanes: int
    error: float

    def predict(self, model: Model, key: str, pattern: Pattern, *, batch_size: int) -> tuple[float, float]:
        """Return the seconds of one layer's forward pass over a batch: (dense, sparse)."""
        uses = model.positions[key] * -(-batch_size // self.lanes)
        line, (rows, _) = self.lines[model.kinds[key]], pattern.shape
        dense = float(np.dot(line.dense, (1, uses * model.sizes[key])))
        return dense, float(np.dot(line.sparse, (1, uses * rows, uses * pattern.nnz)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as JSON."""
        lines = {kind: {"dense": list(v.dense), "sparse": list(v.sparse)} for kind, v in self.lines.items()}
        write_atomic(
            path,
            json_bytes({"schema_version": SCHEMA_VERSION, "lanes": self.lanes, "error": self.error, "lines": lines}),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Costs:
        """Read what `save` wrote."""
        found = read_json(path)
        try:
            if found["schema_version"] != SCHEMA_VERSION:
                raise KeyError("schema_version")
            lines = {
                kind: Line(_numbers(found["lines"][kind]["dense"], 2), _numbers(found["lines"][kind]["sparse"], 3))
                for kind in KINDS
            }
            return cls(lines, count("lanes", found["lanes"], least=1), float(found["error"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"path={os.fspath(path)!r} is no cost model: {error} is wrong or missing; write it with l0ref calibrate"
            ) from None


def costs_file() -> Path:
    """Return where `l0ref calibrate` writes and `l0ref compress` looks: L0REF_COSTS, or a file in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("L0REF_COSTS") or Path(cache) / "l0ref" / "costs.json")


def _numbers(values: Any, length: int) -> Any:
    """Checked coefficients: so many finite numbers, none below 0."""
    numbers = tuple(float(v) for v in values)
    if len(numbers) != length or min(numbers) < 0 or not np.isfinite(numbers).all():
        raise ValueError(f"coefficients {values!r}")
    return numbers
