"""The combinations of a sweep: all of the values that were given, or some drawn at random.

alpha=1e-5,2e-5            values
curve=2,4;2,8              values that contain commas, separated by semicolons
beta=2..20                 a range, of which --random draws uniformly; whole numbers for a whole setting
alpha=1e-6..1e-3:log       the same, uniformly in the logarithm
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from l0ref.cli.flags import text_of
from l0ref.cli.settings import FLAGS_ONLY, Settings
from l0ref.cli.values import check_name, check_once
from l0ref.errors import ConfigError
from l0ref.streams import stream

MAX_COMBINATIONS = 100_000
LONGEST = 100  # characters of a name of a folder
EXAMPLE = "alpha=1e-5,2e-5"


class Range(NamedTuple):
    """Numbers between two ends, both included."""

    low: float
    high: float
    is_log: bool
    is_whole: bool

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number of the range."""
        if self.is_whole:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        if self.is_log:
            return float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))


def read_grid(entries: Iterable[str]) -> dict[str, tuple[Any, ...] | Range]:
    """Return values or a range by setting; refuse an entry that has neither."""
    found: dict[str, tuple[Any, ...] | Range] = {}
    for entry in entries:
        name, sign, text = (piece.strip() for piece in entry.partition("="))
        name, told = name.replace("-", "_"), f"grid={entry!r}"
        if not sign or not name:
            raise ConfigError(f"{told} must be a setting and its values, as in {EXAMPLE}")
        if name == "seed" or name in FLAGS_ONLY:
            raise ConfigError(f"{told}: {name} cannot be varied; give --seeds N for several seeds")
        check_name(name, text, Settings.__dataclass_fields__)
        if name in found:
            raise ConfigError(f"{told}: {name} has been given already; give all of its values at once")
        found[name] = _range(name, text, told) if ".." in text and _kind(name) in ("int", "float") else ()
        if not found[name]:
            found[name] = tuple(_value(name, value, told) for value in _pieces(text))
            if not found[name]:
                raise ConfigError(f"{told} has no values; give at least one, as in {EXAMPLE}")
            check_once(told, found[name])
    if not found:
        raise ConfigError(f"grid=[] names no setting; give at least one, as in --grid {EXAMPLE}")
    return found


def combinations(grid: Mapping[str, tuple[Any, ...] | Range], *, random: int | None, seed: int) -> list[dict[str, Any]]:
    """Return settings by name: every combination of the values, or `random` of them, drawn without replacement.

    With ranges, each of `random` combinations draws every setting independently, and a repeated one is left out.
    If there are no more than `random` combinations, all are taken.
    """
    if random is not None and not 0 < random <= MAX_COMBINATIONS:
        raise ConfigError(f"random={random} must lie in [1, {MAX_COMBINATIONS}]")
    ranges = [name for name, values in grid.items() if isinstance(values, Range)]
    if ranges and random is None:
        raise ConfigError(f"grid: {ranges[0]} is a range, of which values are drawn; add --random N")
    rng = stream(seed, "sweep")
    if random is not None and ranges:
        drawn = ({name: _drawn(values, rng) for name, values in grid.items()} for _ in range(random))
        return list({repr(each): each for each in drawn}.values())
    lists = {name: values for name, values in grid.items() if not isinstance(values, Range)}
    total = math.prod(len(values) for values in lists.values())
    if random is None and total > MAX_COMBINATIONS:
        raise ConfigError(f"grid has {total} combinations, the most is {MAX_COMBINATIONS}; add --random N")
    if random is None or random >= total:
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    places = sorted(rng.choice(total, size=random, replace=False).tolist())
    return [_at(lists, place) for place in places]


def folder_name(chosen: Mapping[str, Any]) -> str:
    """Return the name of the folder of a combination, as alpha=1e-05,beta=5: the same one in every sweep.

    >>> folder_name({"alpha": 1e-5, "controls": ("none", "l2")})
    'alpha=1e-05,controls=none+l2'
    """
    text = ",".join(f"{k}={'+'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in chosen.items())
    safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "-", text)
    if safe == text and len(text) <= LONGEST:
        return text
    return f"{safe[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _kind(name: str) -> str:
    return str(Settings.__dataclass_fields__[name].type).removesuffix(" | None")


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(";" if ";" in text else ",") if piece.strip()]


def _value(name: str, text: str, told: str) -> Any:
    try:
        return text_of(name)(text)
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"{told}: {error}") from None


def _range(name: str, text: str, told: str) -> Range:
    ends, sign, scale = text.partition(":")
    low, high = (_value(name, end.strip(), told) for end in ends.split("..", 1))
    if (sign and scale != "log") or not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise ConfigError(f"{told} must be a range from low to high, as in alpha=1e-6..1e-3 or alpha=1e-6..1e-3:log")
    if sign and (low <= 0 or _kind(name) == "int"):
        raise ConfigError(f"{told}: a range in the logarithm has real ends above 0; leave :log out")
    return Range(low, high, bool(sign), isinstance(low, int) and isinstance(high, int))


def _drawn(values: tuple[Any, ...] | Range, rng: np.random.Generator) -> Any:
    return values.draw(rng) if isinstance(values, Range) else values[int(rng.integers(len(values)))]


def _at(lists: Mapping[str, Sequence[Any]], place: int) -> dict[str, Any]:
    """The combination at a place of the product, whose last setting changes fastest."""
    found: dict[str, Any] = {}
    for name in reversed(list(lists)):
        place, digit = divmod(place, len(lists[name]))
        found[name] = lists[name][digit]
    return {name: found[name] for name in lists}
