"""Networks prepared for single samples, `l0ref.deploy.single`, against their outputs in float64 on plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref import compact, nn, prune
from l0ref.autodiff.op import backend
from l0ref.deploy import single
from l0ref.deploy.compact import sparse_twin
from l0ref.deploy.single import Single
from l0ref.errors import DTypeError, ShapeError
from l0ref.nn import Dropout, Flatten, Linear, Model, ReLU, Tanh

pytestmark = pytest.mark.kernels

FLAT = (Flatten("f"), Linear("a", 24, 30), ReLU("r"), Dropout("d", 0.5), Linear("b", 30, 7, bias=False), ReLU("s"))
MIXED = (ReLU("first"), Linear("a", 24, 30), ReLU("r"), Linear("b", 30, 1))
NETS = {
    "flat": (FLAT, (1, 4, 6)),
    "begins with a ReLU": (MIXED, (24,)),
    "tanh": ((Linear("a", 24, 30), Tanh("t"), Linear("b", 30, 3)), (24,)),
}


def net(name: str, dtype: Any, rng: np.random.Generator, form: str) -> Model:
    layers, shape = NETS[name]
    model = Model.init(layers, input_shape=shape, seed=0, dtype=dtype)
    model = model.replace(params={k: rng.normal(size=w.shape).astype(dtype) for k, w in model.params.items()})
    if form == "dense":
        return model
    pruned = prune(model, amount=0.8)
    return sparse_twin(pruned) if form == "sparse" else sparse_twin(pruned, only=["a.weight"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["dense", "sparse", "mixed"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kernels", ["numba", "numpy"])
def test_single_gives_the_outputs(name: str, form: str, kernels: str, dtype: Any, rng: np.random.Generator) -> None:
    model = net(name, dtype, rng, form)
    with backend("numpy"):
        exact = model.astype(np.float64)
        x = rng.normal(size=(3, *model.input_shape)).astype(dtype)
        want = exact.logits(x.astype(np.float64))
    with backend(kernels):
        outputs = Single(model)
        assert bool(outputs.steps) == (name != "tanh")
        for sample, row in zip(x, want, strict=True):
            before = sample.copy()
            found = outputs(sample)
            assert (found.shape, found.dtype) == (row.shape, dtype)
            np.testing.assert_allclose(found, row, rtol=0, atol=(2e-4 if dtype is np.float32 else 1e-12))
            np.testing.assert_array_equal(sample, before)
            kept = found.copy()
            outputs(-sample)
            np.testing.assert_array_equal(found, kept)  # fresh
        strided = np.moveaxis(np.stack([x[0]] * 2, axis=-1), -1, 0)[1]  # with gaps
        np.testing.assert_allclose(outputs(strided), outputs(x[0]), rtol=0, atol=1e-5)


def test_later_writes_have_no_effect(rng: np.random.Generator) -> None:
    model, x = net("flat", np.float32, rng, "mixed"), np.ones((1, 4, 6), np.float32)
    outputs = Single(model)
    before = outputs(x)
    for w in model.params.values():
        w.flags.writeable = True
        w[...] = 0
    np.testing.assert_array_equal(outputs(x), before)


def test_what_is_evaluated_as_by_logits(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Single(nn.lenet_5(seed=0)).steps == ()
    model = net("flat", np.float32, rng, "sparse")
    values = model.params["a.weight"].copy()
    values[0], values[1] = 0, np.inf  # a stored zero is left out, what is not finite is not
    broken = model.replace(params={**model.params, "a.weight": values})
    assert Single(broken).steps == ()
    x = np.ones((1, 4, 6), np.float32)
    np.testing.assert_array_equal(Single(broken)(x), broken.logits(x[None])[0])
    monkeypatch.setattr(single, "LARGEST", 24 * 30 - 1)
    assert Single(net("flat", np.float32, rng, "dense")).steps == ()


def test_samples_that_do_not_fit_are_refused() -> None:
    outputs = Single(compact(prune(nn.mlp((6, 5, 2), seed=0), amount=0.5)).model)
    with pytest.raises(ShapeError, match=r"x has shape \(1, 5\)"):
        outputs(np.zeros(5, np.float32))
    with pytest.raises(DTypeError, match=r"float64"):
        outputs(np.zeros(6))
