"""The flags of `l0ref compress`: one for each setting, and those about running the job."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from l0ref.cli.settings import CHOICES, PRESETS, Settings
from l0ref.pruning import CONTROLS

EXAMPLES = """\
examples:
  l0ref compress                                   the built-in digits, with controls, in well under a minute
  l0ref compress --amount 0.98 --controls none     cut deeper, beside a network trained without penalty
  l0ref compress --tolerance 0.05                  the largest cut that by itself costs 5 % of the loss
  l0ref compress --curve 2,4,8,16,32,64            also draw accuracy against compression
  l0ref compress --data mnist --data-dir DIR --model lenet_5 --seeds 3 --out runs/lenet5
  l0ref compress --method lottery                  another method than magnitude; l0ref methods lists them
  l0ref compress --config job.toml                 settings from a file; flags win over it
"""


def add_flags(commands: Any) -> argparse.ArgumentParser:
    """Add the command and its flags, and return its parser; a flag left out is None, for files and presets to fill."""
    p: argparse.ArgumentParser = commands.add_parser(
        "compress",
        help="train with l0, prune, fine-tune, report",
        description="Train with cross-entropy + C_l alpha sum(phi(w)) + l2 sum(w^2), prune, fine-tune, report.",
        epilog=EXAMPLES + _presets(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _data_flags(p.add_argument_group("data and network"))
    _penalty_flags(p.add_argument_group("penalty"))
    _cut_flags(p.add_argument_group("pruning"))
    _training_flags(p.add_argument_group("training"))
    _comparison_flags(p.add_argument_group("comparison"))
    _output_flags(p.add_argument_group("output"))
    return p


def _data_flags(group: Any) -> None:
    group.add_argument("--data", choices=CHOICES["data"], help="default digits, which are built in")
    group.add_argument("--data-dir", metavar="DIR", help="folder with the IDX files; default: L0REF_DATA_DIR")
    group.add_argument(
        "--validation", type=int, metavar="N", help="images held out to choose by; default 200 of digits, else 5000"
    )
    group.add_argument(
        "--model", choices=CHOICES["model"], help="default digits_mlp, or lenet_300_100 for 28x28 images"
    )
    group.add_argument("--dtype", choices=CHOICES["dtype"], help=_default("dtype"))


def _penalty_flags(group: Any) -> None:
    group.add_argument("--surrogate", choices=CHOICES["surrogate"], help="default laplace, 1 - exp(-beta |w|)")
    group.add_argument(
        "--surrogate-options", metavar="K=V,...", help="its parameters, as in lam=1,gamma=2; default: its own"
    )
    group.add_argument(
        "--alpha", type=float, help=_default("alpha", "price of one weight; the pull at zero is alpha * slope at zero")
    )
    group.add_argument("--beta", type=float, help=_default("beta", "sharpness of surrogates that have a beta"))
    group.add_argument("--l2", type=float, help=_default("l2", "weight of sum w^2"))
    group.add_argument(
        "--layer-weights", choices=CHOICES["layer_weights"], help=_default("layer_weights", "scheme of C_l")
    )
    group.add_argument(
        "--groups", choices=CHOICES["groups"], help=_default("groups", "take sizes over all layers, or by kind")
    )
    group.add_argument(
        "--warmup", type=float, metavar="SHARE",
        help=_default("warmup", "raise alpha linearly over this share of training"),
    )  # fmt: skip


def _cut_flags(group: Any) -> None:
    cut = group.add_mutually_exclusive_group()
    share = _default("amount", "0.95 removes 95 %% of the weights; a whole number removes that many")
    cut.add_argument("--amount", type=_amount, help=share)
    cut.add_argument("--threshold", type=float, help="remove weights with |w| below this, instead of an amount")
    cut.add_argument(
        "--tolerance", type=float,
        help="remove as many as keep the validation loss within this share, instead of an amount",
    )  # fmt: skip
    group.add_argument(
        "--method", choices=CHOICES["method"], metavar="NAME", help=_default("method", "see l0ref methods")
    )
    group.add_argument(
        "--method-options", metavar="K=V,...", help="options of the method, see l0ref methods NAME; default none"
    )
    group.add_argument(
        "--scope", choices=CHOICES["scope"], help=_default("scope", "rank all layers together, or each by itself")
    )
    group.add_argument("--min-keep", type=int, metavar="N", help=_default("min_keep", "leave every layer N weights"))
    group.add_argument("--rounds", type=int, help=_default("rounds", "prune and fine-tune in this many rounds"))
    group.add_argument(
        "--gradual", type=int, metavar="EPOCHS",
        help=_default("gradual", "prune during this many further training epochs"),
    )  # fmt: skip


def _training_flags(group: Any) -> None:
    group.add_argument("--epochs", type=int, help=_default("epochs", "of training before the cut"))
    group.add_argument("--finetune-epochs", type=int, help=_default("finetune_epochs", "of training after the cut"))
    group.add_argument("--finetune-penalty", choices=CHOICES["finetune_penalty"], help=_default("finetune_penalty"))
    group.add_argument("--optimizer", choices=CHOICES["optimizer"], help=_default("optimizer"))
    group.add_argument("--lr", type=float, help=_default("lr", "learning rate"))
    group.add_argument("--momentum", type=float, help=_default("momentum", "of sgd"))
    group.add_argument(
        "--finetune-optimizer", choices=CHOICES["finetune_optimizer"], help=_default("finetune_optimizer")
    )
    group.add_argument("--finetune-lr", type=float, help=_default("finetune_lr", "learning rate after the cut"))
    group.add_argument("--schedule", choices=CHOICES["schedule"], help=_default("schedule", "of the learning rate"))
    group.add_argument(
        "--lr-final", type=float, metavar="SHARE",
        help=_default("lr_final", "of the learning rate at the end of a cosine"),
    )  # fmt: skip
    group.add_argument("--batch-size", type=int, help=_default("batch_size"))


def _comparison_flags(group: Any) -> None:
    group.add_argument(
        "--controls", type=_names, metavar="NAME,...",
        help="networks to compare with: none (trained without penalty), l2, l1, random (pruned at random); "
        "the word no trains none of these four; default no, or the preset of the model",
    )  # fmt: skip
    group.add_argument("--control-l1", type=float, help=_default("control_l1", "strength of the l1 control"))
    group.add_argument("--control-l2", type=float, help=_default("control_l2", "strength of the l2 control"))
    group.add_argument(
        "--curve", type=_numbers, metavar="RATIO,...", help="also compress by these ratios; default: by none"
    )
    group.add_argument("--seed", type=int, help=_default("seed"))
    group.add_argument("--seeds", type=int, default=1, metavar="N", help="run seeds seed, seed+1, ...; default 1")


def _default(name: str, about: str = "") -> str:
    """Return the help of a flag: what it is about, and the value it has when it is not given."""
    own = Settings.__dataclass_fields__[name].default
    preset = any(name in preset for preset in PRESETS.values())
    value = "the preset of the model" if own is None else f"{own}, or the preset of the model" if preset else own
    return "; ".join(filter(None, (about, f"default {value}")))


def _presets() -> str:
    """Return what `--help` says about the presets, one paragraph for each model."""
    rows = []
    for model, preset in PRESETS.items():
        words = (f"{k.replace('_', '-')} {_word(v)}" for k, v in preset.items())
        rows.append(textwrap.fill(", ".join(words), 100, initial_indent=f"  {model:15}", subsequent_indent=" " * 17))
    return "\npresets of the models, which flags and files win over:\n" + "\n".join(rows)


def _word(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else f"{value:.4g}"


def _output_flags(group: Any) -> None:
    group.add_argument("--config", metavar="FILE.toml", help="settings by the names of these flags")
    group.add_argument("--out", metavar="DIR", help="default: runs/ and a name with date and time")
    group.add_argument("--overwrite", action="store_true", help="replace a result in that folder")
    group.add_argument("--no-figures", action="store_true", help="write no pictures")
    group.add_argument(
        "--hide-test", action="store_true", help="print and draw nothing of the test set, for those still choosing"
    )
    group.add_argument("--quiet", action="store_true", help="no progress, no tables, no word of kernels being compiled")


def _amount(text: str) -> float:
    try:
        return float(text) if any(c in text for c in ".eE") else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share, as 0.95 is, nor a whole number") from None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers with commas between them, as in 2,4,8") from None


def _names(text: str) -> tuple[str, ...]:
    names = () if text == "no" else tuple(part.strip() for part in text.split(",") if part)
    if unknown := [name for name in names if name not in CONTROLS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(CONTROLS)}; or pass the one word no")
    return names
