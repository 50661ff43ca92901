"""Experiments of several runs: a compression with its controls, the cost of pruning alone, a comparison of methods."""

from l0ref.experiment.comparison import Comparison, point
from l0ref.experiment.controlled import MAIN, Experiment, run_experiment
from l0ref.experiment.controls import CONTROLS, Control, control
from l0ref.experiment.curve import pruning_curve

__all__ = [
    "CONTROLS",
    "MAIN",
    "Comparison",
    "Control",
    "Experiment",
    "control",
    "point",
    "pruning_curve",
    "run_experiment",
]
