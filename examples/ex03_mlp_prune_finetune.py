"""A network on real digits: trained with l0, pruned to a twentieth, fine-tuned, beside one without penalty.

The 64-300-100-10 network has 50,200 weights; the cut leaves 2,510, and the sweep of dead units takes some
more, many more from the network without penalty. With the l0 penalty most weights are near
zero before anything is cut, so the cut costs next to nothing. Without it, the cut destroys the
network and fine-tuning has to build another.

Run it with ``python examples/ex03_mlp_prune_finetune.py``.
"""

from __future__ import annotations

from l0ref import Penalty, data, metrics, nn
from l0ref.pruning import Cut, Recipe, compress
from l0ref.surrogates import Laplace


def main(*, fast: bool = False) -> dict[str, float]:
    """Print the accuracy after each stage for both; return it as "<run>_<stage>"."""
    digits = data.load("digits", seed=0)
    train_epochs, tune_epochs = (60, 20) if fast else (200, 100)
    penalties = {"l0": Penalty(Laplace(beta=5.0), alpha=1e-3 if fast else 4e-4), "none": Penalty()}
    accuracy: dict[str, float] = {}
    for name, penalty in penalties.items():
        result = compress(
            nn.digits_mlp(seed=0),
            digits,
            train=Recipe(train_epochs, penalty=penalty),
            cut=Cut(amount=0.95),
            finetune=Recipe(tune_epochs),
            seed=0,
            progress="none",
        )
        for stage in result.stages:
            accuracy[f"{name}_{stage.name}"] = metrics.evaluate(stage.model, digits.test).acc1
            kept = metrics.of(stage.model)["size_nz"]
            print(
                f"{name:5s} {stage.name:10s} {kept:6,d} weights   test accuracy {accuracy[f'{name}_{stage.name}']:.2%}"
            )
    return accuracy


if __name__ == "__main__":
    main()
