"""A checked plan from the flags of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from l0ref.bench.peers import choose_peers
from l0ref.bench.suites import suites
from l0ref.bench.threads import processors
from l0ref.bench.work import Plan
from l0ref.errors import ArgumentError
from l0ref.validate import choose, count

ROUNDS = 9


MOST_THREADS = 2  # by default, as in the published tables; these networks are too small to gain from more


def make_plan(
    names: Sequence[str],
    *,
    rounds: int | None = None,
    threads: int | None = None,
    peers: str | None = None,
    quick: bool = False,
    seed: int = 0,
    goals: bool = False,
) -> Plan:
    """Return a checked plan; None is the default: 9 rounds, up to 2 threads, all installed peers except compile."""
    known = suites()
    if not names:
        raise ArgumentError(f"SUITE is missing; name one or more of {', '.join(known)}")
    cpus = len(processors())
    number = min(MOST_THREADS, cpus) if threads is None else count("--threads", threads, least=1)
    if number > cpus:
        raise ArgumentError(f"--threads={number} is more than the {cpus} processors of this process; ask for fewer")
    return Plan(
        suites=tuple(dict.fromkeys(choose("SUITE", name, known) for name in names)),
        rounds=ROUNDS if rounds is None else count("--rounds", rounds, least=1),
        threads=number,
        peers=choose_peers(peers),
        quick=quick,
        seed=count("--seed", seed),
        goals=goals,
    )
