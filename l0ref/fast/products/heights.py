"""The number of rows of a tile of sums, chosen by times measured on this machine.

A tile of h rows and COLUMNS columns of vectors costs h + COLUMNS loads for h COLUMNS multiply-adds. More rows need
fewer loads, until the sums leave the registers; and 10 rows fill two tiles of 5, but three of 4. So for M rows

    height_for(M) = the h of least ceil(M / h) seconds_h

or the h of least seconds_h / h, unless the former saves 5 %. seconds_h is the time of one term of a tile, measured by
`l0ref calibrate`, by `l0ref bench`, or by the first process that takes so many products that other tiles may repay the
3 seconds of compiling them (WORTH), for some milliseconds; until then DEFAULT holds. The times are kept in the folder
of the compiled kernels: one file for each processor, its features and number of threads. A file that cannot be read, or
is of another version of these kernels, counts as absent; where nothing can be written, DEFAULT holds.

**The choice of h changes no bit of any result**: each sum is taken by one thread in the order of its terms.

L0REF_TILE_ROWS=default, or =5, fixes the choice for a process, regardless of kept files; nothing is measured then.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from math import inf, isfinite
from pathlib import Path
from time import perf_counter

import numpy as np

from l0ref.archive import json_bytes, read_json, write_atomic
from l0ref.errors import ArgumentError, L0RefError
from l0ref.fast.machine.policy import STAMP, work_so_far
from l0ref.fast.machine.scratch import zeros
from l0ref.fast.machine.tables import table
from l0ref.fast.machine.target import COLUMNS, REGISTERS, ROWS, host, lanes
from l0ref.fast.products import contraction
from l0ref.version import __version__

logger = logging.getLogger("l0ref.fast")
VARIABLE = "L0REF_TILE_ROWS"
CANDIDATES = (4, 5, 6) if REGISTERS == 32 else (2, 3)
TERMS, HEIGHT = 512, 60  # of the product that is timed: a vector of each of COLUMNS blocks times HEIGHT rows
ROUNDS = 40  # in which the candidates alternate; the least time counts, which other programs disturb least
WORTH = 3 * 10**11  # multiply-adds, some 5 seconds of products, of which the best tiles save a tenth
GAIN = 0.95  # another height must take less than this share of the time of the fastest tiles: it must be compiled


@dataclass(frozen=True)
class Choice:
    """The heights to choose from, with their times.

    seconds  {height: time of one term of a tile}
    by       source of the times: default, L0REF_TILE_ROWS, probe or calibrate
    """

    seconds: dict[int, float]
    by: str = "default"


DEFAULT, USUAL = Choice({ROWS: 1.0}), tuple(range(ROWS))


def height_for(rows: int) -> tuple[int, ...]:
    """Return 0, 1, ..., h - 1 with the height h for a product of `rows` rows, as the kernels read it."""
    return best_height(rows) if at_hand() is not None or work_so_far() >= WORTH else USUAL


@lru_cache(maxsize=256)
def best_height(rows: int) -> tuple[int, ...]:
    """Return the same by the times of this process, which are measured if there are none."""
    seconds = chosen().seconds
    times = {h: -(-rows // h) * one for h, one in seconds.items()}
    fastest, best = min(seconds, key=lambda h: seconds[h] / h), min(times, key=times.__getitem__)
    return tuple(range(best if times[best] < GAIN * times[fastest] else fastest))


@cache
def chosen() -> Choice:
    """Return the choice of this process; measure if there is none."""
    found, path = at_hand(), kept_at()
    return probed(path, by="probe") if found is None and path is not None else found or DEFAULT


@cache
def at_hand() -> Choice | None:
    """Return the requested or kept choice, DEFAULT if none can be kept; None: it is to be measured."""
    asked, path = os.environ.get(VARIABLE, ""), kept_at()
    return fixed(asked) if asked else DEFAULT if path is None else read(path)


def probed(path: Path, *, by: str, rounds: int = ROUNDS) -> Choice:
    """Measure, and keep the result if possible."""
    choice = Choice(measured(rounds), by)
    at_hand.cache_clear()
    try:
        keep(choice, path)
    except OSError as error:
        logger.debug("the choice of kernels is not kept: %s", error)
    return choice


def calibrated() -> Choice:
    """Measure for longer, keep the result, and use it from now on; a choice that is fixed stays."""
    path = kept_at()
    if path is not None and VARIABLE not in os.environ:
        probed(path, by="calibrate", rounds=10 * ROUNDS)
        chosen.cache_clear()
        best_height.cache_clear()
    return chosen()


def fixed(asked: str) -> Choice:
    """Return the choice that L0REF_TILE_ROWS asks for."""
    if asked == "default":
        return DEFAULT
    if not asked.isdecimal() or int(asked) not in CANDIDATES:
        known = ", ".join(map(str, CANDIDATES))
        raise ArgumentError(f"{VARIABLE}={asked!r} must be default or one of {known}, the tiles of this processor")
    return Choice({int(asked): 1.0}, by=VARIABLE)


def kept_at() -> Path | None:
    """Return the file of this machine in the folder of the compiled kernels; None if the folder is not writable."""
    folder = getattr(getattr(contraction.contract_tiles, "_cache", None), "cache_path", None)
    if folder is None or not os.access(folder, os.W_OK):
        return None
    key = hashlib.sha256(repr(host()).encode()).hexdigest()
    return Path(folder) / f"tiles-{key[:16]}.json"


def version() -> str:
    """Return the version of the package and its kernels, to which a kept choice belongs."""
    return hashlib.sha256(repr((__version__, STAMP)).encode()).hexdigest()


def read(path: Path) -> Choice | None:
    """Return the kept choice, or None if it cannot be used."""
    try:
        found = read_json(path)
        seconds = {int(h): float(one) for h, one in found["seconds"].items()}
        kept = Choice(seconds, str(found["by"]))
        stale = found["version"] != version()
    except (OSError, L0RefError, ValueError, TypeError, KeyError, AttributeError):
        return None
    usable = seconds and set(seconds) <= set(CANDIDATES) and all(isfinite(one) and one > 0 for one in seconds.values())
    return kept if usable and not stale else None


def keep(choice: Choice, path: Path) -> None:
    """Write a choice; a reader sees the old file or the new one."""
    seconds = {str(h): one for h, one in choice.seconds.items()}
    write_atomic(path, json_bytes({**asdict(choice), "seconds": seconds, "version": version()}))


def measured(rounds: int = ROUNDS) -> dict[int, float]:
    """Return the seconds of one term of a tile of each height: the least of `rounds` rounds."""
    width = lanes(np.float32)
    x, w, y = (zeros(n * width, np.float32) for n in (COLUMNS * TERMS, HEIGHT * TERMS // width + 1, COLUMNS * HEIGHT))
    x += 1
    w += 1
    block, row, term = np.arange(COLUMNS) * width, np.arange(HEIGHT), np.arange(TERMS)
    columns, taps = table(block * TERMS, block * HEIGHT), table(term * width, term)
    tables = columns, table(row * TERMS, row * width, 0), taps, np.zeros(2, np.int64)
    arrays = x, w, np.zeros(1, np.float32), np.full(1, -inf, np.float32), y, tables
    least = dict.fromkeys(CANDIDATES, inf)
    for _ in range(rounds + 1):  # the first compiles
        for h in CANDIDATES:
            begin, tiles = perf_counter(), -(-HEIGHT // h)
            contraction.contract_tiles(*arrays, tuple(range(h)), 0, tiles)
            least[h] = min(least[h], (perf_counter() - begin) / (tiles * TERMS))
    return least
