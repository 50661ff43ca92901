"""The pictures of a compression job, as PNG files; matplotlib is loaded when the first one is drawn."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from l0ref.archive import write_atomic
from l0ref.penalty import Penalty
from l0ref.pruning import MAIN, Experiment


def load_matplotlib() -> None:
    """Import matplotlib whatever backend MPLBACKEND names: figures here use none, and an unknown one stops the import.

    A backend that matplotlib knows is chosen afterwards, for the figures of the program that calls us.
    """
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop("MPLBACKEND", None)
    try:
        settings = importlib.import_module("matplotlib").rcParams
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named is not None:
        with suppress(ValueError):
            settings["backend"] = named


def draw_all(
    experiment: Experiment,
    report: Mapping[str, Any],
    *,
    penalty: Penalty,
    folder: Path,
    untuned: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> list[Path]:
    """Draw all figures of an experiment, write them into `folder`, which must exist, and return their paths.

    training.png     loss by term, validation accuracy, small and zero weights, over the epochs
    weights.png      histograms of |w| before and after, of the main run and of the first control
    surrogate.png    phi, its slope and its prox
    masks.png        the weights left in the final network of the main run
    compression.png  accuracy against compression, of all runs; `untuned` as in `compression_figure`

    report   what `summarize` made of the experiment
    penalty  that of the main run

    Nothing is written before all are drawn. The same input gives the same bytes with the same matplotlib.
    """
    load_matplotlib()
    from l0ref.report.figures.compression import compression_figure
    from l0ref.report.figures.masks import masks_figure
    from l0ref.report.figures.style import png
    from l0ref.report.figures.surrogate import surrogate_figure
    from l0ref.report.figures.training import training_figure
    from l0ref.report.figures.weights import weights_figure

    pictures = {
        "training.png": png(training_figure(experiment)),
        "weights.png": png(weights_figure(experiment)),
        "surrogate.png": png(surrogate_figure(penalty)),
        "masks.png": png(masks_figure(experiment.runs[MAIN].model)),
        "compression.png": png(compression_figure(report, untuned=untuned)),
    }
    for name, content in pictures.items():
        write_atomic(folder / name, content)
    return [folder / name for name in pictures]
