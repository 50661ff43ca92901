"""The records of methods that remove single weights, drawn: one figure for each page in docs/methods/.

    python examples/ex07_method_records.py [FOLDER]      writes one PNG for each method; default docs/figures/methods

Every number drawn is in the record of a method or its network.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from l0ref import data, fit, nn
from l0ref.methods import METHODS, Pruned
from l0ref.report.figures.panels import bars, descending, layer_name, legend, weights_kept, write_panels
from l0ref.report.figures.style import plain_log_axis, tidy

Run = Callable[..., Pruned]
AMOUNT = 0.9
STAYS = "share of weights that stay"


def main(*, fast: bool = False, out: Path | str = "docs/figures/methods") -> dict[str, float]:
    """Draw all figures into the folder `out`; return the numbers that the pages quote."""
    digits = data.load("digits", seed=0)
    net, _ = fit(nn.digits_mlp(seed=0), digits.train, epochs=3 if fast else 40, seed=0, progress="none")

    done: dict[str, Pruned] = {}

    def run(name: str, **options: Any) -> Pruned:
        if fast and "samples" in METHODS[name].options:
            options = options | {"samples": 100}
        call = f"{name} {options}"
        if call not in done:
            done[call] = METHODS[name].run(net, digits, seed=0, **{"amount": AMOUNT} | options)
        return done[call]

    return write_panels(FIGURES, out, run)


def stays(ax: Axes, run: Run, *names: str) -> None:
    """The share of each layer that methods leave, beside class-blind magnitude."""
    bars(ax, {name: weights_kept(run(name).model) for name in dict.fromkeys((*names, "magnitude"))})
    tidy(ax, title=f"{STAYS}, {100 * AMOUNT:.0f} % removed")


# --- magnitude --------------------------------------------------------------------------------------------------------


def magnitude(axes: Any, run: Run) -> dict[str, float]:
    """One threshold, and what it leaves."""
    descending(
        axes[0], {key: np.abs(w) for key, w in run("magnitude", amount=0).model.params.items() if "weight" in key}
    )
    limit = max(run("magnitude").record["threshold"].values())
    axes[0].axhline(limit, linestyle="--", color="grey")
    tidy(axes[0], title="|w|; dashed: threshold", x="% of weights, largest first")
    stays(axes[1], run, "magnitude")
    return {}


def class_uniform(axes: Any, run: Run) -> dict[str, float]:
    """A threshold for each layer, the same share of each."""
    bars(axes[0], {name: run(name).record["threshold"] for name in ("class_uniform", "magnitude")})
    tidy(axes[0], title="threshold: the smallest |w| that stays")
    stays(axes[1], run, "class_uniform")
    return {}


def class_distribution(axes: Any, run: Run) -> dict[str, float]:
    """A threshold in units of the standard deviation."""
    found = run("class_distribution").record
    times_q = {key: found["quality"] * std for key, std in found["std"].items()}
    bars(axes[0], {"standard deviation": found["std"], "threshold": times_q})
    tidy(axes[0], title=f"threshold = {found['quality']:.2f} standard deviations")
    stays(axes[1], run, "class_distribution")
    return {"quality": float(found["quality"])}


def han(axes: Any, run: Run) -> dict[str, float]:
    """Thresholds with and without a factor of the last layer."""
    ways = {f"s of fc3: {s}": (run("han", sensitivity={"fc3.weight": s}), s) for s in (1.0, 0.5)}
    limits = {}
    for name, (found, s) in ways.items():
        q_std = {key: found.record["quality"] * std for key, std in found.record["std"].items()}
        limits[name] = q_std | {"fc3.weight": s * q_std["fc3.weight"]}
    bars(axes[0], limits)
    tidy(axes[0], title="threshold: q s std(w)")
    bars(axes[1], {name: weights_kept(found.model) for name, (found, _) in ways.items()})
    tidy(axes[1], title=STAYS)
    return {}


def lottery(axes: Any, run: Run) -> dict[str, float]:
    """Trained against initial values of the weights of the ticket."""
    trained, ticket = (run(name).model for name in ("magnitude", "lottery"))
    key = "fc2.weight"
    mask = ticket.mask(key)
    axes[0].plot(trained.params[key][mask], ticket.params[key][mask], ".", markersize=3)
    tidy(axes[0], title="weights of fc2 that stay", x="trained", y="set back to")
    stays(axes[1], run, "lottery")
    return {}


def random(axes: Any, run: Run) -> dict[str, float]:
    """Uniform noise as a score: all sizes of weights stay."""
    for name in ("random", "magnitude"):
        model = run(name).model
        kept = np.concatenate([np.abs(model.params[k][model.mask(k)]) for k in model.weights])
        axes[0].hist(kept, bins=60, histtype="step", label=name)
    legend(axes[0])
    tidy(axes[0], title="|w| of the weights that stay")
    stays(axes[1], run, "random")
    return {}


def weight_sharing(axes: Any, run: Run) -> dict[str, float]:
    """The values of each layer, and the error against their number."""
    for number, (key, values) in enumerate(run("weight_sharing").record["codebook"].items()):
        axes[0].plot(values, np.full(len(values), number), "|", markersize=14, label=layer_name(key))
    axes[0].set_yticks(range(3), ["fc1", "fc2", "fc3"])
    tidy(axes[0], title="the values of each layer, 32 at most", x="w")
    few = (2, 4, 8, 16, 32, 64)
    lost = [run("weight_sharing", clusters=k).record["distortion"] for k in few]
    for key in lost[0]:
        axes[1].loglog(few, [each[key] for each in lost], "o-", label=layer_name(key))
    plain_log_axis(axes[1].xaxis)
    legend(axes[1])
    tidy(axes[1], title="sum of squared changes", x="values a layer")
    return {"halving": float(np.mean([b["fc1.weight"] / a["fc1.weight"] for a, b in itertools.pairwise(lost)]))}


# --- sensitivity ------------------------------------------------------------------------------------------------------


def obd(axes: Any, run: Run) -> dict[str, float]:
    """Predicted rise of the loss by weight."""
    descending(axes[0], run("obd").record["scores"], log=True)
    tidy(axes[0], title="h w^2 / 2", x="% of weights, largest first")
    stays(axes[1], run, "obd")
    return {}


def obs(axes: Any, run: Run) -> dict[str, float]:
    """Rise of the loss at the step each weight goes."""
    descending(axes[0], run("obs").record["rises"], log=True)
    tidy(axes[0], title="rise of the loss, the others moving", x="% of weights, largest first")
    stays(axes[1], run, "obs")
    return {}


def l_obs(axes: Any, run: Run) -> dict[str, float]:
    """Scores of a layer, and how far what stays has moved."""
    descending(axes[0], run("l_obs").record["scores"], log=True)
    tidy(axes[0], title="w^2 / (2 [H^-1]_qq)", x="% of weights, largest first")
    moves(axes[1], run, "l_obs")
    return {}


def exact_obs(axes: Any, run: Run) -> dict[str, float]:
    """Rise of the layer's error at each step, and how far what stays has moved."""
    descending(axes[0], run("exact_obs").record["rises"], log=True)
    tidy(axes[0], title="rise of the layer's error", x="% of weights, largest first")
    moves(axes[1], run, "exact_obs")
    return {}


def moves(ax: Axes, run: Run, name: str) -> None:
    """Weights that stay, before and after, in the layer with the most even scale."""
    model, before, key = run(name).model, run("magnitude", amount=0).model, "fc2.weight"
    mask = model.mask(key)
    ax.plot(before.params[key][mask], model.params[key][mask], ".", markersize=3)
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends, "--", color="grey")
    tidy(ax, title="weights of fc2 that stay; dashed: unmoved", x="before", y="after")


def wanda(axes: Any, run: Run) -> dict[str, float]:
    """Scores, and the weights that stay of each row."""
    found = run("wanda")
    descending(axes[0], found.record["scores"], log=True)
    tidy(axes[0], title="|w| times the norm of its input", x="% of weights, largest first")
    for name in ("wanda", "magnitude"):
        rows = run(name).model.mask("fc1.weight").sum(axis=1)
        axes[1].plot(np.sort(rows)[::-1], label=name)
    legend(axes[1])
    tidy(axes[1], title="weights that stay, by row of fc1", x="row, fullest first")
    return {"wanda_rows": float(np.ptp(found.model.mask("fc1.weight").sum(axis=1)))}


def fisher(axes: Any, run: Run) -> dict[str, float]:
    """The two factors of the score, and the line between what goes and what stays."""
    found, key = run("fisher"), "fc2.weight"
    w, f = np.abs(run("magnitude", amount=0).model.params[key]).ravel(), found.record["fisher"][key].ravel()
    kept = found.model.mask(key).ravel()
    for which, label in ((~kept, "goes"), (kept, "stays")):
        axes[0].loglog(w[which], np.maximum(f[which], 1e-16), ".", markersize=1, label=label)
    axes[0].legend(frameon=False, fontsize=8, markerscale=10)
    axes[0].set_xlim(1e-3 * w.max(), 1.2 * w.max())
    tidy(axes[0], title="weights of fc2", x="|w|", y="F")
    stays(axes[1], run, "fisher")
    return {}


def snip(axes: Any, run: Run) -> dict[str, float]:
    """Scores of the weights, which with those of the biases add up to 1."""
    scores = run("snip").record["scores"]
    descending(axes[0], {k: s for k, s in scores.items() if k.endswith("weight")}, log=True)
    tidy(axes[0], title="|w dL/dw| over its sum", x="% of weights, largest first")
    stays(axes[1], run, "snip")
    return {"snip_sum": sum(float(s.sum(dtype=np.float64)) for s in scores.values())}


def grasp(axes: Any, run: Run) -> dict[str, float]:
    """Scores of both signs: the largest go."""
    descending(axes[0], run("grasp").record["scores"])
    axes[0].set_yscale("symlog", linthresh=1e-9)
    tidy(axes[0], title="-w (H g): the largest go", x="% of weights, largest first")
    stays(axes[1], run, "grasp")
    return {}


# --- one layer after the other ----------------------------------------------------------------------------------------


def net_trim(axes: Any, run: Run) -> dict[str, float]:
    """Bound and error of each layer, and the weights the convex program leaves."""
    found = run("net_trim", samples=300).record
    bars(axes[0], {"epsilon": found["epsilon"], "residual": found["residual"]})
    axes[0].set_yscale("log")
    axes[0].set_ylim(top=3e4)  # room for the legend
    tidy(axes[0], title="epsilon, and residual of ADMM")
    bars(axes[1], {"error": found["error"]})
    tidy(axes[1], title="relative error of the layer's output")
    return {}


def l0_constrained(axes: Any, run: Run) -> dict[str, float]:
    """Error of each layer before and after its activation, and against the amount."""
    found = {a: run("l0_constrained", amount=a).record for a in (0.5, 0.7, 0.9)}
    bars(axes[0], {name: found[0.9][name] for name in ("error", "activated")})
    tidy(axes[0], title="relative error of layers, 90 % removed")
    for key in found[0.9]["activated"]:
        changes = [record["activated"][key] for record in found.values()]
        axes[1].plot([100 * a for a in found], changes, "o-", label=layer_name(key))
    legend(axes[1])
    tidy(axes[1], title="error behind the activation", x="% of weights removed")
    return {}


FIGURES = (
    magnitude, class_uniform, class_distribution, han, lottery, random, weight_sharing, obd, obs, l_obs, exact_obs,
    wanda, fisher, snip, grasp, net_trim, l0_constrained,
)  # fmt: skip

if __name__ == "__main__":
    print(main(out=sys.argv[1] if len(sys.argv) > 1 else "docs/figures/methods"))
