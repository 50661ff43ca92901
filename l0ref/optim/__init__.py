"""Optimisers: SGD, Adam, AdamW and their proximal versions, as pure steps that keep pruned weights at zero."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from l0ref.errors import ArgumentError
from l0ref.optim.adam import Adam, AdamW, adam_step, adamw_step
from l0ref.optim.base import Elementwise, Optimizer, State
from l0ref.optim.proximal import Proximal
from l0ref.optim.sgd import SGD, momentum_step, sgd_step
from l0ref.validate import choose

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Elementwise",
    "Optimizer",
    "Proximal",
    "State",
    "adam_step",
    "adamw_step",
    "by_name",
    "momentum_step",
    "names",
    "sgd_step",
]

OPTIMIZERS: dict[str, type[Elementwise]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
_PROXIMAL = "proximal_"


def names() -> tuple[str, ...]:
    """Return the names that `by_name` accepts."""
    return (*OPTIMIZERS, *(_PROXIMAL + inner for inner in OPTIMIZERS))


def by_name(name: str, **options: Any) -> Optimizer:
    """Return an optimiser by its name on the command line.

    name     "sgd", "adam" or "adamw", or one of these after "proximal_"
    options  fields of its class; a proximal one takes `metric` as well

    >>> by_name("proximal_sgd", lr=0.1, momentum=0.9)
    Proximal(optimizer=SGD(lr=0.1, momentum=0.9, nesterov=False), metric='optimizer')
    """
    choose("name", name, names())
    inner = OPTIMIZERS[name.removeprefix(_PROXIMAL)]
    outer = {"metric": options.pop("metric")} if name.startswith(_PROXIMAL) and "metric" in options else {}
    known = [f.name for f in fields(inner)] + ["metric"] * name.startswith(_PROXIMAL)  # type: ignore[arg-type]
    for option, value in options.items():
        if option not in known:
            raise ArgumentError(f"{option}={value!r} is not an option of {name!r}; it has {', '.join(known)}")
    optimizer = inner(**options)
    return Proximal(optimizer, **outer) if name.startswith(_PROXIMAL) else optimizer
