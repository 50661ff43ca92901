"""Budgets of layers: what each rule promises, and how a total is divided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.cli.methods import method_options
from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS, Pruned
from l0ref.methods.budgets import _Curve, budget_plan
from l0ref.methods.shares import divided
from l0ref.nn import Model
from l0ref.pruning.prune import prune
from tests.method_contract import networks, splits


def run(name: str, model: Model, data: Splits, amount: float = 0.6, **options: Any) -> Pruned:
    return METHODS[name].run(model, data, amount=amount, seed=0, **options)


def kept(model: Model) -> dict[str, int]:
    return {key: int(model.mask(key).sum()) for key in model.weights}


def wide() -> tuple[Model, Splits]:
    """Two layers whose weights have different scales: magnitude takes nearly all from the first."""
    model = nn.mlp((20, 16, 12, 3), seed=1, dtype=np.float64)
    return model.replace(params={**model.params, "fc1.weight": 0.2 * model.params["fc1.weight"]}), splits((20,), n=200)


def test_shares_are_proportional_within_their_limits(rng: np.random.Generator) -> None:
    for _ in range(50):
        size, total = rng.integers(1, 30, 5), 0
        least = np.minimum(rng.integers(0, 4, 5), size)
        total = int(rng.integers(least.sum(), size.sum() + 1))
        weight = rng.random(5) + 0.1
        found = np.array(divided(total, lambda t, w=weight: w * t * 1e4, least, size))
        assert found.sum() == total
        assert (least <= found).all()
        assert (found <= size).all()
        inner = (found > least) & (found < size)
        if inner.any():  # one t for all that no limit holds, but for rounding
            assert ((found[inner] + 1) / weight[inner]).min() >= (found[inner] / weight[inner]).max() - 1e-9 or (
                np.ptp(found[inner] - weight[inner] * found[inner].sum() / weight[inner].sum()) < 2
            )


@pytest.mark.parametrize("name", ["l0_constrained", "net_trim"])
def test_given_counts_are_met_and_shares_divide(name: str) -> None:
    model, data = wide()
    sizes = {key: model.sizes[key] for key in model.weights}  # 320, 192, 36: 219 stay of 548
    found = run(name, model, data, budget={"fc1": 100, "fc2": 89, "fc3.weight": 30}, samples=60)
    assert kept(found.model) == {"fc1.weight": 100, "fc2.weight": 89, "fc3.weight": 30}
    assert found.record["removed"] == found.record["asked"]
    text = run(name, model, data, **method_options(name, "budget=fc1:10/fc2:8.9/fc3:3,samples=60"))
    assert kept(text.model) == kept(found.model)  # only their proportions count
    even = kept(run(name, model, data, budget="proportional", samples=60).model)
    assert max(abs(k - 219 * sizes[key] / 548) for key, k in even.items()) < 1
    assert even != kept(run(name, model, data, samples=60).model)
    most = kept(run(name, model, data, budget="fc1:1/fc2:1/fc3:1000", samples=60).model)
    assert most == {"fc1.weight": 92, "fc2.weight": 91, "fc3.weight": 36}


def test_outputs_of_all_layers_change_alike() -> None:
    model, data = wide()
    options: dict[str, Any] = {"scheme": "parallel", "newton": 0, "amount": 0.7}
    found = run("l0_constrained", model, data, budget="equal_change", **options)
    plain = run("l0_constrained", model, data, **options)
    assert found.record["removed"] == found.record["asked"] == plain.record["removed"]
    ratio, before = (max(e.values()) / min(e.values()) for e in (found.record["error"], plain.record["error"]))
    assert ratio < 1.25 < 1.6 < before
    cascade = run("l0_constrained", model, data, budget="equal_change", amount=0.7).model
    assert kept(cascade) == kept(found.model)


def test_a_curve_that_rises_in_between_is_read_at_its_lowest_so_far() -> None:
    curve = object.__new__(_Curve)
    curve.points = {1: 0.5, 2: 0.6, 4: 0.3, 8: 0.1}  # the measured change with so many weights
    between = np.log(0.5 / 0.4) / np.log(0.5 / 0.3)
    assert curve.weights_at(0.4) == pytest.approx(2 * 2**between)
    found = [curve.weights_at(change) for change in np.geomspace(0.7, 0.05, 50)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == pytest.approx((1, 8))


def test_every_rule_keeps_earlier_masks_and_the_least(rng: np.random.Generator) -> None:
    model, data = networks()["cnn"]
    first = prune(model, amount=0.3)
    for budget in ("proportional", "equal_change", dict.fromkeys(model.weights, 1.0)):
        plan = budget_plan(first, data.train.x, amount=0.8, scope="global", min_keep=7, budget=budget)
        assert sum(int(m.sum()) for m in plan.values()) == model.size - int(np.floor(0.8 * model.size + 0.5))
        for key, mask in plan.items():
            assert mask.sum() >= 7
            assert not (mask & ~first.mask(key)).any()
            others = first.mask(key) & ~mask
            w = np.abs(model.params[key])
            assert w[mask].min() >= w[others].max(initial=0.0)
    nothing = budget_plan(model, data.train.x, amount=0.0, scope="global", min_keep=0, budget="equal_change")
    assert all(mask.all() for mask in nothing.values())


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("even", r"^budget='even' is not one of 'magnitude', 'proportional', 'equal_change'"),
        ("fc1:3", r"^budget='fc1:3' must give one number for each layer, as in fc1:300/fc2:300/fc3:300$"),
        ("fc1:3/fc2:1/fc3:2/fc3:2", r"^budget='fc1:3/fc2:1/fc3:2/fc3:2' must give one number for each layer"),
        (
            "fc1:3/fc2:x/fc3:2",
            r"^budget='fc1:3/fc2:x/fc3:2' must give one positive number for each layer, as in fc1:300",
        ),
        ({"fc1": 3, "fc2": -1, "fc3": 1}, r"^budget=\{'fc1': 3, .*\} must give one positive number for each layer"),
    ],
)
def test_budgets_that_are_refused_before_any_training(budget: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        METHODS["l0_constrained"].check_budget(wide()[0], amount=0.5, budget=budget)


def test_one_division_at_a_time() -> None:
    with pytest.raises(ArgumentError, match=r"^budget='proportional' divides an amount that scope='layer' has divided"):
        METHODS["net_trim"].check_budget(wide()[0], amount=0.5, budget="proportional", scope="layer")
