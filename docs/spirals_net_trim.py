"""Net-Trim on nested spirals, beside the numbers of its authors: the tables of docs/methods/net_trim.md.

    python docs/spirals_net_trim.py     some minutes of one core; writes the tables into the page

The authors publish, for networks 2-n-n-2, how many weights are not zero in each layer, before and after [NIPS 2017,
supplement]. Their spirals, their number of samples, their training and what they count as zero are unknown [U]; ours:
two spirals of 1.5 turns with noise 0.02, 200 points each; Adam, rate 1e-3 falling by a cosine to 1e-5, 500 epochs of
batches of 100; with dropout 0.2 behind both ReLUs, or that and alpha = 5e-3 / n times the sum of |w|. A weight counts
as not zero above 1e-3 of the largest of its layer when trained, and above 0 when trimmed. So counts may be compared
with theirs in kind, not in value.

First table: eps = 0.01 ||Y1||, gamma = 1.1, risk coefficient 0.35 in the last layer. Second: the largest eps, out of 5
bisections, with which the logits change by less than 0.02. Cascades of 500 iterations with rho = 100.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from l0ref import Penalty, data, fit, nn
from l0ref.layerwise.trim import trim
from l0ref.nn import Model
from l0ref.surrogates import L1
from l0ref.validate import Array

PAGE = Path(__file__).resolve().parent / "methods" / "net_trim.md"
MARKS = ("<!-- tables: python docs/spirals_net_trim.py -->", "<!-- end of tables -->")
GAMMA, KAPPA, CHANGE = 1.1, 0.35, 0.02
FIRST = {("200", "plain"): ("397 / 39,770 / 399", "362 / 2,663 / 131", "0.046"),
         ("200", "dropout + L1"): ("319 / 6,554 / 304", "189 / 929 / 84", "0.018")}  # fmt: skip
SECOND = {("50", "dropout"): ("99 / 2,483 / 100", "98 / 467 / 54"),
          ("75", "dropout"): ("149 / 5,594 / 150", "149 / 710 / 72"),
          ("125", "dropout"): ("250 / 15,529 / 250", "247 / 3,477 / 96"),
          ("175", "dropout"): ("349 / 30,395 / 350", "348 / 1,743 / 116"),
          ("200", "dropout"): ("400 / 39,668 / 399", "399 / 1,991 / 113"),
          ("50", "dropout + L1"): ("58 / 1,604 / 95", "54 / 342 / 46"),
          ("200", "dropout + L1"): ("134 / 8,700 / 382", "109 / 606 / 70")}  # fmt: skip


def spirals(points: int = 200) -> tuple[Array, Array]:
    """Two nested spirals, and which of them a point is on."""
    rng = np.random.default_rng(0)
    angle = 3 * np.pi * np.sqrt(rng.random(points))
    arm = np.column_stack([angle * np.cos(angle), angle * np.sin(angle)]) / (3 * np.pi)
    x = np.concatenate([arm, -arm]) + 0.02 * rng.standard_normal((2 * points, 2))
    return x, np.repeat([0, 1], points)


def trained(width: int, way: str) -> tuple[Model, Array, float]:
    """A trained network, the samples, and the share of them that it gets right."""
    x, y = spirals()
    drop = [(nn.Dropout(f"drop{i}", 0.2),) if "dropout" in way else () for i in (1, 2)]
    layers = (nn.Linear("fc1", 2, width), nn.ReLU("relu1"), *drop[0],
              nn.Linear("fc2", width, width), nn.ReLU("relu2"), *drop[1], nn.Linear("fc3", width, 2))  # fmt: skip
    images = data.Dataset(x, y, 2, "spirals")
    start = Model.init(layers, input_shape=(2,), seed=0, dtype=np.float64)
    penalty = Penalty(L1(), alpha=5e-3 / width, layer_weights="none") if "L1" in way else None
    model, _ = fit(start, images, epochs=500, batch_size=100, seed=0, penalty=penalty, progress="none")
    return model, x, float((model.logits(x).argmax(axis=1) == y).mean())


def trimmed(model: Model, x: Array, share: float, kappa: float) -> tuple[list[Array], float]:
    """U of every layer after a cascade that begins with eps = share ||Y1||, and the relative change of the logits."""
    own = now = x
    found: list[Array] = []
    for place in (1, 2, 3):
        w, b = model.params[f"fc{place}.weight"], model.params[f"fc{place}.bias"]
        z, answers = own @ w.T + b, now @ w.T + b
        y = np.maximum(z, 0.0) if place < 3 else z
        active = y > 1e-6 if place < 3 else np.ones(y.shape, bool)
        slack = float(np.sqrt(GAMMA) * np.linalg.norm(np.where(active, answers - y, 0.0)))
        epsilon = share * float(np.linalg.norm(y)) if place == 1 else slack * (kappa if place == 3 else 1.0)
        ceiling = np.zeros(y.shape) if place == 1 else answers
        inputs = np.column_stack([now, np.ones(len(now))])
        u = trim(inputs, y, active=active, ceiling=ceiling, epsilon=epsilon, iterations=500).weights
        found.append(u[:-1])
        own, now = y, np.maximum(inputs @ u, 0.0) if place < 3 else inputs @ u
    return found, float(np.linalg.norm(now - own) / np.linalg.norm(own))


def within(model: Model, x: Array) -> tuple[list[Array], float]:
    """The sparsest of 5 cascades, by bisection, that changes the logits by less than `CHANGE`."""
    low, high = 1e-4, 0.3
    best = trimmed(model, x, low, 1.0)
    for _ in range(5):
        middle = float(np.sqrt(low * high))
        found = trimmed(model, x, middle, 1.0)
        low, high, best = (middle, high, found) if found[1] < CHANGE else (low, middle, best)
    return best


def counts(arrays: list[Array], least: float = 0.0) -> str:
    """Weights by layer that are not zero."""
    return " / ".join(f"{np.count_nonzero(np.abs(a) > least * np.abs(a).max()):,}" for a in arrays)


def tables() -> str:
    """Both tables as Markdown."""
    nets = {key: trained(int(key[0]), key[1]) for key in (*FIRST, *SECOND)}
    head = "| network | training | right | theirs: trained | theirs: trimmed | ours: trained | ours: trimmed |"
    parts = []
    for published, solve in ((FIRST, lambda m, x: trimmed(m, x, 0.01, KAPPA)), (SECOND, within)):
        parts.append(head + " change of the logits, theirs, ours |" + "\n" + "|---" * 8 + "|")
        for (n, way), numbers in published.items():
            model, x, right = nets[n, way]
            us, change = solve(model, x)
            before = counts([model.params[f"fc{i}.weight"] for i in (1, 2, 3)], 1e-3)
            change_there = numbers[2] if len(numbers) > 2 else "< 0.02"
            cells = (
                f"2-{n}-{n}-2",
                way,
                f"{right:.3f}",
                *numbers[:2],
                before,
                counts(us),
                f"{change_there}, {change:.3f}",
            )
            parts[-1] += "\n| " + " | ".join(cells) + " |"
            sys.stderr.write(parts[-1].splitlines()[-1] + "\n")
    return "\n\n".join(parts)


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{tables()}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")
