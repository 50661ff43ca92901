"""Settings that come with a network; files and flags override them."""

from __future__ import annotations

from typing import Any

# Values that were found to work for each network: compression at little loss within a few minutes.
PRESETS: dict[str, dict[str, Any]] = {
    "digits_mlp": {
        "alpha": 4e-4, "amount": 0.95, "epochs": 200, "finetune_epochs": 100, "batch_size": 64,
        "controls": ("none", "l2", "l1", "random"), "control_l1": 2e-3, "control_l2": 1e-3,
    },
    "digits_cnn": {
        "alpha": 2e-4, "lr": 2e-3, "amount": 0.9, "epochs": 60, "finetune_epochs": 40, "batch_size": 64,
        "controls": ("none",), "control_l1": 1e-3, "control_l2": 1e-3,
    },
    "lenet_300_100": {
        "amount": 1 - 1 / 60, "lr": 3e-3, "lr_final": 1 / 300, "epochs": 40, "finetune_epochs": 20,
        "control_l2": 5e-4,
    },
    "lenet_5": {"amount": 0.99, "lr": 3e-3, "epochs": 12, "finetune_epochs": 6},
    "vgg_small": {"amount": 0.9, "epochs": 8, "finetune_epochs": 4},
    "resnet_small": {"amount": 0.9, "epochs": 8, "finetune_epochs": 4},
}  # fmt: skip
OWN_PRESET = {"amount": 0.9}  # of networks that are not among the presets: nothing was tuned for them
