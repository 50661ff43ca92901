"""Functions that are penalised by mistake in place of a surrogate, and their coefficients (prices) in a gradient.

The gradient of a penalty on one array is a phi'(w) + 2 b w. Given phi', the prices a and b follow from least
squares, and the residual shows whether phi was the right function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from l0ref.surrogates import L1, Laplace, LinearizedLaplace, Surrogate
from l0ref.validate import Array

FITS = 1e-6  # residual relative to the largest entry: float32 constants stay below it, other functions far exceed it
NOTHING = 1e-9  # share of the largest gradient below which a term is absent


@dataclass(frozen=True)
class Evidence:
    """A penalty function of PyTorch at one point.

    factors, kinds    layer weights C_l and kinds of our weight arrays
    strength, batch   factor of the l0 term, number of samples
    ours              all parameters, with pruned entries 0
    whole, keep       the underlying tensors, pruned entries included, and their masks (None: not pruned)
    value, gradients  of the function; None where it does not depend on an array
    """

    factors: Mapping[str, float]
    kinds: Mapping[str, str]
    strength: float
    batch: int
    ours: Mapping[str, Array]
    whole: Mapping[str, Array]
    keep: Mapping[str, Array | None]
    value: float
    gradients: Mapping[str, Array | None]

    def kept(self, key: str, a: Array) -> Array:
        """The entries of `a` that are not pruned, flat."""
        keep = self.keep[key]
        return a.ravel() if keep is None else a[keep]

    def gradient(self, key: str) -> Array:
        """The gradient of one array; zeros where there is none."""
        g = self.gradients[key]
        return np.zeros_like(self.ours[key]) if g is None else g


@dataclass(frozen=True)
class Form:
    """A function phi of a weight: the sentence that reports it ("" for the right one), its values and its slopes."""

    text: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


@dataclass(frozen=True)
class Fit:
    """Prices of every array: {key: a} and {key: b} of a phi(w) + b w^2, for arrays that determine both."""

    form: Form
    l0: Mapping[str, float]
    l2: Mapping[str, float]


def forms(surrogate: Surrogate) -> list[Form]:
    """Return the right function first, then those used in its place by mistake."""
    found = [Form("", surrogate.value, surrogate.grad)]
    beta = getattr(surrogate, "beta", None)
    if isinstance(beta, float | int):
        for other in (1.0, beta**2, 2 * beta, beta / 2):
            wrong = replace(surrogate, beta=other)  # type: ignore[call-arg]
            how = "beta is missing" if other == 1.0 else f"beta is {other:g}"
            found.append(
                Form(f"{how}, where the penalty has beta={beta:g}; multiply |w| by it", wrong.value, wrong.grad)
            )
    if isinstance(surrogate, Laplace):
        found += _laplace_mistakes(surrogate.beta)
    plain = L1()
    text = f"|w| itself is penalised, an l1 norm, not {type(surrogate).__name__} of it; apply the surrogate"
    return [*found, Form(text, plain.value, plain.grad)]


def _laplace_mistakes(beta: float) -> list[Form]:
    tangent = LinearizedLaplace(beta)
    return [
        Form(
            "the linearised form beta exp(-beta |w|) |w| is differentiated as a whole, which pushes weights beyond "
            "1/beta outwards; detach the exponential, or penalise 1 - exp(-beta |w|)",
            lambda w: beta * np.exp(-beta * np.abs(w)) * np.abs(w),
            lambda w: beta * np.exp(-beta * np.abs(w)) * (1 - beta * np.abs(w)) * np.sign(w),
        ),
        Form(
            "the slope of the exponential is replaced by its tangent, max(0, 1 - beta |w|), as in l0-LMS; penalise "
            "1 - exp(-beta |w|)",
            tangent.value,
            tangent.grad,
        ),
        Form(
            "the exponent contains w^2 instead of |w|; write exp(-beta |w|)",
            lambda w: -np.expm1(-beta * w * w),
            lambda w: 2 * beta * w * np.exp(-beta * w * w),
        ),
        Form(
            "the exponent contains w instead of |w|; write exp(-beta |w|)",
            lambda w: -np.expm1(np.minimum(-beta * w, 700.0)),
            lambda w: beta * np.exp(np.minimum(-beta * w, 700.0)),
        ),
    ]


def fit(form: Form, arrays: Mapping[str, Array], gradients: Mapping[str, Array]) -> Fit | None:
    """Return the prices with which `form` explains all gradients; None if it cannot.

    arrays, gradients  {key: entries, flat}. An array with fewer than two different entries does not determine a and b
    """
    top = max((float(np.abs(g).max(initial=0.0)) for g in gradients.values()), default=0.0)
    l0, l2 = {}, {}
    for key, w in arrays.items():
        slopes = np.stack([form.slope(w), 2 * w], axis=1)
        scale = np.abs(slopes).max(axis=0, initial=0.0)
        scale[scale == 0] = 1.0
        price, _, rank, _ = np.linalg.lstsq(slopes / scale, gradients[key], rcond=1e-9)
        left = np.abs(slopes / scale @ price - gradients[key]).max(initial=0.0)
        if left > FITS * max(float(np.abs(gradients[key]).max(initial=0.0)), NOTHING * top):
            return None
        if rank == 2:
            small = np.abs(price) <= NOTHING * top
            l0[key], l2[key] = (0.0 if s else float(p) for s, p in zip(small, price / scale, strict=True))
    return Fit(form, l0, l2)
