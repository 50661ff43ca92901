"""The state of an optimiser, from and to torch.optim: the next step gives the same weights on both sides.

SGD           v = momentum_buffer
Adam, AdamW   m = exp_avg, v = exp_avg_sq, and the number of steps, one for all parameters
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.interop.extras import need_torch
from l0ref.interop.torch_arrays import Held, numpy, parameters
from l0ref.interop.torch_side import SETTINGS, torch_optimizer_like
from l0ref.interop.torch_write import tensor
from l0ref.masks import masked
from l0ref.optim import SGD, Adam, Elementwise, State
from l0ref.optim.base import check

SLOTS = {SGD: {"v": "momentum_buffer"}, Adam: {"m": "exp_avg", "v": "exp_avg_sq"}}
LACKING = {"weight_decay": 0, "dampening": 0, "amsgrad": False, "maximize": False}  # options l0ref's optimisers lack
REMEDY = {"weight_decay": "use AdamW, or an l2 term in the penalty"}


def optimizer_from_torch(theirs: Any, module: Any) -> tuple[Elementwise, State]:
    """Return the optimiser of l0ref with the settings of `theirs`, and its state, under the names of `module`.

    theirs   torch.optim.SGD, Adam or AdamW over all parameters of `module`, in groups with the same settings
    module   a module that `from_torch` reads, whose parameters `theirs` updates

    A parameter without state counts as never moved. PyTorch's SGD counts no steps, so the state has step 0, on which
    momentum does not depend. Slots of pruned weights become 0, as they are in l0ref.
    """
    torch = need_torch()
    held = tuple(parameters(module))
    kind = type(theirs)
    if kind not in (getattr(torch.optim, each.__name__) for each in SETTINGS):
        raise ArgumentError(
            f"theirs is a {kind.__name__}, which l0ref does not have; use torch.optim.SGD, Adam or AdamW"
        )
    groups = [{k: v for k, v in group.items() if k != "params"} for group in theirs.param_groups]
    if odd := next((k for group in groups for k in group if group[k] != groups[0][k]), None):
        each = " and ".join(repr(group[odd]) for group in groups)
        raise ArgumentError(f"theirs has groups with {odd}={each}, and l0ref has one for all; make one group")
    told = groups[0]
    moved = [id(p) for group in theirs.param_groups for p in group["params"]]
    if lost := next((h.name for h in held if id(h.parameter) not in moved), None):
        raise ArgumentError(f"theirs does not update {lost!r} of the module; give it module.parameters()")
    if len(moved) > len(held):
        raise ArgumentError(f"theirs updates {len(moved)} parameters, the module has {len(held)}; give it only those")
    own = LACKING if kind is not torch.optim.AdamW else {k: v for k, v in LACKING.items() if k != "weight_decay"}
    for option, only in own.items():
        if told.get(option, only) != only:
            what = REMEDY.get(option, f"build it with {option}={only!r}")
            raise ArgumentError(f"theirs has {option}={told[option]!r}, which l0ref's {kind.__name__} lacks; {what}")
    found = next(each for each in SETTINGS if each.__name__ == kind.__name__)
    ours: Elementwise = found(lr=float(told["lr"]), **{name: told[name] for name in SETTINGS[found]})
    return ours, State(_steps(theirs, held), _slots(ours, theirs, held))


def optimizer_to_torch(ours: Elementwise, state: State, module: Any) -> Any:
    """Return the optimiser of torch.optim over the parameters of `module` that continues from `state`.

    ours    SGD, Adam or AdamW; state from its `init` or its last step
    module  `to_torch` of the model, dense or masked, so that its parameters have the names and shapes of the state
    """
    held = tuple(parameters(module))
    params = {h.name: numpy(h.name, h.parameter) for h in held}
    theirs = torch_optimizer_like(ours, ours.lr)([h.parameter for h in held])
    check(params, params, state, ours.slot_names, {})
    names = SLOTS[SGD if isinstance(ours, SGD) else Adam]
    for h in held:
        found = {names[slot]: tensor(state.slots[slot][h.name]) for slot in ours.slot_names}
        if found:
            count = {} if isinstance(ours, SGD) else {"step": need_torch().tensor(float(state.step))}
            theirs.state[h.parameter] = count | found
    return theirs


def _steps(theirs: Any, held: tuple[Held, ...]) -> int:
    found = {h.name: int(theirs.state.get(h.parameter, {}).get("step", 0)) for h in held}
    if len(set(found.values())) > 1:
        fewest, most = (pick(found, key=found.__getitem__) for pick in (min, max))
        raise ArgumentError(
            f"theirs updated {fewest!r} {found[fewest]} times and {most!r} {found[most]} times, and l0ref counts once "
            "for all; train all parameters alike"
        )
    return next(iter(found.values()), 0)


def _slots(ours: Elementwise, theirs: Any, held: tuple[Held, ...]) -> dict[str, dict[str, Any]]:
    names = SLOTS[SGD if isinstance(ours, SGD) else Adam]
    slots: dict[str, dict[str, Any]] = {slot: {} for slot in ours.slot_names}
    for h in held:
        known, like = theirs.state.get(h.parameter, {}), numpy(h.name, h.parameter)
        for slot, found in slots.items():
            there = known.get(names[slot])
            array = np.zeros_like(like) if there is None else numpy(f"{h.name}, {names[slot]}", there)
            found[h.name] = masked(array, h.keep())
    return slots
