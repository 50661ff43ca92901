"""Methods that go layer by layer, on MNIST, at equal weights in every layer: the numbers of docs/methods/evidence.md.

    python docs/evidence_layerwise.py mlp      LeNet-300-100, all layers        about 15 minutes of one core
    python docs/evidence_layerwise.py conv     the two convolutions of LeNet-5  about 8 minutes
    python docs/evidence_layerwise.py samples  LeNet-300-100 at 95 %, by the number of calibration images
    python docs/evidence_layerwise.py draw     tables and figure from the numbers that are there

The folder with MNIST is L0REF_DATA_DIR. Numbers are written to docs/methods/evidence_*.json after each point; a point
that is there is not computed again.

Three seeds, each with its own split (55,000 / 5,000 / 10,000 images), initial weights and calibration images. The
network is trained by Adam, rate 1e-3 falling by a cosine to 1e-5, batches of 128, l2 1e-4: 10 epochs, LeNet-5 3. Every
layer keeps as many weights as magnitude pruning of the network (of the two convolutions together) leaves it. All
methods read the same 1,000 training images, 60 for convolutions, which meet each of them at many positions; the other
options are their defaults, but for Net-Trim: 4 bisections of 150 iterations, 80 for convolutions. Fine-tuning
is by the same recipe, 3 epochs, LeNet-5 1. Nothing was chosen by test error.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.charts import Panel, figure
from l0ref import data, metrics, nn
from l0ref.data import Splits
from l0ref.methods import METHODS
from l0ref.methods.layer_by_layer import repaired
from l0ref.methods.registry import calibration
from l0ref.nn import Model
from l0ref.penalty import Penalty
from l0ref.pruning import prune
from l0ref.training import Recipe, follow

HERE = Path(__file__).resolve().parent / "methods"
NUMBERS, PAGE = "evidence_{}.json", HERE / "evidence.md"
SEEDS = (0, 1, 2)
TRIM: dict[str, Any] = {"iterations": 150, "searches": 4}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {  # name in the tables -> method, options
    "magnitude": ("magnitude", {}),
    "magnitude + least squares": ("", {}),
    "L-OBS": ("l_obs", {}),
    "ExactOBS": ("exact_obs", {}),
    "Net-Trim": ("net_trim", TRIM),
    "Net-Trim + least squares": ("net_trim", TRIM | {"refit": True}),
    "l0_constrained": ("l0_constrained", {}),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"amounts": (0.9, 0.95), "samples": (1000,), "epochs": (10, 3), "runs": tuple(RUNS)},
    "conv": {
        "amounts": (0.9,), "samples": (60,), "epochs": (3, 1),
        "runs": tuple(name for name in RUNS if name != "Net-Trim + least squares"),
    },
    "samples": {
        "amounts": (0.95,), "samples": (100, 300, 1000, 3000), "epochs": (10, 3),
        "runs": ("magnitude + least squares", "l0_constrained"),
    },
}  # fmt: skip
TITLES = {"mlp": "LeNet-300-100", "conv": "The convolutions of LeNet-5"}
MARKS = ("<!-- tables: python docs/evidence_layerwise.py draw -->", "<!-- end of tables -->")
Row = dict[str, Any]


def recipe(epochs: int) -> Recipe:
    """The one recipe, before and after the cut."""
    return Recipe(epochs=epochs, batch_size=128, penalty=Penalty(l2=1e-4))


def front(model: Model) -> Model:
    """The part of LeNet-5 before its linear layers, as a network of its own."""
    layers = tuple(model.architecture[:7])
    return Model(layers, model.input_shape, {k: v for k, v in model.params.items() if k.startswith("conv")})


def joined(part: Model, model: Model) -> Model:
    """The network with the parameters and masks of its part."""
    return model.replace(params={**model.params, **part.params}, masks=dict(part.masks))


def change(before: Model, after: Model, x: Any) -> float:
    """Relative change of the outputs of a network."""
    old, new = (m.logits(x).astype(np.float64) for m in (before, after))
    return float(np.linalg.norm(new - old) / np.linalg.norm(old))


def point(kind: str, dense: Model, images: Splits, name: str, amount: float, samples: int, seed: int) -> Row:
    """Cut, measure, fine-tune, measure."""
    pruned_part = front(dense) if kind == "conv" else dense
    method, options = RUNS[name]
    options = options | ({"iterations": 80} if kind == "conv" and method == "net_trim" else {})
    start = time.process_time()
    if not method:
        cut = prune(pruned_part, amount=amount)  # the control: magnitude, then least squares in a cascade
        part = repaired(cut, pruned_part, calibration(dense, images, samples=samples, seed=seed).x)
    else:
        reads = {} if method == "magnitude" else {"samples": samples}
        part = METHODS[method].run(pruned_part, images, amount=amount, seed=seed, **options, **reads).model
    seconds = time.process_time() - start
    found = joined(part, dense) if kind == "conv" else part
    seen = calibration(dense, images, samples=samples, seed=seed).x
    row: Row = {
        "network": kind, "method": name, "amount": amount, "samples": samples, "seed": seed, "seconds": seconds,
        "kept": {k: int(found.mask(k).sum()) for k in part.weights},
        "error_seen": change(pruned_part, part, seen),
        "error_unseen": change(pruned_part, part, images.validation.x[:1000]),
        "dense": 1 - metrics.evaluate(dense, images.test).acc1, "pruned": 1 - metrics.evaluate(found, images.test).acc1,
    }  # fmt: skip
    if epochs := SETTINGS[kind]["epochs"][1]:
        tuned, _ = follow(recipe(epochs), found, images.train, seed=seed, phase="finetune", progress="none")
        row["finetuned"] = 1 - metrics.evaluate(tuned, images.test).acc1
    return row


def computed(kind: str, done: list[Row]) -> Iterator[Row]:
    """Yield the points of a table that are not there."""
    chosen = SETTINGS[kind]
    have = {(r["network"], r["method"], r["amount"], r["samples"], r["seed"]) for r in done}
    build = nn.lenet_5 if kind == "conv" else nn.lenet_300_100
    for seed in SEEDS:
        points = [(n, a, s) for s in chosen["samples"] for a in chosen["amounts"] for n in chosen["runs"]]
        missing = [p for p in points if (kind, *p, seed) not in have]
        if not missing:
            continue
        images = data.load("mnist", seed=seed)
        start = recipe(chosen["epochs"][0])
        dense, _ = follow(start, build(seed=seed), images.train, seed=seed, phase="dense", progress="none")
        for name, amount, samples in missing:
            yield point(kind, dense, images, name, amount, samples, seed)


def spread(rows: list[Row], name: str, scale: float, digits: int) -> str:
    """Mean and sample standard deviation over seeds."""
    found = [scale * r[name] for r in rows]
    return f"{statistics.fmean(found):.{digits}f}" + (f" ± {statistics.stdev(found):.{digits}f}" if found[1:] else "")


def tables() -> str:
    """Return the tables as Markdown: a line a method."""
    out = []
    for kind in ("mlp", "conv"):
        done = numbers(kind)
        for amount in sorted({r["amount"] for r in done}):
            here = [r for r in done if r["amount"] == amount]
            dense = [next(r for r in here if r["seed"] == seed) for seed in sorted({r["seed"] for r in here})]
            kept = ", ".join(f"{k.removesuffix('.weight')} {n:,}" for k, n in here[0]["kept"].items())
            out += [
                f"**{TITLES[kind]}, {100 * amount:g} % of the weights gone** (with seed 0 there stay: {kept}). "
                f"Test error before the cut {spread(dense, 'dense', 100, 2)} %.\n",
                "| method | change of the outputs, calibration | the same, held out | test error in % | fine-tuned "
                "| CPU s | seeds |\n|---|---|---|---|---|---|---|",
            ]
            for name in dict.fromkeys(r["method"] for r in here):
                rows = [r for r in here if r["method"] == name]
                cells = [spread(rows, k, 1, 3) for k in ("error_seen", "error_unseen")]
                cells += [spread(rows, k, 100, 2) for k in ("pruned", "finetuned")]
                seconds = statistics.median(r["seconds"] for r in rows)
                out.append(f"| {name} | {' | '.join(cells)} | {seconds:.1f} | {len(rows)} |")
            out.append("")
    return "\n".join([*out, *by_samples()])


def by_samples() -> list[str]:
    """Return the table by the number of calibration images: a line each, both methods side by side."""
    done = numbers("samples")
    if not done:
        return []
    runs = list(dict.fromkeys(r["method"] for r in done))
    out = [
        f"**LeNet-300-100, {100 * done[0]['amount']:g} % of the weights gone, by the number of calibration images.**\n"
    ]
    out += [
        "| images | method | change of the outputs, calibration | the same, held out | held out / calibration "
        "| test error in % | fine-tuned | seeds |\n|---|---|---|---|---|---|---|---|"
    ]
    for samples in sorted({r["samples"] for r in done}):
        for name in runs:
            rows = [r for r in done if (r["samples"], r["method"]) == (samples, name)]
            rows = [r | {"gap": r["error_unseen"] / r["error_seen"]} for r in rows]
            cells = [spread(rows, k, 1, 3) for k in ("error_seen", "error_unseen")] + [spread(rows, "gap", 1, 1)]
            cells += [spread(rows, k, 100, 2) for k in ("pruned", "finetuned")]
            out.append(f"| {samples:,} | {name} | {' | '.join(cells)} | {len(rows)} |")
    return [*out, ""]


def sample_pictures() -> str:
    """Return the figure by the number of calibration images: change of outputs and test error, means over seeds."""
    done = numbers("samples")
    ways = {
        "change of outputs": (("error_seen", "calibration"), ("error_unseen", "held out")),
        "test error in %": (("pruned", "without fine-tuning"), ("finetuned", "fine-tuned")),
    }
    panels = []
    for title, parts in ways.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for (key, said), name in ((part, m) for part in parts for m in dict.fromkeys(r["method"] for r in done)):
            scale = 1.0 if title.startswith("change") else 100.0
            lines[f"{name}, {said}"] = [
                (n, scale * statistics.fmean(r[key] for r in done if (r["samples"], r["method"]) == (n, name)))
                for n in sorted({r["samples"] for r in done})
            ]
        panels.append(Panel(title, lines, "calibration images", title, log="xy"))
    return figure(panels)


def pictures() -> str:
    """Return the figure: for every method and seed, test error against the change of outputs on held-out images."""
    panels = []
    for name, title in (("pruned", "without fine-tuning"), ("finetuned", "after fine-tuning")):
        rows = [r for r in numbers("mlp") if r["amount"] == min(SETTINGS["mlp"]["amounts"])]
        lines = {
            m: [(r["error_unseen"], 100 * r[name]) for r in rows if r["method"] == m]
            for m in dict.fromkeys(r["method"] for r in rows)
        }
        panels.append(Panel(title, lines, "change of outputs, held out", "test error in %", log="xy", joined=False))
    return figure(panels)


def numbers(kind: str) -> list[Row]:
    """Return the points that are there."""
    path = HERE / NUMBERS.format(kind)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def draw() -> None:
    """Write the tables into the page, between its marks, and the figure."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{tables()}\n{MARKS[1]}{after}", encoding="utf-8")
    (HERE.parent / "figures" / "evidence.svg").write_text(pictures(), encoding="utf-8")
    if numbers("samples"):
        (HERE.parent / "figures" / "evidence_samples.svg").write_text(sample_pictures(), encoding="utf-8")


def main(what: str) -> None:
    """Compute what is missing of one table, or draw."""
    if what == "draw":
        return draw()
    path, done = HERE / NUMBERS.format(what), numbers(what)
    for row in computed(what, done):
        done.append(row)
        lines = ",\n".join(json.dumps(r) for r in done)
        path.write_text(f"[\n{lines}\n]\n")
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
