"""The registry of methods and the contract all of them keep; the checks are run on planted bad methods, too."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs import formulas
from l0ref import nn
from l0ref.cli.methods import method_options, method_text, methods_text
from l0ref.errors import ArgumentError, ConfigError, Diverged, LayerCollapse
from l0ref.methods import METHODS, Method, Pruned, method
from l0ref.methods.registry import calibration
from l0ref.methods.rehearsal import rehearse
from l0ref.nn import Model
from tests.method_contract import CHECKS, asked, networks, same_bits, splits

NETWORKS = {dtype: networks(dtype) for dtype in (np.float64, np.float32)}
STATE = np.random.default_rng(0)


QUICK = {"net_trim": {"iterations": 10, "searches": 2}}  # what holds of a method holds of it unfinished, too


def quick(name: str) -> Method:
    """The method with other defaults where its own take long."""
    found = METHODS[name]
    return dataclasses.replace(found, function=functools.partial(found.function, **QUICK.get(name, {})))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", METHODS)
def test_contract(name: str, check: str) -> None:
    for network, (model, data) in NETWORKS[np.float64].items():
        assert [f"{network}: {fault}" for fault in CHECKS[check](quick(name), model, data)] == []


@pytest.mark.slow  # the pipeline runs every method in float32
@pytest.mark.parametrize("name", METHODS)
def test_contract_in_float32(name: str) -> None:
    for model, data in NETWORKS[np.float32].values():
        faults = [f for check in ("budget", "survivors", "zeros") for f in CHECKS[check](quick(name), model, data)]
        assert faults == []


COMPANIONS = (
    "on_the_fly", "learned_threshold", "global_filters", "coreset", "matrix_pivoting", "filter_criteria",
    "prune_while_training", "slr", "admm", "hard_concrete", "hard_concrete_units",
)  # fmt: skip


REFUSED_UNITS = dict.fromkeys(("(6, 0, 3)", "(6, 3)"), r"^model has no hidden units that can be removed: none, or all")
REFUSED_ZEROS = {
    "one layer 0": r"^amount=0.5 leaves layer 'fc2.weight' none of its 20 entries; prune less or pass min_keep=1$",
    "all 0": r"^amount=0.5 leaves layer 'fc1.weight' none of its 30 entries; prune less or pass min_keep=1$",
}
RANKED = ("learned_threshold", "slr", "admm")  # over all layers by size, so that zeros go first


def odd_networks(dtype: Any) -> dict[str, Model]:
    """Widths of 0 and 1, constant and dead parts."""
    base = nn.mlp((6, 5, 4, 3), seed=0, dtype=dtype)
    changed = {
        "constant": {"fc1.weight": np.full((5, 6), 0.25)},
        "one layer 0": {"fc2.weight": np.zeros((4, 5))},
        "dead unit": {"fc1.weight": base.params["fc1.weight"] * (np.arange(5) != 2)[:, None], "fc1.bias": -np.ones(5)},
        "all 0": {k: np.zeros_like(p) for k, p in base.params.items()},
    }
    found = {
        name: base.replace(params={**base.params, **{k: p.astype(dtype) for k, p in params.items()}})
        for name, params in changed.items()
    }
    unread = np.arange(20).reshape(4, 5) % 5 != 1
    found["masked unit"] = base.replace(masks={"fc2.weight": unread})
    sizes = ((6, 1, 3), (1, 4, 1), (0, 4, 3), (6, 0, 3), (6, 0, 4, 3), (6, 4, 0, 3), (6, 3))
    return found | {str(size): nn.mlp(size, seed=0, dtype=dtype) for size in sizes}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", COMPANIONS)
def test_odd_networks_are_cut_or_refused_in_one_sentence(name: str, dtype: Any) -> None:
    quick = {"epochs": 2} if "epochs" in METHODS[name].options else {}
    for what, model in odd_networks(dtype).items():
        data = splits(model.input_shape, dtype=dtype, classes=model.classes)
        refused = REFUSED_UNITS if METHODS[name].grain == "unit" else REFUSED_ZEROS if name in RANKED else {}
        if what in refused:
            with pytest.raises((ArgumentError, LayerCollapse), match=refused[what]):
                METHODS[name].run(model, data, amount=0.5, seed=0, **quick)
            continue
        found, again = (METHODS[name].run(model, data, amount=0.5, seed=0, **quick) for _ in range(2))
        gone = sum(int((~found.model.mask(key)).sum()) for key in model.weights)
        assert found.record["removed"] == gone <= found.record["asked"] == int(0.5 * model.size + 0.5), what
        assert METHODS[name].grain == "unit" or gone == found.record["asked"], what
        assert same_bits(found.model, again.model), what
        for p in found.model.params.values():
            assert p.dtype == dtype, what
            assert np.isfinite(p).all(), what


def bad(change: Callable[..., Any], **fields: Any) -> Method:
    """Magnitude pruning, spoilt: `change(model, pruned, data, seed)` returns what it leaves."""

    def spoilt(
        model: Model, data: Any, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
    ) -> Pruned:
        good = METHODS["magnitude"].function(model, data, amount=amount, seed=seed, scope=scope, min_keep=min_keep)
        return change(model, good, data, seed)  # type: ignore[no-any-return]

    return dataclasses.replace(METHODS["magnitude"], function=spoilt, **fields)


def with_masks(found: Pruned, change: Callable[[Any], Any]) -> Pruned:
    masks = {k: change(m.copy()) for k, m in found.model.masks.items()}
    return dataclasses.replace(found, model=found.model.replace(masks=masks))


def one_more(mask: Any) -> Any:
    mask.flat[np.flatnonzero(mask)[0]] = False
    return mask


def dirty(_: Model, found: Pruned, *__: Any) -> Pruned:
    w = found.model.params["fc1.weight"]
    w[~found.model.masks["fc1.weight"]] = 1e-30  # the arrays are fresh, and nobody checks them again
    return found


def writes(model: Model, found: Pruned, *_: Any) -> Pruned:
    model.params["fc2.weight"].flat[0] += 1
    return found


def revives(_: Model, found: Pruned, *__: Any) -> Pruned:
    return with_masks(found, lambda mask: np.roll(mask, 1))


def other_type(_: Model, found: Pruned, *__: Any) -> Pruned:
    return dataclasses.replace(found, model=found.model.astype(np.float32))


def empties(_: Model, found: Pruned, *__: Any) -> Pruned:
    masks = {k: m & (k != "fc2.weight") for k, m in found.model.masks.items()}
    return dataclasses.replace(found, model=found.model.replace(masks=masks))


def writes_data(_: Model, found: Pruned, data: Any, __: int) -> Pruned:
    data.train.x.flags.writeable = True
    data.train.x.flat[0] += 1
    return found


def unseeded(_: Model, found: Pruned, *__: Any) -> Pruned:
    params = {k: p + STATE.random() * 1e-3 if k.endswith("bias") else p for k, p in found.model.params.items()}
    return dataclasses.replace(found, model=found.model.replace(params=params))


def data_bound(_: Model, found: Pruned, data: Any, __: int) -> Pruned:
    shift = 0.0 if data is None else 1.0
    params = {k: p + shift if k.endswith("bias") else p for k, p in found.model.params.items()}
    return dataclasses.replace(found, model=found.model.replace(params=params))


def whole_network(
    model: Model, data: Any, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
) -> Pruned:
    """Magnitude pruning that takes the amount of all layers from the network."""
    return METHODS["magnitude"].function(model, data, amount=sum(asked(model, amount, scope)), seed=seed)


class Eager(Method):
    """Works before it asks whether the budget can be met."""

    def run(self, model: Model, data: Any, *, amount: float, seed: int, **options: Any) -> Pruned:
        self.function(model, data, amount=0.1, seed=seed)
        return super().run(model, data, amount=amount, seed=seed, **options)


class Blind(Method):
    """Looks at no sample before it works."""

    def run(self, model: Model, data: Any, *, amount: float, seed: int, **options: Any) -> Pruned:
        honest = dataclasses.replace(METHODS["magnitude"], function=self.function)
        return honest.run(model, data, amount=amount, seed=seed, **options)


def as_kind(kind: type[Method], like: Method) -> Method:
    return kind(**{f.name: getattr(like, f.name) for f in dataclasses.fields(like)})


PLANTED: dict[str, tuple[str, Method]] = {
    "one weight more": ("budget", bad(lambda m, f, *_: with_masks(f, one_more))),
    "scope ignored": ("budget", dataclasses.replace(METHODS["magnitude"], function=whole_network)),
    "nothing of a unit": ("budget", bad(lambda m, f, *_: dataclasses.replace(f, model=m), grain="unit")),
    "revives": ("survivors", bad(revives)),
    "other type": ("survivors", bad(other_type)),
    "empties a layer": ("survivors", bad(empties)),
    "not zero": ("zeros", bad(dirty)),
    "undeclared": ("record", bad(lambda m, f, *_: dataclasses.replace(f, record={**f.record, "extra": 1}))),
    "missing": ("record", bad(lambda m, f, *_: dataclasses.replace(f, record={}))),
    "infinite": ("record", bad(lambda m, f, *_: dataclasses.replace(f, record={"threshold": np.inf}))),
    "unseeded": ("seeds", bad(unseeded)),
    "random in name": ("seeds", bad(lambda m, f, *_: f, random=True)),
    "writes": ("untouched", bad(writes)),
    "writes data": ("untouched", bad(writes_data)),
    "secret data": ("reading", bad(data_bound)),
    "blind": ("reading", as_kind(Blind, bad(lambda m, f, *_: f, reads=("weights", "activations")))),
    "eager": ("collapse", as_kind(Eager, METHODS["magnitude"])),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_contract_finds_a_planted_fault(fault: str) -> None:
    check, planted = PLANTED[fault]
    model, data = networks()["mlp"]
    assert list(CHECKS[check](planted, model, data)) != []


def test_every_check_has_a_planted_fault() -> None:
    assert {check for check, _ in PLANTED.values()} == set(CHECKS)


@pytest.mark.parametrize(
    ("part", "key"), [("params", "fc1.weight"), ("params", "fc2.bias"), ("buffers", "norm.running_var")]
)
def test_a_result_that_is_not_finite_is_refused(part: str, key: str) -> None:
    layers = (nn.Linear("fc1", 12, 4), nn.BatchNorm1d("norm", 4), nn.Linear("fc2", 4, 3))
    model = Model.init(layers, input_shape=(12,), seed=0)
    for value in (np.nan, -np.inf):

        def spoil(_: Model, found: Pruned, *__: Any, value: float = value) -> Pruned:
            arrays = {k: v.copy() for k, v in getattr(found.model, part).items()}
            arrays[key].flat[arrays[key].size - 1] = value
            return Pruned(found.model.replace(masks={}, **{part: arrays}))

        with pytest.raises(Diverged, match=rf"^method='magnitude' left NaN or infinite entries in '{key}'; .*float64"):
            bad(spoil).run(model, networks()["mlp"][1], amount=0.5, seed=0)


def test_net_trim_says_where_float32_is_too_small() -> None:
    model, data = networks(np.float32)["mlp"]
    huge = model.replace(params={k: p * np.float32(1e30) for k, p in model.params.items()})
    with (
        np.errstate(all="ignore"),
        pytest.raises(Diverged, match=r"^method='net_trim' left NaN or infinite entries in"),
    ):
        METHODS["net_trim"].run(huge, data, amount=0.5, seed=0, **QUICK["net_trim"])


def test_registration_refuses() -> None:
    def short(model: Model, data: Any, *, amount: float, seed: int) -> Pruned:
        return Pruned(model)

    with pytest.raises(ArgumentError, match=r"^name='magnitude' is a method of .* already; choose another name$"):
        method("magnitude", paper="x", kind="score", reads=())
    with pytest.raises(ArgumentError, match=r"^function of method='short' does not take scope; every method does$"):
        method("short", paper="x", kind="score", reads=())(short)
    with pytest.raises(ArgumentError, match=r"^kind='scores' is not one of"):
        method("short", paper="x", kind="scores", reads=())
    assert "short" not in METHODS


def test_calibration_is_drawn_by_the_seed_in_the_dtype_of_the_model() -> None:
    model, data = NETWORKS[np.float32]["mlp"]
    wide = model.astype(np.float64)
    few, again, other = (calibration(wide, data, samples=9, seed=s) for s in (0, 0, 1))
    assert few.x.dtype == np.float64
    np.testing.assert_array_equal(few.x, again.x)
    assert len(few) == 9
    assert (few.x != other.x).any()
    np.testing.assert_array_equal(calibration(model, data, samples=10**6, seed=0).x, data.train.x)


@pytest.mark.parametrize("name", METHODS)
def test_rehearsal_lets_the_defaults_pass_and_lowers_whole_numbers(name: str) -> None:
    own = METHODS[name].options
    assert rehearse(METHODS[name], own | {key: 10**9 for key in ("epochs", "iterations", "samples") if key in own})


def test_rehearsal_keeps_to_the_options_and_hides_no_fault() -> None:
    def gives(error: Exception) -> Callable[..., Pruned]:
        def function(model: Any, data: Any, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
                     few: int = 1, text: str = "a") -> Pruned:  # fmt: skip
            raise error

        return function

    def planted(error: Exception) -> Method:
        return dataclasses.replace(METHODS["magnitude"], function=gives(error))

    with pytest.raises(ArgumentError, match=r"^few=0 must be at least 1$"):
        assert not rehearse(planted(ArgumentError("few=0 must be at least 1")), {"few": 0})
    rehearse(planted(ArgumentError("few=0 must be at least 1")), {"text": "b"})  # not what was given
    assert not rehearse(planted(np.linalg.LinAlgError("Singular matrix")), {"few": 0})  # the small network's
    with pytest.raises(TypeError, match="planted"):
        rehearse(planted(TypeError("planted")), {"few": 0})


def test_table_fits_a_screen() -> None:
    lines = methods_text().splitlines()
    assert max(map(len, lines)) <= 80
    for m in METHODS.values():
        (line,) = (line for line in lines if line.startswith(m.name + " "))
        said = [m.kind, *(what[0] for what in m.reads), m.grain[0], *([m.marks] if m.marks else []), *m.paper.split()]
        assert line.split()[1:] == said


@pytest.mark.parametrize("name", METHODS)
def test_a_method_in_full_says_what_its_marks_mean(name: str) -> None:
    text = method_text(METHODS[name])
    assert all(mark in text.split("\n", 1)[1] for mark in ("[I]", "[U]") if mark in METHODS[name].marks)


def test_options_are_read_as_their_defaults() -> None:
    assert method_options("lottery", "") == {}
    found = method_options("net_trim", "iterations=7,lam=4,refit=true,scheme=parallel")
    assert found == {"iterations": 7, "lam": 4.0, "refit": True, "scheme": "parallel"}
    assert [type(value) for value in found.values()] == [int, float, bool, str]
    with pytest.raises(ConfigError, match=r"^method_options='min_keep=3' sets min_keep; give it as --min-keep 3$"):
        method_options("magnitude", "min_keep=3")
    with pytest.raises(ConfigError, match=r"^method_options='samples' must look like samples=500,scheme=cascade$"):
        method_options("magnitude", "samples")
    with pytest.raises(
        ArgumentError, match=r"^samples=3 is not an option of method='magnitude'; it has scope, min_keep$"
    ):
        method_options("magnitude", "samples=3")


PAGES = {name: formulas.METHOD_PAGES / f"{name}.md" for name in METHODS}


@pytest.mark.parametrize("page", sorted(formulas.METHOD_PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_code_of_pages_runs(page: Path) -> None:
    codes = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for code in codes:
        exec(compile(code, f"docs/methods/{page.name}", "exec"), {})
    listed = [name for names in formulas.FAMILIES.values() for name in names]
    assert page.stem not in listed or any("assert" in code for code in codes)


def gaps(name: str, text: str) -> list[str]:
    """What the page of a method lacks."""
    needed = {
        "its name as a title": rf"\A# .*`{name}`",
        "departures": r"\*\*Departs",
        "when to use it": r"\*\*When",
        "an algorithm": r"\*\*Algorithm",
        "an equation": r"\$",
        "a reference": r"\*\*Reference\*\* ",
        "a figure of its record": rf"!\[.+\]\(\.\./figures/methods/{name}\.png\)",
    }
    found = [what for what, pattern in needed.items() if not re.search(pattern, text)]
    paper = METHODS[name].paper
    authors = re.findall(r"[A-Z][a-z]{2,}", paper) if any(c.isdigit() for c in paper) else []
    return found + [f"the author {author}" for author in authors if author not in text]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_page_with_figure_and_reference(name: str) -> None:
    page = PAGES[name]
    assert gaps(name, page.read_text(encoding="utf-8")) == []
    assert (page.parents[1] / "figures" / "methods" / f"{page.stem}.png").is_file()


def test_no_page_is_without_a_method_and_gaps_are_seen() -> None:
    others = {formulas.METHOD_PAGES / name for name in ("index.md", "evidence.md")}
    assert set(PAGES.values()) | others == set(formulas.METHOD_PAGES.glob("*.md"))
    text = PAGES["obd"].read_text(encoding="utf-8")
    for lost, said in (
        ("**Reference**", "a reference"), ("(../figures/methods/obd", "a figure of its record"),
        ("**When", "when to use it"), ("# `obd`", "its name as a title"), ("Solla", "the author Solla"),
        ("**Departs", "departures"),
        ("**Algorithm", "an algorithm"), ("$", "an equation"),
    ):  # fmt: skip
        assert gaps("obd", text.replace(lost, "")) == [said]


def test_families_are_those_of_the_survey() -> None:
    """Every member the pages promise, each in one family."""
    listed = [name for names in formulas.FAMILIES.values() for name in names]
    assert len(listed) == len(set(listed)) == 21
    assert set(listed) <= set(METHODS)


# --- the magnitude family ---------------------------------------------------------------------------------------------


def run(name: str, model: Model, amount: float, seed: int = 0, **options: Any) -> Pruned:
    return METHODS[name].run(model, None, amount=amount, seed=seed, **options)  # type: ignore[arg-type]


def test_uniform_takes_the_same_share_and_the_smallest_of_every_layer() -> None:
    model = networks()["cnn"][0]
    found = run("class_uniform", model, 0.5).model
    for key in model.weights:
        w, kept = np.abs(model.params[key]), found.masks[key]
        assert abs(int((~kept).sum()) - 0.5 * w.size) <= 1
        assert w[~kept].max() <= w[kept].min()


def test_distribution_is_a_threshold_in_units_of_the_standard_deviation() -> None:
    model = networks()["mlp"][0]
    found = run("class_distribution", model, 0.6)
    for key in model.weights:
        w = model.params[key]
        std = float(np.sqrt(((w - w.mean()) ** 2).mean()))
        assert found.record["std"][key] == pytest.approx(std, rel=1e-12)
        limit = found.record["quality"] * std * (1 - 1e-9)
        np.testing.assert_array_equal(found.model.masks[key], np.abs(w) >= limit)


def test_han_scales_thresholds_and_dropout() -> None:
    model = networks()["mlp"][0]
    plain, deeper = run("han", model, 0.6), run("han", model, 0.6, sensitivity={"fc1.weight": 3.0})
    assert same_bits(plain.model, run("class_distribution", model, 0.6).model)
    assert (~deeper.model.masks["fc1.weight"]).sum() > (~plain.model.masks["fc1.weight"]).sum()
    dropout = {layer.name: layer.p for layer in deeper.model.architecture if hasattr(layer, "p")}
    kept = [deeper.model.masks[f"fc{i}.weight"].mean() for i in (1, 2)]
    assert [dropout["dropout1"], dropout["dropout2"]] == pytest.approx([0.2 * np.sqrt(share) for share in kept])
    twice = run("han", run("han", model, 0.3).model, 0.6).model
    share = twice.masks["fc1.weight"].mean()
    assert next(layer.p for layer in twice.architecture if layer.name == "dropout1") == pytest.approx(
        0.2 * np.sqrt(share)
    )
    with pytest.raises(ArgumentError, match=r"^sensitivity='fc9\.weight' is not one of"):
        run("han", model, 0.6, sensitivity={"fc9.weight": 1.0})


def test_dropout_within_a_residual_block_is_rescaled_by_the_layer_before_it() -> None:
    body = (nn.Dropout("first", 0.4), nn.Linear("inner", 8, 8), nn.Dropout("second", 0.4))
    layers = (nn.Linear("fc1", 5, 8), nn.Residual("sum", body), nn.Dropout("third", 0.4), nn.Linear("fc2", 8, 3))
    model = Model.init(layers, input_shape=(5,), seed=0, dtype=np.float64)
    found = run("han", model, 0.5).model
    root = {key: np.sqrt(found.masks[f"{key}.weight"].mean()) for key in ("fc1", "inner")}
    rates = {x.name: x.p for x in nn.sequence.leaves(found.architecture) if isinstance(x, nn.Dropout)}
    expected = {"first": root["fc1"], "second": root["inner"], "third": root["inner"]}
    assert rates == pytest.approx({name: 0.4 * share for name, share in expected.items()})


def test_lottery_goes_back_to_the_start() -> None:
    trained = networks()["mlp"][0]
    found = run("lottery", trained, 0.6, seed=7).model
    start = Model.init(trained.architecture, input_shape=trained.input_shape, seed=7, dtype=np.float64)
    smallest = run("magnitude", trained, 0.6).model.masks
    for key, p in start.params.items():
        mask = found.masks.get(key, np.ones(p.shape, bool))
        np.testing.assert_array_equal(found.params[key], p * mask)
        if key in smallest:
            np.testing.assert_array_equal(mask, smallest[key])
    given = run("lottery", trained, 0.6, initial=start.replace(params={k: p + 1 for k, p in start.params.items()}))
    np.testing.assert_array_equal(given.model.params["fc1.bias"], start.params["fc1.bias"] + 1)
    with pytest.raises(ArgumentError, match=r"^initial is another network than model; pass the network"):
        run("lottery", trained, 0.6, initial=networks()["cnn"][0])
