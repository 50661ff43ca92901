"""The history of a training: one row per epoch, the same columns in every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from l0ref.tables import rows_to_csv


@dataclass(frozen=True)
class History:
    """The epochs of one `fit`.

    rows         one dict per finished epoch; columns:
                 phase, epoch (from 1), seconds; lr and strength (of the l0 term) at the epoch's last step;
                 loss = loss_data + loss_l0 + loss_l2, where loss_data is the mean over the epoch's samples, each
                 before its step, and the penalty terms are those of the epoch's last weights; val_loss, val_acc1
                 (None without validation data, val_acc1 NaN for a regression); below_threshold: share of weights
                 with |w| < threshold; sparsity: share of exact zeros, of each weight array as "sparsity:<name>"
    stopped      "finished" or "early" (validation did not improve for `patience` epochs)
    best_epoch   the epoch of the returned model
    seconds      time of training up to the end of the last finished epoch
    carried      the values that hooks carry in the state, at the end
    runs         "runs on the compiled chain", or "runs on the tape because ..."
    """

    rows: tuple[dict[str, Any], ...] = ()
    stopped: str = "finished"
    best_epoch: int = 0
    seconds: float = field(default=0.0, compare=False)
    carried: Mapping[str, Any] = field(default_factory=dict)
    runs: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def column(self, name: str) -> list[Any]:
        """One column, a value per epoch."""
        return [row[name] for row in self.rows]

    def to_csv(self) -> str:
        """All rows as comma-separated text with a header line."""
        return rows_to_csv(self.rows)
