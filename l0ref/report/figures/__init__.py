"""The pictures of a compression job, as PNG files; matplotlib is loaded when the first one is drawn."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from l0ref.archive import write_atomic
from l0ref.errors import ConfigError
from l0ref.experiment import Experiment
from l0ref.penalty import Penalty
from l0ref.report.schema import main_of, runs_of, shown_names


def load_matplotlib() -> None:
    """Import matplotlib with any value of MPLBACKEND: figures here use no backend, and an unknown one fails the import.

    A known backend is set afterwards, for the figures of the calling program.
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
    experiment: Experiment | None,
    report: Mapping[str, Any],
    *,
    folder: Path,
    penalty: Penalty | None = None,
) -> list[Path]:
    """Draw all figures for which there are data, write them into `folder`, which must exist; return their paths.

    training.png     loss by term, validation accuracy, small and zero weights, over the epochs
    weights.png      histograms of |w| before and after, of the main run and of the first control
    surrogate.png    phi, its slope and its prox
    masks.png        the weights left in the final network of the main run
    axes.png         its coupled axes: which units are removed together
    compression.png  accuracy against compression, of all runs

    report      as `summarize` returns it or report.json holds it
    experiment  the networks, for weights.png, masks.png and axes.png; None: these are left out. axes.png is left out
                too if a layer is unknown to surgery
    penalty     that of the main run, for surrogate.png; None: it is left out

    Nothing is written before all are drawn. The same input gives the same bytes with the same matplotlib.
    """
    runs = runs_of(report)  # refuses a value that is not a report before matplotlib is loaded
    load_matplotlib()
    from l0ref.report.figures.axes import axes_figure
    from l0ref.report.figures.compression import compression_figure
    from l0ref.report.figures.masks import masks_figure
    from l0ref.report.figures.style import png
    from l0ref.report.figures.surrogate import surrogate_figure
    from l0ref.report.figures.training import training_figure
    from l0ref.report.figures.weights import weights_figure

    pictures: dict[str, bytes] = {}
    if any("history" in run for run in runs.values()):
        pictures["training.png"] = png(training_figure(report))
    if experiment is not None:
        pictures["weights.png"] = png(weights_figure(experiment, names=shown_names(report)))
    if penalty is not None:
        pictures["surrogate.png"] = png(surrogate_figure(penalty))
    if experiment is not None:
        final = experiment.runs[main_of(experiment.runs)].model
        pictures["masks.png"] = png(masks_figure(final))
        with suppress(ConfigError):
            pictures["axes.png"] = png(axes_figure(final))
    pictures["compression.png"] = png(compression_figure(report))
    for name, content in pictures.items():
        write_atomic(folder / name, content)
    return [folder / name for name in pictures]
