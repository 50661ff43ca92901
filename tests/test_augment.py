"""Batch transforms: the warp against loops, what it is a function of, and training with it, interrupted or not."""

from __future__ import annotations

import dataclasses
import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.autodiff.op import backend
from l0ref.data import Dataset
from l0ref.data.augment import AffineElastic, by_name, uniforms, warp
from l0ref.errors import ArgumentError, ShapeError
from l0ref.fast.dense import warp as twin
from l0ref.training import TrainingState, fit, resume
from l0ref.validate import Array
from tests.naive import warp as naive
from tests.test_training_state import summary

PLAIN = AffineElastic(shift=0, rotation=0, scale=0, shear=0, elastic=0)
each_shape = pytest.mark.parametrize("shape", [(3, 2, 7, 9), (2, 1, 8, 8), (1, 1, 1, 6), (2, 3, 5, 1), (0, 1, 4, 4)])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@each_shape
def test_truth_and_twin_are_the_loops(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=shape).astype(dtype)
    affine, field = AffineElastic(shift=3, rotation=40).draws(1, 2, np.arange(shape[0]))
    want, rtol = naive.warp(x.astype(float), affine, field), 8 * float(np.finfo(dtype).eps)
    for found in (
        warp(x, affine, field),
        twin.warp(x, affine, field),
        twin.warp(x[:, :, ::-1][:, :, ::-1], affine, field),
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, want, rtol=0, atol=rtol * 10)


def test_known_maps() -> None:
    """A quarter turn, a shift by whole pixels, and half a pixel between two."""
    x, none = np.arange(9.0).reshape(1, 1, 3, 3), np.zeros((1, 2, 6, 6))
    turn = np.array([[[0.0, 1, 0], [-1, 0, 0]]])
    moved, between = np.array([[[1.0, 0, 1], [0, 1, 0]]]), np.array([[[1.0, 0, 0], [0, 1, 0.5]]])
    for run in (warp, twin.warp):
        assert run(x, turn, none)[0, 0].tolist() == np.rot90(x[0, 0], -3).tolist()
        assert run(x, moved, none)[0, 0].tolist() == [[3, 4, 5], [6, 7, 8], [6, 7, 8]]
        assert run(x, between, none)[0, 0].tolist() == [[0.5, 1.5, 2], [3.5, 4.5, 5], [6.5, 7.5, 8]]


def test_draws_lie_where_they_should() -> None:
    sizes = AffineElastic(shift=1.5, rotation=10, scale=0.08, shear=0.08, elastic=0.5)
    affine, field = sizes.draws(0, 1, np.arange(4000))
    (a, b), (c, d) = affine[:, :, :2].transpose(1, 2, 0)
    assert np.abs(affine[:, :, 2]).max() < 1.5
    assert np.abs(affine[:, :, 2]).max(axis=0).min() > 1.45
    angle, tall = np.rad2deg(np.arctan2(c, a)), np.hypot(a, c)
    assert 9.5 < np.abs(angle).max() < 10
    assert 0.075 < np.abs(tall - 1).max() < 0.08
    wide = (a * d - b * c) / tall  # the determinant is the product of the scales
    assert 0.075 < np.abs(wide - 1).max() < 0.08
    shear = (a * b + c * d) / tall
    assert 0.075 < np.abs(shear).max() < 0.08
    assert abs(np.corrcoef(angle, shear)[0, 1]) < 0.1
    assert field.std() == pytest.approx(0.5, rel=0.01)
    assert abs(field.mean()) < 0.005
    assert ((field / 0.5) ** 4).mean() == pytest.approx(3, rel=0.05)  # normal
    flat = field.reshape(4000, -1)
    assert np.abs(np.corrcoef(flat.T) - np.eye(72)).max() < 0.1


def test_hash_of_numbers_is_even() -> None:
    u = uniforms(np.uint64(7), np.arange(2000), 8)
    assert 0 <= u.min() < 0.001 < 0.999 < u.max() < 1
    assert np.abs(np.histogram(u, 10, (0, 1))[0] / 1600 - 1).max() < 0.15
    assert (uniforms(np.uint64(8), np.arange(2000), 8) != u).all()


def test_a_sample_depends_on_seed_epoch_and_number_alone(rng: np.random.Generator) -> None:
    x, change = rng.normal(size=(6, 1, 5, 5)), AffineElastic()
    whole = change(x, seed=1, epoch=2, index=np.arange(6))
    few = np.array([4, 1])
    np.testing.assert_array_equal(change(x[few], seed=1, epoch=2, index=few), whole[few])
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert (change(x, index=np.arange(6), **other) != whole).any(axis=(1, 2, 3)).all()
    assert (change(x, seed=1, epoch=2, index=np.arange(6, 12)) != whole).any(axis=(1, 2, 3)).all()


def test_without_sizes_and_in_clean_epochs_nothing_changes(rng: np.random.Generator) -> None:
    x, index = rng.normal(size=(3, 1, 6, 6)), np.arange(3)
    np.testing.assert_allclose(PLAIN(x, seed=0, epoch=1, index=index), x, rtol=0, atol=1e-14)
    often = AffineElastic(clean=2)
    changed = [bool((often(x, seed=0, epoch=e, index=index) != x).any()) for e in (1, 2, 3, 4)]
    assert changed == [True, False, True, False]


def test_names_and_options() -> None:
    assert by_name("affine_elastic") == AffineElastic()
    assert by_name("affine_elastic:shift=2,clean=3") == AffineElastic(shift=2, clean=3)
    for text, said in [
        ("warp", "augment='warp' is not one of affine_elastic"),
        ("affine_elastic:turn=1", "has the option 'turn=1'; give numbers for shift, rotation"),
        ("affine_elastic:shift", "has the option 'shift'; give"),
        ("affine_elastic:clean=1.5", "has the option 'clean=1.5'; give"),
        ("affine_elastic:shift=inf", "has the option 'shift=inf', which must be finite"),
        ("affine_elastic:scale=-1", "scale=-1.0 must be 0 or greater"),
    ]:
        with pytest.raises(ArgumentError, match=said):
            by_name(text)
    with pytest.raises(ShapeError, match=r"x has shape \(2, 9\), expected images \(N, C, H, W\) for affine_elastic"):
        AffineElastic()(np.ones((2, 9)), seed=0, epoch=1, index=np.arange(2))


# --- training ---------------------------------------------------------------------------------------------------------

LAYERS = (nn.Flatten("flat"), nn.Linear("fc1", 25, 20), nn.ReLU("r"), nn.Linear("fc2", 20, 3))


def images(seed: int, n: int) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset(rng.normal(size=(n, 1, 5, 5)).astype(np.float32), rng.integers(3, size=n), 3, "noise")


MODEL = nn.Model.init(LAYERS, input_shape=(1, 5, 5), seed=0)
DATA, HELD = images(1, 24), images(2, 20)
OPTIONS: dict[str, Any] = {"epochs": 3, "seed": 5, "batch_size": 7, "validation": HELD, "progress": "none"}


def noted(x: Array, *, seed: int, epoch: int, index: Array) -> Array:
    """What the calls below see."""
    CALLS.append((seed, epoch, index.tolist()))
    np.testing.assert_array_equal(x, DATA.x[index])
    assert not x.flags.writeable
    return x + np.float32(0)


CALLS: list[tuple[int, int, list[int]]] = []


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_every_training_sample_goes_through_once_an_epoch_and_no_other(name: str) -> None:
    CALLS.clear()
    with backend(name):
        same, plain = fit(MODEL, DATA, batch=noted, **OPTIONS), fit(MODEL, DATA, **OPTIONS)
    assert summary(same) == summary(plain)
    assert [(seed, epoch) for seed, epoch, _ in CALLS] == [(5, epoch) for epoch in (1, 2, 3) for _ in range(4)]
    for epoch in range(3):
        assert sorted(n for _, _, index in CALLS[4 * epoch : 4 * epoch + 4] for n in index) == list(range(24))


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_training_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(state: TrainingState) -> None:
        if state.step == 6:
            raise Stop

    change = AffineElastic()
    with backend(name):
        whole = summary(fit(MODEL, DATA, batch=change, after_step=lambda _: None, **OPTIONS))
        with pytest.raises(Stop):
            fit(MODEL, DATA, batch=change, after_step=stop, checkpoint=tmp_path, checkpoint_every=0.0, **OPTIONS)
        rest = {"validation": HELD, "progress": "none", "after_step": lambda _: None}
        with pytest.raises(ArgumentError, match=r"batch=None, but the training began with AffineElastic\(shift=1.5"):
            resume(tmp_path, DATA, **rest)
        with pytest.raises(ArgumentError, match=r"batch=AffineElastic\(shift=2.0, .* began with AffineElastic"):
            resume(tmp_path, DATA, batch=AffineElastic(shift=2), **rest)
        assert summary(resume(tmp_path, DATA, batch=change, **rest)) == whole
        assert summary(fit(MODEL, DATA, after_step=lambda _: None, **OPTIONS)) != whole


def test_what_a_transform_returns_must_be_like_the_samples() -> None:
    for change, said in [
        (
            lambda x, **_: x.astype(float),
            r"batch returned float64 \(7, 1, 5, 5\); return an array like the samples, fl",
        ),
        (lambda x, **_: x[:1], r"batch returned float32 \(1, 1, 5, 5\); return"),
        (lambda *_, **__: None, "batch returned NoneType; return an array"),
    ]:
        with pytest.raises(ArgumentError, match=said):
            fit(MODEL, DATA, batch=change, **OPTIONS)


def test_settings_are_plain_numbers() -> None:
    assert {type(v) for v in dataclasses.asdict(AffineElastic(shift=np.float32(1), clean=np.int64(2))).values()} == {
        float,
        int,
    }  # type: ignore[arg-type]


def test_the_page_runs() -> None:
    found = doctest.testfile(str(Path(__file__).parents[1] / "docs" / "augmentation.md"), module_relative=False)
    assert (found.failed, found.attempted) == (0, found.attempted)
    assert found.attempted > 5
