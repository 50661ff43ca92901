"""Which checker finds which fault: the counts, as they are kept in counts.json.

    versions   of what was run
    targets    how many operations, surrogates and inputs
    points     how many points of each sort
    truth      {checker: true gradients it refuses, "Relu at a kink"}
    kinds      {kind: {"planted": how many, "missed": {checker: where, "Linear 1" for its input 1}}}; "all" for all
    unseen     the same for the kinds of `tests.faults.limits`
    history    the same for gradients that were really wrong; see `tests.history.page`
    unguided   how many faults at kinks l0ref finds without the documented values

A fault counts as found only if the checker accepts the truth at the same point: one that refuses both tells nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults import own
from tests.faults.kinds import corpus, unseen
from tests.faults.others import OTHERS, Check
from tests.faults.plant import Planted, targets
from tests.faults.points import Target
from tests.history import page as history

HOME = Path(__file__).parent / "counts.json"
CHECKERS: dict[str, Check] = {"l0ref": own.full, "l0ref fast": own.fast, **OTHERS}


def count() -> dict[str, Any]:
    """Run every checker on the truth and on every fault."""
    points = {at: targets(at, 0) for at in ("smooth", "square", "kink")}
    every = [t for found in points.values() for t in found]
    truth = {name: [t for t in every if not check(t.true, t)] for name, check in CHECKERS.items()}
    missed = {name: [p for p in corpus() + unseen() if misses(name, p, truth[name])] for name in CHECKERS}
    kinks = [p for p in corpus() if p.target.at_kink]
    return {
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "torch", "autograd")},
        "targets": sizes(),
        "points": {at: len(found) for at, found in points.items()},
        "truth": {name: [title(t) for t in refused] for name, refused in truth.items()},
        "kinds": {**by_kind(corpus(), missed)},
        "unseen": {**by_kind(unseen(), missed)},
        "history": history.count(),
        "unguided": sum(not own.undocumented(p.pair(), p.target) for p in kinks),
    }


def misses(checker: str, planted: Planted, refused: Iterable[Target]) -> bool:
    """Whether a checker lets a fault pass, or refuses the truth as well."""
    return planted.target in refused or CHECKERS[checker](planted.pair(), planted.target)


def by_kind(faults: Iterable[Planted], missed: dict[str, list[Planted]]) -> dict[str, Any]:
    """Return for each kind how many were planted, and where each checker missed it."""
    grouped: dict[str, list[Planted]] = {}
    for p in faults:
        grouped.setdefault(p.kind.name, []).append(p)
    found: dict[str, Any] = {}
    for name, group in grouped.items():
        lost = {checker: [place(p) for p in group if p in missed[checker]] for checker in CHECKERS}
        short = {c: "all" if len(where) == len(group) else where for c, where in lost.items() if where}
        found[name] = {"planted": len(group), "missed": short}
    return found


def place(p: Planted) -> str:
    """The operation or surrogate and the number of the input."""
    what = "Surrogate " if p.target.what == "surrogate" else ""
    return f"{what}{p.target.name} {p.which}"


def title(target: Target) -> str:
    """Name of a target for people."""
    return f"{target.name} at a kink" if target.at_kink else target.name


def sizes() -> dict[str, int]:
    """How many operations and surrogates there are, and how many inputs they have."""
    all_of_them = targets("smooth", 0)
    return {
        "operations": sum(t.what == "op" for t in all_of_them),
        "surrogates": sum(t.what == "surrogate" for t in all_of_them),
        "inputs": sum(len(t.xs) for t in all_of_them),
    }


def read() -> dict[str, Any]:
    """Return the counts that are kept."""
    found: dict[str, Any] = json.loads(HOME.read_text(encoding="utf-8"))
    return found


def write(counts: dict[str, Any]) -> None:
    """Keep the counts."""
    HOME.write_text(json.dumps(counts, indent=1, sort_keys=False) + "\n", encoding="utf-8")
