"""The penalty of a network: layer weights from the literature, values by hand, gradients by differences and by tape."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from l0ref import nn, ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError
from l0ref.penalty import LAYER_WEIGHTS, Penalty, PenaltyTerms, Pull, layer_factors
from l0ref.surrogates import L1, L2, MCP, GemanMcClure, Laplace, Lp

LENET_300 = {"fc1.weight": 235_200, "fc2.weight": 30_000, "fc3.weight": 1_000}
LENET_5 = {"conv1.weight": 500, "conv2.weight": 25_000, "fc1.weight": 400_000, "fc2.weight": 5_000}
KINDS = {key: "conv" if key.startswith("conv") else "linear" for key in (*LENET_300, *LENET_5)}
# The dense layers of the authors' published experiment: 2048 x 256 and 256 x 100.
RESNET_HEAD = {"dense1.weight": 524_288, "dense2.weight": 25_600}


def network(dtype: Any = np.float64, *, seed: int = 0) -> SimpleNamespace:
    """Three layers with weights and biases, away from the kink; what `Penalty` reads of a model."""
    rng = np.random.default_rng(seed)
    shapes = {
        "conv1.weight": (2, 1, 3, 3),
        "conv1.bias": (2,),
        "fc1.weight": (4, 18),
        "fc1.bias": (4,),
        "fc2.weight": (3, 4),
    }
    params = {k: (rng.choice([-1, 1], s) * rng.uniform(0.05, 1.5, s)).astype(dtype) for k, s in shapes.items()}
    kinds = {"conv1.weight": "conv", "fc1.weight": "linear", "fc2.weight": "linear"}
    sizes = {key: params[key].size for key in kinds}
    return SimpleNamespace(params=params, weights=tuple(kinds), kinds=kinds, sizes=sizes)


def by_hand(model: SimpleNamespace, *, alpha: float, beta: float, l2: float) -> float:
    """J - L for the Laplace surrogate and joint sqrt_size weights, one weight at a time."""
    largest = max(model.params[key].size for key in model.weights)
    bill = 0.0
    for key in model.weights:
        for w in model.params[key].ravel().tolist():
            bill += math.sqrt(model.params[key].size / largest) * alpha * (1.0 - math.exp(-beta * abs(w))) + l2 * w * w
    return bill


# --- layer weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "scheme", "groups", "expected"),
    [
        (LENET_300, "sqrt_size", "joint", (1, 0.3571, 0.0652)),
        (LENET_300, "sqrt_size", "kind", (1, 0.3571, 0.0652)),
        (LENET_5, "sqrt_size", "joint", (0.0354, 0.250, 1, 0.1118)),
        (LENET_5, "sqrt_size", "kind", (0.1414, 1, 1, 0.1118)),
        (RESNET_HEAD, "sqrt_size", "joint", (1.000, 0.2210)),
        # Counting weights only; with biases, as its source counts, the same formula gives 0.377, 2.952, 87.99.
        (LENET_300, "inverse_size", "joint", (0.3773, 2.9578, 88.7333)),
        (LENET_5, "inverse_size", "joint", (215.25, 4.305, 0.2691, 21.525)),
        (LENET_5, "inverse_size", "kind", (25.5, 0.51, 0.50625, 40.5)),
        (LENET_5, "none", "joint", (1, 1, 1, 1)),
        (LENET_5, "none", "kind", (1, 1, 1, 1)),
    ],
)
def test_layer_weights_of_known_networks(
    sizes: dict[str, int], scheme: str, groups: str, expected: tuple[float, ...]
) -> None:
    got = layer_factors(sizes, KINDS, layer_weights=scheme, groups=groups)
    assert list(got) == list(sizes)
    np.testing.assert_allclose(list(got.values()), expected, rtol=2e-3 if scheme == "sqrt_size" else 2e-4)


def test_inverse_size_makes_every_layer_equally_dear() -> None:
    got = layer_factors(LENET_5, layer_weights="inverse_size")
    np.testing.assert_allclose([got[k] * n for k, n in LENET_5.items()], sum(LENET_5.values()) / 4, rtol=1e-15)


@pytest.mark.parametrize("scheme", sorted(LAYER_WEIGHTS))
@pytest.mark.parametrize("sizes", [(), (0,), (1,), (0, 0), (0, 7), (1, 1)])
def test_layer_weights_of_tiny_layers(sizes: tuple[int, ...], scheme: str) -> None:
    got = layer_factors({f"fc{i}.weight": n for i, n in enumerate(sizes)}, layer_weights=scheme)
    alone = {"sqrt_size": [0, 1], "inverse_size": [0, 0.5], "none": [1, 1]}[scheme]
    expected = {(0,): alone[:1], (1,): [1], (0, 0): [alone[0]] * 2, (0, 7): alone, (1, 1): [1, 1]}
    assert list(got.values()) == expected.get(sizes, [])


def test_layer_weights_of_models() -> None:
    model = nn.lenet_300_100(seed=0)
    got = Penalty().factors(model)
    np.testing.assert_allclose([got[k] for k in model.weights], (1, 0.3571, 0.0652), rtol=1e-3)
    small = network()
    got = Penalty(groups="kind").factors(small)
    assert got == {"conv1.weight": 1.0, "fc1.weight": 1.0, "fc2.weight": math.sqrt(12 / 72)}
    got = Penalty(layer_weights="inverse_size").factors(small)
    assert got == {"conv1.weight": 102 / 54, "fc1.weight": 102 / 216, "fc2.weight": 102 / 36}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: layer_factors({"a": 1}, groups="kind"),
            r"^kinds=None lacks 'a'; give its kind, or use groups='joint'$",
        ),
        (lambda: layer_factors({"a": 1}, {}, groups="kind"), r"^kinds=\{\} lacks 'a'"),
        (lambda: layer_factors({"a": -1}), r"^sizes\['a'\]=-1 must be at least 0$"),
        (lambda: layer_factors({"a": 1}, layer_weights="sqrt"), r"^layer_weights='sqrt' is not one of .*did you mean"),
        (lambda: layer_factors({"a": 1}, groups="kinds"), r"^groups='kinds' is not one of 'joint', 'kind'; did you"),
        (lambda: Penalty(alpha=-1e-7), r"^alpha=-1e-07 must be 0 or greater$"),
        (lambda: Penalty(alpha=math.nan), r"^alpha=nan must be finite$"),
        (lambda: Penalty(l2=-1.0), r"^l2=-1\.0 must be 0 or greater$"),
        (lambda: Penalty(layer_weights="sqr"), r"^layer_weights='sqr' is not one of"),
        (lambda: Penalty(groups="all"), r"^groups='all' is not one of"),
        (lambda: Penalty(surrogate="laplace"), r"^surrogate='laplace' is not a surrogate; pass one, such as Laplace"),
        (lambda: Penalty().pull({}, strength=-0.5), r"^strength=-0\.5 must be 0 or greater$"),
        (lambda: Penalty().terms({}, {"a": 1.0}), r"^params lacks 'a', which has a layer weight; take"),
        (lambda: Penalty().gradient({}, {"a": 1.0}), r"^params lacks 'a'"),
        (lambda: Penalty().pull({"a": 1.0}).prox({}, {"a": 1.0}), r"^params lacks 'a'"),
    ],
)
def test_penalty_messages(call: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        call()


# --- value ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 1e-6)])
@pytest.mark.parametrize(("alpha", "l2"), [(1e-7, 0.0), (4e-5, 1e-4), (0.0, 1e-4), (0.0, 0.0)])
def test_value_by_hand_and_biases_free(alpha: float, l2: float, dtype: Any, rtol: float) -> None:
    model, penalty = network(dtype), Penalty(Laplace(beta=5.0), alpha=alpha, l2=l2)
    expected = by_hand(model, alpha=alpha, beta=5.0, l2=l2)
    assert penalty.value(model) == pytest.approx(expected, rel=rtol, abs=0)
    model.params["fc1.bias"] = model.params["fc1.bias"] + 100
    assert penalty.value(model) == pytest.approx(expected, rel=rtol, abs=0)


def test_defaults_are_the_papers_surrogate_and_no_penalty() -> None:
    assert Penalty() == Penalty(Laplace(beta=5.0), alpha=0.0, l2=0.0, layer_weights="sqrt_size", groups="joint")
    assert Penalty().value(network()) == 0.0


def test_terms_split_and_l2_not_scaled() -> None:
    model = network()
    penalty = Penalty(Laplace(beta=5.0), alpha=1e-3, l2=1e-2)
    ones, halves = dict.fromkeys(model.weights, 1.0), dict.fromkeys(model.weights, 0.5)
    full, half = penalty.terms(model.params, ones), penalty.terms(model.params, halves)
    for key in model.weights:
        assert half.l0[key] == pytest.approx(full.l0[key] / 2, rel=1e-15, abs=0)
        assert half.l2[key] == full.l2[key] == pytest.approx(1e-2 * (model.params[key] ** 2).sum(), rel=1e-14, abs=0)
    assert full.total == pytest.approx(full.l0_total + full.l2_total, rel=1e-15, abs=0)
    assert full.l0_total == pytest.approx(sum(full.l0.values()), rel=1e-15, abs=0)
    assert full.l2_total == pytest.approx(sum(full.l2.values()), rel=1e-15, abs=0)


def test_float32_weights_are_summed_in_float64(rng: np.random.Generator) -> None:
    w = rng.uniform(0.1, 1.0, 300_001).astype(np.float32)
    penalty = Penalty(Laplace(beta=2.0), alpha=1.0, l2=1.0)
    terms = penalty.terms({"fc1.weight": w}, {"fc1.weight": 1.0})
    assert terms.l0_total == pytest.approx(math.fsum(Laplace(beta=2.0).value(w).tolist()), rel=1e-13, abs=0)
    assert terms.l2_total == pytest.approx(math.fsum(x * x for x in w.tolist()), rel=1e-13, abs=0)


def test_large_beta_counts_and_small_beta_is_l1(rng: np.random.Generator) -> None:
    w = np.where(rng.random(500) < 0.3, 0.0, rng.uniform(0.1, 1.0, 500))
    ones = {"fc1.weight": 1.0}
    count = Penalty(Laplace(beta=1e4), alpha=2.0).terms({"fc1.weight": w}, ones).total
    assert count == 2.0 * np.count_nonzero(w)
    l1 = Penalty(Laplace(beta=1e-9), alpha=1e9).terms({"fc1.weight": w}, ones).total
    assert l1 == pytest.approx(np.abs(w).sum(), rel=1e-8, abs=0)


# --- gradient ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["joint", "kind"])
@pytest.mark.parametrize("scheme", sorted(LAYER_WEIGHTS))
@pytest.mark.parametrize("l2", [0.0, 1e-8])
def test_gradient_by_five_point_differences(l2: float, scheme: str, groups: str) -> None:
    """At the paper's alpha = 1e-7 and beta = 5, entry by entry, relative and with no absolute tolerance."""
    model = network()
    penalty = Penalty(Laplace(beta=5.0), alpha=1e-7, l2=l2, layer_weights=scheme, groups=groups)
    factors = penalty.factors(model)
    got = penalty.gradient(model.params, factors)
    assert list(got) == list(model.weights)
    h = 1e-3
    for key in model.weights:
        for i in range(0, model.params[key].size, 5):

            def term(step: float, key: str = key, i: int = i) -> float:
                w = model.params[key].ravel()[i : i + 1] + step
                return penalty.terms({key: w}, {key: factors[key]}).total

            slope = (term(-2 * h) - 8 * term(-h) + 8 * term(h) - term(2 * h)) / (12 * h)
            assert abs(got[key].ravel()[i] - slope) <= 1e-8 * abs(slope)


@pytest.mark.parametrize("through", ["exp", "surrogate"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradient_is_the_tapes(dtype: Any, through: str) -> None:
    model, alpha, beta, l2 = network(dtype), 1e-7, 5.0, 1e-7
    penalty = Penalty(Laplace(beta=beta), alpha=alpha, l2=l2)
    factors = penalty.factors(model)
    got = penalty.gradient(model.params, factors, strength=0.5)
    for key in model.weights:
        w = Tensor(model.params[key])
        square = w * w
        phi = 1.0 - ops.exp(-beta * abs(w)) if through == "exp" else ops.surrogate(w, Laplace(beta=beta))
        price = np.full(w.shape, 0.5 * factors[key] * alpha, dtype=dtype)
        (slope,) = grad(phi, [w], y_bar=price)
        (shrink,) = grad(square, [w], y_bar=np.full(w.shape, l2, dtype=dtype))
        np.testing.assert_allclose(got[key], slope + shrink, rtol=1e-13 if dtype is np.float64 else 1e-5)
        assert got[key].dtype == dtype


def test_strength_scales_the_l0_term_only() -> None:
    model = network()
    penalty = Penalty(alpha=1e-3, l2=1e-2)
    factors = penalty.factors(model)
    at = {s: penalty.gradient(model.params, factors, strength=s) for s in (0.0, 0.25, 1.0)}
    for key in model.weights:
        np.testing.assert_allclose(at[0.0][key], 2 * 1e-2 * model.params[key], rtol=1e-15)
        np.testing.assert_allclose(at[0.25][key], 0.75 * at[0.0][key] + 0.25 * at[1.0][key], rtol=1e-12)
        assert (np.abs(at[1.0][key] - at[0.0][key]) > 0).all()
        smooth = penalty.pull(factors).smooth().gradient(model.params)
        np.testing.assert_array_equal(smooth[key], at[0.0][key])


@pytest.mark.parametrize(
    "surrogate", [Laplace(beta=5.0), GemanMcClure(beta=5.0), MCP(lam=0.1, gamma=3.0), Lp(p=0.5), L1(), L2()]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradient_is_exactly_zero_at_zero(dtype: Any, surrogate: Any) -> None:
    w = np.array([0.0, -0.0, 0.5, -0.5], dtype=dtype)
    got = Penalty(surrogate, alpha=1e-7, l2=1e-4).gradient({"w": w}, {"w": 1.0})["w"]
    assert got[:2].tolist() == [0.0, 0.0]
    assert got[2] == -got[3] > 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (), (1,), (1, 1, 1, 1)])
def test_penalty_of_tiny_arrays(shape: tuple[int, ...], dtype: Any) -> None:
    w = np.full(shape, 0.5, dtype=dtype)
    before = w.copy()
    penalty = Penalty(alpha=1e-3, l2=1e-2)
    got = penalty.gradient({"w": w}, {"w": 1.0})["w"]
    moved = penalty.pull({"w": 1.0}).prox({"w": w}, {"w": 0.1})["w"]
    assert (got.shape, got.dtype, moved.shape, moved.dtype) == (shape, dtype, shape, dtype)
    each = 1e-3 * (1 - math.exp(-2.5)) + 1e-2 * 0.25
    assert penalty.terms({"w": w}, {"w": 1.0}).total == pytest.approx(w.size * each, rel=1e-6, abs=0)
    np.testing.assert_array_equal(w, before)


# --- prox -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_prox_is_the_surrogates_with_step_times_price(dtype: Any, rng: np.random.Generator) -> None:
    w = rng.normal(0.0, 0.3, (6, 5)).astype(dtype)
    phi = Laplace(beta=5.0)
    pull = Penalty(phi, alpha=0.02, l2=7.0).pull({"w": 0.5}, strength=0.5)
    for step in (2.0, rng.uniform(0.5, 4.0, w.shape).astype(dtype)):
        want = phi.prox(w, step * 0.005)
        assert 0 < np.count_nonzero(want == 0) < w.size
        for name, rtol in (("numpy", 0.0), ("numba", 1e-14 if dtype == np.float64 else 1e-6)):
            with backend(name):
                got = pull.prox({"w": w, "b": w}, {"w": step})
            assert list(got) == ["w"]
            np.testing.assert_array_equal(got["w"] == 0, want == 0)
            np.testing.assert_allclose(got["w"], want, rtol=rtol, atol=0)


@pytest.mark.parametrize(("price", "step"), [(0.0, 1.0), (1.0, 0.0), (1.0, np.zeros(2))])
def test_prox_without_price_or_step_moves_nothing(price: float, step: Any) -> None:
    w = np.array([1e-9, -2.0])
    got = Pull(Laplace(beta=5.0), {"w": price}).prox({"w": w}, {"w": step})["w"]
    np.testing.assert_array_equal(got, w)
    assert not np.shares_memory(got, w)


def test_totals_of_no_layers() -> None:
    assert PenaltyTerms({}, {}).total == 0.0
    assert Penalty(alpha=1.0).value(SimpleNamespace(params={}, weights=(), kinds={}, sizes={})) == 0.0
