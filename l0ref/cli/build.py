"""The arguments of the pipeline, built from settings: model, penalty, cut and recipes."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from l0ref import optim, schedules, surrogates
from l0ref.cli.methods import method_options
from l0ref.cli.networks import own_network
from l0ref.cli.settings import Settings
from l0ref.cli.values import check_once
from l0ref.cli.values import options as pairs
from l0ref.data import Splits
from l0ref.data.files import names_code
from l0ref.errors import ConfigError
from l0ref.experiment import CONTROLS
from l0ref.nn import MODELS, Model
from l0ref.penalty import Penalty
from l0ref.pruning import Cut, Recipe, StagedCuts
from l0ref.validate import between, choose, count, nonnegative, positive, real

FAR = 3.0  # deviations from 0 at which the mean of targets is worth a warning
MAX_ROUNDS = 1000
PERCENT = range(1, 100)  # whole numbers that were probably meant as a percentage
WITH_BETA = [cls.name for cls in surrogates.SURROGATES.values() if "beta" in {f.name for f in dataclasses.fields(cls)}]


class Job(NamedTuple):
    """The recipes and cuts that `l0ref.experiment.controlled` takes."""

    train: Recipe
    cut: Cut
    finetune: Recipe
    gradual: Recipe | None
    stages: StagedCuts | None


def build_model(settings: Settings, data: Splits, *, seed: int) -> Model:
    """Return the network to train, which must fit the samples of the data set and their classes."""
    dtype = np.dtype(choose("dtype", settings.dtype, ("float32", "float64")))
    shape, outputs = data.train.sample_shape, data.train.outputs
    try:
        if settings.model in MODELS:
            model = MODELS[settings.model](seed=seed, dtype=dtype)
        else:
            model = own_network(settings.model, data, seed=seed, dtype=dtype)
    except MemoryError as error:
        told = str(error) or "no memory is left"
        raise ConfigError(
            f"model={settings.model!r} does not fit into memory ({told}); name a smaller network"
        ) from None
    if model.input_shape != shape:
        remedy = "choose another model or data set"
        if names_code(settings.model):
            remedy = "build it for input_shape, as in nn.mlp(sizes, input_shape=input_shape), which flattens images"
        raise ConfigError(
            f"model={settings.model!r} takes samples of shape {model.input_shape}, "
            f"data={settings.data!r} has {shape}; {remedy}"
        )
    if model.output_shape != (outputs,):
        raise ConfigError(
            f"model={settings.model!r} gives outputs of shape {model.output_shape}, data={settings.data!r} has "
            f"{outputs} {'classes' if data.train.classes else 'targets'}; end the network with as many outputs"
        )
    return model


def build_penalty(settings: Settings) -> Penalty:
    """Return the penalty C_l alpha sum phi(w) + l2 sum w^2."""
    return Penalty(
        _surrogate(settings),
        alpha=settings.alpha,
        l2=settings.l2,
        layer_weights=settings.layer_weights,
        groups=settings.groups,
    )


def build_job(settings: Settings) -> Job:
    """Return recipes and cut; refuse a setting out of range."""
    check_ranges(settings)
    check_companions(settings)
    penalty = build_penalty(settings)
    pull = choose("finetune_penalty", settings.finetune_penalty, ("none", "l2", "l0+l2"))
    tuning = {"none": Penalty(), "l2": Penalty(l2=settings.l2), "l0+l2": penalty}[pull]
    schedule = _schedule(settings.schedule, settings.lr_final)
    warmup = schedules.LinearWarmup(settings.warmup) if settings.warmup else schedules.Constant()
    common: dict[str, Any] = {"batch_size": settings.batch_size, "schedule": schedule}
    if isinstance(schedule, schedules.ReduceOnPlateau):
        common["monitor"] = "val_acc1" if schedule.mode == "max" else "val_loss"
    optimizer = _optimizer(settings.optimizer, settings.lr, settings.momentum)
    tuner = _optimizer(settings.finetune_optimizer, settings.finetune_lr, settings.momentum)
    last = settings.lr_final if settings.finetune_lr_final is None else settings.finetune_lr_final
    after = common | {"schedule": _schedule(settings.schedule, last)}
    return Job(
        train=Recipe(settings.epochs, optimizer=optimizer, penalty=penalty, warmup=warmup, **common),
        cut=Cut(
            1 - 1 / settings.stages[-1] if settings.stages else settings.amount,
            settings.threshold,
            settings.tolerance,
            scope=settings.scope,
            min_keep=settings.min_keep,
            method=settings.method,
            options=method_options(settings.method, settings.method_options),
        ),
        finetune=Recipe(settings.finetune_epochs, optimizer=tuner, penalty=tuning, **after),
        gradual=Recipe(settings.gradual, optimizer=optimizer, penalty=penalty, **common) if settings.gradual else None,
        stages=StagedCuts(settings.stages, settings.stage_epochs, penalty) if settings.stages else None,
    )


def likely_slip(settings: Settings) -> str | None:
    """Return a warning about a valid amount that looks like a percentage, such as 95 for 0.95; None without one."""
    amount = settings.amount
    if not isinstance(amount, int) or amount not in PERCENT:
        return None
    some = "1 weight" if amount == 1 else f"{amount} weights"
    return f"amount={amount} removes {some}, not {amount} %; for a share of the weights give {amount / 100!r}"


def far_targets(data: Splits) -> str | None:
    """Return a warning about regression targets whose mean is far from 0 relative to their spread; None without one."""
    if data.train.classes or not len(data.train):
        return None
    mean, spread = (f(data.train.y, axis=0, dtype=np.float64) for f in (np.mean, np.std))
    if not (far := np.abs(mean) > FAR * spread).any():
        return None
    n = int(np.argmax(far))
    return (
        f"targets of the training set have mean {mean.flat[n]:.4g} and deviation {spread.flat[n]:.4g}, but the "
        "outputs of a network begin near 0; subtract the mean and divide by the deviation"
    )


def check_ranges(settings: Settings) -> None:
    """Refuse, by the setting's name, values that would fail only after training or under another name."""
    for name in ("seed", "gradual", "epochs", "stage_epochs", "finetune_epochs"):
        count(name, getattr(settings, name))
    count("rounds", settings.rounds, least=1)
    if settings.rounds > MAX_ROUNDS:
        raise ConfigError(f"rounds={settings.rounds} must be at most {MAX_ROUNDS}")
    for name in ("control_l1", "control_l2"):
        nonnegative(name, getattr(settings, name))
    for name in ("lr", "finetune_lr"):
        positive(name, getattr(settings, name))
    for name in ("warmup", "lr_final", "finetune_lr_final", "momentum"):
        if (value := getattr(settings, name)) is not None:
            between(name, value, 0.0, 1.0)
    for name in settings.controls:
        choose("controls", name, CONTROLS)
    for name in ("controls", "curve"):
        check_once(name, getattr(settings, name))
    for ratio in settings.curve:
        if real("curve", ratio) < 1:
            raise ConfigError(f"curve={ratio!r} must be a compression ratio of at least 1")
    if settings.stages:
        check_stages(settings)
    if settings.gradual and not isinstance(settings.amount, float):
        raise ConfigError(f"gradual={settings.gradual} needs the fraction to reach; give amount as in 0.95")
    if settings.gradual and settings.rounds > 1:
        raise ConfigError(f"gradual={settings.gradual} and rounds={settings.rounds} exclude each other; choose one")


def check_companions(settings: Settings) -> None:
    """Refuse settings of parts that the job does not have."""
    if (last := settings.finetune_lr_final) is not None and settings.schedule != "cosine":
        told = f"finetune_lr_final={last!r} applies to a cosine, not to schedule={settings.schedule!r}"
        raise ConfigError(f"{told}; leave one of them out")
    others = sorted({settings.optimizer, settings.finetune_optimizer})
    if settings.momentum != Settings.momentum and not any(name.endswith("sgd") for name in others):
        raise ConfigError(f"momentum={settings.momentum!r} applies to sgd, not to {' or '.join(others)}; leave it out")


def check_stages(settings: Settings) -> None:
    """Refuse settings that exclude stages, and invalid ratios."""
    StagedCuts(settings.stages, settings.stage_epochs, Penalty())
    given = [name for name in ("amount", "threshold", "tolerance") if getattr(settings, name) is not None]
    given += [name for name in ("gradual", "curve") if getattr(settings, name)] + ["rounds"] * (settings.rounds > 1)
    told = f"stages={','.join(f'{ratio:g}' for ratio in settings.stages)}"
    if given:
        raise ConfigError(f"{told} and {given[0]}={getattr(settings, given[0])!r} exclude each other; choose one")
    if settings.schedule == "reduce_on_plateau":
        raise ConfigError(f"schedule={settings.schedule!r} cannot span {told}; choose another, such as cosine")


def _schedule(name: str, final: float) -> schedules.Schedule:
    return schedules.by_name(name, **({"final": final} if name == "cosine" else {}))


def _optimizer(name: str, lr: float, momentum: float) -> optim.Optimizer:
    if name.endswith("sgd"):
        return optim.by_name(name, lr=lr, momentum=momentum)
    return optim.by_name(name, lr=lr)


def _surrogate(settings: Settings) -> surrogates.Surrogate:
    """Return the surrogate by name; `beta` is its parameter unless options such as "lam=1,gamma=2" are given."""
    text, example = settings.surrogate_options, "lam=1,gamma=2"
    given = pairs("surrogate_options", text, example=example)
    try:
        options = {key: float(value) for key, value in given.items()}
    except ValueError:
        raise ConfigError(f"surrogate_options={text!r} must look like {example}") from None
    if not options and settings.surrogate in WITH_BETA:
        options = {"beta": settings.beta}
    kind = next(cls for cls in surrogates.SURROGATES.values() if cls.name == settings.surrogate)
    needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in options]:
        example = ",".join(f"{name}=1" for name in needed)
        raise ConfigError(
            f"surrogate={settings.surrogate!r} needs {' and '.join(missing)}; give --surrogate-options as in {example}"
        )
    return surrogates.by_name(settings.surrogate, **options)
