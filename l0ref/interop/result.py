"""The result of `compare`: one row per stage and tensor, and the first place where the two implementations differ."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from l0ref.validate import Array

BADNESS = attrgetter("difference")
FLOOR = 1e-2  # least scale of a tensor, as a share of the largest entry of its stage


@dataclass(frozen=True)
class Row:
    """One tensor at one stage.

    stage, name   stage of the computation, and our name of the tensor
    difference    largest |ours - theirs| / the largest |entry| of either tensor, or `FLOOR` times the largest of the
                  stage if that is more; infinite where only one side has NaN or infinity
    index         index of the worst entry
    ours, theirs  the two values there
    ratio         theirs / ours, if it is the same number in every entry and not 1; else None
    ok            whether the difference is within the tolerance
    """

    stage: str
    name: str
    difference: float
    index: tuple[int, ...]
    ours: float
    theirs: float
    ratio: float | None
    ok: bool

    @property
    def place(self) -> str:
        """Name of the entry, "fc1.weight[2, 0]"."""
        return f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with a module; true if they agree in every row.

    rows      every tensor of every stage, in the order of the computation
    findings  probable causes of the difference, one sentence each
    notes     parts that were not compared, or were made equal first
    rtol      largest difference allowed
    """

    rows: tuple[Row, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    rtol: float

    def __bool__(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def first(self) -> Row | None:
        """The worst row of the first stage that differs; None if there is none."""
        stage = next((row.stage for row in self.rows if not row.ok), None)
        return max(
            (row for row in self.rows if row.stage == stage and not row.ok), key=attrgetter("difference"), default=None
        )

    def __str__(self) -> str:
        first = self.first
        if first is None:
            worst = max((row.difference for row in self.rows), default=0.0)
            lines = [f"l0ref and PyTorch agree; the worst relative difference is {worst:.1e}, allowed {self.rtol:.1e}"]
        else:
            lines = [
                f"l0ref and PyTorch first differ at: {first.stage}, {first.place}",
                f"  l0ref {first.ours:.9g}, PyTorch {first.theirs:.9g}, relative difference {first.difference:.1e}, "
                f"allowed {self.rtol:.1e}",
            ]
        lines += [f"  finding: {finding}" for finding in self.findings]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, *self._table(first)])

    def _table(self, first: Row | None) -> list[str]:
        """One line per stage up to the first that differs, then the differing tensors of that stage, worst first."""
        stages = list(dict.fromkeys(row.stage for row in self.rows))
        if first is not None:
            stages = stages[: stages.index(first.stage) + 1]
        width = max((len(stage) for stage in stages), default=0)
        lines = []
        for stage in stages:
            rows = [row for row in self.rows if row.stage == stage]
            apart = sum(not row.ok for row in rows)
            verdict = f"{apart} of {len(rows)} differ" if apart else "equal"
            lines.append(f"  {stage:<{width}}  {max(row.difference for row in rows):8.1e}  {verdict}")
        if first is not None:
            apart_rows = [row for row in self.rows if row.stage == first.stage and not row.ok]
            lines += [f"    {_line(row)}" for row in sorted(apart_rows, key=BADNESS, reverse=True)[:10]]
        return lines


def compared(stage: str, ours: dict[str, Array], theirs: dict[str, Array], rtol: float) -> list[Row]:
    """Return the rows of one stage; both sides have the same names and shapes."""
    sizes = [_largest(a) for side in (ours, theirs) for a in side.values()]
    floor = FLOOR * max(sizes, default=0.0)
    return [_row(stage, name, ours[name], theirs[name], floor, rtol) for name in ours]


def _row(stage: str, name: str, a: Array, b: Array, floor: float, rtol: float) -> Row:
    finite = np.isfinite(a) & np.isfinite(b)
    off = np.where(finite, np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)), np.inf)
    off = np.where(~finite & ((a == b) | (np.isnan(a) & np.isnan(b))), 0.0, off)
    if not off.size:
        return Row(stage, name, 0.0, (), 0.0, 0.0, None, True)
    flat = int(off.argmax())
    at = tuple(int(i) for i in np.unravel_index(flat, off.shape))
    scale = max(_largest(a), _largest(b), floor)
    worst = float(off.ravel()[flat])
    difference = worst / scale if scale else worst  # without a scale every entry is 0 or infinite
    ok = difference <= rtol
    return Row(stage, name, difference, at, float(a[at]), float(b[at]), None if ok else constant_ratio(a, b), ok)


def constant_ratio(a: Array, b: Array) -> float | None:
    """Return b / a if it is one finite number, other than 1, for all entries; None otherwise."""
    top = int(np.abs(a).argmax())
    denominator = float(a.ravel()[top])
    if not denominator or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    ratio = float(b.ravel()[top]) / denominator + 0.0  # not -0
    same = np.abs(b - ratio * a).max() <= 1e-7 * max(_largest(a), _largest(b))
    return ratio if same and abs(ratio - 1) > 1e-7 else None


def _largest(a: Array) -> float:
    """Largest finite magnitude; 0 where there is none."""
    return float(np.abs(a[np.isfinite(a)]).max(initial=0.0))


def _line(row: Row) -> str:
    ratio = f", {row.ratio:.6g} times l0ref's in every entry" if row.ratio is not None else ""
    return f"{row.place}: l0ref {row.ours:.9g}, PyTorch {row.theirs:.9g}, difference {row.difference:.1e}{ratio}"


def scalar(value: Any) -> Array:
    """Return a number as an array without axes."""
    return np.asarray(value, dtype=np.float64)
