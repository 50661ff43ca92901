"""Penalties with planted mistakes, alone and together: each is named, and the right one passes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from l0ref import Penalty, nn, prune, surrogates
from l0ref.interop.torch import compare, to_torch

torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
pytestmark = pytest.mark.crosscheck

ALPHA, BETA, L2 = 1e-3, 5.0, 2e-3
PENALTY = Penalty(alpha=ALPHA, l2=L2)
LAYERS = (
    nn.Conv2d("conv", 1, 3, 3),
    nn.BatchNorm2d("norm", 3),
    nn.ReLU("relu"),
    nn.Flatten("flatten"),
    nn.Linear("fc1", 48, 7),
    nn.Tanh("tanh"),
    nn.Linear("fc2", 7, 4),
)
MODEL = nn.Model.init(LAYERS, input_shape=(1, 6, 6), seed=2)
C = {"conv.weight": (27 / 336) ** 0.5, "fc1.weight": 1.0, "fc2.weight": (28 / 336) ** 0.5}  # sqrt(n / n_max)
SIZE = {"conv.weight": 27, "fc1.weight": 336, "fc2.weight": 28}
BATCH = 3


def laplace(w):
    return 1 - torch.exp(-BETA * w.abs())


def square(w, _):
    return L2 * w.square().sum()


def l0_sum(s, key):
    return ALPHA * C.get(key, 1.0) * s.sum()


def written(phi=laplace, l0=l0_sum, l2=square, which=C.__contains__):
    """Somebody's penalty, in four parts that can each be wrong."""

    def penalty_fn(module):
        pairs = [(key, p) for key, p in module.named_parameters() if which(key)]
        return sum(l0(phi(p), key) + l2(p, key) for key, p in pairs)

    return penalty_fn


def found(penalty_fn, *, penalty=PENALTY, model=MODEL, module=None, **options):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((BATCH, 1, 6, 6)), rng.integers(0, 4, BATCH)
    module = to_torch(model) if module is None else module
    return compare(model, module, x, y, penalty=penalty, penalty_fn=penalty_fn, steps=1, **options)


def every(_):
    return True


def weights_and(*ends):
    return lambda key: key in C or key.endswith(ends)


MISTAKES = {  # what is written, the stage where it shows first, what is said
    "half of l2": (written(l2=lambda w, _: 0.5 * L2 * w.square().sum()), "penalty",
                   ["the l2 term carries a factor 0.5: its gradient is l2 w, expected 2 l2 w"]),
    "double l2": (written(l2=lambda w, _: 2 * L2 * w.square().sum()), "penalty",
                  ["the l2 term is 2 times the expected one"]),
    "no l2": (written(l2=lambda _w, _: 0.0), "penalty", ["the l2 term is missing, or has no gradient"]),
    "l2 scaled": (written(l2=lambda w, k: C[k] * L2 * w.square().sum()), "penalty",
                  ["the l2 term is scaled by the layer weights"]),
    "l2 mean": (written(l2=lambda w, _: L2 * w.square().mean()), "penalty", ["the l2 term is a mean over each layer"]),
    "l2 norm": (written(l2=lambda w, _: L2 * w.norm()), "penalty", ["the l2 term is the norm of each layer, not its"]),
    "l2 norm of all": (
        lambda m: written(l2=lambda _w, _: 0.0)(m)
        + L2 * sum(p.square().sum() for k, p in m.named_parameters() if k in C).sqrt(),
        "penalty", ["the l2 term is the norm of all weights, not its square"],
    ),
    "biases": (written(which=weights_and("fc1.bias", "fc2.bias", "conv.bias")), "penalty, moved weights",
               ["biases are penalised as well, by the l0 term and l2 term: conv.bias, fc1.bias, fc2.bias; sum over"]),
    "biases, l2 only": (
        lambda m: written()(m) + L2 * m.fc2.bias.square().sum(), "penalty, moved weights",
        ["biases are penalised as well, by the l2 term: fc2.bias; "],
    ),
    "all parameters": (written(which=every), "penalty", ["biases or batch normalisation are penalised as well, by"]),
    "no layer weights": (written(l0=lambda s, _: ALPHA * s.sum()), "penalty",
                         ["the l0 term lacks the layer weights; multiply each layer's sum by C_l"]),
    "other scheme": (written(l0=lambda s, k: ALPHA * 391 / (3 * SIZE[k]) * s.sum()), "penalty",
                     ["the l0 term has the layer weights 'inverse_size', groups 'joint', not 'sqrt_size', 'joint'"]),
    "other groups": (written(l0=lambda s, k: ALPHA * (1.0 if k[0] == "c" else C[k]) * s.sum()), "penalty",
                     ["the l0 term has the layer weights 'sqrt_size', groups 'kind', not 'sqrt_size', 'joint'"]),
    "no root": (written(l0=lambda s, k: ALPHA * C[k] ** 2 * s.sum()), "penalty",
                ["the l0 term has layer weights n / n_max without the square root"]),
    "biases counted": (
        written(l0=lambda s, k: ALPHA * ((SIZE[k] + {"c": 3, "f": 7 if k[2] == "1" else 4}[k[0]]) / 343) ** 0.5
                * s.sum()),
        "penalty", ["the l0 term counts biases in n_l of the layer weights"],
    ),
    "divided by C": (written(l0=lambda s, k: ALPHA / C[k] * s.sum()), "penalty",
                     ["the l0 term is divided by the layer weights"]),
    "layer weights of one's own": (
        written(l0=lambda s, k: ALPHA * {"c": 0.3, "f": 0.9 if k[2] == "1" else 0.4}[k[0]] * s.sum()), "penalty",
        ["the l0 term has other layer weights than the penalty: relative to those, conv.weight 1.058, fc1.weight 0.9"],
    ),
    "mean": (written(l0=lambda s, k: ALPHA * C[k] * s.mean()), "penalty", ["the l0 term is a mean over each layer"]),
    "mean, no layer weights": (written(l0=lambda s, _: ALPHA * s.mean()), "penalty",
                               ["the l0 term is a mean over each layer, without layer weights"]),
    "mean over all": (written(l0=lambda s, k: ALPHA * C[k] * s.sum() / 391), "penalty",
                      ["the l0 term is divided by the number of all weights"]),
    "per sample": (written(l0=lambda s, k: ALPHA * C[k] * s.sum() / BATCH), "penalty",
                   ["the l0 term is divided by the batch size; it is added once to a mean loss"]),
    "times beta": (written(l0=lambda s, k: BETA * l0_sum(s, k)), "penalty", ["the l0 term is multiplied by beta"]),
    "over beta": (written(l0=lambda s, k: l0_sum(s, k) / BETA), "penalty", ["the l0 term is divided by beta"]),
    "some factor": (written(l0=lambda s, k: 0.37 * l0_sum(s, k)), "penalty",
                    ["the l0 term is 0.37 times the expected one; look for an extra or a missing factor"]),
    "sign of all": (lambda m: -written()(m), "penalty",
                    ["the l0 term has the wrong sign: it pushes", "the l2 term has the wrong sign: it pushes"]),
    "sign of l0": (written(l0=lambda s, k: -l0_sum(s, k)), "penalty", ["the l0 term has the wrong sign: it pushes"]),
    "sign and factor": (written(l0=lambda s, k: -0.37 * l0_sum(s, k)), "penalty",
                        ["the l0 term has the wrong sign and is 0.37 times the expected one"]),
    "exponential alone": (written(phi=lambda w: torch.exp(-BETA * w.abs())), "penalty",
                          [r"the term has the sign of exp\(-beta \|w\|\), which pushes weights away from 0"]),
    "without the 1": (written(phi=lambda w: -torch.exp(-BETA * w.abs())), "penalty",
                      [r"the value lacks the 1 of 1 - exp\(...\) for every weight; its gradient does not"]),
    "no beta": (written(phi=lambda w: 1 - torch.exp(-w.abs())), "penalty",
                [r"beta is missing, where the penalty has beta=5; multiply \|w\| by it"]),
    "double beta": (written(phi=lambda w: 1 - torch.exp(-2 * BETA * w.abs())), "penalty", ["beta is 10, where "]),
    "linearised, detached": (
        written(phi=lambda w: BETA * torch.exp(-BETA * w.detach().abs()) * w.abs()), "penalty",
        [r"it is the linearised form, beta exp\(-beta \|w\|\) \|w\| with the exponential detached: the gradient"],
    ),
    "linearised, differentiated": (
        written(phi=lambda w: BETA * torch.exp(-BETA * w.abs()) * w.abs()), "penalty",
        [r"the linearised form beta exp\(-beta \|w\|\) \|w\| is differentiated as a whole"],
    ),
    "tangent": (written(phi=lambda w: (t := (BETA * w.abs()).clamp(max=1)) * (1 - t / 2)), "penalty",
                ["the slope of the exponential is replaced by its tangent"]),
    "square in the exponent": (written(phi=lambda w: 1 - torch.exp(-BETA * w * w)), "penalty",
                               [r"the exponent contains w\^2 instead of \|w\|"]),
    "no absolute value": (written(phi=lambda w: 1 - torch.exp(-BETA * w)), "penalty",
                          [r"the exponent contains w instead of \|w\|"]),
    "l1": (written(phi=torch.abs), "penalty", [r"\|w\| itself is penalised, an l1 norm, not Laplace of it"]),
    "a layer left out": (written(which=lambda k: k in C and k != "conv.weight"), "penalty",
                         ["the l0 term leaves out conv.weight; pen", "the l2 term leaves out conv.weight; pen"]),
    "no l0": (written(l0=lambda _s, _k: 0.0), "penalty", ["the l0 term is missing, or has no gradient; add it"]),
    "a constant": (lambda m: written()(m) + 1.5, "penalty", ["the value contains 1.5 without a gradient: a constant"]),
    "detached l2": (written(l2=lambda w, _: L2 * w.data.square().sum()), "gradient of the penalty",
                    ["the l2 term is missing, or has no gradient", r"the value contains [\d.]+ without a gradient"]),
    "detached": (lambda m: written()(m).detach(), "gradient of the penalty",
                 [r"the penalty is [\d.]+ and has no gradient with respect to the module it is given; avoid"]),
    "another module": (lambda _: written()(OTHER), "penalty",
                       [r"the penalty is [\d.]+ and has no gradient with respect to the module it is given"]),
    "root at 0": (written(which=weights_and("fc2.bias"), phi=lambda w: 1 - torch.exp(-BETA * (w * w).sqrt())),
                  "gradient of the penalty", ["the gradient of fc2.bias is NaN or infinite where w is exactly 0"]),
    "float32 constant": (written(l0=lambda s, k: torch.tensor(C[k]) * ALPHA * s.sum()), "penalty",
                         ["all terms are right up to rounding: a constant is float32"]),
    "something else": (written(phi=lambda w: w.abs() ** 0.5 + 0 * w), "penalty",
                       ["no known mistake explains the difference; compare the slope of a single weight"]),
    "three at once": (
        written(which=weights_and("fc1.bias"), l0=lambda s, _: ALPHA * s.sum(), l2=lambda w, _: L2 / 2 * (w * w).sum()),
        "penalty",
        ["biases are penalised as well, by the l0 term and l2 term: fc1.bias; ", "the l0 term lacks the layer weights",
         "the l2 term carries a factor 0.5"],
    ),
    "five at once": (
        written(phi=lambda w: torch.exp(-w.abs()), which=weights_and("conv.bias"), l0=lambda s, _: ALPHA * s.mean(),
                l2=lambda w, _: L2 / 2 * w.norm()),
        "penalty",
        ["beta is missing", "biases are penalised as well, by the l0 term and l2 term: conv.bias",
         r"the term has the sign of exp\(-beta", "the l0 term is a mean over each layer, without layer weights",
         "the l2 term is the norm of each layer, not its square; .* and carries a factor 0.5"],
    ),
}  # fmt: skip
OTHER = to_torch(MODEL)


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_named(case):
    penalty_fn, stage, said = MISTAKES[case]
    result = found(penalty_fn)
    assert result.first.stage == stage, str(result)
    assert len(result.findings) == len(said), result.findings
    for finding, pattern in zip(result.findings, said, strict=True):
        assert re.match(pattern, finding), finding
        assert f"\n  finding: {finding}\n" in str(result)


def test_right_penalty_passes():
    result = found(written())
    assert result, str(result)
    assert result.findings == ()


OTHERS = {
    "laplace": (surrogates.Laplace(2.0), lambda w: 1 - torch.exp(-2 * w.abs())),
    "gaussian": (surrogates.Gaussian(0.2), lambda w: 1 - torch.exp(-w * w / 0.08)),
    "geman_mcclure": (surrogates.GemanMcClure(3.0), lambda w: 3 * w.abs() / (1 + 3 * w.abs())),
    "log_sum": (surrogates.LogSum(0.1), lambda w: torch.log1p(w.abs() / 0.1)),
    "arctan": (surrogates.Arctan(3.0), lambda w: 2 / torch.pi * torch.atan(3 * w.abs())),
    "tanh": (surrogates.Tanh(3.0), lambda w: torch.tanh(3 * w.abs())),
    "capped_l1": (surrogates.CappedL1(0.2), lambda w: w.abs().clamp(max=0.2)),
    "l1": (surrogates.L1(), torch.abs),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_surrogates(name):
    surrogate, formula = OTHERS[name]
    penalty = Penalty(surrogate, alpha=ALPHA, l2=L2)
    right = found(written(phi=formula), penalty=penalty)
    assert right, str(right)
    half = found(written(phi=formula, l2=lambda w, _: L2 / 2 * w.square().sum()), penalty=penalty)
    assert len(half.findings) == 1
    assert half.findings[0].startswith("the l2 term carries a factor 0.5")
    falling = found(written(phi=lambda w: 1 - formula(w)), penalty=penalty)
    expected = (
        "the term has the sign of exp" if name == "laplace" else "the term falls with |w|, which pushes weights away"
    )
    assert len(falling.findings) == 1
    assert falling.findings[0].startswith(expected)


def test_squares_as_a_surrogate_cannot_be_told_from_l2():
    penalty = Penalty(surrogates.L2(), alpha=ALPHA, l2=L2)
    assert found(written(phi=torch.square), penalty=penalty)
    (finding,) = found(written(phi=lambda w: w.square() / 2), penalty=penalty).findings
    assert finding.startswith("the l0 and the l2 term are alike in conv.weight, conv.bias, norm.weight and 5 more,")


@pytest.mark.parametrize("strength", [0.25, 0.0])
def test_warm_up_scales_the_l0_term_only(strength):
    assert found(written(l0=lambda s, k: strength * l0_sum(s, k)), strength=strength)
    result = found(written(), strength=strength)
    expected = {
        0.25: "the l0 term lacks the warm-up; multiply it by strength",
        0.0: "there is an l0 term, but the penalty has none; remove it",
    }
    assert result.findings == (expected[strength],)


def test_term_the_penalty_does_not_have():
    assert found(written(), penalty=Penalty(alpha=ALPHA)).findings == (
        "there is an l2 term, but the penalty has none; remove it",
    )


def test_pruned_entries_are_not_to_be_penalised():
    model = prune(MODEL.astype(np.float64), amount=0.5)

    def by_layer(module):
        layers = {k: module.get_submodule(k.removesuffix(".weight")) for k in C}
        return sum(l0_sum(laplace(m.weight), k) + square(m.weight, k) for k, m in layers.items())

    def by_parameters(module):
        keys = {k.replace("weight", "weight_orig"): k for k in C}
        pairs = [(keys[k], p) for k, p in module.named_parameters() if k in keys]
        return sum(l0_sum(laplace(p), k) + square(p, k) for k, p in pairs)

    assert found(by_layer, model=model)
    module = to_torch(model)
    with torch.no_grad():
        module.fc1.weight_orig.add_(1.0)  # what is pruned keeps a value below its mask
    model = model.replace(params={**model.params, "fc1.weight": module.fc1.weight_orig.detach().numpy().copy()})
    result = found(by_parameters, model=model, module=module)
    assert result.first.stage == "penalty"
    assert result.findings == (
        "pruned entries of conv.weight, fc1.weight, fc2.weight are penalised: parameters() gives `weight_orig`; "
        "use the layer's `weight`",
    )


def test_one_entry_says_nothing_of_two_prices():
    model = nn.Model.init((nn.Linear("a", 1, 1), nn.Tanh("t"), nn.Linear("b", 1, 3)), input_shape=(1,), seed=0)
    x, y = np.ones((2, 1)), np.array([0, 2])

    def mine(module):
        return sum(0.5 * L2 * layer.weight.square().sum() for layer in (module.a, module.b))

    result = compare(model, to_torch(model), x, y, penalty=Penalty(l2=L2), penalty_fn=mine)
    assert result.findings[0].startswith("the l2 term carries a factor 0.5")
