"""The penalty of a whole network: which weights are pulled to zero, how hard, and the value added to the loss.

    J(w) = L(w) + sum_l C_l alpha sum_i phi(w_li) + l2 sum_l sum_i w_li^2

    L      data loss, a mean over the batch      phi    surrogate of "is not zero", `l0ref.surrogates`
    l      layers with weights                   alpha  price of one weight, before layer weights
    C_l    layer weight, by a named scheme       l2     weight of the squares, the same in every layer

The sums run over the weights of linear and convolution layers: never biases, never batch
normalisation. They are sums, not means, so alpha is small: if phi <= 1, the l0 term is at most alpha sum_l C_l n_l.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from l0ref.autodiff.op import compiled
from l0ref.errors import ArgumentError
from l0ref.nn.model import Model
from l0ref.surrogates import Laplace, Surrogate
from l0ref.validate import Array, choose, count, nonnegative


def _sqrt_size(n: int, group: Sequence[int]) -> float:
    return math.sqrt(n / max(group)) if n else 0.0


def _inverse_size(n: int, group: Sequence[int]) -> float:
    return sum(group) / (len(group) * n) if n else 0.0


def _none(_n: int, _group: Sequence[int]) -> float:
    return 1.0


LAYER_WEIGHTS: dict[str, Callable[[int, Sequence[int]], float]] = {
    "sqrt_size": _sqrt_size,
    "inverse_size": _inverse_size,
    "none": _none,
}
GROUPS = ("joint", "kind")


def layer_factors(
    sizes: Mapping[str, int],
    kinds: Mapping[str, str] | None = None,
    *,
    layer_weights: str = "sqrt_size",
    groups: str = "joint",
) -> dict[str, float]:
    """Return the layer weights {key: C_l} from the number of weights n_l of each layer.

    sizes          {key: n_l}; a layer without weights gets 0 (1 under "none"), which multiplies nothing
    kinds          {key: "linear" or "conv"}; needed for groups="kind"
    layer_weights  "sqrt_size"     sqrt(n_l / n_max), n_max the largest layer: large layers are pulled harder
                   "inverse_size"  P / (L n_l), P the weights of all L layers: C_l n_l is the same for every layer
                   "none"          1
    groups         "joint": n_max, P and L are taken over all layers; "kind": over the layers of one kind

    >>> layer_factors({"fc1.weight": 400, "fc2.weight": 100})
    {'fc1.weight': 1.0, 'fc2.weight': 0.5}
    """
    rule = LAYER_WEIGHTS[choose("layer_weights", layer_weights, LAYER_WEIGHTS)]
    group_of = dict.fromkeys(sizes, "") if choose("groups", groups, GROUPS) == "joint" else kinds or {}
    members: dict[str, list[int]] = {}
    for key, n in sizes.items():
        if key not in group_of:
            raise ArgumentError(f"kinds={kinds!r} lacks {key!r}; give its kind, or use groups='joint'")
        members.setdefault(group_of[key], []).append(count(f"sizes[{key!r}]", n))
    return {key: rule(n, members[group_of[key]]) for key, n in sizes.items()}


@dataclass(frozen=True)
class PenaltyTerms:
    """Value of a penalty, split by term and weight array: {key: C_l alpha sum phi(w)} and {key: l2 sum w^2}."""

    l0: Mapping[str, float]
    l2: Mapping[str, float]

    @property
    def l0_total(self) -> float:
        """Sum of the l0 terms."""
        return math.fsum(self.l0.values())

    @property
    def l2_total(self) -> float:
        """Sum of the l2 terms."""
        return math.fsum(self.l2.values())

    @property
    def total(self) -> float:
        """The value added to the data loss."""
        return math.fsum((*self.l0.values(), *self.l2.values()))


@dataclass(frozen=True)
class Pull:
    """A penalty as one training step uses it: sum over keys of price sum phi(w) + l2 sum w^2.

    surrogate  phi
    prices     {weight key: strength C_l alpha}; l2 acts on the arrays of these keys too
    l2         weight of the squares

    An optimiser takes a step against the `gradient`, or against the gradient of the `smooth` part followed by
    the `prox` of the rest.
    """

    surrogate: Surrogate
    prices: Mapping[str, float]
    l2: float = 0.0

    def gradient(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """Return {key: price phi'(w) + 2 l2 w}, shaped and typed like the weights; exactly 0 where w = 0."""
        return {key: self._slope(_array(params, key), price) for key, price in self.prices.items()}

    def added_to(self, grads: Mapping[str, Array], params: Mapping[str, Array]) -> dict[str, Array]:
        """Return {key: grads[key] + gradient} for the keys of `prices`, as fresh arrays; for Laplace compiled."""
        phi = self.surrogate
        twin = compiled("laplace_gradient")
        if twin is None or not isinstance(phi, Laplace):
            return {key: grads[key] + g for key, g in self.gradient(params).items()}
        return {
            key: twin(_array(params, key), grads[key], beta=phi.beta, price=price, l2=self.l2)
            for key, price in self.prices.items()
        }

    def smooth(self) -> Pull:
        """Return the part without a kink: the squares alone."""
        return replace(self, prices=dict.fromkeys(self.prices, 0.0))

    def prox(self, params: Mapping[str, Array], steps: Mapping[str, float | Array]) -> dict[str, Array]:
        """Return {key: argmin_x 1/2 (x - w)^2 + step price phi(x)}, entry by entry, without the l2 term.

        params  arrays to move; those without a price are not in the result
        steps   by key, a number or an array shaped like the weights, 0 or greater (0 leaves the entry unchanged)
        """
        phi, twin = self.surrogate, compiled("laplace_prox")
        prox = partial(twin, beta=phi.beta) if twin and isinstance(phi, Laplace) else phi.prox
        return {key: prox(_array(params, key), steps[key] * p) for key, p in self.prices.items()}

    def _slope(self, w: Array, price: float) -> Array:
        g = 2 * self.l2 * w
        return g + price * self.surrogate.grad(w) if price else g


@dataclass(frozen=True)
class Penalty:
    """C_l alpha sum phi(w) + l2 sum w^2 over the weights of a network.

    surrogate      phi, any of `l0ref.surrogates`
    alpha          price of one weight, >= 0; useful values are near 4e-5 for LeNet-300-100 at beta = 5
    l2             weight of the squares, >= 0. No 1/2: the gradient is 2 l2 w. Never scaled by C_l
    layer_weights  scheme of C_l, "sqrt_size", "inverse_size" or "none"; see `layer_factors`. Pruned weights
                   are counted in n_l, so a mask changes no C_l
    groups         "joint": one group of layers; "kind": linear and convolution layers by themselves

    Kink     at w = 0 phi has the slopes -/+ phi'(0+); the gradient there is exactly 0, as in the authors' code [I]
    Ref      Oliveira, Batista, Seara, Neural Networks 171 (2024), doi 10.1016/j.neunet.2023.12.019, and the
             authors' published code of their experiment 5: Laplace, "sqrt_size", l2 not scaled, kernels only.
             "inverse_size": Barth and von Petersenn, arXiv 2505.17469, who attribute it to the paper
    Departs  "sqrt_size": the authors' code groups by kind; our default is joint. For convolutions their n_l is
             prod(kernel.shape[1:]) of a (kh, kw, in, out) kernel, which drops kh; we count all weights, as
             their dense layers do. Which of the two the paper means is unknown [U]
             "inverse_size": their P and n_l count biases, and they scale l2 and penalise biases as well; we
             count and penalise weights only and leave l2 alone

    The two published schemes disagree: one grows with the size of a layer, the other shrinks.
    """

    surrogate: Surrogate = field(default_factory=lambda: Laplace(beta=5.0))
    alpha: float = 0.0
    l2: float = 0.0
    layer_weights: str = "sqrt_size"
    groups: str = "joint"

    def __post_init__(self) -> None:
        if not isinstance(self.surrogate, Surrogate):
            raise ArgumentError(f"surrogate={self.surrogate!r} is not a surrogate; pass one, such as Laplace(beta=5.0)")
        for name in ("alpha", "l2"):  # a NumPy number would turn float32 into float64
            object.__setattr__(self, name, nonnegative(name, getattr(self, name)))
        choose("layer_weights", self.layer_weights, LAYER_WEIGHTS)
        choose("groups", self.groups, GROUPS)

    def factors(self, model: Model) -> dict[str, float]:
        """Return the layer weights {weight key: C_l} of a model, in the order of its layers."""
        return layer_factors(model.sizes, model.kinds, layer_weights=self.layer_weights, groups=self.groups)

    def terms(self, params: Mapping[str, Array], factors: Mapping[str, float]) -> PenaltyTerms:
        """Return the value of both terms per weight array, summed in float64 whatever the type of the weights.

        params   arrays by key; only those named by `factors` are penalised
        factors  {weight key: C_l}
        """
        l0, l2 = {}, {}
        for key, factor in factors.items():
            w = _array(params, key)
            price = float(factor) * self.alpha
            l0[key] = price * float(self.surrogate.value(w).sum(dtype=np.float64)) if price else 0.0
            l2[key] = self.l2 * float(np.square(w, dtype=np.float64).sum()) if self.l2 else 0.0
        return PenaltyTerms(l0, l2)

    def pull(self, factors: Mapping[str, float], *, strength: float = 1.0) -> Pull:
        """Return the penalty in the form an optimiser step needs; `strength` scales the l0 term only (warm-up)."""
        scale = nonnegative("strength", strength) * self.alpha
        return Pull(self.surrogate, {key: scale * float(factor) for key, factor in factors.items()}, self.l2)

    def gradient(
        self, params: Mapping[str, Array], factors: Mapping[str, float], *, strength: float = 1.0
    ) -> dict[str, Array]:
        """Return {key: strength C_l alpha phi'(w) + 2 l2 w}, shaped and typed like the weights."""
        return self.pull(factors, strength=strength).gradient(params)

    def value(self, model: Model) -> float:
        """Return the whole penalty of a model, the value added to the data loss."""
        return self.terms(model.params, self.factors(model)).total


def _array(params: Mapping[str, Array], key: str) -> Array:
    if key not in params:
        raise ArgumentError(f"params lacks {key!r}, which has a layer weight; take the layer weights from this model")
    return params[key]
