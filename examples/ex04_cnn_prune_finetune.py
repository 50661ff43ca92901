"""A small convolutional network on real digits, pruned to a tenth in two rounds, with the layers' shares.

Convolution weights are used once per output position, so they are few in number and many in
multiply-adds: compression and theoretical speed-up are two different numbers.

Run it with ``python examples/ex04_cnn_prune_finetune.py``.
"""

from __future__ import annotations

from l0ref import Penalty, data, metrics, nn
from l0ref.optim import Adam
from l0ref.pruning import Cut, Recipe, compress
from l0ref.report import table
from l0ref.surrogates import Laplace


def main(*, fast: bool = False) -> dict[str, float]:
    """Print a line per layer of the final network; return accuracies and the two ratios."""
    digits = data.load("digits", seed=0)
    train_epochs, tune_epochs = (20, 8) if fast else (60, 30)
    result = compress(
        nn.digits_cnn(seed=0),
        digits,
        train=Recipe(train_epochs, optimizer=Adam(lr=2e-3), penalty=Penalty(Laplace(beta=5.0), alpha=2e-4)),
        cut=Cut(amount=0.9),
        finetune=Recipe(tune_epochs, optimizer=Adam(lr=2e-3)),
        seed=0,
        rounds=2,
        progress="none",
    )
    rows = metrics.layers(result.model)
    cells = [[r["name"], f"{r['size']:,}", f"{r['size_nz']:,}", f"{r['flops']:,}", f"{r['flops_nz']:,}"] for r in rows]
    print(table(["layer", "weights", "kept", "multiply-adds", "kept"], cells))
    found = metrics.of(result.model)
    out = {f"acc_{s.name}": metrics.evaluate(s.model, digits.test).acc1 for s in result.stages}
    out |= {name: found[name] for name in ("compression_ratio", "theoretical_speedup")}
    print("\n".join(f"{name:22s} {value:.4g}" for name, value in out.items()))
    return out


if __name__ == "__main__":
    main()
