"""A teacher's loss: its formula on the tape and on the chain, what is refused, and what training makes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref import distillation, nn, ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset
from l0ref.distillation import Soft, Teacher
from l0ref.errors import ArgumentError
from l0ref.fast.chain import gates
from l0ref.training import fit, steps
from l0ref.validate import Array
from tests.test_ops import assert_close

SHAPE = (1, 4, 4)
LAYERS = (nn.Flatten("flat"), nn.Linear("fc1", 16, 20), nn.ReLU("r"), nn.Linear("fc2", 20, 3))


def model(seed: int = 0, dtype: Any = np.float64) -> nn.Model:
    return nn.Model.init(LAYERS, input_shape=SHAPE, seed=seed, dtype=dtype)


def samples(rng: np.random.Generator, *, n: int = 30, dtype: Any = np.float64) -> Dataset:
    return Dataset(rng.normal(size=(n, *SHAPE)).astype(dtype), rng.integers(3, size=n), 3, "noise")


def hinton(z: Array, t: Array, y: Array, *, temperature: float, weight: float) -> float:
    """(1 - L) CE + L T^2 KL in loops, a mean over samples."""

    def log_softmax(row: list[float]) -> list[float]:
        log_sum = math.log(math.fsum(math.exp(v) for v in row))
        return [v - log_sum for v in row]

    total = []
    for own, theirs, label in zip(z.tolist(), t.tolist(), y.tolist(), strict=True):
        log_p, log_q = (log_softmax([v / temperature for v in row]) for row in (own, theirs))
        divergence = math.fsum(math.exp(b) * (b - a) for a, b in zip(log_p, log_q, strict=True))
        total.append(-(1 - weight) * log_softmax(own)[label] + weight * temperature**2 * divergence)
    return math.fsum(total) / len(total)


MIXES = [(1.0, 1.0), (2.0, 0.5), (3.0, 0.9), (0.5, 0.25), (4.0, 0.0)]


@pytest.mark.parametrize(("temperature", "weight"), MIXES)
def test_loss_is_hintons_and_its_slope_the_differences(
    temperature: float, weight: float, rng: np.random.Generator
) -> None:
    teacher, data = Teacher(model(1), temperature, weight), samples(rng, n=5)
    t, z = teacher.model.logits(data.x), rng.normal(size=(5, 3))
    soft = teacher.soft(data.x)
    assert (soft.temperature, soft.weight) == (temperature, weight)

    def loss(z: Array) -> Tensor:
        return soft.mixed(ops.cross_entropy(at := Tensor(z), data.y), at)

    want = hinton(z, t, data.y, temperature=temperature, weight=weight)
    assert float(loss(z)) == pytest.approx(want, rel=1e-12)
    at = Tensor(z)
    slope = grad(soft.mixed(ops.cross_entropy(at, data.y), at), [at])[0]
    step, found = 1e-4, np.empty_like(z)
    for i in np.ndindex(*z.shape):
        sides = []
        for sign in (1, -1):
            moved = z.copy()
            moved[i] += sign * step
            sides.append(hinton(moved, t, data.y, temperature=temperature, weight=weight))
        found[i] = (sides[0] - sides[1]) / (2 * step)
    assert np.abs(slope).max() > 0.01
    np.testing.assert_allclose(slope, found, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("temperature", "weight"), MIXES)
def test_blocks_of_the_chain_mix_the_same(
    temperature: float, weight: float, dtype: Any, rng: np.random.Generator
) -> None:
    """6 samples in blocks of 4 lanes; one class of the teacher has probability 0, one of the student as well."""
    rows, target = rng.normal(size=(8, 3)).astype(dtype), rng.integers(3, size=6)
    q = rng.dirichlet(np.ones(3), size=6).astype(dtype)
    q[0], rows[0, 1], target[0] = [0.25, 0, 0.75], -np.inf, 0
    z = np.ascontiguousarray(rows.reshape(2, 4, 3).swapaxes(1, 2))
    bar, losses = np.zeros_like(z), np.full(8, np.nan)
    gates.cross_entropy_blocks(z, target, 0.1 if weight else 0.0, bar, losses)
    if np.isinf(losses[0]):  # smoothing asks for the impossible class
        losses[0], bar[0, :, 0] = 0, 0
    hard, hard_bar = losses.copy(), bar.swapaxes(1, 2).reshape(8, 3).copy()
    gates.soften_blocks(z, q, temperature, weight, bar, losses)
    for n in range(6):
        own = rows[n].astype(float) / temperature
        log_z = math.log(math.fsum(np.exp(own - own.max()))) + own.max()
        pairs = list(zip(own - log_z, q[n].astype(float), strict=True))
        divergence = math.fsum(b * (math.log(b) - a) for a, b in pairs if b)
        eps = 20 * float(np.finfo(dtype).eps)
        assert losses[n] == pytest.approx((1 - weight) * hard[n] + weight * temperature**2 * divergence, abs=eps * 20)
        slopes = [
            (1 - weight) * h + weight * temperature * (math.exp(a) - b) / 6
            for h, (a, b) in zip(hard_bar[n], pairs, strict=True)
        ]
        np.testing.assert_allclose(bar[n // 4, :, n % 4], slopes, rtol=0, atol=eps)
    assert np.isnan(losses[6:]).all()
    assert not bar[1, :, 2:].any()


@pytest.mark.parametrize("with_batch", [False, True])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_fit_descends_this_loss(name: str, with_batch: bool, rng: np.random.Generator) -> None:
    """The history's loss of the first step is the formula's, for the samples as the network sees them."""
    data, start = samples(rng), model()
    teacher = Teacher(model(1), temperature=2.5, weight=0.7)
    doubled: dict[str, Any] = {"batch": lambda x, **_: 2 * x} if with_batch else {}
    with backend(name):
        found, history = fit(start, data, epochs=1, seed=0, batch_size=30, teacher=teacher, progress="none", **doubled)
    x = 2 * data.x if with_batch else data.x
    want = hinton(start.logits(x), teacher.model.logits(x), data.y, temperature=2.5, weight=0.7)
    assert history.rows[0]["loss_data"] == pytest.approx(want, rel=1e-12)
    assert all((found.params[k] != w).any() for k, w in start.params.items())


def test_chain_and_tape_train_alike(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    data, teacher = samples(rng), Teacher(model(1))
    made: list[str] = []
    choose = steps.steps_for

    def noted(*args: Any, **options: Any) -> Any:
        found = choose(*args, **options)
        made.append(type(found).__name__)
        return found

    monkeypatch.setattr("l0ref.training.loop.steps_for", noted)
    fitted = []
    for name in ("numba", "numpy"):
        with backend(name):
            options: dict[str, Any] = {"seed": 0, "batch_size": 7, "label_smoothing": 0.1, "progress": "none"}
            fitted.append(fit(model(), data, epochs=3, teacher=teacher, **options)[0])
    assert made == ["ChainSteps", "TapeSteps"]
    for key, w in fitted[1].params.items():
        assert_close(fitted[0].params[key], w, 1e-9, key)


def test_weight_0_changes_no_bit_and_weight_1_ignores_the_labels(rng: np.random.Generator) -> None:
    data = samples(rng)
    options: dict[str, Any] = {"epochs": 2, "seed": 0, "batch_size": 8, "progress": "none"}
    plain = fit(model(), data, **options)[0]
    same = fit(model(), data, teacher=Teacher(model(1), weight=0.0), **options)[0]
    other = Dataset(data.x, (data.y + 1) % 3, 3, "wrong labels")
    taught = [fit(model(), each, teacher=Teacher(model(1), weight=1.0), **options)[0] for each in (data, other)]
    for key, w in plain.params.items():
        np.testing.assert_array_equal(same.params[key], w)
        np.testing.assert_array_equal(taught[0].params[key], taught[1].params[key])
        assert (taught[0].params[key] != w).any()


def test_a_teacher_of_another_dtype_is_asked_in_its_own(rng: np.random.Generator) -> None:
    data = samples(rng, dtype=np.float32)
    soft = Teacher(model(1)).soft(data.x)
    assert soft.q.dtype == np.float32
    np.testing.assert_allclose(soft.q.sum(axis=1), 1, rtol=1e-6)
    assert isinstance(soft, Soft)


def test_what_is_refused(rng: np.random.Generator) -> None:
    data, options = samples(rng), {"epochs": 1, "seed": 0, "progress": "none"}
    regression = Dataset(data.x, rng.normal(size=(30, 3)), 0, "values")
    four = Dataset(data.x, data.y, 4, "four")
    student = nn.Model.init((nn.Flatten("f"), nn.Linear("fc", 16, 4)), input_shape=SHAPE, seed=0, dtype=np.float64)
    flat = nn.mlp((16, 3), seed=0, dtype=np.float64)
    for call, said in [
        (lambda: fit(student, four, teacher=Teacher(model()), **options), r"outputs of shape \(3,\), 'four' has 4 cl"),
        (lambda: fit(model(), regression, teacher=Teacher(model()), **options), "'values' has targets of a regression"),
        (lambda: fit(model(), data, teacher=Teacher(flat), **options), r"teacher's input has shape \(30, 1, 4, 4\)"),
        (lambda: fit(model(), data, teacher=model(), **options), "teacher is Model, expected an instance of"),
        (lambda: Teacher(model(), temperature=0.0), "temperature=0.0 must be greater than 0"),
        (lambda: Teacher(model(), weight=1.5), r"teacher_weight=1.5 must lie in \[0, 1\]"),
        (lambda: Teacher("run"), "teacher has the model str, expected an l0ref Model"),  # type: ignore[arg-type]
    ]:
        with pytest.raises((ArgumentError, ValueError), match=said):
            call()  # type: ignore[no-untyped-call]


def test_a_teacher_is_told_apart_by_its_arrays() -> None:
    assert repr(Teacher(model())) == repr(Teacher(model()))
    assert len({repr(Teacher(*args)) for args in [(model(),), (model(1),), (model(), 3.0), (model(), 2.0, 0.1)]}) == 4


def shaken(x: Array, *, seed: int, epoch: int, index: Array) -> Array:
    """Samples with noise of their own: the transform of the tests below."""
    rngs = [np.random.default_rng([seed, epoch, int(i)]) for i in index]
    return x + np.stack([rng.normal(size=x.shape[1:]) for rng in rngs]).astype(x.dtype)


@pytest.mark.parametrize("backend_name", ["numpy", "numba"])
def test_a_control_does_not_wait_for_the_teacher_again(
    backend_name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, asked = samples(rng), []
    soft = Teacher.soft
    monkeypatch.setattr(Teacher, "soft", lambda self, x: asked.append(len(x)) or soft(self, x))
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "batch": shaken, "progress": "none"}

    def trained(teacher: Teacher, start: int, seed: int = 5, first: int = 1) -> nn.Model:
        with backend(backend_name):
            return fit(model(start), data, teacher=teacher, seed=seed, first_epoch=first, **options)[0]

    teacher = Teacher(model(9))
    one, other = trained(teacher, 0), trained(teacher, 1)
    assert sum(asked) == 3 * len(data)
    for found, start in ((one, 0), (other, 1)):  # as from a teacher that has not heard the question before
        for key, w in trained(Teacher(model(9)), start).params.items():
            np.testing.assert_array_equal(found.params[key], w)
    asked.clear()
    trained(teacher, 0, first=3)  # epoch 3 is known, 4 and 5 are not
    assert sum(asked) == 2 * len(data)
    asked.clear()
    trained(teacher, 0, seed=6)
    trained(teacher, 0, seed=5)  # which has been forgotten
    assert sum(asked) == 6 * len(data)


def test_a_teacher_keeps_no_more_answers_than_fit(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    data, teacher = samples(rng), Teacher(model(9))
    monkeypatch.setattr(distillation, "MEMORY", 2 * len(data) * 3 * 8)
    fit(model(), data, epochs=3, seed=0, batch=shaken, teacher=teacher, progress="none")
    assert sorted(teacher.answers.epochs) == [1, 2]
    other = Dataset(data.x, data.y, 3, "the same samples as another data set")
    fit(model(), other, epochs=1, seed=0, batch=shaken, teacher=teacher, progress="none")
    assert sorted(teacher.answers.epochs) == [1]
