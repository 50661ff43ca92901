"""Repairs of a pruned layer: what each one minimises, and how they rank."""

from __future__ import annotations

import numpy as np
import pytest

from l0ref.errors import ArgumentError
from l0ref.layerwise import Quadratic
from l0ref.layerwise.repair import REPAIRS, repair
from tests.test_layerwise import instance


def layer_and_support(rng):
    """A layer asked for its own answers, a support, and the trained weights."""
    X, _ = instance(rng, n=40, m=3)
    V = rng.standard_normal((3, 8))
    return Quadratic.from_samples(X, X @ V.T + 1.0, weights=V), rng.random((3, 8)) < 0.6, V


@pytest.mark.parametrize("how", REPAIRS)
def test_only_survivors_have_weights(how, rng):
    layer, support, _ = layer_and_support(rng)
    support[1] = False
    w = repair(layer, support, how=how)
    assert not w[~support].any()
    assert w[support].any()
    everything = repair(layer, np.ones((3, 8), bool), how=how)
    np.testing.assert_allclose(everything, layer.widen(layer.trained), rtol=1e-8)


def test_obs_is_least_squares_for_the_layers_own_answers(rng):
    layer, support, _ = layer_and_support(rng)
    np.testing.assert_allclose(repair(layer, support, how="obs"), repair(layer, support), rtol=1e-8, atol=1e-10)


def test_scale_and_factors_are_minima_by_differences(rng):
    layer, support, V = layer_and_support(rng)
    w = repair(layer, support, how="bias_and_scale")
    for f in (0.99, 1.01):
        assert (layer.objective(f * w) > layer.objective(w)).all()
    w = repair(layer, support, how="reweighting")
    assert (w * V >= 0).all()
    for i, j in np.argwhere(support):
        for step in (-1e-3, 1e-3):
            moved = w.copy()
            moved[i, j] += step
            if moved[i, j] * V[i, j] >= 0:
                assert layer.objective(moved)[i] > layer.objective(w)[i] - 1e-9 * layer.energy[i]


def test_repairs_rank_as_their_freedom(rng):
    layer, support, _ = layer_and_support(rng)
    f = {how: layer.objective(repair(layer, support, how=how)).sum() for how in REPAIRS}
    assert f["least_squares"] < f["reweighting"] < f["bias_and_scale"] < f["none"]


def test_unknown_repair(rng):
    layer, support, _ = layer_and_support(rng)
    with pytest.raises(ArgumentError, match=r"^how='lsq' is not one of 'none', 'least_squares', 'obs'"):
        repair(layer, support, how="lsq")
