"""The records of methods that remove units, move thresholds or train, drawn: one figure for each page in docs/methods/.

    python examples/ex09_unit_records.py [FOLDER]      writes one PNG for each method; default docs/figures/methods

Every number drawn is in the record of a method or its network, but for the error of coresets, which is measured here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from l0ref import data, fit, nn
from l0ref.methods import METHODS, Pruned
from l0ref.methods.coreset import probabilities
from l0ref.nn import Model
from l0ref.pruning import coupled_axes, permute
from l0ref.report.figures.panels import bars, descending, legend, weights_kept, write_panels
from l0ref.report.figures.style import tidy

Run = Callable[..., Pruned]
AMOUNT = 0.9
UNITS = "% of units, largest first"


def main(*, fast: bool = False, out: Path | str = "docs/figures/methods") -> dict[str, float]:
    """Draw all figures into the folder `out`; return the numbers that the pages quote."""
    digits = data.load("digits", seed=0)
    net, _ = fit(nn.digits_mlp(seed=0), digits.train, epochs=3 if fast else 40, seed=0, progress="none")

    def run(name: str, *, model: Model = net, amount: float = AMOUNT, **options: Any) -> Pruned:
        return METHODS[name].run(model, digits, amount=amount, seed=0, **options)

    return write_panels(FIGURES, out, run, fast)


def units_stay(ax: Axes, run: Run, *names: str, **options: Any) -> None:
    """The share of the units of each layer that methods leave."""
    found = {}
    for name in names:
        model = run(name, **options).model
        found[name] = {k: float(model.mask(k).any(axis=1).mean()) for k in model.weights[:-1]}
    bars(ax, found)
    tidy(ax, title="share of units that stay")


def data_free(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Saliency of one merge after the other, and the units that are left."""
    merged = run("data_free").record["saliency"]
    axes[0].plot(np.arange(1, len(merged) + 1), merged)
    axes[0].set_yscale("symlog", linthresh=1e-6)
    tidy(axes[0], title="saliency of each merge", x="merge")
    units_stay(axes[1], run, "data_free", "fpgm")
    return {"merges": float(len(merged))}


def fpgm(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Distances of units, beside the length of their weights."""
    found, before = run("fpgm"), run("fpgm", amount=0).model
    descending(axes[0], found.record["scores"])
    tidy(axes[0], title="sum of distances to the other units", x=UNITS)
    for layer, s in found.record["scores"].items():
        axes[1].plot(np.linalg.norm(before.params[f"{layer}.weight"], axis=1), s, ".", label=layer)
    legend(axes[1])
    tidy(axes[1], title="not only short vectors are near", x="length of the incoming weights", y="distance")
    return {}


def kmeans_units(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Sizes of clusters, and one member of each that stays."""
    found = run("kmeans_units")
    for layer, of in found.record["clusters"].items():
        sizes = np.sort(np.bincount(of))[::-1]
        axes[0].step(np.arange(len(sizes)), sizes, label=layer)
    legend(axes[0])
    tidy(axes[0], title="units of each cluster", x="cluster, largest first")
    units_stay(axes[1], run, "kmeans_units", "fpgm")
    return {}


def taylor(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """Scores before and after they are divided by the norm of their layer."""
    scores = run("taylor", samples=100 if fast else 1000).record["scores"]
    descending(axes[0], scores, log=True)
    tidy(axes[0], title="|a dL/da| of units", x=UNITS)
    descending(axes[1], {layer: s / np.linalg.norm(s) for layer, s in scores.items()}, log=True)
    tidy(axes[1], title="over the norm of the layer: what is ranked", x=UNITS)
    return {}


def apoz(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Shares of zeros, and the units that are left."""
    descending(axes[0], run("apoz").record["scores"])
    tidy(axes[0], title="share of zeros of the output", x="% of units, most silent first")
    units_stay(axes[1], run, "apoz", "taylor")
    return {}


def thinet(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Factors of the units that stay."""
    scale = run("thinet").record["scale"]
    descending(axes[0], {layer: s[s != 0] for layer, s in scale.items()})
    axes[0].axhline(1, linestyle="--", color="grey")
    tidy(axes[0], title="factor of the units that stay", x=UNITS)
    units_stay(axes[1], run, "thinet", "apoz")
    return {}


def nisp(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Importance, and how it goes with the length of the outgoing weights."""
    found, before = run("nisp"), run("nisp", amount=0).model
    descending(axes[0], found.record["scores"])
    tidy(axes[0], title="importance carried back from the outputs", x=UNITS)
    for layer, reader in (("fc1", "fc2"), ("fc2", "fc3")):
        own = np.abs(before.params[f"{reader}.weight"]).sum(axis=0)
        axes[1].plot(own, found.record["scores"][layer], ".", label=layer)
    legend(axes[1])
    tidy(axes[1], title="importance by unit", x="sum of its outgoing |w|")
    return {}


def on_the_fly(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Thresholds by rule, and what each leaves of the layers."""
    found = {rule: run("on_the_fly", rule=rule) for rule in ("flat", "triangular", "relative")}
    bars(axes[0], {rule: f.record["thresholds"] for rule, f in found.items()})
    tidy(axes[0], title="smallest |w| that stays")
    bars(axes[1], {rule: weights_kept(f.model) for rule, f in found.items()})
    tidy(axes[1], title="share of weights that stay")
    return {}


def learned_threshold(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """Thresholds by regulariser, and what the exact amount leaves of the layers."""
    epochs = {"epochs": 1 if fast else 10}
    found = {kind: run("learned_threshold", regulariser_kind=kind, **epochs) for kind in ("exp", "count", "l1")}
    both = {k: {key: float(t[0]) for key, t in f.record["thresholds"].items()} for k, f in found.items()}
    bars(axes[0], both)
    tidy(axes[0], title="learnt threshold of each layer")
    bars(axes[1], {kind: weights_kept(f.model) for kind, f in found.items()})
    tidy(axes[1], title="share of weights that stay")
    return {f"learnt_{kind}": float(f.record["learnt"]) for kind, f in found.items()}


def global_filters(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Scores of the units, and pooled against raw scores of tied widths."""
    descending(axes[0], run("global_filters", amount=0.8).record["scores"])
    tidy(axes[0], title="mean |w| of the units of each layer")
    images = nn.resnet_small(seed=0, input_shape=(1, 8, 8))
    ways = (("mean", "mean"), ("mean", "sum"), ("sum", "mean"))
    how = {"model": images, "amount": 0.8}
    bars(axes[1], {f"norm={n}, pool={p}": shares(run("global_filters", norm=n, pool=p, **how)) for n, p in ways})
    axes[1].set_ylim(0, 1.5)
    axes[1].tick_params(axis="x", labelsize=6, rotation=30)
    tidy(axes[1], title="random ResNet: share of units kept")
    return {}


def shares(found: Pruned) -> dict[str, float]:
    """Units kept over units, by axis."""
    return {axis: 1 - len(found.record["units"].get(axis, ())) / s.size for axis, s in found.record["scores"].items()}


def coreset(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """Probabilities of the units, and the error against the number of draws."""
    descending(axes[0], run("coreset").record["probabilities"])
    tidy(axes[0], title="probability of a draw")
    draws = 2 ** np.arange(6, 9 if fast else 13)
    errors = coreset_errors(draws, repeats=40)
    slope, start = np.polyfit(np.log(draws), np.log(errors), 1)
    axes[1].loglog(draws, errors, "o", label="mean largest error")
    axes[1].loglog(draws, np.exp(start) * draws**slope, label=f"slope {slope:.2f}")
    legend(axes[1])
    tidy(axes[1], title="error of a layer against draws", x="m")
    return {"slope": float(slope)}


def coreset_errors(draws: Any, *, repeats: int) -> Any:
    """Mean over repeats of the largest error over inputs and outputs, one hidden layer of 300 ReLU units."""
    rng, net = np.random.default_rng(0), nn.mlp((20, 300, 20), seed=0, dtype=np.float64)
    pr, q = probabilities(net, coupled_axes(net), "fc1"), net.params["fc2.weight"]
    x = rng.standard_normal((200, 20))
    phi = np.maximum(net.params["fc1.weight"] @ x.T, 0)
    sampled = ((q * rng.multinomial(m, pr) / (m * pr)) @ phi for m in draws for _ in range(repeats))
    return np.reshape([np.abs(found - q @ phi).max() for found in sampled], (len(draws), repeats)).mean(axis=1)


def matrix_pivoting(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Energy of the tiles that stay, and the weights of a layer in their new order."""
    found = run("matrix_pivoting")
    energy, bound = found.record["energy"], found.record["bound"]
    axes[0].plot(energy, "o-", label="tiles of 4x4")
    axes[0].axhline(bound, linestyle="--", color="grey", label="single weights")
    legend(axes[0])
    tidy(axes[0], title="share of all w^2 that stays", x="turn")
    tiled = permute(found.model, found.record["orders"]).mask("fc1.weight")
    axes[1].imshow(tiled, cmap="Greys", aspect="auto", interpolation="nearest")
    tidy(axes[1], title="fc1 in its new order, black: stays", x="input", y="unit")
    return {"tiles": energy[0], "pivoted": max(energy), "bound": bound}


def filter_criteria(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """VIP of the units, and how it goes with the l1 norm."""
    scores = {name: run("filter_criteria", criterion=name).record["scores"] for name in ("vip", "l1")}
    descending(axes[0], scores["vip"])
    axes[0].axhline(1, linestyle="--", color="grey")
    tidy(axes[0], title="VIP; dashed: the usual limit")
    for layer in scores["vip"]:
        axes[1].plot(scores["l1"][layer], scores["vip"][layer], ".", label=layer)
    legend(axes[1])
    tidy(axes[1], title="two criteria, unit by unit", x="l1", y="VIP")
    squares = np.concatenate([np.square(v) for v in scores["vip"].values()])
    return {"vip_mean_square": float(squares.mean())}


def prune_while_training(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """Units that go at each event, and the cost of training so far."""
    found = run("prune_while_training", epochs=4 if fast else 10)
    gone = {f"after epoch {e}": {k: len(u) for k, u in layers.items()} for e, layers in found.record["units"].items()}
    bars(axes[0], gone)
    tidy(axes[0], title="units that go")
    cost, first = found.record["cost"], found.record["cost"][0]
    after = [*[first] * len(cost), *[cost[-1]] * 10]
    for series, label in ((cost, "while training"), (after, "train, prune, 10 epochs more")):
        axes[1].step(np.arange(len(series) + 1), np.cumsum([0, *series]) / (first * len(cost)), label=label)
    legend(axes[1])
    tidy(axes[1], title=f"saves {100 * found.record['saving']:.0f} %", x="epochs", y="cost so far")
    return {"saving": found.record["saving"], "total": sum(after) / sum(cost)}


def slr(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """How far weights are from their sparse copy, and the steps of the multipliers."""
    found = {name: run(name, epochs=3 if fast else 20).record for name in ("slr", "admm")}
    for name, record in found.items():
        axes[0].plot(record["residual"], "o-", label=name)
    axes[0].set_yscale("log")
    legend(axes[0])
    tidy(axes[0], title="sum over layers of ||W - Z||", x="epoch")
    axes[1].plot(found["slr"]["steps"], ".-", label="slr")
    axes[1].axhline(0.1, linestyle="--", color="grey", label="admm: rho")
    axes[1].set_yscale("log")
    legend(axes[1])
    tidy(axes[1], title="step of the multipliers", x="update")
    return {}


def admm(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """How far weights are from their sparse copy, and the loss meanwhile, by the weight of the quadratic."""
    for rho in (0.01, 0.1, 1.0):
        record = run("admm", epochs=3 if fast else 20, rho=rho).record
        for ax, name in zip(axes, ("residual", "loss"), strict=True):
            ax.plot(record[name], "o-", label=f"rho = {rho:g}")
    for ax, title in zip(axes, ("sum over layers of ||W - Z||", "loss on fixed samples"), strict=True):
        ax.set_yscale("log")
        legend(ax)
        tidy(ax, title=title, x="epoch")
    return {}


def hard_concrete(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """The gates of weights after training, and what the exact amount leaves of the layers."""
    found = run("hard_concrete", epochs=1 if fast else 10)
    for key, log_alpha in found.record["log_alpha"].items():
        axes[0].hist(log_alpha.ravel(), bins=40, histtype="step", density=True, label=key)
    legend(axes[0])
    tidy(axes[0], title="log alpha of weights")
    bars(axes[1], {"hard_concrete": weights_kept(found.model), "magnitude": weights_kept(run("magnitude").model)})
    tidy(axes[1], title="share of weights that stay")
    return {}


def hard_concrete_units(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """The gates of units after training, and the units that are left."""
    how = {"epochs": 1 if fast else 10}
    descending(axes[0], run("hard_concrete_units", **how).record["log_alpha"])
    tidy(axes[0], title="log alpha of units", x=UNITS)
    units_stay(axes[1], run, "hard_concrete_units", **how)
    return {}


FIGURES = (
    data_free, fpgm, kmeans_units, taylor, apoz, thinet, nisp, on_the_fly, learned_threshold, global_filters, coreset,
    matrix_pivoting, filter_criteria, prune_while_training, slr, admm, hard_concrete,
    hard_concrete_units,
)  # fmt: skip

if __name__ == "__main__":
    print(main(out=sys.argv[1] if len(sys.argv) > 1 else "docs/figures/methods"))
