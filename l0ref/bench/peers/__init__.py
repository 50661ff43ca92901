"""The other libraries, and the limits of the machine.

What imports another library stands in a module of this package, and imports it in a function: a module can be loaded
without the library. Peers come with the extra `bench`.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

from l0ref.errors import ArgumentError
from l0ref.validate import choose


class Peer(NamedTuple):
    """The package a peer needs, whether it takes part unasked, and one line about it."""

    package: str
    by_default: bool
    about: str


PEERS = {
    "torch": Peer("torch", True, "PyTorch: eager and fused optimisers, channels_last; with and without the penalty"),
    "compile": Peer("torch", False, "torch.compile; wants a C++ compiler and compiles for up to a minute"),
    "autograd": Peer("autograd", True, "autograd, with Adam in NumPy; no convolutions"),
    "mygrad": Peer("mygrad", True, "MyGrad, with Adam in NumPy"),
    "scipy": Peer("scipy", True, "SciPy"),
    "limits": Peer("numpy", True, "what the machine allows: the matrix products alone, the memory traffic alone"),
}


def installed(name: str) -> bool:
    """Whether the package of a peer can be imported."""
    return importlib.util.find_spec(PEERS[name].package) is not None


def choose_peers(asked: str | None) -> tuple[str, ...]:
    """Return the peers named in "a,b,c", none for "none", and for None all that are installed and need no asking."""
    if asked is None:
        return tuple(name for name, peer in PEERS.items() if peer.by_default and installed(name))
    names = [] if asked == "none" else [choose("--peers", name.strip(), (*PEERS, "none")) for name in asked.split(",")]
    for name in names:
        if name == "none":
            raise ArgumentError(f"--peers={asked!r} asks for none and for others; leave one of them out")
        if not installed(name):
            raise ArgumentError(
                f"--peers={asked!r} asks for {name!r}, whose package {PEERS[name].package!r} is not installed; get it "
                "with the extra 'bench': pip install 'l0ref[bench]'"
            )
    return tuple(dict.fromkeys(names))
