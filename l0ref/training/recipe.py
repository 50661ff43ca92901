"""The one record of the settings of a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from l0ref.errors import ArgumentError
from l0ref.optim import Adam, Optimizer
from l0ref.penalty import Penalty
from l0ref.schedules import Constant, Cosine, Schedule
from l0ref.validate import between, choose, count, flag, nonnegative

MONITORS = {"val_loss": 1.0, "val_acc1": -1.0}  # sign that makes smaller better


@dataclass(frozen=True)
class Recipe:
    """The settings of one phase of training, without model, data and seed; `fit` explains them.

    `fit` keeps the learning rate constant by default. A recipe anneals it to a hundredth: with a constant rate the
    weights hover around zero at a distance of about lr, and a threshold within that cloud is arbitrary.
    """

    epochs: int
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=lambda: Cosine(final=0.01))
    penalty: Penalty = field(default_factory=Penalty)
    warmup: Schedule = field(default_factory=Constant)
    batch_size: int = 64
    drop_last: bool = False
    label_smoothing: float = 0.0
    select: str = "last"
    monitor: str = "val_loss"
    patience: int | None = None
    threshold: float = 1e-2

    def __post_init__(self) -> None:
        checked = {
            "epochs": count("epochs", self.epochs),
            "batch_size": count("batch_size", self.batch_size, least=1),
            "drop_last": flag("drop_last", self.drop_last),
            "label_smoothing": between("label_smoothing", self.label_smoothing, 0.0, 1.0),
            "select": choose("select", self.select, ("last", "best")),
            "monitor": choose("monitor", self.monitor, MONITORS),
            "patience": None if self.patience is None else count("patience", self.patience, least=1),
            "threshold": nonnegative("threshold", self.threshold),
        }
        for name, value in checked.items():  # plain numbers: a NumPy one would turn float32 into float64
            object.__setattr__(self, name, value)
        kinds = {"optimizer": Optimizer, "penalty": Penalty, "schedule": Schedule, "warmup": Schedule}
        for name, kind in kinds.items():
            check_kind(name, getattr(self, name), kind)


def check_kind(name: str, value: object, kind: type) -> None:
    """Refuse a value of another class than the one expected of an argument."""
    if not isinstance(value, kind):
        raise ArgumentError(f"{name} is {type(value).__name__}, expected an instance of l0ref's {kind.__name__}")
