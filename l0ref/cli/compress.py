"""`l0ref compress`: the main job, from a data set to a pruned, fine-tuned, reported network."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from l0ref import schedules
from l0ref.cli.build import build_job, build_model
from l0ref.cli.settings import DEFAULT_MODEL, PRESETS, Settings, likely_slip, read_toml, resolve, to_json
from l0ref.cli.write import (
    claim,
    write_compact,
    write_config,
    write_model,
    write_partial,
    write_result,
    write_summary,
)
from l0ref.data import Dataset, load
from l0ref.errors import ArgumentError, ConfigError, Diverged, Interrupted
from l0ref.optim import names as optimizer_names
from l0ref.penalty import GROUPS, LAYER_WEIGHTS
from l0ref.pruning import CONTROLS, MAIN, Compressed, Experiment, pruning_curve, run_experiment
from l0ref.pruning.compact import compact
from l0ref.pruning.costs import Costs, known_costs
from l0ref.report import aggregate, aggregate_text, deployment, draw_all, full_text, summarize
from l0ref.surrogates import SURROGATES

EXAMPLES = """\
examples:
  l0ref compress                                   the built-in digits, with controls, in well under a minute
  l0ref compress --amount 0.98 --controls none     cut deeper, beside a network trained without penalty
  l0ref compress --tolerance 0.05                  the largest cut that by itself costs 5 % of the loss
  l0ref compress --curve 2,4,8,16,32,64            also draw accuracy against compression
  l0ref compress --data mnist --data-dir DIR --model lenet_5 --seeds 3 --out runs/lenet5
  l0ref compress --config job.toml                 settings from a file; flags win over it
"""
FEW_EPOCHS = 50  # up to here a log gets one line an epoch, beyond it about twenty a phase
UNTUNED_RATIOS = tuple(2.0**k for k in range(7))


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command and its flags, and return its parser; a flag left out is None, for files and presets to fill."""
    p = commands.add_parser(
        "compress",
        help="train with l0, prune, fine-tune, report",
        description="Train with cross-entropy + C_l alpha sum(phi(w)) + l2 sum(w^2), prune, fine-tune, report.",
        epilog=EXAMPLES + _presets(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.set_defaults(run=run)
    _data_flags(p.add_argument_group("data and network"))
    _penalty_flags(p.add_argument_group("penalty"))
    _cut_flags(p.add_argument_group("pruning"))
    _training_flags(p.add_argument_group("training"))
    _comparison_flags(p.add_argument_group("comparison"))
    _output_flags(p.add_argument_group("output"))
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Run the job for every seed, write the results and print the tables."""
    given = {k: v for k, v in vars(arguments).items() if k in Settings.__dataclass_fields__}
    try:
        settings = resolve(read_toml(arguments.config) if arguments.config else {}, given)
        build_job(settings)  # so that a setting out of range is refused before hours of work
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    if arguments.seeds < 1:
        raise ConfigError(f"seeds={arguments.seeds} must be at least 1")
    if slip := likely_slip(settings):
        sys.stderr.write(f"l0ref compress: warning: {slip}\n")
    costs = known_costs()  # so that a file of another version is refused before, too
    out = claim(Path(arguments.out or _default_out(settings)), overwrite=arguments.overwrite)
    seeds = range(settings.seed, settings.seed + arguments.seeds)
    reports = []
    for seed in seeds:
        folder = out if arguments.seeds == 1 else claim(out / f"seed-{seed}", overwrite=arguments.overwrite)
        one = dataclasses.replace(settings, seed=seed)
        reports.append(run_seed(one, folder, costs=costs, quiet=arguments.quiet, figures=not arguments.no_figures))
        if not arguments.quiet:
            sys.stdout.write(full_text(reports[-1]) + "\n\n")
    if len(reports) > 1:
        summary = aggregate(reports)
        write_summary(out, summary)
        if not arguments.quiet:
            sys.stdout.write(aggregate_text(summary) + "\n\n")
    sys.stdout.write(f"results in {out}\n")
    return 0


def run_seed(settings: Settings, folder: Path, *, costs: Costs | None, quiet: bool, figures: bool) -> dict[str, Any]:
    """Run the job once and write its result folder; return the report."""
    data = load(settings.data, data_dir=settings.data_dir, seed=settings.seed, dtype=settings.dtype)
    model = build_model(settings, data, seed=settings.seed)
    job = build_job(settings)
    config = to_json(settings)
    write_config(folder, config)

    def save_main(name: str, run: Compressed) -> None:
        if name == MAIN:  # at once, so that nothing that happens to a control can take it away
            write_model(folder, run.model)

    try:
        experiment = run_experiment(
            model,
            data,
            train=job.train,
            cut=job.cut,
            finetune=job.finetune,
            gradual=job.gradual,
            seed=settings.seed,
            rounds=settings.rounds,
            controls=settings.controls,
            control_l1=settings.control_l1,
            control_l2=settings.control_l2,
            curve=settings.curve,
            finished=save_main,
            progress="none" if quiet else "auto",
            every=1 if settings.epochs <= FEW_EPOCHS else 0,
        )
    except (Diverged, Interrupted) as stop:
        raise type(stop)("; ".join(filter(None, (str(stop), write_partial(folder, stop))))) from stop
    report = summarize(experiment, data, config=config, seed=settings.seed)
    main = experiment.runs[MAIN].model
    small = compact(main, costs=costs)
    report["compact"] = deployment(main, small, data.validation.x, files=write_compact(folder, small.model))
    if figures:
        untuned = untuned_curves(experiment, data.validation, seed=settings.seed)
        draw_all(experiment, report, penalty=job.train.penalty, folder=folder, untuned=untuned)
    write_result(folder, experiment, report)
    return report


def untuned_curves(experiment: Experiment, validation: Dataset, *, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Return for each run pairs (compression, validation accuracy) of its dense network pruned and not fine-tuned."""
    size = experiment.runs[MAIN].model.size
    ratios = [ratio for ratio in UNTUNED_RATIOS if ratio <= size]
    curves = {}
    for name, run in experiment.runs.items():
        score = "random" if name == "random" else "magnitude"
        accuracies = pruning_curve(run.stages[0].model, validation, ratios, score=score, seed=seed)
        curves[name] = list(zip(ratios, accuracies, strict=True))
    return curves


def _default_out(settings: Settings) -> str:
    return f"runs/{settings.data}-{settings.model}-{time.strftime('%Y%m%d-%H%M%S')}"


def _data_flags(group: Any) -> None:
    group.add_argument("--data", choices=list(DEFAULT_MODEL), help="default digits, which are built in")
    group.add_argument("--data-dir", metavar="DIR", help="folder with the IDX files; default: L0REF_DATA_DIR")
    group.add_argument("--model", choices=list(PRESETS), help="default digits_mlp, or lenet_300_100 for 28x28 images")
    group.add_argument("--dtype", choices=("float32", "float64"), help=_default("dtype"))


def _penalty_flags(group: Any) -> None:
    group.add_argument(
        "--surrogate", choices=[cls.name for cls in SURROGATES.values()], help="default laplace, 1 - exp(-beta |w|)"
    )
    group.add_argument(
        "--surrogate-options", metavar="K=V,...", help="its parameters, as in lam=1,gamma=2; default: its own"
    )
    group.add_argument(
        "--alpha", type=float, help=_default("alpha", "price of one weight; the pull at zero is alpha * slope at zero")
    )
    group.add_argument("--beta", type=float, help=_default("beta", "sharpness of surrogates that have a beta"))
    group.add_argument("--l2", type=float, help=_default("l2", "weight of sum w^2"))
    group.add_argument("--layer-weights", choices=list(LAYER_WEIGHTS), help=_default("layer_weights", "scheme of C_l"))
    group.add_argument("--groups", choices=GROUPS, help=_default("groups", "take sizes over all layers, or by kind"))
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
        "--scope", choices=("global", "layer"), help=_default("scope", "rank all layers together, or each by itself")
    )
    group.add_argument("--min-keep", type=int, metavar="N", help=_default("min_keep", "leave every layer N weights"))
    group.add_argument("--rounds", type=int, help=_default("rounds", "prune and fine-tune in this many rounds"))
    group.add_argument(
        "--gradual", type=int, metavar="EPOCHS",
        help=_default("gradual", "prune during this many further training epochs"),
    )  # fmt: skip


def _training_flags(group: Any) -> None:
    rates = [name for name in schedules.names() if name != "linear_warmup"]
    group.add_argument("--epochs", type=int, help=_default("epochs", "of training before the cut"))
    group.add_argument("--finetune-epochs", type=int, help=_default("finetune_epochs", "of training after the cut"))
    group.add_argument("--finetune-penalty", choices=("none", "l2", "l0+l2"), help=_default("finetune_penalty"))
    group.add_argument("--optimizer", choices=optimizer_names(), help=_default("optimizer"))
    group.add_argument("--lr", type=float, help=_default("lr", "learning rate"))
    group.add_argument("--momentum", type=float, help=_default("momentum", "of sgd"))
    group.add_argument("--finetune-optimizer", choices=optimizer_names(), help=_default("finetune_optimizer"))
    group.add_argument("--finetune-lr", type=float, help=_default("finetune_lr", "learning rate after the cut"))
    group.add_argument("--schedule", choices=rates, help=_default("schedule", "of the learning rate"))
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
