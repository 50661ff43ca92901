"""Schedules against numbers written out, PyTorch's schedulers, and a state machine for the plateau rule."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref.errors import ArgumentError
from l0ref.masks import keep_mask
from l0ref.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    LinearWarmup,
    LogLinearKept,
    OneCycle,
    PolynomialSparsity,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    by_name,
)

# One of each, with what it is at step 0 and at the last step, steps.
CASES = {
    "Constant": (Constant(), 1.0, 1.0),
    "StepDecay": (StepDecay(every=4, factor=0.5), 1.0, 0.5**5),
    "Cosine": (Cosine(final=0.1), 1.0, 0.1),
    "OneCycle": (OneCycle(warm=0.25, start=0.1, final=0.05), 0.1, 0.05),
    "ReduceOnPlateau": (ReduceOnPlateau(), 1.0, 1.0),
    "LinearWarmup": (LinearWarmup(fraction=0.3), 0.0, 1.0),
    "PolynomialSparsity": (PolynomialSparsity(initial=0.1, final=0.9), 0.1, 0.9),
    "LogLinearKept": (LogLinearKept(initial=0.1, final=0.99), 0.1, 0.99),
}


def values(schedule, steps, history=()):
    return [schedule(step, steps=steps, history=history) for step in range(steps + 1)]


def test_every_schedule_has_a_case():
    ours = [name for name, cls in SCHEDULES.items() if cls.__module__.startswith("l0ref.")]
    assert sorted(CASES) == sorted(ours)
    assert all(SCHEDULES[name] is type(case[0]) for name, case in CASES.items())


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("steps", [20, 21, 1000])
def test_ends_are_exact_and_hold_beyond(name, steps):
    schedule, first, last = CASES[name]
    assert schedule(0, steps=steps) == first
    if steps == 20 or name != "StepDecay":
        assert schedule(steps, steps=steps) == last
        assert schedule(steps + 7, steps=steps) == last
    assert all(0.0 <= v <= 1.0 and type(v) is float for v in values(schedule, steps))


@pytest.mark.parametrize("name", sorted(CASES))
def test_run_of_one_step(name):
    schedule, first, _ = CASES[name]
    assert schedule(0, steps=1) == first
    assert math.isfinite(schedule(1, steps=1))


@pytest.mark.parametrize("name", sorted(CASES))
def test_same_arguments_same_value_in_any_order(name, rng):
    schedule = CASES[name][0]
    straight = values(schedule, 50)
    for step in rng.permutation(51):
        assert schedule(np.int64(step), steps=np.int64(50)) == straight[step]
    assert schedule == dataclasses.replace(schedule)
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"cannot assign"):
        schedule.new = 1


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize(
    ("step", "steps", "said"),
    [
        (-1, 5, r"^step=-1 must be at least 0"),
        (0.5, 5, r"^step=0.5 must be a whole number"),
        (0, 0, r"^steps=0 must be at least 1"),
        (0, 5.0, r"^steps=5.0 must be a whole number"),
    ],
)
def test_step_messages(name, step, steps, said):
    with pytest.raises(ArgumentError, match=said):
        CASES[name][0](step, steps=steps)


def test_values_by_hand():
    np.testing.assert_allclose(
        values(Cosine(final=0.2), 4), [1, 0.88284271247461903, 0.6, 0.31715728752538097, 0.2], rtol=1e-15
    )
    np.testing.assert_allclose(values(LinearWarmup(fraction=0.5), 8), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1], rtol=1e-15)
    np.testing.assert_allclose(
        values(OneCycle(warm=0.5, start=0.2, final=0.0), 8),
        [0.2, 0.2 + 0.8 * 0.14644660940672624, 0.6, 0.2 + 0.8 * 0.85355339059327376, 1, 0.85355339059327376, 0.5,
         0.14644660940672624, 0],
        rtol=1e-15,
    )  # fmt: skip
    assert values(LinearWarmup(fraction=0.0), 3) == [1, 1, 1, 1]
    assert values(OneCycle(warm=0.0, final=0.1), 9) == values(Cosine(final=0.1), 9)
    assert values(OneCycle(warm=1.0, start=0.0), 2) == pytest.approx([0, 0.5, 1], rel=1e-15)
    assert values(Constant(), 2) == [1, 1, 1]


@pytest.mark.parametrize("fraction", [0.01 * k for k in range(1, 100)])
def test_warmup_ends_on_its_step(fraction):
    step = round(100 * fraction)
    ramp = values(LinearWarmup(fraction=fraction), 100)
    assert ramp[step] == pytest.approx(1.0, rel=1e-15)
    assert ramp[step - 1] == pytest.approx((step - 1) / step, rel=1e-13)
    assert ramp[step + 1] == 1.0


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 30, 100, 7])
@pytest.mark.parametrize("every", [0.07, 0.1, 0.25, 1 / 3, 0.5, 0.77, 1.0])
def test_step_decay_drops_where_it_says(steps, every):
    falls = [max(math.floor(k * every * steps + 0.5), 1) for k in range(1, 200)]
    want = [0.5 ** sum(fall <= step for fall in falls) for step in range(steps + 1)]
    assert values(StepDecay(every=every, factor=0.5), steps) == want


def test_step_decay_in_steps():
    assert values(StepDecay(every=3, factor=0.5), 7) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert values(StepDecay(every=1, factor=1.0), 2) == [1, 1, 1]
    assert values(StepDecay(every=5e-324), 3) == values(StepDecay(every=1e-300), 3) == [1, 0, 0, 0]
    assert values(StepDecay(every=5e-324, factor=1), 3) == [1, 1, 1, 1]
    assert StepDecay() == StepDecay(every=1 / 3, factor=0.1)


# The plateau rule as a machine that is fed one value at a time, as Keras documents it.
class Machine:
    def __init__(self, patience, factor, minimum, mode, min_delta):
        self.options = patience, factor, minimum, mode, min_delta
        self.best, self.wait, self.value = None, 0, 1.0

    def feed(self, value):
        patience, factor, minimum, mode, min_delta = self.options
        if self.best is None or (value > self.best + min_delta if mode == "max" else value < self.best - min_delta):
            self.best, self.wait = value, 0
        else:
            self.wait += 1
            if self.wait >= patience:
                self.value, self.wait = max(self.value * factor, minimum), 0
        return self.value


HISTORY = st.lists(st.integers(0, 8).map(lambda k: k / 8), max_size=40)


@given(
    HISTORY,
    st.integers(1, 4),
    st.sampled_from(["min", "max"]),
    st.sampled_from([0.0, 0.125, 0.3]),
    st.sampled_from([0, 0.2]),
)
def test_plateau_equals_the_machine(history, patience, mode, min_delta, minimum):
    schedule = ReduceOnPlateau(patience=patience, factor=0.5, minimum=minimum, mode=mode, min_delta=min_delta)
    machine = Machine(patience, 0.5, minimum, mode, min_delta)
    assert schedule(0, steps=9) == 1.0
    for epoch, value in enumerate(history):
        assert schedule(epoch, steps=9, history=history[: epoch + 1]) == machine.feed(value)


def test_plateau_defaults_are_those_of_experiment_5():
    schedule = ReduceOnPlateau()
    assert (schedule.patience, schedule.factor, schedule.mode) == (8, 0.5, "max")
    assert 1e-3 * schedule.minimum == 1e-6
    flat = [0.5] * 9
    assert schedule(0, steps=1, history=flat[:8]) == 1.0
    assert schedule(0, steps=1, history=flat) == 0.5
    assert schedule(0, steps=1, history=[*flat, 0.6]) == 0.5  # a reduction is not taken back
    assert schedule(0, steps=1, history=[0.5] * 1000) == 1e-3
    assert schedule(0, steps=1, history=[0.5 + 0.9e-4 * (k % 2) for k in range(9)]) == 0.5  # within min_delta


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_plateau_refuses_what_diverged(bad):
    with pytest.raises(ArgumentError, match=r"^history\[1\]=(nan|inf) must be finite; stop the run where it diverged"):
        ReduceOnPlateau()(3, steps=9, history=[0.5, bad])


def test_polynomial_sparsity_by_hand():
    schedule = PolynomialSparsity(initial=0.2, final=0.9, begin=2, end=6)
    u = np.array([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1])
    np.testing.assert_allclose(values(schedule, 8), 0.9 - 0.7 * (1 - u) ** 3, rtol=1e-15)
    held = dataclasses.replace(schedule, frequency=2, power=1.0)
    np.testing.assert_allclose(values(held, 8), [0.2, 0.2, 0.2, 0.2, 0.55, 0.55, 0.9, 0.9, 0.9], rtol=1e-15)
    uneven = dataclasses.replace(held, frequency=3)  # pruned at 2, at 5 and, to finish, at 6
    np.testing.assert_allclose(values(uneven, 8), [0.2] * 5 + [0.2 + 0.7 * 0.75, 0.9, 0.9, 0.9], rtol=1e-15)
    assert values(PolynomialSparsity(final=1.0, begin=0.5, end=0.5), 4) == [0, 0, 1, 1, 1]
    assert values(dataclasses.replace(held, frequency=0.001), 8) == values(dataclasses.replace(held, frequency=1), 8)
    whole = PolynomialSparsity(initial=0.0, final=0.5, power=2.0)
    np.testing.assert_allclose(values(whole, 2), [0.0, 0.375, 0.5], rtol=1e-15)


def test_log_linear_kept_by_hand():
    schedule = LogLinearKept(final=0.99, begin=0.0, end=1.0, power=1.0)
    kept = 1 - np.array(values(schedule, 4))
    np.testing.assert_allclose(kept, [1.0, 10**-0.5, 0.1, 10**-1.5, 0.01], rtol=1e-13)
    u = np.minimum(np.arange(11) / 8, 1.0)
    kept = 1 - np.array(values(LogLinearKept(initial=0.5, final=0.98), 10))
    np.testing.assert_allclose(np.log(kept), np.log(0.02) + np.log(25.0) * (1 - u) ** 1.5, rtol=1e-12)
    assert values(LogLinearKept(initial=0.3, final=0.3), 5) == [0.3] * 6


TIMES = st.one_of(st.integers(0, 60), st.floats(0.0, 1.0))


@given(
    cls=st.sampled_from([PolynomialSparsity, LogLinearKept]),
    ends=st.tuples(st.floats(0.0, 0.999), st.floats(0.0, 0.999)).map(sorted),
    begin=TIMES,
    end=TIMES,
    frequency=st.one_of(st.integers(1, 30), st.floats(0.001, 1.0)),
    power=st.floats(0.1, 6.0),
)
def test_sparsity_never_falls(cls, ends, begin, end, frequency, power):
    steps = 50
    first, last = (t if isinstance(t, int) else math.floor(t * steps + 0.5) for t in (begin, end))
    options = {"initial": ends[0], "final": ends[1], "begin": begin, "end": end, "frequency": frequency, "power": power}
    if first > last or (type(begin) is type(end) and begin > end):
        with pytest.raises(ArgumentError, match=r"^begin=.* is later than end="):
            values(cls(**options), steps)
        return
    path = values(cls(**options), steps)
    assert all(a <= b + 1e-15 for a, b in itertools.pairwise(path))
    assert all(v == ends[0] for v in path[: first + 1] if first < last)
    assert all(v == ends[1] for v in path[last:])
    every = frequency if isinstance(frequency, int) else max(math.floor(frequency * steps + 0.5), 1)
    changes = {k for k in range(1, steps + 1) if path[k] != path[k - 1]}
    assert changes <= {*range(first, last, every), last}


def test_sparsity_goes_straight_into_keep_mask(rng):
    schedule, scores, masks = LogLinearKept(final=0.98), {"a": rng.normal(size=1000)}, None
    for step in range(51):
        masks = keep_mask(scores, amount=schedule(step, steps=50), current=masks)
    assert int(masks["a"].sum()) == 20
    assert {name for name, cls in SCHEDULES.items() if cls.gives == "sparsity"} == {
        "PolynomialSparsity",
        "LogLinearKept",
    }
    assert {cls.gives for cls in SCHEDULES.values()} == {"factor", "sparsity"}


BAD = {
    StepDecay: [
        ({"every": 0}, r"^every=0 must be greater than 0"),
        ({"every": 0.0}, r"^every=0.0 must be greater than 0"),
        ({"every": 1.5}, r"^every=1.5 must lie in \[0, 1\]"),
        ({"every": True}, r"^every=True must be a whole number"),
        ({"factor": 0.0}, r"^factor=0.0 must be greater than 0"),
        ({"factor": 1.1}, r"^factor=1.1 must lie in \[0, 1\]"),
    ],
    Cosine: [({"final": -0.1}, r"^final=-0.1 must lie"), ({"final": 1.5}, r"^final=1.5 must lie")],
    OneCycle: [
        ({"warm": 1.1}, r"^warm=1.1 must lie"),
        ({"start": -1}, r"^start=-1 must lie"),
        ({"final": 2}, r"^final=2 must lie"),
    ],
    LinearWarmup: [({"fraction": 3}, r"^fraction=3 must lie in \[0, 1\]")],
    ReduceOnPlateau: [
        ({"patience": 0}, r"^patience=0 must be at least 1"),
        ({"factor": 1.0}, r"^factor=1.0 must be below 1"),
        ({"factor": 0.0}, r"^factor=0.0 must be greater than 0"),
        ({"minimum": -1.0}, r"^minimum=-1.0 must lie"),
        ({"mode": "mix"}, r"^mode='mix' is not one of 'min', 'max'; did you mean"),
        ({"min_delta": -1e-3}, r"^min_delta=-0.001 must be 0 or greater"),
    ],
    PolynomialSparsity: [
        ({"initial": -0.1}, r"^initial=-0.1 must lie"),
        ({"final": 1.1}, r"^final=1.1 must lie"),
        ({"initial": 0.6, "final": 0.5}, r"^final=0.5 is below initial=0.6; pruned stays pruned"),
        ({"power": 0.0}, r"^power=0.0 must be greater than 0"),
        ({"frequency": 0}, r"^frequency=0 must be greater than 0"),
        ({"begin": -1}, r"^begin=-1 must be at least 0"),
        ({"end": 1.01}, r"^end=1.01 must lie"),
        ({"begin": 0.6, "end": 0.5}, r"^begin=0.6 is later than end=0.5; pruning ends after it begins"),
        ({"begin": 6, "end": 5}, r"^begin=6 is later than end=5"),
    ],
    LogLinearKept: [({"final": 1.0}, r"^final=1.0 must be below 1"), ({"final": 1.2}, r"^final=1.2 must lie")],
}


@pytest.mark.parametrize(("cls", "options", "said"), [(c, *row) for c, rows in BAD.items() for row in rows])
def test_option_messages(cls, options, said):
    with pytest.raises(ArgumentError, match=said):
        cls(**options)


def test_mixed_times_that_cross_are_found_when_called():
    schedule = PolynomialSparsity(begin=30, end=0.5)
    assert schedule(0, steps=60) == 0.0
    with pytest.raises(ArgumentError, match=r"^begin=30 is later than end=0.5 in a run of steps=50"):
        schedule(0, steps=50)


@pytest.mark.parametrize("name", sorted(CASES))
def test_by_name_rebuilds_a_schedule_from_json(name):
    schedule = CASES[name][0]
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name)[1:]
    options = json.loads(json.dumps(dataclasses.asdict(schedule)))
    assert by_name(snake, **options) == schedule


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cosin", {}, r"^name='cosin' is not one of 'constant', 'step_decay', .*; did you mean 'cosine'\?"),
        ("Cosine", {}, r"^name='Cosine' is not one of"),
        ("cosine", {"finale": 0.1}, r"^finale=0.1 is not an option of schedule 'cosine', which has: final$"),
        ("constant", {"final": 0.1}, r"^final=0.1 is not an option of schedule 'constant', which has: none$"),
        ("cosine", {"final": 7.0}, r"^final=7.0 must lie in \[0, 1\]"),
    ],
)
def test_by_name_messages(name, options, said):
    with pytest.raises(ArgumentError, match=said):
        by_name(name, **options)


def test_schedule_name_is_taken_once():
    with pytest.raises(TypeError, match=r"^schedule 'Cosine' is already registered by l0ref.schedules.rate"):
        type("Cosine", (Schedule,), {})
    assert SCHEDULES["Cosine"] is Cosine


def test_schedule_without_a_rule_says_so():
    with pytest.raises(NotImplementedError, match=r"^Schedule must define __call__$"):
        Schedule()(0, steps=1)


def torch_path(make, count):
    """The learning rates PyTorch's scheduler gives for `count` steps, base 1."""
    torch = pytest.importorskip("torch", reason="the crosscheck extra is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler, path = make(torch.optim.lr_scheduler, optimizer), []
    for _ in range(count):
        path.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return path


TORCH = {
    "cosine": (Cosine(final=0.05), lambda s, o: s.CosineAnnealingLR(o, T_max=40, eta_min=0.05)),
    "step": (StepDecay(every=7, factor=0.3), lambda s, o: s.StepLR(o, step_size=7, gamma=0.3)),
    # PyTorch's rise ends at step 0.3 * total - 1 and its fall at total - 1 = 40
    "cycle": (OneCycle(warm=(0.3 * 41 - 1) / 40), lambda s, o: s.OneCycleLR(o, max_lr=1.0, total_steps=41)),
    "warm": (LinearWarmup(fraction=0.25), lambda s, o: s.LambdaLR(o, lambda k: min(k / 10, 1.0))),
}


@pytest.mark.crosscheck
@pytest.mark.parametrize("name", TORCH)
def test_factor_equals_torch(name):
    schedule, make = TORCH[name]
    path = torch_path(make, 40)
    np.testing.assert_allclose(values(schedule, 40)[:40], path, rtol=1e-12)


@pytest.mark.crosscheck
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_equals_torch(mode, rng):
    torch = pytest.importorskip("torch", reason="the crosscheck extra is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    options = {"mode": mode, "factor": 0.5, "min_lr": 0.01, "threshold": 1e-4, "threshold_mode": "abs", "eps": 0.0}
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, **options)  # acts after patience + 1
    history = (rng.integers(0, 50, 60) / 50).tolist()
    ours = ReduceOnPlateau(patience=3, minimum=0.01, mode=mode)
    for epoch, value in enumerate(history):
        scheduler.step(value)
        got = ours(0, steps=1, history=history[: epoch + 1])
        assert got == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert got < 0.5
