"""The cuts of one compression, and the training after each of them.

rounds   the whole fine-tuning after every cut: its schedule starts again, with a fresh optimiser state
stages   several cuts under one schedule: the optimiser state is kept over every cut, the penalty is on until the last
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

from l0ref.errors import ConfigError
from l0ref.masks import amount_for_compression
from l0ref.penalty import Penalty
from l0ref.pruning.cut import Cut
from l0ref.schedules import ReduceOnPlateau
from l0ref.training import Recipe
from l0ref.validate import count, real


@dataclass(frozen=True)
class StagedCuts:
    """Successive cuts under the schedule of the fine-tuning, which spans all of them.

    ratios   compression after each cut, all weights over those kept; increasing, at least 1
    epochs   of training after each cut but the last, which is followed by the fine-tuning
    penalty  of the training between the cuts
    """

    ratios: tuple[float, ...]
    epochs: int
    penalty: Penalty

    def __post_init__(self) -> None:
        told = f"stages={','.join(f'{ratio:g}' for ratio in self.ratios) or 'none'}"
        if not self.ratios or not real("stages", self.ratios[0]) >= 1:
            raise ConfigError(f"{told} must begin with a compression ratio of at least 1")
        if any(real("stages", b) <= a for a, b in zip(self.ratios, self.ratios[1:], strict=False)):
            raise ConfigError(f"{told} must rise from one to the next; pruned stays pruned")
        count("stage_epochs", self.epochs, least=1)


class Part(NamedTuple):
    """A cut and the training after it; `window` is (epochs before, all epochs) of its schedule, None for the whole."""

    cut: Cut
    recipe: Recipe
    phase: str
    window: tuple[int, int] | None = None


def parts_of(cut: Cut, finetune: Recipe, *, size: int, rounds: int = 1, stages: StagedCuts | None = None) -> list[Part]:
    """Return the cuts of a model of `size` weights; with `stages`, their ratios take the place of the cut's amount."""
    if stages is None:
        number = range(1, count("rounds", rounds, least=1) + 1)
        names = [f"finetune {n}" if rounds > 1 else "finetune" for n in number]
        return [Part(cut.share(n / rounds, size=size), finetune, name) for n, name in zip(number, names, strict=True)]
    if rounds > 1:
        raise ConfigError(f"stages and rounds={rounds} exclude each other; choose one")
    if isinstance(finetune.schedule, ReduceOnPlateau):
        raise ConfigError("schedule='reduce_on_plateau' cannot span stages; choose another, such as cosine")
    meanwhile = dataclasses.replace(
        finetune, epochs=stages.epochs, penalty=stages.penalty, select="last", patience=None
    )
    before = len(stages.ratios) - 1
    whole, parts = before * stages.epochs + finetune.epochs, []
    for n, ratio in enumerate(stages.ratios):
        share = amount_for_compression(size, ratio) / size
        own = dataclasses.replace(cut, amount=share, threshold=None, tolerance=None)
        recipe, name = (meanwhile if n < before else finetune), f"finetune {n + 1}" if before else "finetune"
        parts.append(Part(own, recipe, name, (n * stages.epochs, whole)))
    return parts
