"""`l0ref export` and `l0ref convert`: a network in the format of another tool, and back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l0ref.cli.evaluate import model_file
from l0ref.cli.write import MODEL, check_file
from l0ref.errors import ArgumentError, ConfigError
from l0ref.interop.files import FORMATS, format_of, read_model, read_preparation, write_model
from l0ref.interop.forms import FORMS

EXPORT = """\
examples:
  l0ref export runs/digits --format onnx                    runs/digits.onnx, opset 17, zeros where pruned
  l0ref export runs/digits --format onnx --form sparse      the zeros left out
  l0ref export runs/digits --format safetensors --form shrunk --out small.safetensors
  l0ref export runs/digits --format npz --form dense --out net.npz    for NumPy alone, see docs/exchange.md
"""
CONVERT = """\
examples:
  l0ref convert runs/digits/model.npz net.onnx
  l0ref convert net.onnx net.npz                            then: l0ref evaluate net.npz --data digits --seed 0
  l0ref convert theirs.safetensors net.npz --like model.npz --names fc1=classifier.0,fc2=classifier.2
                                                            arrays alone, as PyTorch has them, by a map of names
"""


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add both commands; return their parsers."""
    export = commands.add_parser(
        "export",
        help="write a network for ONNX, safetensors or NumPy",
        description="Write the network of a result in the format of another tool; ONNX and safetensors are verified.",
        epilog=EXPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("result", metavar="RUN", help="a result folder, or a model file")
    export.add_argument("--format", required=True, choices=FORMATS)
    export.add_argument("--out", metavar="FILE", help="default: the name of RUN with the format at its end")
    export.set_defaults(run=run_export)
    convert = commands.add_parser(
        "convert",
        help="convert a network file to another format, by file extension",
        description=f"Read a network and write it in another format; endings: {', '.join('.' + f for f in FORMATS)}.",
        epilog=CONVERT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("source", metavar="IN", help="a network file, or a result folder")
    convert.add_argument("out", metavar="OUT")
    convert.add_argument("--like", metavar="FILE", help="a network whose architecture the arrays of IN fill")
    convert.add_argument(
        "--names", metavar="OURS=THEIRS,...", type=_names, help="layers or arrays of IN by other names"
    )
    convert.set_defaults(run=run_convert)
    for p in (export, convert):
        p.add_argument("--form", choices=FORMS, help="default: as the network is; dense for ONNX, which has no masks")
        p.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    return [export, convert]


def run_export(arguments: argparse.Namespace) -> int:
    """Export, and print the file written."""
    result = Path(arguments.result)
    default = f"{result}.{arguments.format}" if result.is_dir() else result.with_suffix(f".{arguments.format}")
    out = Path(default if arguments.out is None else arguments.out)
    if out.suffix.lower() != f".{arguments.format}":
        raise ConfigError(f"--out {out} must end in .{arguments.format}, as --format says")
    return _written(arguments, network_file(result), out)


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert, and print the file written."""
    if arguments.names is not None and arguments.like is None:
        raise ConfigError("--names needs --like FILE, a network whose architecture the arrays fill")
    return _written(arguments, network_file(Path(arguments.source)), Path(arguments.out))


def network_file(result: Path) -> Path:
    """Return the masked network of a result folder, from which every form can be made; a file is returned as it is."""
    return result / MODEL if (result / MODEL).is_file() else model_file(result)


def _written(arguments: argparse.Namespace, source: Path, out: Path) -> int:
    format_of(out)
    check_file("out", out)
    if out.exists() and not arguments.overwrite:
        raise ConfigError(f"out={str(out)!r} exists already; choose another name or pass --overwrite")
    like, names = getattr(arguments, "like", None), getattr(arguments, "names", None)
    model = read_model(source, like=None if like is None else read_model(like), names=names)
    how = None if like is not None else read_preparation(source)
    try:
        form, off = write_model(out, model, form=arguments.form, preparation=how)
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    told = {"onnx": f", logits read back within {off:.1e}", "safetensors": ", read back equal"}.get(format_of(out), "")
    sys.stdout.write(f"{out}: {form}, {model.dtype}, {out.stat().st_size:,} bytes{told}\n")
    return 0


def _names(text: str) -> Mapping[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if odd := next((a + sign + b for a, sign, b in pairs if not (a and b)), None):
        raise argparse.ArgumentTypeError(f"{odd!r} must be OURS=THEIRS, as in fc1=classifier.0")
    if twice := next((a for i, (a, _, _) in enumerate(pairs) if a in [b for b, _, _ in pairs[:i]]), None):
        raise argparse.ArgumentTypeError(f"{text!r} names {twice!r} twice; give it one counterpart")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
