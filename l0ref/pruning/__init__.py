"""Pruning: scores, masks on a model, the sweep of dead units, and the pipeline around them."""

from l0ref.metrics import pruned_count
from l0ref.pruning.axes import Axes, coupled_axes
from l0ref.pruning.cut import Cut
from l0ref.pruning.pipeline import Compressed, Dense, Stage, compress, prune_and_tune, prune_gradually, train_dense
from l0ref.pruning.prune import prune
from l0ref.pruning.score import SCORES
from l0ref.pruning.shrink import dead_units, mask_units, permute, shrink, surgery
from l0ref.pruning.stages import StagedCuts
from l0ref.pruning.sweep import Sweep, sweep
from l0ref.training import Recipe

__all__ = [
    "SCORES",
    "Axes",
    "Compressed",
    "Cut",
    "Dense",
    "Recipe",
    "Stage",
    "StagedCuts",
    "Sweep",
    "compress",
    "coupled_axes",
    "dead_units",
    "mask_units",
    "permute",
    "prune",
    "prune_and_tune",
    "prune_gradually",
    "pruned_count",
    "shrink",
    "surgery",
    "sweep",
    "train_dense",
]
