"""All sets, in the order they are listed, and the index that names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator

from tests.oracles_vectors import sets_counts, sets_layers, sets_penalty, sets_steps, sets_surrogates
from tests.oracles_vectors.form import FORMAT, VERSION, line

SETS: list[Callable[[], bytes]] = [
    sets_surrogates.value, sets_surrogates.gradient, sets_surrogates.prox, sets_surrogates.dead_zone,
    sets_penalty.penalty,
    sets_layers.linear, sets_layers.conv2d, sets_layers.max_pool2d, sets_layers.avg_pool2d, sets_layers.batch_norm,
    sets_layers.cross_entropy,
    sets_steps.sgd_steps, sets_steps.adam_steps, sets_steps.proximal_sgd_steps, sets_steps.proximal_adam_steps,
    sets_steps.finetune_steps,
    sets_counts.keep_mask, sets_counts.keep_mask_again, sets_counts.csr, sets_counts.csr_product,
    sets_counts.metrics, sets_counts.score,
]  # fmt: skip


def files() -> Iterator[tuple[str, bytes]]:
    """Each file's name and content, the index last."""
    rows = []
    for make in SETS:
        data = make()
        read = json.loads(data)
        rows.append({
            "about": read["about"], "cases": len(read["cases"]), "name": read["set"],
            "sha256": hashlib.sha256(data).hexdigest(),
        })  # fmt: skip
        yield f"{read['set']}.json", data
    lines = ",\n".join(map(line, rows))
    text = line({"format": FORMAT, "version": VERSION})[:-1] + ',"sets":[\n' + lines + "\n]}\n"
    yield "index.json", text.encode("ascii")
