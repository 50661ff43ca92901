"""One finished run as a value to be shown: its story, its tables, every mask and the magnitudes of its weights.

`l0ref.report.html` turns such values into a page and adds only layout and figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l0ref import checkpoint
from l0ref.nn import Model
from l0ref.report.figures.weights import largest_removed, magnitudes
from l0ref.report.schema import Row, main_name, mapping, quality_of, runs_of
from l0ref.report.seeds import by_configuration, cell, means
from l0ref.report.speed import measured, verdict
from l0ref.report.tables import (
    ACCURACY,
    BYTES,
    IN_THEORY,
    LAYERS,
    Cells,
    curve_cells,
    judged,
    speed_cells,
    stages_cells,
)
from l0ref.report.text import SPEED_NOTES, beyond, compressions, filled, notes
from l0ref.report.usage import deployment_cells
from l0ref.tables import percent, times, whole
from l0ref.validate import Array


@dataclass(frozen=True)
class Mask:
    """The signs of one weight array: rows are outputs, columns all other axes; 0 zero, 1 positive, 2 negative."""

    name: str
    shape: tuple[int, ...]
    kept: int
    signs: Array


@dataclass(frozen=True)
class RunPage:
    """The contents of a page about one run.

    label, command  its folder, and the command line that repeats it
    report          the report, as `summarize` returned it
    story           five sentences made from its numbers
    tables          {title: (header, rows)}
    notes           explanations needed to read the tables correctly
    layers          (text, raw value) of each cell of the table of layers, which is sorted by raw values
    masks, sizes    masks of the final network; |w| of the dense and the final network, if the folder has both
    largest         the largest |w| that the last cut removed
    """

    label: str
    command: str
    report: Row
    story: tuple[str, ...]
    tables: Mapping[str, Cells]
    notes: tuple[str, ...]
    layers: tuple[tuple[tuple[str, Any], ...], ...]
    masks: tuple[Mask, ...]
    sizes: tuple[Array, Array] | None
    largest: float

    @property
    def final(self) -> Row:
        """The last stage of the main run."""
        return final_of(self.report)


def run_page(folder: Path, report: Row, *, command: str, label: str = "") -> RunPage:
    """Return the value of a run, with the networks that its folder holds."""
    files = (folder / "dense.npz", folder / "model.npz")
    dense, final = (checkpoint.load(path) if path.is_file() else None for path in files)
    tables = {"Accuracy and size": stages_cells(report), "In theory, and measured": speed_cells(report)}
    if compact := mapping(report, "compact"):
        tables["In use: dense arrays, without dead units, without zeros"] = deployment_cells(compact)
    if any(mapping(report, "curve").values()):
        tables["Other compressions"] = curve_cells(report)
    return RunPage(
        label=label or str(folder),
        command=command,
        report=report,
        story=story(report),
        tables=tables,
        notes=tuple(filter(None, (beyond(report), compressions(report), filled(SPEED_NOTES), notes(report)))),
        layers=tuple(
            tuple((show(line.get(key)), _raw(line.get(key))) for _, key, show in LAYERS)
            for line in final_of(report).get("layers") or ()
        ),
        masks=masks_of(final) if final is not None else (),
        sizes=(magnitudes(dense), magnitudes(final)) if dense is not None and final is not None else None,
        largest=largest_removed(runs_of(report)[main_name(report)].get("cuts") or ()),
    )


def final_of(report: Row, run: str | None = None) -> Row:
    """Return the last stage of a run, of the main one if none is named."""
    stages = runs_of(report)[run or main_name(report)]["stages"]
    return dict(stages[-1])


def masks_of(model: Model) -> tuple[Mask, ...]:
    """Return the signs of every weight array of a model, in order.

    >>> from l0ref import nn
    >>> first, *_ = masks_of(nn.lenet_5(seed=0))
    >>> first.name, first.shape, first.signs.shape
    ('conv1.weight', (20, 1, 5, 5), (20, 25))
    """
    found = []
    for key in model.weights:
        w = model.params[key]
        signs = np.where(w > 0, 1, np.where(w < 0, 2, 0)).astype(np.uint8)
        matrix = signs.reshape(w.shape[0], math.prod(w.shape[1:]))
        found.append(Mask(key, w.shape, int(np.count_nonzero(w)), matrix))
    return tuple(found)


def story(report: Row) -> tuple[str, ...]:
    """Return five sentences about training, the cut, fine-tuning, the controls, and the speed."""
    stages = {stage["name"]: stage for stage in runs_of(report)[main_name(report)]["stages"]}
    first, *_, last = stages.values()
    config, data = mapping(report, "config"), mapping(report, "data")
    trained = (
        f"{config.get('model', 'A network')} with {whole(first.get('size'))} weights was trained on "
        f"{data.get('name', 'unnamed data')}, {whole(data.get('train'))} samples, {_penalty(config)}, and reached "
        f"{_score(first, 'val')}."
    )
    pruned = stages.get("pruned", last)
    cut = (
        f"Pruning by {config.get('method', 'magnitude')} and the sweep of dead units left "
        f"{whole(pruned.get('size_nz'))} weights, {times(pruned.get('compression_ratio'))} fewer, "
        f"at {_score(pruned, 'val')}."
    )
    epochs = sum(str(row.get("phase")).startswith("finetune") for row in report.get("history") or ())
    tuned = f"After {epochs} epoch{'' if epochs == 1 else 's'} of fine-tuning it has {_score(last, 'val')}"
    if last.get("test_loss") is not None:
        tuned += f"; on the test set, read once, {_score(last, 'test')}, and the dense network {_score(first, 'test')}"
    return trained, cut, f"{tuned}.", _controls(report), _speed(report, last)


def _penalty(config: Row) -> str:
    """The terms added to the data loss: a surrogate only if alpha > 0, the l2 term only if l2 > 0."""
    alpha, l2 = config.get("alpha"), config.get("l2") or 0
    terms = [f"the {config['surrogate']} penalty at alpha = {alpha:g}"] if config.get("surrogate") and alpha else []
    terms += ["l0"] if alpha is None else []  # a report without settings does not say which surrogate
    terms += [f"the l2 penalty at l2 = {l2:g}"] if l2 > 0 else []
    return f"under {' and '.join(terms)}" if terms else "without penalty"


def _controls(report: Row) -> str:
    final = {name: final_of(report, name) for name in mapping(report, "controls")}
    if not final:
        return "No control was run, so these numbers alone do not say what the penalty contributed."
    told = (f"{name} {_score(row, 'val')} at {times(row.get('compression_ratio'))}" for name, row in final.items())
    return f"Controls cut by the same number of weights ended at: {', '.join(told)}."


def _speed(report: Row, last: Row) -> str:
    compact = mapping(report, "compact")
    theory = f"In theory it needs {times(last.get('theoretical_speedup'))} fewer multiply-adds"
    row, what = last, "masked, it"
    if compact.get("latency"):
        row, what = compact["latency"][-1], "the network without its zeros"
    if row.get("measured_speedup") is None:
        return f"{theory}; no time was measured."
    ratio, low, high = (f"{row[f'measured_speedup{end}']:.2f}" for end in ("", "_low", "_high"))
    batch = f" at batch {row['batch']}" if "batch" in row else ""
    told = f"{theory}; measured, {what} took {ratio} times less time{batch} (range {low} to {high}: {verdict(row)})"
    if stored := compact.get("bytes_memory"):
        told += f" and {whole(stored['compact'])} bytes instead of {whole(stored['masked'])}"
    return f"{told}."


def _score(stage: Row, part: str) -> str:
    """Accuracy in words, the loss where there is no accuracy."""
    name = {"val": "validation", "test": "test"}[part]
    if stage.get(f"{part}_acc1") is not None:
        return f"{percent(stage[f'{part}_acc1'])} {name} accuracy"
    loss = stage.get(f"{part}_loss")
    return f"no {name} result" if loss is None else f"a {name} loss of {loss:.4g}"


def _raw(value: Any) -> Any:
    """The sort key of a cell: a number or text; for a shape, its number of entries."""
    if isinstance(value, list | tuple):
        return math.prod(value)
    return "" if value is None else value


@dataclass(frozen=True)
class Side:
    """One of several configurations: its runs, one for each seed, and {mean, sd, n} of their final networks."""

    label: str
    runs: tuple[RunPage, ...]
    final: Row


def sides(runs: Sequence[RunPage]) -> dict[str, list[Side]]:
    """Return the configurations of some runs, those with the quality "acc1" and those with "r2" apart."""
    found: dict[str, list[Side]] = {}
    for places in by_configuration([run.report for run in runs]):
        own = tuple(runs[place] for place in places)
        side = Side(_common_label([run.label for run in own]), own, means([run.final for run in own]))
        found.setdefault(quality_of([own[0].final]), []).append(side)
    return found


def _common_label(labels: Sequence[str]) -> str:
    """The folder of the folders seed-*, or the first label and the number of the others."""
    if len(labels) == 1:
        return labels[0]
    folders = {str(Path(label).parent) for label in labels}
    if len(folders) == 1 and all(Path(label).name.startswith("seed-") for label in labels):
        return folders.pop()
    return f"{labels[0]} and {len(labels) - 1} more"


def compared(found: Sequence[Side]) -> Cells:
    """Return header and rows of configurations side by side: accuracy, size and speed of their final networks.

    Of several seeds, mean ± sample standard deviation; the range of the measured speed-up is that of all of them.
    """
    columns = {**judged(ACCURACY, [run.final for side in found for run in side.runs]), **IN_THEORY, **BYTES}
    rows = []
    for side in found:
        method = str(mapping(side.runs[0].report, "config").get("method", "-"))
        numbers = [cell(side.final.get(key), show) for key, show in columns.values()]
        rows.append([side.label, method, str(len(side.runs)), *numbers, *_speeds(side)])
    return ["run", "method", "seeds", *columns, "measured", "range", "verdict"], rows


def _speeds(side: Side) -> list[str]:
    """Three cells as in `measured`; the range contains the ranges of all seeds."""
    ends = {"measured_speedup_low": min, "measured_speedup_high": max}
    known = {key: [run.final[key] for run in side.runs if run.final.get(key) is not None] for key in ends}
    outer = {key: pick(known[key], default=None) for key, pick in ends.items()}
    return [cell(side.final.get("measured_speedup"), "{:.2f}x".format), *measured(outer)[1:]]
