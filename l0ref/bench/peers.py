"""The other libraries that take part, and the set-up of PyTorch for a measurement.

A library is imported in a function, by `need`, so that every module of the benchmark loads without it. Peers come with
the extra `bench`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, NamedTuple

from l0ref.errors import ArgumentError
from l0ref.interop.extras import need
from l0ref.validate import choose


class Peer(NamedTuple):
    """The package of a peer, whether it takes part by default, and a one-line description."""

    package: str
    by_default: bool
    about: str


PEERS = {
    "torch": Peer("torch", True, "PyTorch: eager and fused optimisers, channels_last; with and without the penalty"),
    "compile": Peer("torch", False, "torch.compile; needs a C++ compiler and compiles for up to a minute"),
    "autograd": Peer("autograd", True, "autograd, with Adam in NumPy; no convolutions"),
    "mygrad": Peer("mygrad", True, "MyGrad, with Adam in NumPy"),
    "scipy": Peer("scipy", True, "SciPy"),
    "abess": Peer("abess", True, "abess: best subsets by splicing, beside the solver of one layer"),
    "limits": Peer("numpy", True, "limits of the machine: the matrix products alone, the memory traffic alone"),
}


def installed(name: str) -> bool:
    """Whether the package of a peer can be imported."""
    return importlib.util.find_spec(PEERS[name].package) is not None


def choose_peers(asked: str | None) -> tuple[str, ...]:
    """Return the peers named in "a,b,c", none for "none", and for None the installed ones that take part by default."""
    if asked is None:
        return tuple(name for name, peer in PEERS.items() if peer.by_default and installed(name))
    names = [] if asked == "none" else [choose("--peers", name.strip(), (*PEERS, "none")) for name in asked.split(",")]
    for name in names:
        if name == "none":
            raise ArgumentError(f"--peers={asked!r} asks for none and for others; leave one of them out")
        if not installed(name):
            raise ArgumentError(
                f"--peers={asked!r} asks for {name!r}, whose package {PEERS[name].package!r} is not installed; install "
                "the extra 'bench': pip install 'l0ref[bench]'"
            )
    return tuple(dict.fromkeys(names))


def torch_with(threads: int) -> Any:
    """Return PyTorch, set to `threads` threads."""
    torch = need("torch", extra="bench")
    torch.set_num_threads(threads)
    return torch


def restart(torch: Any, optimizer: Any, params: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    """Restore the initial weights and an empty optimiser state."""
    with torch.no_grad():
        for key, p in params.items():
            p.copy_(start[key])
    for state in optimizer.state.values():
        for slot in state.values():
            slot.zero_()
