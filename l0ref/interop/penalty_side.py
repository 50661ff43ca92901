"""The penalty on both sides of a comparison: ours from a Penalty, theirs from the user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from l0ref.interop.extras import need_torch
from l0ref.interop.result import Row, compared, scalar
from l0ref.interop.torch_arrays import in_float64, refresh
from l0ref.interop.torch_side import TorchSide, one_number
from l0ref.interop.torch_write import tensor
from l0ref.nn import Model
from l0ref.penalty import Penalty, Pull
from l0ref.testing.penalty_findings import findings
from l0ref.testing.penalty_forms import Evidence
from l0ref.validate import Array

MOVE = 0.3  # standard deviation of the noise added to every parameter for the second stage


@dataclass
class PenaltySide:
    """A Penalty (or None), the user's function for the same (or None), and the findings of `rows` about the two."""

    penalty: Penalty | None
    penalty_fn: Callable[[Any], Any] | None
    model: Model
    side: TorchSide
    strength: float
    rtol: float
    notes: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @cached_property
    def factors(self) -> dict[str, float]:
        """Layer weights C_l."""
        return self.penalty.factors(self.model) if self.penalty else {}

    @cached_property
    def pull(self) -> Pull | None:
        """Our penalty in the form that an optimiser step uses."""
        return self.penalty.pull(self.factors, strength=self.strength) if self.penalty else None

    def added(self, module: Any) -> Any:
        """The penalty that PyTorch adds to the loss: the user's, or a number whose gradient is ours."""
        refresh(module)
        if self.penalty_fn is not None:
            return one_number("penalty_fn", self.penalty_fn, module)
        held = self.side.held()
        arrays = {key: held[key].effective for key in self.factors}
        ours = self.pull.gradient({key: a.detach().numpy() for key, a in arrays.items()}) if self.pull else {}
        total = need_torch().zeros((), dtype=need_torch().float64)
        for key, a in arrays.items():  # only the gradient is used; the value is never compared
            total = total + (tensor(ours[key]) * a).sum()
        return total

    def rows(self) -> list[Row]:
        """Value and gradient at the given parameters, and again with every parameter moved at random."""
        if self.penalty is None or self.pull is None:
            return []
        if self.penalty_fn is None:
            self.notes.append("the penalty is l0ref's on both sides; pass penalty_fn to test yours")
            return []
        here = self._evidence(self.side, dict(self.model.params))
        moved = self._moved()
        found = [
            row
            for stage, seen in (("penalty", here), ("penalty, moved weights", moved))
            for row in self._compared(stage, seen, self.penalty, self.pull)
        ]
        if not all(row.ok for row in found):
            self.findings += findings(self.penalty, here, moved)
        return found

    def _compared(self, stage: str, seen: Evidence, penalty: Penalty, pull: Pull) -> list[Row]:
        """Two stages: the value, and the gradient of every parameter."""
        terms = penalty.terms(seen.ours, self.factors)
        value = self.strength * terms.l0_total + terms.l2_total
        slopes = {key: np.zeros_like(w) for key, w in seen.ours.items()} | pull.gradient(seen.ours)
        theirs = {key: np.zeros_like(seen.ours[key]) if g is None else g for key, g in seen.gradients.items()}
        found = compared(stage, {"value": scalar(value)}, {"value": scalar(seen.value)}, self.rtol)
        return found + compared(f"gradient of the {stage}", {key: slopes[key] for key in theirs}, theirs, self.rtol)

    def _moved(self) -> Evidence:
        """The user's function on a copy of the module with every parameter moved, biases included."""
        torch = need_torch()
        spare = TorchSide(**{**vars(self.side), "module": in_float64(self.side.module)})
        rng = np.random.default_rng(0)
        with torch.no_grad():
            for h in spare.held().values():
                h.parameter.add_(torch.from_numpy(MOVE * rng.standard_normal(tuple(h.parameter.shape))))
        return self._evidence(spare, spare.values())

    def _evidence(self, side: TorchSide, ours: dict[str, Array]) -> Evidence:
        value = self.added(side.module)
        held = side.held()
        gradients = side.gradients(value, [h.parameter for h in held.values()])
        return Evidence(
            factors=self.factors,
            kinds=self.model.kinds,
            strength=self.strength,
            batch=len(side.inputs),
            ours=ours,
            whole={key: np.array(h.parameter.detach().numpy()) for key, h in held.items()},
            keep={key: h.keep() for key, h in held.items()},
            value=float(value.detach()),
            gradients={key: None if g is None else np.array(g.numpy()) for key, g in zip(held, gradients, strict=True)},
        )
