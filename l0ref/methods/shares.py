"""How many weights each layer keeps: a total divided in proportion to one number per layer.

    k_l = min(max(share_l t, least_l), most_l)      with t such that the sum is the total

The k_l are rounded down, and the rest of the total goes one by one to the largest remainders. Shares that are whole
numbers and sum to the total are therefore met exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.validate import Array, choose, positive

RULES = ("magnitude", "proportional", "equal_change")
Budget = str | Mapping[str, float]


def named_shares(budget: Budget, keys: Iterable[str], *, scope: str = "global") -> dict[str, float] | None:
    """Return {key of a weight: share} of a budget that names layers, None for one of `RULES`; refuse any other.

    budget  {"fc1": 300, "fc2": 100}, in text fc1:300/fc2:100, one positive number for each layer; or a rule
    """
    if budget == "magnitude":
        return None
    if scope == "layer":
        raise ArgumentError(f"budget={budget!r} divides an amount that scope='layer' has divided; give scope='global'")
    if isinstance(budget, str) and ":" not in budget:
        choose("budget", budget, RULES)
        return None
    text = [part.partition(":") for part in budget.split("/")] if isinstance(budget, str) else []
    pairs = list(budget.items()) if isinstance(budget, Mapping) else [(name, value) for name, _, value in text]
    found = {name.strip().removesuffix(".weight"): _number(budget, value) for name, value in pairs}
    names = [key.removesuffix(".weight") for key in keys]
    if set(found) != set(names) or len(found) != len(pairs):
        raise ArgumentError(f"budget={budget!r} must give one number for each layer, as in {':300/'.join(names)}:300")
    return {f"{name}.weight": found[name] for name in names}


def _number(budget: Budget, value: float | str) -> float:
    try:
        return positive("a number of budget", float(value))
    except (ValueError, TypeError):
        raise ArgumentError(f"budget={budget!r} must give one positive number for each layer, as in fc1:300") from None


def divided(total: int, wanted: Callable[[float], Array], least: Array, most: Array) -> list[int]:
    """Return whole numbers that sum to `total`, near wanted(t) between `least` and `most`, for the t that fits.

    wanted  increasing in t in [0, 1], from at most `least` to at least `most`
    """
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        below = np.clip(wanted(middle), least, most).sum() <= total
        low, high = (middle, high) if below else (low, middle)
    exact = np.clip(wanted(low), least, most)
    found = np.floor(exact + 1e-6).astype(int)
    while (left := total - int(found.sum())) > 0:
        room = np.flatnonzero(found < most)
        found[room[np.argsort(found[room] - exact[room], kind="stable")[:left]]] += 1
    return [int(k) for k in found]


def in_proportion(total: int, shares: Sequence[float], least: Array, most: Array) -> list[int]:
    """Return whole numbers that sum to `total`, in proportion to `shares` as far as `least` and `most` allow."""
    each = np.asarray(shares, float)
    return divided(total, lambda t: each * t / (1 - t) * total / each.sum() if t < 1 else most, least, most)
