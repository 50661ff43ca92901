"""All settings of `l0ref compress`, as one value: from defaults, a TOML file and flags, in that order.

Settings that are not given take the preset of the model. The resolved value is written into every result.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l0ref import optim, schedules
from l0ref.cli.networks import OWN_MODELS, is_own
from l0ref.cli.presets import OWN_PRESET, PRESETS
from l0ref.cli.values import MAX_WHOLE, check_module, check_name
from l0ref.data import DATASETS, Splits, load, open_data
from l0ref.data.arrays import TASKS, check_shares
from l0ref.data.files import names_code
from l0ref.data.preparation import LAYOUTS
from l0ref.errors import ConfigError, L0RefError
from l0ref.methods import METHODS
from l0ref.nn import MODELS
from l0ref.penalty import GROUPS, LAYER_WEIGHTS
from l0ref.surrogates import SURROGATES
from l0ref.validate import choose

DATA, PENALTY, PRUNING, TRAINING, COMPARISON = GROUPS_OF_FLAGS = (
    "data and network", "penalty", "pruning", "training", "comparison",
)  # fmt: skip
DEFAULT_MODEL = {"digits": "digits_mlp", "mnist": "lenet_300_100", "fashion-mnist": "lenet_300_100"}


def setting(default: Any, group: str, about: str = "", *, says: str = "", metavar: str | None = None) -> Any:
    """Return a field of `Settings`, and with it the flag of its name: the group it is in, and its help.

    about  description of the setting; its default is added
    says   the whole help text, where the default needs other words
    """
    return field(default=default, metadata={"group": group, "about": about, "says": says, "metavar": metavar})


@dataclass(frozen=True)
class Settings:
    """One compression job, resolved. Names and meanings are those of the flags of `l0ref compress`, made from this."""

    data: str = setting(
        "digits", DATA, metavar="DATA",
        says="digits, mnist, fashion-mnist, FILE.npz, FILE.csv, a folder of IDX files or of CIFAR-10 in its binary "
        "version, or package.module:function; default digits, which are built in",
    )  # fmt: skip
    data_dir: str | None = setting(None, DATA, says="folder with the IDX files; default: L0REF_DATA_DIR", metavar="DIR")
    validation: int | None = setting(
        None, DATA, says="images held out for choices; default 200 of digits, else 5000", metavar="N"
    )
    label: str | None = setting(None, DATA, says="the column of labels of a .csv file; default none", metavar="COLUMN")
    split: tuple[float, ...] = setting(
        (0.8, 0.1, 0.1), DATA, metavar="SHARES",
        says="of training, validation and test, for the parts that own data lack; default 0.8,0.1,0.1",
    )  # fmt: skip
    task: str = setting("classes", DATA, "values: regression on own data")
    layout: str = setting("nchw", DATA, "axes of own images")
    scaling: str = setting("standard", DATA, "of own data, by mean and deviation of the training set")
    model: str = setting(
        "digits_mlp", DATA, metavar="MODEL",
        says=f"{', '.join(MODELS)}, mlp:784-300-100-10, FILE.toml, FILE.json, package.module:function, or run DIR "
        "to continue from a result; default digits_mlp, or lenet_300_100 for 28x28 images",
    )  # fmt: skip
    surrogate: str = setting("laplace", PENALTY, says="default laplace, 1 - exp(-beta |w|)")
    surrogate_options: str = setting(
        "", PENALTY, says="parameters of the surrogate, as in lam=1,gamma=2; default: its own", metavar="K=V,..."
    )
    alpha: float = setting(4e-5, PENALTY, "price of one weight; the pull at zero is alpha * slope at zero")
    beta: float = setting(5.0, PENALTY, "sharpness of surrogates that have a beta")
    l2: float = setting(0.0, PENALTY, "weight of sum w^2")
    layer_weights: str = setting("sqrt_size", PENALTY, "scheme of C_l")
    groups: str = setting("joint", PENALTY, "take sizes over all layers, or by kind")
    warmup: float = setting(0.0, PENALTY, "raise alpha linearly over this share of training", metavar="SHARE")
    amount: float | None = setting(
        None, PRUNING, "0.95 removes 95 %% of the weights, a whole number that many; the sweep of dead units may then "
        "remove more",
    )  # fmt: skip
    threshold: float | None = setting(None, PRUNING, says="remove weights with |w| below this, instead of an amount")
    tolerance: float | None = setting(
        None, PRUNING, says="the largest cut that raises validation loss by at most this share, instead of an amount"
    )
    method: str = setting("magnitude", PRUNING, "see l0ref methods", metavar="NAME")
    method_options: str = setting(
        "", PRUNING, says="options of the method, see l0ref methods NAME; default none", metavar="K=V,..."
    )
    scope: str = setting("global", PRUNING, "rank all layers together, or each by itself")
    min_keep: int = setting(0, PRUNING, "leave every layer N weights", metavar="N")
    rounds: int = setting(1, PRUNING, "prune and fine-tune in this many rounds")
    stages: tuple[float, ...] = setting(
        (), PRUNING, metavar="RATIO,...",
        says="cut to these compressions in turn, under one schedule, instead of an amount; default: in one cut",
    )  # fmt: skip
    stage_epochs: int = setting(10, TRAINING, "of training after each stage but the last")
    gradual: int = setting(0, PRUNING, "prune during this many further training epochs", metavar="EPOCHS")
    epochs: int = setting(20, TRAINING, "of training before the cut")
    finetune_epochs: int = setting(10, TRAINING, "of training after the cut")
    finetune_penalty: str = setting("none", TRAINING)
    optimizer: str = setting("adam", TRAINING)
    lr: float = setting(1e-3, TRAINING, "learning rate")
    momentum: float = setting(0.9, TRAINING, "of sgd")
    finetune_optimizer: str = setting("adam", TRAINING)
    finetune_lr: float = setting(1e-3, TRAINING, "learning rate after the cut")
    schedule: str = setting("cosine", TRAINING, "of the learning rate")
    lr_final: float = setting(0.01, TRAINING, "of the learning rate left at the end of a cosine", metavar="SHARE")
    finetune_lr_final: float | None = setting(
        None, TRAINING, says="the same after the cut, over all stages; default that before the cut", metavar="SHARE"
    )
    batch_size: int = setting(128, TRAINING)
    augment: str = setting(
        "", TRAINING, metavar="NAME",
        says="transform training images differently in every epoch: affine_elastic, or with options as in "
        "affine_elastic:shift=1,elastic=0; default none",
    )  # fmt: skip
    teacher: str | None = setting(
        None, TRAINING, says="a finished run, or a model file, whose outputs are imitated; default none", metavar="RUN"
    )
    temperature: float = setting(2.0, TRAINING, "of the teacher's probabilities", metavar="T")
    teacher_weight: float = setting(0.5, TRAINING, "of the teacher; the labels have the rest", metavar="L")
    teacher_sha256: str | None = setting(None, TRAINING, says="refuse another teacher; default: any", metavar="HASH")
    controls: tuple[str, ...] = setting(
        (), COMPARISON, metavar="NAME,...",
        says="networks to compare with: none (trained without penalty), l2, l1, random (pruned at random), "
        "random_layers (with as many in each layer); no: train no controls; default no, or the preset of the model",
    )  # fmt: skip
    control_l1: float = setting(2e-4, COMPARISON, "strength of the l1 control")
    control_l2: float = setting(1e-4, COMPARISON, "strength of the l2 control")
    curve: tuple[float, ...] = setting(
        (), COMPARISON, says="also compress by these ratios; default: by none", metavar="RATIO,..."
    )
    seed: int = setting(0, COMPARISON)
    dtype: str = setting("float32", DATA)

    @property
    def slug(self) -> str:
        """Data set and network, as a name of a folder."""
        return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", Path(each).name) for each in (self.data, self.model))

    def load(self, *, dtype: str | None = None) -> Splits:
        """Return the data set of the job, split as its seed says; `dtype` instead of the job's own."""
        if self.data not in DATASETS:
            own = {"split": self.split, "task": self.task, "layout": self.layout, "dtype": dtype or self.dtype}
            normalise = self.scaling == "standard"
            try:
                return open_data(self.data, label=self.label, seed=self.seed, normalise=normalise, **own)
            except L0RefError as error:
                raise ConfigError(str(error)) from None
        options: dict[str, Any] = {"seed": self.seed, "validation": self.validation, "dtype": dtype or self.dtype}
        return load(self.data, data_dir=self.data_dir, **options)


CHOICES: dict[str, Sequence[str]] = {
    "task": TASKS,
    "layout": LAYOUTS,
    "scaling": ("standard", "none"),
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
OWN_DATA = ("label", "split", "task", "layout", "scaling")  # settings of data that are not built in
CUTS = ("amount", "threshold", "tolerance", "stages")
FLAGS_ONLY = (
    "config", "out", "overwrite", "no_figures", "hide_test", "quiet", "seeds", "debug", "resume", "override",
    "checkpoint_every", "jobs", "scheduler",
)  # fmt: skip


def resolve(*sources: Mapping[str, Any]) -> Settings:
    """Return the settings that follow from the given sources, the later ones winning; None counts as not given."""
    given: dict[str, Any] = {}
    for source in sources:
        update = {k: v for k, v in source.items() if v is not None and (k != "stages" or v)}  # none are not given
        if any(cut in update for cut in CUTS):  # one rule for the cut: a later source replaces an earlier one's
            given = {k: v for k, v in given.items() if k not in CUTS}
        given |= update
    data = given.get("data", "digits")
    for name in ("data", "model"):
        check_module(name, str(given.get(name)))
    _check_data(data, given)
    if "model" not in given and data not in DEFAULT_MODEL:
        if not (names_code(data) or Path(data).expanduser().exists()):
            raise ConfigError(f"data={data!r} does not exist; check the path")
        raise ConfigError(f"data={data!r} needs a network; give --model, as in mlp:784-300-100-10")
    model = given.get("model") or DEFAULT_MODEL[data]
    if not isinstance(model, str) or (model not in PRESETS and not is_own(model)):
        choose("model", model, (*PRESETS, *OWN_MODELS))
    preset = dict(PRESETS.get(model, OWN_PRESET))
    if any(cut in given for cut in CUTS):
        preset.pop("amount", None)
    return _typed({"data": data, "model": model, **preset, **given})


def _check_data(data: Any, given: Mapping[str, Any]) -> None:
    """Refuse a word that is neither a data set nor a source of data, and settings of the other kind of data."""
    own = isinstance(data, str) and (names_code(data) or "/" in data or "." in data or Path(data).exists())
    if data not in DATASETS and not own:
        choose("data", data, (*DATASETS, "FILE.npz", "FILE.csv", "FOLDER", "package.module:function"))
    if data in DATASETS:
        if name := next((name for name in OWN_DATA if _changed(name, given)), None):
            raise ConfigError(f"{name}={given[name]!r} is for data of your own, not for data={data!r}; leave it out")
        if data == "digits" and given.get("data_dir") is not None:
            raise ConfigError(
                f"data_dir={given['data_dir']!r} is of no use to data='digits', which are built in; "
                "name the data set of that folder: --data mnist or fashion-mnist"
            )
        return
    for name in ("data_dir", "validation"):
        if given.get(name) is not None:
            raise ConfigError(f"{name}={given[name]!r} is for data sets by name; for data={data!r} give --split")
    check_shares(given.get("split", Settings.split))


def _changed(name: str, given: Mapping[str, Any]) -> bool:
    default = Settings.__dataclass_fields__[name].default
    value = given.get(name, default)
    return bool((tuple(value) if isinstance(value, list) else value) != default)


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
        check_name(name, value, fields)
        ready[name] = _as(fields[name].removesuffix(" | None"), name, value)
        if name in CHOICES:
            choose(name, ready[name], CHOICES[name])
    return Settings(**ready)


def _as(kind: str, name: str, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and isinstance(value, int) and abs(value) > MAX_WHOLE:
        raise ConfigError(f"{name} is a number of {value.bit_length()} bits; give at most {MAX_WHOLE}")
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
