"""Training: the one record of settings, the one loop, its hooks, and the history it leaves."""

from l0ref.training.fitting import fit, follow, resume
from l0ref.training.history import History
from l0ref.training.loop import Trainer
from l0ref.training.recipe import Recipe
from l0ref.training.state import TrainingState

__all__ = [
    "History",
    "Recipe",
    "Trainer",
    "TrainingState",
    "fit",
    "follow",
    "resume",
]
