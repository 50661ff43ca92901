"""One neuron with few weights, solved and proven: how far magnitude is from the best there is.

A neuron of a trained network may keep k of its inputs. Which k let it answer most like it did? Three answers, each with
least squares on its support, measured by the squared error f:

    magnitude  the k largest weights
    swaps      from there, always the exchange of one member for one input that lowers f most, until none does
    certify    branch and bound: two bounds that close in on the smallest f, until it is proven

What to look for: magnitude is far off, although its weights are refitted; a few swaps find the best support, and cannot
know it; nearly all of the time goes into the proof, which raises the lower bound.

Run it with ``python examples/ex08_one_neuron_proven.py``; it writes one_neuron.png beside itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from l0ref import data, fit, nn
from l0ref.layerwise import Quadratic, certify
from l0ref.layerwise.tableau import improved
from l0ref.methods.layer_by_layer import layer_quadratic

NEURON, KEEP = 3, 6


def main(*, fast: bool = False, out: Path | None = None) -> dict[str, float]:
    """Print the three answers, draw swaps and bounds; return f of each, the lower bound and the nodes."""
    images = data.load("digits", seed=0)
    start = nn.mlp((64, 40, 24 if fast else 40, 10), seed=0, input_shape=(1, 8, 8))
    net, _ = fit(start, images.train, epochs=3 if fast else 10, seed=0, progress="none")
    neuron = layer_quadratic(net, "fc3.weight", images.train.x).row(NEURON)

    sizes = neuron.narrow(np.abs(net.params["fc3.weight"][NEURON]))[0]
    largest = sizes >= np.sort(sizes)[-KEEP]
    f = [float(np.sum(neuron.objective(neuron.refit(support_of(neuron, largest)))))]
    best, changes = improved(neuron.gram, neuron.moments[0], largest, limit=100, gain=1e-9)
    f += [f[0] + float(change) for change in np.cumsum(changes)]
    found = certify(neuron, KEEP, incumbent=support_of(neuron, best))

    print(
        f"{neuron.gram.shape[0]} inputs, {KEEP} kept; f of the neuron without any input: {float(neuron.energy[0]):.1f}"
    )
    print(f"magnitude        f = {f[0]:.3f}")
    print(f"{len(changes)} swaps          f = {f[-1]:.3f}")
    print(f"branch and bound f = {found.upper:.3f}, at least {found.lower:.3f}, after {found.nodes} nodes")

    picture = Figure(figsize=(11, 3.2), layout="constrained")
    left, middle, right = picture.subplots(1, 3)
    left.plot(range(len(f)), f, "o-")
    left.axhline(found.upper, color="k", linestyle=":", label="smallest f")
    left.set(xlabel="swaps", ylabel="squared error f")
    seconds, lower, upper = (found.record[name] for name in ("seconds", "lower", "upper"))
    middle.step(seconds, upper, where="post", label="best found")
    middle.step(seconds, lower, where="post", label="no support is below")
    middle.set(xlabel="seconds", ylabel="squared error f")
    right.step(seconds, (upper - lower) / upper, where="post", label="what is not proven")
    right.set(xlabel="seconds", ylabel="gap, part of the best f", ylim=(0, None))
    for axes in (left, middle, right):
        axes.legend()
    picture.savefig(out or Path(__file__).with_name("one_neuron.png"))
    return {
        "magnitude": f[0], "swaps": f[-1], "upper": found.upper, "lower": found.lower, "nodes": float(found.nodes),
        "proven": float(found.proven), "gap": float((upper[-1] - lower[-1]) / upper[-1]),
    }  # fmt: skip


def support_of(neuron: Quadratic, live: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The support over all inputs of one over those that vary."""
    support = np.zeros(neuron.shape[1], bool)
    support[neuron.live] = live
    return support


if __name__ == "__main__":
    main()
