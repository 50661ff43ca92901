"""Controls: the same network, epochs and cut, with another penalty or with weights removed at random.

    none            no penalty
    l2              l2 sum w^2 only
    l1              C_l alpha1 sum |w|, with the layer weights of the l0 penalty
    random          no penalty, and the removed weights are drawn at random from all
    random_layers   the same, but the layers keep weights in the proportion of the l0 network

Only a comparison with these controls shows an effect of the l0 penalty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from l0ref.penalty import Penalty
from l0ref.pruning.cut import Cut
from l0ref.surrogates import L1, Laplace
from l0ref.training import Recipe
from l0ref.validate import choose

CONTROLS = ("none", "l2", "l1", "random", "random_layers")


def penalty_name(surrogate: str, *, alpha: float, l2: float) -> str:
    """Return the name of the main run in tables, figures and messages: that of its penalty. Its key in results is "l0".

    "l0" is the name of the Laplace surrogate, the default; other surrogates have their own names.

    >>> penalty_name("laplace", alpha=1e-4, l2=0), penalty_name("mcp", alpha=1e-4, l2=1e-3)
    ('l0', 'mcp')
    >>> penalty_name("mcp", alpha=0, l2=1e-3), penalty_name("mcp", alpha=0, l2=0)
    ('l2', 'no penalty')
    """
    if alpha:
        return "l0" if surrogate == Laplace.name else surrogate
    return "l2" if l2 else "no penalty"


@dataclass(frozen=True)
class Control:
    """A control: its penalty in training, and the method of its cut if it differs from that of the main run."""

    name: str
    penalty: Penalty
    method: str | None = None

    def train(self, recipe: Recipe) -> Recipe:
        """Return the training recipe with this control's penalty instead."""
        return dataclasses.replace(recipe, penalty=self.penalty)

    def cut(self, fraction: float, *, like: Cut, kept: Mapping[str, int] | None = None) -> Cut:
        """Return a cut of the fraction of weights that was removed from the network with the l0 penalty.

        Every layer keeps at least one weight, so that a control that would collapse still gives a number.

        kept  weights by layer in the l0 network, after its sweep: the proportion for "random_layers"
        """
        amount: dict[str, Any] = {
            "amount": fraction,
            "threshold": None,
            "tolerance": None,
            "min_keep": max(like.min_keep, 1),
        }
        other: dict[str, Any] = {"method": self.method, "options": {}} if self.method else {}
        if self.name == "random_layers" and kept is not None:
            # "global", since the numbers by layer already divide the amount
            other |= {"scope": "global", "options": {"budget": {key: max(n, 1) for key, n in kept.items()}}}
        return dataclasses.replace(like, **amount, **other)


def control(name: str, *, like: Penalty, l1: float, l2: float) -> Control:
    """Return the control called `name`; `l1` and `l2` are the strengths of the controls of these names."""
    choose("control", name, CONTROLS)
    if name == "l1":
        return Control(name, Penalty(L1(), alpha=l1, layer_weights=like.layer_weights, groups=like.groups))
    if name == "l2":
        return Control(name, Penalty(l2=l2))
    return Control(name, Penalty(), method="random" if name.startswith("random") else None)
