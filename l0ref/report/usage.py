"""The cost of a compressed network in use: bytes and measured seconds of its compact form beside its masked form."""

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
from l0ref.report.tables import SCREEN
from l0ref.tables import table, times, whole
from l0ref.validate import Array

BATCHES = (1, 16, 128)


def deployment(masked: Model, small: CompactModel, x: Array, *, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return bytes in memory and on disk, seconds of a forward pass by batch size, and the form of each layer.

    masked, small  the same network with dense arrays under masks, and without its zeros
    x              samples to run
    files          "masked" and "compact": the files of the two networks; bytes on disk are left out for others
    """
    rows = []
    for batch in (b for b in BATCHES if b <= len(x)):
        laps = metrics.lap_seconds([masked, small.model], x[:batch])
        dense, sparse = (statistics.median(own) for own in laps)
        rows.append({"batch": batch, "masked_seconds": dense, "compact_seconds": sparse, **speedup(*laps)})
    return {
        "theoretical_speedup": metrics.of(masked)["theoretical_speedup"],
        "bytes_memory": {"masked": metrics.bytes_stored(masked), "compact": metrics.bytes_stored(small.model)},
        "bytes_disk": {name: os.path.getsize(path) for name, path in files.items()},
        "latency": rows,
        "layers": [dataclasses.asdict(choice) for choice in small.choices],
    }


def deployment_text(found: Mapping[str, Any]) -> str:
    """Return the measurements of `deployment` as two tables, at most 80 columns wide for short layer names."""
    memory, disk = found["bytes_memory"], found["bytes_disk"]
    rows = [["bytes in memory", *_sizes(memory)]]
    if {"masked", "compact"} <= set(disk):
        rows.append(["bytes on disk", *_sizes(disk)])
    for row in found["latency"]:
        seconds = (f"{row[key] * 1e6:,.0f}" for key in ("masked_seconds", "compact_seconds"))
        rows.append([f"microseconds, batch {row['batch']}", *seconds, *measured(row)])
    rows.append(["multiply-adds, in theory", "", "", times(found["theoretical_speedup"]), "", ""])
    return "\n\n".join([table(["", "masked", "compact", "ratio", "range", ""], rows), _forms(found["layers"])])


def _sizes(sizes: Mapping[str, int]) -> list[str]:
    masked, small = sizes["masked"], sizes["compact"]
    return [whole(masked), whole(small), times(masked / small), "", ""]


def _forms(layers: Sequence[Mapping[str, Any]]) -> str:
    """Return the form of each layer and the reason for it, wrapped at the width of a terminal."""
    width = max([len("layer"), *(len(layer["name"]) for layer in layers)])
    lines = [f"{'layer':<{width}}  form    why"]
    for layer in layers:
        start = f"{layer['name']:<{width}}  {layer['form']:<6}  "
        lines.append(textwrap.fill(layer["why"], SCREEN, initial_indent=start, subsequent_indent=" " * len(start)))
    return "\n".join(lines)
