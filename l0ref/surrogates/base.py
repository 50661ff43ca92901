"""Surrogates of the l0 norm: functions phi(|w|) that stand in for "w is not zero".

u, a      |w| and |z|, never negative
phi(u)    rises from phi(0) = 0; differentiable for u > 0, except CappedL1 at theta; kink at w = 0 if phi'(0+) > 0
prox      x = argmin_x 1/2 (x - z)^2 + step phi(|x|)
dead zone the largest |z| with prox(z, step) = 0; a prox is 0 exactly where

              a <= inf_{x > 0} x / 2 + step phi(x) / x                                            (zone)

          because x is better than 0 if and only if 1/2 (x - a)^2 + step phi(x) < 1/2 a^2.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.validate import Array, as_array, between, choose, float_array, nonnegative, positive

SURROGATES: dict[str, type[Surrogate]] = {}

SMALLEST, LARGEST = 1e-15, 1e15  # parameters; their squares are well inside float32
LARGEST_STEP = 1e200  # of a prox: step LARGEST^2 is well inside float64
PART = 1 << 14  # entries worked on at a time: 128 KiB in float64


@dataclass(frozen=True)
class Surrogate:
    """A surrogate as a record of its parameters; subclassing registers it under its class name.

    value(w)          phi(|w|), entry by entry
    grad(w)           d phi(|w|) / d w, entry by entry; exactly 0 at w = 0, whatever the one-sided slopes are
    prox(z, step)     argmin_x 1/2 (x - z)^2 + step phi(|x|), entry by entry: always a global minimiser.
                      If two tie, the one of smaller magnitude. step, in [0, 1e200], is a number, or an array
                      that broadcasts to z; with step 0 the result is z
    slope_at_zero     phi'(0+): inf for L0 and Lp, 0 where phi is smooth at 0
    dead_zone(step)   the largest |z| that the prox sends to 0
    name              the class name in snake case, for `by_name`
    limit, reference  limits of phi in its parameters, and its source: "Limit" and "Ref" of the docstring of the class

    Arrays are float32 or float64, of any shape; the result is fresh and has the shape and type of the
    argument. value and grad compute in that type, powers and the prox in float64, rounded once at the end.
    NaN gives NaN, without a warning. An infinite entry has the limits of phi and phi', and is its own prox.
    A value beyond the largest float is inf. Every zero of a prox is +0.0.

    A new surrogate is a frozen dataclass whose fields are positive parameters, with `slope_at_zero` and four
    functions of non-negative numbers; the base handles signs, types, shapes, NaN and checks:

        phi(u), slope(u)   phi and phi' on flat arrays of either type; slope(0) may be any number
        shrink(a, t)       the minimiser for z = a > 0 and step t > 0, on flat float64 arrays
        threshold(t)       the dead zone for step t > 0
    """

    name: ClassVar[str]
    limit: ClassVar[str]
    reference: ClassVar[str]

    def __init_subclass__(cls) -> None:
        key = cls.__name__
        if key in SURROGATES:
            taken = SURROGATES[key].__module__
            raise TypeError(f"surrogate {key!r} is already registered by {taken}; choose another class name")
        cls.name = re.sub(r"(?<=[a-z0-9])(?<!Mc)(?=[A-Z])", "_", key).lower()
        text = inspect.cleandoc(cls.__doc__ or "")
        said = {word: re.search(rf"^{word} +(.*(?:\n .*)*)", text, re.M) for word in ("Limit", "Ref")}
        cls.limit, cls.reference = (" ".join(found[1].split()) if found else "" for found in said.values())
        SURROGATES[key] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            number = between(field.name, positive(field.name, getattr(self, field.name)), SMALLEST, LARGEST)
            object.__setattr__(self, field.name, number)  # a NumPy number would turn float32 into float64

    @property
    def slope_at_zero(self) -> float:
        """phi'(0+), the slope to the right of 0."""
        raise NotImplementedError(f"{type(self).__name__} must define slope_at_zero")

    def phi(self, u: Array) -> Array:
        """The surrogate at u >= 0."""
        raise NotImplementedError(f"{type(self).__name__} must define phi")

    def slope(self, u: Array) -> Array:
        """Its slope at u > 0."""
        raise NotImplementedError(f"{type(self).__name__} must define slope")

    def shrink(self, a: Array, t: Array) -> Array:
        """argmin over x >= 0 of 1/2 (x - a)^2 + t phi(x), for a > 0 and t > 0."""
        raise NotImplementedError(f"{type(self).__name__} must define shrink")

    def threshold(self, t: float) -> float:
        """inf over x > 0 of x / 2 + t phi(x) / x, for t > 0."""
        raise NotImplementedError(f"{type(self).__name__} must define threshold")

    def value(self, w: Array) -> Array:
        """Return phi(|w|), shaped and typed like w."""
        return _by_parts(self._value, float_array("w", w))

    def grad(self, w: Array) -> Array:
        """Return d phi(|w|) / d w, shaped and typed like w; exactly 0 where w = 0."""
        return _by_parts(self._grad, float_array("w", w))

    def prox(self, z: Array, step: float | Array) -> Array:
        """Return argmin_x 1/2 (x - z)^2 + step phi(|x|), shaped and typed like z."""
        z = float_array("z", z)
        return _by_parts(self._prox, z, checked_steps(step, z.shape))

    def dead_zone(self, step: float) -> float:
        """Return the largest |z| that prox(z, step) sends to 0; 0 if that is z = 0 alone."""
        t = between("step", nonnegative("step", step), 0.0, LARGEST_STEP)
        return float(self.threshold(t)) if t else 0.0

    def _value(self, w: Array) -> Array:
        u = np.abs(w)
        return _with_nan_of(u, self.phi(u))

    def _grad(self, w: Array) -> Array:
        u = np.abs(w)
        g = np.copysign(self.slope(u), w)
        g[u == 0] = 0
        return _with_nan_of(u, g)

    def _prox(self, z: Array, t: Array) -> Array:
        x = np.abs(z, dtype=np.float64)
        moves = (x > 0) & (x < np.inf) & (t > 0)
        x[moves] = self.shrink(x[moves], t[moves].astype(np.float64))
        return np.where(z < 0, -x, x) + 0.0  # + 0.0 turns -0.0 into 0.0


def by_name(name: str, **parameters: float) -> Surrogate:
    """Return the surrogate called `name`, its class name in snake case, with its parameters.

    >>> by_name("laplace", beta=5.0)
    Laplace(beta=5.0)
    >>> by_name("geman_mcclure", beta=2.0)
    GemanMcClure(beta=2.0)
    """
    classes = {cls.name: cls for cls in SURROGATES.values()}
    cls = classes[choose("name", name, classes)]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key, value in parameters.items():
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise ArgumentError(f"{key}={value!r} is not a parameter of surrogate {name!r}, which has: {known}")
    missing = [key for key, f in fields.items() if f.default is dataclasses.MISSING and key not in parameters]
    if missing:
        raise ArgumentError(f"name={name!r} is a surrogate that needs {' and '.join(missing)}; give {missing[0]}=...")
    return cls(**parameters)


def _by_parts(rule: Callable[..., Array], *arrays: Array) -> Array:
    """Apply an elementwise rule to flat pieces that fit the cache; the result is shaped and typed like the first."""
    shape = arrays[0].shape
    flat = [array.reshape(-1) for array in arrays]
    out = np.empty_like(flat[0])
    with np.errstate(over="ignore"):  # a product may become inf, where phi has reached its limit
        for start in range(0, out.size, PART):
            part = slice(start, start + PART)
            out[part] = rule(*(array[part] for array in flat))
    return out.reshape(shape)


def _with_nan_of(u: Array, y: Array) -> Array:
    nan = np.isnan(u)
    if nan.any():
        y[nan] = np.nan
    return y


def checked_steps(step: Any, shape: tuple[int, ...]) -> Array:
    """Check the steps of a prox and return one per entry."""
    t = as_array("step", step)
    if t.dtype.kind not in "fiu":
        raise DTypeError(
            f"step has dtype {t.dtype}, expected numbers; pass one, or an array with one for each entry of z"
        )
    if t.size and not (t.min() >= 0 and float(t.max()) <= LARGEST_STEP):
        bad = t[~((t >= 0) & (t.astype(np.float64) <= LARGEST_STEP))]
        raise ArgumentError(f"step={float(bad[0])!r} must be finite and 0 or greater, at most {LARGEST_STEP:g}")
    try:
        return np.broadcast_to(t, shape)
    except ValueError:
        raise ShapeError(
            f"step has shape {t.shape}, which does not broadcast to z of shape {shape}; "
            "pass a number or one for each entry of z"
        ) from None
