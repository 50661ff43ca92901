"""`l0ref bench --summary`: the goals of speed, each beside its measurement, with a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from l0ref.bench.work import OURS, Work
from l0ref.tables import table

SUITES = ("train-mlp", "train-cnn", "conv", "train-norm", "batch-one", "batch-many")
PEERS = "torch,limits"
ROUNDS = 5  # the fewest from which a ratio is given

Rows = Sequence[Mapping[str, Any]]


class Goal(NamedTuple):
    """A required ratio: the time of the best peer over ours, in the worst of the works.

    what, beside  texts of the table
    suite         name of the suite that measures it
    works, peers  whether a name of a work, or of a contender, belongs to the goal
    least         the required ratio
    """

    what: str
    beside: str
    suite: str
    works: Callable[[str], bool]
    peers: Callable[[str], bool]
    least: float


def _has(*parts: str, without: str = "\0") -> Callable[[str], bool]:
    """Return the test whether a name has all these parts, and lacks `without`."""
    return lambda name: all(part in name for part in parts) and without not in name


def _eager(name: str) -> bool:
    return name in ("torch, Adam", "torch, fused Adam")


PENALISED, PLAIN, LAST = _has("torch", without="no penalty"), _has("torch", "no penalty"), "channels_last"
GOALS = (
    Goal("LeNet-300-100 step, penalty", "PyTorch, with penalty", "train-mlp", _has("LeNet"), PENALISED, 2.5),
    Goal("same", "PyTorch, without", "train-mlp", _has("LeNet"), PLAIN, 1.6),
    Goal("same", "matrix products alone, NumPy", "train-mlp", _has("LeNet"), _has("products"), 1 / 1.15),
    Goal("LeNet-5 step, penalty", "channels_last, with", "train-cnn", _has("LeNet"), _has(LAST, without="no pen"), 2.2),
    Goal("same", "channels_last, without", "train-cnn", _has("LeNet"), _has(LAST, "no penalty"), 1.9),
    Goal("64 -> 64 3x3, forward + backward", LAST, "conv", _has("64 -> 64", "backward"), _has(LAST), 1.3),
    Goal("LeNet conv1, forward + backward", "NCHW", "conv", _has("conv1", "back"), _has("torch", without=LAST), 1.5),
    *(
        goal
        for name in ("vgg_small", "resnet_small")
        for goal in (
            Goal(f"{name} step, penalty", "PyTorch eager", "train-norm", _has(f"{name} step"), _eager, 1.5),
            Goal("same", LAST, "train-norm", _has(f"{name} step"), _has(LAST, without="no penalty"), 1.3),
            Goal(f"{name} logits, 512 images", LAST, "train-norm", _has(f"{name} logits"), _has(LAST), 1.5),
        )
    ),
    Goal(
        "one sample, 784x300 to 4096x4096", "PyTorch CSR", "batch-one",
        lambda name: "one sample" in name and not name.startswith("300 x 100"), _has("torch CSR"), 1.2,
    ),
    Goal("one sample, every size", "NumPy, dense", "batch-one", _has("one sample"), _has("dense, NumPy"), 1.0),
    Goal("one sample, 4096x4096", "as many bytes read", "batch-one", _has("4096"), _has("bytes read"), 0.7),
    Goal(
        "128 samples, 784x300 and larger", "PyTorch CSR", "batch-many",
        lambda name: not name.startswith("300 x 100"), _has("torch CSR"), 2.0,
    ),
    Goal("128 samples, 300x100", "PyTorch CSR", "batch-many", _has("300 x 100"), _has("torch CSR"), 1.5),
    Goal("compact LeNet-300-100, one sample", "PyTorch, dense", "batch-one", _has("LeNet"), _has("torch"), 2.0),
)  # fmt: skip


class Found(NamedTuple):
    """The measurement of one work: the time of the best peer over ours, and its quartiles over the rounds."""

    value: float
    low: float
    high: float


def read_by_goals(suite: str, work: Work) -> Work | None:
    """Return a work with only our contender and those that a goal reads; None if no goal reads the work."""
    goals = [goal for goal in GOALS if goal.suite == suite and goal.works(work.name)]
    kept = [c for c in work.contenders if c.name == OURS or any(goal.peers(c.name) for goal in goals)]
    return replace(work, contenders=kept) if goals else None


def summary_text(rows: Rows) -> str:
    """Return the table: goal, measured ratios (lowest and highest, where there are several works), verdict.

    The verdict is that of the work with the lowest ratio. It has a question mark if the goal lies between its
    quartiles: another run may give the opposite. There is none below 5 rounds, or if no peer took part.
    """
    cells = []
    for goal in GOALS:
        found = sorted(ratios(rows, goal))
        measured = "-" if not found else " .. ".join(dict.fromkeys(f"{r.value:.2f}" for r in (found[0], found[-1])))
        quartiles = "-" if not found else f"{found[0].low:.2f} .. {found[0].high:.2f}"
        cells.append([goal.what, goal.beside, f"{goal.least:.2f}", measured, quartiles, verdict(goal, found)])
    return table(["work", "beside", "goal", "measured", "quartiles of the lowest", "verdict"], cells)


def verdict(goal: Goal, found: Sequence[Found]) -> str:
    """Return "reached" or "missed" by the first of the ratios, with a question mark within its quartiles."""
    if not found:
        return "-"
    lowest = found[0]
    said = "reached" if lowest.value >= goal.least else "missed"
    return f"{said}?" if lowest.low < goal.least <= lowest.high else said


def ratios(rows: Rows, goal: Goal) -> list[Found]:
    """Return the time of the best peer over ours, for each work of a goal that both took part in."""
    times: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["suite"] == goal.suite and goal.works(row["work"]) and row.get("rounds", 0) >= ROUNDS:
            times.setdefault(row["work"], {})[row["contender"]] = row
    found = []
    for contenders in times.values():
        peers = [row for name, row in contenders.items() if name != OURS and goal.peers(name)]
        if peers and OURS in contenders:
            best = min(peers, key=lambda row: row["median_s"])
            value = best["median_s"] / contenders[OURS]["median_s"]
            found.append(Found(value, best.get("ratio_low", value), best.get("ratio_high", value)))
    return found
