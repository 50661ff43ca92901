"""The flags of `l0ref compress`: one for each field of `Settings`, and those about running the job."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Callable
from typing import Any

from l0ref.cli.presets import PRESETS
from l0ref.cli.resume import add_resume_flags
from l0ref.cli.settings import CHOICES, COMPARISON, CUTS, GROUPS_OF_FLAGS, OWN_DATA, PRUNING, Settings
from l0ref.cli.values import integer, number, numbers, parts
from l0ref.experiment import CONTROLS

EXAMPLES = """\
examples:
  l0ref compress                                   the built-in digits, with controls, in well under a minute
  l0ref compress --amount 0.98 --controls none     cut more, beside a network trained without penalty
  l0ref compress --tolerance 0.05                  the largest cut that raises validation loss by at most 5 %
  l0ref compress --curve 2,4,8,16,32,64            also draw accuracy against compression
  l0ref compress --data mnist --data-dir DIR --model lenet_5 --seeds 3 --out runs/lenet5
  l0ref compress --data FILE.npz --model mlp:784-300-100-10      your data and network: docs/own_data.md
  l0ref compress --data FILE.csv --label kind --model net.toml --amount 0.8
  l0ref compress --method lottery                  another method than magnitude; l0ref methods lists them
  l0ref compress --config job.toml                 settings from a file; flags override it
  l0ref compress --data mnist --data-dir DIR --seeds 4 --jobs 2  seeds in parallel, in processes of one thread each
  l0ref compress --resume runs/lenet5              resume after an interruption, in any process
"""


def add_flags(commands: Any) -> argparse.ArgumentParser:
    """Add the command and its flags, and return its parser; a flag left out is None, for files and presets to fill."""
    p: argparse.ArgumentParser = commands.add_parser(
        "compress",
        help="train with l0, prune, fine-tune, report",
        description="Train with the data loss + C_l alpha sum(phi(w)) + l2 sum(w^2), prune, fine-tune, report. "
        "The data loss is the cross-entropy, or the squared error for a regression. Networks of common layers train on "
        "compiled kernels; for others a line gives the reason: runs on the tape because ...",
        epilog=EXAMPLES + _presets(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for title in GROUPS_OF_FLAGS:
        group = p.add_argument_group(title)
        cut = group.add_mutually_exclusive_group() if title == PRUNING else group
        for field in dataclasses.fields(Settings):
            if field.metadata["group"] == title:
                _add_setting(cut if field.name in CUTS else group, field)
        if title == COMPARISON:
            group.add_argument("--seeds", type=integer, metavar="N", help="run seeds seed, seed+1, ...; default 1")
            add_worker_flags(group)
    _output_flags(p.add_argument_group("output"))
    return p


def _add_setting(group: Any, field: dataclasses.Field[Any]) -> None:
    """Add the flag of a setting: its type from the annotation, its help and metavar from the field."""
    kind = str(field.type).removesuffix(" | None")
    options: dict[str, Any] = {"help": field.metadata["says"] or _default(field.name, field.metadata["about"])}
    if field.metadata["metavar"]:
        options["metavar"] = field.metadata["metavar"]
    if field.name in CHOICES:
        options["choices"] = CHOICES[field.name]
    elif kind != "str":
        options["type"] = text_of(field.name)
    if field.name == "model":
        options |= {"nargs": "+", "action": Words}
    group.add_argument(f"--{field.name.replace('_', '-')}", **options)


def text_of(name: str) -> Callable[[str], Any]:
    """Return the function that parses the text of a setting."""
    kind = str(Settings.__dataclass_fields__[name].type).removesuffix(" | None")
    return _amount if name == "amount" else TYPES[kind]


def add_data_flags(group: Any) -> None:
    """Add the flags that name data set and network, which commands that train share."""
    for field in dataclasses.fields(Settings):
        if field.name in ("data", "data_dir", *OWN_DATA, "model"):
            _add_setting(group, field)


def add_worker_flags(group: Any) -> None:
    """Add the flags that say where jobs are done."""
    group.add_argument("--jobs", type=integer, default=1, metavar="N", help="processes on this machine; default 1")
    group.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a Dask cluster instead; it must see the folder")


class Words(argparse.Action):
    """One value of one word, or of the two words "run DIR"."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        if len(values) != (2 if values[0] == "run" else 1):
            parser.error(f"argument --model: {' '.join(values)!r} must be one word, or the two words run DIR")
        setattr(namespace, self.dest, " ".join(values))


def _default(name: str, about: str = "") -> str:
    """Return the help of a flag: its description and its default."""
    own = Settings.__dataclass_fields__[name].default
    preset = any(name in preset for preset in PRESETS.values())
    value = "the preset of the model" if own is None else f"{own}, or the preset of the model" if preset else own
    return "; ".join(filter(None, (about, f"default {value}")))


def _presets() -> str:
    """Return the text of `--help` about the presets, one paragraph per model."""
    rows = []
    for model, preset in PRESETS.items():
        words = (f"{k.replace('_', '-')} {_word(v)}" for k, v in preset.items())
        rows.append(textwrap.fill(", ".join(words), 100, initial_indent=f"  {model:15}", subsequent_indent=" " * 17))
    return "\npresets of the models, which flags and files override:\n" + "\n".join(rows)


def _word(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else f"{value:.4g}"


def _output_flags(group: Any) -> None:
    group.add_argument("--config", metavar="FILE.toml", help="settings by the names of these flags")
    group.add_argument("--out", metavar="DIR", help="default: runs/ and a name with date and time")
    group.add_argument("--overwrite", action="store_true", help="replace a result in that folder")
    add_resume_flags(group)
    group.add_argument("--no-figures", action="store_true", help="write no pictures")
    group.add_argument(
        "--hide-test", action="store_true", help="print and draw no result on the test set, while still choosing"
    )
    group.add_argument("--quiet", action="store_true", help="no progress, no tables, no notice of compiled kernels")


def _amount(text: str) -> float:
    try:
        return float(text) if any(c in text for c in ".eE") else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share, as 0.95 is, nor a whole number") from None


def _names(text: str) -> tuple[str, ...]:
    names = () if text == "no" else tuple(parts(text))
    if unknown := [name for name in names if name not in CONTROLS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(CONTROLS)}; or pass the one word no")
    return names


TYPES: dict[str, Any] = {
    "str": str,
    "int": integer,
    "float": number,
    "tuple[float, ...]": numbers,
    "tuple[str, ...]": _names,
}
