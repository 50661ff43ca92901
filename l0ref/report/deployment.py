"""What a compressed network takes in use: bytes and seconds of the compact form beside the masked one, as measured."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from l0ref import metrics
from l0ref.nn import Model
from l0ref.pruning.compact import CompactModel
from l0ref.report.tables import percent, table, times, whole
from l0ref.validate import Array

BATCHES = (1, 16, 128)


def deployment(masked: Model, small: CompactModel, x: Array, *, files: dict[str, Path]) -> dict[str, Any]:
    """Return bytes in memory and on disk, seconds of a forward pass by batch size, and the form of each layer.

    masked, small  the same network with dense arrays, and without its zeros
    x              samples to run
    files          "masked" and "compact": what was written of each
    """
    rows = []
    for batch in (b for b in BATCHES if b <= len(x)):
        dense, sparse = metrics.latencies([masked, small.model], x[:batch])
        rows.append(
            {"batch": batch, "masked_seconds": dense, "compact_seconds": sparse, "measured_speedup": dense / sparse}
        )
    return {
        "theoretical_speedup": metrics.of(masked)["theoretical_speedup"],
        "bytes_memory": {"masked": metrics.bytes_stored(masked), "compact": metrics.bytes_stored(small.model)},
        "bytes_disk": {name: os.path.getsize(path) for name, path in files.items()},
        "latency": rows,
        "layers": [dataclasses.asdict(choice) for choice in small.choices],
    }


def deployment_text(found: dict[str, Any]) -> str:
    """Return the tables of what `deployment` measured."""
    forms = [[c["name"], percent(c["density"]), c["form"], c["why"]] for c in found["layers"]]
    memory, disk = found["bytes_memory"], found["bytes_disk"]
    sizes = [
        [
            "bytes in memory",
            whole(memory["masked"]),
            whole(memory["compact"]),
            times(memory["masked"] / memory["compact"]),
        ],
        ["bytes on disk", whole(disk["masked"]), whole(disk["compact"]), times(disk["masked"] / disk["compact"])],
    ]
    runs = [
        [
            f"microseconds, batch {row['batch']}",
            f"{row['masked_seconds'] * 1e6:,.0f}",
            f"{row['compact_seconds'] * 1e6:,.0f}",
            times(row["measured_speedup"]),
        ]
        for row in found["latency"]
    ]
    theory = ["multiply-adds, in theory", "", "", times(found["theoretical_speedup"])]
    return "\n\n".join(
        [
            table(["", "masked", "compact", "ratio"], [*sizes, *runs, theory]),
            table(["layer", "kept", "form", "why"], forms, left=4),
        ]
    )
