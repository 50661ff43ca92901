"""Training: the one loop, its hooks, and the history it leaves."""

from l0ref.training.history import History, rows_to_csv
from l0ref.training.loop import fit
from l0ref.training.state import TrainingState

__all__ = ["History", "TrainingState", "fit", "rows_to_csv"]
