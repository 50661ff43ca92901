"""The cost of a compressed network in use: bytes, multiply-adds and measured seconds of its three forms, side by side.

masked   dense arrays, in which pruned weights are zeros
shrunk   unused units cut out of the arrays
compact  zero weights not stored either, where that is faster
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l0ref import metrics
from l0ref.deploy.compact import CompactModel
from l0ref.nn import Model
from l0ref.report.speed import measured, speedup
from l0ref.report.tables import SCREEN, Cells
from l0ref.tables import table, times, whole
from l0ref.validate import Array

BATCHES = (1, 16, 128)
FORMS = ("masked", "shrunk", "compact")


def deployment(
    masked: Model, small: CompactModel, x: Array, *, files: Mapping[str, Path], shrunk: Model | None = None
) -> dict[str, Any]:
    """Return bytes in memory and on disk, multiply-adds, seconds of a forward pass by batch size, and layer forms.

    masked, shrunk, small  the same network with dense arrays under masks, without its dead units, and without its zeros
    shrunk                 None: not measured
    x                      samples to run
    files                  "masked" and "compact": the files of the two networks; bytes on disk are left out for others
    """
    models = {"masked": masked, "shrunk": shrunk, "compact": small.model}
    forms = {name: model for name, model in models.items() if model is not None}
    rows = []
    for batch in (b for b in BATCHES if b <= len(x)):
        laps = metrics.lap_seconds(list(forms.values()), x[:batch])
        seconds = {f"{name}_seconds": statistics.median(own) for name, own in zip(forms, laps, strict=True)}
        rows.append({"batch": batch, **seconds, **speedup(laps[0], laps[-1])})
    return {
        "theoretical_speedup": metrics.of(masked)["theoretical_speedup"],
        "multiply_adds": {name: executed_flops(model) for name, model in forms.items()},
        "bytes_memory": {name: metrics.bytes_stored(model) for name, model in forms.items()},
        "bytes_disk": {name: os.path.getsize(path) for name, path in files.items()},
        "latency": rows,
        "layers": [dataclasses.asdict(choice) for choice in small.choices],
    }


def executed_flops(model: Model) -> int:
    """Return the multiply-adds of one sample that a forward pass performs: zeros of dense arrays are multiplied too.

    >>> from l0ref import nn, prune
    >>> executed_flops(prune(nn.digits_cnn(seed=0), amount=0.9))  # 36 of each of 16 x 9, and the linear layers
    20584
    """
    return sum(model.params[key].size * uses for key, uses in model.positions.items())


def deployment_text(found: Mapping[str, Any]) -> str:
    """Return the measurements of `deployment` as two tables, at most 80 columns wide for short layer names."""
    return "\n\n".join([table(*deployment_cells(found)), _forms(found["layers"])])


def deployment_cells(found: Mapping[str, Any]) -> Cells:
    """Return header and rows of the first table of `deployment_text`."""
    forms = [name for name in FORMS if name in found["bytes_memory"]]
    rows = [["bytes in memory", *_sizes(found["bytes_memory"], forms)]]
    if {"masked", "compact"} <= set(found["bytes_disk"]):
        rows.append(["bytes on disk", *_sizes(found["bytes_disk"], forms)])
    if "multiply_adds" in found:
        rows.append(["multiply-adds", *_sizes(found["multiply_adds"], forms)])
    for row in found["latency"]:
        seconds = (f"{row[f'{name}_seconds'] * 1e6:,.0f}" for name in forms)
        rows.append([f"microseconds, batch {row['batch']}", *seconds, *measured(row)])
    rows.append(["multiply-adds, in theory", *[""] * len(forms), times(found["theoretical_speedup"]), "", ""])
    return ["", *forms, "ratio", "range", ""], rows


def _sizes(sizes: Mapping[str, int], forms: Sequence[str]) -> list[str]:
    """The number of each form, "-" where there is none, and the masked one over the compact one."""
    own = [whole(sizes[name]) if name in sizes else "-" for name in forms]
    return [*own, times(sizes["masked"] / sizes["compact"] if sizes["compact"] else None), "", ""]


def _forms(layers: Sequence[Mapping[str, Any]]) -> str:
    """Return the form of each layer and the reason for it, wrapped at the width of a terminal."""
    width = max([len("layer"), *(len(layer["name"]) for layer in layers)])
    lines = [f"{'layer':<{width}}  form    why"]
    for layer in layers:
        start = f"{layer['name']:<{width}}  {layer['form']:<6}  "
        lines.append(textwrap.fill(layer["why"], SCREEN, initial_indent=start, subsequent_indent=" " * len(start)))
    return "\n".join(lines)
