"""A network as a table that fits a screen: what a Model prints as."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.nn.sequence import shapes
from l0ref.tables import table

SCREEN = 20  # layers that a network is printed with


def summary(model: Any) -> str:
    """Return a line about a Model and a table of its layers; of more than a screen of them the first and the last."""
    rows, arrays = [], {**model.params, **model.buffers}
    for layer, shape in zip(model.architecture, shapes(model.architecture, model.input_shape)[1:], strict=True):
        sizes = {key: weight.size for key, weight in layer.weights().items()}
        nbytes = sum(a.nbytes for key, a in arrays.items() if key.startswith(f"{layer.name}."))
        counts = [f"{sum(sizes.values()):,}", f"{_not_zero(model, sizes):,}"] if sizes else ["", ""]
        counts.append(f"{nbytes:,}" if nbytes else "")
        rows.append([layer.name, type(layer).__name__, "x".join(map(str, shape)), *counts])
    if len(rows) > SCREEN:
        rows[SCREEN // 2 : -SCREEN // 2] = [[f"... {len(rows) - SCREEN} more", "", "", "", "", ""]]
    inputs = "x".join(map(str, model.input_shape))
    kept = _not_zero(model, model.weights)
    about = f"Model({model.size:,} weights, {kept:,} of them not 0, {model.dtype}, inputs {inputs})"
    return f"{about}\n{table(['layer', 'kind', 'output', 'weights', 'not 0', 'bytes'], rows, left=2)}"


def _not_zero(model: Any, keys: Any) -> int:
    return sum(int(np.count_nonzero(model.params[key])) for key in keys)
