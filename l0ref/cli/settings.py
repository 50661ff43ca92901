"""Everything `l0ref compress` can be told, as one value: from defaults, a TOML file and flags, in that order.

Settings left open take the preset of the model. The resolved value is written into every result.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l0ref import optim, schedules
from l0ref.archive import read_json
from l0ref.data import Splits, load
from l0ref.errors import ConfigError
from l0ref.methods import METHODS
from l0ref.penalty import GROUPS, LAYER_WEIGHTS
from l0ref.surrogates import SURROGATES
from l0ref.validate import choose

DEFAULT_MODEL = {"digits": "digits_mlp", "mnist": "lenet_300_100", "fashion-mnist": "lenet_300_100"}


@dataclass(frozen=True)
class Settings:
    """One compression job, resolved. Names and meanings are those of the flags of `l0ref compress`."""

    data: str = "digits"
    data_dir: str | None = None
    validation: int | None = None
    model: str = "digits_mlp"
    surrogate: str = "laplace"
    surrogate_options: str = ""
    alpha: float = 4e-5
    beta: float = 5.0
    l2: float = 0.0
    layer_weights: str = "sqrt_size"
    groups: str = "joint"
    warmup: float = 0.0
    amount: float | None = None
    threshold: float | None = None
    tolerance: float | None = None
    method: str = "magnitude"
    method_options: str = ""
    scope: str = "global"
    min_keep: int = 0
    rounds: int = 1
    gradual: int = 0
    epochs: int = 20
    finetune_epochs: int = 10
    finetune_penalty: str = "none"
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    finetune_optimizer: str = "adam"
    finetune_lr: float = 1e-3
    schedule: str = "cosine"
    lr_final: float = 0.01
    batch_size: int = 128
    controls: tuple[str, ...] = ()
    control_l1: float = 2e-4
    control_l2: float = 1e-4
    curve: tuple[float, ...] = ()
    seed: int = 0
    dtype: str = "float32"

    def load(self, *, dtype: str | None = None) -> Splits:
        """Return the data set of the job, split as its seed says; `dtype` instead of the job's own."""
        options: dict[str, Any] = {"seed": self.seed, "validation": self.validation, "dtype": dtype or self.dtype}
        return load(self.data, data_dir=self.data_dir, **options)


# What was found to work, and on what: compression at little loss within a minute or a few.
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
CHOICES: dict[str, Sequence[str]] = {
    "data": tuple(DEFAULT_MODEL),
    "model": tuple(PRESETS),
    "surrogate": tuple(cls.name for cls in SURROGATES.values()),
    "layer_weights": tuple(LAYER_WEIGHTS),
    "groups": GROUPS,
    "method": tuple(METHODS),
    "scope": ("global", "layer"),
    "finetune_penalty": ("none", "l2", "l0+l2"),
    "optimizer": tuple(optim.names()),
    "finetune_optimizer": tuple(optim.names()),
    "schedule": tuple(name for name in schedules.names() if name != "linear_warmup"),
    "dtype": ("float32", "float64"),
}
CUTS = ("amount", "threshold", "tolerance")
FLAGS_ONLY = ("config", "out", "overwrite", "no_figures", "hide_test", "quiet", "seeds", "debug")
PERCENT = range(1, 100)  # whole numbers that were probably meant as a percentage


def resolve(*sources: Mapping[str, Any]) -> Settings:
    """Return the settings that follow from the given sources, the later ones winning; None counts as not given."""
    given: dict[str, Any] = {}
    for source in sources:
        update = {k: v for k, v in source.items() if v is not None}
        if any(cut in update for cut in CUTS):  # one rule for the cut: a later source replaces an earlier one's
            given = {k: v for k, v in given.items() if k not in CUTS}
        given |= update
    data = choose("data", given.get("data", "digits"), DEFAULT_MODEL)
    if data == "digits" and given.get("data_dir") is not None:
        raise ConfigError(
            f"data_dir={given['data_dir']!r} is of no use to data='digits', which are built in; "
            "name the data set of that folder: --data mnist or fashion-mnist"
        )
    model = choose("model", given.get("model", DEFAULT_MODEL[data]), PRESETS)
    preset = dict(PRESETS[model])
    if any(cut in given for cut in CUTS):
        preset.pop("amount", None)
    return _typed({"data": data, "model": model, **preset, **given})


def read_config(path: str) -> dict[str, Any]:
    """Return the settings of a TOML file: the flags' names as keys, with "-" or "_", in one flat table.

    The config.json of a result will do, too.
    """
    if path.endswith(".json"):
        return _checked_table(path, read_json(path))
    try:
        text = Path(path).read_bytes().decode("utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"config={path!r} cannot be read: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config={path!r} is not TOML: {error}; mend the file") from None
    return _checked_table(path, table)


def _checked_table(path: str, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"config={path!r} holds {type(table).__name__}, expected settings by name")
    for key, value in table.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"config={path!r} has a table [{key}]; write each setting as name = value, outside of tables"
            )
    return {key.replace("-", "_"): value for key, value in table.items()}


def likely_slip(settings: Settings) -> str | None:
    """Return what to say about an amount that is legal and looks like a percentage, as 95 for 0.95 does."""
    amount = settings.amount
    if not isinstance(amount, int) or amount not in PERCENT:
        return None
    some = "1 weight" if amount == 1 else f"{amount} weights"
    return f"amount={amount} removes {some}, not {amount} %; for a share of the weights give {amount / 100!r}"


def to_json(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON-able values."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()}


def _typed(values: Mapping[str, Any]) -> Settings:
    """Check names and types; a whole number will do for a real one, a list for a tuple."""
    fields = {f.name: str(f.type) for f in dataclasses.fields(Settings)}
    ready: dict[str, Any] = {}
    for name, value in values.items():
        if name in FLAGS_ONLY:
            flag = name.replace("_", "-")
            raise ConfigError(f"{name}={value!r} is about running the job, not part of it; pass --{flag} by hand")
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(fields))}"
            raise ConfigError(f"{name}={value!r} is not a setting; {hint}")
        ready[name] = _as(fields[name].removesuffix(" | None"), name, value)
        if name in CHOICES:
            choose(name, ready[name], CHOICES[name])
    return Settings(**ready)


def _as(kind: str, name: str, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "float" and is_number:
        return value if name == "amount" else float(value)
    if kind.startswith("tuple") and isinstance(value, list | tuple):
        inner = kind.removeprefix("tuple[").split(",")[0]
        return tuple(_as(inner, name, v) for v in value)
    words = {"str": "text", "int": "a whole number", "float": "a number"}.get(kind, "a list")
    raise ConfigError(f"{name}={value!r} must be {words}, not {type(value).__name__}")
