"""What is to be measured: suites, rounds, threads, peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from l0ref.bench.peers import choose_peers
from l0ref.bench.suites import suites
from l0ref.bench.threads import processors
from l0ref.errors import ArgumentError
from l0ref.validate import choose, count

ROUNDS = 9
MOST_THREADS = 2  # by default: what the published tables use; these networks are too small to gain from many


@dataclass(frozen=True)
class Plan:
    """The settings of one run of the benchmark.

    suites   names of suites, in the order they run
    rounds   turns of each contender
    threads  of every library alike
    peers    names from `l0ref.bench.peers.PEERS`
    quick    small sizes and short turns, to see that everything runs; the times mean little
    seed     of weights, images and labels
    """

    suites: tuple[str, ...]
    rounds: int
    threads: int
    peers: tuple[str, ...]
    quick: bool = False
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return {**asdict(self), "suites": list(self.suites), "peers": list(self.peers)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Return the plan that `to_json` described."""
        return cls(**{**value, "suites": tuple(value["suites"]), "peers": tuple(value["peers"])})


def make_plan(
    names: Sequence[str],
    *,
    rounds: int | None = None,
    threads: int | None = None,
    peers: str | None = None,
    quick: bool = False,
    seed: int = 0,
) -> Plan:
    """Return a checked plan; None stands for the default: 9 rounds, up to 2 threads, every peer installed."""
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
    )
