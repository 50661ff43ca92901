"""The sparse suites of `l0ref bench`: what they cover, who is found out, and the figure of break-even densities."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import ops, sparse
from l0ref.bench.agreement import Disagreement, agreement
from l0ref.bench.suites import sparse_conv, sparse_net, sparse_products, sparse_step, suites
from l0ref.bench.suites.sparse_net import evaluators
from l0ref.bench.suites.sparse_products import COLUMN, ENTRIES, SQUARE, random_mask, sparse_multipliers
from l0ref.bench.suites.sparse_step import sparse_steppers
from l0ref.bench.work import OURS, Contender, Plan, Work
from l0ref.deploy.compact import compact
from l0ref.deploy.costs import Costs, Line
from l0ref.deploy.single import Single
from l0ref.nn import lenet_5, lenet_300_100, mlp
from l0ref.pruning.prune import prune
from l0ref.report.figures.bench import bench_figure, panels
from l0ref.report.figures.density import against_dense, break_even, verdict
from tests.test_bench_suites import Counter, plan

pytestmark = pytest.mark.kernels
DEFAULT = Plan(suites=("sparse",), rounds=9, threads=2, peers=())
ALL = (50, 20, 10, 5, 2, 1, 0.5)
PAIRS = ((784, 300), (300, 100), (800, 500), (4096, 4096))
CONVOLUTIONS = ["1 -> 20, 5x5, 28x28", "20 -> 50, 5x5, 12x12", "64 -> 64, 3x3, 32x32", "128 -> 128, 3x3, 16x16"]


@pytest.fixture(autouse=True)
def _never_calibrated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("L0REF_COSTS", str(tmp_path / "none.json"))


# --- what is covered --------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Which works a suite asks for, as (kind, ...), without making their arrays."""
    found: list[tuple[Any, ...]] = []
    empty = Work("", ())

    def product(layer: Any, n: int, density: float, _: Plan, *, blocksize: Any = ENTRIES) -> Work:
        found.append(("product", layer, n, density, blocksize))
        return empty

    def step(layer: Any, density: float, _: Plan) -> Work:
        found.append(("step", layer, density))
        return empty

    def conv(size: Any, density: float, _: Plan) -> Work:
        found.append(("conv", "{} -> {}, {k}x{k}, {h}x{h}".format(*size[2:4], k=size[4], h=size[5]), density))
        return empty

    def net(name: str, model: Any, n: int, _: Plan) -> Work:
        found.append(("net", name, model.size, n))
        return empty

    def tuning(name: str, model: Any, _: Plan) -> Work:
        found.append(("tuning", name, model.size))
        return empty

    for module, name, function in (
        (sparse_products, "work", product), (sparse_step, "work", step), (sparse_conv, "work", conv),
        (sparse_net, "work", net), (sparse_net, "tuning", tuning),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, function)
    return found


NETS = [
    row
    for name, size in (("LeNet-300-100", 266_200), ("LeNet-5", 430_500))
    for row in (*(("net", name, size, n) for n in (1, 16, 128, 1024)), ("tuning", name, size))
]


def test_the_default_run_covers_the_table(asked: list[tuple[Any, ...]]) -> None:
    assert len(list(suites()["sparse"].works(DEFAULT))) == len(asked) == len(set(asked))
    table = [("product", layer, n, d, ENTRIES) for layer in PAIRS for n in (1, 128) for d in (10, 5, 1)]
    table += [("product", (784, 300), 128, d, ENTRIES) for d in ALL]  # the break-even curve
    table += [("product", layer, 1, 5, COLUMN) for layer in ((784, 300), (4096, 4096))]
    table += [("product", layer, 128, d, SQUARE) for layer in ((784, 300), (800, 500)) for d in (10, 5)]
    table += [("step", layer, d) for layer in PAIRS[:3] for d in (10, 5, 1)]
    table += [("conv", size, d) for size in CONVOLUTIONS for d in (10, 5, 1)]
    assert set(table) | set(NETS) <= set(asked)
    assert len(asked) < 90  # minutes, not hours


def test_the_other_suites_cover_everything(asked: list[tuple[Any, ...]]) -> None:
    for name in ("sparse-products", "sparse-step", "sparse-conv", "sparse-net"):
        assert list(suites()[name].works(DEFAULT))
    every = [("product", layer, n, d, ENTRIES) for layer in PAIRS for n in (1, 16, 128, 1024) for d in ALL]
    every += [("product", layer, n, d, b) for layer in PAIRS for n, b in ((1, COLUMN), (128, SQUARE)) for d in ALL]
    every += [("step", layer, d) for layer in PAIRS[:3] for d in ALL]
    every += [("conv", size, d) for size in CONVOLUTIONS for d in ALL]
    assert sorted(asked, key=str) == sorted([*every, *NETS], key=str)


def test_sizes_are_those_of_their_names() -> None:
    work = sparse_products.work((784, 300), 16, 5, DEFAULT)
    assert work.name == "784 x 300, n = 16, density = 5 %"
    p = sparse_products.make((784, 300), 16, density=0.5, blocksize=ENTRIES, seed=0)
    assert (p.w.shape, p.x.shape, np.count_nonzero(p.w)) == ((300, 784), (784, 16), 1176)
    assert sparse_products.work((26, 18), 1, 0.5, DEFAULT, blocksize=COLUMN).name == (
        "26 x 18, 16x1 tiles, n = 1, density = 0.5 %"
    )
    s = sparse_step.make((784, 300), 128, density=10, seed=0)
    assert (s.w.shape, s.x.shape, s.y_bar.shape) == ((300, 784), (128, 784), (128, 300))
    assert np.count_nonzero(s.w) == s.mask.sum() == 23_520
    assert sparse_step.work((26, 18), 5, DEFAULT).name == "step of 26 x 18, batch 128, density = 5 %"
    assert sparse_net.tuning("w", mlp((64, 48, 10), seed=0), DEFAULT).name.endswith(", fit in batches of 128")
    c = sparse_conv.make(sparse_conv.SIZES[1], density=5, seed=0)
    assert (c.x.shape, c.k.shape, c.padding) == ((128, 20, 12, 12), (50, 20, 5, 5), 0)
    assert np.count_nonzero(c.k) == 1250
    assert sparse_conv.SIZES[2:] == (("VGG", 64, 64, 64, 3, 32, 1), ("VGG", 64, 128, 128, 3, 16, 1))


@pytest.mark.parametrize(
    ("blocksize", "density", "tiles"), [(ENTRIES, 50, 234), (ENTRIES, 0.01, 1), (COLUMN, 50, 26), (SQUARE, 20, 7)]
)
def test_masks_keep_whole_tiles_and_exactly_so_many(blocksize: Any, density: float, tiles: int) -> None:
    mask = random_mask((18, 26), density=density, blocksize=blocksize, rng=np.random.default_rng(0))
    pattern = sparse.BlockPattern.from_mask(mask, blocksize=blocksize)
    assert mask.shape == (18, 26)
    assert pattern.tiles.nnz == tiles  # of 468, 2 x 26 and 5 x 7
    np.testing.assert_array_equal(pattern.to_mask(), mask)


def test_seeds_draw_other_products() -> None:
    one, two, same = (sparse_products.make((26, 18), 4, density=20, blocksize=SQUARE, seed=s) for s in (0, 1, 0))
    np.testing.assert_array_equal(one.w, same.w)
    assert not np.array_equal(one.w != 0, two.w != 0)
    assert not np.array_equal(one.x, two.x)


def test_tiles_are_stored_as_tiles() -> None:
    for blocksize, kind in ((ENTRIES, sparse.CSR), (SQUARE, sparse.BCSR), (COLUMN, sparse.BCSR)):
        p = sparse_products.make((26, 18), 4, density=20, blocksize=blocksize, seed=0)
        assert type(p.stored) is kind
        np.testing.assert_array_equal(p.stored.to_dense(), p.w)
        assert getattr(p.stored, "blocksize", ENTRIES) == blocksize
        assert len(p.stored.values) == {ENTRIES: 94, SQUARE: 7, COLUMN: 10}[blocksize]  # 20 % of 468, 35 and 52


# --- cheaters ---------------------------------------------------------------------------------------------------------


def test_a_product_without_one_tile_is_found_out() -> None:
    work = sparse_products.work((26, 18), 16, 20, plan(), blocksize=SQUARE)
    p = sparse_products.make((26, 18), 16, density=20, blocksize=SQUARE, seed=0)
    assert isinstance(p.stored, sparse.BCSR)
    fewer = p.stored.values.copy()
    fewer[3] = 1e-3
    pattern = p.stored.pattern
    cheat = Contender("cheat", lambda _: sparse.spmm(fewer, p.x, pattern=pattern).data, answer=lambda y: {"product": y})
    with pytest.raises(
        Disagreement, match=r"^contender='cheat' of '26 x 18, 4x4 tiles, n = 16, density = 20 %' differs"
    ):
        agreement(replace(work, contenders=[cheat]))


@pytest.mark.parametrize("wrong", ["y", "x_bar", "w_bar"])
def test_a_step_with_a_wrong_part_is_found_out(wrong: str) -> None:
    s = sparse_step.make((26, 18), 8, density=20, seed=0)
    parts = dict(s.truth()) | {wrong: s.truth()[wrong] * 1.001}
    cheat = Contender("cheat", lambda _: None, answer=lambda _: parts)
    with pytest.raises(Disagreement, match=rf"^contender='cheat' of 'w' differs from the truth in '{wrong}'"):
        agreement(Work("w", [cheat], {"": s.truth}, tolerance=sparse_step.work((26, 18), 5, plan()).tolerance))


def test_a_step_that_forgets_the_mask_is_found_out() -> None:
    s = sparse_step.make((26, 18), 8, density=20, seed=0)
    open_step = replace(s, mask=np.ones_like(s.mask))
    cheat = Contender("cheat", lambda _: sparse_step.masked_step(open_step), answer=lambda done: s.answer(*done))
    with pytest.raises(Disagreement, match=r"^contender='cheat' of 'w' differs from the truth in 'w_bar'"):
        agreement(Work("w", [cheat], {"": s.truth}))


def test_a_dense_convolution_does_not_pass_for_a_sparse_one() -> None:
    (work, _) = suites()["sparse-conv"].works(plan())
    c = sparse_conv.make(sparse_conv.TINY[0], density=50, seed=0)
    full = replace(c, k=np.ones_like(c.k))
    cheat = replace(sparse_conv.ours(full), name="cheat")
    with pytest.raises(Disagreement, match=r"^contender='cheat' of 'tiny 2 -> 5, 3x3, 6x6, .* differs .* in 'y'"):
        agreement(replace(work, contenders=[cheat]))


@pytest.mark.parametrize("part", ["evaluate", "evaluate one", "tune"])
def test_another_network_is_found_out(part: str) -> None:
    model = mlp((64, 48, 10), seed=0)
    other = compact(prune(model, amount=0.9, scope="layer")).model
    n = {"evaluate": 16, "evaluate one": 1}.get(part)
    work = sparse_net.work("w", model, n, plan()) if n else sparse_net.tuning("w", model, plan())
    ours = work.contenders[0]
    subject, *rest = ours.run.args  # type: ignore[attr-defined]
    wrong = replace(subject, model=other) if n is None else Single(other) if n == 1 else other
    cheat = replace(ours, run=partial(ours.run.func, wrong, *rest))  # type: ignore[attr-defined]
    agreement(work)
    with pytest.raises(
        Disagreement, match=r"^contender='l0ref' of 'w, 95 % zeros, by bytes, .* differs from the truth"
    ):
        agreement(replace(work, contenders=[cheat]))


# --- units of work ----------------------------------------------------------------------------------------------------


def test_n_units_are_n_products_steps_convolutions_and_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    works = [
        ("stored.times", sparse_products.work((26, 18), 16, 50, plan())),
        ("stored.times", sparse_products.work((26, 18), 1, 50, plan(), blocksize=COLUMN)),
        ("sparse_linear", sparse_step.work((26, 18), 50, plan())),
        ("sparse_conv2d", sparse_conv.work(sparse_conv.TINY[0], 50, plan())),
    ]
    for path, work in works:
        module, _, name = path.rpartition(".")
        home = importlib.import_module(f"l0ref.sparse.{module}") if module else sparse
        counter = Counter(getattr(home, name))
        monkeypatch.setattr(home, name, counter)
        work.contenders[0].run(4)
        assert counter.calls == 4, path
    evaluation = sparse_net.work("w", mlp((64, 48, 10), seed=0), 16, plan())
    logits = Counter(type(prune(mlp((64, 48, 10), seed=0), amount=0.5)).logits)
    monkeypatch.setattr("l0ref.nn.Model.logits", lambda *a, **k: logits(*a, **k))
    for contender in evaluation.contenders:
        logits.calls = 0
        contender.run(4)
        assert logits.calls == 4
    single = Counter(Single.__call__)
    monkeypatch.setattr(Single, "__call__", lambda *a: single(*a))
    one, *rest = sparse_net.work("w", mlp((64, 48, 10), seed=0), 1, plan()).contenders
    logits.calls = 0
    one.run(4)
    assert (single.calls, logits.calls, [c.name for c in rest][:2]) == (4, 0, ["l0ref, logits", "dense, l0ref"])


def test_n_units_of_the_dense_step_are_n_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(ops.linear)
    monkeypatch.setattr(ops, "linear", counter)
    names = [c.name for c in sparse_step.ours(sparse_step.make((26, 18), 8, density=20, seed=0))]
    assert names == [OURS, "dense, l0ref"]
    sparse_step.ours(sparse_step.make((26, 18), 8, density=20, seed=0))[1].run(4)
    assert counter.calls == 4


def test_n_units_of_numpy_are_n_dense_products_and_n_masked_steps() -> None:
    p = sparse_products.make((26, 18), 16, density=20, blocksize=ENTRIES, seed=0)
    (dense,) = sparse_multipliers(p, plan())
    vars(p)["stored"] = None  # so that only the dense weights are there to multiply with
    np.testing.assert_array_equal(dense.run(2), p.w @ p.x)

    class Watched:
        """A step that counts how often its mask is applied."""

        def __init__(self, step: sparse_step.LayerStep) -> None:
            self.step, self.reads = step, 0

        @property
        def mask(self) -> Any:
            self.reads += 1
            return self.step.mask

        def __getattr__(self, name: str) -> Any:
            return getattr(self.step, name)

    watched: Any = Watched(sparse_step.make((26, 18), 8, density=20, seed=0))
    (theirs,) = sparse_steppers(watched, plan())
    theirs.run(4)
    assert watched.reads == 4


# --- peers ------------------------------------------------------------------------------------------------------------


@pytest.mark.crosscheck
@pytest.mark.parametrize(
    ("blocksize", "theirs"), [(ENTRIES, "SciPy CSR"), (SQUARE, "SciPy BSR"), (COLUMN, "SciPy BSR")]
)
def test_peers_of_products_store_what_their_names_say(
    blocksize: Any, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("torch", "scipy"):
        pytest.importorskip(package, reason="needs the extra `bench`")
    import scipy.sparse
    import torch

    stored: list[Any] = []
    for module, name in ((scipy.sparse, "bsr_array"), (scipy.sparse, "csr_array"), (torch, "sparse_csr_tensor")):
        make = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, make=make, **k: stored.append(make(*a, **k)) or stored[-1])
    p = sparse_products.make((26, 18), 16, density=20, blocksize=blocksize, seed=0)
    contenders = sparse_multipliers(p, plan("scipy", "torch"))
    assert [c.name for c in contenders] == ["dense, NumPy", theirs, "torch CSR"]
    assert f"SciPy {stored[0].format.upper()}" == theirs
    assert getattr(stored[0], "blocksize", ENTRIES) == blocksize
    assert stored[0].data.dtype == np.float32
    assert stored[1].layout == torch.sparse_csr
    assert stored[1].crow_indices().dtype == stored[1].col_indices().dtype == torch.int32
    assert stored[1].values().numel() == np.count_nonzero(p.w)
    agreement(Work("w", contenders, {"": p.truth}, tolerance=1e-6))


@pytest.mark.crosscheck
def test_pytorch_takes_the_gradients_and_its_networks_carry_no_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `bench`")
    s = sparse_step.make((26, 18), 8, density=20, seed=0)
    counter = Counter(torch.autograd.grad)
    monkeypatch.setattr(torch.autograd, "grad", counter)
    _, theirs = sparse_steppers(s, plan("torch"))
    theirs.run(3)
    assert (theirs.name, counter.calls) == ("dense, torch", 3)
    twins = sparse_net.make(mlp((64, 48, 10), seed=0), 16, seed=0)
    assert evaluators(twins, plan("scipy")) == []
    hooks: list[tuple[str, int]] = []
    true = torch.nn.Module.__call__

    def call(self: Any, x: Any) -> Any:
        hooks.append((type(self).__name__, len(self._forward_pre_hooks)))
        return true(self, x)

    monkeypatch.setattr(torch.nn.Module, "__call__", call)
    (theirs,) = evaluators(twins, plan("torch"))
    logits = theirs.run(3)
    assert logits.is_inference()
    assert hooks.count(("Sequential", 0)) == 3
    assert not any(number for _, number in hooks)
    agreement(Work("w", [theirs], {"": twins.truth}, tolerance=1e-6))


@pytest.mark.crosscheck
def test_pytorch_convolves_in_both_layouts_and_nobody_slow_does() -> None:
    for package in ("torch", "mygrad"):
        pytest.importorskip(package, reason="needs the extra `bench`")
    work = sparse_conv.work(sparse_conv.TINY[0], 50, plan("torch", "mygrad"))
    assert [c.name for c in work.contenders] == [
        OURS, "dense, l0ref", "dense, torch", "dense, torch, channels_last"
    ]  # fmt: skip


# --- networks ---------------------------------------------------------------------------------------------------------


def line(dense: float, stored: float) -> Line:
    return Line((0.0, dense), (0.0, 0.0, stored))


@pytest.mark.parametrize(("stored", "sparse_layers"), [(1e-12, 2), (1e-6, 0)])
def test_networks_are_compact_as_calibrated(
    stored: float, sparse_layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored weight takes a thousandth of the time of a dense one, or a thousand times as long."""
    monkeypatch.setenv("L0REF_COSTS", str(tmp_path / "costs.json"))
    Costs({"linear": line(1e-9, stored), "conv": line(1e-9, stored)}, lanes=16, error=0.0).save(tmp_path / "costs.json")
    model = mlp((200, 100, 20), seed=0)
    assert len(sparse_net.make(model, 16, seed=0).small.patterns) == sparse_layers
    assert sparse_net.work("w", model, 16, plan()).name == "w, 95 % zeros, calibrated, batch = 16"
    assert sparse_net.tuning("w", model, plan()).name == "w, 95 % zeros, calibrated, fit in batches of 8"


def test_ours_is_the_compact_twin_and_dense_the_masked_one() -> None:
    model = mlp((64, 48, 10), seed=0)
    twins = sparse_net.make(model, 16, seed=0)
    for contenders in (twins.ours(), sparse_net.tuning("w", model, plan()).contenders):
        subjects = [contender.run.args[0] for contender in contenders]  # type: ignore[attr-defined]
        small, masked = (getattr(subject, "model", subject) for subject in subjects)
        assert (len(small.patterns), len(small.masks)) == (2, 0)
        assert (len(masked.patterns), len(masked.masks)) == (0, 2)


def test_costs_are_asked_for_this_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def small(model: Any, *, batch_size: int, **_: Any) -> Any:
        sizes.append(batch_size)
        return compact(model)

    monkeypatch.setattr(sparse_net, "compact", small)
    for n in (1, 128):
        assert len(sparse_net.make(mlp((64, 48, 10), seed=0), n, seed=0).x) == n
    assert sizes == [1, 128]


@pytest.mark.parametrize("make", [lenet_300_100, lenet_5])
def test_networks_lack_95_percent_of_each_layer(make: Any) -> None:
    twins = sparse_net.make(make(seed=0), 1, seed=0)
    for key, mask in twins.masked.masks.items():
        assert mask.sum() == mask.size - math.floor(0.95 * mask.size + 0.5)
        assert np.count_nonzero(twins.masked.params[key]) == mask.sum()
    assert set(twins.small.patterns) == set(twins.masked.weights)
    params = sparse_net.filled(twins.small, twins.masked)
    assert list(params) == list(twins.masked.params)
    for key, p in twins.masked.params.items():
        np.testing.assert_array_equal(params[key], p)


# --- the figure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "found"),
    [
        ([(1, 0.25), (4, 0.5), (16, 2.0)], 8.0),
        ([(1, 0.25), (4, 1.0), (16, 0.5)], 4.0),  # the first crossing counts
        ([(1, 0.5), (100, 8.0)], 100**0.25),
        ([(0.5, 1.0), (1, 0.5)], 0.0),
        ([(0.5, 1.5)], 0.0),
        ([(0.5, 0.9), (50, 0.99)], math.inf),
    ],
)
def test_break_even_by_hand(ratios: Any, found: float) -> None:
    assert break_even(ratios) == pytest.approx(found, rel=1e-12)


def test_ratios_are_to_the_fastest_dense_contender_at_the_same_density() -> None:
    curves = {
        "l0ref": [(1.0, 3.0), (5.0, 8.0), (9.0, 1.0)],
        "dense, a": [(1.0, 6.0), (5.0, 2.0)],
        "dense, b": [(1.0, 4.0), (5.0, 16.0)],
    }
    assert against_dense(curves["l0ref"], curves) == [(1.0, 0.75), (5.0, 4.0)]


def test_verdicts() -> None:
    said = ["never faster than dense", "faster than dense up to 0.7 %", "faster than dense throughout"]
    assert [verdict(d) for d in (0.0, 0.7, math.inf)] == said


def rows(family: str, axis: str = "density", unit: str = " %") -> Iterator[dict[str, Any]]:
    for size in (16, 1, 4):
        for name, seconds in (("l0ref", size / 10), ("SciPy CSR", size / 2), ("dense, NumPy", 0.8 + size / 1000)):
            yield {
                "suite": "sparse", "work": f"{family}{axis} = {size:g}{unit}", "contender": name,
                "median_s": seconds, "iqr_s": 0.0, "rounds": 9,
            }  # fmt: skip


def test_densities_are_curves_of_their_families() -> None:
    bars, curves = panels([*rows("784 x 300, n = 1, "), *rows("conv1, "), *rows("net, ", "batch", "")])
    assert bars == {}
    assert list(curves) == [
        ("sparse: 784 x 300, n = 1", "density"), ("sparse: conv1", "density"), ("sparse: net", "batch")
    ]  # fmt: skip
    assert curves["sparse: conv1", "density"]["l0ref"] == [(1.0, 0.1), (4.0, 0.4), (16.0, 1.6)]
    half = {**next(rows("conv1, ")), "work": "conv1, density = 0.5 %"}
    assert panels([half])[1]["sparse: conv1", "density"]["l0ref"] == [(0.5, 1.6)]


def test_figure_draws_dense_as_a_line_and_marks_break_even() -> None:
    (ax,) = bench_figure(list(rows("conv1, "))).axes
    lines = {line.get_label(): line for line in ax.lines}
    ours = lines["l0ref: faster than dense up to 8.1 %"]
    assert list(zip(ours.get_xdata(), ours.get_ydata(), strict=True)) == [(1.0, 0.1), (4.0, 0.4), (16.0, 1.6)]
    assert "SciPy CSR: faster than dense up to 1.6 %" in lines  # and no cross
    assert list(lines["dense, NumPy"].get_ydata()) == [0.804, 0.804]  # the median of 0.801, 0.804 and 0.816
    (cross,) = (line for line in ax.lines if line.get_marker() == "x")
    low, high = math.log(0.4 / 0.804), math.log(1.6 / 0.816)
    met = 4 * 4 ** (low / (low - high))
    np.testing.assert_allclose(cross.get_xydata(), [[met, met / 10]], rtol=1e-12)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4", "16"]


def test_more_than_two_families_stand_in_pairs() -> None:
    def places(count: int) -> list[tuple[int, int]]:
        made = [row for k in range(count) for row in rows(f"conv{k}, ")]
        bar = {"suite": "s", "work": "w", "contender": "l0ref", "median_s": 1.0, "iqr_s": 0.0, "rounds": 9}
        specs = [ax.get_subplotspec() for ax in bench_figure([bar, *made]).axes]
        assert (specs[0].rowspan.start, len(specs[0].colspan)) == (0, 2 if count > 2 else 1)
        return [(spec.rowspan.start, spec.colspan.start) for spec in specs[1:]]

    assert places(2) == [(1, 0), (2, 0)]
    assert places(3) == [(1, 0), (1, 1), (2, 0)]
    assert places(4) == [(1, 0), (1, 1), (2, 0), (2, 1)]
