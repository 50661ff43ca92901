"""The suites of `l0ref bench`: everybody computes the same thing, cheaters are found, the limits are what they say."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from l0ref import ops
from l0ref.bench.agreement import Disagreement, agreement
from l0ref.bench.peers import PEERS, choose_peers, installed
from l0ref.bench.plan import make_plan
from l0ref.bench.suites import suites
from l0ref.bench.suites.conv import convolvers, forward_and_backward, make, truth
from l0ref.bench.suites.conv import ours as our_convolver
from l0ref.bench.suites.imports import Process
from l0ref.bench.suites.limits import multipliers
from l0ref.bench.suites.optimizer import RULES, Step
from l0ref.bench.suites.training import Products, ours, train
from l0ref.bench.training import PENALISED, PENALTY, PLAIN, TOLERANCE, Training
from l0ref.bench.work import OURS, Contender, Plan, Work, repeated
from l0ref.data import batches
from l0ref.errors import ArgumentError
from l0ref.nn import Tanh, lenet_5, lenet_300_100, mlp
from l0ref.optim import Adam, Elementwise
from l0ref.penalty import Penalty
from l0ref.training import fit
from tests.house_files import ROOT


def plan(*peers: str, **changes: Any) -> Plan:
    return Plan(suites=(), rounds=1, threads=1, peers=peers, quick=True, **changes)


NAMES = (
    "batch-many", "batch-one", "checkpoint", "conv", "epoch", "import", "layerwise", "limits", "optimizer", "scaling",
    "sparse", "sparse-conv", "sparse-net", "sparse-pivot", "sparse-products", "sparse-step", "train-cnn", "train-mlp",
    "train-norm",
)  # fmt: skip
SPARSE = {name for name in NAMES if name.startswith(("sparse", "batch"))}


def test_every_file_of_the_folder_lists_its_suites() -> None:
    found = suites()
    assert tuple(found) == NAMES
    assert [suite.name for suite in found.values()] == list(NAMES)
    files = {path.stem for path in (ROOT / "l0ref" / "bench" / "suites").glob("*.py")} - {"__init__"}
    listed = [importlib.import_module(f"l0ref.bench.suites.{name}").SUITES for name in files]
    assert all(listed)
    assert sum(map(len, listed)) == len(NAMES)


# --- everybody agrees -------------------------------------------------------------------------------------------------


QUICK = ("import", "optimizer", "sparse-net", "train-mlp")  # the others compile kernels for seconds


@pytest.mark.kernels
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NAMES])
def test_our_contender_agrees_with_the_truth(name: str) -> None:
    works = list(suites()[name].works(plan("limits")))
    assert len({work.name for work in works}) == len(works)
    for work in works:
        names = [contender.name for contender in work.contenders]
        assert len(set(names)) == len(names)
        assert (names[0] == OURS) == (name != "limits")
        assert all(0 <= error <= work.tolerance for error in agreement(work).values())


PEER_CASES = [(name, peer) for name in NAMES for peer in ("torch", "autograd", "mygrad", "scipy")]
TAKE_PART = {
    "torch": {"conv", "epoch", "limits", "optimizer", "scaling", "train-cnn", "train-mlp", "train-norm"} | SPARSE,
    "autograd": {"train-mlp"},
    "mygrad": {"conv", "train-cnn", "train-mlp"},
    "scipy": {"batch-many", "batch-one", "limits", "sparse", "sparse-pivot", "sparse-products"},
}


@pytest.mark.crosscheck
@pytest.mark.parametrize(("name", "peer"), [case for case in PEER_CASES if case[0] in TAKE_PART[case[1]]])
def test_peers_agree_with_the_truth(name: str, peer: str) -> None:
    pytest.importorskip(PEERS[peer].package, reason="needs the extra `bench`")
    alone = {(work.name, c.name) for work in suites()[name].works(plan()) for c in work.contenders}
    more = 0
    for work in suites()[name].works(plan(peer)):
        others = [c for c in work.contenders if (work.name, c.name) not in alone]
        more += len(others)
        agreement(replace(work, contenders=others))
        assert all(contender.answer is not None for contender in others)
    assert more > 0


@pytest.mark.crosscheck
@pytest.mark.parametrize(("name", "peer"), [case for case in PEER_CASES if case[0] not in TAKE_PART[case[1]]])
def test_others_take_no_part(name: str, peer: str) -> None:
    if name == "import":
        named = [c.name for work in suites()[name].works(plan(peer)) for c in work.contenders if c.name == peer]
        assert len(named) == {"torch": 2, "autograd": 1, "mygrad": 1, "scipy": 0}[peer]
        return
    pytest.importorskip(PEERS[peer].package, reason="needs the extra `bench`")
    names = [[c.name for work in suites()[name].works(plan(*p)) for c in work.contenders] for p in ((), (peer,))]
    assert names[0] == names[1]


@pytest.mark.crosscheck
def test_compiled_pytorch_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `bench`")
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f) or f)  # compiling takes half a minute
    (work,) = suites()["train-mlp"].works(plan("compile"))
    assert [c.name for c in work.contenders][1:] == [
        "torch.compile, fused Adam",
        "torch.compile, fused Adam, no penalty",
    ]
    agreement(work)
    assert len(compiled) == 2


@pytest.mark.crosscheck
def test_pytorch_takes_part_in_every_way() -> None:
    pytest.importorskip("torch", reason="needs the extra `bench`")
    (work,) = suites()["train-cnn"].works(plan("torch"))
    ways = ["torch, Adam", "torch, fused Adam", "torch, fused Adam, channels_last"]
    assert [c.name for c in work.contenders] == [OURS, *ways, *(f"{way}, no penalty" for way in ways)]
    assert [c.problem for c in work.contenders] == [PENALISED] * 4 + [PLAIN] * 3
    names = [c.name for work in suites()["epoch"].works(plan("torch")) for c in work.contenders]
    assert not any("no penalty" in name for name in names)


@pytest.mark.crosscheck
def test_pytorch_variants_are_what_their_names_say() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `bench`")
    (work,) = suites()["train-cnn"].works(plan("torch"))
    for contender in work.contenders[1:]:
        trainer = contender.run.__self__  # type: ignore[attr-defined]
        seen: list[bool] = []
        conv2 = trainer.net.get_submodule("conv2")
        conv2.register_forward_pre_hook(
            lambda _, xs, seen=seen: seen.append(xs[0].is_contiguous(memory_format=torch.channels_last))
        )
        contender.reset()
        contender.run(2)
        assert trainer.optimizer.defaults["fused"] == ("fused" in contender.name)
        assert seen == ["channels_last" in contender.name] * 2
        assert conv2.weight.is_contiguous(memory_format=torch.channels_last) == seen[0]


@pytest.mark.crosscheck
@pytest.mark.parametrize("backward", [False, True])
def test_layouts_of_pytorch_are_what_their_names_say(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `bench`")
    true, seen = torch.nn.functional.conv2d, []

    def conv2d(*tensors: Any, **options: Any) -> Any:
        seen.append([t.is_contiguous(memory_format=torch.channels_last) for t in tensors[:2]])
        return true(*tensors, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    for contender in convolvers(make(2, 3, 4, 3, 6, padding=1, seed=0), plan("torch"), backward=backward):
        contender.run(1)
    assert seen == [[False, False], [True, True]]


@pytest.mark.crosscheck
def test_a_second_run_begins_where_the_first_began() -> None:
    for peer in ("torch", "autograd", "mygrad"):
        pytest.importorskip(PEERS[peer].package, reason="needs the extra `bench`")
    for name in ("train-mlp", "optimizer"):
        for work in suites()[name].works(plan("torch", "autograd", "mygrad")):
            first, second = agreement(work), agreement(work)
            assert first.keys() == second.keys()
            assert max(second.values()) <= work.tolerance


# --- cheaters ---------------------------------------------------------------------------------------------------------


def small(samples: int = 8 * 16) -> Training:
    return Training(mlp((784, 30, 10), seed=0, input_shape=(1, 28, 28)), 16, samples)


def rejected(task: Training, cheat: Callable[[int], Any], steps: int = 8) -> str:
    cheater = Contender("cheat", cheat, answer=task.fitted, problem=PENALISED)
    work = Work("w", [cheater], task.expected(steps), tolerance=TOLERANCE, check_units=steps)
    with pytest.raises(Disagreement, match=r"^contender='cheat' of 'w' differs from the truth") as caught:
        agreement(work)
    return str(caught.value)


def fit_with(task: Training, steps: int, **changes: Any) -> Any:
    options = {
        "epochs": 1, "seed": task.seed, "batch_size": task.batch_size, "optimizer": Adam(lr=task.lr),
        "penalty": PENALTY, "progress": "none",
    }  # fmt: skip
    return fit(task.model, task.data(steps), **{**options, **changes})


CHEATS: dict[str, Callable[[Training, int], Any]] = {
    "no penalty": partial(fit_with, penalty=Penalty()),
    "no l0 term": partial(fit_with, penalty=replace(PENALTY, alpha=0.0)),
    "no l2 term": partial(fit_with, penalty=replace(PENALTY, l2=0.0)),
    "no layer weights": partial(fit_with, penalty=replace(PENALTY, layer_weights="none")),
    "half the l2 term": partial(fit_with, penalty=replace(PENALTY, l2=PENALTY.l2 / 2)),
    "another order": partial(fit_with, seed=1),
    "another learning rate": partial(fit_with, optimizer=Adam(lr=1.1e-3)),
    "no momentum": partial(fit_with, optimizer=Adam(betas=(0.0, 0.999))),
    "double batches": partial(fit_with, batch_size=32),
    "half the data": lambda task, steps: fit_with(task, steps // 2),
    "one step less": lambda task, steps: fit_with(task, steps - 1),
}


@pytest.mark.parametrize("name", CHEATS)
def test_training_something_else_is_found_out(name: str) -> None:
    task = small()
    agreement(Work("w", [ours(task)], task.expected(8), check_units=8))
    assert "more than the 0.05 allowed" in rejected(task, partial(CHEATS[name], task))


@pytest.mark.crosscheck
@pytest.mark.parametrize("way", ["torch, Adam", "torch, fused Adam"])
def test_pytorch_without_penalty_does_not_pass_for_penalised(way: str) -> None:
    pytest.importorskip("torch", reason="needs the extra `bench`")
    (work,) = suites()["train-mlp"].works(plan("torch"))
    (plain,) = (c for c in work.contenders if c.name == f"{way}, no penalty")
    with pytest.raises(Disagreement, match=rf"^contender='{way}, no penalty' .* differs from the truth"):
        agreement(replace(work, contenders=[replace(plain, problem=PENALISED)]))


@pytest.mark.parametrize("name", [name for name, (_, penalty) in RULES.items() if penalty.alpha])
@pytest.mark.parametrize("term", ["alpha", "l2"])
def test_an_optimiser_without_a_term_is_found_out(name: str, term: str) -> None:
    works = [w for w in suites()["optimizer"].works(plan()) if w.name.startswith(name)]
    (work,) = works
    optimizer, penalty = RULES[name]
    step: Step = work.contenders[0].run.__self__  # type: ignore[attr-defined]
    cheat = replace(step, optimizer=optimizer, penalty=replace(penalty, **{term: 0.0}))
    with pytest.raises(Disagreement, match="differs from the truth"):
        agreement(replace(work, contenders=[Contender("cheat", cheat.run, answer=cheat.moved)]))


def test_a_gradient_left_out_is_found_out() -> None:
    c = make(2, 3, 4, 3, 6, padding=1, seed=0)
    y, bars = forward_and_backward(c)
    expected = {"": lambda: truth(c, backward=True)}
    lazy = Contender("lazy", lambda _: None, answer=lambda _: c.answer(y, bars[1:]))
    with pytest.raises(Disagreement, match=r"^contender='lazy' of 'w' lacks 'b_bar' among its answers"):
        agreement(Work("w", [lazy], expected))
    wrong = Contender("wrong", lambda _: None, answer=lambda _: c.answer(y, [bars[0], -bars[1], bars[2]]))
    with pytest.raises(Disagreement, match=r"^contender='wrong' of 'w' differs from the truth in 'k_bar' by 2 "):
        agreement(Work("w", [wrong], expected))


# --- units and rates --------------------------------------------------------------------------------------------------


class Counter:
    """A function that counts how often it is called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return self.function(*args, **options)


def test_n_units_are_n_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(ops.conv2d)
    monkeypatch.setattr(ops, "conv2d", counter)
    c = make(1, 2, 3, 3, 5, padding=1, seed=0)
    for backward in (False, True):
        counter.calls = 0
        our_convolver(c, backward=backward).run(4)
        assert counter.calls == 4


@pytest.mark.crosscheck
@pytest.mark.parametrize(
    ("peer", "where", "name"),
    [("torch", "torch.nn.functional", "conv2d"), ("mygrad", "mygrad.nnet.layers", "conv_nd")],
)
def test_n_units_of_a_peer_are_n_convolutions(
    peer: str, where: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(peer, reason="needs the extra `bench`")
    module = importlib.import_module(where)
    counter = Counter(getattr(module, name))
    monkeypatch.setattr(module, name, counter)
    c = make(1, 2, 3, 3, 5, padding=1, seed=0)
    for backward in (False, True):
        for contender in convolvers(c, plan(peer), backward=backward):
            counter.calls = 0
            contender.run(4)
            assert counter.calls == 4


def test_n_units_are_n_products() -> None:
    counter = Counter(lambda: 7)
    assert repeated(counter)(5) == 7
    assert counter.calls == 5


def test_rates_of_convolutions_by_hand() -> None:
    (first, second) = (w for w in suites()["conv"].works(plan()) if "64 -> 64" in w.name)
    one = 2 * (4 * 64 * 32 * 32) * (64 * 3 * 3)  # outputs, and the window each is made of
    assert (first.rate, second.rate) == ((one, "GF/s"), (3 * one, "GF/s"))
    (first, second) = (w for w in suites()["conv"].works(plan()) if "1 -> 20" in w.name)
    one = 2 * (4 * 20 * 24 * 24) * (1 * 5 * 5)
    assert (first.rate, second.rate) == ((one, "GF/s"), (2 * one, "GF/s"))  # no gradient of the images


def test_rates_of_the_limits_by_hand() -> None:
    product, triad = suites()["limits"].works(plan())
    assert product.rate == (2 * 64**3, "GF/s")
    assert triad.rate == (3 * 4 * 4096, "GB/s")


def test_an_epoch_is_all_of_its_steps() -> None:
    for work in suites()["epoch"].works(plan()):
        assert (work.units, work.turn, work.per) == (8, math.inf, (8, "epoch"))  # 1,000 images in batches of 128


def test_a_process_that_fails_is_an_error() -> None:
    Process("pass").run(2)
    with pytest.raises(subprocess.CalledProcessError, match=r"returned non-zero exit status 3"):
        Process("raise SystemExit(3)").run(1)


# --- what is shared ---------------------------------------------------------------------------------------------------


def test_order_is_that_of_fit() -> None:
    task = small(samples=70)
    taken = list(batches(task.data(5), batch_size=16, seed=task.seed, epoch=1))
    orders = task.order(5)
    assert [len(rows) for rows in orders] == [16, 16, 16, 16, 6]
    for rows, (x, y) in zip(orders, taken, strict=True):
        np.testing.assert_array_equal(task.data(5).x[rows], x)
        np.testing.assert_array_equal(task.data(5).y[rows], y)
    assert sorted(np.concatenate(orders)) == list(range(70))


def test_data_of_fewer_steps_are_the_first_images() -> None:
    task = small()
    few, many = task.data(2), task.data(8)
    assert (len(few), len(many), len(task.data(100))) == (32, 128, 128)
    np.testing.assert_array_equal(few.x, many.x[:32])
    np.testing.assert_array_equal(few.y, many.y[:32])
    assert task.data(2) is few
    assert many.x.dtype == np.float32


def test_what_is_timed_is_one_fit_of_that_many_steps() -> None:
    task = small()
    model, history = train(task, 3)
    direct, _ = fit_with(task, 3)
    assert len(history) == 1
    for key in model.params:
        np.testing.assert_array_equal(model.params[key], direct.params[key])


def test_seed_changes_weights_and_images() -> None:
    tasks = [Training(mlp((784, 3, 10), seed=s, input_shape=(1, 28, 28)), 4, 8, seed=s) for s in (0, 1)]
    assert not np.array_equal(tasks[0].data(2).x, tasks[1].data(2).x)
    assert [int(row) for row in tasks[0].order(2)[0]] != [int(row) for row in tasks[1].order(2)[0]]


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch", "flops"),
    [
        # two products in the first layer, three in the others
        (lenet_300_100(seed=0), 128, 2 * 128 * (2 * 784 * 300 + 3 * 300 * 100 + 3 * 100 * 10)),
        (lenet_5(seed=0), 8, 2 * 8 * (2 * 576 * 500 + 3 * 64 * 25000 + 3 * 400_000 + 3 * 5000)),
    ],
)
def test_flops_of_the_products_alone(model: Any, batch: int, flops: int) -> None:
    assert Products(model, batch, seed=0).flops == flops


def test_products_alone_are_really_computed() -> None:
    products = Products(lenet_5(seed=0), 2, seed=0)
    products.run(1)
    assert [w.shape for w, *_ in products.layers] == [(20, 25), (50, 500), (500, 800), (10, 500)]
    assert [x.shape[0] for _, x, *_ in products.layers] == [2 * 576, 2 * 64, 2, 2]
    for i, (w, x, y_bar, y, w_bar, x_bar) in enumerate(products.layers):
        np.testing.assert_allclose(y, np.einsum("nc,oc->no", x, w), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(w_bar, np.einsum("no,nc->oc", y_bar, x), rtol=1e-3, atol=1e-3)
        assert (x_bar is None) == (i == 0)
        if x_bar is not None:
            np.testing.assert_allclose(x_bar, np.einsum("no,oc->nc", y_bar, w), rtol=1e-4, atol=1e-4)


@pytest.mark.crosscheck
def test_matrix_products_of_rectangles_agree() -> None:
    for package in ("torch", "scipy"):
        pytest.importorskip(package, reason="needs the extra `bench`")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 5), dtype=np.float32), rng.standard_normal((5, 4), dtype=np.float32)
    contenders = multipliers(a, b, plan("torch", "scipy"))
    assert [c.name for c in contenders] == ["NumPy", "torch", "SciPy"]
    work = Work("w", contenders, {"": lambda: {"product": a.astype(np.float64) @ b}}, tolerance=1e-6)
    assert agreement(work)[""] <= 1e-6


@pytest.mark.crosscheck
def test_what_is_not_translated_says_where_to_add_it() -> None:
    for package in ("torch", "mygrad"):
        pytest.importorskip(package, reason="needs the extra `bench`")
    from l0ref.bench.suites.optimizer import torch_steppers
    from l0ref.bench.training_numpy import apply

    with pytest.raises(ArgumentError, match=r"^layer=Tanh\(.*\) is not translated to MyGrad; add it to l0ref\.bench"):
        apply(Tanh("tanh1"), np.ones((1, 2)), {})

    class Other(Elementwise):
        def __repr__(self) -> str:
            return "Other()"

        lr = 1.0
        slot_names = ()

        def update(self, w: Any, g: Any, slots: Any, *, lr: float, t: int) -> Any:
            raise AssertionError

        def reach(self, lr: float) -> float:
            raise AssertionError

    model = mlp((3, 2), seed=0)
    step = Step(model, model.params, Other(), Penalty())
    with pytest.raises(ArgumentError, match=r"^optimizer=Other\(\) is not translated to PyTorch; add it to l0ref\.ben"):
        torch_steppers(step, plan("torch"))


# --- peers and plans --------------------------------------------------------------------------------------------------


def test_peers_are_those_installed_but_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mygrad" else object())
    assert choose_peers(None) == ("torch", "autograd", "scipy", "abess", "limits")
    assert choose_peers("none") == ()
    assert choose_peers("limits, compile,limits") == ("limits", "compile")
    assert not installed("mygrad")
    with pytest.raises(
        ArgumentError, match=r"^--peers='torch,mygrad' asks for 'mygrad', whose package 'mygrad' is not"
    ):
        choose_peers("torch,mygrad")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("trch", r"^--peers='trch' is not one of 'torch', .*, 'none'; did you mean 'torch'\?$"),
        ("", r"^--peers='' is not one of "),
        ("none,limits", r"^--peers='none,limits' asks for none and for others; leave one of them out$"),
    ],
)
def test_wrong_peers(asked: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        choose_peers(asked)


def test_plan_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, threads in (([3], 1), ([0, 1], 2), (list(range(64)), 2)):
        monkeypatch.setattr("l0ref.bench.plan.processors", lambda cpus=cpus: cpus)
        found = make_plan(["conv", "train-mlp", "conv"], peers="none")
        assert found == Plan(("conv", "train-mlp"), 9, threads, (), quick=False, seed=0)
    assert make_plan(["conv"], rounds=3, threads=64, peers="limits", quick=True, seed=7) == Plan(
        ("conv",), 3, 64, ("limits",), quick=True, seed=7
    )


def test_plan_goes_through_json() -> None:
    found = make_plan(["conv", "epoch"], rounds=3, threads=1, peers="limits", quick=True, seed=7)
    assert Plan.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (
            [],
            {},
            r"^SUITE is missing; name one or more of batch-many, batch-one, checkpoint, conv, epoch, ",
        ),
        (["trian-mlp"], {}, r"^SUITE='trian-mlp' is not one of 'batch-many', .*; did you mean 'train-mlp'\?$"),
        (["conv"], {"rounds": 0}, r"^--rounds=0 must be at least 1$"),
        (["conv"], {"threads": 0}, r"^--threads=0 must be at least 1$"),
        (
            ["conv"],
            {"threads": 4096},
            r"^--threads=4096 is more than the \d+ processors of this process; ask for fewer$",
        ),
        (["conv"], {"seed": -1}, r"^--seed=-1 must be at least 0$"),
    ],
)
def test_wrong_plans(names: list[str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make_plan(names, **options)


def test_the_package_loads_without_the_other_libraries() -> None:
    code = """
import importlib, pkgutil, sys
for name in ("torch", "autograd", "mygrad", "scipy", "matplotlib"):
    sys.modules[name] = None
import l0ref.bench
for found in pkgutil.walk_packages(l0ref.bench.__path__, "l0ref.bench."):
    importlib.import_module(found.name)
from l0ref.bench.suites import suites
print(len(suites()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(NAMES)}\n"
