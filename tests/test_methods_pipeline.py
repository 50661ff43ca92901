"""Every method goes through the pipeline: rounds, gradual pruning, controls, curve, sweep, report, compact network."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from l0ref.deploy.compact import compact
from l0ref.errors import ConfigError
from l0ref.experiment import run_experiment
from l0ref.methods import METHODS, Method
from l0ref.penalty import Penalty
from l0ref.pruning import Cut, Recipe, shrink
from l0ref.report import full_text, summarize
from tests.method_contract import asked, largest_unit, networks

MODEL, DATA = networks(np.float32)["mlp"]
EPOCH = Recipe(1, batch_size=16, penalty=Penalty(alpha=1e-4))
QUICK: dict[str, Any] = {"epochs": 2, "iterations": 10, "searches": 2}
WAYS: dict[str, dict[str, Any]] = {
    "rounds": {"rounds": 2, "controls": ("random",), "curve": (2.0,)},
    "gradual": {"gradual": Recipe(2, batch_size=16)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_in_the_pipeline(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used, own = list[str](), Method.run
    monkeypatch.setattr(Method, "run", lambda self, *args, **kw: (used.append(self.name), own(self, *args, **kw))[1])
    options = {key: value for key, value in QUICK.items() if key in METHODS[name].options}
    cut = Cut(0.6, method=name, min_keep=2, options=options)
    job: dict[str, Any] = {"train": EPOCH, "cut": cut, "finetune": EPOCH, "seed": 0, "progress": "none", **WAYS[way]}
    if METHODS[name].kind == "training" and way == "gradual":
        with pytest.raises(ConfigError, match=rf"^method='{name}' trains by itself, so it does not prune gradually; "):
            run_experiment(MODEL, DATA, **job)
        return
    found = run_experiment(MODEL, DATA, **job)
    main, *controls = found.runs.values()
    assert used.count(name) >= 2 + ("curve" in WAYS[way])  # a cut in every round, or step, and one in the curve
    assert set(main.record) >= set(METHODS[name].records if way == "rounds" else ())
    points = [run for points in found.curves.values() for _, run in points]
    for run in (main, *controls, *points):
        final, logits = run.model, run.model.logits(DATA.test.x)
        masks = {key: final.mask(key) for key in final.weights}
        assert run.removed <= sum(int((~mask).sum()) for mask in masks.values())  # a sweep takes what cannot matter
        assert all(mask.any() and not final.params[key][~mask].any() for key, mask in masks.items())
        for small in (shrink(final), compact(final).model):
            np.testing.assert_allclose(small.logits(DATA.test.x), logits, rtol=1e-3, atol=1e-4)
    for run, amount in zip((main, *points), (0.6, *[0.5] * len(points)), strict=True):
        (wanted,) = asked(MODEL, amount, "global")
        assert run.removed == wanted if METHODS[name].grain == "weight" else run.removed > wanted - largest_unit(MODEL)
    assert all(run.removed == main.removed for run in controls)
    report = summarize(found, DATA, config={"model": "mlp", "data": "made up", "seed": 0, "data_dir": None}, seed=0)
    assert json.loads(json.dumps(report))["main"] in full_text(report)
